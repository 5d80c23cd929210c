package rollout

import (
	"fmt"
	"math"
	"strings"
)

// weightsAt returns the weights at which the canary has percent.
func weightsAt(p *Plan, percent float64) []Weight {
	canary := int32(math.Round(percent * TotalWeight / 100))
	var all []Weight
	for _, w := range [...]Weight{{p.Stable, TotalWeight - canary}, {p.Canary, canary}} {
		if w.Weight > 0 {
			all = append(all, w)
		}
	}
	return all
}

// SameShares reports whether weights split traffic alike, whatever they sum to and in which order they are.
func SameShares(a, b []Weight) bool {
	sum := func(all []Weight) (n int64) {
		for _, w := range all {
			n += int64(max(w.Weight, 0))
		}
		return n
	}
	of := func(all []Weight, target string) (n int64) {
		for _, w := range all {
			if w.Target == target {
				n += int64(max(w.Weight, 0))
			}
		}
		return n
	}
	sumA, sumB := sum(a), sum(b)
	for _, all := range [...][]Weight{a, b} {
		for _, w := range all {
			if of(a, w.Target)*sumB != of(b, w.Target)*sumA {
				return false
			}
		}
	}
	return (sumA == 0) == (sumB == 0)
}

// words shows weights to people.
func words(all []Weight) string {
	sum := 0.
	for _, w := range all {
		sum += float64(w.Weight)
	}
	parts := make([]string, 0, len(all))
	for _, w := range all {
		parts = append(parts, fmt.Sprintf("%s %.4g %%", w.Target, 100*float64(w.Weight)/max(sum, 1)))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
