package admission

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/inferpick/inferpick/types"
)

// Controller lets requests into one pool. Make it with New. All methods may be called
// from any goroutine. It starts none; with the real clock a timer runs while requests
// wait.
type Controller struct {
	mu sync.Mutex
	// all guarded by mu
	o          Options
	ceilings   []float64 // of the bands, each once
	usesTarget bool
	byDefault  bool // the detector is that of Default
	closed     bool

	cells   []*cell // by index; nil: free
	byLoad  map[*types.Load]*cell
	mark    uint64
	whole   *lane     // the whole pool
	renewed time.Time // when it was last seen to that readings become too old
	lanes   map[laneKey]*lane

	bands     []*band // by priority, highest first
	queued    int
	bytes     int64
	seq       uint64
	deadlines heap[Ticket] // all that wait
	stopTimer func()
	wakeAt    int64 // when the timer goes off; 0: it does not run

	grants  list[Ticket] // let in and not yet booked, the oldest first
	granted int
	// perBooking is by how much one request fills an endpoint; 0: not known.
	perBooking float64
	revocable  []list[Ticket] // by index in o.Bands
	budgets    budgets

	drained  pace    // requests let in
	output   float64 // mean tokens of outputs; 0: not known
	ttft     float64 // mean seconds from booking to first token
	ttftDev  float64 // mean deviation of that
	prefixes maphash.Seed

	// To be done once the lock is released.
	notes, lastNote *Ticket  // to be told
	revocations     []func() // to be called
}

// New returns a Controller with no endpoints: call SetEndpoints. An error names each
// field that is wrong, and the rule.
func New(o Options) (*Controller, error) {
	given := o.Detector != nil
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Controller{byLoad: map[*types.Load]*cell{}, lanes: map[laneKey]*lane{}, whole: new(lane), prefixes: maphash.MakeSeed(), byDefault: !given}
	c.configure(o)
	return c, nil
}

// Close refuses everything that waits, and everything that comes. Requests that were
// let in go on.
func (c *Controller) Close() {
	c.mu.Lock()
	defer c.unlock()
	c.closed = true
	now := c.o.Clock.Now()
	for len(c.deadlines) > 0 {
		c.refuseWaiting(c.deadlines[0].of, Closed, "the gateway is shutting down", now)
	}
	if c.stopTimer != nil {
		c.stopTimer()
		c.stopTimer, c.wakeAt = nil, 0
	}
}

// unlock releases the lock and tells those who wait for news.
func (c *Controller) unlock() {
	first, revocations := c.notes, c.revocations
	c.notes, c.lastNote, c.revocations = nil, nil, nil
	c.mu.Unlock()
	for t := first; t != nil; {
		next := t.note
		t.note = nil
		if t.wake != nil {
			t.wake <- struct{}{}
		} else if t.ready != nil {
			t.ready(asError(t.refusal))
		}
		t = next
	}
	for _, revoke := range revocations {
		revoke()
	}
}

func asError(r *Refusal) error {
	if r == nil {
		return nil
	}
	return r
}

// tell notes that a ticket no longer waits.
func (c *Controller) tell(t *Ticket) {
	if c.lastNote == nil {
		c.notes = t
	} else {
		c.lastNote.note = t
	}
	c.lastNote = t
}
