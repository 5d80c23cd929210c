package rollout

import "time"

// Machine is what decides about one rollout. It has no clock, does no I/O, starts no goroutine and knows no
// randomness: the same calls give the same actions. It is for one goroutine: guard it with a lock.
//
// Who owns it calls, about once a second:
//
//	for _, a := range m.Tick(now, world) { do(a) }   // and m.Written after a DoWrite
//
// and Observe for each request of the two targets as it ends.
type Machine struct {
	plan  Plan
	state State
}

// NewMachine returns a machine that begins a plan anew. The first Tick that is told of a Record may refuse to begin.
// The error is that of Plan.Validate.
func NewMachine(p Plan, now time.Time) (*Machine, error) { panic("soon") }

// Restore returns a machine that goes on from a state, with a fresh window for the step. A state of another plan
// begins anew, and takes its weights over as those of the rollout before. The error is that of Plan.Validate, or says
// what is wrong with the state.
func Restore(p Plan, s State, now time.Time) (*Machine, error) { panic("soon") }

// Open is what a program calls with what it has read from a Home: NewMachine if there is no state, else Restore.
// A state that cannot be read is no error: it begins anew, and pauses if the canary has traffic.
func Open(p Plan, r Record, now time.Time) (*Machine, error) { panic("soon") }

// Plan returns the plan with its defaults.
func (m *Machine) Plan() Plan { return m.plan }

// State returns where it is.
func (m *Machine) State() State { return m.state }

// Over reports whether it is Done or Failed and all is written: until Retry, or another plan, Tick does nothing.
func (m *Machine) Over() bool { panic("soon") }

// Observe counts a sample, if it is of one of both targets. It is cheap and allocates nothing. urgent says that a Tick
// should follow at once: the canary is to be stopped.
func (m *Machine) Observe(s Sample) (urgent bool) { panic("soon") }

// Hear replaces what another gateway has seen. A window of another epoch than that of the state does not count.
// The machine keeps w.
func (m *Machine) Hear(peer string, w *Window) { panic("soon") }

// Tick goes on as far as it can, and says what is to be done. See World for what it must be told.
func (m *Machine) Tick(now time.Time, w World) []Action { panic("soon") }

// Written says how a DoWrite has ended: with a revision, or an error. After ErrConflict the next World must have a
// Record that was read later; after another error the same is tried again, for it may or may not have been written.
func (m *Machine) Written(now time.Time, revision string, err error) { panic("soon") }

// Pause stops it where it is, until Resume. Only Abort and a hard stop go on then.
func (m *Machine) Pause(now time.Time, why string) error { panic("soon") }

// Resume goes on. If somebody else had changed the weights, those of the step are written again.
func (m *Machine) Resume(now time.Time, why string) error { panic("soon") }

// Promote goes to the next step without waiting for a verdict, or with full to the last one, which is then not judged
// but for a hard stop.
func (m *Machine) Promote(now time.Time, full bool, why string) error { panic("soon") }

// Abort gives the stable target everything, whatever state it is in, but Done and Failed.
func (m *Machine) Abort(now time.Time, why string) error { panic("soon") }

// Retry begins a failed rollout anew.
func (m *Machine) Retry(now time.Time, why string) error { panic("soon") }

// Verdicts returns what is thought of each metric just now, in the order of the plan. It is for people, and computed
// anew by each Tick.
func (m *Machine) Verdicts() []Verdict { panic("soon") }

// Window returns what this machine's own gateway has seen since the epoch began. It must not be changed.
func (m *Machine) Window() *Window { panic("soon") }

// Holders returns the IDs of the servers that had the canary at the last Tick, and were ready, in order: no other may
// get its requests. It must not be changed.
func (m *Machine) Holders() []string { panic("soon") }
