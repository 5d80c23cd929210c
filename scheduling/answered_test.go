package scheduling_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
)

// heardOf keeps what a Tracker is told of, in order.
type heardOf struct {
	what []string
	body []byte
}

func (t *heardOf) Picked(*types.Request, *types.Endpoint)     { t.what = append(t.what, "picked") }
func (t *heardOf) FirstToken(*types.Request, *types.Endpoint) { t.what = append(t.what, "first") }
func (t *heardOf) Answered(req *types.Request, _ *types.Endpoint, out types.Outcome) {
	t.what, t.body = append(t.what, "answered "+out.ResponseID), req.Body
}
func (t *heardOf) Finished(_ *types.Request, _ *types.Endpoint, out types.Outcome) {
	t.what = append(t.what, "finished "+out.ResponseID)
}

// TestAnswered: the booking outlives the answer, the body does not.
func TestAnswered(t *testing.T) {
	now, tracker := time.Unix(1000, 0), &heardOf{}
	var ended []types.Outcome
	s := mustNew(t, scheduling.Profile{
		Picker: first, BookingTTL: time.Minute, Now: func() time.Time { return now }, Trackers: []scheduling.Tracker{tracker},
		Hooks: scheduling.Hooks{Finished: func(e scheduling.Event) { ended = append(ended, e.Outcome) }},
	})
	eps := endpoints("a")
	put := func() (*types.Request, *scheduling.Decision) {
		req := schedulingtest.Request("a cat on the moon")
		d, err := s.Schedule(ctx, req, eps)
		require.NoError(t, err)
		return req, d
	}
	req, d := put()
	now = now.Add(time.Second)
	tokens := req.Prompt.Tokens
	require.NotEmpty(t, req.Body)
	require.True(t, d.Answered(types.Outcome{Status: 200, ResponseID: "video_1"}))
	require.NotEmpty(t, tracker.body, "trackers still see it")
	require.Empty(t, req.Body)
	require.NotNil(t, req.Prompt.Spans, "no prompt, and not one that was not looked for")
	require.Equal(t, tokens, req.Prompt.Tokens)
	require.False(t, d.Answered(types.Outcome{}), "once")
	require.False(t, d.Settled())
	require.EqualValues(t, 1, eps[0].Load.Requests())
	now = now.Add(9 * time.Second)
	d.Done(types.Outcome{Status: 200})
	require.Equal(t, []string{"picked", "answered video_1", "finished "}, tracker.what)
	require.Equal(t, 10*time.Second, ended[0].Duration)
	require.Zero(t, eps[0].Load.Held())
	require.False(t, d.Answered(types.Outcome{}), "after its end")

	// One that nobody asks for any more ends as it was answered: its server is not to blame.
	_, d = put()
	d.Answered(types.Outcome{Status: 200, ResponseID: "video_2"})
	now = now.Add(50 * time.Second)
	d.Alive()
	now = now.Add(50 * time.Second)
	s.Expire(now)
	require.EqualValues(t, 1, eps[0].Load.Requests())
	now = now.Add(time.Minute)
	s.Expire(now)
	require.Zero(t, eps[0].Load.Held())
	require.NoError(t, ended[1].Err)
	require.Equal(t, "video_2", ended[1].ResponseID)
}

// TestBookingOfOtherWork: what is booked of requests that compute nothing, and of sessions.
func TestBookingOfOtherWork(t *testing.T) {
	s := mustNew(t, scheduling.Profile{Picker: first, OutputTokens: 100})
	eps := endpoints("a")
	for kind, want := range map[types.WorkKind]types.Booking{
		types.Fetches:   {},
		types.Converses: {Requests: 1, ContextTokens: 100},
	} {
		d, err := s.Schedule(ctx, &types.Request{Model: "m", Work: types.Work{Kind: kind}, Prompt: types.Prompt{Spans: []types.Span{}}}, eps)
		require.NoError(t, err)
		require.Equal(t, want, eps[0].Load.Held(), "%v", kind)
		d.Done(types.Outcome{Status: 200})
		require.Zero(t, eps[0].Load.Held(), "%v", kind)
	}
}
