package scheduling_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// A request that is sent later than it was decided is picked anew for plugins, and booked all the time; hooks
// hear nothing of it.
func TestPostponed(t *testing.T) {
	l, eps := new(legs), withRoles(roles, "p1", "d1")
	var told []string
	now := time.Unix(1_000_000, 0)
	p := scheduling.Profile{Splitter: &split{gain: 1}, Picker: first, OutputTokens: 10, Seed: 1, Trackers: []scheduling.Tracker{l}, Now: func() time.Time { return now }}
	p.Hooks.Retried = func(scheduling.Event) { told = append(told, "retried") }
	p.Hooks.Prefilled = func(e scheduling.Event) { told = append(told, "prefilled after "+e.Outcome.Duration.String()) }
	p.Hooks.Finished = func(e scheduling.Event) { told = append(told, "finished after "+e.Outcome.Duration.String()) }
	d, err := mustNew(t, p).Schedule(ctx, splittable(100), eps)
	require.NoError(t, err)
	held := []types.Booking{eps[0].Load.Held(), eps[1].Load.Held()}
	before := slices.Clone(l.log)

	now = now.Add(time.Second)
	d.Postponed()
	require.Equal(t, held, []types.Booking{eps[0].Load.Held(), eps[1].Load.Held()})
	require.Equal(t, append([]string{"prefilled p1 failed", "finished d1 true"}, before...), l.log[len(before):])
	require.Same(t, eps[0], d.Prefill())
	require.Error(t, d.FirstTokenAt(now.Add(-time.Millisecond)), "it was not sent then")

	now = now.Add(time.Second)
	d.PrefillDone(types.Outcome{Status: 200})
	after := len(l.log)
	d.Postponed()
	require.Len(t, l.log, after, "something has come back")
	now = now.Add(time.Second)
	d.FirstToken()
	d.Postponed()
	d.Done(types.Outcome{Status: 200})
	d.Postponed()
	require.Equal(t, []string{"prefilled after 1s", "finished after 3s"}, told)
	for _, ep := range eps {
		require.Equal(t, types.Booking{}, ep.Load.Held())
	}
}
