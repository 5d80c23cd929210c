package plugins_test

import (
	"context"
	"math/rand/v2"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

const pullToken = 100e-6 // seconds to compute a token, of engines that pull

// pullers are a scheduler before idle servers of which the odd ones pull, and its clock.
type pullers struct {
	*scheduling.Scheduler
	cost *plugins.Cost
	sink *plugins.KVSink
	eps  []*types.Endpoint
	now  time.Time
}

func newPullers(t *testing.T, n int) *pullers {
	profile, err := plugins.DefaultWith(plugins.CostOptions{
		PullLabel: "pulls", FixedRates: true, Engine: plugins.EngineRates{Token: pullToken, Attention: 1e-12},
	})
	require.NoError(t, err)
	x := &pullers{cost: profile.Costs[0].Coster.(*plugins.Cost), eps: idle(n), now: time.Unix(1000, 0)}
	for i, ep := range x.eps {
		if i%2 == 1 {
			ep.Labels = map[string]string{"pulls": "true"}
		}
	}
	profile.Now = func() time.Time { return x.now }
	x.sink, err = plugins.KVSinkOf(profile, plugins.KVOptions{})
	require.NoError(t, err)
	x.Scheduler = mustNew(t, profile)
	return x
}

// firstToken is when the first token comes of a prompt of so many tokens from a server that holds some of
// it, where a peer holds most: the engine pulls if that is faster.
func firstToken(prompt, held, peer, price float64, pulls bool) float64 {
	computed := (prompt - held) * pullToken
	if pulled := .027 + (peer-held)*pullToken*price + (prompt-peer)*pullToken; pulls && pulled < computed {
		return pulled
	}
	return computed
}

// The server that is chosen is the one with the first first token, by brute force, whoever holds what.
func TestCostPullsWhereThatIsFastest(t *testing.T) {
	oneGoroutine(t)
	r := rand.New(rand.NewPCG(3, 4))
	elsewhere := 0
	for n := range 100 {
		x := newPullers(t, 4)
		prompt := text(n, 256*blockBytes)
		tokens := float64(len(prompt) / 4)
		held, most := make([]float64, 4), 0.
		holder := r.IntN(4)
		for i, ep := range x.eps {
			blocks := r.IntN(60)
			if i == holder {
				blocks = 40 + r.IntN(216)
			}
			held[i] = float64(blocks * blockBytes / 4)
			most = max(most, held[i])
			if blocks == 0 {
				continue
			}
			req := schedulingtest.Request(prompt[:blocks*blockBytes])
			req.Now = x.now
			x.cost.Picked(req, ep)
			x.cost.FirstToken(req, ep)
			x.cost.Finished(req, ep, types.Outcome{Status: 200})
		}
		busy := x.eps[holder] // what is worth a pull: who holds it has something else to do
		const beside = 30000
		load := schedulingtest.Request(text("load", 4*beside))
		load.Now = x.now
		if n%2 == 0 {
			x.cost.Picked(load, busy)
		}
		d, err := x.Schedule(context.Background(), schedulingtest.Request(prompt), x.eps)
		require.NoError(t, err)
		best, least := -1, 0.
		for i := range x.eps {
			takes := firstToken(tokens, held[i], most, .55, i%2 == 1)
			if n%2 == 0 && i == holder {
				takes += beside * pullToken
			}
			if best < 0 || takes < least {
				best, least = i, takes
			}
		}
		if held[best] < most {
			elsewhere++
		}
		require.Same(t, x.eps[best], d.Endpoint, "held %v, holder busy: %v", held, n%2 == 0)
		d.Done(types.Outcome{Status: 200})
	}
	require.Greater(t, elsewhere, 15)
}

// What a pull takes is learned from first tokens, and said.
func TestCostLearnsWhatPullingTakes(t *testing.T) {
	oneGoroutine(t)
	for _, price := range []float64{.1, .9} {
		x := newPullers(t, 2)
		request := func(n int) *types.Request {
			req := schedulingtest.Request(text(n, 512*blockBytes))
			req.Now, req.Stream = x.now, true
			return req
		}
		tokens := float64(request(0).Prompt.Tokens)
		const beside = .0106 // a step, and the way
		for n := range 100 {
			req := request(n)
			x.cost.Picked(req, x.eps[0])
			x.cost.FirstToken(req, x.eps[0])
			x.cost.Finished(req, x.eps[0], types.Outcome{Status: 200})

			req = request(n)
			require.NoError(t, x.cost.Cost(context.Background(), req, x.eps, make([]float64, 2)))
			if n == 0 {
				e, err := x.Explain(context.Background(), request(n), x.eps)
				require.NoError(t, err)
				require.Contains(t, e.String(), "0 of 32768 tokens cached, 32767 more pulled from a peer, each at 0.55 of computing it")
			}
			x.cost.Picked(req, x.eps[1])
			x.now = x.now.Add(time.Duration((beside + firstToken(tokens, 0, tokens, price, true)) * 1e9))
			req.Now = x.now
			x.cost.FirstToken(req, x.eps[1])
			x.cost.Finished(req, x.eps[1], types.Outcome{Status: 200})
			x.now = x.now.Add(time.Minute)
		}
		req := request(100)
		x.cost.Picked(req, x.eps[0])
		e, err := x.Explain(context.Background(), request(100), x.eps)
		require.NoError(t, err)
		said := regexp.MustCompile(`each at ([0-9.]+) of computing it`).FindStringSubmatch(e.String())
		require.NotNil(t, said, e)
		learned, err := strconv.ParseFloat(said[1], 64)
		require.NoError(t, err)
		require.InDelta(t, price, learned, .02)
	}
}
