package plugins

import (
	"context"
	"maps"
	"math"
	"slices"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/types"
)

// AttributeFilter is a Filter on one attribute of the endpoints. It is llm-d's
// endpoint-attribute-filter.
type AttributeFilter struct {
	Attribute string `json:"attribute"` // see AttributeNames
	// OnMissing is "Pass" to keep endpoints whose value is unknown, or "Fail". Default "Pass".
	OnMissing string `json:"onMissing,omitempty"`
	// FallbackOnEmpty keeps all endpoints if none would be left.
	FallbackOnEmpty bool          `json:"fallbackOnEmpty,omitempty"`
	Algorithm       AttributeRule `json:"algorithm"`
}

// AttributeRule is a condition on values. Only the field that Type names is used.
type AttributeRule struct {
	Type       string          `json:"type"` // threshold, range, topK or percentile
	Threshold  *ThresholdRule  `json:"threshold,omitempty"`
	Range      *FixedRange     `json:"range,omitempty"` // both ends included; Min may equal Max
	TopK       *TopKRule       `json:"topK,omitempty"`
	Percentile *PercentileRule `json:"percentile,omitempty"`
}

// ThresholdRule compares with a fixed value.
type ThresholdRule struct {
	// Operator is LessThan, LessThanOrEqual, GreaterThan, GreaterThanOrEqual, Equal or
	// NotEqual.
	Operator string  `json:"operator"`
	Value    float64 `json:"value"`
}

// TopKRule keeps the K best endpoints, drawing among equal ones.
type TopKRule struct {
	K              int   `json:"k"`
	HigherIsBetter *bool `json:"higherIsBetter,omitempty"` // nil: true
}

// PercentileRule keeps endpoints at the nearest-rank percentile of the candidates or better.
type PercentileRule struct {
	Percentile     float64 `json:"percentile"`               // 0 to 100
	HigherIsBetter *bool   `json:"higherIsBetter,omitempty"` // nil: true
}

var comparisons = map[string]func(v, with float64) bool{
	"LessThan":           func(v, with float64) bool { return v < with },
	"LessThanOrEqual":    func(v, with float64) bool { return v <= with },
	"GreaterThan":        func(v, with float64) bool { return v > with },
	"GreaterThanOrEqual": func(v, with float64) bool { return v >= with },
	"Equal":              func(v, with float64) bool { return v == with },
	"NotEqual":           func(v, with float64) bool { return v != with },
}

const onMissingFail = "Fail"

// Filter implements scheduling.Filter.
func (f AttributeFilter) Filter(_ context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error {
	read := attributes[f.Attribute]
	r := newRanking(len(eps))
	defer r.free()
	for i, ep := range eps {
		v := read(req, ep)
		r.values[i] = v
		keep[i] = v != v && f.OnMissing != onMissingFail
	}
	switch a := &f.Algorithm; a.Type {
	case "threshold":
		compare := comparisons[a.Threshold.Operator]
		keepThose(r.values, keep, func(v float64) bool { return compare(v, a.Threshold.Value) })
	case "range":
		keepThose(r.values, keep, func(v float64) bool { return v >= a.Range.Min && v <= a.Range.Max })
	case "topK":
		r.known()
		r.sort(req, eps, orTrue(a.TopK.HigherIsBetter))
		for _, i := range r.order[:min(a.TopK.K, len(r.order))] {
			keep[i] = true
		}
	case "percentile":
		r.known()
		r.sort(req, eps, false)
		if n := len(r.order); n > 0 {
			cut := r.values[r.order[a.Percentile.rank(n)-1]]
			higher := orTrue(a.Percentile.HigherIsBetter)
			keepThose(r.values, keep, func(v float64) bool { return v == cut || v > cut == higher })
		}
	}
	if f.FallbackOnEmpty && !slices.Contains(keep, true) {
		keepAll(keep)
	}
	return nil
}

// keepThose sets keep for known values.
func keepThose(values []float64, keep []bool, good func(float64) bool) {
	for i, v := range values {
		if v == v {
			keep[i] = good(v)
		}
	}
}

// rank returns the rank of the percentile among n values, from 1 for the lowest.
func (r *PercentileRule) rank(n int) int {
	return max(int(math.Ceil(r.Percentile/100*float64(n))), 1)
}

func orTrue(is *bool) bool { return is == nil || *is }

func (f AttributeFilter) validate() error {
	var c check.Checks
	c.OneOf("attribute", f.Attribute, AttributeNames()...)
	if f.OnMissing != "" {
		c.OneOf("onMissing", f.OnMissing, "Pass", onMissingFail)
	}
	c.Add("algorithm", f.Algorithm.validate())
	return c.Err()
}

func (r *AttributeRule) validate() error {
	var c check.Checks
	missing := false
	switch r.Type {
	case "threshold":
		if missing = r.Threshold == nil; !missing {
			c.OneOf("threshold.operator", r.Threshold.Operator, slices.Sorted(maps.Keys(comparisons))...)
		}
	case "range":
		if missing = r.Range == nil; !missing {
			c.Want(r.Range.Min <= r.Range.Max, "range.min", r.Range.Min, "at most max, which is %v", r.Range.Max)
		}
	case "topK":
		if missing = r.TopK == nil; !missing {
			check.Range(&c, "topK.k", r.TopK.K, 1, 0)
		}
	case "percentile":
		if missing = r.Percentile == nil; !missing {
			check.Range(&c, "percentile.percentile", r.Percentile.Percentile, 0, 100)
		}
	default:
		c.OneOf("type", r.Type, "threshold", "range", "topK", "percentile")
	}
	if missing {
		c.Failf(r.Type, "is required for this type")
	}
	return c.Err()
}

// Describe implements scheduling.Describer.
func (f AttributeFilter) Describe(req *types.Request, ep *types.Endpoint) string {
	return count(attributes[f.Attribute](req, ep), f.Attribute)
}
