package plugins_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

const revision = "disaggregatedset.x-k8s.io/revision"

// splitFleet is a fleet of servers with roles, before which requests are decided.
type splitFleet struct {
	now time.Time
	*scheduling.Scheduler
	cost *plugins.Cost
	eps  []*types.Endpoint
}

func newSplitFleet(t testing.TB, o plugins.CostOptions, eps ...*types.Endpoint) *splitFleet {
	cost, err := plugins.NewCost(o)
	require.NoError(t, err)
	f := &splitFleet{now: time.Unix(1e9, 0), cost: cost, eps: eps}
	f.Scheduler, err = scheduling.New(scheduling.Profile{
		Costs: []scheduling.Costed{{Name: "cost", Coster: cost}}, Picker: plugins.MaxScore{}, Seed: 1, Fallbacks: 2, Now: func() time.Time { return f.now },
	})
	require.NoError(t, err)
	for i, ep := range eps {
		ep.Slot = uint32(i)
	}
	return f
}

func roleServer(id string, roles types.Roles, labels ...string) *types.Endpoint {
	ep := types.NewEndpoint(id, id+":8000")
	ep.Roles, ep.Labels = roles, map[string]string{}
	for i := 0; i < len(labels); i += 2 {
		ep.Labels[labels[i]] = labels[i+1]
	}
	return ep
}

// prompt is a request of so many tokens, of which the first common ones are those of all of the same topic.
func splitPrompt(topic string, common, tokens int) *types.Request {
	text := strings.Repeat(fmt.Sprintf("%-16s", topic), common/4) + strings.Repeat("x", 4*(tokens-common/4*4))
	r := &types.Request{Model: "m", Body: []byte(text), Prompt: types.TextPrompt(text), Stream: true, Split: true}
	r.Prompt.Tokens = tokens
	return r
}

func sum(items []scheduling.CostItem) (s float64) {
	for _, it := range items {
		s += it.Seconds
	}
	return s
}

// What is decided is the best of all endpoints and of all pairs that may talk, in any state.
func TestSplitIsTheBestOfAllPairs(t *testing.T) {
	apart, alone := 0, 0
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var eps []*types.Endpoint
		for i := range 4 + rnd.IntN(14) {
			role := []types.Roles{0, types.RolePrefill, types.RolePrefill, types.RoleDecode, types.RoleDecode, types.RolePrefill | types.RoleDecode}[rnd.IntN(6)]
			ep := roleServer(fmt.Sprint("s", i), role, "zone", fmt.Sprint(rnd.IntN(2)), revision, fmt.Sprint(rnd.IntN(2)))
			if rnd.IntN(3) > 0 {
				ep.Labels["host"] = fmt.Sprint(rnd.IntN(4))
			}
			ep.Capacity = types.Capacity{KVTokens: 60_000, CostPerHour: float64(rnd.IntN(3))}
			eps = append(eps, ep)
		}
		f := newSplitFleet(t, plugins.CostOptions{Links: []string{"host", "zone"}, Price: .2}, eps...)
		var answer, prefill []*types.Endpoint
		for _, ep := range eps {
			if ep.Roles.Answers() {
				answer = append(answer, ep)
			}
			if ep.Roles.Has(types.RolePrefill) {
				prefill = append(prefill, ep)
			}
		}
		if len(answer) == 0 || len(prefill) == 0 {
			continue
		}
		var open []*scheduling.Decision
		for range 120 {
			f.now = f.now.Add(time.Duration(rnd.IntN(60)) * time.Millisecond)
			req := splitPrompt(fmt.Sprint(rnd.IntN(3)), 64*rnd.IntN(20), 1300+rnd.IntN(9000))
			if rnd.IntN(4) == 0 {
				req.SLO.TTFT, req.SLO.TPOT = time.Duration(rnd.IntN(400))*time.Millisecond, time.Duration(rnd.IntN(30))*time.Millisecond
			}
			a, l := checkSplit(t, ctx, f, req, answer, prefill)
			apart, alone = apart+a, alone+l
			d, err := f.Schedule(ctx, req, eps)
			require.NoError(t, err)
			open = append(open, d)
			for range rnd.IntN(4) {
				d := open[rnd.IntN(len(open))]
				switch rnd.IntN(4) {
				case 0:
					d.PrefillDone(types.Outcome{Status: 200, Usage: types.Usage{CompletionTokens: types.Known(1)}})
				case 1:
					d.PrefillDone(types.Outcome{Status: 500})
				case 2:
					d.FirstToken()
				case 3:
					d.Done(types.Outcome{Status: 200, Usage: types.Usage{CompletionTokens: types.Known(100)}})
				}
			}
		}
		for _, d := range open {
			d.Done(types.Outcome{})
		}
		for _, ep := range eps {
			require.Zero(t, ep.Load.Held())
		}
	}
	require.Greater(t, apart, 500, "pairs were the best")
	require.Greater(t, alone, 500, "single endpoints were")
}

// checkSplit compares what Split finds with all there is.
func checkSplit(t *testing.T, ctx context.Context, f *splitFleet, req *types.Request, answer, prefill []*types.Endpoint) (apart, alone int) {
	req.Now, req.Rand = f.now, types.NewRand(1)
	costs, gains, by := make([]float64, len(answer)), make([]float64, len(answer)), make([]int32, len(answer))
	for i := range by {
		by[i] = -1
	}
	require.NoError(t, f.cost.Cost(ctx, req, answer, costs))
	require.NoError(t, f.cost.Split(ctx, req, answer, prefill, false, by, gains))
	for i, d := range answer {
		best := math.Inf(1)
		for _, p := range prefill {
			if p == d || p.Labels[revision] != d.Labels[revision] {
				continue
			}
			best = min(best, sum(f.cost.PrefillItems(req, p))+sum(f.cost.AnswerItems(req, d, p)))
		}
		got := costs[i] - gains[i]
		if by[i] < 0 {
			alone++
			require.LessOrEqual(t, got, best+.01+1e-6, "%s is better with somebody's help", d.ID)
			require.GreaterOrEqual(t, got, costs[i]-1e-9, "its prefill is no cheaper because another could do it")
			continue
		}
		apart++
		p := prefill[by[i]]
		require.Equal(t, d.Labels[revision], p.Labels[revision], "two revisions serve no request together")
		require.NotEqual(t, d, p)
		require.InDelta(t, best, got, 1e-6, "%s with the help of %s", d.ID, p.ID)
	}
	return apart, alone
}

// Decisions that run at the same time, and end in all ways, leave nothing behind.
func TestSplitInParallel(t *testing.T) {
	var eps []*types.Endpoint
	for i := range 6 {
		eps = append(eps, roleServer(fmt.Sprint("s", i), []types.Roles{types.RolePrefill, types.RoleDecode, types.RolePrefill | types.RoleDecode}[i%3]))
	}
	cost, err := plugins.NewCost(plugins.CostOptions{})
	require.NoError(t, err)
	s, err := scheduling.New(scheduling.Profile{Costs: []scheduling.Costed{{Name: "cost", Coster: cost}}, Picker: plugins.MaxScore{}, Fallbacks: 2})
	require.NoError(t, err)
	for i, ep := range eps {
		ep.Slot = uint32(i)
	}
	var all sync.WaitGroup
	for g := range uint64(4) {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(g, 1))
			var open []*scheduling.Decision
			for range 200 {
				d, err := s.Schedule(ctx, splitPrompt(fmt.Sprint(rnd.IntN(3)), 64*rnd.IntN(20), 1300+rnd.IntN(4000)), eps)
				if err != nil {
					t.Error(err)
					return
				}
				open = append(open, d)
				d = open[rnd.IntN(len(open))]
				switch rnd.IntN(7) {
				case 0, 1:
					d.PrefillDone(types.Outcome{Status: 200})
				case 2:
					d.PrefillDone(types.Outcome{Status: 500})
					d.PrefillAgain(ctx, eps)
				case 3:
					_ = d.RetryApart(ctx, eps[1], types.Outcome{Status: 503}, eps)
				case 4:
					s.Forget(eps[rnd.IntN(len(eps))])
				case 5:
					d.FirstToken()
				case 6:
					d.Done(types.Outcome{Status: 200})
				}
			}
			for _, d := range open {
				d.Done(types.Outcome{Cancelled: true})
			}
		})
	}
	all.Wait()
	for _, ep := range eps {
		require.Zero(t, ep.Load.Held(), ep.ID)
	}
	// Who can be reached by an idle way again costs what it did: nothing is left of what was on its way.
	req := splitPrompt("new", 0, 4000)
	ex, err := s.Explain(ctx, req, eps)
	require.NoError(t, err)
	for _, term := range ex.Apart.Terms {
		if term.Scorer == "transfer" {
			require.Contains(t, term.Detail, "with 0 of others")
		}
	}
}
