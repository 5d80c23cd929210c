package rollout_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/types"
)

var ctx = context.Background()

func TestStoreHome(t *testing.T) {
	store := datastore.New(datastore.Options{})
	path := filepath.Join(t.TempDir(), "rollouts.json")
	open := func() *rollout.StoreHome {
		h, err := rollout.NewStoreHome(store, rollout.StoreHomeOptions{Path: path})
		require.NoError(t, err)
		return h
	}
	h := open()
	require.True(t, h.Local())
	_, err := h.Read(ctx, chatModel)
	require.ErrorIs(t, err, datastore.ErrNoObject)

	require.NoError(t, store.Apply(manifest("")))
	r, err := h.Read(ctx, chatModel)
	require.NoError(t, err)
	require.Equal(t, []rollout.Weight{{Target: "v1", Weight: 1}}, r.Weights)
	require.Empty(t, r.State)
	written := []rollout.Weight{{Target: "v1", Weight: 9000}, {Target: "v2", Weight: 1000}}
	revision, err := h.Write(ctx, chatModel, rollout.Record{Revision: r.Revision, Weights: written, State: []byte(`{"seq": 1}`)})
	require.NoError(t, err)
	_, err = h.Write(ctx, chatModel, rollout.Record{Revision: r.Revision, Weights: written, State: []byte(`{"seq": 2}`)})
	require.ErrorIs(t, err, rollout.ErrConflict)
	r, err = h.Read(ctx, chatModel)
	require.NoError(t, err)
	require.Equal(t, revision, r.Revision)
	require.Equal(t, `{"seq":1}`, string(r.State))
	weightsOf := func() []rollout.Weight {
		r, err := h.Read(ctx, chatModel)
		require.NoError(t, err)
		inStore, err := rollout.WeightsOf(store.Object(chatModel.Kind, chatModel.Name), 0)
		require.NoError(t, err)
		require.Equal(t, inStore, r.Weights)
		return r.Weights
	}

	// The manifest comes again as it was: it is no edit.
	require.NoError(t, store.Apply(manifest("")))
	require.Equal(t, written, weightsOf())
	r, err = h.Read(ctx, chatModel)
	require.NoError(t, err)
	require.Equal(t, revision, r.Revision)

	// Other weights are one, and then they are what comes again.
	edited := manifest("")
	half := int32(50)
	edited.Spec.TargetModels = []types.TargetModel{{Name: "v1", Weight: &half}, {Name: "v2", Weight: &half}}
	require.NoError(t, store.Apply(edited))
	require.Equal(t, []rollout.Weight{{Target: "v1", Weight: 50}, {Target: "v2", Weight: 50}}, weightsOf())
	r, _ = h.Read(ctx, chatModel)
	_, err = h.Write(ctx, chatModel, rollout.Record{Revision: r.Revision, Weights: written, State: []byte(`{"seq":3}`)})
	require.NoError(t, err)
	require.NoError(t, store.Apply(edited))
	require.Equal(t, written, weightsOf())

	// The next program has the manifest as it is in its file, and goes on.
	if info, err := os.Stat(path); os.PathSeparator == '/' {
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
	require.NoError(t, store.Apply(edited))
	h = open()
	require.Equal(t, written, weightsOf())
	r, _ = h.Read(ctx, chatModel)
	require.Equal(t, `{"seq":3}`, string(r.State))

	h.Forget(chatModel)
	require.NoError(t, store.Apply(edited))
	require.Equal(t, []rollout.Weight{{Target: "v1", Weight: 50}, {Target: "v2", Weight: 50}}, weightsOf())

	// A file that cannot be written stops no traffic from moving.
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Mkdir(path, 0o700))
	r, _ = h.Read(ctx, chatModel)
	_, err = h.Write(ctx, chatModel, rollout.Record{Revision: r.Revision, Weights: written, State: []byte(`{"seq":4}`)})
	require.NoError(t, err)
	require.Equal(t, written, weightsOf())
	require.Error(t, h.Err())
	require.NoError(t, os.Remove(path))
	weightsOf() // tries again
	require.NoError(t, h.Err())
	h = open()
	r, _ = h.Read(ctx, chatModel)
	require.Equal(t, `{"seq":4}`, string(r.State))

	for text, want := range map[string]string{
		`{"version": 2, "rollouts": []}`: "version 2, want 1",
		`{"version": 1, "rollouts": [{"kind": "InferenceModel", "namespace": "a", "name": "b", "plan": {}}]}`: "the plan of InferenceModel a/b",
		`{"version": 1, "surprise": 1}`: "surprise",
		`[`:                             "ends in the middle",
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := rollout.NewStoreHome(store, rollout.StoreHomeOptions{Path: path})
		require.ErrorContains(t, err, want)
	}
	_, err = rollout.NewStoreHome(nil, rollout.StoreHomeOptions{})
	require.Error(t, err)
}

func TestWeights(t *testing.T) {
	seven := int32(7)
	rewrite := &types.InferenceModelRewrite{ObjectMeta: types.ObjectMeta{Name: "all"}}
	rewrite.Spec.Rules = []types.RewriteRule{
		{Targets: []types.RewriteTarget{{ModelRewrite: "a"}, {ModelRewrite: "b"}}},
		{Targets: []types.RewriteTarget{{ModelRewrite: "a", Weight: &seven}, {ModelRewrite: "b"}, {ModelRewrite: "a", Weight: &seven}}},
	}
	bare := manifest("")
	bare.Spec.TargetModels = nil
	for _, tt := range []struct {
		o    types.Object
		rule int
		want []rollout.Weight
		err  string
	}{
		{bare, 0, []rollout.Weight{{Target: "chat", Weight: 1}}, ""},
		{rewrite, 0, []rollout.Weight{{Target: "a", Weight: 1}, {Target: "b", Weight: 1}}, ""},
		{rewrite, 1, []rollout.Weight{{Target: "a", Weight: 14}, {Target: "b", Weight: 0}}, ""},
		{rewrite, 2, nil, "has 2 rules"},
		{&types.InferencePool{ObjectMeta: types.ObjectMeta{Name: "p"}}, 0, nil, "has no targets"},
	} {
		got, err := rollout.WeightsOf(tt.o, tt.rule)
		if tt.err != "" {
			require.ErrorContains(t, err, tt.err)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, tt.want, got)
	}
	require.NoError(t, rollout.SetWeights(rewrite, 1, []rollout.Weight{{Target: "c", Weight: 3}, {Target: "a", Weight: 1}, {Target: "b", Weight: 0}}))
	got, err := rollout.WeightsOf(rewrite, 1)
	require.NoError(t, err)
	require.Equal(t, []rollout.Weight{{Target: "a", Weight: 1}, {Target: "c", Weight: 3}}, got)
	require.Len(t, rewrite.Spec.Rules[0].Targets, 2)
	require.Error(t, rollout.SetWeights(rewrite, 0, []rollout.Weight{{Target: "a", Weight: 0}}))
	require.True(t, rollout.SameShares([]rollout.Weight{{Target: "a", Weight: 1}, {Target: "b", Weight: 3}}, []rollout.Weight{{Target: "b", Weight: 75}, {Target: "a", Weight: 25}}))
}

// A manifest that is read from its file again moves no traffic back; somebody's edit stops the rollout.
func TestEdits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, nil)
		require.NoError(t, w.store.Apply(manifest(quick)))
		w.run()
		w.until(time.Minute, false, in(rollout.Stepping))
		before := w.weights()
		require.NoError(t, w.store.Replace([]types.Object{manifest(quick)}))
		require.Contains(t, []string{"v1=1", before}, w.weights()) // on another processor it may be put right already
		time.Sleep(20 * time.Millisecond)
		require.Equal(t, before, w.weights(), "it does not wait for the next look")
		s, _ := w.c.Get(chatModel)
		require.Empty(t, s.Paused)

		edited := manifest(quick)
		third, two := int32(1), int32(2)
		edited.Spec.TargetModels = []types.TargetModel{{Name: "v1", Weight: &two}, {Name: "v2", Weight: &third}}
		require.NoError(t, w.store.Apply(edited))
		s = w.until(time.Minute, false, func(s rollout.Status) bool { return s.Paused != "" })
		require.Contains(t, s.Paused, "changed by somebody else")
		require.Equal(t, "v1=2 v2=1", w.weights(), "they are left as they are")
		w.send(1000, false)
		require.NoError(t, w.c.Resume(chatModel, "it was me"))
		w.until(10*time.Minute, false, in(rollout.Done))
		require.NoError(t, w.store.Apply(edited))
		time.Sleep(20 * time.Millisecond)
		require.Equal(t, "v2=10000", w.weights(), "the file does not undo what was done")
	})
}

// A program that starts again goes on, also with what was started by its API.
func TestRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rollouts.json")
	synctest.Test(t, func(t *testing.T) {
		filed := func(o *rollout.Options) {
			home, err := rollout.NewStoreHome(o.Store, rollout.StoreHomeOptions{Path: path})
			require.NoError(t, err)
			o.Home = home
		}
		w := newWorld(t, 2, filed)
		require.NoError(t, w.store.Apply(manifest("")))
		stop := w.run()
		p, err := rollout.DecodePlan([]byte(quick), chatModel)
		require.NoError(t, err)
		require.NoError(t, w.c.Start(p))
		s := w.until(time.Minute, false, func(s rollout.Status) bool { return s.Phase == rollout.Stepping && s.Step == 1 })
		require.Equal(t, "api", s.Source)
		stop()

		again := newWorld(t, 2, filed)
		again.loader = w.loader
		again = newWorld(t, 2, func(o *rollout.Options) { filed(o); o.Loader = w.loader })
		stop = again.run()
		time.Sleep(5 * time.Second)
		require.Empty(t, again.c.Status(), "its manifest is not there")
		require.NoError(t, again.store.Apply(manifest("")))
		synctest.Wait()
		require.Equal(t, "v1=5000 v2=5000", again.weights(), "at once")
		s, _ = again.c.Get(chatModel)
		require.Equal(t, 1, s.Step)
		require.Len(t, again.admits("v2"), 2, "who had it is taken to have it until it was asked")
		loads := w.loader.count()
		again.until(10*time.Minute, false, in(rollout.Done))
		require.Equal(t, loads, w.loader.count(), "it was there")
		require.NoError(t, again.c.Delete(chatModel))
		synctest.Wait()
		require.Empty(t, again.c.Status())
		require.Equal(t, "v2=10000", again.weights())
		stop()
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NotContains(t, string(data), "chat")
	})
}

// brokenHome fails, hangs or panics as it is told.
type brokenHome struct {
	rollout.Home
	mu    sync.Mutex
	read  error
	write error
	hang  chan struct{}
}

func (h *brokenHome) set(read, write error, hang chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.read, h.write, h.hang = read, write, hang
}

func (h *brokenHome) get() (hang chan struct{}, read, write error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hang, h.read, h.write
}

func (h *brokenHome) Read(ctx context.Context, o rollout.Object) (rollout.Record, error) {
	hang, err, _ := h.get()
	if hang != nil {
		<-hang
	}
	if err != nil && strings.Contains(err.Error(), "panic") {
		panic(err)
	}
	if err != nil {
		return rollout.Record{}, err
	}
	return h.Home.Read(ctx, o)
}

func (h *brokenHome) Write(ctx context.Context, o rollout.Object, r rollout.Record) (string, error) {
	hang, _, err := h.get()
	if hang != nil {
		<-hang
	}
	if err != nil {
		return "", err
	}
	return h.Home.Write(ctx, o, r)
}

// A home that fails for minutes holds the rollout; what must be written is written when it is back.
func TestHomeFails(t *testing.T) {
	down := errors.New("the API server is down")
	for name, fail := range map[string]struct{ read, write error }{
		"all": {down, down}, "reading": {down, nil}, "writing": {nil, down}, "panics": {errors.New("panic"), down},
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "all" {
				t.Skip("takes minutes of simulated time")
			}
			synctest.Test(t, func(t *testing.T) {
				var home *brokenHome
				w := newWorld(t, 2, func(o *rollout.Options) {
					home = &brokenHome{Home: o.Home}
					o.Home = home
				})
				require.NoError(t, w.store.Apply(manifest(quick)))
				w.run()
				w.until(time.Minute, false, in(rollout.Stepping))
				home.set(fail.read, fail.write, nil)
				for range 300 { // five minutes
					w.send(10, false)
					time.Sleep(time.Second)
				}
				s, _ := w.c.Get(chatModel)
				if fail.write != nil {
					require.NotEqual(t, "v2=10000", w.weights())
				}
				require.NotEqual(t, rollout.Failed, s.Phase)
				if fail.read != nil && fail.write != nil {
					require.Contains(t, s.Trouble, "home cannot be read", "%+v", s)
					require.NoError(t, w.c.Abort(chatModel, "while it is down"))
					time.Sleep(time.Minute)
					home.set(nil, nil, nil)
					w.until(2*time.Minute, false, in(rollout.Failed))
					require.Equal(t, "v1=10000", w.weights())
					return
				}
				home.set(nil, nil, nil)
				w.until(10*time.Minute, false, in(rollout.Done))
			})
		})
	}
}

// A home that does not return holds up nothing else, and not the end.
func TestTrapHomeHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var home *brokenHome
		w := newWorld(t, 2, func(o *rollout.Options) {
			home = &brokenHome{Home: o.Home}
			o.Home = home
		})
		require.NoError(t, w.store.Apply(manifest(quick)))
		stop := w.run()
		w.until(time.Minute, false, in(rollout.Stepping))
		held := make(chan struct{})
		home.set(nil, nil, held)
		time.Sleep(time.Minute)
		s, _ := w.c.Get(chatModel)
		require.Contains(t, s.Trouble, "does not answer")
		w.servers(3)
		w.until(time.Minute, false, func(s rollout.Status) bool { return s.Servers["loaded"] == 3 })
		home.set(nil, nil, nil)
		close(held)
		w.until(10*time.Minute, false, in(rollout.Done))
		held = make(chan struct{})
		home.set(nil, nil, held)
		time.Sleep(2 * time.Second)
		began := time.Now()
		stop()
		require.Less(t, time.Since(began), 10*time.Second)
		close(held)
	})
}

// Plans of manifests begin, change, are refused and end with the manifest.
func TestPlansOfManifests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, nil)
		require.NoError(t, w.store.Apply(manifest(`{"stable": "v1", "canary": "v1"}`)))
		w.run()
		synctest.Wait()
		s, ok := w.c.Get(chatModel)
		require.True(t, ok)
		require.Contains(t, s.Refused, "canary")
		require.Empty(t, s.Phase)
		require.Equal(t, "v1=1", w.weights())

		require.NoError(t, w.store.Apply(manifest(quick)))
		s = w.until(time.Minute, false, in(rollout.Stepping))
		require.Empty(t, s.Refused)
		require.Equal(t, "manifest", s.Source)
		p, err := rollout.DecodePlan([]byte(quick), chatModel)
		require.NoError(t, err)
		require.ErrorIs(t, w.c.Start(p), rollout.ErrInManifest)
		require.ErrorIs(t, w.c.Delete(chatModel), rollout.ErrInManifest)

		// A plan that is wrong leaves the one before in force.
		require.NoError(t, w.store.Apply(manifest(`{"stable": "v1", "canary": "v2", "steps": []`)))
		s = w.until(time.Minute, false, func(s rollout.Status) bool { return s.Refused != "" })
		require.Equal(t, rollout.Stepping, s.Phase)
		require.Equal(t, "v2", s.Plan.Canary)

		// Another one begins anew.
		require.NoError(t, w.store.Apply(manifest(strings.ReplaceAll(quick, "v2", "v3"))))
		s = w.until(time.Minute, false, func(s rollout.Status) bool { return s.Plan.Canary == "v3" && s.Phase == rollout.Stepping })
		require.Empty(t, s.Refused)
		require.Equal(t, "v1=9000 v3=1000", w.weights())
		require.Len(t, w.admits("v2"), 2, "nobody minds it any more")

		// Without one it ends where the manifest says.
		require.NoError(t, w.store.Apply(manifest("")))
		synctest.Wait()
		require.Empty(t, w.c.Status())
		require.Equal(t, "v1=1", w.weights())
		require.NoError(t, w.store.Edit("InferenceModel", chatModel.Name, func(o types.Object) error {
			o.Meta().Annotations = map[string]string{rollout.Annotation: quick}
			return nil
		}))
		w.until(time.Minute, false, in(rollout.Stepping))
		before := w.weights()
		require.NoError(t, w.store.Edit("InferenceModel", chatModel.Name, func(o types.Object) error {
			o.Meta().Annotations = nil
			return nil
		}))
		time.Sleep(time.Minute)
		require.Empty(t, w.c.Status())
		require.Equal(t, before, w.weights(), "they stay")
		require.True(t, w.store.Delete("InferenceModel", chatModel.Name))
		require.ErrorIs(t, w.c.Start(p), datastore.ErrNoObject)
	})
}

// A rewrite's rule is found by its targets, and stays the same when the stable target is not listed any more.
func TestRewriteRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, nil)
		rewrite := &types.InferenceModelRewrite{ObjectMeta: types.ObjectMeta{Name: "chat", Annotations: map[string]string{rollout.Annotation: quick}}}
		rewrite.Spec.PoolRef.Name = "llama"
		rule := func(model, target string) types.RewriteRule {
			return types.RewriteRule{
				Matches: []types.RewriteMatch{{Model: types.ModelMatch{Value: model}}},
				Targets: []types.RewriteTarget{{ModelRewrite: target}},
			}
		}
		rewrite.Spec.Rules = []types.RewriteRule{rule("sql", "sql-1"), rule("chat", "v1"), rule("other", "v1")}
		require.NoError(t, w.store.Apply(rewrite))
		w.run()
		o := rollout.Object{Kind: "InferenceModelRewrite", Name: chatModel.Name, Rule: 1}
		done := false
		for range 6000 {
			w.send(100, false)
			time.Sleep(100 * time.Millisecond)
			if s, _ := w.c.Get(o); s.Phase == rollout.Done {
				done = true
				break
			}
		}
		require.True(t, done)
		require.Len(t, w.c.Status(), 1)
		time.Sleep(time.Minute)
		require.Len(t, w.c.Status(), 1, "its own writes begin no other")
		got, err := rollout.WeightsOf(w.store.Object(o.Kind, o.Name), 1)
		require.NoError(t, err)
		require.Equal(t, []rollout.Weight{{Target: "v2", Weight: 10000}}, got)
		got, err = rollout.WeightsOf(w.store.Object(o.Kind, o.Name), 2)
		require.NoError(t, err)
		require.Equal(t, []rollout.Weight{{Target: "v1", Weight: 1}}, got)
	})
}

// Options that are out of range are refused, and too many rollouts.
func TestBounds(t *testing.T) {
	store := datastore.New(datastore.Options{})
	for _, o := range []rollout.Options{
		{}, {Store: store, Interval: time.Nanosecond}, {Store: store, MaxRollouts: -1}, {Store: store, MaxEvents: 1 << 20}, {Store: store, Name: strings.Repeat("x", 300)},
	} {
		_, err := rollout.New(o)
		require.Error(t, err, "%+v", o)
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, func(o *rollout.Options) { o.MaxRollouts = 2 })
		w.run()
		for i := range 3 {
			m := manifest(quick)
			m.Name, m.Spec.ModelName = fmt.Sprintf("m%d", i), fmt.Sprintf("m%d", i)
			require.NoError(t, w.store.Apply(m))
		}
		time.Sleep(10 * time.Second)
		refused := 0
		for _, s := range w.c.Status() {
			if strings.Contains(s.Refused, "too many") {
				refused++
			}
		}
		require.Equal(t, 1, refused)
		require.NoError(t, w.store.Apply(manifest("")))
		p, err := rollout.DecodePlan([]byte(quick), chatModel)
		require.NoError(t, err)
		require.ErrorIs(t, w.c.Start(p), rollout.ErrTooMany)
		require.ErrorIs(t, w.c.Run(ctx), rollout.ErrRunning)
	})
}

// Clocks that are set forth or back neither stop it nor hurry it past its judgement.
func TestClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{-10 * time.Hour, 10 * time.Hour} {
		t.Run(jump.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var off time.Duration
				w := newWorld(t, 2, func(o *rollout.Options) {
					o.Now = func() time.Time {
						mu.Lock()
						defer mu.Unlock()
						return time.Now().Add(off)
					}
				})
				require.NoError(t, w.store.Apply(manifest(quick)))
				w.run()
				w.until(time.Minute, false, in(rollout.Stepping))
				mu.Lock()
				off = jump
				mu.Unlock()
				w.loader.set("s0", "v2", false)
				time.Sleep(40 * time.Second)
				require.True(t, w.loader.count() > 2, "servers are asked nevertheless")
			})
		})
	}
}
