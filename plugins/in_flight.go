package plugins

import (
	"cmp"
	"context"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/types"
)

// DefaultSpread is the difference in requests in flight that spans the whole range of scores.
const DefaultSpread = 8

// InFlightRequests is a Scorer that prefers endpoints with few of this process's requests in
// flight: 1 - (n-min)/max(max-min, Spread) over the candidates, where n is their number.
//
// The ledger is always exact, so a burst within one scrape interval spreads instead of herding,
// and servers without metrics are balanced too. Spread keeps a difference of one or two requests
// from outweighing other scorers, for example for a cached conversation.
type InFlightRequests struct {
	// Spread is the smallest difference between the most and the least loaded endpoint for which
	// scores span 0..1. Default DefaultSpread; 1 gives (max-n)/(max-min) as in other scorers.
	Spread float64 `json:"spread"`
}

// Score implements scheduling.Scorer.
func (s InFlightRequests) Score(_ context.Context, _ *types.Request, eps []*types.Endpoint, scores []float64) error {
	b := newBounds()
	for i, ep := range eps {
		v := inFlight(ep)
		scores[i] = v
		b.see(v)
	}
	d := max(b.hi-b.lo, cmp.Or(s.Spread, DefaultSpread))
	for i, v := range scores {
		scores[i] = 1 - (v-b.lo)/d
	}
	return nil
}

func (s InFlightRequests) validate() error { return wantPositive("spread", s.Spread, DefaultSpread) }

// Describe implements scheduling.Describer.
func (InFlightRequests) Describe(_ *types.Request, ep *types.Endpoint) string {
	return describeLedger(ep, inFlight(ep), "in flight")
}

// ActiveRequests is a Scorer that prefers endpoints with few of this process's requests in
// flight: 1 for at most IdleThreshold of them, otherwise MaxBusyScore·(max-n)/max, where max is
// the highest number at any candidate. It is llm-d's active-request-scorer. In InFlightRequests
// a difference of one request weighs less.
type ActiveRequests struct {
	// IdleThreshold is the number of requests up to which an endpoint counts as idle. Default 0.
	IdleThreshold int `json:"idleThreshold,omitempty"`
	// MaxBusyScore bounds the score of endpoints that are not idle, 0 to 1. Nil: 1.
	MaxBusyScore *float64 `json:"maxBusyScore,omitempty"`
}

// Score implements scheduling.Scorer.
func (s ActiveRequests) Score(_ context.Context, _ *types.Request, eps []*types.Endpoint, scores []float64) error {
	most := 0.0
	for i, ep := range eps {
		scores[i] = inFlight(ep)
		if scores[i] > most {
			most = scores[i]
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
		case n > idle: // and not NaN
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

// DefaultTokenThreshold is the number of tokens in flight for which TokenLoad scores 0.
const DefaultTokenThreshold = 4194304

// TokenLoad is a Scorer that prefers endpoints with few context tokens in flight, by the ledger:
// 1 - min(1, tokens/Threshold). It is the Inference Extension's token-load-scorer.
type TokenLoad struct {
	// Threshold is the number of tokens for which the score is 0. Default DefaultTokenThreshold.
	Threshold float64 `json:"threshold"`
}

// Score implements scheduling.Scorer.
func (s TokenLoad) Score(_ context.Context, _ *types.Request, eps []*types.Endpoint, scores []float64) error {
	t := cmp.Or(s.Threshold, DefaultTokenThreshold)
	for i, ep := range eps {
		scores[i] = 1 - min(1, tokensInFlight(ep)/t)
	}
	return nil
}

// Describe implements scheduling.Describer.
func (s TokenLoad) Describe(_ *types.Request, ep *types.Endpoint) string {
	return describeLedger(ep, tokensInFlight(ep), "tokens in flight")
}

func (s TokenLoad) validate() error {
	return wantPositive("threshold", s.Threshold, DefaultTokenThreshold)
}

// inFlight returns the requests in flight at ep, NaN without a ledger.
func inFlight(ep *types.Endpoint) float64 {
	if ep.Load == nil {
		return types.Gauge{}.OrNaN()
	}
	return float64(ep.Load.Requests())
}

// tokensInFlight returns the context tokens in flight at ep, NaN without a ledger.
func tokensInFlight(ep *types.Endpoint) float64 {
	if ep.Load == nil {
		return types.Gauge{}.OrNaN()
	}
	return float64(ep.Load.ContextTokens())
}

func describeLedger(ep *types.Endpoint, v float64, what string) string {
	if ep.Load == nil {
		return "no ledger"
	}
	return count(v, what)
}

// wantPositive checks an option that is above 0, or 0 for its default.
func wantPositive(field string, v, def float64) error {
	var c check.Checks
	check.Positive(&c, field, &v, def)
	return c.Err()
}
