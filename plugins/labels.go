package plugins

import (
	"context"
	"fmt"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Labels is a Filter that keeps the endpoints that carry all the labels of Match.
// With an empty Match it keeps all.
type Labels struct {
	Match map[string]string `json:"match"`
}

// Filter implements scheduling.Filter.
func (f Labels) Filter(_ context.Context, _ *types.Request, eps []*types.Endpoint, keep []bool) error {
	for i, ep := range eps {
		for k, want := range f.Match {
			if got, ok := ep.Labels[k]; !ok || got != want {
				keep[i] = false
				break
			}
		}
	}
	return nil
}

// Constraint implements scheduling.Constrainer.
func (f Labels) Constraint(*types.Request, []*types.Endpoint) scheduling.Constraint {
	if len(f.Match) == 0 {
		return scheduling.Constraint{}
	}
	return scheduling.Constraint{Name: fmt.Sprint(f.Match), Match: func(ep *types.Endpoint) bool { // maps are printed in the order of their keys
		var keep [1]bool
		keep[0] = true
		_ = f.Filter(context.Background(), nil, []*types.Endpoint{ep}, keep[:])
		return keep[0]
	}}
}

// Describe implements scheduling.Describer.
func (f Labels) Describe(_ *types.Request, ep *types.Endpoint) string {
	return fmt.Sprintf("labels %v", ep.Labels)
}

var (
	_ scheduling.Filter      = Labels{}
	_ scheduling.Describer   = Labels{}
	_ scheduling.Constrainer = Labels{}
)
