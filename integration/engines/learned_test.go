package engines_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

// A fleet that is far from what the policy starts with, which is one of GPUs, is learned
// from some tens of requests: then what the policy says of a step and of a first token is
// what streams show, within a factor of two in the median.
func TestLearned(t *testing.T) {
	all := servers(t)
	quiet(t, all)
	g := before(t, all)
	const (
		learning, asking = 50, 40
		factor           = 2.
	)
	atOnce := 4 * len(all)
	ask := func(phase string, n int) (steps, firsts []float64) {
		var questions []question
		for i := range n {
			questions = append(questions, question{
				id:     fmt.Sprint(phase, i),
				prompt: fmt.Sprintf("%s %d: tell me about ships, harbours and the sea, and what a ledger is.", phase, i),
				tokens: 16 + i%9, stream: true,
			})
		}
		answers := askAll(g.URL, questions, atOnce)
		allGood(t, answers)
		for i, a := range answers {
			step, ok := g.said(questions[i].id, sayStep)
			first, also := g.said(questions[i].id, sayFirst)
			if !ok || !also {
				t.Fatalf("the explanation of %s has no step or no first token", questions[i].id)
			}
			if a.tokens > 1 && a.last > a.first {
				steps = append(steps, step/((a.last-a.first).Seconds()/float64(a.tokens-1)))
			}
			firsts = append(firsts, first/a.first.Seconds())
		}
		return steps, firsts
	}
	show := func(phase string, steps, firsts []float64) {
		t.Logf("%s: said over measured, quartiles: step %.3f, first token %.3f", phase, quartiles(steps), quartiles(firsts))
	}
	steps, firsts := ask("learning", learning)
	show("while learning", steps, firsts)
	steps, firsts = ask("after", asking)
	show("after that", steps, firsts)
	for _, of := range []struct {
		what   string
		ratios []float64
	}{{"a step", steps}, {"the first token", firsts}} {
		if m := quartiles(of.ratios)[1]; math.IsNaN(m) || m > factor || m < 1/factor {
			t.Errorf("%s: %.3f of what was measured, in the median of %d; want within a factor of %g", of.what, m, len(of.ratios), factor)
		}
	}
}

// Unstreamed answers say nothing of when their tokens came: they must not teach that a
// server is fast.
func TestLearnedFromUnstreamed(t *testing.T) {
	all := servers(t)
	quiet(t, all)
	g := before(t, all)
	ask := func(phase string, n int, stream bool) []question {
		var questions []question
		for i := range n {
			questions = append(questions, question{id: fmt.Sprint(phase, i), prompt: fmt.Sprintf("%s %d: what is a harbour?", phase, i), tokens: 16, stream: stream})
		}
		return questions
	}
	allGood(t, askAll(g.URL, ask("unstreamed", 60, false), 4*len(all)))
	questions := ask("streamed", 24, true)
	var ratios []float64
	answers := askAll(g.URL, questions, 4*len(all))
	allGood(t, answers)
	for i, a := range answers {
		if step, ok := g.said(questions[i].id, sayStep); ok && a.last > a.first {
			ratios = append(ratios, step/((a.last-a.first).Seconds()/float64(a.tokens-1)))
		}
	}
	t.Logf("step said over measured, quartiles: %.3f", quartiles(ratios))
	before, _ := g.said("unstreamed0", sayStep) // by a policy that has learned nothing
	if after, ok := g.said("streamed0", sayStep); !ok || after < before/2 {
		t.Errorf("after unstreamed answers a step is said to take %.3g ms, before them %.3g ms", 1000*after, 1000*before)
	}
}

// quartiles returns three values that cut the sorted ones into quarters.
func quartiles(of []float64) []float64 {
	sorted := slices.Sorted(slices.Values(of))
	if len(sorted) == 0 {
		return []float64{math.NaN(), math.NaN(), math.NaN()}
	}
	n := len(sorted)
	return []float64{sorted[n/4], sorted[n/2], sorted[n*3/4]}
}
