package cost

import "math"

// StepEnded is told that a step ended now, which is known from a first or last token: prefills
// that were there by then are in the step that begins, later ones in the next. All tokens of a
// step leave the engine together, so that a gateway that sees some of them knows the rhythm of
// the engine.
func (s *Server) StepEnded(v *View, now Seconds) {
	step, transport := Seconds(s.step), Seconds(v.Rates.Transport)
	s.stepEnds, s.pending, s.joining = now+step, 0, 0
	if s.decoding < idle && s.waiting.Head == nil {
		s.stepEnds = Seconds(math.Inf(-1)) // nothing is left to make another step
		return
	}
	left := s.queued // tokens of those that were not looked at
	n := 0
	for at := s.waiting.Head; at != nil && n < manyPrefills; at = at.Next {
		r := at.Of
		switch {
		case r.Apart: // it is not known when it comes
		case r.sent+transport < now:
			s.stepEnds += r.work
		default:
			s.pending += r.work
			s.joining++
		}
		left -= r.compute
		n++
	}
	if n < s.prefilling {
		s.stepEnds += Seconds(float64(max(left, 0)) * s.token)
	}
}

// Settle is told that prefills have gone that were not computed: what is believed of steps
// can be no more than what is left for them.
func (s *Server) Settle(m *Model, now Seconds) {
	left := Seconds(s.owed * s.token / m.Engine.Token)
	s.pending = min(s.pending, left)
	s.stepEnds = min(s.stepEnds, now+Seconds(s.step)+left)
	if s.decoding < idle && s.waiting.Head == nil {
		s.stepEnds = Seconds(math.Inf(-1))
	}
}

// until returns how long a request that reaches the engine at the given time waits
// for the step under way, and how much prefill will be in the next one beside its own.
// ends, pending, step and decoding are Figures'.
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
