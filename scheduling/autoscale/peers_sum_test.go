package autoscale_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/types"
)

// What several gateways know of requests that are spread over them adds up to what one knows of all of them, whatever
// comes and however it is spread. Lengths of answers are the same, since what is learned of them is each one's own.
func TestSignalsOfASplitStreamAddUp(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		clock := newPeerClock()
		var some []*peerGateway
		for range 1 + r.IntN(6) {
			some = append(some, newPeerGateway(t, clock, nil, autoscale.CollectorOptions{}))
		}
		one := newPeerGateway(t, clock, nil, autoscale.CollectorOptions{})
		for _, g := range append(some, one) {
			g.collector.All() // rates begin
		}
		models := []string{"a", "b", "c"}[:1+r.IntN(3)]
		type pair [2]*scheduling.Decision
		var running []pair
		schedule := func(g *peerGateway, model string, prompt []byte) *scheduling.Decision {
			req := &types.Request{Model: model, Body: prompt, Stream: true, SLO: types.SLO{TTFT: time.Second, TPOT: 50 * time.Millisecond}}
			req.Prompt = types.Prompt{Spans: []types.Span{{Start: 0, End: len(prompt)}}, Tokens: len(prompt) / 4}
			d, err := g.scheduler.Schedule(context.Background(), req, g.eps)
			require.NoError(t, err)
			return d
		}
		for step := range 400 {
			clock.pass(time.Duration(r.IntN(400)) * time.Millisecond)
			if r.IntN(2) == 0 || len(running) == 0 {
				i := r.IntN(len(some)) // one gateway gets more than the others
				i = min(i, r.IntN(len(some)))
				model, prompt := models[r.IntN(len(models))], make([]byte, 40+r.IntN(4000))
				running = append(running, pair{schedule(some[i], model, prompt), schedule(one, model, prompt)})
			} else {
				i := r.IntN(len(running))
				p := running[i]
				running = append(running[:i], running[i+1:]...)
				clock.pass(time.Duration(r.IntN(1500)) * time.Millisecond)
				for _, d := range p {
					d.FirstToken()
				}
				clock.pass(2 * time.Second)
				out := types.Outcome{Status: 200, Usage: types.Usage{CompletionTokens: types.Known(100)}}
				if r.IntN(8) == 0 {
					out = types.Outcome{Cancelled: true}
				}
				for _, d := range p {
					d.Done(out)
				}
			}
			if step%40 == 39 {
				compareSums(t, some, one, fmt.Sprintf("seed %d, step %d", seed, step))
			}
		}
	}
}

func compareSums(t *testing.T, some []*peerGateway, one *peerGateway, at string) {
	t.Helper()
	by := map[string][]autoscale.Signals{}
	for _, g := range some {
		for _, s := range g.collector.All() {
			by[s.Model] = append(by[s.Model], s)
		}
	}
	for _, want := range one.collector.All() {
		at := at + ", model " + want.Model
		got := autoscale.Merge(by[want.Model], 0)
		require.Equal(t, []any{want.Queued, want.QueuedTokens, want.Running, want.PrefillTokens, want.ContextTokens, want.Ready, want.Idle},
			[]any{got.Queued, got.QueuedTokens, got.Running, got.PrefillTokens, got.ContextTokens, got.Ready, got.Idle}, at)
		near := func(name string, want, got autoscale.Figure) {
			t.Helper()
			if !want.Known() {
				require.False(t, got.Known(), "%s: %s", at, name)
				return
			}
			require.InDelta(t, float64(want), float64(got), 1e-6*(1+float64(want)), "%s: %s", at, name)
		}
		near("backlog", want.Backlog, got.Backlog)
		near("KV", want.KVUsed, got.KVUsed)
		near("TTFT met", want.TTFT.Met, got.TTFT.Met)
		near("TTFT target", want.TTFT.Target, got.TTFT.Target)
		near("TPOT met", want.TPOT.Met, got.TPOT.Met)
		require.Equal(t, []int64{want.TTFT.N, want.TPOT.N}, []int64{got.TTFT.N, got.TPOT.N}, at)
		if want.Model == "" { // rates of a model begin when it is asked for first, at each gateway
			near("arrivals", want.Arrivals, got.Arrivals)
			near("tokens", want.ArrivalTokens, got.ArrivalTokens)
			near("compute", want.ArrivalCompute, got.ArrivalCompute)
			near("output", want.OutputTokens, got.OutputTokens)
			near("served", want.ServedWork, got.ServedWork)
		}
		least, most := autoscale.Unknown(), autoscale.Unknown()
		for _, s := range by[want.Model] {
			if p := s.TTFT.P90; p.Known() && !(least <= p) {
				least = p
			}
			if p := s.TTFT.P90; p.Known() && !(most >= p) {
				most = p
			}
		}
		if got.TTFT.N > 0 {
			require.True(t, least <= got.TTFT.P90 && got.TTFT.P90 <= most, "%s: the quantile %v is not between %v and %v", at, got.TTFT.P90, least, most)
		}
	}
}

// What one does not know is not nothing.
func TestSumsOfWhatIsNotKnown(t *testing.T) {
	know := func(arrivals float64) autoscale.Signals {
		s := autoscale.NewSignals(peerPool, "", time.Unix(1, 0))
		s.Arrivals, s.Backlog = autoscale.Figure(arrivals), 5
		s.TTFT = autoscale.Latency{P90: 1, Target: 2, Met: .5, N: 10}
		return s
	}
	unknown := autoscale.NewSignals(peerPool, "", time.Unix(2, 0))
	got := autoscale.Merge([]autoscale.Signals{unknown, know(4), know(2)}, 1)
	require.EqualValues(t, 9, got.Arrivals, "as much as the others have in the mean")
	require.EqualValues(t, 15, got.Backlog)
	require.False(t, got.OutputTokens.Known() || got.KVUsed.Known(), "nobody knows")
	require.EqualValues(t, autoscale.Latency{P90: 1, Target: 2, Met: .5, N: 20}, got.TTFT)
	require.Equal(t, []int{3, 1}, []int{got.Gateways, got.Missing})
	require.Equal(t, time.Unix(2, 0), got.At)

	// Times count by requests: one slow request at one gateway is not the quantile of all.
	slow := know(1)
	slow.TTFT = autoscale.Latency{P90: 31, Target: 2, Met: 0, N: 1}
	fast := know(1)
	fast.TTFT = autoscale.Latency{P90: 1, Target: 2, Met: 1, N: 29}
	got = autoscale.Merge([]autoscale.Signals{slow, fast}, 0)
	require.InDelta(t, 2, float64(got.TTFT.P90), 1e-9)
	require.InDelta(t, 29./30, float64(got.TTFT.Met), 1e-9)
}
