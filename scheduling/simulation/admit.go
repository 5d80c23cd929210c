package simulation

import (
	"errors"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
)

// admit asks whether a job may be scheduled. If not, it has ended, or will be answered.
func (s *sim) admit(l *live) bool {
	number := l.number
	t, queued, err := l.gateway.admission.Offer(admission.Arrival{Request: &l.req}, func(err error) {
		if l.number != number || l.ended {
			return
		}
		// Not at once: whoever caused it is in the middle of something.
		l.refusal = err
		l.planned++
		s.queue.push(event{at: s.now, kind: admitted, live: l})
	})
	if err != nil {
		s.refused(l, err)
		return false
	}
	l.ticket = t
	return !queued
}

// answered goes on with a job that waited.
func (s *sim) answered(l *live) {
	switch {
	case l.ended: // given up at the same moment
	case l.refusal != nil:
		s.refused(l, l.refusal)
	default:
		s.schedules(l)
	}
}

// refused ends a job that was not let in.
func (s *sim) refused(l *live, err error) {
	how := shed
	if r := (*admission.Refusal)(nil); errors.As(err, &r) && r.Reason.Unavailable() {
		how = failed
	}
	s.end(l, how)
}

// simClock is the clock of the simulated world.
type simClock struct{ s *sim }

func (c simClock) Now() time.Time { return c.s.time() }

func (c simClock) AfterFunc(d time.Duration, f func()) func() {
	t := &timerFunc{f}
	c.s.queue.push(event{at: c.s.now + max(d, 0), kind: timer, timer: t})
	return func() { t.f = nil }
}

// timerFunc is something that is to be done at a time.
type timerFunc struct{ f func() }

func (t *timerFunc) fire() {
	if t.f != nil {
		t.f()
	}
}

var _ admission.Clock = simClock{}
