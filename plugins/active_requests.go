package plugins

import (
	"context"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// ActiveRequests is a Scorer that prefers endpoints with few of this process's requests
// under way: 1 for those with at most IdleThreshold, and MaxBusyScore·(max-n)/max for
// the others, with max the most at any candidate. It is llm-d's active-request-scorer.
// InFlightRequests sees the same, but keeps a difference of one request small.
type ActiveRequests struct {
	// IdleThreshold is the number of requests up to which an endpoint counts as idle.
	// Default 0.
	IdleThreshold int `json:"idleThreshold,omitempty"`
	// MaxBusyScore bounds the score of endpoints that are not idle, 0 to 1. Nil: 1.
	MaxBusyScore *float64 `json:"maxBusyScore,omitempty"`
}

// Score implements scheduling.Scorer.
func (s ActiveRequests) Score(_ context.Context, _ *types.Request, eps []*types.Endpoint, scores []float64) error {
	most := 0.0
	for i, ep := range eps {
		if ep.Load != nil {
			scores[i] = float64(ep.Load.Requests())
			most = max(most, scores[i])
		}
	}
	busy, idle := 1.0, float64(s.IdleThreshold)
	if s.MaxBusyScore != nil {
		busy = *s.MaxBusyScore
	}
	for i, n := range scores {
		switch {
		case n <= idle:
			scores[i] = 1
		case n > idle: // and not unknown
			scores[i] = (most - n) / most * busy
		}
	}
	return nil
}

func (s ActiveRequests) validate() error {
	var c check.Checks
	check.Range(&c, "idleThreshold", s.IdleThreshold, 0, 0)
	if s.MaxBusyScore != nil {
		check.Range(&c, "maxBusyScore", *s.MaxBusyScore, 0, 1)
	}
	return c.Err()
}

// Describe implements scheduling.Describer.
func (ActiveRequests) Describe(req *types.Request, ep *types.Endpoint) string {
	return InFlightRequests{}.Describe(req, ep)
}

var (
	_ scheduling.Scorer    = ActiveRequests{}
	_ scheduling.Describer = ActiveRequests{}
)
