package autoscale_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/types"
)

// A clock that was set back, or far forward, is no reason for what comes to look like more, or to be kept for as long.
func TestTrapClockIsSet(t *testing.T) {
	for name, by := range map[string]time.Duration{"back": -time.Hour, "a little back": -20 * time.Second, "forward": time.Hour} {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(1_000_000_000, 0)
			r := newRig(t, 1, autoscale.CollectorOptions{Speeds: known(speed), Now: func() time.Time { return now }}, nil)
			play := func(seconds, warm int) {
				for i := range seconds {
					now = now.Add(time.Second)
					d, err := r.send(t.Context(), request("m", 400))
					require.NoError(t, err)
					now = now.Add(time.Millisecond)
					d.FirstToken()
					d.Done(answered(100))
					s := r.signals("")
					if i < warm {
						continue
					}
					require.Less(t, float64(s.Arrivals), 1.5, "after %v", now)
					require.Less(t, float64(s.OutputTokens), 150., "after %v", now)
				}
			}
			play(200, 60)
			now = now.Add(by)
			play(200, 0)
			require.InDelta(t, 1, float64(r.signals("").Arrivals), .2)
			require.LessOrEqual(t, r.signals("").TTFT.N, int64(70), "those of the last minute")
			now = now.Add(10 * time.Minute)
			require.Less(t, float64(r.signals("").Arrivals), .01)
		})
	}
}

// What makes no tokens, such as embeddings, is not taken to make as many as is guessed at first.
func TestTrapAnswersWithoutTokens(t *testing.T) {
	for name, usage := range map[string]types.Usage{
		"said":     {PromptTokens: types.Known(400), CompletionTokens: types.Known(0)},
		"left out": {PromptTokens: types.Known(400)},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(1_000_000_000, 0)
			r := newRig(t, 1, autoscale.CollectorOptions{Speeds: known(speed), Now: func() time.Time { return now }}, nil)
			for range 300 {
				now = now.Add(time.Second)
				req := request("m", 400)
				req.Stream = false
				d, err := r.send(t.Context(), req)
				require.NoError(t, err)
				d.Done(types.Outcome{Status: 200, Usage: usage})
			}
			require.Less(t, float64(r.signals("").ArrivalOutput), 1.)
			require.InEpsilon(t, 400*speed.Token, float64(r.signals("").ArrivalWork), .1)
		})
	}
}

// Where servers are so slow that clients give up before a token comes, targets are missed, although nothing is answered.
func TestTrapClientsGiveUp(t *testing.T) {
	now := time.Unix(1_000_000_000, 0)
	r := newRig(t, 1, autoscale.CollectorOptions{Speeds: known(speed), Now: func() time.Time { return now }}, nil)
	for i := range 40 {
		d, err := r.send(t.Context(), request("m", 400))
		require.NoError(t, err)
		now = now.Add([]time.Duration{autoscale.DefaultTTFT / 10, 2 * autoscale.DefaultTTFT}[i%2])
		d.Done(types.Outcome{Cancelled: true})
	}
	s := r.signals("")
	require.InDelta(t, 15, float64(s.TTFT.N), 5, "who leaves early says nothing")
	require.Zero(t, s.TTFT.Met)
	require.Greater(t, float64(s.TTFT.P90), autoscale.DefaultTTFT.Seconds())
}
