package scrape_test

import (
	"context"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/scrape"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// TestPoolEngines: each pool's servers are read by its own engines, and another version of
// them is in force with the next scrape.
func TestPoolEngines(t *testing.T) {
	other := types.NamespacedName{Namespace: "default", Name: "other"}
	mine := func(metric string) map[types.NamespacedName]scrape.PoolOptions {
		return map[types.NamespacedName]scrape.PoolOptions{pool: {Engines: []scrape.Engine{
			{Name: "mine", Path: "/own", Waiting: []scrape.Metric{{Name: metric, Match: map[string]string{"state": "queued"}}}},
		}}}
	}
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, datastore.EndpointSpec{ID: "a", Address: "a:1"})
		require.NoError(t, store.SetEndpoints(other, []datastore.EndpointSpec{{ID: "b", Address: "b:1"}}))
		f := &fleet{answer: page("first{state=\"queued\"} 3\nfirst 9\nsecond{state=\"queued\"} 5\nvllm:num_requests_waiting 7\n")}
		s, err := scrape.New(store, scrape.Options{Transport: f})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		expect := func(what string, want float64, path string) {
			t.Helper()
			time.Sleep(time.Second)
			f.take()
			time.Sleep(time.Second)
			synctest.Wait()
			if got, _ := endpoint(t, store, "a").Metrics.Waiting.Value(); got != want {
				t.Errorf("%s: waiting is %v, want %v", what, got, want)
			}
			if got, _ := store.Snapshot().Pool(other).Endpoints()[0].Metrics.Waiting.Value(); got != 7 {
				t.Errorf("%s: waiting in the other pool is %v, want 7", what, got)
			}
			asked := f.take()
			for _, r := range asked {
				if strings.Contains(r.url, "a:1") && r.url != "http://a:1"+path {
					t.Errorf("%s: asked for %s", what, r.url)
				}
			}
			if len(asked) < 8 {
				t.Errorf("%s: asked %d times in a second", what, len(asked))
			}
		}
		set := func(pools map[types.NamespacedName]scrape.PoolOptions) {
			t.Helper()
			require.NoError(t, s.SetPools(pools))
		}
		expect("at first", 7, "/metrics")
		set(mine("first"))
		expect("own engines", 3, "/own")
		if err := s.SetPools(map[types.NamespacedName]scrape.PoolOptions{pool: {Engines: []scrape.Engine{{Name: "x"}}}}); err == nil ||
			!strings.Contains(err.Error(), `scrape: pool default/pool: scrape: engine 0 "x": it has no metric`) {
			t.Errorf("an engine that is not well formed: %v", err)
		}
		expect("after an error", 3, "/own")
		set(mine("second"))
		expect("others", 5, "/own")
		set(nil)
		expect("none", 7, "/metrics")
		cancel()
		require.NoError(t, <-done)
	})
}

// TestPoolSkipsVerification: certificates are verified, but of pools that say otherwise.
func TestPoolSkipsVerification(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/custom/metrics" {
			io.WriteString(w, "vllm:num_requests_waiting 4\n")
			return
		}
		http.NotFound(w, r)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are meant to fail
	server.StartTLS()
	defer server.Close()
	store := newStore(t, datastore.EndpointSpec{ID: "a", Address: server.Listener.Addr().String(), MetricsScheme: "https", MetricsPath: "/custom/metrics"})
	var good, bad atomic.Int64
	s, err := scrape.New(store, scrape.Options{Interval: 5 * time.Millisecond, MaxBackoff: 10 * time.Millisecond, Timeout: 10 * time.Second, OnScrape: func(r scrape.Result) {
		if r.Err == nil {
			good.Add(1)
		} else if strings.Contains(r.Err.Error(), "certificate") {
			bad.Add(1)
		}
	}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		cancel()
		<-done
	}()
	wait := func(what string, n *atomic.Int64) {
		t.Helper()
		from := n.Load()
		eventually(t, what, func() (string, bool) { return "no scrape", n.Load() > from+1 })
	}
	wait("certificates are verified", &bad)
	if good.Load() > 0 {
		t.Error("a certificate that nobody vouches for was taken")
	}
	require.NoError(t, s.SetPools(map[types.NamespacedName]scrape.PoolOptions{pool: {InsecureSkipVerify: true}}))
	wait("every certificate is taken", &good)
	if got, _ := endpoint(t, store, "a").Metrics.Waiting.Value(); got != 4 {
		t.Errorf("waiting is %v, want 4", got)
	}
	require.NoError(t, s.SetPools(nil))
	wait("they are verified again", &bad)
}

// TestPoolsSayWhere: what an endpoint's specification does not say of its metrics its pool
// says, from the next scrape on.
func TestPoolsSayWhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t,
			datastore.EndpointSpec{ID: "plain", Address: "plain:1"},
			datastore.EndpointSpec{ID: "own", Address: "own:1", MetricsScheme: "http", MetricsAddress: ":7", MetricsPath: "/own", Engine: "vllm"},
			datastore.EndpointSpec{ID: "labelled", Address: "labelled:1", Labels: map[string]string{"engine": "sglang"}},
		)
		f := &fleet{answer: page("vllm:num_requests_waiting 1\nsglang:num_queue_reqs 2\nmine 3\n")}
		s, err := scrape.New(store, scrape.Options{Transport: f})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		expect := func(waiting map[string]float64, urls ...string) {
			t.Helper()
			time.Sleep(time.Second)
			f.take()
			time.Sleep(time.Second)
			synctest.Wait()
			asked := make(map[string]bool)
			for _, r := range f.take() {
				asked[r.url] = true
			}
			require.ElementsMatch(t, urls, slices.Collect(maps.Keys(asked)))
			got := make(map[string]float64)
			for id := range waiting {
				got[id], _ = endpoint(t, store, id).Metrics.Waiting.Value()
			}
			require.Equal(t, waiting, got)
		}
		expect(map[string]float64{"own": 1}, "http://plain:1/metrics", "http://own:7/own", "http://labelled:1/metrics")
		mine := scrape.Engine{Name: "mine", Waiting: []scrape.Metric{{Name: "mine"}}}
		require.NoError(t, s.SetPools(map[types.NamespacedName]scrape.PoolOptions{pool: {
			Scheme: "https", Path: "/m", Port: 9, EngineLabel: "engine", Engine: "mine", Engines: append(scrape.DefaultEngines(), mine),
		}}))
		expect(map[string]float64{"plain": 3, "own": 1, "labelled": 2}, "https://plain:9/m", "http://own:7/own", "https://labelled:9/m")
		require.NoError(t, s.SetPools(nil))
		expect(map[string]float64{"own": 1}, "http://plain:1/metrics", "http://own:7/own", "http://labelled:1/metrics")
		cancel()
		require.NoError(t, <-done)
	})
}
