package scrape_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/scrape"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

var pool = types.NamespacedName{Namespace: "default", Name: "pool"}

// fleet answers requests in memory, so that time can be synctest's.
type fleet struct {
	mu     sync.Mutex
	answer func(req *http.Request) (*http.Response, error)
	asked  []request // for metrics
	inside int       // requests under way
	most   int       // at once
}

type request struct {
	url string
	at  time.Time
}

func (f *fleet) RoundTrip(req *http.Request) (*http.Response, error) {
	f.mu.Lock()
	if req.URL.Path != "/v1/models" {
		f.asked = append(f.asked, request{req.URL.String(), time.Now()})
	}
	f.inside++
	f.most = max(f.most, f.inside)
	answer := f.answer
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.inside--
		f.mu.Unlock()
	}()
	return answer(req)
}

func (f *fleet) set(answer func(*http.Request) (*http.Response, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

// take returns the requests for metrics since the last call.
func (f *fleet) take() []request {
	f.mu.Lock()
	defer f.mu.Unlock()
	asked := f.asked
	f.asked = nil
	return asked
}

func page(text string) func(*http.Request) (*http.Response, error) { return status(200, text) }

func status(code int, text string) func(*http.Request) (*http.Response, error) {
	return func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: code, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(text))}, nil
	}
}

const idle = "vllm:num_requests_waiting 0\n"

// start runs a Scraper until the end of the test.
func start(t *testing.T, store scrape.Store, o scrape.Options) (stop func()) {
	t.Helper()
	s, err := scrape.New(store, o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
}

func newStore(t *testing.T, specs ...datastore.EndpointSpec) *datastore.Store {
	t.Helper()
	store := datastore.New(datastore.Options{})
	require.NoError(t, store.SetEndpoints(pool, specs))
	return store
}

func endpoint(t *testing.T, store *datastore.Store, id string) *types.Endpoint {
	t.Helper()
	for _, ep := range store.Snapshot().Pool(pool).Endpoints() {
		if ep.ID == id {
			return ep
		}
	}
	t.Fatalf("the store has no endpoint %q", id)
	return nil
}

func gaps(asked []request) (g []time.Duration) {
	for i := 1; i < len(asked); i++ {
		g = append(g, asked[i].at.Sub(asked[i-1].at))
	}
	return g
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{answer: page(idle)}
		store := newStore(t, datastore.EndpointSpec{ID: "a", Address: "a:1"})
		begin := time.Now()
		stop := start(t, store, scrape.Options{Interval: 100 * time.Millisecond, Transport: f})
		time.Sleep(100 * time.Second)
		stop()
		asked := f.take()
		if n := len(asked); n < 990 || n > 1010 {
			t.Errorf("%d scrapes in 100 s, want one each 100 ms", n)
		}
		if first := asked[0].at.Sub(begin); first > 100*time.Millisecond {
			t.Errorf("first scrape after %v, want within one interval", first)
		}
		var different int
		for i, g := range gaps(asked) {
			if g < 89*time.Millisecond || g > 111*time.Millisecond {
				t.Errorf("wait %d is %v, want 100 ms ± 10 %%", i, g)
			}
			if g != 100*time.Millisecond {
				different++
			}
		}
		if different < 900 {
			t.Error("waits have no jitter")
		}
	})
}

func TestPhases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{answer: page(idle)}
		var specs []datastore.EndpointSpec
		for i := range 1000 {
			specs = append(specs, datastore.EndpointSpec{ID: fmt.Sprint(i), Address: fmt.Sprintf("a:%d", i+1)})
		}
		begin := time.Now()
		stop := start(t, newStore(t, specs...), scrape.Options{Interval: time.Second, Jitter: -1, Transport: f})
		time.Sleep(time.Second)
		stop()
		var tenths [10]int
		for _, r := range f.take() {
			tenths[min(int(r.at.Sub(begin)/(100*time.Millisecond)), 9)]++
		}
		for i, n := range tenths {
			if n < 60 || n > 140 {
				t.Errorf("%d of 1000 first scrapes in tenth %d of the interval, want them spread: %v", n, i, tenths)
			}
		}
	})
}

func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{answer: status(500, "")}
		store := newStore(t, datastore.EndpointSpec{ID: "a", Address: "a:1", Engine: "vllm"})
		var log bytes.Buffer
		stop := start(t, store, scrape.Options{
			Interval: 100 * time.Millisecond, Jitter: -1, MaxBackoff: time.Second, Transport: f,
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		time.Sleep(4 * time.Second)
		f.set(page(idle))
		time.Sleep(1500 * time.Millisecond)
		stop()
		g := gaps(f.take())
		var got []int
		for _, d := range g {
			got = append(got, int(d/time.Millisecond))
		}
		want := []int{200, 400, 800, 1000, 1000, 1000, 100, 100}
		if len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
			t.Errorf("waits = %v ms, want %v: doubled up to the bound, and the interval again after a success", got, want)
		}
		if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), "status 500") {
			t.Errorf("log = %s\nwant one line for all failures", &log)
		}
		if n := strings.Count(log.String(), "level=INFO"); n != 1 || !strings.Contains(log.String(), "read again") {
			t.Errorf("log = %s\nwant one line for the recovery", &log)
		}
	})
}

// TestHungEndpoint: whatever one endpoint does, the others are scraped in time,
// and no endpoint is asked again before it has answered.
func TestHungEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		under := map[string]int{}
		f := &fleet{answer: func(req *http.Request) (*http.Response, error) {
			mu.Lock()
			under[req.URL.Host]++
			if under[req.URL.Host] > 1 {
				t.Errorf("%s is asked while it has not answered", req.URL.Host)
			}
			mu.Unlock()
			defer func() {
				mu.Lock()
				under[req.URL.Host]--
				mu.Unlock()
			}()
			switch req.URL.Host {
			case "hung:1":
				<-req.Context().Done()
				return nil, req.Context().Err()
			case "slow:1":
				time.Sleep(250 * time.Millisecond)
			}
			return page(idle)(req)
		}}
		store := newStore(t,
			datastore.EndpointSpec{ID: "hung", Address: "hung:1"},
			datastore.EndpointSpec{ID: "slow", Address: "slow:1"},
			datastore.EndpointSpec{ID: "good", Address: "good:1"})
		var hung error
		stop := start(t, store, scrape.Options{Interval: 100 * time.Millisecond, Jitter: -1, Transport: f, OnScrape: func(r scrape.Result) {
			if r.Endpoint == "hung" {
				hung = r.Err
			}
		}})
		time.Sleep(10 * time.Second)
		stop()
		n := map[string]int{}
		for _, r := range f.take() {
			n[r.url]++
		}
		if n["http://good:1/metrics"] != 100 {
			t.Errorf("the good endpoint was scraped %d times in 100 intervals", n["http://good:1/metrics"])
		}
		if slow := n["http://slow:1/metrics"]; slow < 25 || slow > 40 {
			t.Errorf("an endpoint of 250 ms was scraped %d times in 10 s, want no overlap", slow)
		}
		if !errors.Is(hung, context.DeadlineExceeded) || !strings.Contains(hung.Error(), "within 1s") {
			t.Errorf("error of the hung endpoint = %v, want one that says how long it was waited for", hung)
		}
		if m := endpoint(t, store, "hung").Metrics; !m.UpdatedAt.IsZero() {
			t.Errorf("reading of the hung endpoint = %s, want none", show(m))
		}
	})
}

// TestTrapNewEndpointZeros: an endpoint that was never read has no figures, rather
// than figures of 0.
func TestTrapNewEndpointZeros(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{answer: page("tgi_queue_size 0\n")}
		store := newStore(t, datastore.EndpointSpec{ID: "a", Address: "a:1"})
		m := endpoint(t, store, "a").Metrics
		if m.Waiting.IsKnown() || m.Running.IsKnown() || m.KVUsage.IsKnown() || !m.UpdatedAt.IsZero() {
			t.Errorf("reading before the first scrape = %s, want nothing known", show(m))
		}
		stop := start(t, store, scrape.Options{Transport: f})
		time.Sleep(time.Second)
		stop()
		m = endpoint(t, store, "a").Metrics
		if v, ok := m.Waiting.Value(); !ok || v != 0 {
			t.Errorf("Waiting = %v, %v, want 0: it was reported", v, ok)
		}
		if m.Running.IsKnown() || m.KVUsage.IsKnown() || m.MaxAdapters.IsKnown() {
			t.Errorf("reading = %s, want nothing that is not on the page", show(m))
		}
	})
}

// TestTrapStaleMetrics: when a server dies, its last reading keeps its time, so
// that a scheduler sees it grow old.
func TestTrapStaleMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{answer: page(idle)}
		store := newStore(t, datastore.EndpointSpec{ID: "a", Address: "a:1"})
		stop := start(t, store, scrape.Options{Transport: f})
		time.Sleep(2 * time.Second)
		for _, broken := range []func(*http.Request) (*http.Response, error){
			func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") },
			status(503, ""),
			page(""),
			page("{}"),
			page("vllm:num_requests_waiting 1\nvllm:num_requests_running"),
		} {
			f.set(broken)
			died := time.Now()
			time.Sleep(10 * time.Second)
			ep := endpoint(t, store, "a")
			if ep.Metrics.UpdatedAt.After(died) || ep.Metrics.UpdatedAt.IsZero() || show(ep.Metrics) != "waiting=0" {
				t.Errorf("reading = %s of %v, want the last one of before %v", show(ep.Metrics), ep.Metrics.UpdatedAt, died)
			}
			require.False(t, ep.Fresh(&types.Request{StaleBefore: time.Now().Add(-2 * time.Second)}), "a reading of 10 s ago is fresh")
		}
		stop()
	})
}

func TestEngineOfEndpoint(t *testing.T) {
	both := string(readPage(t, "vllm")) + string(readPage(t, "tgi"))
	tests := []struct {
		name string
		spec datastore.EndpointSpec
		want string
	}{
		{"found out", datastore.EndpointSpec{}, "vllm"},
		{"given", datastore.EndpointSpec{Engine: "tgi"}, "tgi"},
		{"alias", datastore.EndpointSpec{Engine: "text-generation-inference"}, "tgi"},
		{"label", datastore.EndpointSpec{Labels: map[string]string{"inference.networking.k8s.io/engine-type": "tgi"}}, "tgi"},
		{"other label", datastore.EndpointSpec{Labels: map[string]string{"llm-d.ai/engine-type": "tgi"}}, "tgi"},
		{"label that is not known", datastore.EndpointSpec{Labels: map[string]string{"llm-d.ai/engine-type": "mine"}}, "vllm"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.spec.ID, tt.spec.Address = "a", "a:1"
				var got string
				stop := start(t, newStore(t, tt.spec), scrape.Options{Transport: &fleet{answer: page(both)}, OnScrape: func(r scrape.Result) { got = r.Engine }})
				time.Sleep(time.Second)
				stop()
				require.Equal(t, tt.want, got, "engine")
			})
		})
	}
}

func TestAddress(t *testing.T) {
	tests := []struct {
		spec datastore.EndpointSpec
		want string
	}{
		{datastore.EndpointSpec{}, "http://10.0.0.1:8000/metrics"},
		{datastore.EndpointSpec{Engine: "trtllm"}, "http://10.0.0.1:8000/prometheus/metrics"},
		{datastore.EndpointSpec{Engine: "trtllm", MetricsPath: "/m?model=x"}, "http://10.0.0.1:8000/m?model=x"},
		{datastore.EndpointSpec{MetricsAddress: "10.0.0.2:8002", MetricsScheme: "https"}, "https://10.0.0.2:8002/metrics"},
		{datastore.EndpointSpec{MetricsAddress: ":8002"}, "http://10.0.0.1:8002/metrics"},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			f := &fleet{answer: page(idle)}
			tt.spec.ID, tt.spec.Address = "a", "10.0.0.1:8000"
			stop := start(t, &eventStore{spec: tt.spec}, scrape.Options{Transport: f})
			time.Sleep(time.Second)
			stop()
			if asked := f.take(); asked[0].url != tt.want {
				t.Errorf("%+v is read at %s, want %s", tt.spec, asked[0].url, tt.want)
			}
		})
	}
}

// eventStore is a Store of one endpoint whose specification no datastore.Store
// would take, as another implementation might.
type eventStore struct {
	spec datastore.EndpointSpec
	gone bool // UpdateMetrics says so
	fn   func(datastore.Event)
	ep   *types.Endpoint
}

func (s *eventStore) Watch(fn func(datastore.Event)) (stop func()) {
	s.fn, s.ep = fn, types.NewEndpoint("a", s.spec.Address)
	fn(datastore.Event{Kind: datastore.Added, Pool: pool, Endpoint: s.ep, Spec: s.spec})
	return func() {}
}

func (s *eventStore) UpdateMetrics(*types.Load, types.Metrics) bool { return !s.gone }

func TestInvalidSpec(t *testing.T) {
	tests := []struct {
		spec datastore.EndpointSpec
		want string
	}{
		{datastore.EndpointSpec{Address: "a"}, "missing port"},
		{datastore.EndpointSpec{Address: "a:1", MetricsAddress: "a b:1"}, "not host:port"},
		{datastore.EndpointSpec{Address: "a:1", MetricsAddress: "evil@b:1"}, "not host:port"},
		{datastore.EndpointSpec{Address: "a:1", MetricsScheme: "ftp"}, "neither http nor https"},
		{datastore.EndpointSpec{Address: "a:1", MetricsPath: "metrics"}, "slash"},
		{datastore.EndpointSpec{Address: "a:1", MetricsPath: "/m\r\nX: y"}, "escape"},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			f := &fleet{answer: page(idle)}
			var last scrape.Result
			stop := start(t, &eventStore{spec: tt.spec}, scrape.Options{Transport: f, OnScrape: func(r scrape.Result) { last = r }})
			time.Sleep(time.Second)
			stop()
			if asked := f.take(); len(asked) > 0 {
				t.Errorf("%+v: %s is asked, want nothing", tt.spec, asked[0].url)
			}
			require.ErrorContains(t, last.Err, tt.want)
		})
	}
}

// TestGone: when the store says that an endpoint has gone, it is not asked again.
func TestGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{answer: page(idle)}
		stop := start(t, &eventStore{spec: datastore.EndpointSpec{Address: "a:1"}, gone: true}, scrape.Options{Transport: f})
		time.Sleep(10 * time.Second)
		stop()
		require.Len(t, f.take(), 1, "scrapes of an endpoint that has gone")
	})
}

// TestRestartedWhileFailing: the news that a server has started anew ends a long
// wait.
func TestRestartedWhileFailing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{answer: status(500, "")}
		store := &eventStore{spec: datastore.EndpointSpec{Address: "a:1", Engine: "vllm"}}
		stop := start(t, store, scrape.Options{Interval: 100 * time.Millisecond, MaxBackoff: time.Hour, Transport: f})
		time.Sleep(20 * time.Minute)
		f.set(page(idle))
		f.take()
		store.fn(datastore.Event{Kind: datastore.Restarted, Pool: pool, Endpoint: store.ep, Spec: store.spec})
		time.Sleep(time.Second)
		stop()
		if n := len(f.take()); n < 9 || n > 12 {
			t.Errorf("%d scrapes in 10 intervals after the restart, want about 10", n)
		}
	})
}

// TestPathsInTurn: where neither engine nor path are known, a server whose
// /metrics is JSON is read where its engine has the page.
func TestPathsInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trtllm := string(readPage(t, "trtllm"))
		f := &fleet{answer: func(req *http.Request) (*http.Response, error) {
			if req.URL.Path == "/prometheus/metrics" {
				return page(trtllm)(req)
			}
			return page(`[{"iter":1}]`)(req)
		}}
		store := newStore(t, datastore.EndpointSpec{ID: "a", Address: "a:1"})
		stop := start(t, store, scrape.Options{Transport: f})
		time.Sleep(5 * time.Second)
		stop()
		if v := endpoint(t, store, "a").Metrics.Waiting.OrNaN(); v != 2 {
			t.Errorf("Waiting = %v, want 2", v)
		}
		for i, r := range f.take() {
			if (i == 0) != strings.HasSuffix(r.url, ":1/metrics") {
				t.Errorf("request %d is of %s, want /metrics once and then the other", i, r.url)
			}
		}
	})
}

func TestRedirect(t *testing.T) {
	for _, tt := range []struct {
		location string
		follow   bool
	}{{"/metrics/", true}, {"http://a:1/metrics/", true}, {"http://elsewhere:1/metrics/", false}, {"https://a:1/metrics/", false}, {"", false}} {
		synctest.Test(t, func(t *testing.T) {
			f := &fleet{answer: func(req *http.Request) (*http.Response, error) {
				if req.URL.Path == "/metrics/" {
					return page(idle)(req)
				}
				resp, err := status(307, "")(req)
				resp.Header.Set("Location", tt.location)
				return resp, err
			}}
			var last scrape.Result
			stop := start(t, newStore(t, datastore.EndpointSpec{ID: "a", Address: "a:1", Engine: "vllm"}),
				scrape.Options{Transport: f, OnScrape: func(r scrape.Result) { last = r }})
			time.Sleep(time.Second)
			stop()
			var redirect *scrape.StatusError
			if tt.follow && last.Err != nil || !tt.follow && !errors.As(last.Err, &redirect) {
				t.Errorf("scrape sent on to %q = %v, want followed: %v", tt.location, last.Err, tt.follow)
			}
			for _, r := range f.take() {
				if !strings.HasPrefix(r.url, "http://a:1/") {
					t.Errorf("%s is asked, which is another server", r.url)
				}
			}
		})
	}
}

func TestChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{answer: page(idle)}
		spec := datastore.EndpointSpec{ID: "a", Address: "a:1"}
		store := newStore(t, spec)
		stop := start(t, store, scrape.Options{Interval: 100 * time.Millisecond, Jitter: -1, Transport: f})
		set := func(what string, spec datastore.EndpointSpec, url string) {
			t.Helper()
			require.NoError(t, store.UpsertEndpoint(pool, spec))
			synctest.Wait()
			f.take()
			time.Sleep(time.Second)
			synctest.Wait()
			asked := f.take()
			if url == "" && len(asked) > 0 {
				t.Errorf("%s: %s is asked, want nothing", what, asked[0].url)
			}
			for _, r := range asked {
				if r.url != url {
					t.Errorf("%s: %s is asked, want %s", what, r.url, url)
				}
			}
			if n := len(asked); url != "" && (n < 9 || n > 11) {
				t.Errorf("%s: %d scrapes in 10 intervals", what, n)
			}
		}
		set("as before", spec, "http://a:1/metrics")
		spec.State = types.Draining
		set("draining", spec, "http://a:1/metrics")
		spec.MetricsAddress = "a:2"
		set("another port", spec, "http://a:2/metrics")
		spec.NoMetrics = true
		set("no metrics", spec, "")
		spec.NoMetrics = false
		set("metrics again", spec, "http://a:2/metrics")
		set("another endpoint", datastore.EndpointSpec{ID: "b", Address: "b:1", NoMetrics: true}, "http://a:2/metrics")
		store.RemoveEndpoint(pool, "a")
		synctest.Wait()
		f.take()
		time.Sleep(time.Second)
		if asked := f.take(); len(asked) > 0 {
			t.Errorf("%s is asked after it was removed", asked[0].url)
		}
		stop()
	})
}

// TestRestart: a server that starts anew may be another engine.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{answer: page("vllm:num_requests_running 1\nprocess_start_time_seconds 100\n")}
		store := newStore(t, datastore.EndpointSpec{ID: "a", Address: "a:1"})
		var engines []string
		stop := start(t, store, scrape.Options{Transport: f, OnScrape: func(r scrape.Result) { engines = append(engines, r.Engine) }})
		time.Sleep(time.Second)
		f.set(page("vllm:num_requests_running 1\nprocess_start_time_seconds 200\n"))
		time.Sleep(time.Second)
		f.set(page("vllm:num_requests_running 1\nsglang:num_running_reqs 1\nprocess_start_time_seconds 200\n"))
		time.Sleep(time.Second)
		f.set(page("sglang:num_running_reqs 1\n"))
		time.Sleep(time.Second)
		stop()
		if got := slices.Compact(engines); !slices.Equal(got, []string{"vllm", "sglang"}) {
			t.Errorf("engines = %v, want vllm and, once its metrics have gone, sglang", got)
		}
	})
}

// TestBadServers: real connections to servers that misbehave.
func TestBadServers(t *testing.T) {
	ok := func(body string) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	tests := []struct {
		name, answer string
		hang         bool // keeps the connection open after the answer
		want         string
	}{
		{"good", ok(idle), true, ""},
		{"good, chunked", fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(idle), idle), true, ""},
		{"good, until the end of the connection", "HTTP/1.0 200 OK\r\n\r\n" + idle, false, ""},
		{"says nothing", "", true, "no complete page within 300ms"},
		{"closes", "", false, "EOF"},
		{"garbage", "\x00\x01\x02 garbage\r\n\r\n", false, "malformed"},
		{"other protocol", "SSH-2.0-OpenSSH_9.6\r\n", true, "malformed"},
		{"status 500", "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", true, "status 500"},
		{"status 404", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", true, "set the endpoint's metrics path"},
		{"status 401", "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", true, "authenticates"},
		{"cut off", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + idle, false, "unexpected EOF"},
		{"cut off, chunked", fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(idle), idle), false, "unexpected EOF"},
		{"cut off, not said", "HTTP/1.0 200 OK\r\n\r\n" + idle + "vllm:num_requests_running 1", false, "the page ends before the line does"},
		{"stops in the middle", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + idle, true, "no complete page within 300ms"},
		{"too large", ok(strings.Repeat("# much\n", 20000)), true, "more than 100000 bytes"},
		{"compressed", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b", true, "compressed"},
		{"JSON", ok("{}"), true, "JSON"},
		{"endless header", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: "+strings.Repeat("x", 1000)+"\r\n", 200), true, "exceeded"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := listen(t, func(c net.Conn) {
				io.WriteString(c, tt.answer)
				if tt.hang {
					io.Copy(io.Discard, c)
				}
			})
			check(t, l, tt.want)
		})
	}
	t.Run("drips", func(t *testing.T) {
		t.Parallel()
		check(t, listen(t, func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n"+idle)
			for {
				if _, err := io.WriteString(c, "#"); err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		}), "no complete page within 300ms")
	})
	t.Run("endless", func(t *testing.T) {
		t.Parallel()
		check(t, listen(t, func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			for {
				if _, err := io.WriteString(c, strings.Repeat("# no end\n", 1000)); err != nil {
					return
				}
			}
		}), "more than 100000 bytes")
	})
	t.Run("nobody there", func(t *testing.T) {
		t.Parallel()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		l.Close()
		check(t, l.Addr().String(), "refused")
	})
}

// listen starts a server that reads a request and then does what serve does.
func listen(t *testing.T, serve func(net.Conn)) (address string) {
	t.Helper()
	return accept(t, func(c net.Conn) {
		if _, err := c.Read(make([]byte, 4096)); err == nil {
			serve(c)
		}
	})
}

// accept starts a server that does what serve does with each connection.
func accept(t *testing.T, serve func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return l.Addr().String()
}

// check scrapes the address once, and wants the error, or a reading if that is
// empty.
func check(t *testing.T, address, want string) {
	t.Helper()
	store := newStore(t, datastore.EndpointSpec{ID: "a", Address: address})
	results := make(chan scrape.Result, 100)
	stop := start(t, store, scrape.Options{
		Interval: time.Millisecond, Timeout: 300 * time.Millisecond, MaxBody: 100_000,
		OnScrape: func(r scrape.Result) {
			select {
			case results <- r:
			default:
			}
		},
	})
	defer stop()
	r := <-results
	read := !endpoint(t, store, "a").Metrics.UpdatedAt.IsZero()
	if want == "" && (r.Err != nil || !read) {
		t.Errorf("scrape = %v, read: %v, want a reading", r.Err, read)
	}
	if want != "" && (r.Err == nil || read || !strings.Contains(r.Err.Error(), want)) {
		t.Errorf("scrape = %v, read: %v, want an error with %q", r.Err, read, want)
	}
}

// TestNoLeaks: endpoints come, change, hang and go, and nothing is left of them.
func TestNoLeaks(t *testing.T) {
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			<-r.Context().Done()
			return
		}
		io.WriteString(w, idle)
	}))
	server.Config.ConnState = func(c net.Conn, s http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		open[c] = s != http.StateClosed
		if !open[c] {
			delete(open, c)
		}
	}
	server.Start()
	defer server.Close()
	address := server.Listener.Addr().String()
	before := runtime.NumGoroutine()

	store := newStore(t)
	scrapes := make(chan struct{}, 1)
	stop := start(t, store, scrape.Options{Interval: 2 * time.Millisecond, OnScrape: func(scrape.Result) {
		select {
		case scrapes <- struct{}{}:
		default:
		}
	}})
	for round := range 10 {
		var specs []datastore.EndpointSpec
		for i := range 20 {
			specs = append(specs, datastore.EndpointSpec{ID: fmt.Sprint(round%3, i), Address: address, MetricsPath: []string{"/metrics", "/hang", ""}[(i+round)%3]})
		}
		require.NoError(t, store.SetEndpoints(pool, specs))
		for range 20 {
			<-scrapes
		}
	}
	require.NoError(t, store.SetEndpoints(pool, nil))
	eventually(t, "connections of endpoints that have gone are closed", func() (string, bool) {
		mu.Lock()
		defer mu.Unlock()
		return fmt.Sprintf("%d open", len(open)), len(open) == 0
	})
	require.NoError(t, store.SetEndpoints(pool, []datastore.EndpointSpec{{ID: "a", Address: address}, {ID: "b", Address: address, MetricsPath: "/hang"}}))
	<-scrapes
	stop()
	eventually(t, "all goroutines have ended", func() (string, bool) {
		n := runtime.NumGoroutine()
		return fmt.Sprintf("%d, %d before", n, before), n <= before
	})
}

// eventually waits until ok, as what closes a connection at both ends takes a
// moment.
func eventually(t *testing.T, what string, ok func() (string, bool)) {
	t.Helper()
	var last string
	for range 500 {
		var done bool
		if last, done = ok(); done {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%s: not after 5 s: %s", what, last)
}

func TestRunTwice(t *testing.T) {
	s, err := scrape.New(newStore(t), scrape.Options{})
	require.NoError(t, err)
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 2)
		go func() { done <- s.Run(ctx) }()
		go func() { done <- s.Run(ctx) }()
		if err := <-done; !errors.Is(err, scrape.ErrRunning) {
			t.Errorf("second Run = %v, want ErrRunning", err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	}
}

func TestOptions(t *testing.T) {
	tests := []struct {
		o    scrape.Options
		want string
	}{
		{scrape.Options{Interval: time.Microsecond}, "Interval is 1µs"},
		{scrape.Options{Interval: -1}, "Interval"},
		{scrape.Options{Jitter: 0.6}, "Jitter is 0.6"},
		{scrape.Options{Timeout: -1}, "Timeout"},
		{scrape.Options{MaxBackoff: -1}, "MaxBackoff"},
		{scrape.Options{MaxBody: -1}, "MaxBody"},
		{scrape.Options{Engines: []scrape.Engine{}}, "Engines"},
		{scrape.Options{Engines: []scrape.Engine{{}}}, "engine 0"},
	}
	for _, tt := range tests {
		if _, err := scrape.New(newStore(t), tt.o); err == nil || !strings.HasPrefix(err.Error(), "scrape: ") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("New = %v, want an error with %q", err, tt.want)
		}
	}
}

func Example() {
	// A model server, or at least its metrics.
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "vllm:num_requests_waiting{engine=\"0\"} 3\nvllm:kv_cache_usage_perc{engine=\"0\"} 0.25\n")
	}))
	defer server.Close()

	store := datastore.New(datastore.Options{})
	if err := store.UpsertEndpoint(pool, datastore.EndpointSpec{ID: "a", Address: server.Listener.Addr().String()}); err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s, err := scrape.New(store, scrape.Options{
		Interval: 50 * time.Millisecond,
		OnScrape: func(r scrape.Result) {
			fmt.Println(r.Endpoint, r.Engine, r.Err)
			cancel() // one is enough here
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := s.Run(ctx); err != nil {
		fmt.Println(err)
	}
	m := store.Snapshot().Pool(pool).Endpoints()[0].Metrics
	fmt.Println(m.Waiting.OrNaN(), m.Running.OrNaN(), m.KVUsage.OrNaN())
	// Output:
	// a vllm <nil>
	// 3 NaN 0.25
}

// TestMovedBack: a path that a server has sent us on to is given up when it is
// no longer there.
func TestMovedBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{answer: func(req *http.Request) (*http.Response, error) {
			if req.URL.Path == "/metrics/" {
				return page(idle)(req)
			}
			resp, err := status(307, "")(req)
			resp.Header.Set("Location", "/metrics/")
			return resp, err
		}}
		store := newStore(t, datastore.EndpointSpec{ID: "a", Address: "a:1", Engine: "vllm"})
		var last scrape.Result
		stop := start(t, store, scrape.Options{Transport: f, OnScrape: func(r scrape.Result) { last = r }})
		time.Sleep(time.Second)
		f.set(func(req *http.Request) (*http.Response, error) {
			if req.URL.Path == "/metrics" {
				return page(idle)(req)
			}
			return status(404, "")(req)
		})
		time.Sleep(time.Second)
		stop()
		if last.Err != nil || last.URL != "http://a:1/metrics" {
			t.Errorf("last scrape is of %s: %v, want /metrics read again", last.URL, last.Err)
		}
	})
}
