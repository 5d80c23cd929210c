package scheduling_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
)

// guess is a plugin that estimates what diffusion models have to do.
type guess struct {
	recorder
	tokens float64
}

func (g *guess) ExpectedDenoise(*types.Request) float64 {
	if g.tokens < 0 {
		panic("of the user's")
	}
	return g.tokens
}

// What is booked of each kind of work, and what is left of it after the first token and the end.
func TestBookingByKindOfWork(t *testing.T) {
	known := types.Denoise{Passes: 50, Latents: 4096, Pixels: 1 << 20}
	for name, tt := range map[string]struct {
		work         types.Work
		guess        float64
		booked, left types.Booking
	}{
		"text":           {types.Work{}, 0, types.Booking{Requests: 1, Prefilling: 1, PrefillTokens: 100, ContextTokens: 356}, types.Booking{Requests: 1, ContextTokens: 356}},
		"speech":         {types.Work{Output: 40}, 0, types.Booking{Requests: 1, Prefilling: 1, PrefillTokens: 100, ContextTokens: 140}, types.Booking{Requests: 1, ContextTokens: 140}},
		"embeddings":     {types.Work{Kind: types.Pools, Items: 4}, 0, types.Booking{Requests: 1, Prefilling: 1, PrefillTokens: 100}, types.Booking{Requests: 1}},
		"diffusion":      {types.Work{Kind: types.Denoises, Denoise: known}, 9, types.Booking{Requests: 1, Denoise: 204800}, types.Booking{Requests: 1, Denoise: 204800}},
		"no size":        {types.Work{Kind: types.Denoises, Denoise: types.Denoise{Passes: 50}}, 9, types.Booking{Requests: 1, Denoise: 9}, types.Booking{Requests: 1, Denoise: 9}},
		"size too large": {types.Work{Kind: types.Denoises, Denoise: types.Denoise{Passes: 1e300, Latents: 1e300}}, 9, types.Booking{Requests: 1, Denoise: 1 << 40}, types.Booking{Requests: 1, Denoise: 1 << 40}},
		"panic":          {types.Work{Kind: types.Denoises}, -1, types.Booking{Requests: 1}, types.Booking{Requests: 1}},
		"session":        {types.Work{Kind: types.Converses, Output: 900}, 0, types.Booking{Requests: 1, ContextTokens: 1000}, types.Booking{Requests: 1, ContextTokens: 1000}},
	} {
		s := mustNew(t, scheduling.Profile{Picker: first, Trackers: []scheduling.Tracker{&guess{tokens: tt.guess}}})
		eps := endpoints("a")
		req := schedulingtest.Request(strings.Repeat("x", 400)) // 100 tokens
		req.Work = tt.work
		d, err := s.Schedule(ctx, req, eps)
		require.NoError(t, err)
		require.Equal(t, tt.booked, eps[0].Load.Held(), name)
		d.FirstToken()
		require.Equal(t, tt.left, eps[0].Load.Held(), name)
		d.Done(types.Outcome{Status: 200})
		require.Zero(t, eps[0].Load.Held(), name)
	}
}
