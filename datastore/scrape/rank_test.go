package scrape_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/scrape"
	"github.com/inferpick/inferpick/types"
)

// rankPage is what a server of vLLM with n ranks says: rank i has i requests waiting.
func rankPage(n int) string {
	var b strings.Builder
	fmt.Fprintln(&b, "process_start_time_seconds 1000")
	for i := range n {
		fmt.Fprintf(&b, "vllm:num_requests_waiting{engine=\"%d\",model_name=\"m\"} %d\n", i, i)
		fmt.Fprintf(&b, "vllm:num_requests_running{engine=\"%d\",model_name=\"m\"} %d\n", i, 10+i)
		fmt.Fprintf(&b, "vllm:cache_config_info{block_size=\"16\",engine=\"%d\",num_gpu_blocks=\"%d\"} 1\n", i, 1000+i)
	}
	return b.String()
}

// A page has the figures of all ranks: each endpoint gets those of its own.
func TestRankReadings(t *testing.T) {
	known := types.Known
	for _, tt := range []struct {
		name, page string
		of         int
		has        []int // ranks that are endpoints; nil: all
		want       map[int]types.Metrics
		err        map[int]string
	}{
		{name: "vLLM", page: rankPage(2), of: 2, want: map[int]types.Metrics{
			0: {Waiting: known(0), Running: known(10), BlockSize: known(16), NumBlocks: known(1000), StartedAt: known(1000)},
			1: {Waiting: known(1), Running: known(11), BlockSize: known(16), NumBlocks: known(1001), StartedAt: known(1000)},
		}},
		{name: "only some of many are endpoints", page: rankPage(12), of: 12, has: []int{10, 3}, want: map[int]types.Metrics{
			3:  {Waiting: known(3), Running: known(13), BlockSize: known(16), NumBlocks: known(1003), StartedAt: known(1000)},
			10: {Waiting: known(10), Running: known(20), BlockSize: known(16), NumBlocks: known(1010), StartedAt: known(1000)},
		}},
		{name: "SGLang: ranks of tensor parallelism report the same", of: 2, page: `sglang:num_queue_reqs{dp_rank="0",tp_rank="0"} 4
sglang:num_queue_reqs{dp_rank="0",tp_rank="1"} 5
sglang:num_queue_reqs{dp_rank="1",tp_rank="2"} 1
sglang:token_usage{dp_rank="0",tp_rank="0"} 0.5
sglang:token_usage{dp_rank="1",tp_rank="2"} 0.25
`, want: map[int]types.Metrics{0: {Waiting: known(5), KVUsage: known(0.5)}, 1: {Waiting: known(1), KVUsage: known(0.25)}}},
		{name: "a rank that makes no sense", of: 2, page: `vllm:num_requests_waiting{engine="0"} -1
vllm:num_requests_waiting{engine="1"} 2
vllm:num_requests_running{engine="0"} 3
vllm:num_requests_waiting{engine="x"} 7
`, want: map[int]types.Metrics{0: {Running: known(3)}, 1: {Waiting: known(2)}}},
		{name: "sleep and adapters", of: 2, page: `vllm:num_requests_waiting{engine="0"} 0
vllm:num_requests_waiting{engine="1"} 0
vllm:engine_sleep_state{engine="0",sleep_state="awake"} 0
vllm:engine_sleep_state{engine="1",sleep_state="awake"} 1
vllm:lora_requests_info{max_lora="4",running_lora_adapters="x",waiting_lora_adapters=""} 2
vllm:lora_requests_info{engine="1",max_lora="4",running_lora_adapters="y",waiting_lora_adapters=""} 1
`, want: map[int]types.Metrics{
			0: {Waiting: known(0), Awake: known(0), MaxAdapters: known(4), RunningAdapters: []string{"x"}},
			1: {Waiting: known(0), Awake: known(1), MaxAdapters: known(4), RunningAdapters: []string{"y"}},
		}},
		{name: "one that is missing", page: rankPage(1), of: 2, want: map[int]types.Metrics{
			0: {Waiting: known(0), Running: known(10), BlockSize: known(16), NumBlocks: known(1000), StartedAt: known(1000)},
		}, err: map[int]string{1: `scrape: the page has none of the engine's metrics for rank 1, that is with the label engine="1": does the server have 2 ranks at that address?`}},
		{name: "load without ranks is that of none", page: idle, of: 2, err: map[int]string{0: `for rank 0, that is with the label engine="0"`, 1: "for rank 1"}},
		{name: "an engine whose ranks cannot be told apart", page: "tgi_queue_size 3\n", of: 2,
			err: map[int]string{0: "scrape: the page has none of the engine's metrics for rank 0: it is not known how engine tgi tells ranks apart, want Engine.RankLabel", 1: "for rank 1"}},
		{name: "no page of metrics", page: "up 1\n", of: 2, err: map[int]string{0: "looked for", 1: "looked for"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all := datastore.EndpointSpec{ID: "a", Address: "a:1"}.PerRank(tt.of)
				specs := all
				if tt.has != nil {
					specs = nil
					for _, rank := range tt.has {
						specs = append(specs, all[rank])
					}
				}
				store := newStore(t, specs...)
				var mu sync.Mutex
				errs := map[string]error{}
				begin := time.Now()
				stop := start(t, store, scrape.Options{Transport: &fleet{answer: page(tt.page)}, OnScrape: func(r scrape.Result) {
					mu.Lock()
					defer mu.Unlock()
					errs[r.Endpoint] = r.Err
				}})
				time.Sleep(500 * time.Millisecond)
				stop()
				require.Len(t, errs, len(specs))
				for _, ep := range store.Snapshot().Pool(pool).Endpoints() {
					if want := tt.err[ep.Rank.Index]; want != "" {
						require.ErrorContains(t, errs[ep.ID], want)
						require.ErrorIs(t, errs[ep.ID], scrape.ErrNoMetrics)
						require.Zero(t, ep.Metrics)
						continue
					}
					require.NoError(t, errs[ep.ID])
					require.True(t, ep.Metrics.UpdatedAt.After(begin))
					ep.Metrics.UpdatedAt = time.Time{}
					require.Equal(t, tt.want[ep.Rank.Index], ep.Metrics, ep.ID)
				}
			})
		})
	}
}

// One page is fetched for all ranks, at the rate of one endpoint; also if those who read it go.
func TestRanksShareAPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newServer(page(rankPage(8)), page(`{"data": [{"id": "m"}]}`))
		store := newStore(t, append(datastore.EndpointSpec{ID: "a", Address: "a:1"}.PerRank(8), datastore.EndpointSpec{ID: "other", Address: "b:1"})...)
		stop := start(t, store, scrape.Options{Interval: 100 * time.Millisecond, Transport: f, ModelsInterval: time.Second})
		defer stop()
		fetched := func(host string) (pages int) {
			for _, r := range f.take() {
				if strings.Contains(r.url, host) {
					pages++
				}
			}
			return pages
		}
		lists := func() (n int) {
			for _, r := range f.takeLists() {
				if strings.Contains(r.url, "a:1") {
					n++
				}
			}
			return n
		}
		current := func(ranks ...int) {
			t.Helper()
			for _, rank := range ranks {
				ep := endpoint(t, store, fmt.Sprint("a-rank-", rank))
				require.Less(t, time.Since(ep.Metrics.UpdatedAt), 120*time.Millisecond, ep.ID)
				require.Equal(t, types.Known(float64(rank)), ep.Metrics.Waiting)
				require.Equal(t, []string{"m"}, ep.Models)
			}
		}
		time.Sleep(10 * time.Second)
		require.InDelta(t, 100, fetched("a:1"), 3)
		require.InDelta(t, 10, lists(), 1)
		current(0, 1, 2, 3, 4, 5, 6, 7)
		require.Equal(t, types.Known(28), endpoint(t, store, "other").Metrics.Waiting, "of all ranks together")

		for rank := range 7 { // whoever it is that reads is among them
			require.True(t, store.RemoveEndpoint(pool, fmt.Sprint("a-rank-", rank)))
			time.Sleep(time.Second)
			current(7)
		}
		n := fetched("a:1")
		require.InDelta(t, 70, n, 10)

		// The server is started anew.
		f.change(page(strings.Replace(rankPage(8), " 1000\n", " 2000\n", 1)), status(404, ""))
		restarted := 0
		unwatch := store.Watch(func(ev datastore.Event) {
			if ev.Kind == datastore.Restarted && ev.Endpoint.Address == "a:1" {
				restarted++
			}
		})
		require.NoError(t, store.UpsertEndpoint(pool, datastore.EndpointSpec{ID: "a", Address: "a:1"}.PerRank(8)[3]))
		time.Sleep(2 * time.Second)
		unwatch()
		require.Equal(t, 1, restarted)
		require.Nil(t, endpoint(t, store, "a-rank-7").Models)
		require.Equal(t, types.Known(3), endpoint(t, store, "a-rank-3").Metrics.Waiting)

		// One of another path is not of the page.
		spec := datastore.EndpointSpec{ID: "a", Address: "a:1", MetricsPath: "/m"}.PerRank(8)[3]
		require.NoError(t, store.UpsertEndpoint(pool, spec))
		f.take()
		time.Sleep(10 * time.Second)
		byPath := map[string]int{}
		for _, r := range f.take() {
			byPath[r.url]++
		}
		require.InDelta(t, 100, byPath["http://a:1/m"], 3)
		require.InDelta(t, 100, byPath["http://a:1/metrics"], 3)

		require.NoError(t, store.SetEndpoints(pool, nil))
		time.Sleep(time.Second)
		f.take()
		time.Sleep(10 * time.Second)
		require.Empty(t, f.take())
	})
}

// The Logger hears once of a rank that is missing, and of one that comes.
func TestRankIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		f := &fleet{answer: page(rankPage(1))}
		store := newStore(t, datastore.EndpointSpec{ID: "a", Address: "a:1"}.PerRank(2)...)
		stop := start(t, store, scrape.Options{Transport: f, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		defer stop()
		time.Sleep(5 * time.Second)
		require.InDelta(t, 25, len(f.take()), 2, "one that is missing slows nobody down")
		f.set(page(rankPage(2)))
		time.Sleep(5 * time.Second)
		stop()
		require.Equal(t, 1, strings.Count(log.String(), "the endpoint's rank is not among the metrics"), log.String())
		require.Equal(t, 1, strings.Count(log.String(), "the endpoint's rank is among the metrics again"), log.String())
		require.Contains(t, log.String(), "rank=a-rank-1")
	})
}

// Ranks come and go while their page is read. Run it with -race.
func TestRanksComeAndGo(t *testing.T) {
	srv := &fleet{answer: func(*http.Request) (*http.Response, error) { return page(rankPage(4))(nil) }}
	store := newStore(t)
	stop := start(t, store, scrape.Options{Interval: time.Millisecond, Transport: srv, ModelsInterval: -1})
	specs := datastore.EndpointSpec{ID: "a", Address: "a:1"}.PerRank(4)
	for i := range 200 {
		var some []datastore.EndpointSpec
		for rank, spec := range specs {
			if (i>>rank)&1 == 1 {
				some = append(some, spec)
			}
		}
		require.NoError(t, store.SetEndpoints(pool, some))
		time.Sleep(time.Millisecond)
	}
	require.NoError(t, store.SetEndpoints(pool, specs))
	require.Eventually(t, func() bool {
		for rank := range 4 {
			if ep := endpoint(t, store, fmt.Sprint("a-rank-", rank)); ep.Metrics.Waiting != types.Known(float64(rank)) {
				return false
			}
		}
		return true
	}, 20*time.Second, time.Millisecond)
	stop()
	srv.mu.Lock()
	defer srv.mu.Unlock()
	require.Equal(t, 1, srv.most, "requests at once")
}
