package admission

import (
	"slices"
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
	// left out, all. Match is called without a lock, by several goroutines at a time,
	// whenever something happens at an endpoint, so it must be quick; it may call any
	// method of the Controller. An endpoint of which it panics may not serve the request.
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
	arrived  time.Duration // since the Controller was made, as are the other instants
	deadline time.Duration // to be let in by
	bytes    int64
	charge   float64 // weighted tokens that its tenant was charged
	output   float64 // tokens of output that were expected
	prefix   uint64
	priority int
	modest   bool // its tenant is, see Band.ModestCeiling
	state    state

	// Places in lists and heaps.
	inShare node[Ticket] // once it is booked: in cell.silent
	inGroup node[Ticket] // once it is booked: in Controller.booked
	group   *group
	place   int // in share.byDeadline
	due     int // in Controller.deadlines
	letIn   node[Ticket]
	list    *list[Ticket] // Controller.grants, or of those that may be revoked
	seenAt  time.Duration // the last sign of life
	alive   atomic.Bool   // there was another since

	woken   *Ticket // next of Controller.woken
	refusal *Refusal
	wake    chan struct{} // Admit waits for it
	ready   func(error)   // or Offer's caller is told

	ep       *types.Endpoint // where it is booked
	at       *cell           // that, if it was in the pool
	ahead    int64           // tokens of prompts owed there when it was
	with     float64         // requests in flight there when it was
	area     float64         // cell.area then
	letInAt  time.Duration
	bookedAt time.Duration
	first    bool
	presumed bool // its first token is
	revoke   func(*Refusal)
	spent    []*meter // of its budgets
}

// Request returns the request.
func (t *Ticket) Request() *types.Request { return t.req }

// Band returns the name of its band.
func (t *Ticket) Band() string { return t.label.Load().name }

// Priority returns that which it has here, at most that of the request.
func (t *Ticket) Priority() int { return t.label.Load().priority }

// Charge returns the weighted tokens that its tenant was charged: what is expected at
// first, and what it really took once it has ended.
func (t *Ticket) Charge() float64 {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	return t.charge
}

// Alive is a sign of life of a request that takes long, for who has no other to give: one
// that was booked, and gives none for Options.TicketTTL, is taken to be forgotten. It costs
// next to nothing.
func (t *Ticket) Alive() { t.alive.Store(true) }

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
	c.lock()
	defer c.unlock()
	if ep == nil || !t.open() {
		return
	}
	x, from := c.cellOf(ep), c.cellOf(t.ep)
	t.unsilence()
	t.at, t.state = nil, running
	t.ep, t.first, t.bookedAt = ep, false, c.now
	if ep.Load != nil {
		t.ahead, t.with = ep.Load.PrefillTokens(), float64(ep.Load.Requests())
	}
	c.signOfLife(t)
	c.enlist(t)
	if x == nil {
		c.landed(t)
	} else {
		c.enterCell(t, x)
		c.ask(x, &news{booked: t})
	}
	if from != x {
		c.ask(from, nil)
	}
	c.dispatch()
}

// open reports whether it was let in and has not ended.
func (t *Ticket) open() bool { return t.state == granted || t.state == running }

// FirstToken tells that the first token of the response has come, after the ledger
// knows it. Where none is seen, as of an answer that is not streamed, it is not called: it
// is presumed then, once first tokens have come of others, or would.
func (t *Ticket) FirstToken() {
	c := t.c
	c.lock()
	defer c.unlock()
	if t.state != running || t.first {
		return
	}
	t.first = true
	took := c.now - t.bookedAt
	c.learnTTFT(took)
	t.Alive()
	var n *news
	if c.detector.first != nil || c.detector.served != nil {
		n = &news{first: true, served: Served{At: c.date(), Took: took, Ahead: t.ahead, With: t.with, Prompt: float64(t.req.Prompt.Tokens)}}
	}
	t.unsilence()
	c.ask(c.cellAt(t), n)
	c.dispatch()
}

// Done tells how the request ended, after the ledger knows it. The first call counts.
// Of one that waits, it gives it up.
func (t *Ticket) Done(out types.Outcome) {
	c := t.c
	c.lock()
	defer c.unlock()
	switch t.state {
	case ended:
		return
	case waiting:
		c.leave(t)
		t.state = ended
		c.cancelled(t)
	default:
		x, n := c.cellAt(t), c.whatItShows(t, &out)
		c.finish(t, &out)
		c.ask(x, &n)
	}
	c.dispatch()
}

// OnRevoke says how the request can be ended while it runs, should one of a higher band
// need its place: f is called at most once, from any goroutine, and sees to it that Done
// is called soon. Only requests of negative priority are ever revoked, and only with
// Options.Revoke.
func (t *Ticket) OnRevoke(f func(*Refusal)) {
	c := t.c
	c.lock()
	defer c.unlock()
	if t.open() {
		t.revoke = f
		c.enlist(t)
	}
}

// SetPriority changes the priority of a request that waits: it goes where it would be
// had it come with that priority. Where its new band does not wait, or has no room, it
// is refused. It does nothing for one that does not wait.
func (t *Ticket) SetPriority(priority int) {
	c := t.c
	c.lock()
	defer c.unlock()
	if t.state == waiting && t.priority != priority {
		c.reprioritize(t, priority)
		c.dispatch()
	}
}

// Waiting reports whether it waits.
func (t *Ticket) Waiting() bool {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	return t.state == waiting
}

// isOver reports whether it has ended.
func (t *Ticket) isOver() bool {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	return t.state == ended
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
// and are not taken out and do not sleep: so that one which has none is not chosen while
// another has. Give them to the Scheduler. If none has, it returns those that are not out,
// and if all are out, eps. The result is eps itself, or dst with the endpoints appended.
//
// What else makes an endpoint full is for the Scheduler to weigh against what speaks for
// it: to send a request from the prefix that it shares to whoever has room would fill the
// others too.
func (t *Ticket) Candidates(dst, eps []*types.Endpoint) []*types.Endpoint {
	c := t.c
	c.lock()
	defer c.unlock()
	if t.state == ended {
		return eps
	}
	d, ceiling := c.detector, c.ceilings[t.ceiling()]
	q := Query{Now: c.date()}
	q.StaleBefore = q.Now.Add(-c.o.MetricsTTL)
	l := c.seen(t.lane)
	// A lane that was forgotten says nothing.
	all := (l == c.whole || c.lanes[l.key] == l) && l.roomAt(t.ceiling()) == l.members()
	if d.slots == nil || all {
		d = nil
	}
	return c.withPlace(dst, eps, d, q, ceiling)
}

// withPlace leaves out what has no place. The lock is released meanwhile.
func (c *Controller) withPlace(dst, eps []*types.Endpoint, d *detector, q Query, ceiling float64) []*types.Endpoint {
	c.mu.Unlock()
	defer c.mu.Lock()
	some := slices.ContainsFunc(eps, q.away)
	if d == nil && !some {
		return eps
	}
	from, here := len(dst), 0
	for _, ep := range eps {
		if some && q.away(ep) {
			continue
		}
		here++
		if d == nil || !(c.placesTaken(d, q, ep) >= ceiling) {
			dst = append(dst, ep)
		}
	}
	if len(dst) == from && here > 0 && here < len(eps) { // none of those that are in has
		for _, ep := range eps {
			if !q.away(ep) {
				dst = append(dst, ep)
			}
		}
	}
	if n := len(dst) - from; n == 0 || n == len(eps) {
		return eps
	}
	return dst
}
