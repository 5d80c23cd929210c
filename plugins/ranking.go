package plugins

import (
	"cmp"
	"slices"
	"sync"

	"github.com/inferpick/inferpick/internal/prefixindex"
	"github.com/inferpick/inferpick/types"
)

// ranking is scratch memory for sorting endpoints.
type ranking struct {
	values    []float64 // by endpoint
	order     []int     // indices of endpoints
	tieBreaks []uint64  // by endpoint, random
}

var rankings = sync.Pool{New: func() any { return new(ranking) }}

// newRanking returns a ranking of n endpoints with values of 0. Call free when done.
func newRanking(n int) *ranking {
	r := rankings.Get().(*ranking)
	r.values = slices.Grow(r.values[:0], n)[:n]
	clear(r.values)
	r.order = r.order[:0]
	return r
}

func (r *ranking) free() { rankings.Put(r) }

// known sets order to the endpoints whose value is known.
func (r *ranking) known() {
	r.order = r.order[:0]
	for i, v := range r.values {
		if v == v {
			r.order = append(r.order, i)
		}
	}
}

// sort sorts order by value, lowest or highest first. The order of equal ones is random, so that
// requests do not all go to the same endpoint, and does not depend on their order in eps.
func (r *ranking) sort(req *types.Request, eps []*types.Endpoint, highest bool) {
	drawn := req.Rand.Uint64()
	r.tieBreaks = slices.Grow(r.tieBreaks[:0], len(eps))[:len(eps)]
	for _, i := range r.order {
		one := types.NewRand(drawn ^ prefixindex.Seed(eps[i].ID))
		r.tieBreaks[i] = one.Uint64()
	}
	slices.SortFunc(r.order, func(i, j int) int {
		a, b := r.values[i], r.values[j]
		if highest {
			a, b = b, a
		}
		if a != b {
			return cmp.Compare(a, b)
		}
		return cmp.Compare(r.tieBreaks[i], r.tieBreaks[j])
	})
}
