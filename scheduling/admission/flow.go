package admission

import (
	"math"
	"strings"
	"time"
)

// flow is a tenant at one priority.
type flow struct {
	band   *band
	name   string
	weight float64

	counter  float64 // weighted tokens that it was served, by VTC
	output   float64 // mean tokens of its outputs; 0: not known
	queued   int
	inFlight int
	served   float64 // weighted tokens, of requests that have ended and of those under way

	shares []*share // one for each queue that it has waited in
	first  share    // memory of the first of them
	room   [1]*share

	// In byLen while something waits, in idle while nothing is under way.
	links     node[flow]
	resting   bool // in idle
	idleSince time.Duration
}

// flowOf returns the tenant's flow, and makes it if it is new. At most so many are
// kept; those of more share that of requests without a tenant.
func (b *band) flowOf(tenant string, o *Options, now time.Duration) *flow {
	if _, ok := o.Tenants[tenant]; !ok && len(o.Tenants) > 0 || o.Fairness == FirstCome {
		tenant = ""
	}
	f := b.flows[tenant]
	if f == nil {
		b.forget(now, o, false)
		if len(b.flows) >= o.MaxFlows && tenant != "" && !b.forget(now, o, true) {
			return b.flowOf("", o, now)
		}
		f = &flow{band: b, name: strings.Clone(tenant), counter: b.virtual - o.Credit}
		b.flows[f.name] = f
	}
	f.weight = o.weightOf(f.name)
	return f
}

// weightOf returns the weight of a tenant by the name of its flow.
func (o *Options) weightOf(name string) float64 {
	if t, ok := o.Tenants[name]; ok && o.Fairness != FirstCome {
		return t.Weight
	}
	return 1
}

// wake takes a flow out of the idle ones.
func (b *band) wake(f *flow) {
	if f.resting {
		b.idle.remove(&f.links)
		f.resting = false
	}
}

// rest puts a flow with nothing under way among the idle ones.
func (b *band) rest(f *flow, now time.Duration) {
	if f.queued == 0 && f.inFlight == 0 && !f.resting {
		f.resting, f.idleSince = true, now
		b.idle.push(f, &f.links)
	}
}

// forget drops the flow that has been idle the longest if nothing is lost by that: it
// would start anew where it is, or its time is over, or must is set. It reports whether
// it did. Called for each new flow, it keeps up with them.
func (b *band) forget(now time.Duration, o *Options, must bool) bool {
	forgot := false
	for range 2 {
		if b.idle.head == nil {
			break
		}
		f := b.idle.head.of
		if !must && f.counter > b.virtual-o.Credit && now-f.idleSince < o.FlowIdle {
			break
		}
		b.wake(f)
		for _, s := range f.shares {
			s.queue.shares--
		}
		delete(b.flows, f.name)
		forgot, must = true, false
	}
	return forgot
}

// lift takes from a tenant that comes back what it would have had while it was away,
// but for the credit: VTC's rule. It reports whether the tenant is behind those that wait
// or were let in last.
func (b *band) lift(f *flow, credit float64) (behind bool) {
	if f.queued > 0 {
		return false
	}
	base := b.virtual
	if b.queued > 0 {
		base = math.Inf(1)
		for _, q := range b.queues {
			if len(q.heap) > 0 {
				base = min(base, q.heap[0].of.flow.counter)
			}
		}
	}
	f.counter = max(f.counter, base-credit)
	return f.counter < base
}

// spend adds to what a tenant was served, or takes off.
func (f *flow) spend(tokens float64) {
	f.counter += tokens / f.weight
	f.served += tokens
	for _, s := range f.shares {
		s.queue.fix(s)
	}
}

// shareOf returns the flow's part of a queue.
func (f *flow) shareOf(q *queue) *share {
	for _, s := range f.shares {
		if s.queue == q {
			return s
		}
	}
	s := &f.first
	if s.queue != nil {
		s = new(share)
	}
	*s = share{flow: f, queue: q, index: -1}
	if f.shares == nil {
		f.shares = f.room[:0]
	}
	f.shares = append(f.shares, s)
	q.shares++
	return s
}

// lengthen keeps byLen: lengths change by one, so that the longest queue of a tenant is
// found without a search.
func (b *band) lengthen(f *flow, by int) {
	if f.queued > 0 {
		b.byLen[f.queued].remove(&f.links)
	} else {
		b.wake(f)
	}
	f.queued += by
	if f.queued > 0 {
		for len(b.byLen) <= f.queued {
			b.byLen = append(b.byLen, list[flow]{})
		}
		b.byLen[f.queued].push(f, &f.links)
		b.longest = max(b.longest, f.queued)
	}
	if b.longest > 0 && b.byLen[b.longest].head == nil {
		b.longest--
	}
}

// hog returns the request that came last of the tenant that has the most in the band's
// queues; nil if nothing waits.
func (b *band) hog() *Ticket {
	if b.longest == 0 {
		return nil
	}
	var newest *Ticket
	for _, s := range b.byLen[b.longest].head.of.shares {
		if s.tail != nil && (newest == nil || s.tail.of.seq > newest.seq) {
			newest = s.tail.of
		}
	}
	return newest
}
