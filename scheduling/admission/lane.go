package admission

import (
	"math"
	"slices"
	"time"

	"github.com/inferpick/inferpick/types"
)

// laneKey says which requests are alike as far as room goes: they have the same
// candidates, and the same target if the detector asks for it.
type laneKey struct {
	candidates string
	preferred  bool
	ttft       time.Duration
}

// lane is the requests of one key, and how full their candidates are. That is kept up
// to date endpoint by endpoint, as things happen: asking costs nothing.
type lane struct {
	key   laneKey
	match func(*types.Endpoint) bool // nil: all
	slot  int                        // in Controller.slots, and of its figures
	ready bool                       // all endpoints were asked about

	// The candidates, and those that are taken out. If all are they count as if none
	// were: a request that may fail is better than one that must.
	in, out tally

	queues  []*queue // that have had work; by priority, highest first
	queued  int
	touched time.Duration
}

// tally is what there is of endpoints.
type tally struct {
	members int
	known   int
	sum     int64 // of min(fill, 1), in units of 1/fixedOne: sums of these are exact
	room    []int // by ceiling: members below it
}

const (
	notMember = -1.0
	fixedOne  = 1 << 30
)

// count adds n endpoints as full as f says, or takes them off.
func (l *lane) count(f answer, n int, ceilings []float64) {
	if f.fill == notMember {
		return
	}
	t := &l.in
	if f.out {
		t = &l.out
	}
	t.members += n
	if f.fill != f.fill {
		return
	}
	t.known += n
	t.sum += int64(n) * int64(min(f.fill, 1)*fixedOne)
	for k, c := range ceilings {
		if f.fill < c {
			t.room[k] += n
		}
	}
}

// recount counts anew, by other ceilings.
func (c *Controller) recount(l *lane) {
	l.in, l.out = tally{room: make([]int, len(c.ceilings))}, tally{room: make([]int, len(c.ceilings))}
	for _, x := range c.cells {
		if x != nil {
			l.count(x.figure(l).answer, 1, c.ceilings)
		}
	}
}

// candidates are those that count.
func (l *lane) candidates() *tally {
	if l.in.members == 0 {
		return &l.out
	}
	return &l.in
}

func (l *lane) members() int { return l.candidates().members }

// has reports whether an endpoint is one of the candidates that count.
func (l *lane) has(x *cell) bool {
	f := x.figure(l)
	return f.fill != notMember && (!f.out || l.in.members == 0)
}

// seen returns the lane by which room is judged for another: of one whose candidates are
// only preferred, and of which there is none, the whole pool.
func (c *Controller) seen(l *lane) *lane {
	if l.key.preferred && l.members() == 0 {
		return c.whole
	}
	return l
}

// roomAt returns how many candidates have room below a ceiling. While nothing is known
// of any, all have.
func (l *lane) roomAt(ceiling int) int {
	t := l.candidates()
	if t.known == 0 {
		return t.members
	}
	return t.room[ceiling]
}

// saturation is how full the candidates are in the mean, 0..1; NaN if there is none of
// which anything is known.
func (l *lane) saturation() float64 {
	t := l.candidates()
	if t.known == 0 {
		return math.NaN()
	}
	return float64(t.sum) / fixedOne / float64(t.known)
}

// busyFrom reports whether requests of at least a priority wait here.
func (l *lane) busyFrom(priority int) bool {
	if l.queued == 0 {
		return false
	}
	for _, q := range l.queues {
		if q.band.priority < priority {
			return false
		}
		if q.queued > 0 {
			return true
		}
	}
	return false
}

// laneOf returns the lane of an arrival, and makes it if it is new. The lock is released
// while the endpoints are asked about.
func (c *Controller) laneOf(a *Arrival) *lane {
	key, match := laneKey{candidates: a.Candidates}, a.Match
	if match == nil || key.candidates == "" {
		key.candidates, match = "", nil
	}
	key.preferred = a.Preferred && key.candidates != ""
	if c.detector.target {
		key.ttft = coarse(a.Request.SLO.TTFT)
	}
	if key == c.whole.key {
		return c.whole
	}
	l := c.lanes[key]
	if l == nil {
		if len(c.lanes) >= c.o.MaxLanes && !c.forgetLane() {
			return c.whole
		}
		l = &lane{key: key, match: match}
		c.addLane(l)
	}
	l.touched = c.now
	if !l.ready {
		c.askAbout(l)
	}
	if !l.ready || c.lanes[key] != l {
		return c.whole // many are made at this moment, or this one was forgotten
	}
	return l
}

func (c *Controller) addLane(l *lane) {
	if l.slot = slices.Index(c.slots, nil); l.slot < 0 {
		l.slot = len(c.slots)
	}
	c.slots = slices.Clone(c.slots)
	if l.slot == len(c.slots) {
		c.slots = append(c.slots, nil)
	}
	c.slots[l.slot] = l
	c.lanes[l.key] = l
	c.recount(l)
}

// askAbout works out all of a new lane's figures.
func (c *Controller) askAbout(l *lane) {
	if c.making >= mostMaking {
		return
	}
	c.making++
	defer func() { c.making-- }()
	one := []*lane{l}
	for i := 0; i < len(c.cells); i++ {
		if x := c.cells[i]; x != nil {
			c.askFor(x, one, nil)
		}
	}
	l.ready = true
}

// mostMaking is how many may ask about new lanes at a time: Match may do what makes
// another.
const mostMaking = 2

// coarse rounds a target down to a power of two of milliseconds.
func coarse(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	p := time.Millisecond
	for 2*p <= d && p < time.Hour {
		p *= 2
	}
	return p
}

// forgetLane drops the lane that was used the longest ago and in which nothing waits.
func (c *Controller) forgetLane() bool {
	var oldest *lane
	for _, l := range c.lanes {
		if l.queued == 0 && (oldest == nil || l.touched < oldest.touched) {
			oldest = l
		}
	}
	if oldest == nil {
		return false
	}
	for _, q := range oldest.queues {
		q.band.drop(q)
	}
	delete(c.lanes, oldest.key)
	c.slots = slices.Clone(c.slots)
	c.slots[oldest.slot] = nil
	return true
}
