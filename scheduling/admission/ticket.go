package admission

import (
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/types"
)

// Arrival is a request that asks to be let in.
type Arrival struct {
	// Request is what is known of it: Priority, FairnessID, Model, Prompt.Tokens,
	// MaxTokens, SLO and the size of Body matter. It must not change until it is let in
	// or refused.
	Request *types.Request
	// Match says which endpoints of the pool may serve it, and Candidates is a name for
	// that: of arrivals with the same name the Match of any may be asked. If either is
	// left out, all. Match is called with the Controller's lock held and must be quick.
	Match      func(*types.Endpoint) bool
	Candidates string
	// Preferred says that if Match allows no endpoint, or none any more, all may serve it.
	Preferred bool
	// MaxWait is how long it may wait. 0: until its first token would come later than
	// its SLO allows, if it has one; else for as long as its band may. It can only
	// shorten that of the band.
	MaxWait time.Duration
}

// state is how far a ticket has come.
type state uint8

const (
	waiting state = iota // in a queue
	granted              // let in, and not yet booked at an endpoint
	running              // booked
	ended
)

// Ticket is a request that was let in, or waits to be. Done must be called for every
// one that was, whatever happens. All methods may be called from any goroutine.
type Ticket struct {
	c        *Controller
	req      *types.Request
	band     *band
	label    atomic.Pointer[label] // of band, for those who do not hold the lock
	flow     *flow
	lane     *lane
	share    *share // while it waits
	seq      uint64
	arrived  int64 // unix nanoseconds, as are the other instants
	deadline int64 // to be let in by
	bytes    int64
	charge   float64 // weighted tokens that its tenant was charged
	output   float64 // tokens of output that were expected
	prefix   uint64
	priority int
	modest   bool // its tenant is, see Band.ModestCeiling
	state    state

	// Places in lists and heaps.
	inShare node[Ticket]
	inGroup node[Ticket]
	group   *group
	place   int // in share.byDeadline
	due     int // in Controller.deadlines
	letIn   node[Ticket]
	list    *list[Ticket] // Controller.grants, or of those that may be revoked

	note    *Ticket // next in Controller.notes
	refusal *Refusal
	wake    chan struct{} // Admit waits for it
	ready   func(error)   // or Offer's caller is told

	ep       *types.Endpoint // where it is booked
	ahead    int64           // tokens of prompts owed there when it was
	letInAt  int64
	bookedAt int64
	first    bool
	revoke   func(*Refusal)
	spent    []*meter // of its budgets
}

// Request returns the request. May be called from hooks.
func (t *Ticket) Request() *types.Request { return t.req }

// Band returns the name of its band. May be called from hooks.
func (t *Ticket) Band() string { return t.label.Load().name }

// Priority returns that which it has here, at most that of the request. May be called
// from hooks.
func (t *Ticket) Priority() int { return t.label.Load().priority }

// Charge returns the weighted tokens that its tenant was charged: what is expected at
// first, and what it really took once it has ended. May only be called from hooks.
func (t *Ticket) Charge() float64 { return t.charge }

// ceiling is the index of the ceiling that counts for it.
func (t *Ticket) ceiling() int {
	if t.modest {
		return t.band.modest
	}
	return t.band.ceiling
}

// Booked tells where the request was booked: call it as soon as a Scheduler has
// decided, and again when it went on to another endpoint. The next one is let in by
// what the ledger says then.
func (t *Ticket) Booked(ep *types.Endpoint) {
	c := t.c
	c.mu.Lock()
	if t.state == granted || t.state == running {
		now := c.o.Clock.Now()
		c.landed(t)
		t.state = running
		from := t.ep
		t.ep, t.first, t.bookedAt = ep, false, now.UnixNano()
		if ep.Load != nil {
			t.ahead = ep.Load.PrefillTokens()
		}
		c.happened(from, now)
		c.happened(ep, now)
		if cell := c.cellOf(ep); cell != nil {
			c.learnBooking(cell)
		}
		c.enlist(t)
		c.dispatch(now)
	}
	c.unlock()
}

// FirstToken tells that the first token of the response has come, after the ledger
// knows it.
func (t *Ticket) FirstToken() {
	c := t.c
	c.mu.Lock()
	if t.state == running && !t.first {
		now := c.o.Clock.Now()
		t.first = true
		took := time.Duration(now.UnixNano() - t.bookedAt)
		c.learnTTFT(took)
		if l, ok := c.o.Detector.(Learner); ok {
			l.FirstToken(t.ep, t.ahead, took)
		}
		c.happened(t.ep, now)
		c.dispatch(now)
	}
	c.unlock()
}

// Done tells how the request ended, after the ledger knows it. The first call counts.
// Of one that waits, it gives it up.
func (t *Ticket) Done(out types.Outcome) {
	c := t.c
	c.mu.Lock()
	if t.state != ended {
		now := c.o.Clock.Now()
		if t.state == waiting {
			c.leave(t, now)
			t.state = ended
			c.cancelled(t, now)
		} else {
			c.finish(t, &out, now)
		}
		c.dispatch(now)
	}
	c.unlock()
}

// OnRevoke says how the request can be ended while it runs, should one of a higher band
// need its place: f is called at most once, from any goroutine, and sees to it that Done
// is called soon. Only requests of negative priority are ever revoked, and only with
// Options.Revoke.
func (t *Ticket) OnRevoke(f func(*Refusal)) {
	c := t.c
	c.mu.Lock()
	if t.state == granted || t.state == running {
		t.revoke = f
		c.enlist(t)
	}
	c.unlock()
}

// SetPriority changes the priority of a request that waits: it goes where it would be
// had it come with that priority. Where its new band does not wait, or has no room, it
// is refused. It does nothing for one that does not wait.
func (t *Ticket) SetPriority(priority int) {
	c := t.c
	c.mu.Lock()
	if t.state == waiting && t.priority != priority {
		now := c.o.Clock.Now()
		c.reprioritize(t, priority, now)
		c.dispatch(now)
	}
	c.unlock()
}

// Waiting reports whether it waits.
func (t *Ticket) Waiting() bool {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	return t.state == waiting
}

// enlist puts a ticket that was let in into a list of such.
func (t *Ticket) enlist(l *list[Ticket]) {
	t.list = l
	l.push(t, &t.letIn)
}

// unlist takes it out of the list it is in, if it is in one.
func (t *Ticket) unlist() {
	if t.list != nil {
		t.list.remove(&t.letIn)
		t.list = nil
	}
}

// Candidates returns those of eps that have a place for the request, by a SlotDetector,
// so that one which has none is not chosen while another has: give them to the Scheduler.
// If none has, or no places are known, it returns eps. The result is eps itself, or dst
// with the endpoints appended.
//
// What else makes an endpoint full is for the Scheduler to weigh against what speaks for
// it: to send a request from the prefix that it shares to whoever has room would fill the
// others too.
func (t *Ticket) Candidates(dst, eps []*types.Endpoint) []*types.Endpoint {
	c := t.c
	c.mu.Lock()
	defer c.mu.Unlock()
	slots, ok := c.o.Detector.(SlotDetector)
	if !ok || t.state == ended {
		return eps
	}
	if l := c.seen(t.lane); (l == c.whole || c.lanes[l.key] == l) && l.roomAt(t.ceiling()) == l.members {
		return eps // a lane that was forgotten says nothing
	}
	ceiling := c.ceilings[t.ceiling()]
	q := c.query(c.o.Clock.Now())
	before := len(dst)
	for _, ep := range eps {
		if !(slots.Slots(q, ep) >= ceiling) {
			dst = append(dst, ep)
		}
	}
	if n := len(dst) - before; n == 0 || n == len(eps) {
		return eps
	}
	return dst
}
