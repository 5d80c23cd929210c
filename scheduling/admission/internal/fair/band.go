package fair

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/inferpick/inferpick/internal/list"
)

// Band is the requests of one priority: its tenants, and for each lane a queue.
type Band struct {
	Of       any // what it stands for
	Priority int
	Class    int // index in Config.Classes
	Queued   int
	Bytes    int64
	Running  int // let in and not ended

	flows   map[string]*flow
	idle    list.List[flow] // flows with nothing under way, the longest idle first
	byLen   []list.List[flow]
	longest int // the largest index of byLen that is not empty
	queues  []*queue

	programs int // that tenants have named, and that are remembered

	virtual float64 // what a tenant that comes back starts from
	owed    float64 // weighted tokens that the floor owes the band

	elsewhere bandElsewhere
}

// Tenants returns how many tenants are known.
func (b *Band) Tenants() int { return len(b.flows) }

// Counters returns what each tenant was served, as the order goes by it.
func (b *Band) Counters() map[string]float64 {
	counters := make(map[string]float64, len(b.flows))
	for name, f := range b.flows {
		counters[name] = f.counter
	}
	return counters
}

// Oldest returns when the item that waits the longest came; ok is false if none waits.
func (b *Band) Oldest() (arrived time.Duration, ok bool) {
	for _, q := range b.queues {
		for _, e := range q.heap {
			if at := e.Of.Head.Of.Arrived; !ok || at < arrived {
				arrived, ok = at, true
			}
		}
	}
	return arrived, ok
}

// flowOf returns the tenant's flow, and makes it if it is new. At most so many are
// kept; those of more share that of requests without a tenant.
func (b *Band) flowOf(tenant string, c *Config, now time.Duration) *flow {
	if _, ok := c.Weights[tenant]; !ok && len(c.Weights) > 0 || c.OneFlow {
		tenant = ""
	}
	f := b.flows[tenant]
	if f == nil {
		b.forget(now, c, false)
		if len(b.flows) >= c.MaxFlows && tenant != "" && !b.forget(now, c, true) {
			return b.flowOf("", c, now)
		}
		f = &flow{band: b, name: strings.Clone(tenant), counter: b.virtual - c.Credit}
		b.flows[f.name] = f
	}
	f.weight = c.weightOf(f.name)
	return f
}

// forget drops the flow that has been idle the longest if nothing is lost by that: it
// would start anew where it is, or its time is over, or must is set. It reports whether
// it did. Called for each new flow, it keeps up with them.
func (b *Band) forget(now time.Duration, c *Config, must bool) bool {
	forgot := false
	for range 2 {
		if b.idle.Head == nil {
			break
		}
		f := b.idle.Head.Of
		if !must && f.counter > b.virtual-c.Credit && now-f.idleSince < c.FlowIdle {
			break
		}
		b.wake(f)
		for _, s := range f.shares {
			s.queue.shares--
		}
		delete(b.flows, f.name)
		b.programs -= max(len(f.programs.of)-1, 0)
		forgot, must = true, false
	}
	return forgot
}

// wake takes a flow out of the idle ones.
func (b *Band) wake(f *flow) {
	if f.resting {
		b.idle.Remove(&f.links)
		f.resting = false
	}
}

// rest puts a flow with nothing under way among the idle ones.
func (b *Band) rest(f *flow, now time.Duration) {
	if f.queued == 0 && f.running == 0 && !f.resting {
		f.resting, f.idleSince = true, now
		b.idle.Push(f, &f.links)
	}
}

// lift takes from a tenant that comes back what it would have had while it was away,
// but for the credit: VTC's rule. It reports whether the tenant is behind those that wait
// or were let in last.
func (b *Band) lift(f *flow, credit float64) (behind bool) {
	if f.queued > 0 {
		return false
	}
	base := b.virtual
	if b.Queued > 0 {
		base = math.Inf(1)
		for _, q := range b.queues {
			if len(q.heap) > 0 {
				base = min(base, q.heap[0].Of.flow.at())
			}
		}
	}
	f.counter = max(f.counter, base-credit-f.beside)
	return f.at() < base
}

// queueFor returns the band's queue of a lane.
func (b *Band) queueFor(l *Lane, quantum float64) *queue {
	for _, q := range l.queues {
		if q.band == b {
			return q
		}
	}
	q := &queue{lane: l, band: b, quantum: quantum}
	i := 0
	for i < len(l.queues) && l.queues[i].band.Priority > b.Priority {
		i++
	}
	l.queues = slices.Insert(l.queues, i, q)
	b.queues = append(b.queues, q)
	return q
}

// drop takes out a queue in which nothing waits.
func (b *Band) drop(q *queue) {
	b.queues = slices.DeleteFunc(b.queues, func(other *queue) bool { return other == q })
	if q.shares == 0 {
		return
	}
	for _, f := range b.flows {
		f.shares = slices.DeleteFunc(f.shares, func(s *share) bool { return s.queue == q })
		if f.first.queue == q {
			f.first = share{}
		}
	}
}

// add puts a request into its tenant's queue.
func (b *Band) add(it *Item, c *Config) {
	s := it.share
	s.add(it, c)
	s.queue.queued++
	s.queue.lane.Queued++
	b.Queued++
	b.Bytes += it.Bytes
	b.lengthen(s.flow, 1)
	if s.index < 0 {
		s.queue.heap.Push(s.turn(s.queue.quantum))
	} else {
		s.queue.fix(s)
	}
}

// remove takes a request out of its tenant's queue. The tenant's place among the others is
// not put right: fix does.
func (b *Band) remove(it *Item, c *Config) {
	s := it.share
	s.remove(it, c)
	s.queue.queued--
	s.queue.lane.Queued--
	b.Queued--
	b.Bytes -= it.Bytes
	b.lengthen(s.flow, -1)
	if s.n == 0 {
		s.queue.heap.Remove(s.index)
	}
}

// lengthen keeps byLen: lengths change by one, so that the longest queue of a tenant is
// found without a search.
func (b *Band) lengthen(f *flow, by int) {
	if f.queued > 0 {
		b.byLen[f.queued].Remove(&f.links)
	} else {
		b.wake(f)
	}
	f.queued += by
	if f.queued > 0 {
		for len(b.byLen) <= f.queued {
			b.byLen = append(b.byLen, list.List[flow]{})
		}
		b.byLen[f.queued].Push(f, &f.links)
		b.longest = max(b.longest, f.queued)
	}
	if b.longest > 0 && b.byLen[b.longest].Head == nil {
		b.longest--
	}
}

// hog returns the request that came last of the tenant that has the most in the band's
// queues, or of its program that has; nil if nothing waits.
func (b *Band) hog() *Item {
	if b.longest == 0 {
		return nil
	}
	most := b.byLen[b.longest].Head.Of
	newest, _ := most.hog()
	if newest != nil {
		return newest
	}
	for _, s := range most.shares {
		if s.Tail != nil && (newest == nil || s.Tail.Of.Seq > newest.Seq) {
			newest = s.Tail.Of
		}
	}
	return newest
}
