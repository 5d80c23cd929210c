package rollout_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/types"
)

// admits returns the IDs of the servers to which requests for a target may go.
func (w *world) admits(target string) (ids []string) {
	eps := w.store.Snapshot().Pool(llamaPool).Endpoints()
	keep := make([]bool, len(eps))
	for i := range keep {
		keep[i] = true
	}
	require.NoError(w.t, w.c.Gate().Filter(context.Background(), &types.Request{TargetModel: target}, eps, keep))
	for i, ep := range eps {
		if keep[i] {
			ids = append(ids, ep.ID)
		}
	}
	return ids
}

// startedAt makes a server one that was started then.
func (w *world) startedAt(id string, seconds float64) {
	for _, ep := range w.store.Snapshot().Pool(llamaPool).Endpoints() {
		if ep.ID == id {
			w.store.UpdateMetrics(ep.Load, types.Metrics{StartedAt: types.Known(seconds)})
		}
	}
}

// Servers that come, begin anew or lose an adapter in silence get it, and until then no requests for it.
func TestFleetComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, nil)
		w.loader.took = 3 * time.Second
		require.NoError(t, w.store.Apply(manifest(quick)))
		require.Len(t, w.admits("v2"), 2, "Run does not run: nobody knows of a rollout")
		w.startedAt("s0", 100)
		w.run()
		synctest.Wait()
		require.Empty(t, w.admits("v2"), "nobody has it yet")
		require.Len(t, w.admits("v1"), 2)
		w.until(time.Minute, false, in(rollout.Stepping))
		require.Len(t, w.admits("v2"), 2)

		w.servers(3)
		synctest.Wait()
		require.Equal(t, []string{"s0", "s1"}, w.admits("v2"), "the new one has not got it")
		w.until(time.Minute, false, func(rollout.Status) bool { return len(w.admits("v2")) == 3 })

		w.loader.set("s0", "v2", false)
		w.startedAt("s0", 200)
		require.Equal(t, []string{"s1", "s2"}, w.admits("v2"), "at once")
		w.until(time.Minute, false, func(rollout.Status) bool { return len(w.admits("v2")) == 3 })

		w.loader.set("s1", "v2", false) // and no metric says so
		loads := w.loader.count()
		w.until(time.Minute, false, func(rollout.Status) bool { return w.loader.count() > loads })
		w.until(10*time.Minute, false, func(s rollout.Status) bool { return s.Phase == rollout.Done && len(w.admits("v2")) == 3 })

		// It has won, and still a server that begins anew gets it.
		w.loader.set("s2", "v2", false)
		w.startedAt("s2", 300)
		w.startedAt("s2", 400)
		require.Equal(t, []string{"s0", "s1"}, w.admits("v2"))
		w.until(time.Minute, false, func(rollout.Status) bool { return len(w.admits("v2")) == 3 })
		w.servers(1)
		synctest.Wait()
		s, _ := w.c.Get(chatModel)
		require.Len(t, s.Each, 1)
	})
}

// A server that has lost the canary in silence is found out by the first 404; one that has it goes on having its requests.
func TestTrapLostInSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, nil)
		require.NoError(t, w.store.Apply(manifest(quick)))
		w.run()
		w.until(time.Minute, false, in(rollout.Stepping))
		missing := func(id string) {
			for _, ep := range w.store.Snapshot().Pool(llamaPool).Endpoints() {
				if ep.ID == id {
					req := &types.Request{Model: "chat", TargetModel: "v2", Now: time.Now()}
					w.c.Scheduled(req)
					w.c.Finished(req, ep, types.Outcome{Status: 404})
				}
			}
			time.Sleep(50 * time.Millisecond)
			synctest.Wait()
		}
		missing("s0")
		require.Len(t, w.admits("v2"), 2, "a client may have asked for what no server has")
		w.loader.took = 10 * time.Second
		w.loader.set("s1", "v2", false)
		missing("s1")
		require.Equal(t, []string{"s0"}, w.admits("v2"), "at once")
		w.until(2*time.Minute, false, func(rollout.Status) bool { return len(w.admits("v2")) == 2 })

		w.loader.mu.Lock()
		asked := w.loader.asked
		w.loader.mu.Unlock()
		for range 40 {
			missing("s0")
		}
		w.loader.mu.Lock()
		require.LessOrEqual(t, w.loader.asked-asked, 6, "not for each")
		w.loader.mu.Unlock()
	})
}

// A client that asks by a path that no server has is not the canary's fault, though its session is the canary's: only
// what the server says of the model is.
func TestTrapPathNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, nil)
		require.NoError(t, w.store.Apply(manifest(quick)))
		w.run()
		w.until(time.Minute, false, in(rollout.Stepping))
		answer := func(o types.Outcome) {
			for _, ep := range w.store.Snapshot().Pool(llamaPool).Endpoints() {
				req := &types.Request{Model: "chat", TargetModel: "v2", Now: time.Now()}
				w.c.Scheduled(req)
				w.c.Finished(req, ep, o)
			}
		}
		for range 9 {
			answer(types.Outcome{Status: 404})
			answer(types.Outcome{Status: 429})
		}
		s, ok := w.c.Get(chatModel)
		require.True(t, ok)
		got := s.Targets[1]
		require.Equal(t, []int{0, 0, 18, 18}, []int{got.Requests, got.Errors, got.Refused, got.Busy})
		w.until(10*time.Minute, false, in(rollout.Done))
	})
}

// The same with what servers say of the model: that stops it at once.
func TestModelMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, nil)
		require.NoError(t, w.store.Apply(manifest(quick)))
		w.run()
		w.until(time.Minute, false, in(rollout.Stepping))
		for range 5 {
			for _, ep := range w.store.Snapshot().Pool(llamaPool).Endpoints() {
				req := &types.Request{Model: "chat", TargetModel: "v2", Now: time.Now()}
				w.c.Scheduled(req)
				w.c.Finished(req, ep, types.Outcome{Status: 404, ModelMissing: true})
			}
		}
		w.until(time.Minute, false, in(rollout.Failed))
	})
}

// What servers are known to serve is known of the canary as soon as they have it: not when they are asked next.
func TestTrapListsAreOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, nil)
		eps := func() []*types.Endpoint { return w.store.Snapshot().Pool(llamaPool).Endpoints() }
		for _, ep := range eps()[:2] {
			w.store.SetModels(ep.Load, []string{"base", "v1"})
		}
		w.loader.set("s1", "v2", true)
		require.NoError(t, w.store.Apply(manifest(quick)))
		w.run()
		w.until(time.Minute, false, in(rollout.Stepping))
		synctest.Wait()
		require.Equal(t, []string{"base", "v1", "v2"}, eps()[0].Models, "loaded")
		require.Equal(t, []string{"base", "v1", "v2"}, eps()[1].Models, "there already")
		require.Nil(t, eps()[2].Models, "not known")
	})
}

// If no server has the canary any more, it loses its traffic.
func TestNobodyHasIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, nil)
		require.NoError(t, w.store.Apply(manifest(quick)))
		w.run()
		w.until(time.Minute, false, in(rollout.Stepping))
		w.loader.mu.Lock()
		w.loader.fail["s0"], w.loader.fail["s1"] = errors.New("no room"), errors.New("no room")
		w.loader.mu.Unlock()
		for i, id := range []string{"s0", "s1"} {
			w.loader.set(id, "v2", false)
			w.startedAt(id, float64(100*i+100))
			w.startedAt(id, float64(100*i+300))
		}
		require.Empty(t, w.admits("v2"))
		w.until(time.Minute, false, func(s rollout.Status) bool { return s.Weight == 0 })
		require.Equal(t, "v1=10000", w.weights())
	})
}

// Loads are made some at a time, and tried again.
func TestLoads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 30, nil)
		w.loader.took = time.Second
		w.loader.fail["s7"] = errors.New("the disk is full")
		require.NoError(t, w.store.Apply(manifest(quick)))
		w.run()
		s := w.until(5*time.Minute, false, in(rollout.Failed))
		require.Contains(t, s.Reason, "the disk is full")
		require.LessOrEqual(t, w.loader.most, 4, "Parallel")
		require.Equal(t, 29+3, w.loader.count(), "Tries")
		require.Equal(t, "v1=10000", w.weights())
	})
}

// forGood is an error that says so.
type forGood struct{ error }

func (forGood) Permanent() bool { return true }

// What fails for good is not tried again.
func TestPermanentErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, nil)
		w.loader.fail["s1"] = fmt.Errorf("loader: %w", forGood{errors.New("loading is switched off")})
		require.NoError(t, w.store.Apply(manifest(quick)))
		w.run()
		s := w.until(time.Minute, false, in(rollout.Failed))
		require.Contains(t, s.Reason, "switched off")
		require.LessOrEqual(t, w.loader.count(), 3)
	})
}

// A loader that does not return, or panics, holds up nothing but its server.
func TestTrapLoaderHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, nil)
		held := make(chan struct{})
		w.loader.hang["s1"] = held
		require.NoError(t, w.store.Apply(manifest(quick)))
		stop := w.run()
		s := w.until(5*time.Minute, false, func(s rollout.Status) bool { return s.Servers["failed"] == 1 })
		require.Equal(t, 2, s.Servers["loaded"])
		began := time.Now()
		stop()
		require.Less(t, time.Since(began), 5*time.Second, "Run does not wait for it")
		close(held)
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, nil)
		w.loader.broken = true
		require.NoError(t, w.store.Apply(manifest(quick)))
		w.run()
		s := w.until(5*time.Minute, false, in(rollout.Failed))
		require.Contains(t, s.Reason, "a loader that is no good")
	})
}

// Who has lost is unloaded when its last request has ended.
func TestUnload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, nil)
		plan := `{"stable": "v1", "canary": "v2", "steps": [{"setWeight": 50}, {"setWeight": 100}], "metrics": [{"name": "errors", "maxRise": 10}],
			"load": {"source": "/adapters/v2", "unload": true, "grace": "3s"}}`
		require.NoError(t, w.store.Apply(manifest(plan)))
		w.run()
		w.until(time.Minute, false, in(rollout.Stepping))
		slow := &types.Request{Model: "chat", TargetModel: "v2", Now: time.Now()}
		ep := w.store.Snapshot().Pool(llamaPool).Endpoints()[0]
		w.c.Scheduled(slow)
		require.NoError(t, w.c.Abort(chatModel, "it smells"))
		s := w.until(time.Minute, false, in(rollout.Aborting))
		require.Equal(t, 1, s.Targets[1].InFlight)
		for range 300 {
			w.send(10, false)
			time.Sleep(100 * time.Millisecond)
		}
		require.Empty(t, w.loader.unloaded(), "a request is under way")
		require.ErrorContains(t, w.c.Pause(otherModel, ""), "no such rollout")
		w.c.Finished(slow, ep, types.Outcome{Status: 200})
		w.until(time.Minute, false, in(rollout.Failed))
		require.Len(t, w.loader.unloaded(), 2)
	})
}

var otherModel = rollout.Object{Kind: "InferenceModel", Name: types.NamespacedName{Name: "other"}}

// Thousands of servers are loaded, asked and gated.
func TestManyServers(t *testing.T) {
	if testing.Short() {
		t.Skip("has thousands of servers")
	}
	synctest.Test(t, func(t *testing.T) {
		const n = 3000
		w := newWorld(t, n, nil)
		w.loader.took = 100 * time.Millisecond
		plan := `{"stable": "v1", "canary": "v2", "steps": [{"setWeight": 50}, {"setWeight": 100}], "metrics": [{"name": "errors", "maxRise": 50}],
			"load": {"source": "/adapters/v2", "parallel": 100}}`
		require.NoError(t, w.store.Apply(manifest(plan)))
		w.run()
		w.until(2*time.Minute, false, in(rollout.Stepping))
		require.Equal(t, n, w.loader.count())
		require.LessOrEqual(t, w.loader.most, 100)
		require.Len(t, w.admits("v2"), n)
	})
}

// The pool's requests alone are kept from servers: another pool may have a target of that name.
func TestGateOfAnotherPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, nil)
		other := types.NamespacedName{Name: "other"}
		require.NoError(t, w.store.SetEndpoints(other, []datastore.EndpointSpec{{ID: "s0", Address: "x:1"}}))
		require.NoError(t, w.store.Apply(manifest(quick)))
		w.run()
		synctest.Wait()
		eps := w.store.Snapshot().Pool(other).Endpoints()
		keep := []bool{true}
		require.NoError(t, w.c.Gate().Filter(context.Background(), &types.Request{TargetModel: "v2"}, eps, keep))
		require.True(t, keep[0])
		require.False(t, w.c.Gate().Idle(&types.Request{TargetModel: "v2"}))
		require.True(t, w.c.Gate().Idle(&types.Request{TargetModel: "v1"}))
		require.True(t, w.c.Gate().Match("v9", eps[0]))
	})
}

// What requests pay.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10, nil)
		eps := w.store.Snapshot().Pool(llamaPool).Endpoints()
		keep := make([]bool, len(eps))
		pass := func(target string) func() {
			outcome := types.Outcome{Status: 200, Duration: time.Second, TTFT: 100 * time.Millisecond, Tokens: 50, Usage: types.Usage{CompletionTokens: types.Known(50)}}
			return func() {
				req := types.Request{Model: "chat", TargetModel: target, Stream: true}
				_ = w.c.Gate().Filter(context.Background(), &req, eps, keep)
				w.c.Scheduled(&req)
				w.c.Finished(&req, eps[0], outcome)
			}
		}
		requests := make([]func(), 0, 3)
		for _, target := range []string{"v1", "v2", "other"} {
			requests = append(requests, pass(target))
		}
		for _, one := range requests {
			require.Zero(t, testing.AllocsPerRun(100, one), "without a rollout")
		}
		require.NoError(t, w.store.Apply(manifest(quick)))
		w.run()
		w.until(time.Minute, false, in(rollout.Stepping))
		for i, one := range requests {
			one()
			require.Zero(t, testing.AllocsPerRun(100, one), "with a rollout, request %d", i)
		}
	})
}

// What the gate costs: requests for other models, and those for the canary.
func BenchmarkGate(b *testing.B) {
	for _, n := range []int{10, 1000} {
		for _, target := range []string{"other", "v2"} {
			b.Run(fmt.Sprintf("endpoints=%d/target=%s", n, target), func(b *testing.B) {
				w := benchWorld(b, n)
				eps := w.store.Snapshot().Pool(llamaPool).Endpoints()
				keep := make([]bool, n)
				req := &types.Request{Model: "chat", TargetModel: target}
				gate := w.c.Gate()
				b.ReportAllocs()
				for b.Loop() {
					if !gate.Idle(req) {
						_ = gate.Filter(context.Background(), req, eps, keep)
					}
				}
			})
		}
	}
}

// What it costs to count a request and to take a sample of it.
func BenchmarkControllerObserve(b *testing.B) {
	for _, target := range []string{"other", "v1"} {
		b.Run("target="+target, func(b *testing.B) {
			w := benchWorld(b, 10)
			ep := w.store.Snapshot().Pool(llamaPool).Endpoints()[0]
			outcome := types.Outcome{Status: 200, Duration: time.Second, TTFT: 100 * time.Millisecond, Tokens: 50, Usage: types.Usage{CompletionTokens: types.Known(50)}}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					req := types.Request{Model: "chat", TargetModel: target, Stream: true}
					w.c.Scheduled(&req)
					w.c.Finished(&req, ep, outcome)
				}
			})
		})
	}
}

// benchWorld is one with a rollout of which all servers have the canary.
func benchWorld(b testing.TB, n int) *world {
	w := &world{store: datastore.New(datastore.Options{}), loader: newLoader()}
	var specs []datastore.EndpointSpec
	for i := range n {
		specs = append(specs, datastore.EndpointSpec{ID: fmt.Sprintf("s%d", i), Address: fmt.Sprintf("10.0.%d.%d:8000", i/250, i%250)})
	}
	require.NoError(b, w.store.SetEndpoints(llamaPool, specs))
	var err error
	w.c, err = rollout.New(rollout.Options{Store: w.store, Loader: w.loader, Interval: 10 * time.Millisecond})
	require.NoError(b, err)
	require.NoError(b, w.store.Apply(manifest(quick)))
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = w.c.Run(ctx) }()
	b.Cleanup(func() { stop(); <-done })
	require.Eventually(b, func() bool { s, _ := w.c.Get(chatModel); return s.Phase == rollout.Stepping }, 10*time.Second, time.Millisecond)
	return w
}

// A grace that is shorter than the time between two looks is over nevertheless.
func TestTrapShortGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, nil)
		require.NoError(t, w.store.Apply(manifest("")))
		w.run()
		p, err := rollout.DecodePlan([]byte(`{"stable": "v1", "canary": "v2", "load": {"source": "x", "unload": true, "grace": "100ms"}}`), chatModel)
		require.NoError(t, err)
		require.NoError(t, w.c.Start(p))
		for w.c.Abort(chatModel, "at once") != nil {
			time.Sleep(time.Millisecond)
		}
		w.until(time.Minute, false, in(rollout.Failed))
	})
}
