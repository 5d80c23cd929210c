package admission

import (
	"math"
	"slices"
	"time"

	"github.com/inferpick/inferpick/types"
)

// detector is a Detector, and what else it can do: looked up once.
type detector struct {
	Detector
	first    Learner
	served   ServiceLearner
	readings ReadingLearner
	forgets  Forgetter
	slots    SlotDetector
	target   bool // its answer depends on Query.TTFT
}

func (c *Controller) detectorOf(d Detector) *detector {
	all := &detector{
		Detector: d, first: as[Learner](d), served: as[ServiceLearner](d), readings: as[ReadingLearner](d),
		forgets: as[Forgetter](d), slots: as[SlotDetector](d),
	}
	if t := as[TargetDetector](d); t != nil {
		all.target = c.usesTarget(t)
	}
	return all
}

// as returns a Detector as what it may be beside, nil if it is not: a Max is what any of
// those in it is.
func as[T comparable](d Detector) (t T) {
	if m, ok := d.(Max); ok && !slices.ContainsFunc(m, func(one Detector) bool { return as[T](one) != t }) {
		return t
	}
	t, _ = d.(T)
	return t
}

// news is what a Detector that learns is told before it is asked. Nil is nothing.
type news struct {
	reading bool
	since   Since
	first   bool
	served  Served
	ended   bool
	booked  *Ticket // takes the room that is seen then
}

// figure is how full an endpoint is for the requests of a lane.
type figure struct {
	of *lane
	answer
	version uint64 // of what was asked; 0: nothing was
}

// answer is what is asked for.
type answer struct {
	fill float64 // notMember, NaN for unknown, or how full
	out  bool    // it is taken out
}

// todo is an endpoint that is to be asked about.
type todo struct {
	x    *cell
	news news
}

// ask works out anew how full a cell is, for all lanes, after something happened there:
// what the Detector learns from it, it is told first. The lock is released meanwhile, so
// everything else may have changed after.
//
// One call asks at a time, and does so for all: what happens meanwhile, on other cores or
// because of what the functions that it calls do, is left to it. So they may do anything:
// what they ask for never ends in itself. Who calls ask calls dispatch after.
func (c *Controller) ask(x *cell, n *news) {
	switch {
	case x == nil:
		return
	case c.asking && n != nil:
		c.todo = append(c.todo, todo{x, *n})
		return
	case c.asking:
		c.later(x)
		return
	}
	c.asking = true
	defer func() { c.asking = false }()
	c.askFor(x, c.slots, n)
	if len(c.todo) > 0 {
		c.askForOthers()
	}
}

// later has a cell asked about by whoever asks next.
func (c *Controller) later(x *cell) {
	if !x.again {
		x.again = true
		c.todo = append(c.todo, todo{x: x})
	}
}

// catchUp asks about what was left to others, if nobody is at it.
func (c *Controller) catchUp() {
	if c.asking || len(c.todo) == 0 {
		return
	}
	c.asking = true
	defer func() { c.asking = false }()
	c.askForOthers()
}

// askForOthers asks about what has been left to the caller; not for ever, for those who are
// asked may cause more each time.
func (c *Controller) askForOthers() {
	for n := 64 + 2*len(c.cells); n > 0 && len(c.todo) > 0; n-- {
		next := c.todo[0]
		c.todo = slices.Delete(c.todo, 0, 1)
		if next.news == (news{}) {
			next.x.again = false
		}
		c.askFor(next.x, c.slots, &next.news)
	}
}

// question is what is asked about an endpoint.
type question struct {
	d           *detector
	ep          *types.Endpoint
	now, oldest time.Time
	presumed    int
	lanes       []*lane
}

func (c *Controller) question(x *cell, lanes []*lane) question {
	now := c.date()
	return question{c.detector, x.ep, now, now.Add(-c.o.MetricsTTL), x.presumed, lanes}
}

// askFor is ask for some lanes. A later answer is never overwritten by one that was asked
// for earlier: lanes that are new are asked about beside.
func (c *Controller) askFor(x *cell, lanes []*lane, n *news) {
	if x.gone {
		if n != nil && n.booked != nil {
			c.landed(n.booked)
		}
		return
	}
	if x.silent.head != nil {
		x.settle(c.now, c.firstTokenTakes())
	}
	c.version++
	version, q := c.version, c.question(x, lanes)
	var room [8]answer
	answers := c.outside(x, &q, n, room[:0])
	for len(answers) < len(lanes) {
		answers = c.outside(x, &q, nil, answers)
	}
	for i, a := range answers {
		c.note(x, lanes[i], a, version)
	}
	if n != nil && n.booked != nil {
		c.landed(n.booked)
		c.learnBooking(x)
	}
	if x.asking == 0 && x.forget {
		x.forget = false
		c.forgetEndpoint(x)
	}
}

// outside calls what is the user's, without the lock. It tells what there is to learn from,
// and appends the answers, up to one for which a function panics: nothing is known of that,
// or the endpoint may not serve it.
func (c *Controller) outside(x *cell, q *question, n *news, answers []answer) (all []answer) {
	all = answers
	in, failing := "", answer{}
	x.asking++
	c.mu.Unlock()
	defer func() {
		v := recover()
		c.mu.Lock()
		x.asking--
		if v != nil {
			c.failing(in, v)
			if n == nil {
				all = append(all, failing)
			}
		}
	}()
	if n != nil {
		q.d.learn(q.ep, n, &in)
		n = nil
	}
	query := Query{Now: q.now, StaleBefore: q.oldest, Presumed: q.presumed}
	_, out := q.ep.Load.Out(q.now)
	for _, l := range q.lanes[len(all):] {
		a := answer{fill: notMember}
		in, failing = "Arrival.Match", a
		switch {
		case l == nil || q.ep.State != types.Ready || l.match != nil && !l.match(q.ep):
		case query.asleep(q.ep):
			a = answer{math.Inf(1), out}
		case l.key.ttft == 0 && len(all) > 0 && q.lanes[0].key == laneKey{}:
			a = all[0] // what the whole pool is asked for
		default:
			in, failing = "Detector.Fill", answer{math.NaN(), out}
			query.TTFT = l.key.ttft
			a = answer{q.d.Fill(query, q.ep), out}
			if a.fill < 0 {
				a.fill = 0
			}
		}
		all = append(all, a)
	}
	return all
}

// learn tells a Detector what it may learn from, and notes what it calls.
func (d *detector) learn(ep *types.Endpoint, n *news, in *string) {
	if n.reading && d.readings != nil {
		*in = "ReadingLearner.Reading"
		d.readings.Reading(ep, n.since)
	}
	if n.first && d.first != nil {
		*in = "Learner.FirstToken"
		d.first.FirstToken(ep, n.served.Ahead, n.served.Took)
	}
	if (n.first || n.ended) && d.served != nil {
		*in = "ServiceLearner.Served"
		d.served.Served(ep, n.served)
	}
}

// note takes an answer.
func (c *Controller) note(x *cell, l *lane, a answer, version uint64) {
	if l == nil || l.slot >= len(c.slots) || c.slots[l.slot] != l {
		return // it was forgotten meanwhile
	}
	f := x.figure(l)
	if version < f.version {
		return
	}
	if x.member && f.answer != a {
		l.count(f.answer, -1, c.ceilings)
		l.count(a, 1, c.ceilings)
	}
	f.answer, f.version = a, version
	if l == c.whole && (a.out || x.silent.head != nil) {
		c.mayChange(x)
	}
}

// mayChange keeps when a cell changes though nothing happens there.
func (c *Controller) mayChange(x *cell) {
	now := c.date()
	if until, out := x.ep.Load.Out(now); out && until.Before(types.Forever) {
		c.changes = min(c.changes, after(c.now, max(until.Sub(now), 0)))
	}
	if x.silent.head != nil {
		c.changes = min(c.changes, x.silent.head.of.bookedAt+c.firstTokenTakes())
	}
}

// The functions of the user's, each so that its panic does no harm.

func (c *Controller) usesTarget(t TargetDetector) bool {
	defer func() {
		if v := recover(); v != nil {
			c.failed("TargetDetector.UsesTarget", v)
		}
	}()
	return t.UsesTarget()
}

func (c *Controller) placesTaken(d *detector, q Query, ep *types.Endpoint) (fill float64) {
	defer func() {
		if v := recover(); v != nil {
			fill = math.NaN()
			c.failed("SlotDetector.Slots", v)
		}
	}()
	return d.slots.Slots(q, ep)
}

// forgetEndpoint tells that a cell has gone, once nobody tells anything else of it.
func (c *Controller) forgetEndpoint(x *cell) {
	if x.asking > 0 {
		x.forget = true
		return
	}
	d := c.detector.forgets
	if d == nil {
		return
	}
	c.mu.Unlock()
	defer c.mu.Lock()
	defer func() {
		if v := recover(); v != nil {
			c.failed("Forgetter.Forget", v)
		}
	}()
	d.Forget(x.ep)
}

// firstTokenTakes is after how long a request that will not tell of its first token is
// presumed to have had it.
func (c *Controller) firstTokenTakes() time.Duration {
	return min(max(c.expectedTTFT(), presumedTTFT), maxPresumed)
}

// What LearnedBacklog and others keep is worked off in about the first. The second bounds
// what those say whose first tokens are seen.
const (
	presumedTTFT = 400 * time.Millisecond
	maxPresumed  = 5 * time.Second
)
