package scheduling_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

type brokenForHelpers struct{}

func (brokenForHelpers) Filter(_ context.Context, _ *types.Request, eps []*types.Endpoint, _ []bool) error {
	if eps[0].Roles.Has(types.RolePrefill) {
		return errors.New("broken")
	}
	return nil
}

// A filter that fails for those that may compute the prompt is told of: nothing is dropped silently.
func TestHelperFilterErrorsAreTold(t *testing.T) {
	var failed []error
	s := mustNew(t, scheduling.Profile{Splitter: &split{}, Picker: first, OutputTokens: 10, Seed: 1,
		Filters: []scheduling.Named{{Name: "broken", Filter: brokenForHelpers{}}},
		Hooks:   scheduling.Hooks{PluginFailed: func(_ *types.Request, err *scheduling.PluginError) { failed = append(failed, err) }},
	})
	d, err := s.Schedule(ctx, splittable(100), withRoles(roles, "p1", "p2", "d1"))
	require.NoError(t, err)
	defer d.Done(types.Outcome{})
	require.Nil(t, d.Prefill())
	require.Len(t, failed, 1)
	require.ErrorContains(t, failed[0], "broken")
}
