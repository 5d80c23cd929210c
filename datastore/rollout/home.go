package rollout

import (
	"bytes"
	"errors"
	"slices"
	"time"
)

// home is what is known of what the Home has.
type home struct {
	base  Record // what it had, as far as is known
	known bool   // base is to be written upon
	// written is the state that is there, as the last answer or Record said.
	written State
	pending *State // the one of the DoWrite under way; nil: none is
	// tried are those of which it is not known whether they were written.
	tried []State
	// overruled are the weights of somebody else that a person has said may be overwritten.
	overruled []Weight
	// behind is since when the Record shows an older state of ours: the zero time if it does not.
	behind time.Time
}

const (
	// mostTried is how many states are remembered of which it is not known whether they were written.
	mostTried = 16
	// staleFor is for how long the Record may show an older state of ours until it is tried whether that is there.
	staleFor = 30 * time.Second
)

// dirty reports whether there is something to write.
func (m *Machine) dirty() bool { return m.state.Seq != m.home.written.Seq }

// settled reports whether the weights of the state are in force, as far as is known.
func (m *Machine) settled() bool {
	return m.home.written.Epoch == m.state.Epoch && m.home.written.Seq > 0 && m.home.written.Plan == m.state.Plan
}

// weighed reports whether the weights that are in force, as far as is known, are those of the state.
func (m *Machine) weighed() bool {
	w := &m.home.written
	return w.Plan == m.state.Plan && !w.Changed && SameShares(w.Weights, m.state.Weights)
}

// read takes note of what the Home has.
func (m *Machine) read(r *Record) {
	h := &m.home
	if r == nil || m.dropped || h.pending != nil || m.begun && h.known && r.Revision == h.base.Revision {
		return
	}
	s, err := DecodeState(r.State)
	if err == nil && s.Plan == m.print && s.Step >= len(m.plan.Steps) {
		err = errorf("a state in step %d of a plan with %d steps", s.Step, len(m.plan.Steps))
	}
	later := err == nil && s.Seq > h.written.Seq
	switch {
	case !m.begun && !(later && s.Plan == m.print):
		m.start(r, s, err)
	case err == nil && h.isOurs(&s):
		m.confirm(s)
		m.known(r)
		m.compare(r)
	case later && s.Plan == m.print:
		m.adopt(r, s)
	case later:
		m.dropped = true
		m.tell(Warned, "another plan is in force: this one does nothing any more")
	case h.written.Plan == "":
		m.start(r, s, err) // somebody was quicker than its first state
	case err != nil || s.Plan != m.print:
		m.known(r)
		m.tell(Warned, "somebody has taken the state away: it is written again")
		m.change()
		m.compare(r)
	default:
		m.older(r)
	}
}

// known makes r what is written upon.
func (m *Machine) known(r *Record) {
	m.home.base, m.home.known, m.home.behind = *r, true, time.Time{}
	m.home.tried = nil
}

// isOurs reports whether s is what is written, or was tried.
func (h *home) isOurs(s *State) bool {
	text := s.Encode()
	same := func(o State) bool { return o.Seq == s.Seq && bytes.Equal(o.Encode(), text) }
	return h.written.Plan != "" && same(h.written) || slices.ContainsFunc(h.tried, same)
}

// confirm takes note that s is written.
func (m *Machine) confirm(s State) {
	before := m.home.written
	m.home.written = s
	if s.Epoch == m.state.Epoch && (before.Epoch != s.Epoch || before.Plan != s.Plan) {
		m.begin(m.now) // what was seen until now was seen with other weights
	}
}

// compare pauses if the weights are not those of the state that is written.
func (m *Machine) compare(r *Record) {
	w := &m.home.written
	if w.Plan == "" || w.over() || m.state.Changed {
		return
	}
	expected := w.Weights
	if w.Changed {
		expected = m.home.overruled
	}
	if !SameShares(r.Weights, expected) {
		m.changed(r)
	}
}

// changed pauses: somebody else has changed the weights.
func (m *Machine) changed(r *Record) {
	s := m.change()
	s.Changed, s.Weights = true, nil
	if s.over() {
		m.tell(Warned, "the weights were changed by somebody else, to %s: they are left as they are", words(r.Weights))
		return
	}
	s.Paused = brief("changed by somebody else: " + words(r.Weights))
	s.Reason = s.Paused
	m.tell(Paused, "the weights were changed by somebody else, to %s: they are left as they are, until somebody resumes "+
		"or aborts the rollout", words(r.Weights))
}

// adopt goes on from what another machine has written.
func (m *Machine) adopt(r *Record, s State) {
	abort := m.state.Phase == Aborting && m.dirty()
	why := m.state.Reason
	m.known(r)
	m.home.written, m.begun = s, true
	if m.take(s); s.Epoch != m.window.Epoch {
		m.begin(m.now)
	}
	m.tell(Restored, "another gateway has written it: it goes on in phase %s, step %d of %d", s.Phase, s.Step+1,
		len(m.plan.Steps))
	m.compare(r)
	if abort && !m.state.Changed && m.state.Phase != Aborting && !m.state.over() {
		m.abort(why)
	}
}

// older is told of a state of ours from before. Either it was read late, as from a cache, or somebody has put it back:
// a write tells, which in the latter case is a conflict, after which it is believed.
func (m *Machine) older(r *Record) {
	h := &m.home
	if h.known {
		switch {
		case h.behind.IsZero():
			h.behind = m.now
		case m.now.Sub(h.behind) >= staleFor:
			h.behind = m.now
			m.change()
		}
		return
	}
	m.known(r)
	m.change()
	m.compare(r)
}

// start looks at the weights that are there before a plan begins.
func (m *Machine) start(r *Record, before State, err error) {
	m.known(r)
	m.begun = true
	seq := m.home.written.Seq
	ours := false // they were written by a rollout before
	if err == nil {
		seq = max(seq, before.Seq)
		ours = !before.Changed && SameShares(before.Weights, r.Weights)
	}
	m.state = m.fresh(seq, m.now)
	m.home.written = State{Seq: seq}
	m.begin(m.now)
	stable, canary := at(r.Weights, m.plan.Stable), at(r.Weights, m.plan.Canary)
	others := slices.ContainsFunc(r.Weights, func(w Weight) bool {
		return w.Weight > 0 && w.Target != m.plan.Stable && w.Target != m.plan.Canary
	})
	switch {
	case stable <= 0 && canary > 0 && !others:
		m.refuse("the canary %s has all traffic already: %s", m.plan.Canary, words(r.Weights))
	case stable <= 0:
		m.refuse("the stable target %s has no traffic: the weights are %s", m.plan.Stable, words(r.Weights))
	case ours:
	case others:
		m.refuse("there are other targets than %s and %s: the weights are %s", m.plan.Stable, m.plan.Canary, words(r.Weights))
	case canary > 0:
		m.changed(r)
		m.state.Paused = brief("the canary has traffic already: " + words(r.Weights) + ": resumed, it begins without any")
	}
	if m.state.Phase == Loading {
		m.tell(Started, "from %s to %s in %d steps", m.plan.Stable, m.plan.Canary, len(m.plan.Steps))
	}
}

func at(all []Weight, target string) (n int32) {
	for _, w := range all {
		if w.Target == target {
			n += w.Weight
		}
	}
	return n
}

// refuse fails with the weights as they are.
func (m *Machine) refuse(format string, args ...any) {
	m.enter(Failed, 0, "")
	m.state.Changed, m.state.Weights = true, nil
	m.tell(Ended, format, args...)
	m.state.Reason = brief(m.actions[len(m.actions)-1].Event.Text)
}

// write writes what has changed.
func (m *Machine) write() {
	h := &m.home
	if !m.begun || m.dropped || !h.known || h.pending != nil || !m.dirty() {
		return
	}
	s := m.state
	h.pending = &s
	r := Record{Revision: h.base.Revision, Weights: s.Weights, State: s.Encode()}
	if s.Changed {
		r.Weights = h.base.Weights
	}
	m.actions = append(m.actions, Action{Do: DoWrite, Record: r})
}

// Written says how a DoWrite has ended: with a revision, or an error. After ErrConflict the next World must have a
// Record that was read later; after another error the same is tried again, for it may or may not have been written.
func (m *Machine) Written(now time.Time, revision string, err error) {
	h := &m.home
	if h.pending == nil {
		return
	}
	s := *h.pending
	h.pending, m.now = nil, now
	switch {
	case err == nil:
		weights := s.Weights
		if s.Changed {
			weights = h.base.Weights
		}
		m.confirm(s)
		m.known(&Record{Revision: revision, Weights: weights, State: s.Encode()})
	case errors.Is(err, ErrConflict):
		h.known = false
	default:
		h.tried = append(h.tried, s)
		if len(h.tried) > mostTried {
			h.tried = h.tried[1:]
		}
	}
}
