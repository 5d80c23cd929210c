package autoscale_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/types"
)

func newAutoscaler(t testing.TB, r *rig, o autoscale.Options) *autoscale.Autoscaler {
	o.Collector = r.collector
	a, err := autoscale.New(o)
	require.NoError(t, err)
	return a
}

func toZero(types.NamespacedName) (autoscale.Policy, bool) {
	return autoscale.Policy{ToZero: true, IdleAfter: time.Minute}, true
}

// run runs a until the test ends.
func run(t testing.TB, a *autoscale.Autoscaler) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return stop
}

// The first request for a pool without endpoints waits, wakes it at once, and is served by the endpoint that comes.
func TestFromZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0, autoscale.CollectorOptions{Speeds: known(speed)}, &admission.Options{WaitForEndpoints: 10 * time.Minute})
		defer r.admission.Close()
		a := newAutoscaler(t, r, autoscale.Options{Policy: toZero})
		stop := run(t, a)
		defer stop()
		active, unwatch, err := a.Watch(types.NamespacedName{Name: pool.Name})
		require.NoError(t, err)
		defer unwatch()
		require.False(t, <-active)
		time.Sleep(3*time.Hour + time.Millisecond)
		select {
		case v := <-active:
			t.Fatalf("is told %v, and nothing has changed", v)
		default:
		}
		ok, err := a.Active(t.Context(), pool)
		require.NoError(t, err)
		require.False(t, ok)

		served := make(chan error)
		go func() {
			d, err := r.send(t.Context(), request("m", 100))
			if err == nil {
				d.Done(answered(10))
			}
			served <- err
		}()
		asked := time.Now()
		require.True(t, <-active)
		require.Zero(t, time.Since(asked), "at once")
		synctest.Wait()
		got, err := a.Desired(t.Context(), pool)
		require.NoError(t, err)
		require.Equal(t, 1, got.Replicas)
		require.Equal(t, autoscale.RuleWake, got.Term)
		require.Zero(t, time.Since(asked), "a recommendation follows without waiting for its turn")

		time.Sleep(90 * time.Second) // the server starts
		r.set(types.NewEndpoint("e", "10.0.0.1:8000"))
		require.NoError(t, <-served)
		time.Sleep(50 * time.Second)
		got, err = a.Desired(t.Context(), pool)
		require.NoError(t, err)
		require.Equal(t, 1, got.Replicas, "%s: %s", got.Term, got.Reason)
		require.False(t, <-active, "nothing comes any more")
		require.InDelta(t, 60, time.Since(asked.Add(90*time.Second)).Seconds(), 2)
	})
}

// A request that is refused for want of a server wakes its pool, one for a model that is not known does not.
func TestWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0, autoscale.CollectorOptions{}, nil)
		a := newAutoscaler(t, r, autoscale.Options{Policy: toZero})
		a.Tick(t.Context())
		active := func() bool {
			ok, err := a.Active(t.Context(), pool)
			require.NoError(t, err)
			return ok
		}
		require.False(t, active())
		r.collector.Refused(request("m", 100), pool, "model_not_found", 404)
		r.collector.Refused(request("m", 100), types.NamespacedName{}, "model_not_found", 404)
		require.False(t, active())
		r.collector.Refused(request("m", 100), pool, "no_endpoint", 503)
		require.True(t, active())
		a.Tick(t.Context())
		require.True(t, active(), "it has come a moment ago")
		time.Sleep(2 * time.Minute)
		require.False(t, active())
	})
}

// peers are others of which each says something, or not.
type peers struct {
	own     []autoscale.Own
	missing int
	err     error
}

func (p *peers) Ask(context.Context) ([]autoscale.Own, int, error) { return p.own, p.missing, p.err }

// Several gateways answer for all of them, and a part is no whole.
func TestPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 4, autoscale.CollectorOptions{Speeds: known(speed)}, nil)
		others := &peers{}
		a := newAutoscaler(t, r, autoscale.Options{Peers: others})
		mine := a.Own()
		theirs := load(time.Now(), 4, 2.5)
		theirs.Queued, theirs.Running = 7, 3
		model := autoscale.NewSignals(pool, "m", time.Now())
		model.Queued, model.Arrivals = 7, 3
		elsewhere := load(time.Now(), 4, 100)
		elsewhere.Pool.Name = "elsewhere"
		others.own = []autoscale.Own{mine, {Gateway: "b", Signals: []autoscale.Signals{theirs, model, elsewhere}}, {Gateway: "c", Signals: []autoscale.Signals{theirs}}}
		s, err := a.Signals(t.Context(), pool, "")
		require.NoError(t, err)
		require.EqualValues(t, 14, s.Queued)
		require.EqualValues(t, 6, s.Running)
		require.EqualValues(t, 4, s.Ready, "all see the same servers")
		require.InEpsilon(t, 5, float64(s.ArrivalWork), 1e-9)
		require.Equal(t, 3, s.Gateways, "its own answer among them is not counted")
		m, err := a.Signals(t.Context(), pool, "m")
		require.NoError(t, err)
		require.EqualValues(t, 7, m.Queued)
		got, err := a.Desired(t.Context(), pool)
		require.NoError(t, err)
		require.Equal(t, 8, got.Replicas)
		_, err = a.Desired(t.Context(), elsewhere.Pool)
		require.ErrorIs(t, err, autoscale.ErrUnknownPool)

		time.Sleep(time.Hour) // and the window with it
		others.missing, others.own = 1, others.own[:2]
		got, err = a.Desired(t.Context(), pool)
		require.ErrorIs(t, err, autoscale.ErrPartial)
		require.GreaterOrEqual(t, got.Replicas, 8)
		require.True(t, got.Partial)
		_, err = a.Signals(t.Context(), pool, "")
		require.ErrorIs(t, err, autoscale.ErrPartial)
		ok, err := a.Active(t.Context(), pool)
		require.NoError(t, err)
		require.True(t, ok)
		time.Sleep(time.Hour)
		others.err, others.missing = errors.New("no such host"), 0
		_, err = a.Signals(t.Context(), pool, "")
		require.ErrorIs(t, err, autoscale.ErrPartial)
	})
}

// What is merged from one is what it was, and the order does not matter.
func TestMerge(t *testing.T) {
	require.Equal(t, 2, autoscale.Merge(nil, 2).Missing)
	a, b := load(start, 4, 2), load(start.Add(time.Second), 5, 3)
	a.KVUsed, a.Idle = .5, -1
	b.TTFT = autoscale.Latency{P90: 2, Target: 1, Met: .5, N: 10}
	a.TTFT = autoscale.Latency{P90: 1, Target: 2, Met: 1, N: 30}
	ab, ba := autoscale.Merge([]autoscale.Signals{a, b}, 0), autoscale.Merge([]autoscale.Signals{b, a}, 0)
	require.Equal(t, fmt.Sprint(ab), fmt.Sprint(ba))
	require.EqualValues(t, 5, ab.ArrivalWork)
	require.EqualValues(t, 5, ab.Ready)
	require.EqualValues(t, .5, ab.KVUsed)
	require.Equal(t, autoscale.Latency{P90: 1.25, Target: 1.75, Met: .875, N: 40}, ab.TTFT)
	require.Zero(t, ab.Idle)
	require.Equal(t, b.At, ab.At)

	t.Run("one that has not learned speeds yet", func(t *testing.T) {
		young := load(start, 4, 2)
		young.Speed = types.Speed{}
		young.ArrivalWork, young.RecentWork, young.Backlog = autoscale.Unknown(), autoscale.Unknown(), autoscale.Unknown()
		young.ArrivalTokens, young.ArrivalCompute, young.ArrivalOutput, young.PrefillTokens, young.QueuedTokens = 2000, 1000, 400, 100, 200
		got := autoscale.Merge([]autoscale.Signals{young, a}, 0)
		require.InEpsilon(t, 2+1000*speed.Token+400*speed.Sequence, float64(got.ArrivalWork), 1e-9)
		require.InEpsilon(t, 200*speed.Token, float64(got.Backlog), 1e-9)
		require.Equal(t, speed, got.Speed)
	})
}

// Each pool of its policy, and those without one not at all.
func TestPools(t *testing.T) {
	r := newRig(t, 3, autoscale.CollectorOptions{}, nil)
	a := newAutoscaler(t, r, autoscale.Options{Policy: func(types.NamespacedName) (autoscale.Policy, bool) { return autoscale.Policy{}, false }})
	require.Empty(t, a.Pools())
	_, err := a.Desired(t.Context(), pool)
	require.ErrorIs(t, err, autoscale.ErrUnknownPool)
	s, err := a.Signals(t.Context(), pool, "")
	require.NoError(t, err)
	require.Equal(t, 3, s.Ready)
	a.Recommended(func(autoscale.Recommendation, autoscale.Signals, []autoscale.Signals) bool {
		t.Error("nothing is recommended")
		return true
	})
	a = newAutoscaler(t, r, autoscale.Options{})
	require.Equal(t, []types.NamespacedName{pool}, a.Pools())
	n := 0
	a.Tick(t.Context())
	a.Recommended(func(r autoscale.Recommendation, s autoscale.Signals, _ []autoscale.Signals) bool {
		n++
		require.Equal(t, 3, r.Replicas)
		require.Equal(t, pool, s.Pool)
		return true
	})
	require.Equal(t, 1, n)
}

// memory is a Store.
type memory struct {
	mu   sync.Mutex
	data map[string][]byte
	err  error
}

func (m *memory) Save(_ context.Context, name string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.data == nil {
		m.data = map[string][]byte{}
	}
	m.data[name] = data
	return m.err
}

func (m *memory) Load(_ context.Context, name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.data[name] == nil {
		return nil, fs.ErrNotExist
	}
	return m.data[name], m.err
}

// A gateway that is restarted goes on with what it recommended, and where what was saved is of no use with what is there.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		others := &peers{own: []autoscale.Own{{Gateway: "b", Signals: []autoscale.Signals{load(time.Now(), 4, 5)}}}}
		r := newRig(t, 4, autoscale.CollectorOptions{Speeds: known(speed)}, nil)
		stop := run(t, newAutoscaler(t, r, autoscale.Options{Peers: others, Store: store}))
		time.Sleep(30 * time.Second)
		stop()
		require.Contains(t, string(store.data["autoscale"]), `"llama"`)
		others.own[0].Signals[0] = load(time.Now(), 4, .1)
		again := func() int {
			a := newAutoscaler(t, newRig(t, 4, autoscale.CollectorOptions{Speeds: known(speed)}, nil), autoscale.Options{Peers: others, Store: store})
			got, err := a.Desired(t.Context(), pool)
			require.NoError(t, err)
			return got.Replicas
		}
		require.Equal(t, 8, again())
		kept := store.data["autoscale"]
		store.data["autoscale"] = []byte(`{"pools":[{"pool":7}]}`)
		require.Equal(t, 4, again(), "what is broken")
		store.data["autoscale"], store.err = kept, errors.New("no disk")
		require.Equal(t, 4, again(), "what cannot be read")
	})
}

// The page for people, and for peers.
func TestHandler(t *testing.T) {
	r := newRig(t, 3, autoscale.CollectorOptions{Speeds: known(speed)}, nil)
	d, err := r.send(t.Context(), request("m", 100))
	require.NoError(t, err)
	defer d.Done(answered(1))
	a := newAutoscaler(t, r, autoscale.Options{})
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		a.Handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		require.Equal(t, "application/json", w.Header().Get("Content-Type"))
		return w.Code, w.Body.String()
	}
	for _, path := range []string{"/autoscale", "/autoscale?pool=llama", "/autoscale?pool=default/llama"} {
		code, body := get(path)
		require.Equal(t, 200, code, body)
		var page autoscale.Page
		require.NoError(t, json.Unmarshal([]byte(body), &page))
		require.Len(t, page.Pools, 1)
		one := page.Pools[0]
		require.Equal(t, 3, one.Recommendation.Replicas)
		require.Len(t, one.Recommendation.Terms, 5)
		require.Equal(t, "m", one.Models[0].Model)
		require.EqualValues(t, 1, one.Signals.Running)
		require.False(t, one.Signals.KVUsed.Known(), "null is unknown")
		require.Len(t, one.Past, 1)
	}
	code, body := get("/autoscale?pool=other")
	require.Equal(t, 404, code)
	require.Contains(t, body, "unknown pool default/other")
	code, body = get("/autoscale/own")
	require.Equal(t, 200, code)
	own, err := autoscale.ParseOwn([]byte(body))
	require.NoError(t, err)
	require.Len(t, own.Signals, 2)
	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, httptest.NewRequest("POST", "/autoscale", strings.NewReader("{}")))
	require.Equal(t, http.StatusMethodNotAllowed, w.Code)
}

func TestNewRefuses(t *testing.T) {
	_, err := autoscale.New(autoscale.Options{Every: -1})
	require.ErrorContains(t, err, "Collector is required")
	require.ErrorContains(t, err, "Every is -1ns")
	_, err = autoscale.NewCollector(autoscale.CollectorOptions{MaxModels: -1})
	require.ErrorContains(t, err, "Pools is required")
	require.ErrorContains(t, err, "MaxModels is -1")
	a := newAutoscaler(t, newRig(t, 1, autoscale.CollectorOptions{}, nil), autoscale.Options{})
	stop := run(t, a)
	require.Eventually(t, func() bool {
		n := 0
		a.Recommended(func(autoscale.Recommendation, autoscale.Signals, []autoscale.Signals) bool { n++; return true })
		return n == 1
	}, 5*time.Second, time.Millisecond)
	require.ErrorContains(t, a.Run(t.Context()), "running already")
	stop()
}

// Everything at once, with pools that come and go.
func TestAutoscalerAtOnce(t *testing.T) {
	r := newRig(t, 0, autoscale.CollectorOptions{}, &admission.Options{WaitForEndpoints: time.Minute})
	defer r.admission.Close()
	a := newAutoscaler(t, r, autoscale.Options{Policy: toZero, Every: time.Millisecond, Store: &memory{}})
	stop := run(t, a)
	var all sync.WaitGroup
	for g := range 6 {
		all.Go(func() {
			for i := range 100 {
				active, unwatch, err := a.Watch(pool)
				require.NoError(t, err)
				<-active
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				if d, err := r.send(ctx, request(fmt.Sprint(g), 10)); err == nil {
					d.Done(answered(1))
				}
				cancel()
				if _, err := a.Desired(t.Context(), pool); err != nil {
					t.Error(err)
				}
				if i == 50 && g == 0 {
					r.set(types.NewEndpoint("e", "10.0.0.1:8000"))
				}
				unwatch()
				unwatch()
			}
		})
	}
	all.Wait()
	stop()
}

// BenchmarkDesired is one decision.
func BenchmarkDesired(b *testing.B) {
	var h autoscale.History
	s := load(start, 20, 12)
	b.ReportAllocs()
	for b.Loop() {
		s.At = s.At.Add(time.Second)
		autoscale.Desired(s, autoscale.Policy{}, &h)
	}
}
