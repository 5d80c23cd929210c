package trail

import (
	"encoding/json"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Story is what became of a session.
type Story struct {
	Session string `json:"session,omitempty"` // empty: requests that name only their program
	Program string `json:"program,omitempty"` // the last that was named
	// Requests is how many there were, of which Steps are the last, in the order in which they came.
	Requests int    `json:"requests"`
	Steps    []Step `json:"steps,omitempty"`
}

// What becomes of a request.
const (
	Running   = "running"
	Done      = "done"
	Cancelled = "cancelled" // the client went away
	Failed    = "failed"
	Refused   = "refused" // it was not sent anywhere
)

// Step is one request of a session. As JSON its times are in milliseconds, and what is not known is left out.
type Step struct {
	Turn     int // its number in the session, from 1
	At       time.Time
	ID       string // as the client named the request
	Model    string
	Target   string // the model as the server knows it
	Priority int

	Endpoint string   // the server's ID; empty: none yet
	Prefill  string   // the server that computes the prompt, if it is another
	Tried    []string // servers before, on which it did not succeed

	PromptTokens int // estimated until the server reports
	// Expected is how many of them were taken to be cached there when it was sent, and Cached how many the server said
	// that were.
	Expected int
	Cached   types.Gauge
	Output   types.Gauge // tokens

	Waited   time.Duration // to be let in; 0: it did not wait
	TTFT     time.Duration // from At to the first token; 0: none yet
	Duration time.Duration // from At to the end; 0: it has not ended

	Outcome string       // Running, Done and so on
	Finish  types.Finish // how the model ended its answer: after FinishTools the session is likely to come back
	Reason  string       // why it was refused, or failed
	Status  int          // of the response, if it is not 200
}

// sent takes note of where the request was sent.
func (s *Step) sent(e *scheduling.Event) {
	s.Endpoint, s.Prefill = e.Endpoint.ID, ""
	if e.Prefill != nil {
		s.Prefill = e.Prefill.ID
	}
	s.Expected = max(s.PromptTokens-int(e.Booked.PrefillTokens), 0)
}

// ended takes note of how it ended.
func (s *Step) ended(out *types.Outcome, now time.Time) {
	if n, ok := out.Usage.PromptTokens.Value(); ok {
		s.PromptTokens = int(n)
	}
	s.Cached, s.Output, s.Finish = out.Usage.CachedTokens, out.Usage.CompletionTokens, out.Finish
	s.Duration = now.Sub(s.At)
	switch {
	case out.Cancelled:
		s.Outcome = Cancelled
	case out.Failed():
		s.Outcome = Failed
	case out.Status >= 400:
		s.Outcome = Failed
	default:
		s.Outcome = Done
	}
	if out.Err != nil {
		s.Reason = shortened(out.Err.Error())
	}
	if out.Status != 200 {
		s.Status = out.Status
	}
}

// shortened bounds what an error says.
func shortened(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}

// MarshalJSON implements json.Marshaler.
func (s Step) MarshalJSON() ([]byte, error) {
	known := func(g types.Gauge) *float64 {
		if v, ok := g.Value(); ok {
			return &v
		}
		return nil
	}
	finish := ""
	if s.Finish != types.FinishUnknown {
		finish = s.Finish.String()
	}
	return json.Marshal(struct {
		Turn     int       `json:"turn"`
		At       time.Time `json:"at"`
		ID       string    `json:"id,omitempty"`
		Model    string    `json:"model,omitempty"`
		Target   string    `json:"target,omitempty"`
		Priority int       `json:"priority"`
		Endpoint string    `json:"endpoint,omitempty"`
		Prefill  string    `json:"prefill,omitempty"`
		Tried    []string  `json:"tried,omitempty"`
		Prompt   int       `json:"promptTokens"`
		Expected int       `json:"expectedCachedTokens"`
		Cached   *float64  `json:"cachedTokens,omitempty"`
		Output   *float64  `json:"outputTokens,omitempty"`
		Waited   float64   `json:"waited,omitempty"`
		TTFT     float64   `json:"ttft,omitempty"`
		Duration float64   `json:"duration,omitempty"`
		Outcome  string    `json:"outcome"`
		Finish   string    `json:"finish,omitempty"`
		Reason   string    `json:"reason,omitempty"`
		Status   int       `json:"status,omitempty"`
	}{
		s.Turn, s.At, s.ID, s.Model, s.Target, s.Priority, s.Endpoint, s.Prefill, s.Tried,
		s.PromptTokens, s.Expected, known(s.Cached), known(s.Output), ms(s.Waited), ms(s.TTFT), ms(s.Duration),
		s.Outcome, finish, s.Reason, s.Status,
	})
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
