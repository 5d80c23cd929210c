// Package room keeps how much room a pool's endpoints have for the requests of each lane,
// endpoint by endpoint, so that asking costs nothing. It has no lock and no clock: callers
// guard it, and how full an endpoint is they are told by a detector.
package room

import (
	"iter"
	"math"
	"slices"
)

// Answer is how full an endpoint is for the requests of a lane: NotMember, NaN for unknown,
// or its fill.
type Answer struct {
	Fill float64
	Out  bool // it is taken out: it counts only if all are
}

// NotMember is the fill of an endpoint that may not serve a lane's requests.
const NotMember = -1.0

// same reports whether two answers count alike.
func (a Answer) same(b Answer) bool {
	return a.Out == b.Out && (a.Fill == b.Fill || a.Fill != a.Fill && b.Fill != b.Fill)
}

// Table is the endpoints of a pool and the lanes that they serve.
type Table struct {
	ceilings  []float64
	lanes     []*Lane // by Lane.slot; nil: free. Replaced, never changed
	endpoints []*Endpoint
	// perBooking is by how much one request fills an endpoint; 0: not known.
	perBooking float64
}

// Lanes returns the lanes by slot; some are nil. The list does not change.
func (t *Table) Lanes() []*Lane { return t.lanes }

// Endpoints returns the endpoints. More may join, and some leave, meanwhile.
func (t *Table) Endpoints() iter.Seq[*Endpoint] {
	return func(yield func(*Endpoint) bool) {
		for i := 0; i < len(t.endpoints); i++ {
			if x := t.endpoints[i]; x != nil && !yield(x) {
				return
			}
		}
	}
}

// Ceiling returns one of the ceilings by its index.
func (t *Table) Ceiling(i int) float64 { return t.ceilings[i] }

// SetCeilings says at which fills room ends; RoomAt is asked by their indices.
func (t *Table) SetCeilings(ceilings []float64) {
	t.ceilings = ceilings
	for _, l := range t.lanes {
		if l != nil {
			t.recount(l)
		}
	}
}

// AddLane adds a lane, for which every endpoint is to be asked about.
func (t *Table) AddLane(l *Lane) {
	if l.slot = slices.Index(t.lanes, nil); l.slot < 0 {
		l.slot = len(t.lanes)
	}
	t.lanes = slices.Clone(t.lanes)
	if l.slot == len(t.lanes) {
		t.lanes = append(t.lanes, nil)
	}
	t.lanes[l.slot] = l
	t.recount(l)
}

// RemoveLane forgets a lane.
func (t *Table) RemoveLane(l *Lane) {
	t.lanes = slices.Clone(t.lanes)
	t.lanes[l.slot] = nil
}

// Has reports whether the lane is one of the table's.
func (t *Table) Has(l *Lane) bool { return l.slot < len(t.lanes) && t.lanes[l.slot] == l }

// Join adds an endpoint. It reports whether it has yet to be asked about for some lane.
func (t *Table) Join(x *Endpoint) (unasked bool) {
	x.member = true
	if x.index = slices.Index(t.endpoints, nil); x.index < 0 {
		x.index = len(t.endpoints)
		t.endpoints = append(t.endpoints, nil)
	}
	t.endpoints[x.index] = x
	for _, l := range t.lanes {
		if l != nil {
			f := x.figure(l)
			l.count(f.Answer, 1, t.ceilings)
			unasked = unasked || f.version == 0
		}
	}
	return unasked
}

// Leave takes an endpoint out.
func (t *Table) Leave(x *Endpoint) {
	for _, l := range t.lanes {
		if l != nil {
			l.count(x.figure(l).Answer, -1, t.ceilings)
		}
	}
	x.member = false
	t.endpoints[x.index] = nil
}

// Note takes an answer about an endpoint for a lane. One to an earlier question than that
// of the answer that is kept is left alone, as is one for a lane that was forgotten.
func (t *Table) Note(x *Endpoint, l *Lane, a Answer, version uint64) {
	if l == nil || !t.Has(l) {
		return
	}
	f := x.figure(l)
	if version < f.version {
		return
	}
	if x.member && !f.same(a) {
		l.count(f.Answer, -1, t.ceilings)
		l.count(a, 1, t.ceilings)
	}
	f.Answer, f.version = a, version
}

// recount counts a lane anew, by other ceilings.
func (t *Table) recount(l *Lane) {
	l.in, l.out = tally{room: make([]int, len(t.ceilings))}, tally{room: make([]int, len(t.ceilings))}
	for x := range t.Endpoints() {
		l.count(x.figure(l).Answer, 1, t.ceilings)
	}
}

// MayGrant returns how many requests may be let in from a lane and not be booked yet: each
// takes room of which nothing is seen. An endpoint with room has it for one more; where
// there is much more room than a request takes, half of it may be on its way.
func (t *Table) MayGrant(l *Lane, ceiling int) int {
	room := l.RoomAt(ceiling)
	n := l.candidates()
	if room == 0 || n.known == 0 || t.perBooking == 0 {
		return room
	}
	free := t.ceilings[ceiling]*float64(n.known) - float64(n.sum)/fixedOne
	return max(room, int(min(free/(2*t.perBooking), maxGranted)))
}

const maxGranted = 1000

// KnowsBooking reports whether it is known by how much one request fills an endpoint.
func (t *Table) KnowsBooking() bool { return t.perBooking > 0 }

// LearnBooking keeps how much a request fills an endpoint, at most: by those that have no
// first token yet, as if these were all that fills it.
func (t *Table) LearnBooking(x *Endpoint, whole *Lane, prefilling int64) {
	fill := x.figure(whole).Fill
	if !(fill > 0) || math.IsInf(fill, 1) {
		return
	}
	v := fill / float64(max(prefilling, 1))
	if t.perBooking == 0 {
		t.perBooking = v
	} else {
		t.perBooking += 0.1 * (v - t.perBooking)
	}
}
