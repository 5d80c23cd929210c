package plugins

import (
	"math"
	"slices"
	"time"

	"github.com/inferpick/inferpick/internal/cost"
	"github.com/inferpick/inferpick/types"
)

// costServer is what Cost knows of one endpoint: this process's own requests there,
// what the engine reported beyond them, how fast it is, and when its steps end. Times
// are in seconds since Cost.epoch, amounts in tokens. All of it is guarded by the
// lock of Cost.table.
type costServer struct {
	index  int32 // in the table; -1: it was taken out
	handle int32 // slot in the prefix index; -1: none
	place  uint64

	// Own requests.
	requests   int
	prefilling int     // of these, without a first token
	head, tail *costed // those, oldest first
	queued     float64 // tokens that they have to compute
	owed       float64 // the same in base seconds
	context    float64 // of all of them, at half of their output
	computed   float64 // tokens that take up KV cache of their own
	adapters   adapterUse

	// What the endpoint reported.
	reading *types.Endpoint
	since   float64   // tokens to compute that were sent since
	raw     float64   // requests of others, averaged over readings
	known   bool      // raw is
	ended   []float64 // when own requests ended, since it was read

	claims claims // decisions for it that are under way; not guarded

	// The rhythm of its steps.
	stepEnds float64 // when the one under way is believed to end
	pending  float64 // seconds of prefill that go into the next one

	// How fast it is.
	start   serverRates
	learned cost.Server
	done    float64 // base seconds of prefill so far

	// What follows from all that: see Cost.derive.
	believed   float64 // how far the reading is, 0 to 1
	foreign    float64 // requests of others, as far as that
	decoding   float64 // sequences, those of others included
	baseStep   float64 // base seconds of a step that only decodes
	step       float64 // seconds of it
	mine       float64 // part of the requests there that are this process's, averaged
	carried    float64 // the most requests of late of which it is known that they were served together
	baseToken  float64 // base seconds of prefill for one token
	token      float64 // seconds of it
	outputCost float64 // weighted seconds that one more token of output costs here
	perContext float64 // the same for each token of the request's own context
	perClaim   float64 // by how much outputCost grows with one more request, without Cost.crowded
	kv         float64 // part of the KV cache that is believed to be in use
	kvTokens   float64 // its size; 0: not known
}

// publish makes s what decisions see.
func (s *costServer) publish(t *costTable) {
	if s.index < 0 {
		return
	}
	f := &t.figures[s.index]
	f.reading, f.handle, f.stepEnds = s.reading, s.handle, s.stepEnds
	f.pending, f.queued, f.step, f.token = float32(s.pending), float32(s.queued), float32(s.step), float32(s.token)
	f.decoding, f.outputCost, f.perContext = float32(s.decoding), float32(s.outputCost), float32(s.perContext)
	f.kv, f.perKV, f.mine = float32(s.kv), 0, float32(s.mine)
	if s.kvTokens > 0 {
		f.perKV = float32(1 / s.kvTokens)
	}
}

// sync is told that a step ended at the given time, which is known from a first or
// last token: prefills that were there by then are in the step that begins, later
// ones in the next. All tokens of a step leave the engine together, so that a gateway
// that sees some of them knows the rhythm of the engine.
func (s *costServer) sync(now, transport float64) {
	s.stepEnds, s.pending = now+s.step, 0
	if s.decoding < idle && s.head == nil {
		s.stepEnds = math.Inf(-1) // nothing is left to make another step
		return
	}
	left := s.queued // tokens of those that were not looked at
	n := 0
	for r := s.head; r != nil && n < manyPrefills; r = r.next {
		if r.sent+transport < now {
			s.stepEnds += r.work
		} else {
			s.pending += r.work
		}
		left -= r.compute
		n++
	}
	if n < s.prefilling {
		s.stepEnds += max(left, 0) * s.token
	}
}

// manyPrefills is how many requests without a first token are looked at one by one. Of a
// server that has more, which only has while far too much is sent there, the sum of the
// others is enough: else each event would cost as much as there are of them.
const manyPrefills = 256

// idle is as many sequences as mean that nothing runs.
const idle = .5

// until returns how long a request that reaches the engine at the given time waits
// for the step under way, and how much prefill will be in the next one beside its own.
// ends, pending, step and decoding are costServer's.
func until(at, ends, pending, step, decoding float64) (wait, beside float64) {
	if ends <= at && pending > 0 {
		ends, pending = ends+step+pending, 0 // that step has begun
	}
	switch past := at - ends; {
	case past < 0:
		return -past, pending
	case decoding < idle:
		return 0, 0
	case past < step:
		return step - past, 0 // the step after a known end only decodes
	}
	return step / 2, 0 // nothing is known any more
}

// add enters r, which was sent now.
func (s *costServer) add(r *costed, transport, batch float64) {
	at := r.sent + transport
	wait, beside := until(at, s.stepEnds, s.pending, s.step, s.decoding)
	r.wait, r.steps = wait, 1+math.Floor((s.queued+r.compute)/batch)
	r.predicted = transport + wait + beside + s.step*r.steps
	r.ahead, r.joined, r.behind, r.crowd = s.owed, beside*s.perSecond(), float64(s.prefilling), float64(s.requests)
	r.stepThen, r.beside, r.doneThen = s.baseStep, s.decoding, s.done
	if s.stepEnds <= at {
		s.stepEnds, s.pending = at+wait, 0
	}
	s.pending += r.work
	r.prev, r.next = s.tail, nil
	if s.tail != nil {
		s.tail.next = r
	} else {
		s.head = r
	}
	s.tail = r
	r.waiting = true
	s.requests++
	s.prefilling++
	s.since += r.compute
	s.queued += r.compute
	s.owed += r.base
	s.context += r.prompt + r.output/2
	s.computed += r.compute + r.output/2
}

// prefilled takes r out of those that wait for their first token.
func (s *costServer) prefilled(r *costed) {
	if !r.waiting {
		return
	}
	r.waiting = false
	if r.prev != nil {
		r.prev.next = r.next
	} else {
		s.head = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	} else {
		s.tail = r.prev
	}
	r.prev, r.next = nil, nil
	s.prefilling--
	s.queued -= r.compute
	s.owed -= r.base
	s.done += r.base
	if s.prefilling == 0 {
		s.queued, s.owed = 0, 0 // no dust of many additions
	}
}

// perSecond is the base seconds of prefill in a second.
func (s *costServer) perSecond() float64 {
	if s.token > 0 {
		return s.baseToken / s.token
	}
	return 0
}

// settle is told that prefills have gone that were not computed: what is believed of steps
// can be no more than what is left for them.
func (s *costServer) settle(now float64) {
	left := s.owed * s.token / s.baseToken
	s.pending = min(s.pending, left)
	s.stepEnds = min(s.stepEnds, now+s.step+left)
	if s.decoding < idle && s.head == nil {
		s.stepEnds = math.Inf(-1)
	}
}

// expire lets go of prefills that must be over by now although nobody saw a first
// token: a response that is not streamed shows none before its end.
func (s *costServer) expire(now float64) {
	n := 0
	for r := s.head; r != nil && n < manyPrefills; n++ {
		next := r.next
		if !r.streamed && now > r.sent+r.predicted+r.work {
			s.prefilled(r)
		}
		r = next
	}
}

// remove takes r off at its end.
func (s *costServer) remove(r *costed, now float64) {
	s.prefilled(r)
	if len(s.ended) == maxEnded {
		s.ended = s.ended[:copy(s.ended, s.ended[maxEnded/2:])]
	}
	s.ended = append(s.ended, now)
	s.requests--
	s.context -= r.prompt + r.output/2
	s.computed -= r.compute + r.output/2
	if s.requests == 0 {
		s.context, s.computed = 0, 0
	}
}

// maxEnded bounds the ends that are remembered of a server that is not read.
const maxEnded = 256

// endedSince returns how many own requests ended since an instant, and forgets those that did
// before.
func (s *costServer) endedSince(at float64) int {
	first, _ := slices.BinarySearch(s.ended, at)
	s.ended = s.ended[:copy(s.ended, s.ended[first:])]
	return len(s.ended)
}

// stay is the part of the requests on the page read last that have not ended since.
func (s *costServer) stay() float64 {
	m := &s.reading.Metrics
	if there := m.Waiting.Or(0) + m.Running.Or(0); there > 0 {
		return max(1-float64(len(s.ended))/there, 0)
	}
	return 1
}

// read takes over another reading of the endpoint, of the given time.
func (s *costServer) read(ep *types.Endpoint, at float64) {
	m := &ep.Metrics
	elapsed := math.Inf(1)
	if s.reading != nil && s.known {
		elapsed = m.UpdatedAt.Sub(s.reading.Metrics.UpdatedAt).Seconds()
	}
	s.reading = ep
	if elapsed <= 0 {
		return
	}
	// A page is of the time when it was asked for: what has ended since may still be on it.
	ended := s.endedSince(at)
	s.since = 0
	s.kvTokens = float64(cacheTokens(ep))
	if s.known = !m.UpdatedAt.IsZero() && (m.Waiting.IsKnown() || m.Running.IsKnown()); !s.known {
		s.raw = 0
		return
	}
	excess := m.Waiting.Or(0) + m.Running.Or(0) - float64(ep.Sent.Requests)
	if excess > 0 {
		excess = max(excess-float64(ended), 0)
	}
	s.raw += (1 - math.Exp(-elapsed/foreignSmoothing)) * (excess - s.raw)
}

// trust is how far a reading of such an age is believed, 0 to 1.
func trust(age time.Duration) float64 {
	return min(max(float64(staleAge-age)/float64(staleAge-freshAge), 0), 1)
}
