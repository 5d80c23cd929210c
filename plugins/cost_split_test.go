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
	oneGoroutine(t)
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

// How long hand-overs take is learned from first tokens, for each distance; and from one that does not arrive.
func TestHandOversAreLearned(t *testing.T) {
	only := types.RoleDecode | types.RoleNotAlone
	p, near, far := roleServer("p", types.RolePrefill, "zone", "a"), roleServer("near", only, "zone", "a"), roleServer("far", only, "zone", "b")
	f := newSplitFleet(t, plugins.CostOptions{Links: []string{"zone"}}, p, near, far)
	wait := func(d float64) { f.now = f.now.Add(time.Duration(d * float64(time.Second))) }
	asked := 0
	transfer := func(answer *types.Endpoint) float64 {
		asked++
		req := splitPrompt(fmt.Sprint("asked ", asked), 6000, 6000)
		ex, err := f.Explain(ctx, req, []*types.Endpoint{p, answer})
		require.NoError(t, err)
		for _, term := range ex.Apart.Terms {
			if term.Scorer == "transfer" {
				require.Contains(t, term.Detail, "6000 tokens in")
				return -term.Contribution / 5 // its weight
			}
		}
		t.Fatal("no transfer in ", ex.Apart)
		return 0
	}
	before := transfer(near)
	require.InDelta(t, .007+6000*3e-6, before, 1e-3, "as it is believed at first")
	rnd := rand.New(rand.NewPCG(1, 1))
	for i := range 120 {
		tokens := 1300 + rnd.IntN(9000)
		answer, takes := near, .02+2e-6*float64(tokens)
		if i%2 == 0 {
			answer, takes = far, .2+40e-6*float64(tokens)
		}
		d, err := f.Schedule(ctx, splitPrompt(fmt.Sprint("topic ", i), tokens, tokens), []*types.Endpoint{p, answer})
		require.NoError(t, err)
		require.Equal(t, p, d.Prefill())
		wait(.02 + 24e-6*float64(tokens))
		d.PrefillDone(types.Outcome{Status: 200, Usage: types.Usage{CompletionTokens: types.Known(1)}})
		wait(takes + .012)
		d.FirstToken()
		wait(.5)
		d.Done(types.Outcome{Status: 200, Usage: types.Usage{CompletionTokens: types.Known(60)}})
	}
	require.InEpsilon(t, .02+6000*2e-6, transfer(near), .25)
	require.InEpsilon(t, .2+6000*40e-6, transfer(far), .25)

	d, err := f.Schedule(ctx, splitPrompt("lost", 6000, 6000), []*types.Endpoint{p, near})
	require.NoError(t, err)
	d.PrefillDone(types.Outcome{Status: 200})
	usual := transfer(near)
	wait(5)
	transfer(near) // which sees that it is overdue
	require.Greater(t, transfer(near), 1.05*usual)
	d.Done(types.Outcome{Cancelled: true})
}

// After a request that two have served both hold its prompt; after one that failed, who did not compute it does not.
func TestBothHoldThePrompt(t *testing.T) {
	p, d := roleServer("p", types.RolePrefill), roleServer("d", types.RoleDecode|types.RoleNotAlone)
	f := newSplitFleet(t, plugins.CostOptions{}, p, d)
	serve := func(topic string, prefilled, answered types.Outcome) {
		one, err := f.Schedule(ctx, splitPrompt(topic, 4000, 4000), []*types.Endpoint{p, d})
		require.NoError(t, err)
		one.PrefillDone(prefilled)
		if answered.Served() {
			one.FirstToken()
		}
		one.Done(answered)
	}
	held := func(topic string, ep *types.Endpoint) int {
		return f.cost.CachedTokens(splitPrompt(topic, 4000, 4000), ep)
	}
	serve("both", types.Outcome{Status: 200}, types.Outcome{Status: 200})
	require.Greater(t, held("both", p), 3900)
	require.Greater(t, held("both", d), 3900)
	serve("answer fails", types.Outcome{Status: 200}, types.Outcome{Status: 500})
	require.Greater(t, held("answer fails", p), 3900)
	require.Zero(t, held("answer fails", d))
	serve("prompt fails", types.Outcome{Status: 500}, types.Outcome{Status: 500})
	require.Zero(t, held("prompt fails", p))
	require.Zero(t, held("prompt fails", d))
}
