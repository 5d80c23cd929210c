package plugins

import (
	"cmp"
	"slices"
	"sync"

	"github.com/inferpick/inferpick/internal/prefixindex"
	"github.com/inferpick/inferpick/types"
)

// ranking is the memory of a plugin that puts endpoints in an order.
type ranking struct {
	values    []float64 // of each endpoint
	order     []int     // indices
	tieBreaks []uint64  // of each endpoint: which of equal ones comes first
}

var rankings = sync.Pool{New: func() any { return new(ranking) }}

// newRanking returns one for n endpoints, to be given back by free. Its values are 0.
func newRanking(n int) *ranking {
	r := rankings.Get().(*ranking)
	r.values = slices.Grow(r.values[:0], n)[:n]
	clear(r.values)
	r.order = r.order[:0]
	return r
}

func (r *ranking) free() { rankings.Put(r) }

// known lists the endpoints whose value is a number.
func (r *ranking) known() {
	r.order = r.order[:0]
	for i, v := range r.values {
		if v == v {
			r.order = append(r.order, i)
		}
	}
}

// sort puts those that are listed in the order of their values, the lowest or the highest
// first. Of equal ones it is drawn who is first, so that not all requests go to the same;
// their order in eps is of no meaning.
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
