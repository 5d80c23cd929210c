package admission

import (
	"math"
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

	fills   []float64 // by cell; notMember, NaN for unknown, or the fill
	members int
	known   int
	sum     int64 // of min(fill, 1), in units of 1/fixedOne: sums of these are exact
	room    []int // by ceiling: members below it

	queues  []*queue // that have had work; by priority, highest first
	queued  int
	touched time.Time
}

const (
	notMember = -1.0
	fixedOne  = 1 << 30
)

// set notes how full cell i is.
func (l *lane) set(i int, fill float64, ceilings []float64) {
	old := l.fills[i]
	if old == fill {
		return
	}
	l.count(old, -1, ceilings)
	l.count(fill, 1, ceilings)
	l.fills[i] = fill
}

func (l *lane) count(fill float64, n int, ceilings []float64) {
	if fill == notMember {
		return
	}
	l.members += n
	if fill != fill {
		return
	}
	l.known += n
	l.sum += int64(n) * int64(min(fill, 1)*fixedOne)
	for k, c := range ceilings {
		if fill < c {
			l.room[k] += n
		}
	}
}

// seen returns the lane by which room is judged for another: of one whose candidates are
// only preferred, and of which there is none, the whole pool.
func (c *Controller) seen(l *lane) *lane {
	if l.members == 0 && l.key.preferred {
		return c.whole
	}
	return l
}

// roomAt returns how many candidates have room below a ceiling. While nothing is known
// of any, all have.
func (l *lane) roomAt(ceiling int) int {
	if l.known == 0 {
		return l.members
	}
	return l.room[ceiling]
}

// saturation is how full the candidates are in the mean, 0..1; NaN if there is none of
// which anything is known.
func (l *lane) saturation() float64 {
	if l.known == 0 {
		return math.NaN()
	}
	return float64(l.sum) / fixedOne / float64(l.known)
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

// laneOf returns the lane of an arrival, and makes it if it is new.
func (c *Controller) laneOf(a *Arrival, now time.Time) *lane {
	key, match := laneKey{candidates: a.Candidates}, a.Match
	if match == nil || key.candidates == "" {
		key.candidates, match = "", nil
	}
	key.preferred = a.Preferred && key.candidates != ""
	if c.usesTarget {
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
		c.fillLane(l)
		c.lanes[key] = l
	}
	l.touched = now
	return l
}

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

// fillLane works out all of a lane's figures.
func (c *Controller) fillLane(l *lane) {
	l.fills = make([]float64, len(c.cells))
	l.members, l.known, l.sum, l.room = 0, 0, 0, make([]int, len(c.ceilings))
	q := c.query(c.o.Clock.Now())
	for i := range l.fills {
		l.fills[i] = notMember
	}
	for _, cell := range c.cells {
		if cell != nil {
			l.set(cell.index, c.fillOf(l, cell, q), c.ceilings)
		}
	}
}

// forgetLane drops the lane that was used the longest ago and in which nothing waits.
func (c *Controller) forgetLane() bool {
	var oldest *lane
	for _, l := range c.lanes {
		if l.queued == 0 && (oldest == nil || l.touched.Before(oldest.touched)) {
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
	return true
}

func (c *Controller) query(now time.Time) Query {
	return Query{Now: now, StaleBefore: now.Add(-c.o.MetricsTTL)}
}

// fillOf asks the detector about a cell, for a lane.
func (c *Controller) fillOf(l *lane, cell *cell, q Query) float64 {
	if cell.ep.State != types.Ready || l.match != nil && !l.match(cell.ep) {
		return notMember
	}
	q.TTFT = l.key.ttft
	fill := c.o.Detector.Fill(q, cell.ep)
	if fill < 0 {
		return 0
	}
	return fill
}

// refresh works out anew how full a cell is, for all lanes.
func (c *Controller) refresh(cell *cell, now time.Time) {
	q := c.query(now)
	base := c.fillOf(c.whole, cell, q)
	c.whole.set(cell.index, base, c.ceilings)
	for _, l := range c.lanes {
		fill := base
		if l.match != nil && base != notMember && !l.match(cell.ep) {
			fill = notMember
		} else if l.key.ttft != 0 {
			fill = c.fillOf(l, cell, q)
		}
		l.set(cell.index, fill, c.ceilings)
	}
}
