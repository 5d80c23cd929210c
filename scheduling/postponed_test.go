package scheduling_test

import (
	"slices"
	"strconv"
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

// rereads is a Tracker that notes what it is called with.
type rereads struct{ told []string }

func (r *rereads) note(what string, req *types.Request) {
	r.told = append(r.told, what+" "+strconv.Itoa(req.Prompt.Tokens))
}
func (r *rereads) Picked(req *types.Request, _ *types.Endpoint)     { r.note("picked", req) }
func (r *rereads) FirstToken(req *types.Request, _ *types.Endpoint) { r.note("first token", req) }
func (r *rereads) Reread(req *types.Request)                        { r.note("reread", req) }
func (r *rereads) Finished(req *types.Request, _ *types.Endpoint, out types.Outcome) {
	r.note("finished", req)
}

// A request of which more becomes known is booked as it is then.
func TestReread(t *testing.T) {
	r, eps := new(rereads), withRoles(nil, "a")
	d, err := mustNew(t, scheduling.Profile{Picker: first, OutputTokens: 10, Trackers: []scheduling.Tracker{r, r}}).Schedule(ctx, splittable(100), eps)
	require.NoError(t, err)
	more := func(n int) func(*types.Request) {
		return func(req *types.Request) { req.Prompt.Tokens = n }
	}
	d.Reread(more(300))
	require.Equal(t, types.Booking{Requests: 1, Prefilling: 1, PrefillTokens: 300, ContextTokens: 310}, eps[0].Load.Held())
	d.FirstToken()
	d.Reread(more(400))
	d.Done(types.Outcome{Status: 200})
	d.Reread(more(500))
	require.Equal(t, []string{"picked 100", "finished 100", "reread 300", "picked 300", "first token 300", "finished 300"}, r.told)
	require.Equal(t, types.Booking{}, eps[0].Load.Held())
}
