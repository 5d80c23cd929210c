package admission

import (
	"fmt"
	"math"
	"time"

	"github.com/inferpick/inferpick/internal/list"
	"github.com/inferpick/inferpick/scheduling/admission/internal/room"
)

// CheckInvariants looks at all that a Controller keeps and returns the first thing that
// does not fit the rest; what is inside of the order and the room is checked by the tests
// of those packages. With fills, no call into the Controller may be under way, and what
// is kept of how full endpoints are is compared with what the Detector says now, so that
// must not change by itself.
func (c *Controller) CheckInvariants(fills bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := &checker{c: c}
	k.bands()
	k.cells(fills)
	k.lanes(fills)
	k.waiting()
	k.tickets(fills)
	k.budgets()
	k.accounts()
	return k.err
}

type checker struct {
	c   *Controller
	err error
}

func (k *checker) check(ok bool, format string, args ...any) {
	if !ok && k.err == nil {
		k.err = fmt.Errorf(format, args...)
	}
}

func (k *checker) bands() {
	c := &k.c.desk
	queued, bytes := 0, int64(0)
	bands := c.queues.Bands()
	for i, b := range bands {
		k.check(i == 0 || b.Priority < bands[i-1].Priority, "bands: %d is behind %d", b.Priority, bands[max(i-1, 0)].Priority)
		k.check(b.Class == c.queues.ClassOf(b.Priority), "band %d: has the settings of another", b.Priority)
		at := c.classes[b.Class]
		k.check(c.table.Ceiling(at.ceiling) == c.o.Bands[b.Class].Ceiling && c.table.Ceiling(at.modest) == c.o.Bands[b.Class].ModestCeiling, "band %d: its ceilings are others'", b.Priority)
		k.check(*infoOf(b, c.o.Bands).label == label{c.o.Bands[b.Class].Name, b.Priority}, "band %d: is called something else", b.Priority)
		queued += b.Queued
		bytes += b.Bytes
	}
	k.check(queued == c.queues.Len(), "%d wait in bands, %d in all", queued, c.queues.Len())
	k.check(bytes == c.queues.Bytes(), "%d bytes wait in bands, %d in all", bytes, c.queues.Bytes())
}

func (k *checker) cells(quiet bool) {
	c := &k.c.desk
	cells := 0
	i := -1
	for of := range c.table.Endpoints() {
		i++
		cells++
		x := of.Of.(*cell)
		k.check(of == &x.room && of.Member(), "cell %d is none of the pool", i)
		k.check(!quiet || x.asking == 0 && !x.forget && !x.again, "cell %d: %d ask about it, and nobody does", i, x.asking)
		k.check(c.byLoad[x.ep.Load] == x, "cell %d is not found by its ledger", i)
	}
	k.check(!quiet || cells == len(c.byLoad), "%d cells, %d ledgers", cells, len(c.byLoad))
	k.check(!quiet || c.todo.len() == 0 && !k.c.asking, "%d endpoints are to be asked about", c.todo.len())
}

func (k *checker) lanes(fills bool) {
	c := &k.c.desk
	slots := 0
	for _, l := range c.table.Lanes() {
		if l != nil {
			slots++
		}
	}
	k.check(slots == len(c.lanes)+1, "%d lanes have slots, of %d", slots, len(c.lanes)+1)
	k.check(len(c.lanes) <= c.o.MaxLanes, "%d lanes of at most %d", len(c.lanes), c.o.MaxLanes)
	k.lane(c.whole, fills)
	queued := c.whole.order.Queued
	for key, l := range c.lanes {
		k.check(l.key == key, "lane %v is under the key of %v", l.key, key)
		k.lane(l, fills)
		queued += l.order.Queued
	}
	k.check(queued == c.queues.Len(), "%d wait in lanes, %d in all", queued, c.queues.Len())
}

// lane counts a lane anew, by what is kept of each endpoint, and asks what that is now.
func (k *checker) lane(l *lane, fills bool) {
	c := &k.c.desk
	name := fmt.Sprintf("lane %q", l.key.candidates)
	k.check(c.table.Has(&l.room), "%s: another is in its slot", name)
	var counted room.Table
	var again room.Lane
	counted.SetCeilings(c.ceilings())
	counted.AddLane(&again)
	i := -1
	for of := range c.table.Endpoints() {
		i++
		got := of.Answer(&l.room)
		if fills {
			x := of.Of.(*cell)
			now := c.date()
			q := question{d: c.detector, ep: x.ep, now: now, oldest: now.Add(-c.o.MetricsTTL), presumed: x.room.Presumed(), lanes: []*room.Lane{&l.room}}
			k.c.mu.Unlock()
			q.ask(nil)
			k.c.mu.Lock()
			want := q.answers[0]
			k.check((want.Fill == got.Fill || want.Fill != want.Fill && got.Fill != got.Fill) && want.Out == got.Out, "%s: cell %d is kept as %v, and is %v", name, i, got, want)
		}
		one := new(room.Endpoint)
		counted.Note(one, &again, got, 1)
		counted.Join(one)
	}
	k.check(again.Members() == l.room.Members(), "%s: has %d members, and keeps %d", name, again.Members(), l.room.Members())
	a, b := again.Saturation(), l.room.Saturation()
	k.check(a == b || a != a && b != b, "%s: is %v full, and keeps %v", name, a, b)
	for i := range c.ceilings() {
		k.check(again.RoomAt(i) == l.room.RoomAt(i), "%s: below ceiling %d are %d, and %d are kept", name, i, again.RoomAt(i), l.room.RoomAt(i))
	}
	k.check(l.order.QueuedFrom(math.MinInt) == l.order.Queued, "%s: %d wait in its queues, queued is %d", name, l.order.QueuedFrom(math.MinInt), l.order.Queued)
}

func (d *desk) ceilings() []float64 {
	ceilings, _ := ceilingsOf(d.o.Bands)
	return ceilings
}

func (k *checker) waiting() {
	c := &k.c.desk
	n, first := 0, noInstant
	for it := range c.queues.All() {
		t := it.Of.(*Ticket)
		n++
		first = min(first, it.Deadline)
		k.check(&t.item == it && it.Waits() && t.state == waiting && it.Lane == &t.lane.order, "number %d waits, and is not there", it.Seq)
		k.check(t.label.Load() == infoOf(it.Band(), c.o.Bands).label, "number %d is called something else", it.Seq)
		k.check(t.lane == c.whole || c.lanes[t.lane.key] == t.lane, "number %d: the lane is forgotten", it.Seq)
	}
	k.check(n == c.queues.Len(), "%d wait, of %d", n, c.queues.Len())
	if due := c.queues.Due(); due != nil {
		k.check(due.Deadline == first, "the first is due at %d, and another at %d", due.Deadline, first)
		k.check(c.closed || c.alarm.at != 0 && c.alarm.at <= first, "the timer goes off at %d, the first is due at %d", c.alarm.at, first)
	}
}

func (k *checker) tickets(quiet bool) {
	c := &k.c.desk
	k.check(!quiet || len(k.c.teller.events)+len(c.events) == 0 && c.woken == nil && !c.alarm.unset, "something is to be told, and nobody does")
	n, last := 0, time.Duration(0)
	for t := range each(k, &c.grants, func(t *Ticket) *list.Node[Ticket] { return &t.open }) {
		k.check(t.isOpen() && (t.state == granted || !quiet) && t.openIn == &c.grants, "what is not granted is among the grants")
		n++
	}
	booked := 0
	for t := range each(k, &c.active, func(t *Ticket) *list.Node[Ticket] { return &t.inBooked }) {
		k.check(t.state == running && t.seenAt >= last, "what is not booked is among the booked, or in the wrong order")
		last = t.seenAt
		booked++
	}
	open := 0
	for _, b := range c.queues.Bands() {
		open += b.Running
	}
	k.check(!quiet || n+booked == open, "%d grants and %d booked, %d are open", n, booked, open)
	k.check(n == c.granted, "%d grants, granted is %d", n, c.granted)
	k.check(len(c.revocable) == len(c.o.Bands), "%d lists of what may be revoked, of %d bands", len(c.revocable), len(c.o.Bands))
	for i := range c.revocable {
		for t := range each(k, &c.revocable[i], func(t *Ticket) *list.Node[Ticket] { return &t.open }) {
			k.check(t.state == running && t.revoke != nil && t.openIn == &c.revocable[i], "what cannot be revoked is among what can")
		}
	}
}

// each returns the values in a list, and checks its links.
func each[T any](k *checker, l *list.List[T], node func(*T) *list.Node[T]) func(func(*T) bool) {
	return func(yield func(*T) bool) {
		var before *list.Node[T]
		for n := l.Head; n != nil; n = n.Next {
			k.check(n.Prev == before && n == node(n.Of), "a link back is wrong")
			if !yield(n.Of) {
				return
			}
			before = n
		}
		k.check(l.Tail == before, "a list ends elsewhere than at its tail")
	}
}

func (k *checker) budgets() {
	b := &k.c.desk.budgets
	n := 0
	for m := range each(k, &b.used, func(m *meter) *list.Node[meter] { return &m.links }) {
		k.check(b.meters[m.key] == m, "budgets: the meter of %v is not where it belongs", m.key)
		k.check(m.Budget == &b.of[m.key.budget], "budgets: the meter of %v has another budget", m.key)
		n++
	}
	k.check(n == len(b.meters) && n <= maxMeters, "budgets: %d meters in the list, %d in the map, at most %d", n, len(b.meters), maxMeters)
}

func (k *checker) accounts() {
	d := &k.c.desk
	k.check(d.shared.book.Len() <= d.o.MaxAccounts, "%d accounts, of at most %d", d.shared.book.Len(), d.o.MaxAccounts)
	for m := range each(k, &d.budgets.used, func(m *meter) *list.Node[meter] { return &m.links }) {
		for _, v := range []float64{m.requests, m.tokens} {
			k.check(!math.IsNaN(v) && !math.IsInf(v, 0), "budgets: %v are left of %v", v, m.key)
		}
		if s := m.shared; s != nil && s.account != nil {
			k.check(s.account.Dropped() || s.account.Of == m, "budgets: the account of %v is another's", m.key)
		}
	}
}

// Left returns what is left of each Budget of one name, as it is now.
func (c *Controller) Left(tenant string) (requests, tokens float64) {
	d := c.lock()
	defer c.unlock()
	for key, m := range d.budgets.meters {
		if key.tenant == tenant {
			m.fill(d.now)
			return m.requests, m.tokens
		}
	}
	return math.NaN(), math.NaN()
}

// Meters returns how many Budgets there are that are used.
func (c *Controller) Meters() int {
	d := c.lock()
	defer c.unlock()
	return len(d.budgets.meters)
}

// Counters returns what each tenant of a priority was served, as the order goes by it.
func (c *Controller) Counters(priority int) map[string]float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range c.desk.queues.Bands() {
		if b.Priority == priority {
			return b.Counters()
		}
	}
	return map[string]float64{}
}
