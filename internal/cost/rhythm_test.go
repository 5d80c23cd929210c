package cost

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// A step of 10 ms ends at second 1; what a request that reaches the engine then or
// later waits for it, and what prefill it finds in the next one.
func TestRhythm(t *testing.T) {
	for _, tt := range []struct {
		name                        string
		at, ends, pending, decoding float64
		wait, beside                float64
	}{
		{"the step under way", .995, 1, 0, 5, .005, 0},
		{"prefill that goes into the next step is shared", .995, 1, .02, 5, .005, .02},
		{"that step has begun", 1.005, 1, .02, 5, .025, 0},
		{"the step after a known end only decodes", 1.004, 1, 0, 5, .006, 0},
		{"nothing is known for longer than that", 1.5, 1, 0, 5, .005, 0},
		{"nothing was ever known", 1, math.Inf(-1), 0, 5, .005, 0},
		{"an idle engine starts at once", 1.004, 1, 0, 0, 0, 0},
		{"an idle engine that was just sent a prefill", .995, 1, .02, 0, .005, .02},
	} {
		wait, beside := until(tt.at, tt.ends, tt.pending, .01, tt.decoding)
		require.InDelta(t, tt.wait, wait, 1e-12, tt.name)
		require.InDelta(t, tt.beside, beside, 1e-12, tt.name)
	}
}

// A token that comes back says which prefills are in the step that begins.
func TestStepEnded(t *testing.T) {
	s := &Server{step: .01, decoding: 3}
	for _, r := range []*Request{{sent: 1, work: .02}, {sent: 1.0995, work: .04}} {
		s.enqueue(r)
	}
	s.StepEnded(&View{Rates: Rates{Transport: .003}}, 1.1)
	require.InDelta(t, 1.13, float64(s.stepEnds), 1e-12, "the early one is in the step")
	require.Equal(t, Seconds(.04), s.pending, "the late one is in the next")
}

// Of a server with very many prefills only the first are looked at one by one, and the sum
// of the others is taken for the rest.
func TestStepEndedMany(t *testing.T) {
	const n = 4 * manyPrefills
	s := &Server{step: .01, token: 1e-4}
	for i := range n {
		s.enqueue(&Request{sent: Seconds(i) / n, compute: 100, work: .01})
	}
	s.StepEnded(&View{Rates: Rates{Transport: .003}}, 2)
	require.InDelta(t, 2+.01+n*.01, float64(s.stepEnds), 1e-6)
}

// What was not computed is not waited for, and a server that nothing is left at makes no step.
func TestSettle(t *testing.T) {
	m := &Model{Engine: Engine{Token: 1e-5}}
	s := &Server{step: .01, token: 1e-4, decoding: 2, stepEnds: 5, pending: 3}
	s.Settle(m, 1)
	require.Equal(t, Seconds(1.01), s.stepEnds)
	require.Zero(t, s.pending)
	s.decoding = 0
	s.Settle(m, 1)
	require.True(t, math.IsInf(float64(s.stepEnds), -1))
}
