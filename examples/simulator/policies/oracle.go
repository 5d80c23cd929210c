package policies

import (
	"context"
	"fmt"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// CacheOracle tells how many tokens of a prompt are in an endpoint's prefix cache,
// exactly and now: what a feed of KV events comes to. simulation.Truth is one.
type CacheOracle interface {
	Cached(req *types.Request, ep *types.Endpoint) int
}

// exact is a CacheOracle as a scorer, of the part of the prompt that is cached.
type exact struct{ oracle CacheOracle }

// CachedTokens implements scheduling.CacheEstimator.
func (e exact) CachedTokens(req *types.Request, ep *types.Endpoint) int {
	return e.oracle.Cached(req, ep)
}

// Score implements scheduling.Scorer.
func (e exact) Score(_ context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
	for i, ep := range eps {
		scores[i] = float64(e.oracle.Cached(req, ep)) / float64(max(req.Prompt.Tokens, 1))
	}
	return nil
}

// Describe implements scheduling.Describer.
func (e exact) Describe(req *types.Request, ep *types.Endpoint) string {
	return fmt.Sprintf("%d of %d tokens cached", e.oracle.Cached(req, ep), req.Prompt.Tokens)
}

var (
	_ scheduling.Scorer         = exact{}
	_ scheduling.Describer      = exact{}
	_ scheduling.CacheEstimator = exact{}
)
