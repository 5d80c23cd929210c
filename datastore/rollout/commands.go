package rollout

import (
	"cmp"
	"time"
)

// Pause stops it where it is, until Resume. Only Abort and a hard stop go on then. It is an error if it is over, or
// paused already.
func (m *Machine) Pause(now time.Time, why string) error {
	switch {
	case !m.running():
		return m.cannot("pause", m.idle())
	case m.state.Paused != "":
		return m.cannot("pause", "it is paused already: "+m.state.Paused)
	}
	m.now = now
	m.change().Paused = brief(cmp.Or(why, "by hand"))
	m.tell(Paused, "%s", m.state.Paused)
	return nil
}

// Resume goes on. If somebody else had changed the weights, those of the step are written again. What a step has shown
// so far is forgotten: it begins anew. It is an error if it is not paused.
func (m *Machine) Resume(now time.Time, why string) error {
	if m.state.Paused == "" || !m.running() {
		return m.cannot("resume", "it is not paused")
	}
	m.now = now
	percent := 0.
	switch m.state.Phase {
	case Stepping:
		percent = m.percent()
	case Finishing:
		percent = 100
	}
	m.overrule()
	m.weigh(m.state.Phase, m.state.Step, percent, cmp.Or(why, "resumed by hand"))
	m.state.Paused = ""
	m.tell(Resumed, "%s", m.state.Reason)
	return nil
}

// overrule says that the weights which are there may be overwritten, whoever has written them.
func (m *Machine) overrule() {
	if m.state.Changed {
		m.home.overruled = m.home.base.Weights
	}
}

// Promote goes to the next step without waiting for a verdict, or with full to the last one, which is then not judged
// but for a hard stop. If the weights of the step are not written yet, the former waits for that. It is an error if no
// server has the canary, or somebody else has changed the weights.
func (m *Machine) Promote(now time.Time, full bool, why string) error {
	switch {
	case m.state.Phase != Stepping:
		return m.cannot("promote", "it is in no step")
	case m.state.Changed:
		return m.cannot("promote", "somebody else has changed the weights: resume it first")
	case len(m.servers.holders) == 0:
		return m.cannot("promote", "no server that is ready has the canary")
	case m.stop != "":
		return m.cannot("promote", m.stop)
	}
	m.now = now
	m.change().Paused = ""
	m.wish = wish{epoch: m.state.Epoch, full: full, why: cmp.Or(why, "promoted by hand")}
	if full || m.weighed() {
		m.promote()
	}
	return nil
}

// wish is a promotion that waits until the weights of its step are written: else two steps would become one.
type wish struct {
	epoch uint64 // 0: there is none
	full  bool
	why   string
}

// promote does what was wished of this step, and reports whether something was.
func (m *Machine) promote() bool {
	w := m.wish
	m.wish = wish{}
	if w.epoch != m.state.Epoch {
		return false
	}
	if last := len(m.plan.Steps) - 1; w.full && m.state.Step < last {
		m.toStep(last, w.why)
	} else if !w.full {
		m.forward(w.why)
	}
	m.state.Full = m.state.Full || w.full
	return true
}

// Abort gives the stable target everything, whatever state it is in, but Done and Failed, and once the stable target
// is being unloaded.
func (m *Machine) Abort(now time.Time, why string) error {
	switch {
	case !m.running():
		return m.cannot("abort", m.idle())
	case m.state.Phase == Aborting && !m.state.Changed && m.state.Paused == "":
		return nil
	case m.stableGone():
		return m.cannot("abort", m.plan.Stable+" is being unloaded")
	}
	m.now = now
	m.overrule()
	m.abort(cmp.Or(brief(why), "aborted by hand"))
	return nil
}

// Retry begins a failed rollout anew.
func (m *Machine) Retry(now time.Time, why string) error {
	if m.state.Phase != Failed {
		return m.cannot("retry", "it has not failed")
	}
	m.now, m.begun = now, false
	m.servers.askAnew()
	m.tell(Resumed, "begun anew: %s", cmp.Or(why, "by hand"))
	return nil
}

// running reports whether it is not over.
func (m *Machine) running() bool { return m.begun && !m.state.over() }

func (m *Machine) idle() string {
	if !m.begun {
		return "it has not begun"
	}
	return "it is over"
}

func (m *Machine) cannot(do, why string) error {
	return errorf("cannot %s the rollout of %s in phase %s: %s", do, m.plan.Canary, m.state.Phase, why)
}
