package policies

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// rank fills in scores by an order instead of by size: 1 for the endpoints that
// come first, less for each group of equals after them, always above 0. A picker
// that takes the highest score follows the order, fallbacks included, and nothing
// is lost by squeezing numbers of any size into 0..1. Endpoints not in index are
// left as they are.
func rank(scores []float64, index []int, compare func(a, b int) int) {
	slices.SortStableFunc(index, compare)
	group, groups := 0, 1
	for k := 1; k < len(index); k++ {
		if compare(index[k-1], index[k]) != 0 {
			groups++
		}
	}
	for k, i := range index {
		if k > 0 && compare(index[k-1], i) != 0 {
			group++
		}
		scores[i] = 1 - float64(group)/float64(groups)
	}
}

// upTo returns 0, 1, … n-1: all endpoints, for rank.
func upTo(n int) []int {
	index := make([]int, n)
	for i := range index {
		index[i] = i
	}
	return index
}

// lowest is a scheduling.Scorer for a rule of the kind "send it where this is
// least". Endpoints whose cost is NaN, since a figure is unknown, get no score.
type lowest struct {
	unit string // of the cost, for people
	cost func(req *types.Request, ep *types.Endpoint) float64
}

// Score implements scheduling.Scorer.
func (s lowest) Score(_ context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
	costs := make([]float64, len(eps))
	known := make([]int, 0, len(eps))
	for i, ep := range eps {
		if costs[i] = s.cost(req, ep); costs[i] == costs[i] {
			known = append(known, i)
		}
	}
	rank(scores, known, func(a, b int) int { return cmp.Compare(costs[a], costs[b]) })
	return nil
}

// Describe implements scheduling.Describer.
func (s lowest) Describe(req *types.Request, ep *types.Endpoint) string {
	c := s.cost(req, ep)
	if c != c {
		return s.unit + " unknown"
	}
	return fmt.Sprintf("%.6g %s", c, s.unit)
}

// inFlight returns the requests that this gateway has at ep, 0 without a ledger.
func inFlight(ep *types.Endpoint) float64 {
	if ep.Load == nil {
		return 0
	}
	return float64(ep.Load.Requests())
}

// prefilling returns the uncached prompt tokens that this gateway has sent to ep
// and whose first token it has not seen, 0 without a ledger.
func prefilling(ep *types.Endpoint) float64 {
	if ep.Load == nil {
		return 0
	}
	return float64(ep.Load.PrefillTokens())
}

// uncached returns the prompt tokens that ep would have to compute: at least 1,
// since an engine computes the last one anew whatever it holds.
func uncached(c scheduling.CacheEstimator, req *types.Request, ep *types.Endpoint) float64 {
	return float64(max(req.Prompt.Tokens-c.CachedTokens(req, ep), 1))
}

// rule returns the profile that takes the endpoint with the highest score, one of
// them at random if several have it, among those that do not fail.
func rule(name string, s scheduling.Scorer, trackers ...scheduling.Tracker) scheduling.Profile {
	return ejecting(scheduling.Profile{
		Filters:   []scheduling.Named{{Name: "healthy", Filter: plugins.Healthy{}}},
		Scorers:   []scheduling.Weighted{{Name: name, Scorer: s, Weight: 1}},
		Picker:    plugins.MaxScore{},
		Trackers:  trackers,
		Fallbacks: plugins.DefaultFallbacks,
	})
}

// ejecting returns p with the filter by which plugins.Default leaves out endpoints that
// fail: rules are compared by where they send what can be served.
func ejecting(p scheduling.Profile) scheduling.Profile {
	e, err := plugins.NewEjection(plugins.EjectionOptions{})
	if err != nil {
		panic(fmt.Sprintf("policies: %v", err)) // the options are constants
	}
	p.Filters = append(p.Filters, scheduling.Named{Name: "ejection", Filter: e})
	return p
}

var (
	_ scheduling.Scorer    = lowest{}
	_ scheduling.Describer = lowest{}
)
