package rollout_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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

// fakeLoader has adapters on servers in memory.
type fakeLoader struct {
	mu     sync.Mutex
	has    map[string]map[string]bool // by ID of the server
	fail   map[string]error           // of loads, by ID
	hang   map[string]chan struct{}   // calls of Load wait for it, whatever their context says
	took   time.Duration
	loads  int
	asked  int
	most   int // loads at once
	now    int
	unload []string
	broken bool // it panics
}

func newLoader() *fakeLoader {
	return &fakeLoader{has: map[string]map[string]bool{}, fail: map[string]error{}, hang: map[string]chan struct{}{}}
}

func (l *fakeLoader) Load(ctx context.Context, ep *types.Endpoint, name, source string) error {
	l.mu.Lock()
	l.loads++
	l.now++
	l.most = max(l.most, l.now)
	err, hang, took, broken := l.fail[ep.ID], l.hang[ep.ID], l.took, l.broken
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.now--
	}()
	if broken {
		panic("a loader that is no good")
	}
	if hang != nil {
		<-hang
		return errors.New("too late")
	}
	select {
	case <-time.After(took):
	case <-ctx.Done():
		return ctx.Err()
	}
	if err == nil {
		l.set(ep.ID, name, true)
	}
	return err
}

func (l *fakeLoader) Unload(_ context.Context, ep *types.Endpoint, name string) error {
	l.set(ep.ID, name, false)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unload = append(l.unload, ep.ID+" "+name)
	return nil
}

func (l *fakeLoader) Loaded(_ context.Context, ep *types.Endpoint, name, _ string) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	return l.has[ep.ID][name], nil
}

// count returns how often Load was called.
func (l *fakeLoader) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.loads
}

// unloaded returns what was unloaded.
func (l *fakeLoader) unloaded() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.unload)
}

func (l *fakeLoader) set(id, name string, has bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.has[id] == nil {
		l.has[id] = map[string]bool{}
	}
	l.has[id][name] = has
}

// world is a store with a llamaPool and a model, a controller, and traffic.
type world struct {
	t      *testing.T
	store  *datastore.Store
	loader *fakeLoader
	home   *rollout.StoreHome
	c      *rollout.Controller

	mu     sync.Mutex
	events []rollout.Event
}

var (
	llamaPool = types.NamespacedName{Namespace: "default", Name: "llama"}
	chatModel = rollout.Object{Kind: "InferenceModel", Name: types.NamespacedName{Namespace: "default", Name: "chat"}}
)

// manifest is the model, with a plan in its annotation unless that is empty.
func manifest(plan string) *types.InferenceModel {
	weight := int32(1)
	m := &types.InferenceModel{ObjectMeta: types.ObjectMeta{Name: "chat"}}
	m.Spec.ModelName, m.Spec.PoolRef.Name = "chat", "llama"
	m.Spec.TargetModels = []types.TargetModel{{Name: "v1", Weight: &weight}}
	if plan != "" {
		m.Annotations = map[string]string{rollout.Annotation: plan}
	}
	return m
}

// quick is a plan of short steps.
const quick = `{"stable": "v1", "canary": "v2", "steps": [{"setWeight": 10, "pause": "5s"}, {"setWeight": 50, "pause": "5s"}, {"setWeight": 100}],
	"metrics": [{"name": "errors"}], "load": {"source": "/adapters/v2", "timeout": "20s", "grace": "2s"}}`

// newWorld makes one with so many servers. change may change the options.
func newWorld(t *testing.T, servers int, change func(*rollout.Options)) *world {
	t.Helper()
	w := &world{t: t, store: datastore.New(datastore.Options{}), loader: newLoader()}
	w.servers(servers)
	var err error
	w.home, err = rollout.NewStoreHome(w.store, rollout.StoreHomeOptions{})
	require.NoError(t, err)
	o := rollout.Options{Store: w.store, Loader: w.loader, Home: w.home, OnEvent: func(e rollout.Event) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.events = append(w.events, e)
	}}
	if change != nil {
		change(&o)
	}
	w.c, err = rollout.New(o)
	require.NoError(t, err)
	return w
}

// servers makes the llamaPool one of n servers.
func (w *world) servers(n int) {
	var specs []datastore.EndpointSpec
	for i := range n {
		specs = append(specs, datastore.EndpointSpec{ID: fmt.Sprintf("s%d", i), Address: fmt.Sprintf("10.0.%d.%d:8000", i/250, i%250)})
	}
	require.NoError(w.t, w.store.SetEndpoints(llamaPool, specs))
}

// run runs the controller, and ends it with the test.
func (w *world) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(w.t, <-done)
	})
	w.t.Cleanup(stop)
	return stop
}

// send has n requests for the model come and end, of which those for the canary fail if bad.
func (w *world) send(n int, bad bool) (canary int) {
	for range n {
		sn := w.store.Snapshot()
		r, err := sn.Resolve(datastore.Query{Model: "chat"})
		require.NoError(w.t, err)
		req := &types.Request{Model: "chat", TargetModel: r.TargetModel, Now: time.Now(), Stream: true}
		eps := r.Pool.Endpoints()
		keep := make([]bool, len(eps))
		for i := range keep {
			keep[i] = true
		}
		require.NoError(w.t, w.c.Gate().Filter(context.Background(), req, eps, keep))
		var ep *types.Endpoint
		for i := range eps {
			if keep[i] {
				ep = eps[i]
			}
		}
		if ep == nil {
			continue
		}
		w.c.Scheduled(req)
		o := types.Outcome{Status: 200, Duration: time.Second, TTFT: 100 * time.Millisecond, Tokens: 50}
		o.Usage.CompletionTokens = types.Known(50)
		if r.TargetModel == "v2" {
			canary++
			if bad {
				o = types.Outcome{Status: 500}
			}
		}
		w.c.Finished(req, ep, o)
	}
	return canary
}

// sent sends until done, or for a while.
func (w *world) until(most time.Duration, bad bool, done func(rollout.Status) bool) rollout.Status {
	w.t.Helper()
	for end := time.Now().Add(most); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		w.send(100, bad)
		if s, ok := w.c.Get(chatModel); ok && done(s) {
			return s
		}
	}
	s, _ := w.c.Get(chatModel)
	text, _ := json.MarshalIndent(s, "", " ")
	w.t.Fatalf("it did not come so far in %v: %s", most, text)
	return s
}

func in(phase rollout.Phase) func(rollout.Status) bool {
	return func(s rollout.Status) bool { return s.Phase == phase }
}

// weights returns those in the store, as text.
func (w *world) weights() string {
	all, err := rollout.WeightsOf(w.store.Object(chatModel.Kind, chatModel.Name), 0)
	require.NoError(w.t, err)
	var parts []string
	for _, one := range all {
		parts = append(parts, fmt.Sprintf("%s=%d", one.Target, one.Weight))
	}
	return strings.Join(parts, " ")
}

func (w *world) has(kind rollout.EventKind) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Kind == kind {
			return true
		}
	}
	return false
}

// A good canary gets all traffic, a bad one none.
func TestRollout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, nil)
		require.NoError(t, w.store.Apply(manifest(quick)))
		w.run()
		w.until(time.Minute, false, in(rollout.Stepping))
		require.Equal(t, 3, w.loader.count())
		s := w.until(10*time.Minute, false, in(rollout.Done))
		require.Equal(t, "v2=10000", w.weights())
		require.Equal(t, map[string]int{"loaded": 3}, s.Servers)
		require.InDelta(t, 100, s.Weight, 0)
		for _, target := range s.Targets {
			require.Zero(t, target.InFlight)
		}
		for _, kind := range []rollout.EventKind{rollout.Started, rollout.Loaded, rollout.Stepped, rollout.Completed} {
			require.True(t, w.has(kind), "%s", kind)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, nil)
		require.NoError(t, w.store.Apply(manifest(quick)))
		w.run()
		w.until(time.Minute, false, in(rollout.Stepping))
		began := time.Now()
		s := w.until(time.Minute, true, in(rollout.Failed))
		require.Less(t, time.Since(began), 10*time.Second)
		require.Equal(t, "v1=10000", w.weights())
		require.Zero(t, s.Weight)
		require.True(t, w.has(rollout.Aborted))
	})
}

// A state file is for the Home that New makes.
func TestStateFile(t *testing.T) {
	store := datastore.New(datastore.Options{})
	home, err := rollout.NewStoreHome(store, rollout.StoreHomeOptions{})
	require.NoError(t, err)
	_, err = rollout.New(rollout.Options{Store: store, Home: home, StateFile: "x"})
	require.ErrorContains(t, err, `Options.StateFile is "x"`)
	_, err = rollout.New(rollout.Options{Store: store, StateFile: t.TempDir()})
	require.Error(t, err, "a folder")
}

// What has stopped a canary is there to be seen and counted afterwards.
func TestTrapStoppingVerdictIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, nil)
		require.NoError(t, w.store.Apply(manifest(quick)))
		w.run()
		w.until(time.Minute, false, in(rollout.Stepping))
		var s rollout.Status
		for n := 0; n < 1000 && s.Phase != rollout.Failed; n++ {
			w.send(70, false)
			w.send(30, true)
			time.Sleep(100 * time.Millisecond)
			s, _ = w.c.Get(chatModel)
		}
		require.Equal(t, rollout.Failed, s.Phase)
		require.Equal(t, rollout.Fail, s.Verdicts[0].Result)
		require.Equal(t, "errors: "+s.Verdicts[0].Reason+"; the last one with status 500", s.Reason)
		require.True(t, slices.ContainsFunc(s.Looks, func(l rollout.LookStatus) bool { return l.Result == rollout.Fail && l.Count > 0 }))
	})
}
