package plugins

import (
	"sort"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/internal/hearsay"
	"github.com/inferpick/inferpick/internal/prefixindex"
)

// past is what a PrefixCache before this one knew: the anchors of what endpoints hold. As what peers say it becomes
// known when a prompt comes that has one of them; but it is complete, so that all are found who hold any of the prompt.
// It is forgotten when it is as old as what peers say may get.
type past struct {
	kept []keptServer   // endpoints by number
	byID map[string]int // numbers
	book *hearsay.Book
	made time.Time // when it was known

	until   time.Time                      // so long decisions may meet endpoints for the first time
	servers []atomic.Pointer[cachedServer] // by number; nil: not met
	met     atomic.Uint32                  // how many times one was
}

// metWithin is for how long after a restart endpoints may be met for the first time that were known before it.
const metWithin = time.Minute

// goneServer stands for one that has gone: if its ID comes back that may be another, which is empty.
var goneServer = new(cachedServer)

func newPast(kept []keptServer, age time.Duration, now time.Time) *past {
	o := &past{
		kept: kept, byID: make(map[string]int, len(kept)), made: now.Add(-age),
		until: now.Add(metWithin), servers: make([]atomic.Pointer[cachedServer], len(kept)),
	}
	held := make([][]uint64, len(kept))
	for i, k := range kept {
		o.byID[k.id], held[i] = i, k.anchors
	}
	o.book = hearsay.NewBook(held)
	return o
}

// meets is told of an endpoint that a decision has met.
func (o *past) meets(x *prefixindex.Index, s *cachedServer) {
	i, known := o.byID[s.id]
	if !known || !o.servers[i].CompareAndSwap(nil, s) {
		return
	}
	if k := &o.kept[i]; k.set > 0 {
		x.Relearn(s.handle, k.set, k.learned)
	}
	o.met.Add(1)
}

// forgets is told of an endpoint that has gone.
func (o *past) forgets(s *cachedServer) {
	if i, known := o.byID[s.id]; known {
		o.servers[i].Store(goneServer)
	}
}

// round is the round of the book in which all of it that was taken before endpoints were met is taken again.
func (o *past) round(now time.Time) uint32 {
	if now.After(o.until) {
		return 1
	}
	return 1 + o.met.Load()
}

// settle takes over into the index who held any of a prompt: the most of it first, which says all before it. What was
// taken at one anchor was taken at all before it.
func (o *past) settle(x *prefixindex.Index, hashes []uint64, round uint32) {
	anchors := prefixindex.Anchors(len(hashes))
	n := sort.Search(len(anchors), func(i int) bool {
		known, _ := o.book.Look(hashes[anchors[i]-1], round)
		return !known
	})
	for n > 0 {
		n--
		some := hashes[:anchors[n]]
		who := o.book.Take(some[len(some)-1], round)
		if who == nil {
			return
		}
		for _, i := range who {
			if s := o.servers[i].Load(); s != nil && s != goneServer && x.MatchOne(s.handle, some) < len(some) {
				x.Record(s.handle, some)
			}
		}
	}
}

// unasked returns the anchors of an endpoint that no prompt has asked for since it was met.
func (o *past) unasked(number int) (anchors []uint64) {
	s := o.servers[number].Load()
	if s == goneServer {
		return nil
	}
	if s == nil {
		return o.kept[number].anchors
	}
	for _, a := range o.kept[number].anchors {
		if _, fresh := o.book.Look(a, 1); fresh {
			anchors = append(anchors, a)
		}
	}
	return anchors
}

// remember takes over what was known of a prompt, and returns in which round.
func (p *PrefixCache) remember(hashes []uint64, now time.Time) (round uint32) {
	o := p.past.Load()
	if o == nil {
		return 0
	}
	if now.Sub(o.made) > heardTTL {
		p.past.CompareAndSwap(o, nil)
		return 0
	}
	round = o.round(now)
	o.settle(p.index, hashes, round)
	return round
}

// remembersMore takes over what was known of a request's prompt if endpoints were met since that was done, and reports
// whether they were.
func (p *PrefixCache) remembersMore(pr *prefix, now time.Time) bool {
	o := p.past.Load()
	if o == nil || o.round(now) == pr.round {
		return false
	}
	before := pr.round
	pr.round = p.remember(pr.hashes, now)
	return pr.round > before
}

// restore makes what was kept the past.
func (p *PrefixCache) restore(kept []keptServer, age time.Duration, now time.Time) {
	o := newPast(kept, age, now)
	p.servers.mu.Lock()
	defer p.servers.mu.Unlock()
	for _, s := range p.servers.all() {
		if s != nil {
			o.meets(p.index, s)
		}
	}
	p.past.Store(o)
}

// awaits reports whether endpoints are to be entered when a decision meets them.
func (o *past) awaits(now time.Time) bool { return o != nil && !now.After(o.until) }
