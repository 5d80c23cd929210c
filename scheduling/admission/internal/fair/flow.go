package fair

import (
	"time"

	"github.com/inferpick/inferpick/internal/list"
)

// flow is a tenant at one priority.
type flow struct {
	Of     any // what callers keep of it
	band   *Band
	name   string
	weight float64

	counter float64 // weighted tokens that it was served, divided by its weight, by VTC
	beside  float64 // what it is taken to be served elsewhere that is not known here, in counter
	output  float64 // mean tokens of its outputs; 0: not known
	queued  int
	running int

	programs flowPrograms

	shares []*share // one for each queue that it has waited in
	first  share    // memory of the first of them
	room   [1]*share

	// In Band.byLen while something waits, in Band.idle while nothing is under way.
	links     list.Node[flow]
	resting   bool // in idle
	idleSince time.Duration

	elsewhere *flowElsewhere // nil: it was not served of late while there were other gateways
}

// spend adds to what a tenant was served, or takes off.
func (f *flow) spend(tokens float64) {
	f.move(f.counter + tokens/f.weight)
}

// move sets what a tenant was served.
func (f *flow) move(counter float64) {
	f.counter = counter
	for _, s := range f.shares {
		s.queue.fix(s)
	}
}

// at is where the tenant is in the order.
func (f *flow) at() float64 { return f.counter + f.beside }

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
