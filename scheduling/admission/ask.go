package admission

import (
	"math"
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
	all := &detector{Detector: d}
	all.first, _ = d.(Learner)
	all.served, _ = d.(ServiceLearner)
	all.readings, _ = d.(ReadingLearner)
	all.forgets, _ = d.(Forgetter)
	all.slots, _ = d.(SlotDetector)
	if t, ok := d.(TargetDetector); ok {
		all.target = c.usesTarget(t)
	}
	return all
}

// news is what a Detector that learns is told before it is asked. The zero value is
// nothing.
type news struct {
	reading bool
	since   Since
	first   bool
	served  Served
	ended   bool
}

// figure is how full an endpoint is for the requests of a lane.
type figure struct {
	of      *lane
	fill    float64 // notMember, NaN for unknown, or how full
	out     bool    // it is taken out
	version uint64  // of what was asked; 0: nothing was
}

// mostAsking is how many may ask about one endpoint at a time, and about the endpoints of
// one lane: who is asked may do what makes the Controller ask again.
const mostAsking = 2

// ask works out anew how full a cell is, for all lanes, after something happened there:
// what the Detector learns from it, it is told first. The lock is released meanwhile, so
// everything else may have changed after. A later answer is never overwritten by
// one that was asked for earlier.
func (c *Controller) ask(x *cell, n news) {
	if x == nil {
		return
	}
	if x.asking >= mostAsking {
		x.again = true // whoever asks now does so again, once
		return
	}
	x.again = false
	c.askFor(x, c.slots, n)
	if x.again && x.asking == 0 {
		x.again = false
		c.askFor(x, c.slots, news{})
	}
}

// question is what is asked about an endpoint.
type question struct {
	d     *detector
	ep    *types.Endpoint
	q     Query
	lanes []*lane
	news  news
}

// askFor is ask for some lanes.
func (c *Controller) askFor(x *cell, lanes []*lane, n news) {
	x.settle(c.now, c.firstTokenTakes())
	c.version++
	version := c.version
	var room [8]figure
	figures := c.outside(x, question{c.detector, x.ep, c.query(x), lanes, n}, room[:0])
	for i, f := range figures {
		f.of, f.version = lanes[i], version
		c.note(x, lanes[i], f)
	}
	if x.asking == 0 && x.forget {
		x.forget = false
		c.forgetEndpoint(x)
	}
}

// outside calls what is the user's, without the lock, and appends the answers to figures.
func (c *Controller) outside(x *cell, q question, figures []figure) []figure {
	x.asking++
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		x.asking--
	}()
	if q.news != (news{}) {
		c.teach(&q)
	}
	for i, l := range q.lanes {
		f := figure{fill: notMember}
		switch {
		case l == nil:
		case i == 0 || q.lanes[0] != c.whole || l.key.ttft != 0:
			f = c.figureOf(&q, l)
		case c.matches(l.match, q.ep):
			f = figures[0] // it asks for what the whole pool does
		}
		figures = append(figures, f)
	}
	return figures
}

// figureOf asks how full an endpoint is for a lane.
func (c *Controller) figureOf(q *question, l *lane) figure {
	f := figure{fill: notMember}
	if q.ep.State != types.Ready || !c.matches(l.match, q.ep) {
		return f
	}
	_, f.out = q.ep.Load.Out(q.q.Now)
	if q.q.asleep(q.ep) {
		f.fill = math.Inf(1)
		return f
	}
	query := q.q
	query.TTFT = l.key.ttft
	f.fill = c.fill(q.d, query, q.ep)
	if f.fill < 0 {
		f.fill = 0
	}
	return f
}

// note takes an answer.
func (c *Controller) note(x *cell, l *lane, f figure) {
	if l == nil || l.slot >= len(c.slots) || c.slots[l.slot] != l {
		return // it was forgotten meanwhile
	}
	old := x.figure(l)
	if f.version < old.version {
		return
	}
	if x.member && (old.fill != f.fill || old.out != f.out) {
		l.count(*old, -1, c.ceilings)
		l.count(f, 1, c.ceilings)
	}
	*old = f
	if l == c.whole {
		c.mayChange(x)
	}
}

// mayChange keeps when a cell changes though nothing happens there.
func (c *Controller) mayChange(x *cell) {
	if until, out := x.ep.Load.Out(c.wall); out && until.Before(types.Forever) {
		c.changes = min(c.changes, after(c.now, max(until.Sub(c.wall), 0)))
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

func (c *Controller) fill(d *detector, q Query, ep *types.Endpoint) (fill float64) {
	defer func() {
		if v := recover(); v != nil {
			fill = math.NaN()
			c.failed("Detector.Fill", v)
		}
	}()
	return d.Fill(q, ep)
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

func (c *Controller) matches(match func(*types.Endpoint) bool, ep *types.Endpoint) bool {
	if match == nil {
		return true
	}
	defer func() {
		if v := recover(); v != nil {
			c.failed("Arrival.Match", v)
		}
	}()
	return match(ep)
}

// teach tells a Detector what it may learn from.
func (c *Controller) teach(q *question) {
	in := "Detector"
	defer func() {
		if v := recover(); v != nil {
			c.failed(in, v)
		}
	}()
	if q.news.reading && q.d.readings != nil {
		in = "ReadingLearner.Reading"
		q.d.readings.Reading(q.ep, q.news.since)
	}
	if q.news.first && q.d.first != nil {
		in = "Learner.FirstToken"
		q.d.first.FirstToken(q.ep, q.news.served.Ahead, q.news.served.Took)
	}
	if (q.news.first || q.news.ended) && q.d.served != nil {
		in = "ServiceLearner.Served"
		q.d.served.Served(q.ep, q.news.served)
	}
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
			c.failed("Forget", v)
		}
	}()
	d.Forget(x.ep)
}

func (c *Controller) query(x *cell) Query {
	q := Query{Now: c.wall, StaleBefore: c.wall.Add(-c.o.MetricsTTL)}
	if x != nil {
		q.Presumed = x.presumed
	}
	return q
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
