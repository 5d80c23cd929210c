package scheduling

import (
	"math"
	"slices"
	"sync"

	"github.com/inferpick/inferpick/types"
)

// scratch is the memory of one run of the pipeline. It is pooled: nothing of it
// may be kept after the run.
type scratch struct {
	eps    []*types.Endpoint // candidates left, once a filter or a fallback changed the list
	keep   []bool
	scores []float64 // of the scorer that runs
	totals []float64 // weighted sums
	best   [MaxFallbacks + 1]int
	by     []int32  // who computes the prompt for each candidate, see split
	second *scratch // of those who may; nil: not used yet

	left []*types.Endpoint // of a second scratch: those that may compute the prompt

	// The list that was looked at last, and what is true of it. Endpoints do not change, so
	// that it is true of the same list again.
	looked   []*types.Endpoint
	overview Overview
	answer   []*types.Endpoint // those that may answer, if not all of them
	prefill  []*types.Endpoint // those that may compute prompts for others
}

// look finds out what is true of eps, and returns those that may answer. Most lists are those of the
// decision before.
func (sc *scratch) look(eps []*types.Endpoint) (answer []*types.Endpoint) {
	if !slices.Equal(sc.looked, eps) {
		sc.overview = OverviewOf(eps)
		sc.looked = append(sc.looked[:0], eps...)
		sc.answer, sc.prefill = sc.answer[:0], sc.prefill[:0]
		if sc.overview.Roles != 0 {
			sc.sort(eps)
		}
	}
	if sc.overview.Roles == 0 {
		return eps
	}
	return sc.answer
}

// sort sorts eps by what they may do.
func (sc *scratch) sort(eps []*types.Endpoint) {
	for _, ep := range eps {
		if ep.Roles.Answers() {
			sc.answer = append(sc.answer, ep)
		}
		if ep.Roles.Has(types.RolePrefill) {
			sc.prefill = append(sc.prefill, ep)
		}
	}
}

// maxPooled bounds what goes back to the pool, in endpoints: one call over a
// huge list must not pin its memory for good.
const maxPooled = 1 << 16

var scratchPool = sync.Pool{New: func() any { return new(scratch) }}

func getScratch(n int) *scratch {
	sc := scratchPool.Get().(*scratch)
	sc.grow(n)
	return sc
}

// grow makes room for n endpoints.
func (sc *scratch) grow(n int) {
	if cap(sc.eps) >= n {
		return
	}
	c := n + n/4 // room for a fleet that grows
	sc.eps = make([]*types.Endpoint, 0, c)
	sc.keep = make([]bool, c)
	sc.scores = make([]float64, c)
	sc.totals = make([]float64, c)
	sc.by = make([]int32, c)
}

func (sc *scratch) free() {
	if cap(sc.eps) > maxPooled {
		return
	}
	// The endpoints are left in sc.eps and sc.looked: at worst they keep the readings of a
	// removed endpoint alive until the next call.
	scratchPool.Put(sc)
}

// owned makes eps the scratch's own copy, so that it may be changed.
func (sc *scratch) owned(eps []*types.Endpoint) []*types.Endpoint {
	sc.eps = append(sc.eps[:0], eps...)
	return sc.eps
}

var nan = math.NaN()

// fillNaN sets every element to NaN, doubling so that most of it is one copy.
func fillNaN(s []float64) {
	if len(s) == 0 {
		return
	}
	s[0] = nan
	for n := 1; n < len(s); n *= 2 {
		copy(s[n:], s[:n])
	}
}

func fillTrue(s []bool) {
	if len(s) == 0 {
		return
	}
	s[0] = true
	for n := 1; n < len(s); n *= 2 {
		copy(s[n:], s[:n])
	}
}

// allKept is what filters leave of most parts of a list: compared as one.
var allKept = [64]bool(slices.Repeat([]bool{true}, 64))
