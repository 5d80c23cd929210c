package datastore_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

func TestWatchReadings(t *testing.T) {
	s := datastore.New(datastore.Options{Coalesce: time.Hour})
	require.NoError(t, s.SetEndpoints(llama, []datastore.EndpointSpec{{ID: "a", Address: "10.0.0.1:8000"}, {ID: "b", Address: "10.0.0.2:8000"}}))
	eps := s.Snapshot().Pool(llama).Endpoints()
	var seen, other []string
	stop := s.WatchReadings(func(pool types.NamespacedName, ep *types.Endpoint) {
		w, _ := ep.Metrics.Waiting.Value()
		seen = append(seen, fmt.Sprint(pool.Name, " ", ep.ID, " ", w))
		if ep.Load == nil || pool != llama {
			t.Errorf("told of %v in %v", ep, pool)
		}
	})
	stopOther := s.WatchReadings(func(_ types.NamespacedName, ep *types.Endpoint) { other = append(other, ep.ID) })
	if len(seen) != 0 {
		t.Errorf("told of %v before there is a reading", seen)
	}
	expect := func(want ...string) {
		t.Helper()
		if fmt.Sprint(seen) != fmt.Sprint(want) {
			t.Errorf("told of %v, want %v", seen, want)
		}
		seen = nil
	}
	reading := func(i int, second int64, waiting float64) {
		s.UpdateMetrics(eps[i].Load, types.Metrics{UpdatedAt: at(second), Waiting: types.Known(waiting)})
	}
	reading(0, 1, 5)
	reading(1, 1, 6)
	expect("llama a 5", "llama b 6") // at once, whatever Coalesce is
	reading(0, 0, 7)                 // older than what there is
	expect()
	reading(0, 2, 5) // the same is news: it is newer
	expect("llama a 5")
	s.SetState(eps[0].Load, types.Draining) // no reading
	require.NoError(t, s.UpsertEndpoint(llama, datastore.EndpointSpec{ID: "c", Address: "10.0.0.3:8000"}))
	expect()
	s.RemoveEndpoint(llama, "b")
	reading(1, 3, 8) // of one that has gone
	expect()

	stop()
	reading(0, 4, 9)
	expect()
	if fmt.Sprint(other) != "[a b a a]" {
		t.Errorf("the other was told of %v", other)
	}
	stop() // again does nothing
	reading(0, 5, 9)
	if len(other) != 5 {
		t.Errorf("the other was told of %v", other)
	}
	stopOther()
	reading(0, 6, 9)
	if len(other) != 5 {
		t.Errorf("after stop the other was told of %v", other)
	}
}

// Readings come from many goroutines while others watch and stop: nothing is lost for who
// watches all the time, and after stop has returned no call begins.
func TestWatchReadingsConcurrently(t *testing.T) {
	const writers, each = 4, 500
	s := datastore.New(datastore.Options{})
	var specs []datastore.EndpointSpec
	for i := range writers {
		specs = append(specs, datastore.EndpointSpec{ID: fmt.Sprint(i), Address: fmt.Sprintf("10.0.0.%d:8000", i+1)})
	}
	require.NoError(t, s.SetEndpoints(llama, specs))
	eps := s.Snapshot().Pool(llama).Endpoints()
	var all atomic.Int64
	defer s.WatchReadings(func(types.NamespacedName, *types.Endpoint) { all.Add(1) })()

	var wg, watchers sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		watchers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				var calls atomic.Int64
				stop := s.WatchReadings(func(_ types.NamespacedName, ep *types.Endpoint) {
					if ep.Load == nil {
						t.Error("told of an endpoint without a ledger")
					}
					calls.Add(1)
				})
				time.Sleep(50 * time.Microsecond)
				stop()
			}
		})
	}
	for _, ep := range eps {
		wg.Go(func() {
			for i := range each {
				s.UpdateMetrics(ep.Load, types.Metrics{UpdatedAt: at(int64(i + 1)), Waiting: types.Known(float64(i))})
			}
		})
	}
	wg.Wait()
	close(done)
	watchers.Wait()
	if got := all.Load(); got != writers*each {
		t.Errorf("told of %d readings, want %d", got, writers*each)
	}
}
