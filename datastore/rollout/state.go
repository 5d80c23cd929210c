package rollout

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/inferpick/inferpick/internal/strictjson"
)

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
	// Changed is set if the weights are those of somebody else: then only a person goes on, and Weights is empty.
	Changed bool `json:"changed,omitempty"`
	// Holding says why it does not go on just now, as it was when that began. Empty: nothing holds it.
	Holding string `json:"holding,omitempty"`
	// Reason is that of the last change of phase or step, in words.
	Reason string `json:"reason,omitempty"`
	// Full is set after a promotion to the end: verdicts stop it no more, but for a hard stop.
	Full bool `json:"full,omitempty"`
	// Weights are those that belong to this state; they sum to TotalWeight.
	Weights []Weight `json:"weights,omitempty"`
	// Kept sums up what was seen of the stable target in the steps before, for when it has no traffic any more.
	Kept *Kept `json:"kept,omitempty"`
}

const (
	// TotalWeight is the sum of the weights of a rollout.
	TotalWeight = 10_000
	// MaxState is the largest size of a State in JSON, in bytes.
	MaxState = 2048
)

// DecodeState reads the JSON of a State strictly. The error says what is wrong with it.
func DecodeState(data []byte) (State, error) {
	var s State
	if len(data) > MaxState {
		return s, errorf("a state of %d bytes, want at most %d", len(data), MaxState)
	}
	if err := strictjson.Decode(data, &s, strictjson.Options{Package: "rollout"}); err != nil {
		return State{}, err
	}
	if err := s.check(); err != nil {
		return State{}, err
	}
	return s, nil
}

// check reports what no Machine has written.
func (s *State) check() error {
	switch {
	case !slices.Contains(phases, s.Phase):
		return errorf("a state in phase %q, want one of %v", s.Phase, phases)
	case s.Step < 0 || s.Step >= maxSteps:
		return errorf("a state in step %d, want 0 to %d", s.Step, maxSteps-1)
	case s.Plan == "" || s.Seq == 0 || s.Epoch > s.Seq:
		return errorf("a state of plan %q with seq %d and epoch %d, want a plan, and a seq from the epoch on", s.Plan,
			s.Seq, s.Epoch)
	case s.Changed != (len(s.Weights) == 0):
		return errorf("a state with %d weights, want some, and none if they are somebody else's", len(s.Weights))
	case !s.Kept.check():
		return errorf("a state with figures that no window has: %+v", *s.Kept)
	}
	sum := int64(0)
	for i, w := range s.Weights {
		if w.Target == "" || w.Weight < 1 || i > 1 || i == 1 && w.Target == s.Weights[0].Target {
			return errorf("a state with the weights %s, want one or two targets with weights above 0", words(s.Weights))
		}
		sum += int64(w.Weight)
	}
	if sum != TotalWeight && !s.Changed {
		return errorf("a state with weights that sum to %d, want %d", sum, TotalWeight)
	}
	return nil
}

// over reports whether it is at its end.
func (s *State) over() bool { return s.Phase == Done || s.Phase == Failed }

var phases = []Phase{Loading, Stepping, Aborting, Finishing, Failed, Done}

// Encode returns the JSON of s: the same for the same state.
func (s State) Encode() []byte {
	s.Since = s.Since.UTC().Round(0)
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // or a text might take six times as much room
	if err := enc.Encode(s); err != nil {
		panic("rollout: " + err.Error()) // a year beyond 9999
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// Weight returns that of a target, of TotalWeight.
func (s State) Weight(target string) int32 {
	for _, w := range s.Weights {
		if w.Target == target {
			return w.Weight
		}
	}
	return 0
}

// maxText is the most that a text takes in JSON, in bytes.
const maxText = 240

// brief makes a text fit for a State: of one line, and cut where it is too long.
func brief(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r) || r == '\u2028' || r == '\u2029':
			return ' '
		case r == '"' || r == '\\':
			return '\''
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) <= maxText {
		return text
	}
	cut := maxText - len("…")
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}
