package admission

import (
	"math"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission/internal/room"
	"github.com/inferpick/inferpick/types"
)

// pool is the endpoints, how full they are for each lane, and which of them are to be asked
// about. It has no lock, and calls nothing of the user's.
type pool struct {
	present
	detector   *detector
	metricsTTL time.Duration

	table   room.Table
	byLoad  map[*types.Load]*cell // those of table, and those that will be
	whole   *lane                 // the whole pool
	lanes   map[laneKey]*lane
	renewAt time.Duration // when to look for readings that have become too old
	changes time.Duration // when a cell may change though nothing happens there, at the earliest
	ttft    room.FirstTokens
	silent  room.Part // of requests without a first token, those of which it is presumed

	todo    backlog
	version uint64 // of what is asked: later ones are newer
	spare   []room.Answer
}

func newPool() pool {
	p := pool{byLoad: map[*types.Load]*cell{}, lanes: map[laneKey]*lane{}, whole: newLane(laneKey{}, nil), changes: noInstant}
	p.whole.ready = true
	p.table.AddLane(&p.whole.room)
	return p
}

// keyOf returns the key of an arrival's lane, and its Match if that counts.
func keyOf(a *Arrival, target bool) (laneKey, func(*types.Endpoint) bool) {
	key, match := laneKey{candidates: a.Candidates}, a.Match
	if match == nil || key.candidates == "" {
		key.candidates, match = "", nil
	}
	key.preferred = a.Preferred && key.candidates != ""
	if target {
		key.ttft = coarse(a.Request.SLO.TTFT)
	}
	return key, match
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

// cellOf returns the cell of an endpoint, nil if it is not in the pool.
func (p *pool) cellOf(ep *types.Endpoint) *cell {
	if ep == nil || ep.Load == nil {
		return nil
	}
	if x := p.byLoad[ep.Load]; x != nil && x.room.Member() {
		return x
	}
	return nil
}

// seen returns the lane by which room is judged for another: of one whose candidates are
// only preferred, and of which there is none, the whole pool.
func (p *pool) seen(l *lane) *room.Lane {
	if l.key.preferred && l.room.Members() == 0 {
		return &p.whole.room
	}
	return &l.room
}

// has reports whether a lane has not been forgotten.
func (p *pool) has(l *lane) bool { return l == p.whole || p.lanes[l.key] == l }

// hear takes a reading of an endpoint, in the pool or not yet, which is asked about next.
// changed: it takes requests now or no longer.
func (p *pool) hear(ep *types.Endpoint) (x *cell, changed bool) {
	x = p.byLoad[ep.Load]
	var n news
	switch {
	case x == nil:
		x = &cell{ep: ep}
		x.room.Of = x
		p.byLoad[ep.Load] = x
	case ep.Metrics.UpdatedAt.Before(x.ep.Metrics.UpdatedAt):
		return x, false
	case p.detector.readings != nil && ep.Metrics.UpdatedAt.After(x.ep.Metrics.UpdatedAt):
		n = news{reading: true, since: x.since}
		x.since = Since{}
	}
	changed = x.ep.State != ep.State
	x.ep, x.stale, x.room.Away = ep, false, ep.State != types.Ready
	p.later(x, n)
	return x, changed
}

// join makes a cell one of the pool, if it is none.
func (p *pool) join(x *cell) {
	if x.room.Member() {
		return
	}
	p.byLoad[x.ep.Load] = x
	x.gone, x.forget = false, false
	p.measure(x)
	if p.table.Join(&x.room) { // some lane is newer than what was asked
		p.later(x, news{})
	}
}

func (p *pool) remove(x *cell) {
	p.table.Leave(&x.room)
	delete(p.byLoad, x.ep.Load)
	x.gone, x.forget = true, true
	p.later(x, news{}) // which tells the Detector
}

// replace makes cells the pool, all at once: others are removed.
func (p *pool) replace(cells []*cell) {
	in := make(map[*cell]bool, len(cells))
	for _, x := range cells {
		if other := p.byLoad[x.ep.Load]; other != nil {
			x = other // it went, and came again, by other calls
		}
		p.join(x)
		in[x] = true
	}
	for of := range p.table.Endpoints() {
		if x := of.Of.(*cell); !in[x] {
			p.remove(x)
		}
	}
	for load, x := range p.byLoad {
		if !x.room.Member() && x.asking == 0 {
			delete(p.byLoad, load) // what was asked about it never returned
		}
	}
}

// later has a cell asked about. What the Detector learns from it, it is told first. Nil is
// none.
func (p *pool) later(x *cell, n news) {
	if x == nil {
		return
	}
	if n.nothing() {
		if x.again {
			return
		}
		x.again = true
	}
	p.todo.push(x, n)
}

// question fills in what is asked about a cell for some lanes, once those first tokens are
// presumed that are due.
func (p *pool) question(q *question, x *cell, lanes []*room.Lane) {
	x.room.Presume(p.now, p.ttft.Presumed())
	x.asking++
	p.version++
	q.d, q.ep, q.lanes, q.version = p.detector, x.ep, lanes, p.version
	q.now, q.presumed, q.answers = p.date(), p.presumed(x), p.spare[:0]
	q.oldest = q.now.Add(-p.metricsTTL)
	p.spare = nil
}

// presumed returns of how many requests at a cell's endpoint the first token is presumed: of
// those of other gateways, which do not say, as large a part as of this one's of late.
func (p *pool) presumed(x *cell) int {
	own := x.room.Presumed()
	theirs := x.ep.Load.Peers().Prefilling
	if theirs <= 0 {
		return own
	}
	return own + int(math.Round(p.silent.Of(float64(own), float64(x.ep.Load.Prefilling()))*float64(theirs)))
}

// measure keeps how many requests are in flight at a cell's endpoint.
func (p *pool) measure(x *cell) { x.room.Measure(p.now, float64(x.ep.Load.Known().Requests)) }

// answered takes the answers. A later one is never overwritten by one that was asked for
// earlier.
func (p *pool) answered(x *cell, q *question) {
	x.asking--
	p.spare = q.answers
	for i, a := range q.answers {
		p.table.Note(&x.room, q.lanes[i], a, q.version)
	}
	p.mayChange(x)
	if x.forget {
		p.later(x, news{})
	}
}

// mayChange keeps when a cell changes though nothing happens there.
func (p *pool) mayChange(x *cell) {
	now := p.date()
	if until, out := x.ep.Load.Out(now); out && until.Before(types.Forever) {
		p.changes = min(p.changes, after(p.now, max(until.Sub(now), 0)))
	}
	if since, ok := x.room.Silent(); ok {
		p.changes = min(p.changes, since+p.ttft.Presumed())
	}
}

// mayHaveChanged reports whether it is time for outdated.
func (p *pool) mayHaveChanged() bool { return p.now >= p.renewAt || p.now >= p.changes }

// outdated has those asked about of which something has changed though nothing happened
// there that would tell, perhaps because nothing is let in any more: the reading has become
// too old, or the endpoint was taken out or in.
func (p *pool) outdated() {
	p.renewAt, p.changes = p.now+p.metricsTTL/4, noInstant
	now := p.date()
	oldest := now.Add(-p.metricsTTL)
	for of := range p.table.Endpoints() {
		x := of.Of.(*cell)
		_, out := x.ep.Load.Out(now)
		tooOld := !x.stale && x.ep.Metrics.UpdatedAt.Before(oldest)
		x.stale = x.stale || tooOld
		since, silent := of.Silent()
		settles := silent && since+p.ttft.Presumed() <= p.now
		if tooOld || settles || out != of.Answer(&p.whole.room).Out && x.ep.State == types.Ready {
			p.later(x, news{})
		} else {
			p.mayChange(x)
		}
	}
}

// untold reports whether those that a lane has room at were taken out, and nobody has told.
func (p *pool) untold(l *lane) bool {
	by := p.seen(l)
	if by.RoomAt(0) == 0 {
		return false
	}
	untold, now := false, p.date()
	for x := range p.table.Endpoints() {
		if a := x.Answer(by); a.Out || a.Fill == room.NotMember || !(a.Fill < p.table.Ceiling(0)) {
			continue
		}
		if _, out := x.Of.(*cell).ep.Load.Out(now); !out {
			return false
		}
		untold = true
	}
	return untold
}

// backlog is the endpoints that are to be asked about, the first first.
type backlog struct {
	list []todo
	next int // what is before it is done
}

type todo struct {
	x    *cell
	news news
}

func (b *backlog) len() int { return len(b.list) - b.next }

func (b *backlog) push(x *cell, n news) { b.list = append(b.list, todo{x, n}) }

// pop takes the first; there must be one.
func (b *backlog) pop() (*cell, news) {
	first := b.list[b.next]
	b.list[b.next] = todo{}
	if b.next++; b.next == len(b.list) {
		b.list, b.next = b.list[:0], 0
	}
	if first.news.nothing() {
		first.x.again = false
	}
	return first.x, first.news
}
