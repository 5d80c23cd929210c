package admission

import (
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/internal/list"
	"github.com/inferpick/inferpick/scheduling/admission/internal/fair"
	"github.com/inferpick/inferpick/scheduling/admission/internal/room"
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
	gate   gate
	req    *types.Request
	tokens int                   // of its prompt, when it came
	label  atomic.Pointer[label] // of its band, for those who do not hold the lock

	// Guarded by the Controller's lock.
	item    fair.Item // its place in the order
	lane    *lane
	state   state
	spent   []*meter // of its budgets
	refusal *Refusal
	letInAt time.Duration // since the Controller was made

	ep      *types.Endpoint // where it is booked
	at      *cell           // that, if it was in the pool
	booking room.Booking

	revoke    func(*Refusal)
	open      list.Node[Ticket] // in grants, or revocable
	openIn    *list.List[Ticket]
	inBooked  list.Node[Ticket]
	seenAt    time.Duration // the last sign of life
	alive     atomic.Bool   // there was another since
	wake      chan struct{} // Admit waits for it
	nextWoken *Ticket
	ready     func(error) // or Offer's caller is told
}

// label is what a band is called. It does not change.
type label struct {
	name     string
	priority int
}

// gate is the Controller of a Ticket.
type gate interface {
	enter() decider // until unlock
	unlock()
	peek(t *Ticket) (s state, charge float64)
	explain(t *Ticket) Report
	candidates(t *Ticket, dst, eps []*types.Endpoint) []*types.Endpoint
}

// decider decides about tickets, while the lock of their Controller is held.
type decider interface {
	booked(t *Ticket, ep *types.Endpoint)
	firstToken(t *Ticket)
	done(t *Ticket, out types.Outcome)
	onRevoke(t *Ticket, f func(*Refusal))
	setPriority(t *Ticket, priority int)
}

// Request returns the request.
func (t *Ticket) Request() *types.Request { return t.req }

// PromptTokens returns the tokens of its prompt, as they were estimated when it came.
func (t *Ticket) PromptTokens() int { return t.tokens }

// Band returns the name of its band.
func (t *Ticket) Band() string { return t.label.Load().name }

// Priority returns that which it has here, at most that of the request.
func (t *Ticket) Priority() int { return t.label.Load().priority }

// Charge returns the weighted tokens that its tenant was charged: what is expected at
// first, and what it really took once it has ended.
func (t *Ticket) Charge() float64 {
	_, charge := t.gate.peek(t)
	return charge
}

// Waiting reports whether it waits.
func (t *Ticket) Waiting() bool {
	s, _ := t.gate.peek(t)
	return s == waiting
}

// Alive is a sign of life of a request that takes long, for who has no other to give: one
// that was booked, and gives none for Tuning.TicketTTL, is taken to be forgotten. It costs
// next to nothing.
func (t *Ticket) Alive() { t.alive.Store(true) }

// Booked tells where the request was booked: call it as soon as a Scheduler has
// decided, and again when it went on to another endpoint. The next one is let in by
// what the ledger says then.
func (t *Ticket) Booked(ep *types.Endpoint) {
	d := t.gate.enter()
	defer t.gate.unlock()
	d.booked(t, ep)
}

// FirstToken tells that the first token of the response has come, after the ledger
// knows it. Where none is seen, as of an answer that is not streamed, it is not called: it
// is presumed then, once first tokens have come of others, or would.
func (t *Ticket) FirstToken() {
	d := t.gate.enter()
	defer t.gate.unlock()
	d.firstToken(t)
}

// Done tells how the request ended, after the ledger knows it. The first call counts.
// Of one that waits, it gives it up.
func (t *Ticket) Done(out types.Outcome) {
	d := t.gate.enter()
	defer t.gate.unlock()
	d.done(t, out)
}

// OnRevoke says how the request can be ended while it runs, should one of a higher band
// need its place: f is called at most once, from any goroutine, and sees to it that Done
// is called soon. Only requests of negative priority are ever revoked, and only with
// Options.Revoke. Nil: it cannot be ended any more, and is not revoked.
func (t *Ticket) OnRevoke(f func(*Refusal)) {
	d := t.gate.enter()
	defer t.gate.unlock()
	d.onRevoke(t, f)
}

// SetPriority changes the priority of a request that waits: it goes where it would be
// had it come with that priority. Where its new band does not wait, or has no room, it
// is refused. It does nothing for one that does not wait.
func (t *Ticket) SetPriority(priority int) {
	d := t.gate.enter()
	defer t.gate.unlock()
	d.setPriority(t, priority)
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
	return t.gate.candidates(t, dst, eps)
}

// Explain returns why the request waits and what is before it, or that it does not.
func (t *Ticket) Explain() Report { return t.gate.explain(t) }

// isOpen reports whether it was let in and has not ended.
func (t *Ticket) isOpen() bool { return t.state == granted || t.state == running }

// enlist puts a ticket that was let in into a list of such.
func (t *Ticket) enlist(l *list.List[Ticket]) {
	t.openIn = l
	l.Push(t, &t.open)
}

// unlist takes it out of the list it is in, if it is in one.
func (t *Ticket) unlist() {
	if t.openIn != nil {
		t.openIn.Remove(&t.open)
		t.openIn = nil
	}
}

// place makes it one that has come at an instant.
func (t *Ticket) place(l *lane, arrived time.Duration) {
	t.lane, t.tokens = l, t.req.Prompt.Tokens
	t.item = fair.Item{Of: t, Lane: &l.order, Priority: t.req.Priority, Bytes: int64(len(t.req.Body)), Arrived: arrived}
}

// tellReady tells the caller of Offer, unless the ticket was given up.
func (t *Ticket) tellReady(r *Refusal) {
	if s, _ := t.gate.peek(t); r != nil {
		t.ready(r)
	} else if s != ended {
		t.ready(nil)
	}
}

// expected is how many tokens it is expected to take.
func (t *Ticket) expected() float64 {
	return float64(t.req.Prompt.Tokens) + t.item.Output + t.item.Beside
}
