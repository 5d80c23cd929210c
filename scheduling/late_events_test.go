package scheduling_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// story keeps what hooks are told and when it happened.
type story struct {
	at  []time.Time
	out types.Outcome
}

func (s *story) hooks() scheduling.Hooks {
	return scheduling.Hooks{
		FirstToken: func(e scheduling.Event) { s.at = append(s.at, e.Request.Now) },
		Finished:   func(e scheduling.Event) { s.at, s.out = append(s.at, e.Request.Now), e.Outcome },
	}
}

// A data plane that hears of everything five seconds late reports the same as one that
// hears of it at once.
func TestEventsOfThePast(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	now := start
	var told story
	p := plugins.Default()
	p.Now, p.Hooks = func() time.Time { return now }, told.hooks()
	d, err := mustNew(t, p).Schedule(ctx, chat(1<<10, "ships"), servers(3))
	require.NoError(t, err)
	now = start.Add(5 * time.Second)
	require.NoError(t, d.FirstTokenAt(start.Add(200*time.Millisecond)))
	require.Zero(t, d.Endpoint.Load.PrefillTokens())
	require.NoError(t, d.FirstTokenAt(start.Add(300*time.Millisecond)), "calls after the first do nothing")
	require.NoError(t, d.DoneAt(types.Outcome{Status: 200}, start.Add(time.Second)))
	require.NoError(t, d.DoneAt(types.Outcome{Status: 500}, start.Add(2*time.Second)))
	require.Equal(t, []time.Time{start.Add(200 * time.Millisecond), start.Add(time.Second)}, told.at)
	require.Equal(t, []time.Duration{200 * time.Millisecond, time.Second}, []time.Duration{told.out.TTFT, told.out.Duration})
	require.Equal(t, 200, told.out.Status)
	require.Equal(t, types.Booking{}, d.Endpoint.Load.Held())
}

func TestEventsAtImpossibleTimes(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	now := start
	var told story
	s := mustNew(t, scheduling.Profile{Picker: first, Fallbacks: 1, Now: func() time.Time { return now }, Hooks: told.hooks()})
	eps := servers(2)
	schedule := func() *scheduling.Decision {
		now, told = start, story{}
		d, err := s.Schedule(ctx, chat(1<<10, "ships"), eps)
		require.NoError(t, err)
		now = start.Add(5 * time.Second)
		return d
	}

	d := schedule()
	require.ErrorContains(t, d.FirstTokenAt(start.Add(-time.Millisecond)), "Decision.FirstTokenAt")
	require.ErrorContains(t, d.FirstTokenAt(time.Time{}), "or later")
	require.ErrorContains(t, d.FirstTokenAt(now.Add(2*time.Second)), "2s in the future")
	require.Empty(t, told.at, "nothing is reported")
	require.NoError(t, d.FirstTokenAt(now.Add(time.Millisecond)), "clocks differ a little")
	require.Equal(t, []time.Time{now}, told.at)
	require.ErrorContains(t, d.DoneAt(types.Outcome{}, start.Add(time.Second)), "Decision.DoneAt", "before the first token")
	require.Equal(t, 5*time.Second, told.out.Duration, "it has ended in any case, now")
	require.Equal(t, types.Booking{}, d.Endpoint.Load.Held())

	d = schedule()
	d.Retry(d.Fallbacks[0], types.Outcome{Status: 503})
	require.Error(t, d.FirstTokenAt(start.Add(time.Second)), "the request was not there yet")
	require.Error(t, d.DoneAt(types.Outcome{}, now.Add(time.Hour)))
	require.Equal(t, types.Booking{}, d.Current().Load.Held())
}
