package plugins_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
)

var (
	_ scheduling.AnswerTracker = (*plugins.PreviousAnswer)(nil)
	_ scheduling.AnswerTracker = (*plugins.SessionAffinity)(nil)
	_ scheduling.AnswerTracker = (*plugins.Ejection)(nil)
)

// has returns which of eps has what the id stands for, by a plugin; "": it does not know.
func has(t testing.TB, f *plugins.PreviousAnswer, id string, after time.Duration, eps []*types.Endpoint) string {
	kept := schedulingtest.Filter(t, f, continuing(id, "", "", after), eps...)
	if len(kept) != 1 {
		return ""
	}
	return kept[0]
}

// TestJobsAreKept: of an answer with several ids each is remembered, as soon as the server has answered, and for as long
// as it keeps them.
func TestJobsAreKept(t *testing.T) {
	f, eps := mustAnswers(t, plugins.AnswerOptions{TTL: time.Hour, Keep: 10 * time.Hour}), idle(3)
	f.Answered(turn("", 0), eps[1], answer("video_1"))
	require.Equal(t, "ep-1", has(t, f, "video_1", 0, eps))

	batch := answer("batch_1")
	batch.OtherIDs, batch.KeptUntil = []string{"file_out", "file_err"}, epoch.Add(5*time.Hour)
	f.Finished(turn("", 0), eps[2], batch)
	long := answer("video_2")
	long.KeptUntil = epoch.Add(30 * 24 * time.Hour)
	f.Finished(turn("", 0), eps[2], long)
	brief := answer("video_3")
	brief.KeptUntil = epoch.Add(time.Minute)
	f.Finished(turn("", 0), eps[2], brief)
	for id, until := range map[string]time.Duration{
		"video_1": time.Hour, "batch_1": 5 * time.Hour, "file_out": 5 * time.Hour, "file_err": 5 * time.Hour,
		"video_2": 10 * time.Hour, "video_3": time.Hour,
	} {
		require.NotEmpty(t, has(t, f, id, until-time.Second, eps), id)
		require.Empty(t, has(t, f, id, until+time.Second, eps), id)
	}

	// A plugin that starts anew, and a peer, remember it for the time that is left, but no longer than their TTL.
	now := epoch.Add(4*time.Hour + 30*time.Minute)
	again := mustAnswers(t, plugins.AnswerOptions{TTL: time.Hour})
	require.NoError(t, again.Restore(f.AppendSnapshot(nil, 1<<20, now), 0, now))
	require.Equal(t, "ep-2", has(t, again, "file_out", 4*time.Hour+31*time.Minute, eps))
	require.Empty(t, has(t, again, "file_out", 5*time.Hour+time.Second, eps))
	require.Empty(t, has(t, again, "video_1", 4*time.Hour+31*time.Minute, eps), "it was forgotten")
	require.Equal(t, "ep-2", has(t, again, "video_2", 5*time.Hour+29*time.Minute, eps))

	// It moves only by what is seen.
	f.Finished(turn("", 0), eps[0], answer("video_2"))
	require.Equal(t, "ep-0", has(t, f, "video_2", 0, eps), "another server answered with the same id: the last one counts")

	_, err := plugins.NewPreviousAnswer(plugins.AnswerOptions{Keep: -1})
	require.ErrorContains(t, err, "keep")
}

// TestManyIDsOfAnAnswer: no answer fills the table.
func TestManyIDsOfAnAnswer(t *testing.T) {
	f, eps := mustAnswers(t, plugins.AnswerOptions{}), idle(1)
	out := answer("batch")
	for i := range 1000 {
		out.OtherIDs = append(out.OtherIDs, fmt.Sprint("file", i))
	}
	f.Finished(turn("", 0), eps[0], out)
	require.Equal(t, 17, f.Len())
	out.Status = 500
	out.ResponseID = "failed"
	f.Finished(turn("", 0), eps[0], out)
	require.Equal(t, 17, f.Len())
}

// TestCostOfOtherWork: a session is no prompt that waits once it has begun, and what is only fetched costs others nothing.
func TestCostOfOtherWork(t *testing.T) {
	s := scheduling.Must(scheduling.New(plugins.Default()))
	eps := idle(2)
	of := func(kind types.WorkKind) *types.Request {
		return &types.Request{Model: "m", Work: types.Work{Kind: kind}, Prompt: types.Prompt{Spans: []types.Span{}}}
	}
	for range 20 { // a fetch leaves no trace
		d, err := s.Schedule(t.Context(), of(types.Fetches), eps[:1])
		require.NoError(t, err)
		defer d.Done(types.Outcome{Status: 200})
	}
	ex, err := s.Explain(t.Context(), schedulingtest.Request("hello"), eps)
	require.NoError(t, err)
	require.InDelta(t, ex.Candidates[0].Total, ex.Candidates[1].Total, 1e-9)

	session, err := s.Schedule(t.Context(), of(types.Converses), eps[:1])
	require.NoError(t, err)
	require.True(t, session.Answered(types.Outcome{Status: 101}))
	require.EqualValues(t, 1, eps[0].Load.Requests())
	require.Zero(t, eps[0].Load.Prefilling())
	session.Done(types.Outcome{Status: 101})
	require.Zero(t, eps[0].Load.Held())
}
