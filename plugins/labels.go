package plugins

import (
	"context"
	"fmt"
	"slices"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Labels is a Filter that keeps the endpoints that have all labels of Match and satisfy all
// Expressions, like a Kubernetes label selector. An empty one keeps all.
type Labels struct {
	Match       map[string]string `json:"match,omitempty"`
	Expressions []LabelExpression `json:"expressions,omitempty"`
}

// LabelExpression is a condition on one label.
type LabelExpression struct {
	Key string `json:"key"`
	// Operator is OpIn, OpNotIn, OpExists or OpDoesNotExist.
	Operator string `json:"operator"`
	// Values has at least one value for OpIn and OpNotIn, and none otherwise.
	Values []string `json:"values,omitempty"`
	// Optional makes endpoints without the label satisfy the condition, as they always do for
	// OpNotIn and OpDoesNotExist.
	Optional bool `json:"optional,omitempty"`
}

// Operators of a LabelExpression, named as in Kubernetes.
const (
	OpIn           = "In"
	OpNotIn        = "NotIn"
	OpExists       = "Exists"
	OpDoesNotExist = "DoesNotExist"
)

var labelOperators = []string{OpIn, OpNotIn, OpExists, OpDoesNotExist}

// Filter implements scheduling.Filter.
func (f Labels) Filter(_ context.Context, _ *types.Request, eps []*types.Endpoint, keep []bool) error {
	for i, ep := range eps {
		keep[i] = keep[i] && f.match(ep.Labels)
	}
	return nil
}

func (f Labels) match(labels map[string]string) bool {
	for k, want := range f.Match {
		if got, ok := labels[k]; !ok || got != want {
			return false
		}
	}
	for i := range f.Expressions {
		if !f.Expressions[i].match(labels) {
			return false
		}
	}
	return true
}

func (e *LabelExpression) match(labels map[string]string) bool {
	got, ok := labels[e.Key]
	switch {
	case !ok && e.Optional:
		return true
	case e.Operator == OpIn:
		return ok && slices.Contains(e.Values, got)
	case e.Operator == OpNotIn:
		return !ok || !slices.Contains(e.Values, got)
	case e.Operator == OpExists:
		return ok
	}
	return !ok
}

func (f Labels) validate() error {
	var c check.Checks
	for i, e := range f.Expressions {
		at, needs := fmt.Sprintf("expressions[%d].", i), e.Operator == OpIn || e.Operator == OpNotIn
		check.Required(&c, at+"key", e.Key)
		c.OneOf(at+"operator", e.Operator, labelOperators...)
		switch {
		case needs && len(e.Values) == 0:
			c.Failf(at+"values", "is empty, want some for operator %s", e.Operator)
		case !needs && len(e.Values) > 0:
			c.Want(false, at+"values", e.Values, "none for operator %s", e.Operator)
		}
	}
	return c.Err()
}

// Constraint implements scheduling.Constrainer.
func (f Labels) Constraint(*types.Request, []*types.Endpoint) scheduling.Constraint {
	if len(f.Match) == 0 && len(f.Expressions) == 0 {
		return scheduling.Constraint{}
	}
	return scheduling.Constraint{ // fmt prints maps sorted by key
		Name:  fmt.Sprintf("%v %+v", f.Match, f.Expressions),
		Match: func(ep *types.Endpoint) bool { return f.match(ep.Labels) },
	}
}

// Describe implements scheduling.Describer.
func (f Labels) Describe(_ *types.Request, ep *types.Endpoint) string {
	return fmt.Sprintf("labels %v", ep.Labels)
}
