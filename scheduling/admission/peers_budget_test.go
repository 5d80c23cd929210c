package admission_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

var idle = admission.DetectorFunc(func(admission.Query, *types.Endpoint) float64 { return 0 })

// let is what was let in at one time.
type let struct {
	at     time.Duration
	amount float64
}

// spread says where a request goes at a time: the weight of each gateway.
type spread func(at time.Duration, i, n int) float64

func even(time.Duration, int, int) float64     { return 1 }
func uneven(_ time.Duration, i, n int) float64 { return math.Pow(0.5, float64(i)) }
func alone(_ time.Duration, i, n int) float64  { return float64(max(1-i, 0)) }
func moving(at time.Duration, i, n int) float64 {
	if int(at/(10*time.Second))%n == i {
		return 1
	}
	return 0
}

func (s spread) pick(g *gateways) int {
	sum := 0.0
	for i := range g.all {
		sum += s(g.now(), i, len(g.all))
	}
	at := g.rnd.Float64() * sum
	for i := range g.all {
		if at -= s(g.now(), i, len(g.all)); at < 0 {
			return i
		}
	}
	return 0
}

// usage has requests come, so many times as many as the budget allows, and returns what was let in.
func usage(g *gateways, b admission.Budget, s spread, demand float64, run time.Duration) (all []let) {
	const step = 10 * time.Millisecond
	prompt := 100
	perMinute, each := b.RequestsPerMinute, 1.0
	if b.TokensPerMinute > 0 {
		each = float64(prompt + 100)
		perMinute = b.TokensPerMinute / each
	}
	due := 0.0
	for g.now() < run {
		g.pass(step)
		for due += g.rnd.ExpFloat64() * perMinute * demand * step.Minutes(); due >= 1; due-- {
			w := g.all[s.pick(g)]
			req := request("r", 0, "t")
			req.Prompt.Tokens = prompt
			t, queued, err := w.Offer(admission.Arrival{Request: req}, func(error) {})
			if err != nil {
				continue
			}
			require.False(g.t, queued)
			t.Booked(w.ep)
			out := 100.0
			t.Done(types.Outcome{Usage: types.Usage{PromptTokens: types.Known(float64(prompt)), CompletionTokens: types.Known(out)}})
			all = append(all, let{g.now(), each})
		}
	}
	return all
}

// most returns the most that was let in in any window of some length.
func most(all []let, window time.Duration) (most float64) {
	sum, from := 0.0, 0
	for _, l := range all {
		sum += l.amount
		for all[from].at < l.at-window {
			sum -= all[from].amount
			from++
		}
		most = max(most, sum)
	}
	return most
}

func total(all []let) (sum float64) {
	for _, l := range all {
		sum += l.amount
	}
	return sum
}

// budgetRun has n gateways give out one budget.
func budgetRun(t *testing.T, n int, seed uint64, b admission.Budget, s spread, demand float64, run time.Duration, lost float64) []let {
	g := newGateways(t, n, seed, func(int) admission.Options {
		return admission.Options{Detector: idle, Budgets: []admission.Budget{b}, Tuning: admission.Tuning{OutputTokens: 100}}
	})
	if g.lost = lost; lost < 1 {
		g.connect()
	}
	g.pass(2 * time.Second)
	all := usage(g, b, s, demand, run)
	g.check()
	return all
}

// TestBudgetsOfManyGateways: in any window eight gateways let in no more than one, but for 5 % and a request of each
// other one; and in all hardly less.
func TestBudgetsOfManyGateways(t *testing.T) {
	oneGoroutine(t)
	const gateways = 8
	run := 80 * time.Second
	if testing.Short() {
		run = 40 * time.Second
	}
	for _, tt := range []struct {
		b       admission.Budget
		demands []float64
		least   float64 // of what one lets in
	}{
		{admission.Budget{RequestsPerMinute: 600, Burst: 1}, []float64{1.5, 10, 40}, 0.95},
		{admission.Budget{RequestsPerMinute: 60, Burst: 1}, []float64{1.5, 10}, 0.95},
		{admission.Budget{TokensPerMinute: 1_200_000, Burst: 0.1}, []float64{0.9, 1.5, 10}, 0.95},
		{admission.Budget{TokensPerMinute: 120_000, Burst: 0.05}, []float64{0.9, 1.5, 10}, 0.93},
		// What comes in half a second is more than there is at a time.
		{admission.Budget{RequestsPerMinute: 600, Burst: 0.01}, []float64{0.9, 1.5, 10}, 0.83},
	} {
		for name, s := range map[string]spread{"even": even, "uneven": uneven, "alone": alone, "moving": moving} {
			t.Run(fmt.Sprintf("%g requests, %g tokens, burst %g, %s", tt.b.RequestsPerMinute, tt.b.TokensPerMinute, tt.b.Burst, name), func(t *testing.T) {
				t.Parallel()
				for _, demand := range tt.demands {
					one, all := budgetRun(t, 1, 1, tt.b, s, demand, run, 0), budgetRun(t, gateways, 1, tt.b, s, demand, run, 0.01)
					rate := tt.b.RequestsPerMinute + tt.b.TokensPerMinute
					for _, window := range []time.Duration{0, 100 * time.Millisecond, time.Second, 10 * time.Second, time.Minute} {
						may := tt.b.Burst*rate + rate*window.Minutes()
						if got := most(all, window); got > 1.05*may+(gateways-1)*all[0].amount {
							t.Errorf("%g times as many: %g let in within %v, want at most %g", demand, got, window, may)
						}
					}
					part := total(all) / total(one)
					t.Logf("%g times as many: %.3f of what one gateway lets in", demand, part)
					if part < tt.least || part > 1.05 {
						t.Errorf("%g times as many: %.3f of what one gateway lets in, want %g to 1.05", demand, part, tt.least)
					}
				}
			})
		}
	}
}

// TestBudgetsWithoutMessages: gateways that hear nothing of each other do what they do without sharing.
func TestBudgetsWithoutMessages(t *testing.T) {
	b := admission.Budget{RequestsPerMinute: 600, Burst: 0.1}
	run := func(tells bool) []let {
		g := newGateways(t, 8, 1, func(int) admission.Options {
			return admission.Options{Detector: idle, Budgets: []admission.Budget{b}}
		})
		g.lost = 1
		for _, w := range g.all {
			if !tells {
				w.next = time.Hour
			}
		}
		return usage(g, b, even, 20, 20*time.Second)
	}
	with, without := run(true), run(false)
	require.InEpsilon(t, total(without), total(with), 0.001, "but for what is rounded")
	require.Greater(t, total(with), 7*(60+10*20.0), "each has a budget of its own")
}

// left is what a gateway takes to be left of the budget of all.
func left(w *gateway) float64 {
	requests, _ := w.Left("")
	return requests
}

func (g *gateways) spend(w *gateway, n int) (let int) {
	for range n {
		if t, _, err := w.Offer(admission.Arrival{Request: request("r", 0, "t")}, nil); err == nil {
			t.Booked(w.ep)
			t.Done(types.Outcome{})
			let++
		}
	}
	return let
}

// budgetOf has gateways with one budget of 60 requests, which nearly does not fill up meanwhile.
func budgetOf(t *testing.T, n int) *gateways {
	g := newGateways(t, n, 1, func(int) admission.Options {
		return admission.Options{Detector: idle, Budgets: []admission.Budget{{RequestsPerMinute: 0.06, Burst: 1000}}}
	})
	g.lost, g.repeated = 0, 0.2
	for _, w := range g.all {
		w.PeersAlive(0) // as it is told at first
	}
	return g
}

func TestBudgetsAreTakenOver(t *testing.T) {
	t.Run("of the others", func(t *testing.T) {
		g := budgetOf(t, 3)
		g.connect()
		for _, w := range g.all {
			g.spend(w, 1)
		}
		g.pass(2 * time.Second)
		for range 10 {
			g.spend(g.all[0], 1)
			g.pass(time.Second)
		}
		for _, w := range g.all {
			require.InDelta(t, 47, left(w), 0.1)
		}
	})
	t.Run("by a budget that is used for the first time", func(t *testing.T) {
		g := budgetOf(t, 3)
		g.connect()
		for range 20 {
			g.spend(g.all[0], 1)
			g.pass(time.Second)
		}
		require.Zero(t, g.all[1].Meters(), "what peers say makes no budgets")
		g.spend(g.all[1], 1)
		require.InDelta(t, 39, left(g.all[1]), 0.1)
		g.pass(2 * time.Second)
		require.InDelta(t, 39, left(g.all[0]), 0.1)
	})
	t.Run("by a gateway that has just started", func(t *testing.T) {
		g := budgetOf(t, 4)
		late := g.all[3]
		g.all = g.all[:3]
		g.connect()
		for range 8 {
			for _, w := range g.all {
				g.spend(w, 1)
			}
			g.pass(time.Second)
		}
		g.all = append(g.all, late)
		require.Equal(t, 3, g.spend(late, 3), "it has heard nothing")
		g.connect()
		g.pass(3 * time.Second)
		for _, w := range g.all {
			require.InDelta(t, 60-24-3, left(w), 0.2)
		}
	})
	t.Run("by all, when all have just started", func(t *testing.T) {
		g := budgetOf(t, 8)
		for _, w := range g.all {
			g.spend(w, 5)
		}
		g.connect()
		g.pass(3 * time.Second)
		for _, w := range g.all {
			require.InDelta(t, 20, left(w), 0.2)
		}
	})
	t.Run("after a partition", func(t *testing.T) {
		g := budgetOf(t, 2)
		g.connect()
		for _, w := range g.all {
			g.spend(w, 1)
		}
		g.pass(2 * time.Second)
		g.cut = func(int, int) bool { return true }
		g.all[0].LosePeer(2)
		g.all[1].LosePeer(1)
		for _, w := range g.all {
			w.PeersAlive(0)
		}
		g.spend(g.all[0], 20)
		g.spend(g.all[1], 30)
		g.pass(5 * time.Second)
		require.InDelta(t, 38, left(g.all[0]), 0.1)
		require.InDelta(t, 28, left(g.all[1]), 0.1)
		g.cut = nil
		g.connect()
		g.pass(5 * time.Second)
		for _, w := range g.all { // what was used meanwhile is not counted twice
			require.True(t, left(w) > 0 && left(w) < 29, "%g are left", left(w))
		}
	})
	t.Run("what a gateway that is lost has charged stays charged", func(t *testing.T) {
		g := budgetOf(t, 2)
		g.connect()
		g.spend(g.all[1], 1)
		g.pass(time.Second)
		for range 10 {
			g.spend(g.all[0], 1)
			g.pass(time.Second)
		}
		g.all[1].LosePeer(1)
		require.InDelta(t, 49, left(g.all[1]), 0.1)
	})
}

// What ends with less than was expected is given back at all gateways.
func TestCorrectionsAreShared(t *testing.T) {
	g := newGateways(t, 2, 1, func(int) admission.Options {
		return admission.Options{Detector: idle, Budgets: []admission.Budget{{TokensPerMinute: 100, Burst: 1000}}, Tuning: admission.Tuning{OutputTokens: 1000}}
	})
	g.lost = 0
	g.connect()
	offer := func(w *gateway) *admission.Ticket {
		c, _, err := w.Offer(admission.Arrival{Request: request("r", 0, "t")}, nil)
		require.NoError(t, err)
		c.Booked(w.ep)
		return c
	}
	tokens := func(w *gateway) float64 { _, tokens := w.Left(""); return tokens }
	offer(g.all[1])
	g.pass(time.Second)
	c := offer(g.all[0])
	g.pass(time.Second)
	require.InDelta(t, 100_000-2*1100, tokens(g.all[1]), 10)
	c.Done(types.Outcome{Usage: types.Usage{PromptTokens: types.Known(50), CompletionTokens: types.Known(20)}})
	g.pass(time.Second)
	require.InDelta(t, 100_000-1100-70, tokens(g.all[1]), 10)
	require.InDelta(t, 100_000-1100-70, tokens(g.all[0]), 10)
}

// What is put right a long time after it was charged is told until it was heard.
func TestLateCorrectionsAreTold(t *testing.T) {
	r := newRig(t, 1, admission.Options{Budgets: []admission.Budget{{Tenant: "t", TokensPerMinute: 1e6}}, Fairness: admission.FirstCome, Tuning: admission.Tuning{OutputTokens: 1000}})
	told(r.c, false)
	c := r.offer(request("r", 0, "t"))
	c.Booked(r.eps[0])
	r.clock.pass(5 * time.Minute)
	told(r.c, false)
	c.Done(types.Outcome{Usage: types.Usage{CompletionTokens: types.Known(10)}})
	require.Len(t, told(r.c, false), 1)
	r.clock.pass(5 * time.Second)
	all := told(r.c, true)
	require.Len(t, all, 1)
	require.Equal(t, 110.0, all[0].Tokens)
}

// TestAccountsThatAreNotShared: where gateways share only their load, each has its own budgets.
func TestAccountsThatAreNotShared(t *testing.T) {
	g := budgetOf(t, 3)
	g.connect()
	for _, w := range g.all {
		require.Equal(t, 60, g.spend(w, 100))
	}
}

// A refusal says whose budget it is.
func TestRefusalSaysThatBudgetsAreShared(t *testing.T) {
	g := budgetOf(t, 3)
	g.connect()
	g.pass(time.Second)
	g.spend(g.all[0], 1)
	_, _, err := g.all[0].Offer(admission.Arrival{Request: request("r", 0, "t")}, nil)
	for range 100 {
		if err != nil {
			break
		}
		_, _, err = g.all[0].Offer(admission.Arrival{Request: request("r", 0, "t")}, nil)
	}
	var refused *admission.Refusal
	require.ErrorAs(t, err, &refused)
	require.Equal(t, `the budget of tenant "", model "" is 0.06 requests per minute of 3 gateways together`, refused.Detail)
	require.Equal(t, time.Second, refused.RetryAfter, "the others may have used the rest: it is known soon")
}
