package rollout

import (
	"fmt"
	"strconv"
	"time"
)

// Machine is what decides about one rollout. It has no clock, does no I/O, starts no goroutine and knows no
// randomness: the same calls give the same actions. It is for one goroutine: guard it with a lock.
//
// Who owns it calls, about once a second,
//
//	for _, a := range m.Tick(now, world) {
//		do(a) // and m.Written after a DoWrite
//	}
//
// and Observe for each request of the two targets as it ends.
type Machine struct {
	plan  Plan
	print string // of the plan

	state   State
	begun   bool      // it has looked at the weights that were there
	dropped bool      // another plan is in force
	home    home      // what is kept of the state
	window  *Window   // what the own gateway has seen since the epoch began
	peers   peers     // what the others have
	inForce time.Time // since when the weights of the state are

	judging judging // of the epoch
	hold    holdKind
	wish    wish   // of a person
	failure int    // status of the last request of the canary that failed here; 0: it broke off, or there is none
	stop    string // why the canary is to be stopped at once; empty: it is not
	servers servers

	// Of the Tick under way, and of the last one.
	now      time.Time
	before   time.Time // of the Tick before
	world    World
	actions  []Action
	verdicts []Verdict
	// stopped are the verdicts of which one has stopped the canary in this Tick; nil: none has.
	stopped []Verdict
}

// NewMachine returns a machine that begins a plan, unless the first Record that it is told of has a state of it: then
// it goes on from there. If the weights of that Record do not fit the plan, it refuses to begin.
// The error is that of Plan.WithDefaults.
func NewMachine(p Plan, now time.Time) (*Machine, error) { return begin(p, 0, now) }

// begin returns a machine whose first state comes after seq.
func begin(p Plan, seq uint64, now time.Time) (*Machine, error) {
	p, err := p.WithDefaults()
	if err != nil {
		return nil, err
	}
	m := &Machine{plan: p, print: p.Fingerprint(), now: now}
	m.home.written.Seq = seq
	m.state = m.fresh(seq, now)
	m.begin(now)
	return m, nil
}

// fresh returns the state with which a plan begins.
func (m *Machine) fresh(seq uint64, now time.Time) State {
	return State{
		Plan: m.print, Seq: seq + 1, Epoch: seq + 1, Phase: Loading, Since: now, Weights: weightsAt(&m.plan, 0),
		Reason: "the canary is loaded first",
	}
}

// begin makes the window and what is thought of it fresh.
func (m *Machine) begin(now time.Time) {
	m.window = NewWindow(&m.plan, m.state.Epoch, now)
	m.judging = judging{streaks: make([]int, len(m.plan.Metrics))}
	m.inForce, m.stop, m.failure, m.verdicts = now, "", 0, nil
	m.peers.forget()
}

// Restore returns a machine that goes on from a state, with a fresh window for the step. A state of another plan
// begins anew, and takes its weights over as those of the rollout before. The error is that of Plan.WithDefaults, or
// says what is wrong with the state.
func Restore(p Plan, s State, now time.Time) (*Machine, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	m, err := begin(p, s.Seq, now)
	if err != nil || s.Plan != m.print {
		return m, err
	}
	if s.Step >= len(m.plan.Steps) {
		return nil, errorf("a state in step %d of a plan with %d steps", s.Step, len(m.plan.Steps))
	}
	m.home.written, m.begun = s, true
	m.take(s)
	m.begin(now)
	m.tell(Restored, "it goes on in phase %s, step %d of %d", s.Phase, s.Step+1, len(m.plan.Steps))
	return m, nil
}

// take goes on from a state.
func (m *Machine) take(s State) {
	m.state, m.hold = s, notHeld
	if s.Holding != "" {
		m.hold = heldBefore
	}
}

// Open is what a program calls with what it has read from a Home: NewMachine if there is no state, else Restore.
// A state that cannot be read is no error: it begins anew, and pauses if the canary has traffic.
func Open(p Plan, r Record, now time.Time) (*Machine, error) {
	if s, err := DecodeState(r.State); err == nil {
		if m, err := Restore(p, s, now); err == nil {
			return m, nil
		}
	}
	return NewMachine(p, now)
}

// Plan returns the plan with its defaults.
func (m *Machine) Plan() Plan { return m.plan }

// State returns where it is.
func (m *Machine) State() State { return m.state }

// Over reports whether it is Done or Failed and all is written, or another plan is in force: until Retry Tick does
// nothing.
func (m *Machine) Over() bool {
	return m.dropped || m.state.over() && m.begun && m.home.pending == nil && !m.dirty()
}

// Window returns what this machine's own gateway has seen since the epoch began. It must not be changed.
func (m *Machine) Window() *Window { return m.window }

// Verdicts returns what is thought of each metric just now, in the order of the plan. It is for people, and computed
// anew by each Tick; nil: nothing is judged. It must not be changed.
func (m *Machine) Verdicts() []Verdict { return m.verdicts }

// Holders returns the IDs of the servers that had the canary at the last Tick, and were ready, in order: no other may
// get its requests. It must not be changed.
func (m *Machine) Holders() []string { return m.servers.holders }

// Observe counts a sample, if it is of one of both targets. It is cheap and allocates nothing. urgent says that a Tick
// should follow at once: the canary is to be stopped.
func (m *Machine) Observe(s Sample) (urgent bool) {
	c := m.window.observe(&s)
	if c == &m.window.Canary && s.Failed {
		m.failure = s.Status
	}
	return c == &m.window.Canary && s.Failed && m.stop == "" && m.suspect(m.window)
}

// Hear replaces what another gateway has seen. A window of another epoch than that of the state does not count.
// The machine keeps w.
func (m *Machine) Hear(peer string, w *Window) (urgent bool) {
	if w.Epoch != m.state.Epoch {
		return false
	}
	m.peers.hear(peer, w)
	return m.stop == "" && m.suspect(w)
}

// suspect reports whether a window says that the canary is to be stopped at once, and makes a note of it.
func (m *Machine) suspect(w *Window) bool {
	if m.state.Phase != Stepping && m.state.Phase != Finishing || !w.hard() {
		return false
	}
	k, n := w.Canary.recently()
	m.stop = fmt.Sprintf("%d of the last %d requests failed, of the stable target %v", k, n,
		part{w.Stable.Errors, w.Stable.Requests}) + m.failedHow()
	return true
}

// failedHow says how the last request of the canary has failed; empty: that is not known.
func (m *Machine) failedHow() string {
	if m.failure == 0 {
		return ""
	}
	return "; the last one with status " + strconv.Itoa(m.failure)
}

// Tick goes on as far as it can, and says what is to be done. See World for what it must be told.
func (m *Machine) Tick(now time.Time, w World) []Action {
	m.now, m.world, m.stopped = now, w, nil
	if now.Before(m.inForce) { // the clock was set back, and must not put off what waits for it
		m.inForce = now
	}
	defer func() { m.before = now }()
	m.servers.see(now, w.Servers, m.plan.Load.Timeout)
	m.read(w.Record)
	if m.begun && !m.dropped {
		switch m.state.Phase {
		case Loading:
			m.load()
		case Stepping:
			m.step()
		case Aborting, Finishing:
			m.end()
		}
	}
	m.write()
	out := m.actions
	m.actions, m.world = nil, World{}
	return out
}

// change makes a new state of which a part will be changed.
func (m *Machine) change() *State {
	m.state.Seq++
	return &m.state
}

// enter goes to a phase and step.
func (m *Machine) enter(p Phase, step int, why string) {
	s := m.change()
	s.Phase, s.Step, s.Since, s.Reason, s.Holding = p, step, m.now, brief(why), ""
	m.hold = notHeld
}

// weigh enters a phase in which the canary has another weight, and a window of its own. What the window before says of
// the stable target is kept.
func (m *Machine) weigh(p Phase, step int, percent float64, why string) {
	if !m.state.Changed {
		m.state.Kept = keep(m.state.Kept, m.stable())
	}
	m.enter(p, step, why)
	m.state.Epoch, m.state.Weights, m.state.Changed = m.state.Seq, weightsAt(&m.plan, percent), false
	m.begin(m.now)
}

// tell makes an event.
func (m *Machine) tell(kind EventKind, format string, args ...any) {
	m.actions = append(m.actions, Action{Do: DoTell, Event: Event{At: m.now, Object: m.plan.Object, Kind: kind,
		Text: fmt.Sprintf(format, args...)}})
}

// holdKind is what holds a rollout.
type holdKind string

const (
	notHeld      holdKind = ""
	heldBefore   holdKind = "before"   // by what a state says that was written by another, or before a restart
	heldServers  holdKind = "servers"  // too few have the canary
	heldUnknown  holdKind = "unknown"  // it is not known which have it
	heldUnsure   holdKind = "unsure"   // a verdict takes more
	heldDeadline holdKind = "deadline" // the same for too long
	heldManual   holdKind = "manual"   // somebody must promote it
	heldRequests holdKind = "requests" // requests of what has lost are under way

	// The environment is in trouble.
	troubleReady  holdKind = "ready"     // too few servers are
	troubleFull   holdKind = "saturated" // the servers are full
	troubleStable holdKind = "stable"    // requests of the stable target fail
)

// holds notes what holds it: only another kind of reason is a change, figures are not.
func (m *Machine) holds(kind holdKind, format string, args ...any) {
	if m.hold == heldBefore && kind != notHeld {
		m.hold = kind // it need not be written again
		return
	}
	if kind == m.hold {
		return
	}
	m.hold = kind
	if kind == notHeld {
		m.tell(Continued, "it goes on, after it was held: %s", m.state.Holding)
		m.change().Holding = ""
		return
	}
	text := fmt.Sprintf(format, args...)
	m.change().Holding = brief(text)
	m.tell(Held, "%s", text)
}
