package plugins

import (
	"context"
	"math"
	"sync/atomic"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// MaxScore is a Picker that chooses the endpoint with the highest total score, at random among
// equals.
type MaxScore struct{}

// Pick implements scheduling.Picker.
func (MaxScore) Pick(_ context.Context, req *types.Request, _ []*types.Endpoint, scores []float64) (int, error) {
	best, top, ties := 0, scores[0], 1
	for i, s := range scores {
		if s < top || i == 0 {
			continue
		}
		if s > top {
			best, top, ties = i, s, 1
			continue
		}
		// Reservoir sampling: the k-th of equals replaces the current one with probability 1/k.
		if ties++; req.Rand.IntN(ties) == 0 {
			best = i
		}
	}
	return best, nil
}

// Rank implements scheduling.Ranker, unless scores that matter are equal.
func (MaxScore) Rank(scores []float64, best []int) bool {
	var room [scheduling.MaxFallbacks + 1]float64
	top := room[:len(best)] // the highest so far, descending
	for i := range top {
		top[i] = math.Inf(-1)
	}
	last := len(top) - 1
	for i, s := range scores {
		if s < top[last] {
			continue
		}
		if !(s > top[last]) {
			return false
		}
		at := last
		for ; at > 0 && s > top[at-1]; at-- {
			top[at], best[at] = top[at-1], best[at-1]
		}
		if at > 0 && !(s < top[at-1]) {
			return false
		}
		top[at], best[at] = s, i
	}
	return true
}

// WeightedRandom is a Picker that chooses each endpoint with a probability proportional to its
// total score, or uniformly if all scores are 0. With fallbacks this is sampling without
// replacement, with the distribution of the A-Res algorithm (Efraimidis and Spirakis, 2006)
// that the Inference Extension's weighted-random-picker uses.
type WeightedRandom struct{}

// Pick implements scheduling.Picker.
func (WeightedRandom) Pick(_ context.Context, req *types.Request, _ []*types.Endpoint, scores []float64) (int, error) {
	sum := 0.0
	for _, s := range scores {
		sum += s
	}
	if sum == 0 {
		return req.Rand.IntN(len(scores)), nil
	}
	r := req.Rand.Float64() * sum
	last := 0
	for i, s := range scores {
		if s == 0 {
			continue
		}
		if r < s {
			return i, nil
		}
		r -= s
		last = i
	}
	return last, nil // what rounding has left
}

// PowerOfTwo is a Picker that draws two endpoints and chooses the one with the higher total
// score (Mitzenmacher, "The power of two choices in randomized load balancing", 2001), the
// first drawn if they are equal.
type PowerOfTwo struct{}

// Pick implements scheduling.Picker.
func (PowerOfTwo) Pick(_ context.Context, req *types.Request, _ []*types.Endpoint, scores []float64) (int, error) {
	n := len(scores)
	if n == 1 {
		return 0, nil
	}
	a := req.Rand.IntN(n)
	b := req.Rand.IntN(n - 1)
	if b >= a {
		b++ // two different ones
	}
	if scores[b] > scores[a] {
		return b, nil
	}
	return a, nil
}

// Random is a Picker that chooses uniformly and ignores scores.
type Random struct{}

// Pick implements scheduling.Picker.
func (Random) Pick(_ context.Context, req *types.Request, eps []*types.Endpoint, _ []float64) (int, error) {
	return req.Rand.IntN(len(eps)), nil
}

// RoundRobin is a Picker that chooses the candidates in turn and ignores scores, as a baseline.
// The zero value is ready to use; wire a pointer to it.
//
// The turn advances when a decision is booked, so that explanations do not use one up. Decisions
// made at the same time may therefore choose the same endpoint.
type RoundRobin struct {
	pickedOnly
	turn atomic.Uint64
}

// Pick implements scheduling.Picker.
func (p *RoundRobin) Pick(_ context.Context, _ *types.Request, eps []*types.Endpoint, _ []float64) (int, error) {
	return int(p.turn.Load() % uint64(len(eps))), nil
}

// Picked implements scheduling.Tracker.
func (p *RoundRobin) Picked(*types.Request, *types.Endpoint) { p.turn.Add(1) }

// pickedOnly is the rest of a scheduling.Tracker that only needs Picked.
type pickedOnly struct{}

func (pickedOnly) FirstToken(*types.Request, *types.Endpoint)              {}
func (pickedOnly) Finished(*types.Request, *types.Endpoint, types.Outcome) {}
