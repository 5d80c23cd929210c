package admission

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/types"
)

// Controller lets requests into one pool. Make it with New. All methods may be called
// from any goroutine. It starts none; with the real clock a timer runs while requests
// wait.
//
// What is the user's (Detector, Match, Hooks, Clock, the functions of Offer and OnRevoke)
// is called without a lock and may call any method of the Controller and of its Tickets. A
// call has three parts: what has to be asked is asked, by ask, for which the lock is
// released; then all is decided under the lock; then, by unlock, what happened is told.
// What panics is taken as not known, or as told, and Hooks.Failed hears of it.
type Controller struct {
	time atomic.Pointer[timeline]

	mu sync.Mutex
	// all guarded by mu
	now       time.Duration // since the Controller was made; it never goes back
	line      *timeline     // that this is by
	wall      time.Time     // what the Clock said at wallAt
	wallAt    time.Duration // now, or a little ago
	o         Options
	detector  *detector
	ceilings  []float64 // of the bands, each once
	byDefault bool      // the detector is that of Default
	closed    bool

	cells   []*cell
	byLoad  map[*types.Load]*cell // those of cells, and those that will be
	version uint64                // of what is asked: later ones are newer
	asking  bool                  // somebody does
	todo    []todo                // what it is to ask about after
	making  int                   // how many make lanes
	renewAt time.Duration         // when to look for readings that have become too old
	changes time.Duration         // when a cell may change though nothing happens there, at the earliest
	whole   *lane                 // the whole pool
	lanes   map[laneKey]*lane
	slots   []*lane // by lane.slot; nil: free. Replaced, never changed

	bands     []*band // by priority, highest first
	queued    int
	bytes     int64
	seq       uint64
	deadlines heap[Ticket] // all that wait

	grants  list[Ticket] // let in and not yet booked, the oldest first
	granted int
	booked  list[Ticket] // booked, by when there was a sign of life
	// perBooking is by how much one request fills an endpoint; 0: not known.
	perBooking float64
	revocable  []list[Ticket] // by index in o.Bands
	budgets    budgets

	drained  pace    // requests let in
	output   float64 // mean tokens of outputs; 0: not known
	ttft     float64 // mean seconds from booking to first token
	ttftDev  float64 // mean deviation of that
	prefixes maphash.Seed

	// For unlock, which does it without the lock.
	woken, lastWoken *Ticket // whose Admits are to go on; the next by Ticket.woken
	events           []event // to be told
	told             []event // memory of those that were
	telling          bool    // somebody does
	timer            timer
}

// New returns a Controller with no endpoints: call SetEndpoints. An error names each
// field that is wrong, and the rule.
func New(o Options) (*Controller, error) {
	given := o.Detector != nil
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Controller{
		byLoad: map[*types.Load]*cell{}, lanes: map[laneKey]*lane{}, whole: &lane{ready: true},
		prefixes: maphash.MakeSeed(), byDefault: !given, changes: never,
	}
	c.slots, c.o.Hooks = []*lane{c.whole}, o.Hooks
	c.startTime(o.Clock, 0)
	d := c.detectorOf(o.Detector)
	c.lock()
	defer c.unlock()
	c.configure(o, d)
	return c, nil
}

// Close refuses everything that waits, and everything that comes. Requests that were
// let in go on.
func (c *Controller) Close() {
	c.lock()
	defer c.unlock()
	c.closed = true
	for len(c.deadlines) > 0 {
		c.refuseWaiting(c.deadlines[0].of, Closed, "the gateway is shutting down")
	}
	c.timer.off()
}

func asError(r *Refusal) error {
	if r == nil {
		return nil
	}
	return r
}
