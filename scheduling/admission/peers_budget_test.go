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

func TestX(t *testing.T) {
	for _, b := range []admission.Budget{
		{RequestsPerMinute: 600}, {RequestsPerMinute: 6000}, {TokensPerMinute: 1_200_000, Burst: 0.1}, {TokensPerMinute: 120_000, Burst: 0.05}, {RequestsPerMinute: 600, Burst: 0.01}, {RequestsPerMinute: 60, Burst: 0.01}, {RequestsPerMinute: 60},
	} {
		for name, s := range map[string]spread{"even": even, "uneven": uneven, "alone": alone, "moving": moving} {
			for _, demand := range []float64{0.9, 1.5, 10, 100} {
				run := func(n int) []let {
					g := newGateways(t, n, 1, func(int) admission.Options {
						return admission.Options{Detector: idle, Budgets: []admission.Budget{b}, Tuning: admission.Tuning{OutputTokens: 100}}
					})
					g.connect()
					g.pass(3 * time.Second)
					return usage(g, b, s, demand, 3*time.Minute)
				}
				if b.RequestsPerMinute*demand > 100000 {
					continue
				}
				one, eight := run(1), run(8)
				if b.Burst == 0 {
					b.Burst = 1
				}
				rate := b.RequestsPerMinute + b.TokensPerMinute
				line := fmt.Sprintf("rpm %6g tpm %8g burst %5g %7s x%-4g total %.3f", b.RequestsPerMinute, b.TokensPerMinute, b.Burst, name, demand, total(eight)/total(one))
				for _, w := range []time.Duration{0, 100 * time.Millisecond, time.Second, 10 * time.Second, time.Minute} {
					line += fmt.Sprintf("  %v: %.3f", w, most(eight, w)/max(rate*b.Burst+rate*w.Minutes(), 1))
				}
				t.Log(line)
			}
		}
	}
}
