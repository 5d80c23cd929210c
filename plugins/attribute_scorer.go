package plugins

import (
	"context"
	"math"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/types"
)

// AttributeScorer is a Scorer on one attribute of the endpoints: (v-min)/(max-min), or 1 minus
// that with LowerIsBetter. It is llm-d's endpoint-attribute-scorer, except that it has no opinion
// on endpoints whose value is unknown, instead of scoring them 0.
type AttributeScorer struct {
	Attribute string             `json:"attributeKey"` // see AttributeNames
	Algorithm AttributeAlgorithm `json:"algorithm"`
}

// AttributeAlgorithm says how a value becomes a score.
type AttributeAlgorithm struct {
	// Type is LowerIsBetter or HigherIsBetter.
	Type          string        `json:"type"`
	Normalization Normalization `json:"normalization"`
}

// Values of AttributeAlgorithm.Type.
const (
	LowerIsBetter  = "linear_lower_is_better"
	HigherIsBetter = "linear_higher_is_better"
)

// Normalization defines min and max. At most one field is set; the zero value means
// AdaptiveRange.
type Normalization struct {
	// AdaptiveRange takes them from the candidates. If all are equal the score is 1.
	AdaptiveRange *struct{} `json:"adaptiveRange,omitempty"`
	// FixedRange sets them. Values outside are clamped.
	FixedRange *FixedRange `json:"fixedRange,omitempty"`
}

// FixedRange is a range with Min below Max.
type FixedRange struct {
	Min float64 `json:"min"`
	Max float64 `json:"max"`
}

// Score implements scheduling.Scorer.
func (s AttributeScorer) Score(_ context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
	read := attributes[s.Attribute]
	b := newBounds()
	for i, ep := range eps {
		scores[i] = read(req, ep)
		b.see(scores[i])
	}
	if f := s.Algorithm.Normalization.FixedRange; f != nil {
		b = bounds{f.Min, f.Max}
		for i, v := range scores {
			scores[i] = min(max(v, f.Min), f.Max) // NaN stays
		}
	}
	lowerIsBetter(scores, b.lo, b.hi)
	if s.Algorithm.Type == HigherIsBetter && b.lo < b.hi {
		for i, v := range scores {
			scores[i] = 1 - v
		}
	}
	return nil
}

func (s AttributeScorer) validate() error {
	var c check.Checks
	c.OneOf("attributeKey", s.Attribute, AttributeNames()...)
	c.OneOf("algorithm.type", s.Algorithm.Type, LowerIsBetter, HigherIsBetter)
	n := s.Algorithm.Normalization
	if f := n.FixedRange; f != nil {
		if n.AdaptiveRange != nil {
			c.Failf("algorithm.normalization", "has adaptiveRange and fixedRange, want one of them")
		}
		c.Want(f.Min < f.Max && !math.IsInf(f.Max-f.Min, 0), "algorithm.normalization.fixedRange.min", f.Min, "below max, which is %v", f.Max)
	}
	return c.Err()
}

// Describe implements scheduling.Describer.
func (s AttributeScorer) Describe(req *types.Request, ep *types.Endpoint) string {
	return count(attributes[s.Attribute](req, ep), s.Attribute)
}
