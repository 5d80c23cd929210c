package follow_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/internal/follow"
	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/types"
)

var pool = types.NamespacedName{Namespace: "default", Name: "pool"}

// diary notes what workers do. A worker takes a second to end. Endpoints whose label "turn" is the same
// have one turn.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

// read returns what was noted since the last call, once nothing happens any more.
func (d *diary) read() (lines []string) {
	time.Sleep(time.Minute)
	d.mu.Lock()
	defer d.mu.Unlock()
	lines, d.lines = d.lines, nil
	return lines
}

func (d *diary) Plan(ev datastore.Event) (plan []string, turn any, work bool) {
	turn = ev.Endpoint.Load
	if label := ev.Spec.Labels["turn"]; label != "" {
		turn = label
	}
	return []string{ev.Spec.MetricsPath}, turn, !ev.Spec.NoMetrics
}

func (d *diary) Worker(ctx context.Context, ev datastore.Event, plan []string) follow.Worker {
	return &worker{d, ctx, ev.Endpoint.ID + " at " + plan[0]}
}

type worker struct {
	*diary
	ctx  context.Context
	what string
}

func (w *worker) Run() {
	w.note("%s begins", w.what)
	<-w.ctx.Done()
	time.Sleep(time.Second)
	w.note("%s ends", w.what)
}

func (w *worker) Restart() { w.note("%s restarts", w.what) }

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, d := datastore.New(datastore.Options{}), &diary{}
		set := func(spec datastore.EndpointSpec) {
			t.Helper()
			require.NoError(t, store.UpsertEndpoint(pool, spec))
		}
		set(datastore.EndpointSpec{ID: "a", Address: "10.0.0.1:80", MetricsPath: "/1"})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan bool)
		go func() {
			follow.Run(ctx, store, d, nil)
			close(ended)
		}()
		require.Equal(t, []string{"a at /1 begins"}, d.read())

		t.Log("what the work does not depend on")
		set(datastore.EndpointSpec{ID: "a", Address: "10.0.0.1:80", MetricsPath: "/1", Labels: map[string]string{"x": "y"}})
		require.Empty(t, d.read())

		t.Log("a restart is seen by the start time of the process")
		load := store.Snapshot().Pool(pool).Endpoints()[0].Load
		for _, started := range []float64{1000, 2000} {
			store.UpdateMetrics(load, types.Metrics{UpdatedAt: time.Now(), StartedAt: types.Known(started)})
			time.Sleep(time.Second)
		}
		require.Equal(t, []string{"a at /1 restarts"}, d.read())

		t.Log("the old worker ends before the new one begins, also if there are many between")
		set(datastore.EndpointSpec{ID: "a", Address: "10.0.0.1:80", MetricsPath: "/2"})
		set(datastore.EndpointSpec{ID: "a", Address: "10.0.0.1:80", MetricsPath: "/3"})
		require.Equal(t, []string{"a at /1 ends", "a at /3 begins"}, d.read())

		t.Log("nothing to do, and again")
		set(datastore.EndpointSpec{ID: "a", Address: "10.0.0.1:80", MetricsPath: "/3", NoMetrics: true})
		require.Equal(t, []string{"a at /3 ends"}, d.read())
		set(datastore.EndpointSpec{ID: "a", Address: "10.0.0.1:80", MetricsPath: "/3"})
		require.Equal(t, []string{"a at /3 begins"}, d.read())

		t.Log("two endpoints of one turn")
		turn := map[string]string{"turn": "one"}
		set(datastore.EndpointSpec{ID: "b", Address: "10.0.0.2:80", MetricsPath: "/4", Labels: turn})
		require.Equal(t, []string{"b at /4 begins"}, d.read())
		set(datastore.EndpointSpec{ID: "c", Address: "10.0.0.3:80", MetricsPath: "/5", Labels: turn})
		require.Empty(t, d.read(), "b has the turn")
		require.True(t, store.RemoveEndpoint(pool, "b"))
		require.Equal(t, []string{"b at /4 ends", "c at /5 begins"}, d.read())

		cancel()
		<-ended
		require.ElementsMatch(t, []string{"a at /3 ends", "c at /5 ends"}, d.read())
		set(datastore.EndpointSpec{ID: "e", Address: "10.0.0.1:80", MetricsPath: "/6"})
		require.Empty(t, d.read())
	})
}

// failing is work of which the worker panics as often as it says.
type failing struct {
	*diary
	left int
}

func (f *failing) Worker(ctx context.Context, ev datastore.Event, plan []string) follow.Worker {
	return &fails{worker{f.diary, ctx, ev.Endpoint.ID}, f}
}

type fails struct {
	worker
	*failing
}

func (w *fails) Run() {
	if w.left--; w.left >= 0 {
		panic("of a worker")
	}
	w.worker.Run()
}

func (w *fails) Restart() {}

// A worker that panics runs again, and Run ends all the same.
func TestWorkerPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, d := datastore.New(datastore.Options{}), &diary{}
		require.NoError(t, store.UpsertEndpoint(pool, datastore.EndpointSpec{ID: "a", Address: "10.0.0.1:80"}))
		told := 0
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan bool)
		go func() {
			follow.Run(ctx, store, &failing{d, 4}, guard.NewTeller(func(*guard.Panic, int) { told++ }))
			close(ended)
		}()
		require.Equal(t, []string{"a begins"}, d.read())
		require.Equal(t, 1, told)
		cancel()
		<-ended
	})
}
