package admission

import (
	"hash/maphash"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission/internal/accounts"
	"github.com/inferpick/inferpick/scheduling/admission/internal/fair"
	"github.com/inferpick/inferpick/scheduling/admission/internal/room"
)

// desk decides who is let in, waits or is refused: by who is next (fair.Queues), who has room
// (pool), and what is under way (letIn). It has no lock, and calls nothing of the user's: what
// that is to be asked (pool.todo) and told it keeps for its owner, who sets the present before
// each call.
type desk struct {
	pool
	letIn
	o       Options
	classes []class // of o.Bands
	closed  bool

	queues   *fair.Queues
	budgets  budgets
	shared   *shared
	drained  room.Pace // requests let in
	prefixes maphash.Seed
	changed  bool // somebody who waits may go

	events           []event // to be told
	woken, lastWoken *Ticket // whose Admits are to go on; the next by Ticket.nextWoken
	alarm            alarm
}

func newDesk() desk {
	s := &shared{book: accounts.New(DefaultMaxAccounts)}
	return desk{pool: newPool(), queues: fair.New(fair.Config{}), prefixes: maphash.MakeSeed(), shared: s, budgets: budgets{shared: s}}
}

// configure takes Options. What waits keeps its place.
func (d *desk) configure(o Options, by *detector) {
	var ceilings []float64
	ceilings, d.classes = ceilingsOf(o.Bands)
	d.o, d.detector, d.metricsTTL = o, by, o.MetricsTTL
	d.table.SetCeilings(ceilings)
	d.queues.Configure(orderOf(&d.o, d.prefixes))
	for _, b := range d.queues.Bands() {
		infoOf(b, o.Bands).label = &label{o.Bands[b.Class].Name, b.Priority}
	}
	for it := range d.queues.All() {
		d.relabel(it.Of.(*Ticket))
	}
	d.budgets.configure(o.Budgets)
	d.recallDetector()
	d.shared.delay = o.PeerDelay
	d.shared.book.SetMost(o.MaxAccounts)
	for _, t := range d.setClasses(len(o.Bands)) {
		d.enlist(t)
	}
	for x := range d.table.Endpoints() {
		d.later(x.Of.(*cell), news{})
	}
	d.alarm.off() // it may be another Clock's
	d.arm()
	d.changed = true
}

// note keeps what happened to be told, if anybody wants to hear of it.
func (d *desk) note(e event) {
	if d.o.Hooks.want(e.kind) {
		d.events = append(d.events, e)
	}
}

// failed keeps what panicked.
func (d *desk) failed(panics []*Panic) {
	for _, p := range panics {
		d.note(event{kind: toldFailed, failure: p})
	}
}

// bandOf returns the settings of a ticket.
func (d *desk) bandOf(t *Ticket) *Band { return &d.o.Bands[t.item.Band().Class] }

// countsOf returns what has happened at a ticket's priority.
func (d *desk) countsOf(t *Ticket) *BandCounts { return &infoOf(t.item.Band(), d.o.Bands).counts }

// relabel tells a ticket what its band is called.
func (d *desk) relabel(t *Ticket) { t.label.Store(infoOf(t.item.Band(), d.o.Bands).label) }

// ceiling is the index of the ceiling that counts for a ticket.
func (d *desk) ceiling(t *Ticket) int {
	k := d.classes[t.item.Band().Class]
	if t.item.Modest {
		return k.modest
	}
	return k.ceiling
}

// laneOf returns the lane of an arrival: a new one is made, about which the endpoints are to
// be asked. Where there are too many it is the whole pool.
func (d *desk) laneOf(a *Arrival) *lane {
	key, match := keyOf(a, d.detector.target)
	if key == d.whole.key {
		return d.whole
	}
	l := d.lanes[key]
	if l == nil {
		if len(d.lanes) >= d.o.MaxLanes && !d.forgetLane() {
			return d.whole
		}
		l = newLane(key, match)
		d.table.AddLane(&l.room)
		d.lanes[key] = l
	}
	l.touched = d.now
	return l
}

// forgetLane drops the lane that was used the longest ago and in which nothing waits.
func (d *desk) forgetLane() bool {
	var oldest *lane
	for _, l := range d.lanes {
		if l.order.Queued == 0 && (oldest == nil || l.touched < oldest.touched) {
			oldest = l
		}
	}
	if oldest == nil {
		return false
	}
	d.queues.DropLane(&oldest.order)
	delete(d.lanes, oldest.key)
	d.table.RemoveLane(&oldest.room)
	return true
}

// asks fills in what is asked about a cell, and reports whether anything is: of one that has
// gone, once nobody tells anything else of it, the Detector hears that.
func (d *desk) asks(q *question, x *cell, lanes []*room.Lane, n *news) bool {
	if !x.gone {
		d.question(q, x, lanes)
		return true
	}
	if n.booked != nil {
		d.landed(n.booked)
	}
	if !x.forget || x.asking > 0 || d.detector.forgets == nil {
		return false
	}
	x.forget = false
	*q = question{d: d.detector, ep: x.ep, gone: true}
	return true
}

// heard takes what was answered.
func (d *desk) heard(x *cell, q *question, n *news) {
	d.failed(q.panics)
	if q.gone {
		return
	}
	d.answered(x, q)
	if n.booked != nil {
		d.landed(n.booked)
		d.table.LearnBooking(&x.room, &d.whole.room, x.ep.Load.Known().Prefilling)
	}
}

// landed takes a ticket off those that are let in and not yet booked.
func (d *desk) landed(t *Ticket) {
	if d.letIn.landed(t) {
		d.changed = true
		d.enlist(t)
	}
}

// enlist puts a running ticket among those that may be revoked.
func (d *desk) enlist(t *Ticket) {
	if d.o.Revoke && t.state == running && t.revoke != nil && t.item.Priority < 0 && t.openIn == nil && t.refusal == nil {
		t.enlist(&d.revocable[d.queues.ClassOf(t.item.Priority)])
	}
}

// hasRoom reports whether there is room for one that waits, with owed as the highest band has
// it. Of those let in and not yet booked, each may take the room that an endpoint has: no more
// are let in than there are endpoints with room.
func (d *desk) hasRoom(it *fair.Item, owed bool) bool {
	t := it.Of.(*Ticket)
	ceiling := d.ceiling(t)
	if owed {
		ceiling = 0
	}
	return d.table.MayGrant(d.seen(t.lane), ceiling) > d.granted
}

// dispatch lets in whoever is next, for as long as there is room, if something has changed.
func (d *desk) dispatch() {
	if !d.changed {
		return
	}
	d.changed = false
	for it := d.queues.Next(d.hasRoom); it != nil; it = d.queues.Next(d.hasRoom) {
		t := it.Of.(*Ticket)
		d.queues.Take(it, d.now)
		d.grant(t)
		d.settled(t)
	}
	d.arm()
}

// grant lets a request in, and charges its tenant.
func (d *desk) grant(t *Ticket) {
	d.letIn.grant(t, d.now)
	d.queues.Start(&t.item)
	d.charge(t, 1, t.item.Charge)
	d.drained.Add(d.now)
	counts := d.countsOf(t)
	counts.Dispatched++
	counts.Tokens += t.item.Charge
	if d.o.Hooks.Dispatched != nil {
		e := event{kind: toldDispatched, t: t}
		if t.item.Seq != 0 {
			e.waited = d.now - t.item.Arrived
		}
		d.note(e)
	}
}

// settled has the owner of a ticket told that it no longer waits.
func (d *desk) settled(t *Ticket) {
	switch {
	case t.wake != nil:
		if d.lastWoken == nil {
			d.woken = t
		} else {
			d.lastWoken.nextWoken = t
		}
		d.lastWoken = t
	case t.ready != nil:
		d.note(event{kind: toldReady, t: t, refusal: t.refusal})
	}
}

// arm sets the alarm for the earliest deadline, or for when an endpoint may have room
// though nothing happens there. One that goes off earlier is left to: it finds nothing to
// do and is set again.
func (d *desk) arm() {
	due := d.queues.Due()
	if due == nil || d.closed {
		return
	}
	d.alarm.to(min(due.Deadline, after(d.now, max(d.metricsTTL, leastRenewal)+1), max(d.changes, d.now+1)))
}

const leastRenewal = 100 * time.Millisecond

// placesFor returns what is to be asked for Ticket.Candidates; not ok of one that has ended.
func (d *desk) placesFor(t *Ticket) (p places, ok bool) {
	if t.state == ended {
		return p, false
	}
	now, k, l := d.date(), d.ceiling(t), d.seen(t.lane)
	p = places{query: Query{Now: now, StaleBefore: now.Add(-d.metricsTTL)}, ceiling: d.table.Ceiling(k)}
	// A lane that was forgotten says nothing.
	if all := d.table.Has(l) && l.RoomAt(k) == l.Members(); d.detector.slots != nil && !all {
		p.d = d.detector
	}
	return p, true
}
