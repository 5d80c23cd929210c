package rollouts_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/datastore/kubernetes/internal/fakeapi"
	"github.com/inferpick/inferpick/datastore/kubernetes/rollouts"
	"github.com/inferpick/inferpick/datastore/rollout"
)

var quiet = rollouts.Options{NoConditions: true, NoEvents: true, Timeout: time.Second}

func TestReadAndWriteModel(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	home, _ := newHome(t, server, quiet)
	r := read(t, home, chat)
	require.Equal(t, []rollout.Weight{{Target: "v1", Weight: 10000}, {Target: "other", Weight: 5}}, r.Weights)
	require.Empty(t, r.State)

	before := server.Count("patch", "inferencemodels")
	r.State = []byte(`{"seq":1}`)
	r.Weights = []rollout.Weight{{Target: "v2", Weight: 100}, {Target: "v1", Weight: 9900}}
	revision, err := home.Write(t.Context(), chat, r)
	require.NoError(t, err)
	require.Equal(t, before+1, server.Count("patch", "inferencemodels"), "weights and state are one patch")

	o := server.Get(fakeapi.Model, "default", "chat")
	require.Equal(t, []any{
		map[string]any{"name": "v1", "weight": 9900.0, "future": map[string]any{"field": 1.0}}, // what else a target has stays
		map[string]any{"name": "v2", "weight": 100.0},
	}, o["spec"].(map[string]any)["targetModels"])
	require.Equal(t, "Critical", o["spec"].(map[string]any)["criticality"])
	notes := o["metadata"].(map[string]any)["annotations"].(map[string]any)
	require.Equal(t, map[string]any{
		rollout.Annotation: "{}", "theirs": "stays", rollout.StateAnnotation: `{"seq":1}`,
		rollouts.UIDAnnotation: o["metadata"].(map[string]any)["uid"],
	}, notes)

	again := read(t, home, chat)
	require.Equal(t, revision, again.Revision)
	require.Equal(t, r.State, again.State)
	require.True(t, rollout.SameShares(r.Weights, again.Weights))

	// Only the state: who owns the weights, and the object's generation, stay.
	generation := o["metadata"].(map[string]any)["generation"]
	again.State = []byte(`{"seq":2}`)
	_, err = home.Write(t.Context(), chat, again)
	require.NoError(t, err)
	require.Equal(t, generation, server.Get(fakeapi.Model, "default", "chat")["metadata"].(map[string]any)["generation"])

	again = read(t, home, chat)
	again.State = nil
	_, err = home.Write(t.Context(), chat, again)
	require.NoError(t, err)
	notes = server.Get(fakeapi.Model, "default", "chat")["metadata"].(map[string]any)["annotations"].(map[string]any)
	require.Equal(t, map[string]any{rollout.Annotation: "{}", "theirs": "stays"}, notes)
}

func TestReadAndWriteRule(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	home, _ := newHome(t, server, quiet)
	r := read(t, home, rewrite)
	require.Equal(t, []rollout.Weight{{Target: "v1", Weight: 3}, {Target: "idle", Weight: 0}}, r.Weights)
	r.State, r.Weights = []byte(`{"seq":1}`), []rollout.Weight{{Target: "v1", Weight: 1}, {Target: "v2", Weight: 9999}}
	_, err := home.Write(t.Context(), rewrite, r)
	require.NoError(t, err)
	require.Equal(t, fakeapi.Object(rewriteYAML)["spec"].(map[string]any)["rules"].([]any)[0],
		server.Get(fakeapi.RewriteLLMD, "default", "all")["spec"].(map[string]any)["rules"].([]any)[0])
	require.True(t, rollout.SameShares(r.Weights, read(t, home, rewrite).Weights))
	require.Empty(t, server.Get(fakeapi.Rewrite, "default", "all")["metadata"].(map[string]any)["annotations"], "the one that is shadowed")

	beyond := rewrite
	beyond.Rule = 2
	_, err = home.Read(t.Context(), beyond)
	require.ErrorContains(t, err, "InferenceModelRewrite default/all: there is no rule 2: it has 2")
}

// What somebody else has written is never overwritten, and never lost.
func TestConflicts(t *testing.T) {
	t.Parallel()
	spec := func(o map[string]any) map[string]any { return o["spec"].(map[string]any) }
	notes := func(o map[string]any) map[string]any {
		return o["metadata"].(map[string]any)["annotations"].(map[string]any)
	}
	for name, c := range map[string]struct {
		edit     func(o map[string]any)
		conflict bool
	}{
		"weights": {func(o map[string]any) { spec(o)["targetModels"] = []any{map[string]any{"name": "v1", "weight": 7.0}} }, true},
		"plan":    {func(o map[string]any) { notes(o)[rollout.Annotation] = `{"stable":"a"}` }, true},
		"state":   {func(o map[string]any) { notes(o)[rollout.StateAnnotation] = `{"seq":9}` }, true},
		"status":  {func(o map[string]any) { o["status"] = map[string]any{"conditions": []any{}} }, false},
		"others":  {func(o map[string]any) { spec(o)["criticality"], notes(o)["more"] = "Sheddable", "x" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newServer(t)
			home, _ := newHome(t, server, quiet)
			r := read(t, home, chat)
			server.Change(fakeapi.Model, "default", "chat", c.edit)
			edited := server.Get(fakeapi.Model, "default", "chat")
			r.State, r.Weights = []byte(`{"seq":1}`), []rollout.Weight{{Target: "v2", Weight: 10000}}
			_, err := home.Write(t.Context(), chat, r)
			now := server.Get(fakeapi.Model, "default", "chat")
			if c.conflict {
				require.ErrorIs(t, err, rollout.ErrConflict)
				require.Equal(t, edited, now)
				return
			}
			require.NoError(t, err)
			require.Equal(t, `{"seq":1}`, notes(now)[rollout.StateAnnotation])
			require.Equal(t, spec(edited)["criticality"], spec(now)["criticality"])
			require.Equal(t, notes(edited)["more"], notes(now)["more"])
			require.Equal(t, edited["status"], now["status"])
		})
	}
}

// Between the two requests of a Write somebody edits the object: the patch is refused, and made anew.
func TestEditBetween(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	home, _ := newHome(t, server, quiet)
	r := read(t, home, chat)
	edits := 0
	server.Fail(func(q fakeapi.Request) *fakeapi.Failure {
		if q.Verb == "patch" && edits < 2 {
			edits++
			server.Change(fakeapi.Model, "default", "chat", func(o map[string]any) {
				o["spec"].(map[string]any)["criticality"] = "Sheddable"
				o["metadata"].(map[string]any)["annotations"].(map[string]any)["edits"] = string(rune('0' + edits))
			})
		}
		return nil
	})
	r.State = []byte(`{"seq":1}`)
	_, err := home.Write(t.Context(), chat, r)
	require.NoError(t, err)
	o := server.Get(fakeapi.Model, "default", "chat")
	require.Equal(t, "Sheddable", o["spec"].(map[string]any)["criticality"])
	require.Equal(t, "2", o["metadata"].(map[string]any)["annotations"].(map[string]any)["edits"])

	server.Fail(func(q fakeapi.Request) *fakeapi.Failure { // the whole time
		if q.Verb == "patch" {
			server.Change(fakeapi.Model, "default", "chat", func(map[string]any) {})
		}
		return nil
	})
	r = read(t, home, chat)
	r.State = []byte(`{"seq":2}`)
	_, err = home.Write(t.Context(), chat, r)
	require.ErrorIs(t, err, rollout.ErrConflict)
}

// An object that is made anew, from a copy with all annotations, is another one.
func TestMadeAnew(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	home, _ := newHome(t, server, quiet)
	r := read(t, home, chat)
	r.State = []byte(`{"seq":1}`)
	var err error
	r.Revision, err = home.Write(t.Context(), chat, r)
	require.NoError(t, err)

	saved := server.Get(fakeapi.Model, "default", "chat")
	require.True(t, server.Delete(fakeapi.Model, "default", "chat"))
	for _, f := range []func() error{
		func() error { _, err := home.Read(t.Context(), chat); return err },
		func() error { _, err := home.Write(t.Context(), chat, r); return err },
	} {
		require.ErrorIs(t, f(), rollouts.ErrGone)
	}

	delete(saved["metadata"].(map[string]any), "uid")
	server.Apply(saved)
	r.State = []byte(`{"seq":2}`)
	_, err = home.Write(t.Context(), chat, r)
	require.ErrorIs(t, err, rollout.ErrConflict)
	now := read(t, home, chat)
	require.Empty(t, now.State)
	require.NotEqual(t, r.Revision, now.Revision)
}

func TestForbidden(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	home, _ := newHome(t, server, quiet)
	r := read(t, home, chat)
	for _, verb := range []string{"get", "patch"} {
		server.Fail(func(q fakeapi.Request) *fakeapi.Failure {
			if q.Verb == verb {
				return fakeapi.Forbidden(q)
			}
			return nil
		})
		r.State = []byte(`{"seq":1}`)
		_, err := home.Write(t.Context(), chat, r)
		require.ErrorIs(t, err, rollouts.ErrForbidden)
		require.ErrorContains(t, err, "rollouts: a right is missing: needs "+verb+" on inferencemodels.inference.networking.x-k8s.io in namespace default")
		require.NotErrorIs(t, err, rollout.ErrConflict)
	}
	server.Fail(nil)
	_, err := home.Write(t.Context(), chat, r)
	require.NoError(t, err)
}

// The server is away, or has written and its answer is lost: the same Write made again says so.
func TestAway(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	o := quiet
	o.Timeout = 50 * time.Millisecond
	home, _ := newHome(t, server, o)
	r := read(t, home, chat)
	for _, f := range []*fakeapi.Failure{
		{Drop: true}, {Wait: time.Minute}, {Code: http.StatusInternalServerError}, {Code: http.StatusServiceUnavailable},
		{Code: http.StatusNotFound, Body: []byte("404 page not found\n")},
	} {
		server.Fail(func(fakeapi.Request) *fakeapi.Failure { return f })
		_, err := home.Read(t.Context(), chat)
		require.Error(t, err)
		require.NotErrorIs(t, err, rollouts.ErrGone)
		_, err = home.Write(t.Context(), chat, r)
		require.Error(t, err)
		require.NotErrorIs(t, err, rollout.ErrConflict)
	}
	server.Fail(nil)

	r.State, r.Weights = []byte(`{"seq":1}`), []rollout.Weight{{Target: "v2", Weight: 10000}}
	revision, err := home.Write(t.Context(), chat, r)
	require.NoError(t, err)
	patches := server.Count("patch", "inferencemodels")
	same, err := home.Write(t.Context(), chat, r) // with the revision from before
	require.NoError(t, err)
	require.Equal(t, revision, same)
	require.Equal(t, patches, server.Count("patch", "inferencemodels"))
}

func TestBadWeights(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	home, _ := newHome(t, server, quiet)
	for text, weights := range map[string][]rollout.Weight{
		"no target has a weight above 0":            {{Target: "v1", Weight: 0}},
		"weight 1 of target \"\"":                   {{Target: "", Weight: 1}},
		"weight -1 of target \"v1\": want":          {{Target: "v1", Weight: -1}},
		"weight 1000001 of target":                  {{Target: "v1", Weight: 1000001}},
		"weight 2 of target \"v1\": want each once": {{Target: "v1", Weight: 1}, {Target: "v1", Weight: 2}},
	} {
		r := read(t, home, chat)
		r.Weights = weights
		_, err := home.Write(t.Context(), chat, r)
		require.ErrorContains(t, err, text)
	}
	require.Zero(t, server.Count("patch", "inferencemodels"))
	_, err := home.Read(t.Context(), rollout.Object{Kind: "InferencePool", Name: chat.Name})
	require.ErrorIs(t, err, rollouts.ErrGone)
}

// Who does not lead writes nothing; what is under way when the lease is lost is cut off.
func TestNotLeader(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	home, _ := homeAt(t, server, server.Config(), quiet)
	require.False(t, home.Leads())
	r := read(t, home, chat)
	_, err := home.Write(t.Context(), chat, r)
	require.ErrorIs(t, err, rollouts.ErrNotLeader)

	stop := lead(t, home)
	patching := make(chan struct{})
	server.Fail(func(q fakeapi.Request) *fakeapi.Failure {
		if q.Verb != "patch" {
			return nil
		}
		close(patching)
		return &fakeapi.Failure{Wait: time.Minute}
	})
	go func() {
		<-patching
		stop()
	}()
	r.State = []byte(`{"seq":1}`)
	_, err = home.Write(t.Context(), chat, r)
	require.ErrorIs(t, err, rollouts.ErrNotLeader)
	require.False(t, home.Leads())
	server.Fail(nil)
	requests := len(server.Requests(nil))
	_, err = home.Write(t.Context(), chat, r)
	require.ErrorIs(t, err, rollouts.ErrNotLeader)
	require.Len(t, server.Requests(nil), requests, "nothing is asked for")
	require.Empty(t, read(t, home, chat).State)

	lead(t, home) // again
	_, err = home.Write(t.Context(), chat, r)
	require.NoError(t, err)
}

// A caller's own context counts, too.
func TestCancelled(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	home, _ := newHome(t, server, quiet)
	r := read(t, home, chat)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := home.Write(ctx, chat, r)
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, rollouts.ErrNotLeader)
}

// watched is a source that tells versions, late if it is told to.
type watched struct {
	source
	lag *kubernetes.Object
}

func (w watched) Objects() []kubernetes.Object {
	all := w.source.Objects()
	for i := range all {
		all[i].ResourceVersion = w.server.Get(fakeapi.Model, "default", "chat")["metadata"].(map[string]any)["resourceVersion"].(string)
		if w.lag.ResourceVersion != "" {
			all[i].ResourceVersion = w.lag.ResourceVersion
		}
	}
	return all
}

// What the source knows to be as it was is not asked for again, for a while; what was just written is known.
func TestReadsAreFew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server, lag := newServer(t), new(kubernetes.Object)
		home, err := rollouts.New(server.Config(), watched{source{server}, lag}, quiet)
		require.NoError(t, err)
		stop := lead(t, home)
		defer stop()
		gets := func() int { return server.Count("get", "inferencemodels") }
		first := read(t, home, chat)
		for range 9 {
			time.Sleep(time.Second)
			first.Weights[0].Weight++ // is the caller's
			again := read(t, home, chat)
			require.EqualValues(t, 10000, again.Weights[0].Weight)
		}
		require.Equal(t, 1, gets())
		time.Sleep(time.Second)
		r := read(t, home, chat)
		require.Equal(t, 2, gets(), "a source may be cut off")

		lag.ResourceVersion = server.Get(fakeapi.Model, "default", "chat")["metadata"].(map[string]any)["resourceVersion"].(string)
		r.State = []byte(`{"seq":1}`)
		r.Revision, err = home.Write(t.Context(), chat, r)
		require.NoError(t, err)
		require.Equal(t, r, read(t, home, chat), "although the source is late")
		lag.ResourceVersion = ""
		before := gets()
		require.Equal(t, r, read(t, home, chat))
		require.Equal(t, before, gets())

		server.Change(fakeapi.Model, "default", "chat", func(o map[string]any) { delete(o["spec"].(map[string]any), "targetModels") })
		require.Equal(t, []rollout.Weight{{Target: "chat", Weight: 1}}, read(t, home, chat).Weights)

		// After a failure nothing is taken for known.
		server.Fail(func(q fakeapi.Request) *fakeapi.Failure {
			if q.Verb == "patch" {
				return &fakeapi.Failure{Drop: true}
			}
			return nil
		})
		_, err = home.Write(t.Context(), chat, read(t, home, chat))
		require.Error(t, err)
		before = gets()
		read(t, home, chat)
		require.Equal(t, before+1, gets())
	})
}

func TestOptions(t *testing.T) {
	t.Parallel()
	_, err := rollouts.New(newServer(t).Config(), nil, rollouts.Options{Timeout: -1})
	require.ErrorContains(t, err, "rollouts: Options: Timeout")
}
