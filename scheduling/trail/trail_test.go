package trail_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/trail"
	"github.com/inferpick/inferpick/types"
)

// first picks the first endpoint.
type first struct{}

func (first) Pick(context.Context, *types.Request, []*types.Endpoint, []float64) (int, error) {
	return 0, nil
}

// rig is a scheduler with a Trail, and a clock.
type rig struct {
	*trail.Trail
	s   *scheduling.Scheduler
	now time.Time
	eps []*types.Endpoint
}

func newRig(t *testing.T, o trail.Options) *rig {
	r := &rig{now: time.Unix(1000, 0), eps: []*types.Endpoint{types.NewEndpoint("e0", "10.0.0.1:80"), types.NewEndpoint("e1", "10.0.0.2:80")}}
	var err error
	r.Trail, err = trail.New(o)
	require.NoError(t, err)
	r.s, err = scheduling.New(scheduling.Profile{
		Picker: first{}, Fallbacks: 1, Hooks: r.Hooks(scheduling.Hooks{}), Now: func() time.Time { return r.now },
	})
	require.NoError(t, err)
	return r
}

func (r *rig) send(t *testing.T, tenant, session, program string) *scheduling.Decision {
	req := &types.Request{ID: "r", Model: "m", FairnessID: tenant, SessionID: session, ProgramID: program}
	req.Prompt = types.TextPrompt(strings.Repeat("secret ", 100))
	d, err := r.s.Schedule(t.Context(), req, r.eps)
	require.NoError(t, err)
	return d
}

func TestStory(t *testing.T) {
	r := newRig(t, trail.Options{})
	d := r.send(t, "t", "s", "p")
	r.now = r.now.Add(200 * time.Millisecond)
	d.FirstToken()
	r.now = r.now.Add(time.Second)
	d.Done(types.Outcome{Status: 200, Finish: types.FinishTools, Usage: types.Usage{
		PromptTokens: types.Known(180), CachedTokens: types.Known(160), CompletionTokens: types.Known(20)}})
	d = r.send(t, "t", "s", "p")
	d.Retry(r.eps[1], types.Outcome{Err: errors.New("refused")})
	d.Done(types.Outcome{Err: errors.New(strings.Repeat("long ", 100))})
	r.send(t, "t", "s", "p").Done(types.Outcome{Status: 200, Cancelled: true})
	r.Refused(&types.Request{FairnessID: "t", SessionID: "s", ProgramID: "p"}, "queue_full", 429)
	r.send(t, "t", "s", "p")

	got, ok := r.Session("t", "s")
	require.True(t, ok)
	require.Equal(t, []any{"s", "p", 5}, []any{got.Session, got.Program, got.Requests})
	require.Len(t, got.Steps, 5)
	one := got.Steps[0]
	require.Equal(t, trail.Step{
		Turn: 1, At: time.Unix(1000, 0), ID: "r", Model: "m", Target: "m", Endpoint: "e0", PromptTokens: 180, Expected: one.Expected,
		Cached: types.Known(160), Output: types.Known(20), TTFT: 200 * time.Millisecond, Duration: 1200 * time.Millisecond,
		Outcome: trail.Done, Finish: types.FinishTools,
	}, one)
	require.Equal(t, "e1", got.Steps[1].Endpoint)
	require.Equal(t, []string{"e0"}, got.Steps[1].Tried)
	for i, want := range []string{trail.Done, trail.Failed, trail.Cancelled, trail.Refused, trail.Running} {
		require.Equal(t, want, got.Steps[i].Outcome, i)
		require.Equal(t, i+1, got.Steps[i].Turn)
	}
	require.Less(t, len(got.Steps[1].Reason), 210)
	require.Equal(t, []any{"queue_full", 429}, []any{got.Steps[3].Reason, got.Steps[3].Status})
}

func TestWaited(t *testing.T) {
	r := newRig(t, trail.Options{})
	req := &types.Request{SessionID: "s"}
	r.Waited(req, 3*time.Second)
	d, err := r.s.Schedule(t.Context(), req, r.eps)
	require.NoError(t, err)
	d.Done(types.Outcome{Status: 200})
	got, _ := r.Session("", "s")
	require.Len(t, got.Steps, 1)
	require.Equal(t, 3*time.Second, got.Steps[0].Waited)
	require.Equal(t, trail.Done, got.Steps[0].Outcome)
}

func TestTenantsAreApart(t *testing.T) {
	r := newRig(t, trail.Options{})
	r.send(t, "a", "s", "p")
	r.send(t, "b", "s", "p")
	r.send(t, "b", "s2", "p")
	r.send(t, "b", "", "p")
	r.send(t, "b", "", "")
	one, _ := r.Session("a", "s")
	require.Equal(t, 1, one.Requests)
	_, ok := r.Session("", "s")
	require.False(t, ok)
	_, ok = r.Session("b", "")
	require.False(t, ok, "no session")
	require.Len(t, r.Program("a", "p"), 1)
	stories := r.Program("b", "p")
	require.Len(t, stories, 3)
	require.Equal(t, []string{"", "s2", "s"}, []string{stories[0].Session, stories[1].Session, stories[2].Session}, "the last first")
	require.Len(t, r.Recent("b", 2), 2)
	require.Empty(t, r.Recent("c", 10))
}

func TestBounds(t *testing.T) {
	r := newRig(t, trail.Options{MaxSessions: 3, MaxSteps: 4})
	for i := range 10 {
		r.send(t, "", "s0", "").Done(types.Outcome{}) // which is used all the time
		r.send(t, "", fmt.Sprint("s", i), "").Done(types.Outcome{})
	}
	require.Len(t, r.Recent("", 100), 3)
	got, ok := r.Session("", "s0")
	require.True(t, ok)
	require.Equal(t, 11, got.Requests)
	require.Len(t, got.Steps, 4)
	require.Equal(t, 11, got.Steps[3].Turn)
	_, ok = r.Session("", "s5")
	require.False(t, ok)
	for _, o := range []trail.Options{{MaxSessions: -1}, {MaxSteps: 1e6}} {
		_, err := trail.New(o)
		require.ErrorContains(t, err, "trail: Max")
	}
}

// TestPolls of a job do not push out what the session did.
func TestPolls(t *testing.T) {
	r := newRig(t, trail.Options{MaxSteps: 4})
	r.send(t, "a", "s", "p").Done(types.Outcome{Status: 200})
	for range 10 {
		req := &types.Request{FairnessID: "a", SessionID: "s", Work: types.Work{Kind: types.Fetches}}
		d, err := r.s.Schedule(t.Context(), req, r.eps)
		require.NoError(t, err)
		d.Done(types.Outcome{Status: 200})
	}
	got, _ := r.Session("a", "s")
	require.Equal(t, 1, got.Requests)
	require.Len(t, got.Steps, 1)
}

func TestHandler(t *testing.T) {
	r := newRig(t, trail.Options{})
	r.send(t, "a", "s", "p").Done(types.Outcome{Status: 200})
	get := func(method, target string) (int, string) {
		w := httptest.NewRecorder()
		r.Handler().ServeHTTP(w, httptest.NewRequest(method, target, nil))
		return w.Code, w.Body.String()
	}
	code, body := get("GET", "/explain?tenant=a&session=s")
	require.Equal(t, 200, code)
	require.NotContains(t, body, "secret")
	var story struct {
		Session string
		Steps   []struct {
			Endpoint, Outcome    string
			PromptTokens         int
			ExpectedCachedTokens *int
		}
	}
	require.NoError(t, json.Unmarshal([]byte(body), &story))
	require.Equal(t, "s", story.Session)
	require.Equal(t, "e0", story.Steps[0].Endpoint)
	require.NotNil(t, story.Steps[0].ExpectedCachedTokens)
	for target, want := range map[string]string{
		"/explain?session=s":          "404 trail: nothing is kept of session \"s\" of tenant \"\"",
		"/explain?tenant=a&program=x": `200 {"sessions":[]}`,
		"/explain?tenant=a":           `200 {"sessions":[{"session":"s","program":"p","requests":1}]}`,
	} {
		code, body := get("GET", target)
		require.Equal(t, want, fmt.Sprintf("%d %s", code, strings.TrimSpace(body)), target)
	}
	code, _ = get("POST", "/explain?session=s")
	require.Equal(t, 405, code)
	_, body = get("GET", "/explain?tenant=a&program=p")
	require.Contains(t, body, `"outcome":"done"`)
}

// Anything at a time, for the race detector.
func TestConcurrency(t *testing.T) {
	tr, err := trail.New(trail.Options{MaxSessions: 10, MaxSteps: 3})
	require.NoError(t, err)
	s, err := scheduling.New(scheduling.Profile{Picker: first{}, Hooks: tr.Hooks(scheduling.Hooks{})})
	require.NoError(t, err)
	eps := []*types.Endpoint{types.NewEndpoint("e0", "10.0.0.1:80")}
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 100 {
				req := &types.Request{SessionID: fmt.Sprint((g + i) % 20), ProgramID: "p"}
				if d, err := s.Schedule(t.Context(), req, eps); err == nil {
					d.FirstToken()
					tr.Session("", "3")
					tr.Program("", "p")
					d.Done(types.Outcome{Status: 200})
				}
			}
		})
	}
	all.Wait()
	require.Len(t, tr.Recent("", 100), 10)
}

func BenchmarkHooks(b *testing.B) {
	tr, _ := trail.New(trail.Options{})
	h := tr.Hooks(scheduling.Hooks{})
	req := &types.Request{SessionID: "s", ProgramID: "p"}
	ep := types.NewEndpoint("e", "10.0.0.1:80")
	b.ReportAllocs()
	for b.Loop() {
		ev := scheduling.Event{Request: req, Endpoint: ep}
		h.Scheduled(ev)
		h.FirstToken(ev)
		h.Finished(ev)
	}
}
