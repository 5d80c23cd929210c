package admission

import (
	"fmt"
	"math"
	"reflect"
	"time"
)

// CheckInvariants looks at all that a Controller keeps and returns the first thing that
// does not fit the rest. With fills, no call into the Controller may be under way, and what
// is kept of how full endpoints are is compared with what the Detector says now, so that
// must not change by itself.
func (c *Controller) CheckInvariants(fills bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := &checker{c: c}
	k.bands()
	k.lanes(fills)
	k.deadlines()
	k.tickets(fills)
	k.budgets()
	return k.err
}

type checker struct {
	c   *Controller
	err error
}

func (k *checker) failf(format string, args ...any) {
	if k.err == nil {
		k.err = fmt.Errorf(format, args...)
	}
}

func (k *checker) check(ok bool, format string, args ...any) {
	if !ok {
		k.failf(format, args...)
	}
}

func (k *checker) bands() {
	c := k.c
	queued, bytes := 0, int64(0)
	for i, b := range c.bands {
		k.check(i == 0 || b.priority < c.bands[i-1].priority, "bands: %d is behind %d", b.priority, c.bands[max(i-1, 0)].priority)
		k.check(b.Band == &c.o.Bands[c.settingsOf(b.priority)], "band %d: has the settings of another", b.priority)
		k.check(c.ceilings[b.ceiling] == b.Ceiling, "band %d: its ceiling is %v, not %v", b.priority, c.ceilings[b.ceiling], b.Ceiling)
		k.band(b)
		queued += b.queued
		bytes += b.bytes
	}
	k.check(queued == c.queued, "%d wait in bands, queued is %d", queued, c.queued)
	k.check(bytes == c.bytes, "%d bytes wait in bands, bytes is %d", bytes, c.bytes)
}

func (k *checker) band(b *band) {
	queued, bytes, inFlight := 0, int64(0), 0
	shares := map[*queue]int{}
	for name, f := range b.flows {
		k.check(f.name == name && f.band == b, "band %d: flow %q is under the name of %q", b.priority, f.name, name)
		n := 0
		for _, s := range f.shares {
			k.check(s.flow == f, "band %d: flow %q has a share of %q", b.priority, name, s.flow.name)
			shares[s.queue]++
			bytes += k.share(s)
			n += s.n
		}
		k.check(n == f.queued, "band %d: %d of flow %q wait, queued is %d", b.priority, n, name, f.queued)
		k.check(f.resting == (f.queued == 0 && f.inFlight == 0), "band %d: flow %q has %d waiting and %d in flight, resting is %v", b.priority, name, f.queued, f.inFlight, f.resting)
		k.check(f.inFlight >= 0, "band %d: flow %q has %d in flight", b.priority, name, f.inFlight)
		k.check(!math.IsNaN(f.counter) && !math.IsInf(f.counter, 0), "band %d: the counter of flow %q is %v", b.priority, name, f.counter)
		queued += n
		inFlight += f.inFlight
	}
	k.check(queued == b.queued, "band %d: %d wait in flows, queued is %d", b.priority, queued, b.queued)
	k.check(bytes == b.bytes, "band %d: %d bytes wait, bytes is %d", b.priority, bytes, b.bytes)
	k.check(inFlight == b.open, "band %d: %d in flight in flows, open is %d", b.priority, inFlight, b.open)
	k.check(b.credit >= 0, "band %d: credit is %v", b.priority, b.credit)

	queued = 0
	for _, q := range b.queues {
		k.queue(b, q)
		k.check(q.shares == shares[q], "band %d: %d shares of lane %q, shares is %d", b.priority, shares[q], q.lane.key.candidates, q.shares)
		delete(shares, q)
		queued += q.queued
	}
	k.check(len(shares) == 0, "band %d: shares of %d queues that it does not have", b.priority, len(shares))
	k.check(queued == b.queued, "band %d: %d wait in queues, queued is %d", b.priority, queued, b.queued)

	longest := 0
	listed := 0
	for n := range b.byLen {
		for f := range k.flows(&b.byLen[n], b) {
			k.check(f.queued == n && n > 0, "band %d: flow %q with %d waiting is among those with %d", b.priority, f.name, f.queued, n)
			longest = n
			listed += n
		}
	}
	k.check(listed == b.queued, "band %d: flows by length have %d waiting, queued is %d", b.priority, listed, b.queued)
	k.check(longest == b.longest, "band %d: the longest has %d waiting, longest is %d", b.priority, longest, b.longest)
	resting := 0
	for _, f := range b.flows {
		if f.resting {
			resting++
		}
	}
	for f := range k.flows(&b.idle, b) {
		k.check(f.resting, "band %d: flow %q is idle and not resting", b.priority, f.name)
		resting--
	}
	k.check(resting == 0, "band %d: %d more flows rest than are idle", b.priority, resting)
}

// flows returns what is in a list, and checks its links.
func (k *checker) flows(l *list[flow], b *band) map[*flow]bool {
	seen := map[*flow]bool{}
	var before *node[flow]
	for at := l.head; at != nil; at = at.next {
		f := at.of
		k.check(at.prev == before && at == &f.links, "band %d: flow %q has another before it than itself is behind", b.priority, f.name)
		k.check(b.flows[f.name] == f, "band %d: flow %q is in a list and forgotten", b.priority, f.name)
		if seen[f] {
			k.failf("band %d: flow %q is in a list twice", b.priority, f.name)
			break
		}
		seen[f] = true
		before = at
	}
	k.check(l.tail == before, "band %d: the list ends elsewhere than at its tail", b.priority)
	return seen
}

func (k *checker) queue(b *band, q *queue) {
	name := fmt.Sprintf("band %d, lane %q", b.priority, q.lane.key.candidates)
	k.check(q.band == b, "%s: it is that of band %d", name, q.band.priority)
	k.check(q.lane == k.c.whole || k.c.lanes[q.lane.key] == q.lane, "%s: the lane is forgotten", name)
	at := 0
	for _, other := range q.lane.queues {
		if other == q {
			at++
		}
	}
	k.check(at == 1, "%s: the lane has the queue %d times", name, at)
	n := 0
	for i := range q.heap {
		e := q.heap[i]
		k.check(e.of.index == i, "%s: what is at %d of the heap says %d", name, i, e.of.index)
		k.check(e == e.of.turn(), "%s: what is at %d of the heap is kept as %v %d, and is %v %d", name, i, e.key, e.seq, e.of.turn().key, e.of.turn().seq)
		if i > 0 {
			k.check(!e.before(&q.heap[(i-1)/heapWidth]), "%s: what is at %d of the heap goes before its parent", name, i)
		}
		k.check(e.of.queue == q && e.of.n > 0, "%s: what is at %d of the heap is not there", name, i)
		n += e.of.n
	}
	k.check(n == q.queued, "%s: %d wait in the heap, queued is %d", name, n, q.queued)
}

func (k *checker) share(s *share) (bytes int64) {
	b := s.flow.band
	name := fmt.Sprintf("band %d, tenant %q, lane %q", b.priority, s.flow.name, s.queue.lane.key.candidates)
	n := 0
	var before *node[Ticket]
	for at := s.head; at != nil; at = at.next {
		t := at.of
		k.check(at.prev == before && at == &t.inShare, "%s: a link back is wrong", name)
		k.check(before == nil || before.of.seq < t.seq, "%s: number %d is behind %d", name, t.seq, seqOf(before))
		k.check(t.state == waiting && t.share == s && t.flow == s.flow && t.band == b, "%s: number %d belongs elsewhere", name, t.seq)
		k.check(t.due < len(k.c.deadlines) && k.c.deadlines[t.due].of == t, "%s: number %d has no deadline", name, t.seq)
		bytes += t.bytes
		n++
		before = at
	}
	k.check(s.tail == before, "%s: the list ends elsewhere than at its tail", name)
	k.check(n == s.n, "%s: %d wait, n is %d", name, n, s.n)
	if n > 0 {
		k.check(s.index >= 0 && s.index < len(s.queue.heap) && s.queue.heap[s.index].of == s, "%s: not in the heap", name)
	} else {
		k.check(s.index < 0, "%s: nothing waits, and it is in the heap", name)
	}
	if b.edf {
		k.check(len(s.byDeadline) == n, "%s: %d by deadline, n is %d", name, len(s.byDeadline), n)
		for i := range s.byDeadline {
			t := s.byDeadline[i].of
			k.check(t.place == i && t.share == s, "%s: what is at %d of the heap says %d", name, i, t.place)
			k.check(i == 0 || !s.byDeadline[i].before(&s.byDeadline[(i-1)/heapWidth]), "%s: what is at %d is due before its parent", name, i)
		}
	} else {
		k.check(len(s.byDeadline) == 0, "%s: %d by deadline, and that is not the order", name, len(s.byDeadline))
	}
	if b.locality {
		for key, g := range s.groups {
			k.check(g.key == key && g.head != nil, "%s: an empty group", name)
			var before *node[Ticket]
			for at := g.head; at != nil; at = at.next {
				t := at.of
				k.check(at.prev == before && at == &t.inGroup && t.group == g && t.prefix == key && t.share == s, "%s: number %d is in the wrong group", name, t.seq)
				k.check(before == nil || before.of.seq < t.seq, "%s: number %d is behind %d in a group", name, t.seq, seqOf(before))
				n--
				before = at
			}
			k.check(g.tail == before, "%s: a group ends elsewhere than at its tail", name)
		}
		k.check(n == 0, "%s: %d are in no group", name, n)
		k.check(s.group == nil || s.groups[s.group.key] == s.group, "%s: it goes on with a group that is gone", name)
	} else {
		k.check(len(s.groups) == 0 && s.group == nil, "%s: there are groups", name)
	}
	return bytes
}

func seqOf(n *node[Ticket]) uint64 {
	if n == nil {
		return 0
	}
	return n.of.seq
}

func (k *checker) lanes(fills bool) {
	c := k.c
	cells := 0
	for i, cell := range c.cells {
		if cell == nil {
			continue
		}
		cells++
		k.check(cell.index == i && cell.member, "cell %d says %d, member is %v", i, cell.index, cell.member)
		k.check(!fills || cell.asking == 0 && !cell.forget, "cell %d: %d ask about it, and nobody does", i, cell.asking)
		k.check(c.byLoad[cell.ep.Load] == cell, "cell %d is not found by its ledger", i)
	}
	k.check(!fills || cells == len(c.byLoad), "%d cells, %d ledgers", cells, len(c.byLoad))
	slots := 0
	for _, l := range c.slots {
		if l != nil {
			slots++
		}
	}
	k.check(slots == len(c.lanes)+1, "%d lanes have slots, of %d", slots, len(c.lanes)+1)
	k.check(len(c.lanes) <= c.o.MaxLanes, "%d lanes of at most %d", len(c.lanes), c.o.MaxLanes)
	k.lane(c.whole, fills)
	queued := c.whole.queued
	for key, l := range c.lanes {
		k.check(l.key == key, "lane %v is under the key of %v", l.key, key)
		k.lane(l, fills)
		queued += l.queued
	}
	k.check(queued == c.queued, "%d wait in lanes, queued is %d", queued, c.queued)
}

func (k *checker) lane(l *lane, fills bool) {
	c := k.c
	name := fmt.Sprintf("lane %q", l.key.candidates)
	k.check(len(l.in.room) == len(c.ceilings) && len(l.out.room) == len(c.ceilings), "%s: room of %d of %d ceilings", name, len(l.in.room), len(c.ceilings))
	k.check(c.slots[l.slot] == l, "%s: another is in its slot", name)
	if k.err != nil {
		return
	}
	kept := lane{in: l.in, out: l.out}
	for i, x := range c.cells {
		if fills && x != nil {
			q := c.question(x, []*lane{l})
			want, got := c.outside(x, &q, nil, nil)[0], x.figure(l).answer
			k.check((want.fill == got.fill || want.fill != want.fill && got.fill != got.fill) && want.out == got.out, "%s: cell %d is kept as %v, and is %v", name, i, got, want)
		}
	}
	l.in, l.out = tally{}, tally{}
	c.recount(l)
	k.check(reflect.DeepEqual(kept.in, l.in) && reflect.DeepEqual(kept.out, l.out), "%s: it has %v, out %v, and kept %v, out %v", name, l.in, l.out, kept.in, kept.out)
	queued := 0
	for i, q := range l.queues {
		k.check(i == 0 || q.band.priority < l.queues[i-1].band.priority, "%s: the queue of %d is behind that of %d", name, q.band.priority, l.queues[max(i-1, 0)].band.priority)
		k.check(q.lane == l, "%s: has the queue of lane %q", name, q.lane.key.candidates)
		queued += q.queued
	}
	k.check(queued == l.queued, "%s: %d wait, queued is %d", name, queued, l.queued)
}

func (k *checker) deadlines() {
	c := k.c
	k.check(len(c.deadlines) == c.queued, "%d deadlines, queued is %d", len(c.deadlines), c.queued)
	for i, d := range c.deadlines {
		k.check(d.of.due == i && int64(d.of.deadline) == d.key && d.of.state == waiting, "deadlines: what is at %d is not there", i)
		k.check(i == 0 || d.key >= c.deadlines[(i-1)/heapWidth].key, "deadlines: what is at %d is due before its parent", i)
	}
	if len(c.deadlines) > 0 && !c.closed {
		k.check(c.timer.at != 0 && c.timer.at <= time.Duration(c.deadlines[0].key), "deadlines: the timer goes off at %d, the first is due at %d", c.timer.at, c.deadlines[0].key)
	}
}

func (k *checker) tickets(quiet bool) {
	c := k.c
	k.check(!quiet || len(c.events) == 0 && c.woken == nil && !c.timer.set, "something is to be told, and nobody does")
	n := 0
	for at := c.grants.head; at != nil; at = at.next {
		t := at.of
		k.check(t.open() && (t.state == granted || !quiet) && t.list == &c.grants, "what is not granted is among the grants")
		n++
	}
	open := 0
	for _, b := range c.bands {
		open += b.open
	}
	booked := 0
	for at := c.booked.head; at != nil; at = at.next {
		t := at.of
		k.check(t.state == running && (at.prev == nil || at.prev.of.seenAt <= t.seenAt), "what is not booked is among the booked, or in the wrong order")
		booked++
	}
	k.check(!quiet || n+booked == open, "%d grants and %d booked, %d are open", n, booked, open)
	k.check(n == c.granted, "%d grants, granted is %d", n, c.granted)
	k.check(len(c.revocable) == len(c.o.Bands), "%d lists of what may be revoked, of %d bands", len(c.revocable), len(c.o.Bands))
	for i := range c.revocable {
		for at := c.revocable[i].head; at != nil; at = at.next {
			t := at.of
			k.check(t.state == running && t.revoke != nil && t.list == &c.revocable[i], "what cannot be revoked is among what can")
		}
	}
}

func (k *checker) budgets() {
	b := &k.c.budgets
	n := 0
	var before *node[meter]
	for at := b.used.head; at != nil; at = at.next {
		m := at.of
		k.check(at.prev == before && at == &m.links && b.meters[m.key] == m, "budgets: the meter of %v is not where it belongs", m.key)
		k.check(m.Budget == &b.list[m.key.budget], "budgets: the meter of %v has another budget", m.key)
		before = at
		n++
	}
	k.check(b.used.tail == before, "budgets: the list ends elsewhere than at its tail")
	k.check(n == len(b.meters) && n <= maxMeters, "budgets: %d meters in the list, %d in the map, at most %d", n, len(b.meters), maxMeters)
}

// Counters returns what each tenant of a priority was served, as the order goes by it.
func (c *Controller) Counters(priority int) map[string]float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	counters := map[string]float64{}
	if b, _ := c.findBand(priority); b != nil {
		for name, f := range b.flows {
			counters[name] = f.counter
		}
	}
	return counters
}
