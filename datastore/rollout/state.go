package rollout

import "time"

// Phase is where a rollout is.
type Phase string

// The phases.
const (
	Loading   Phase = "Loading"   // the canary comes onto the servers, without traffic
	Stepping  Phase = "Stepping"  // State.Step is in force and is judged
	Aborting  Phase = "Aborting"  // the stable target has all traffic again; requests of the canary end
	Finishing Phase = "Finishing" // the canary has all traffic; requests of the stable target end
	Failed    Phase = "Failed"    // the stable target has all traffic: Retry begins anew
	Done      Phase = "Done"      // the canary has all traffic
)

// State is all that is kept of a rollout over a restart: at most MaxState bytes of JSON. It is a value of its own:
// changing it changes no Machine.
type State struct {
	// Plan is the fingerprint of the plan (Plan.Fingerprint): another plan begins anew.
	Plan string `json:"plan"`
	// Seq grows with each state that is written.
	Seq uint64 `json:"seq"`
	// Epoch is the Seq of the state with which the window of the samples began: see Window.
	Epoch uint64 `json:"epoch"`
	Phase Phase  `json:"phase"`
	// Step is the index of the step that is in force, or to which Loading leads.
	Step int `json:"step"`
	// Since is when the phase or the step began.
	Since time.Time `json:"since"`
	// Paused says why it is paused. Empty: it is not.
	Paused string `json:"paused,omitempty"`
	// Changed is set if it is paused because somebody else has changed the weights: then only a person goes on.
	Changed bool `json:"changed,omitempty"`
	// Holding says why it does not go on just now, as it was when that began. Empty: nothing holds it.
	Holding string `json:"holding,omitempty"`
	// Reason is that of the last change of phase or step, in words.
	Reason string `json:"reason,omitempty"`
	// Full is set after a promotion to the end: verdicts stop it no more, but for a hard stop.
	Full bool `json:"full,omitempty"`
	// Weights are those that belong to this state; they sum to TotalWeight.
	Weights []Weight `json:"weights"`
	// Kept sums up what was seen of the stable target in the step before, for when it has no traffic any more.
	Kept *Kept `json:"kept,omitempty"`
}

const (
	// TotalWeight is the sum of the weights of a rollout.
	TotalWeight = 10_000
	// MaxState is the largest size of a State in JSON, in bytes.
	MaxState = 2048
)

// Kept sums up a window of the stable target.
type Kept struct {
	Requests int `json:"requests"`
	Errors   int `json:"errors"`
}

// DecodeState reads the JSON of a State strictly. The error says what is wrong with it.
func DecodeState(data []byte) (State, error) { panic("soon") }

// Encode returns the JSON of s.
func (s State) Encode() []byte { panic("soon") }

// Weight returns that of a target, of TotalWeight.
func (s State) Weight(target string) int32 { panic("soon") }
