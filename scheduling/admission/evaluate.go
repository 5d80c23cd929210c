package admission

import (
	"math"
	"slices"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission/internal/room"
	"github.com/inferpick/inferpick/types"
)

// What is the user's and is asked before something is decided: without a lock.

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

// newDetector looks a Detector up. If it panics, p says so.
func newDetector(d Detector) (all *detector, p *Panic) {
	all = &detector{
		Detector: d, first: as[Learner](d), served: as[ServiceLearner](d), readings: as[ReadingLearner](d),
		forgets: as[Forgetter](d), slots: as[SlotDetector](d),
	}
	if t := as[TargetDetector](d); t != nil {
		p = guarded("TargetDetector.UsesTarget", func() { all.target = t.UsesTarget() })
	}
	return all, p
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

// news is what a Detector that learns is told before it is asked. The zero value is
// nothing.
type news struct {
	reading bool
	since   Since
	first   bool
	served  Served
	ended   bool
	booked  *Ticket // takes the room that is seen then
}

func (n *news) nothing() bool { return !n.reading && !n.first && !n.ended && n.booked == nil }

// question is what is asked about an endpoint for some lanes, and what was answered.
type question struct {
	d           *detector
	ep          *types.Endpoint
	now, oldest time.Time
	presumed    int
	lanes       []*room.Lane
	version     uint64
	gone        bool // only that is told

	answers []room.Answer // up to a function that ended its goroutine
	panics  []*Panic
}

// ask calls what is the user's. Of what panics nothing is known, or the endpoint may not
// serve it.
func (q *question) ask(n *news) {
	if n != nil {
		q.tell(n)
	}
	for len(q.answers) < len(q.lanes) {
		q.askSome()
	}
}

// tell tells a Detector what it may learn from.
func (q *question) tell(n *news) {
	in := ""
	defer func() {
		if p := caught(in, recover()); p != nil {
			q.panics = append(q.panics, p)
		}
	}()
	if q.gone {
		in = "Forgetter.Forget"
		q.d.forgets.Forget(q.ep)
		return
	}
	if n.reading && q.d.readings != nil {
		in = "ReadingLearner.Reading"
		q.d.readings.Reading(q.ep, n.since)
	}
	if n.first && q.d.first != nil {
		in = "Learner.FirstToken"
		q.d.first.FirstToken(q.ep, n.served.Ahead, n.served.Took)
	}
	if (n.first || n.ended) && q.d.served != nil {
		in = "ServiceLearner.Served"
		q.d.served.Served(q.ep, n.served)
	}
}

// askSome asks up to a function that panics.
func (q *question) askSome() {
	in, failing := "", room.Answer{}
	defer func() {
		if p := caught(in, recover()); p != nil {
			q.panics = append(q.panics, p)
			q.answers = append(q.answers, failing)
		}
	}()
	query := Query{Now: q.now, StaleBefore: q.oldest, Presumed: q.presumed}
	_, out := q.ep.Load.Out(q.now)
	for _, of := range q.lanes[len(q.answers):] {
		a := room.Answer{Fill: room.NotMember}
		in, failing = "Arrival.Match", a
		var l *lane
		if of != nil {
			l = of.Of.(*lane)
		}
		switch {
		case l == nil || q.ep.State != types.Ready || l.match != nil && !l.match(q.ep):
		case query.asleep(q.ep):
			a = room.Answer{Fill: math.Inf(1), Out: out}
		case l.key.ttft == 0 && len(q.answers) > 0 && q.lanes[0].Of.(*lane).key == laneKey{}:
			a = q.answers[0] // what the whole pool is asked for
		default:
			in, failing = "Detector.Fill", room.Answer{Fill: math.NaN(), Out: out}
			query.TTFT = l.key.ttft
			a = room.Answer{Fill: q.d.Fill(query, q.ep), Out: out}
			if a.Fill < 0 {
				a.Fill = 0
			}
		}
		q.answers = append(q.answers, a)
	}
}

// places are the endpoints that have a place, by a SlotDetector.
type places struct {
	d       *detector // nil: all have
	query   Query
	ceiling float64
	panics  []*Panic
}

// of leaves out what has no place, see Ticket.Candidates.
func (p *places) of(dst, eps []*types.Endpoint) []*types.Endpoint {
	some := slices.ContainsFunc(eps, p.query.away)
	if p.d == nil && !some {
		return eps
	}
	from, here := len(dst), 0
	for _, ep := range eps {
		if some && p.query.away(ep) {
			continue
		}
		here++
		if p.d == nil || !(p.taken(ep) >= p.ceiling) {
			dst = append(dst, ep)
		}
	}
	if len(dst) == from && here > 0 && here < len(eps) { // none of those that are in has
		for _, ep := range eps {
			if !p.query.away(ep) {
				dst = append(dst, ep)
			}
		}
	}
	if n := len(dst) - from; n == 0 || n == len(eps) {
		return eps
	}
	return dst
}

func (p *places) taken(ep *types.Endpoint) (fill float64) {
	if failed := guarded("SlotDetector.Slots", func() { fill = p.d.slots.Slots(p.query, ep) }); failed != nil {
		p.panics = append(p.panics, failed)
		return math.NaN()
	}
	return fill
}
