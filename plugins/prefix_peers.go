package plugins

import (
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/internal/hearsay"
	"github.com/inferpick/inferpick/internal/prefixindex"
	"github.com/inferpick/inferpick/types"
)

// prefixPeers is what a PrefixCache tells other gateways, and hears of them: see sharing.PrefixPart. Until it is
// asked, or told, something it costs one load of a pointer.
//
// What peers say is kept by anchors, which are a few hashes of a prompt. When a request comes whose prompt has one
// of them, the index is told: only then are the hashes between known.
type prefixPeers struct {
	out atomic.Pointer[placedOut]
	in  atomic.Pointer[placedIn]
}

// Bounds of what is kept for peers, and of them.
const (
	mostPlaced  = 1 << 15          // anchors that are to be told
	heardWords  = 1 << 20          // anchors that were heard
	heardTTL    = 10 * time.Minute // caches of engines that are asked for anything have changed by then
	mostSettled = 64               // endpoints taken over for one anchor of a prompt
)

// placedOut is what is to be told.
type placedOut struct {
	mu      sync.Mutex
	next    placements // guarded by mu
	dropped uint64     // guarded by mu: anchors for which there was no room

	told placements // by the last call, for SharePlacements alone
}

// placements are prompts, with the anchors of all of them one after the other.
type placements struct {
	anchors []uint64
	prompts []placed
}

func (p *placements) tell(tell func(types.Placement)) {
	anchors := p.anchors
	for _, at := range p.prompts {
		tell(types.Placement{Endpoint: at.server.id, Anchors: anchors[:at.n]})
		anchors = anchors[at.n:]
	}
}

// placed is a prompt that went to a server: the next n of the anchors.
type placed struct {
	server *cachedServer
	n      int
}

// note notes that a prompt is at a server, of which that held the first blocks before.
func (o *placedOut) note(s *cachedServer, hashes []uint64, before int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	at := &o.next
	from := len(at.anchors)
	for _, d := range prefixindex.Anchors(len(hashes))[len(prefixindex.Anchors(before)):] {
		if len(at.anchors) >= mostPlaced {
			o.dropped++
			break
		}
		at.anchors = append(at.anchors, hashes[d-1])
	}
	if n := len(at.anchors) - from; n > 0 {
		at.prompts = append(at.prompts, placed{s, n})
	}
}

// tells reports whether this gateway and its peers tell each other where prompts are.
func (p *PrefixCache) tells() bool { return p.peers.in.Load() != nil && p.peers.out.Load() != nil }

// SharePlacements implements sharing.PrefixPart. All is told twice, by this call and the next: what goes with it is
// lost now and then.
func (p *PrefixCache) SharePlacements(tell func(types.Placement)) {
	o := p.peers.out.Load()
	if o == nil {
		p.peers.out.Store(new(placedOut))
		return
	}
	o.told.tell(tell)
	o.mu.Lock()
	o.told, o.next = o.next, placements{}
	o.mu.Unlock()
	o.told.tell(tell)
}

// placedIn is what was heard.
type placedIn struct {
	table *hearsay.Table
	start time.Time

	mu      sync.RWMutex
	numbers map[string]uint32        // guarded by mu: of endpoints by ID
	servers map[uint32]*cachedServer // guarded by mu: those that decisions have met
	last    uint32                   // guarded by mu
}

func (in *placedIn) since(now time.Time) time.Duration { return now.Sub(in.start) }

// HearPlacement implements sharing.PrefixPart.
func (p *PrefixCache) HearPlacement(at types.Placement, now time.Time) {
	in := p.hears(now)
	number := in.number(at.Endpoint)
	for _, a := range at.Anchors {
		in.table.Put(a, number, in.since(now))
	}
}

// hears returns what was heard, making it at the first call.
func (p *PrefixCache) hears(now time.Time) *placedIn {
	if in := p.peers.in.Load(); in != nil {
		return in
	}
	p.servers.mu.Lock()
	defer p.servers.mu.Unlock()
	if in := p.peers.in.Load(); in != nil {
		return in
	}
	in := &placedIn{table: hearsay.New(heardWords, heardTTL), start: now, numbers: map[string]uint32{}, servers: map[uint32]*cachedServer{}}
	for _, s := range p.servers.all() {
		if s != nil {
			in.met(s)
		}
	}
	p.peers.in.Store(in)
	return in
}

func (in *placedIn) number(endpoint string) uint32 {
	in.mu.RLock()
	n, known := in.numbers[endpoint]
	in.mu.RUnlock()
	if known {
		return n
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.numberLocked(endpoint)
}

func (in *placedIn) numberLocked(endpoint string) uint32 {
	n, known := in.numbers[endpoint]
	if !known {
		in.last++
		n = in.last
		in.numbers[endpoint] = n
	}
	return n
}

// met is told of an endpoint that a decision has met.
func (in *placedIn) met(s *cachedServer) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.servers[in.numberLocked(s.id)] = s
}

// forgets is told of an endpoint that has gone, or is empty: what was heard of it counts no more.
func (in *placedIn) forgets(s *cachedServer) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if n := in.numbers[s.id]; in.servers[n] == s {
		delete(in.servers, n)
		delete(in.numbers, s.id)
	}
}

// settle takes over into the index what was heard of a prompt: of the deepest of its anchors that anybody spoke of.
// Who has an anchor has those before it, so that is found by bisection; where some were lost on their way, or
// forgotten, it may be missed.
func (p *PrefixCache) settle(hashes []uint64, now time.Time) {
	in := p.peers.in.Load()
	if in == nil {
		return
	}
	anchors := prefixindex.Anchors(len(hashes))
	fresh := false
	n := sort.Search(len(anchors), func(i int) bool {
		known, new := in.table.Look(hashes[anchors[i]-1])
		if known {
			fresh = new // of the deepest so far
		}
		return !known
	})
	if fresh {
		p.settleAt(in, hashes[:anchors[n-1]], in.since(now))
	}
}

// settleAt takes over who has all of hashes.
func (p *PrefixCache) settleAt(in *placedIn, hashes []uint64, now time.Duration) {
	var room [mostSettled]uint32
	last := hashes[len(hashes)-1]
	for _, n := range in.table.Take(last, room[:0], now) {
		in.mu.RLock()
		s := in.servers[n]
		in.mu.RUnlock()
		if s == nil { // no decision has met it yet
			in.table.Put(last, n, now)
			continue
		}
		if p.index.MatchOne(s.handle, hashes) < len(hashes) {
			p.index.Record(s.handle, hashes)
		}
	}
}
