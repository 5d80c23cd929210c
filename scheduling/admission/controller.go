package admission

import (
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/inferpick/inferpick/internal/list"
	"github.com/inferpick/inferpick/scheduling/admission/internal/fair"
	"github.com/inferpick/inferpick/scheduling/admission/internal/room"
	"github.com/inferpick/inferpick/types"
)

// Controller lets requests into one pool. Make it with New. All methods may be called
// from any goroutine. It starts none; with the real clock a timer runs while requests
// wait.
//
// What is the user's (Detector, Match, Hooks, Clock, the functions of Offer and OnRevoke)
// is called without a lock and may call any method of the Controller and of its Tickets.
// What panics is taken as not known, or as told, and Hooks.Failed hears of it.
//
// It is a lock and a clock around who is next (fair.Queues) and who has room (room.Table).
// A call decides under the lock; then, by unlock, the Detector is asked about what has
// changed, who may go now is let in, and what happened is told.
type Controller struct {
	clock  instants
	teller teller

	mu sync.Mutex
	// all guarded by mu
	o         Options
	detector  *detector
	classes   []class // of o.Bands
	byDefault bool    // the detector is that of Default
	closed    bool

	table   room.Table
	byLoad  map[*types.Load]*cell // those of table, and those that will be
	whole   *lane                 // the whole pool
	lanes   map[laneKey]*lane
	making  int           // how many make lanes
	renewAt time.Duration // when to look for readings that have become too old
	changes time.Duration // when a cell may change though nothing happens there, at the earliest

	todo    backlog
	asking  bool   // somebody asks about that
	version uint64 // of what is asked: later ones are newer
	changed bool   // somebody who waits may go
	spare   []room.Answer

	queues    *fair.Queues
	grants    list.List[Ticket] // let in and not yet booked, the oldest first
	granted   int
	active    list.List[Ticket]   // booked, by when there was a sign of life
	revocable []list.List[Ticket] // by index in o.Bands
	budgets   budgets
	drained   room.Pace // requests let in
	ttft      room.FirstTokens
	prefixes  maphash.Seed

	woken, lastWoken *Ticket // whose Admits are to go on; the next by Ticket.nextWoken
	alarm            alarm
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
		byLoad: map[*types.Load]*cell{}, lanes: map[laneKey]*lane{}, whole: newLane(laneKey{}, nil),
		prefixes: maphash.MakeSeed(), byDefault: !given, changes: noInstant,
	}
	c.whole.ready = true
	c.queues = fair.New(orderOf(&o, c.prefixes))
	c.teller.over = func(t *Ticket) bool { return c.stateOf(t) == ended }
	c.teller.use(o.Hooks)
	c.teller.fail(c.clock.set(o.Clock, 0))
	d, failed := newDetector(o.Detector)
	c.teller.fail(failed)
	c.lock()
	defer c.unlock()
	c.configure(o, d)
	c.table.AddLane(&c.whole.room)
	return c, nil
}

// configure takes Options. What waits keeps its place.
func (c *Controller) configure(o Options, d *detector) {
	var ceilings []float64
	ceilings, c.classes = ceilingsOf(o.Bands)
	c.o, c.detector = o, d
	c.teller.use(o.Hooks)
	c.table.SetCeilings(ceilings)
	c.queues.Configure(orderOf(&c.o, c.prefixes))
	for _, b := range c.queues.Bands() {
		infoOf(b, o.Bands).label = &label{o.Bands[b.Class].Name, b.Priority}
	}
	for it := range c.queues.All() {
		c.relabel(it.Of.(*Ticket))
	}
	c.budgets.configure(o.Budgets)
	before := c.revocable
	c.revocable = make([]list.List[Ticket], len(o.Bands))
	for i := range before {
		for before[i].Head != nil {
			t := before[i].Head.Of
			t.unlist()
			c.enlist(t)
		}
	}
}

// lock takes the lock, once it has looked at the clock, and ends what was forgotten.
func (c *Controller) lock() {
	i, failed := c.clock.read()
	c.teller.fail(failed)
	c.mu.Lock()
	c.clock.take(i)
	c.forgetTickets()
}

// unlock does what is left to do after a call has decided: asks, lets in, and tells, once it
// has released the lock.
func (c *Controller) unlock() {
	defer c.release()
	c.settle()
}

// settle asks about what has happened, for which the lock is released, and lets in who may
// go then.
func (c *Controller) settle() {
	defer c.dispatch()
	c.askAll()
}

// release releases the lock. Those that are let in go on once the hooks have heard of it,
// unless another call is telling them.
func (c *Controller) release() {
	woken, alarm := c.woken, c.alarm.waits()
	c.woken, c.lastWoken = nil, nil
	c.mu.Unlock()
	if woken != nil {
		defer wakeAll(woken) // whatever the others do
	}
	if alarm {
		c.setAlarm()
	}
	c.teller.tell()
}

func (c *Controller) stateOf(t *Ticket) state {
	c.mu.Lock()
	defer c.mu.Unlock()
	return t.state
}

// Asking.

// later has a cell asked about, by unlock or settle. What the Detector learns from it, it is
// told first. Nil is none.
func (c *Controller) later(x *cell, n news) {
	if x == nil {
		return
	}
	if n.nothing() {
		if x.again {
			return
		}
		x.again = true
	}
	c.todo.push(x, n)
}

// askAll asks about what is left to do. One call asks at a time, and does so for all: what
// happens meanwhile, on other cores or because of what the functions that it calls do, is
// left to it. So they may do anything; but not for ever, for they may cause more each time.
func (c *Controller) askAll() {
	if c.asking {
		return
	}
	c.asking = true
	defer func() { c.asking = false }()
	for n := 64 + 2*len(c.byLoad); n > 0 && c.todo.len() > 0; n-- {
		x, n := c.todo.pop()
		if n.nothing() {
			x.again = false
		}
		c.changed = true // also if what is asked ends this goroutine
		c.ask(x, c.table.Lanes(), &n)
		c.changed = true
		if c.todo.len() > 0 {
			c.dispatch() // who may go does not wait for the others
		}
	}
}

// ask works out anew how full a cell is for some lanes. The lock is released meanwhile. A
// later answer is never overwritten by one that was asked for earlier: lanes that are new
// are asked about beside.
func (c *Controller) ask(x *cell, lanes []*room.Lane, n *news) {
	if x.gone {
		c.askGone(x, n)
		return
	}
	x.room.Presume(c.clock.now, c.ttft.Presumed())
	c.version++
	now := c.clock.date()
	q := question{
		d: c.detector, ep: x.ep, now: now, oldest: now.Add(-c.o.MetricsTTL), presumed: x.room.Presumed(), lanes: lanes, answers: c.spare[:0],
	}
	c.spare = nil
	x.asking++
	version := c.version
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		x.asking--
		c.heard(x, &q, version, n)
	}()
	q.ask(n)
}

// heard takes the answers.
func (c *Controller) heard(x *cell, q *question, version uint64, n *news) {
	for _, p := range q.panics {
		c.teller.fail(p)
	}
	c.spare = q.answers
	for i, a := range q.answers {
		c.table.Note(&x.room, q.lanes[i], a, version)
	}
	c.mayChange(x)
	if n.booked != nil {
		c.landed(n.booked)
		c.table.LearnBooking(&x.room, &c.whole.room, x.ep.Load.Prefilling())
	}
	if x.forget {
		c.later(x, news{})
	}
}

// askGone is ask for an endpoint that has gone: once nobody tells anything else of it, the
// Detector hears that.
func (c *Controller) askGone(x *cell, n *news) {
	if n.booked != nil {
		c.landed(n.booked)
	}
	if !x.forget || x.asking > 0 || c.detector.forgets == nil {
		return
	}
	x.forget = false
	d := c.detector
	c.mu.Unlock()
	defer c.mu.Lock()
	c.teller.fail(d.forget(x.ep))
}

// mayChange keeps when a cell changes though nothing happens there.
func (c *Controller) mayChange(x *cell) {
	now := c.clock.date()
	if until, out := x.ep.Load.Out(now); out && until.Before(types.Forever) {
		c.changes = min(c.changes, after(c.clock.now, max(until.Sub(now), 0)))
	}
	if since, ok := x.room.Silent(); ok {
		c.changes = min(c.changes, since+c.ttft.Presumed())
	}
}

// renew works out anew how full those are of which something has changed though nothing
// happened there that would tell, perhaps because nothing is let in any more: the reading
// has become too old, or the endpoint was taken out or in.
func (c *Controller) renew() {
	if c.clock.now >= c.renewAt || c.clock.now >= c.changes {
		c.look()
	}
}

func (c *Controller) look() {
	c.renewAt, c.changes = c.clock.now+c.o.MetricsTTL/4, noInstant
	now := c.clock.date()
	oldest := now.Add(-c.o.MetricsTTL)
	for _, of := range c.table.Endpoints() {
		if of == nil {
			continue
		}
		x := of.Of.(*cell)
		_, out := x.ep.Load.Out(now)
		tooOld := !x.stale && x.ep.Metrics.UpdatedAt.Before(oldest)
		x.stale = x.stale || tooOld
		since, silent := of.Silent()
		settles := silent && since+c.ttft.Presumed() <= c.clock.now
		if tooOld || settles || out != of.Answer(&c.whole.room).Out && x.ep.State == types.Ready {
			c.later(x, news{})
		} else {
			c.mayChange(x)
		}
	}
	c.settle()
}

// cellOf returns the cell of an endpoint, nil if it is not in the pool.
func (c *Controller) cellOf(ep *types.Endpoint) *cell {
	if ep == nil || ep.Load == nil {
		return nil
	}
	if x := c.byLoad[ep.Load]; x != nil && x.room.Member() {
		return x
	}
	return nil
}

// Room.

// seen returns the lane by which room is judged for another: of one whose candidates are
// only preferred, and of which there is none, the whole pool.
func (c *Controller) seen(l *lane) *room.Lane {
	if l.key.preferred && l.room.Members() == 0 {
		return &c.whole.room
	}
	return &l.room
}

// bandOf returns the settings of a ticket.
func (c *Controller) bandOf(t *Ticket) *Band { return &c.o.Bands[t.item.Band().Class] }

// infoOf returns what else there is of a ticket's band.
func (c *Controller) infoOf(t *Ticket) *bandInfo { return infoOf(t.item.Band(), c.o.Bands) }

// relabel tells a ticket what its band is called.
func (c *Controller) relabel(t *Ticket) { t.label.Store(c.infoOf(t).label) }

// ceiling is the index of the ceiling that counts for a ticket.
func (c *Controller) ceiling(t *Ticket) int {
	k := c.classes[t.item.Band().Class]
	if t.item.Modest {
		return k.modest
	}
	return k.ceiling
}

// chooser is a Controller that says where there is room.
type chooser Controller

// Has implements fair.Room. Of those let in and not yet booked, each may take the room that
// an endpoint has: no more are let in than there are endpoints with room.
func (by *chooser) Has(it *fair.Item, owed bool) bool {
	c, t := (*Controller)(by), it.Of.(*Ticket)
	ceiling := c.ceiling(t)
	if owed {
		ceiling = 0
	}
	return c.table.MayGrant(c.seen(t.lane), ceiling) > c.granted
}

// dispatch lets in whoever is next, for as long as there is room, if something has changed.
func (c *Controller) dispatch() {
	if !c.changed {
		return
	}
	c.changed = false
	for it := c.queues.Next((*chooser)(c)); it != nil; it = c.queues.Next((*chooser)(c)) {
		t := it.Of.(*Ticket)
		c.queues.Take(it, c.clock.now)
		c.grant(t)
		c.settled(t)
	}
	c.arm()
}

// grant lets a request in, and charges its tenant.
func (c *Controller) grant(t *Ticket) {
	t.state, t.letInAt = granted, c.clock.now
	c.granted++
	t.enlist(&c.grants)
	c.queues.Start(&t.item)
	c.drained.Add(c.clock.now)
	counts := &c.infoOf(t).counts
	counts.Dispatched++
	counts.Tokens += t.item.Charge
	if c.o.Hooks.Dispatched != nil {
		e := event{kind: toldDispatched, t: t}
		if t.item.Seq != 0 {
			e.waited = c.clock.now - t.item.Arrived
		}
		c.teller.add(e)
	}
}

// landed takes a ticket off those that are let in and not yet booked.
func (c *Controller) landed(t *Ticket) {
	if t.openIn == &c.grants {
		t.unlist()
		c.granted--
		c.changed = true
		c.enlist(t)
	}
}

// enlist puts a running ticket among those that may be revoked.
func (c *Controller) enlist(t *Ticket) {
	if c.o.Revoke && t.state == running && t.revoke != nil && t.item.Priority < 0 && t.openIn == nil && t.refusal == nil {
		t.enlist(&c.revocable[c.queues.ClassOf(t.item.Priority)])
	}
}

// settled notes that a ticket no longer waits.
func (c *Controller) settled(t *Ticket) {
	switch {
	case t.wake != nil:
		if c.lastWoken == nil {
			c.woken = t
		} else {
			c.lastWoken.nextWoken = t
		}
		c.lastWoken = t
	case t.ready != nil:
		c.teller.add(event{kind: toldReady, t: t, refusal: t.refusal})
	}
}

// Ends.

// cellAt returns the cell of the endpoint that a ticket is booked at, nil if that is not in
// the pool.
func (c *Controller) cellAt(t *Ticket) *cell {
	if t.at != nil && t.at.room.Member() {
		return t.at
	}
	return c.cellOf(t.ep)
}

// finish ends a ticket that was let in.
func (c *Controller) finish(t *Ticket, out *types.Outcome) {
	c.landed(t)
	t.unlist()
	if x := c.cellAt(t); x != nil {
		x.since.Finished++
	}
	t.booking.Leave()
	t.forgetLife(&c.active)
	t.at, t.revoke, t.state = nil, nil, ended
	c.correct(t, out)
	if c.o.Hooks.Finished != nil {
		c.teller.add(event{kind: toldFinished, t: t, out: *out})
	}
	t.ep = nil
	c.changed = true
}

// correct makes the charge what the request really took.
func (c *Controller) correct(t *Ticket, out *types.Outcome) {
	expected := float64(t.req.Prompt.Tokens)
	in, output := expected, t.item.Output
	expected += output
	if v, ok := out.Usage.PromptTokens.Value(); ok && v >= 0 {
		in = v
	}
	if v, ok := out.Usage.CompletionTokens.Value(); ok && v >= 0 {
		output = v
		c.queues.Learn(&t.item, output)
	} else if !t.booking.First && (out.Cancelled || out.Failed()) {
		output = 0
		if t.ep == nil {
			in = 0 // it never got to a server
		}
	}
	c.infoOf(t).counts.Tokens += c.queues.End(&t.item, in, output, c.clock.now)
	correct(t.spent, expected, in+output)
	t.spent = nil
}

// DefaultGrantTTL is how long a request that was let in may be neither booked nor done
// before its owner is taken to have forgotten it, and it is ended. It bounds a mistake in
// the program, and is no option; for those that were booked Tuning.TicketTTL is.
const DefaultGrantTTL = 10 * time.Second

// forgetTickets ends tickets whose owners have done nothing with them for too long.
func (c *Controller) forgetTickets() {
	now := c.clock.now
	for n := c.grants.Head; n != nil && now-n.Of.letInAt > DefaultGrantTTL; n = c.grants.Head {
		c.finish(n.Of, &types.Outcome{Err: ErrForgotten})
	}
	for n := c.active.Head; n != nil && now-n.Of.seenAt > c.o.TicketTTL; n = c.active.Head {
		if t := n.Of; t.alive.Swap(false) {
			t.signOfLife(&c.active, now)
		} else {
			c.finish(t, &types.Outcome{Err: ErrForgotten})
		}
	}
	c.dispatch()
}

// refusal makes a Refusal.
func (c *Controller) refusal(t *Ticket, why Reason, detail string) *Refusal {
	r := &Refusal{
		Reason: why, Band: c.bandOf(t).Name, Priority: t.item.Priority, Tenant: t.req.FairnessID,
		Waited: c.clock.now - t.item.Arrived, Detail: detail,
	}
	if !why.Unavailable() {
		r.RetryAfter = c.retryAfter(t)
	}
	return r
}

// retryAfter is when there may be room for a request: when what waits before it has
// been let in, at the rate of late.
func (c *Controller) retryAfter(t *Ticket) time.Duration {
	wait := time.Second
	if rate := c.drained.Rate(c.clock.now); rate > 0 {
		before := float64(1 + c.queues.QueuedFrom(t.item.Priority))
		wait = time.Duration(min(before/rate, c.o.MaxRetryAfter.Seconds()) * float64(time.Second))
		wait = min(max(wait, time.Second), c.o.MaxRetryAfter)
	}
	return wait
}

// refused ends an arrival that is not let in.
func (c *Controller) refused(t *Ticket, r *Refusal) error {
	t.state, t.refusal = ended, r
	c.queues.Drop(&t.item, c.clock.now)
	c.refund(t)
	c.infoOf(t).counts.refused(r.Reason)
	c.teller.add(event{kind: toldRefused, t: t, refusal: r})
	return r
}

func (c *Controller) refund(t *Ticket) {
	refund(t.spent, float64(t.req.Prompt.Tokens)+t.item.Output)
	t.spent = nil
}

// refuseWaiting refuses a request that waits.
func (c *Controller) refuseWaiting(t *Ticket, why Reason, detail string) {
	r := c.refusal(t, why, detail)
	c.queues.Remove(&t.item, c.clock.now)
	c.settleRefusal(t, r)
}

// settleRefusal ends a request that has left the queue.
func (c *Controller) settleRefusal(t *Ticket, r *Refusal) {
	_ = c.refused(t, r)
	c.settled(t)
}

// describe says how full a lane is, as a ticket's band sees it.
func (c *Controller) describe(l *lane, t *Ticket) string {
	by, ceiling := c.seen(l), c.classes[t.item.Band().Class].ceiling
	before := l.order.QueuedFrom(t.item.Band().Priority)
	switch {
	case by.RoomAt(ceiling) > 0 && before == 0:
		return fmt.Sprintf("%d requests that were let in are not booked yet", c.granted)
	case by.RoomAt(ceiling) > 0:
		return fmt.Sprintf("%d requests of its priority or a higher one wait for %d endpoints", before, by.Members())
	}
	return fmt.Sprintf("none of %d endpoints is less than %g full", by.Members(), c.table.Ceiling(ceiling))
}

// endWaitForEndpoints refuses those that may not wait in the pool as it is now.
func (c *Controller) endWaitForEndpoints() {
	if c.mayAllWait() {
		return
	}
	var gone []*fair.Item
	for it := range c.queues.All() {
		t := it.Of.(*Ticket)
		by := c.seen(t.lane)
		if by.Members() == 0 && c.o.WaitForEndpoints == 0 || by.Members() > 0 && !c.bandOf(t).waits() && by.RoomAt(c.classes[it.Band().Class].ceiling) == 0 {
			gone = append(gone, it)
		}
	}
	slices.SortFunc(gone, fair.ByNumber)
	for _, it := range gone {
		t := it.Of.(*Ticket)
		if c.seen(t.lane).Members() == 0 {
			c.refuseWaiting(t, NoEndpoint, "the last endpoint that could serve it has gone")
		} else {
			c.refuseWaiting(t, Saturated, c.describe(t.lane, t))
		}
	}
}

// mayAllWait reports whether nothing waits in a lane without endpoints that may not, nor in
// a band that does not wait.
func (c *Controller) mayAllWait() bool {
	for _, l := range c.table.Lanes() {
		if l != nil && l.Of.(*lane).order.Queued > 0 && c.seen(l.Of.(*lane)).Members() == 0 && c.o.WaitForEndpoints == 0 {
			return false
		}
	}
	return !slices.ContainsFunc(c.queues.Bands(), func(b *fair.Band) bool { return b.Queued > 0 && !c.o.Bands[b.Class].waits() })
}

// Time.

// arm sets the alarm for the earliest deadline, or for when an endpoint may have room
// though nothing happens there. One that goes off earlier is left to: it finds nothing to
// do and is set again.
func (c *Controller) arm() {
	due := c.queues.Due()
	if due == nil || c.closed {
		return
	}
	now := c.clock.now
	c.alarm.to(min(due.Deadline, after(now, max(c.o.MetricsTTL, leastRenewal)+1), max(c.changes, now+1)))
}

const leastRenewal = 100 * time.Millisecond

// setAlarm makes the Clock's timer what it is to be. Another call may have done it.
func (c *Controller) setAlarm() {
	c.mu.Lock()
	if !c.alarm.waits() {
		c.mu.Unlock()
		return
	}
	old, set, in, number := c.alarm.change(c.clock.now)
	c.mu.Unlock()
	c.teller.fail(stopTimer(old))
	if !set {
		return
	}
	stop, failed := afterFunc(c.clock.by.Load(), in, func() { c.expire(number) })
	c.teller.fail(failed)
	c.mu.Lock()
	late := c.alarm.changed(number, stop)
	c.mu.Unlock()
	c.teller.fail(stopTimer(late))
}

// expire refuses those whose time is over.
func (c *Controller) expire(number uint64) {
	c.lock()
	defer c.unlock()
	if number != c.alarm.number || c.closed {
		return
	}
	c.alarm.off()
	c.renew()
	for it := c.queues.Due(); it != nil && it.Deadline <= c.clock.now; it = c.queues.Due() {
		t, waited := it.Of.(*Ticket), (c.clock.now - it.Arrived).Round(time.Millisecond)
		why, detail := TimedOut, "it waited for "+waited.String()
		if c.seen(t.lane).Members() == 0 {
			why, detail = NoEndpoint, "no endpoint came in "+waited.String()
		}
		c.refuseWaiting(t, why, detail)
	}
	c.changed = true
	c.dispatch()
}
