package schedulingtest

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// EndpointOption configures an endpoint for Endpoint.
type EndpointOption func(*types.Endpoint)

// Endpoint returns an endpoint with a ledger, a made-up address and a current reading that shows it
// idle: nothing waiting or running, an empty KV cache, adapters not reported.
func Endpoint(id string, options ...EndpointOption) *types.Endpoint {
	ep := types.NewEndpoint(id, id+".test:8000")
	ep.Metrics = types.Metrics{
		UpdatedAt: time.Now(),
		Waiting:   types.Known(0),
		Running:   types.Known(0),
		KVUsage:   types.Known(0),
	}
	for _, o := range options {
		o(ep)
	}
	return ep
}

// Waiting sets the number of requests queued in the engine.
func Waiting(n float64) EndpointOption {
	return func(ep *types.Endpoint) { ep.Metrics.Waiting = types.Known(n) }
}

// Running sets the number of requests in the engine's batch.
func Running(n float64) EndpointOption {
	return func(ep *types.Endpoint) { ep.Metrics.Running = types.Known(n) }
}

// KVUsage sets the fraction of the KV cache in use, 0..1.
func KVUsage(fraction float64) EndpointOption {
	return func(ep *types.Endpoint) { ep.Metrics.KVUsage = types.Known(fraction) }
}

// Adapters sets how many LoRA adapters fit at once, and which are running.
func Adapters(most int, running ...string) EndpointOption {
	return func(ep *types.Endpoint) {
		ep.Metrics.MaxAdapters = types.Known(float64(most))
		ep.Metrics.RunningAdapters = running
	}
}

// WaitingAdapters sets which LoRA adapters have only queued requests.
func WaitingAdapters(waiting ...string) EndpointOption {
	return func(ep *types.Endpoint) { ep.Metrics.WaitingAdapters = waiting }
}

// InFlight books n requests of 100 prompt tokens each.
func InFlight(n int64) EndpointOption {
	return func(ep *types.Endpoint) {
		ep.Load.Book(types.Booking{Requests: n, Prefilling: n, PrefillTokens: 100 * n, ContextTokens: 200 * n})
	}
}

// Age makes the reading d old.
func Age(d time.Duration) EndpointOption {
	return func(ep *types.Endpoint) { ep.Metrics.UpdatedAt = time.Now().Add(-d) }
}

// Unread removes the reading, as for a server that was never scraped.
func Unread() EndpointOption {
	return func(ep *types.Endpoint) { ep.Metrics = types.Metrics{} }
}

// Label sets a label.
func Label(key, value string) EndpointOption {
	return func(ep *types.Endpoint) {
		if ep.Labels == nil {
			ep.Labels = map[string]string{}
		}
		ep.Labels[key] = value
	}
}

// InState sets the state.
func InState(s types.State) EndpointOption {
	return func(ep *types.Endpoint) { ep.State = s }
}

// Fleet returns n endpoints of many kinds: idle, busy, with and without adapters, stale, unread,
// draining. The same n gives the same fleet, apart from the clock.
func Fleet(n int) []*types.Endpoint {
	rnd := types.NewRand(uint64(n))
	eps := make([]*types.Endpoint, n)
	for i := range eps {
		ep := Endpoint(fmt.Sprintf("ep-%d", i),
			Waiting(float64(rnd.IntN(9))), Running(float64(rnd.IntN(64))), KVUsage(rnd.Float64()),
			InFlight(int64(rnd.IntN(20))), Label("zone", string(rune('a'+rnd.IntN(3)))))
		ep.Slot = uint32(i)
		switch rnd.IntN(8) {
		case 0:
			Unread()(ep)
		case 1:
			Age(time.Hour)(ep)
		case 2:
			InState(types.Draining)(ep)
		case 3:
			ep.Metrics.KVUsage = types.Gauge{}
		case 4, 5:
			Adapters(2, "adapter-a", "adapter-b")(ep)
		case 6:
			Adapters(4, "adapter-a")(ep)
			WaitingAdapters("adapter-c")(ep)
		}
		eps[i] = ep
	}
	return eps
}

// Request returns a request for model "model" with the given prompt and a session, as a gateway would
// have parsed it.
func Request(prompt string) *types.Request {
	return &types.Request{
		ID:        "request",
		Model:     "model",
		Body:      []byte(prompt),
		Prompt:    types.Prompt{Spans: []types.Span{{Start: 0, End: len(prompt)}}, Bytes: len(prompt), Tokens: len(prompt) / 4},
		SessionID: "session",
		Now:       time.Now(),
	}
}

// Score calls a scorer as a Scheduler would and returns the scores, NaN for "no opinion". An error
// fails the test.
func Score(t testing.TB, s scheduling.Scorer, req *types.Request, eps ...*types.Endpoint) []float64 {
	t.Helper()
	scores := nans(len(eps))
	if err := s.Score(context.Background(), req, eps, scores); err != nil {
		t.Fatalf("Score: %v", err)
	}
	return scores
}

// Filter calls a filter as a Scheduler would and returns the IDs of the endpoints that it keeps, in
// order. An error fails the test.
func Filter(t testing.TB, f scheduling.Filter, req *types.Request, eps ...*types.Endpoint) []string {
	t.Helper()
	keep := trues(len(eps))
	if err := f.Filter(context.Background(), req, eps, keep); err != nil {
		t.Fatalf("Filter: %v", err)
	}
	ids := []string{}
	for i, k := range keep {
		if k {
			ids = append(ids, eps[i].ID)
		}
	}
	return ids
}

func nans(n int) []float64 {
	s := make([]float64, n)
	for i := range s {
		s[i] = math.NaN()
	}
	return s
}

func trues(n int) []bool {
	s := make([]bool, n)
	for i := range s {
		s[i] = true
	}
	return s
}
