package scrape_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/scrape"
	"github.com/stretchr/testify/require"
)

// server answers for its metrics and its models, and notes when the latter were asked for.
type server struct {
	fleet
	metrics, models func(*http.Request) (*http.Response, error)

	lists []request
}

func newServer(metrics, models func(*http.Request) (*http.Response, error)) *server {
	s := &server{metrics: metrics, models: models}
	s.answer = func(req *http.Request) (*http.Response, error) {
		s.mu.Lock()
		answer := s.metrics
		if req.URL.Path == "/v1/models" {
			answer = s.models
			s.lists = append(s.lists, request{req.URL.String(), time.Now()})
		}
		s.mu.Unlock()
		return answer(req)
	}
	return s
}

func (s *server) change(metrics, models func(*http.Request) (*http.Response, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.metrics, s.models = metrics, models
}

// takeLists returns the requests for models since the last call.
func (s *server) takeLists() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	lists := s.lists
	s.lists = nil
	return lists
}

func recorded(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", file))
	require.NoError(t, err)
	return string(b)
}

func hang(req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}

func TestModels(t *testing.T) {
	list := func(n, length int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,{"id":"%0*d"}`, length, i)
		}
		return `{"data":[` + strings.TrimPrefix(b.String(), ",") + `]}`
	}
	compressed := func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Encoding": {"gzip"}}, Body: io.NopCloser(strings.NewReader("x"))}, nil
	}
	broken := func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(io.MultiReader(strings.NewReader(`{"data":[`), errReader{}))}, nil
	}
	unknown, kept := []string(nil), []string{"before"}
	for _, tt := range []struct {
		name   string
		answer func(*http.Request) (*http.Response, error)
		want   []string
		err    string
		again  [2]int // requests in the two minutes after, at least and at most
	}{
		{"base model", page(recorded(t, "v1_models.json")), []string{"tiny"}, "", [2]int{11, 13}},
		{"adapters", page(recorded(t, "v1_models_lora.json")), []string{"ad-a", "ad-b", "ad-c", "tiny"}, "", [2]int{11, 13}},
		{"none", page(`{"data":[]}`), []string{}, "", [2]int{11, 13}},
		{"as many as may be", page(list(1000, 256)), nil, "", [2]int{11, 13}},

		{"too many", page(list(1001, 4)), unknown, "1001 names", [2]int{1, 3}},
		{"a name too long", page(list(1, 257)), unknown, "257 bytes", [2]int{1, 3}},
		{"a name that is empty", page(`{"data":[{"id":""}]}`), unknown, "0 bytes", [2]int{1, 3}},
		{"a name that is none", page(`{"data":[{"id":7}]}`), unknown, "no list", [2]int{1, 3}},
		{"no name", page(`{"data":[{"object":"model"}]}`), unknown, "0 bytes", [2]int{1, 3}},
		{"no entry", page(`{"data":[null]}`), unknown, "0 bytes", [2]int{1, 3}},
		{"another list", page(`["tiny"]`), unknown, "no list", [2]int{1, 3}},
		{"no data", page(`{"object":"list","data":null}`), unknown, "data is missing", [2]int{1, 3}},
		{"an error in a 200", page(`{"error":{"message":"no"}}`), unknown, "data is missing", [2]int{1, 3}},
		{"HTML", page("<html>"), unknown, "no list", [2]int{1, 3}},
		{"nothing", page(""), unknown, "no list", [2]int{1, 3}},
		{"too large", page(`{"data":[` + strings.Repeat(" ", 1<<20) + `]}`), unknown, "too large", [2]int{1, 3}},
		{"compressed", compressed, unknown, "compressed", [2]int{1, 3}},
		{"401", status(401, ""), unknown, "status 401", [2]int{1, 3}},
		{"403", status(403, ""), unknown, "status 403", [2]int{1, 3}},
		{"404", status(404, ""), unknown, "status 404", [2]int{1, 3}},
		{"405", status(405, ""), unknown, "status 405", [2]int{1, 3}},
		{"sent on", status(307, ""), unknown, "status 307", [2]int{1, 3}},

		{"500", status(500, ""), kept, "status 500", [2]int{11, 18}},
		{"503", status(503, ""), kept, "status 503", [2]int{11, 18}},
		{"429", status(429, ""), kept, "status 429", [2]int{11, 18}},
		{"refuses", func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }, kept, "refused", [2]int{11, 18}},
		{"breaks off", broken, kept, "after 9 bytes", [2]int{11, 18}},
		{"hangs", hang, kept, "no complete list", [2]int{9, 13}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(page(idle), page(`{"data":[{"id":"before"}]}`))
				store := newStore(t, datastore.EndpointSpec{ID: "a", Address: "a:1", Engine: "vllm"})
				var last scrape.ModelsResult
				var log bytes.Buffer
				stop := start(t, store, scrape.Options{Transport: s, Jitter: -1, MaxBody: 1 << 20,
					OnModels: func(r scrape.ModelsResult) { last = r }, Logger: slog.New(slog.NewTextHandler(&log, nil))})
				defer stop()
				time.Sleep(time.Second)
				synctest.Wait()
				if got := endpoint(t, store, "a").Models; !slices.Equal(got, []string{"before"}) || last.Err != nil || last.Endpoint != "a" || last.Pool != pool || last.URL != "http://a:1/v1/models" || last.Status != 200 {
					t.Fatalf("Models = %q, told %+v", got, last)
				}
				s.change(page(idle), tt.answer)
				time.Sleep(12 * time.Second)
				synctest.Wait()
				got := endpoint(t, store, "a").Models
				if tt.name == "as many as may be" {
					require.Len(t, got, 1000, "models")
				} else if !slices.Equal(got, tt.want) || (got == nil) != (tt.want == nil) {
					t.Errorf("Models = %#v, want %#v", got, tt.want)
				}
				if tt.err == "" && last.Err != nil || tt.err != "" && (last.Err == nil || !strings.Contains(last.Err.Error(), tt.err)) {
					t.Errorf("told %v, want %q", last.Err, tt.err)
				}
				s.takeLists()
				s.take()
				time.Sleep(2 * time.Minute)
				if n := len(s.takeLists()); n < tt.again[0] || n > tt.again[1] {
					t.Errorf("asked %d times in two minutes, want %v", n, tt.again)
				}
				if n := len(s.take()); n < 500 {
					t.Errorf("%d scrapes in two minutes, want about 600", n)
				}
				stop()
				if log.Len() > 0 {
					t.Errorf("logged %s", &log)
				}
				require.Equal(t, 1, s.most, "requests at once")
			})
		})
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

// The models do not hang on the metrics: whatever those answer, and wherever they are.
func TestModelsBesideMetrics(t *testing.T) {
	for _, tt := range []struct {
		name    string
		metrics func(*http.Request) (*http.Response, error)
		spec    datastore.EndpointSpec
		url     string
	}{
		{"no metrics", status(404, ""), datastore.EndpointSpec{}, "http://a:1/v1/models"},
		{"metrics that fail", status(500, ""), datastore.EndpointSpec{}, "http://a:1/v1/models"},
		{"metrics that hang", hang, datastore.EndpointSpec{}, "http://a:1/v1/models"},
		{"metrics that are none", page("<html>"), datastore.EndpointSpec{}, "http://a:1/v1/models"},
		{"metrics at another port", page(idle), datastore.EndpointSpec{MetricsAddress: ":9100", MetricsScheme: "https"}, "http://a:1/v1/models"},
		{"metrics at another host", page(idle), datastore.EndpointSpec{MetricsAddress: "b:1"}, "http://a:1/v1/models"},
		{"metrics at another path", page(idle), datastore.EndpointSpec{MetricsPath: "/x"}, "http://a:1/v1/models"},
		{"all by TLS", page(idle), datastore.EndpointSpec{MetricsScheme: "https"}, "https://a:1/v1/models"},
		{"not to be asked", page(idle), datastore.EndpointSpec{NoMetrics: true}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(tt.metrics, page(`{"data":[{"id":"m"}]}`))
				tt.spec.ID, tt.spec.Address = "a", "a:1"
				store := newStore(t, tt.spec)
				stop := start(t, store, scrape.Options{Transport: s})
				time.Sleep(5 * time.Second)
				stop()
				asked := s.takeLists()
				if tt.url == "" {
					if len(asked) != 0 {
						t.Errorf("asked at %s", asked[0].url)
					}
					return
				}
				if got := endpoint(t, store, "a").Models; !slices.Equal(got, []string{"m"}) || len(asked) != 1 || asked[0].url != tt.url {
					t.Errorf("Models = %q, asked %v, want once at %s", got, asked, tt.url)
				}
			})
		})
	}
}

func TestModelsInterval(t *testing.T) {
	for _, tt := range []struct {
		interval time.Duration
		want     int // in 10 s
	}{
		{0, 1}, {-1, 0}, {time.Second, 10}, {1<<63 - 1, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(page(idle), page(`{"data":[{"id":"m"}]}`))
			stop := start(t, newStore(t, datastore.EndpointSpec{ID: "a", Address: "a:1"}), scrape.Options{Transport: s, Jitter: -1, ModelsInterval: tt.interval})
			time.Sleep(10 * time.Second)
			stop()
			if n := len(s.takeLists()); n != tt.want {
				t.Errorf("ModelsInterval %v: asked %d times in 10 s, want %d", tt.interval, n, tt.want)
			}
		})
	}
	if _, err := scrape.New(newStore(t), scrape.Options{ModelsInterval: time.Microsecond}); err == nil {
		t.Error("ModelsInterval of 1µs was taken")
	}
}

// A server that has started anew may serve others: it is asked at once, and until it has
// answered nothing is known.
func TestModelsAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		started := func(at int) func(*http.Request) (*http.Response, error) {
			return page(fmt.Sprintf("%sprocess_start_time_seconds %d\n", idle, at))
		}
		s := newServer(started(100), page(`{"data":[{"id":"old"}]}`))
		store := newStore(t, datastore.EndpointSpec{ID: "a", Address: "a:1", Engine: "vllm"})
		stop := start(t, store, scrape.Options{Transport: s})
		defer stop()
		time.Sleep(2 * time.Second)
		if got := endpoint(t, store, "a").Models; !slices.Equal(got, []string{"old"}) {
			t.Fatalf("Models = %q", got)
		}
		s.change(started(200), status(503, "")) // it still loads
		time.Sleep(time.Second)
		if got := endpoint(t, store, "a").Models; got != nil {
			t.Errorf("Models = %q, want unknown", got)
		}
		s.change(started(200), page(`{"data":[{"id":"new"}]}`))
		time.Sleep(3 * time.Second)
		if got := endpoint(t, store, "a").Models; !slices.Equal(got, []string{"new"}) {
			t.Errorf("Models = %q, want the new ones", got)
		}
		s.change(started(300), page(`{"data":[{"id":"newer"}]}`))
		time.Sleep(time.Second)
		if got := endpoint(t, store, "a").Models; !slices.Equal(got, []string{"newer"}) {
			t.Errorf("Models = %q, want them at once", got)
		}
	})
}

// A Store that keeps no models is not a reason to ask for them.
func TestStoreWithoutModels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(page(idle), page(`{"data":[{"id":"m"}]}`))
		stop := start(t, &eventStore{spec: datastore.EndpointSpec{Address: "a:1"}}, scrape.Options{Transport: s})
		time.Sleep(20 * time.Second)
		stop()
		if n := len(s.takeLists()); n != 0 {
			t.Errorf("asked %d times", n)
		}
	})
}

// The rate of scrapes stays what it is while models are asked for, also where that takes
// its time.
func TestModelsDoNotSlowScrapes(t *testing.T) {
	for name, models := range map[string]func(*http.Request) (*http.Response, error){
		"quick": page(`{"data":[{"id":"m"}]}`),
		"slow": func(req *http.Request) (*http.Response, error) {
			time.Sleep(30 * time.Millisecond)
			return page(`{"data":[{"id":"m"}]}`)(req)
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			var specs []datastore.EndpointSpec
			for i := range 100 {
				specs = append(specs, datastore.EndpointSpec{ID: fmt.Sprint(i), Address: fmt.Sprintf("a:%d", i+1)})
			}
			s := newServer(page(idle), models)
			var mu sync.Mutex
			failed := 0
			stop := start(t, newStore(t, specs...), scrape.Options{Transport: s, Interval: 50 * time.Millisecond, OnScrape: func(r scrape.Result) {
				mu.Lock()
				defer mu.Unlock()
				if r.Err != nil {
					failed++
				}
			}})
			time.Sleep(30 * time.Second)
			stop()
			if n := len(s.take()); n < 59_000 || failed > 0 {
				t.Errorf("%s: %d scrapes in 30 s, %d failed, want 60,000", name, n, failed)
			}
			if n := len(s.takeLists()); n < 290 || n > 400 {
				t.Errorf("%s: %d lists in 30 s, want 3 or 4 of each", name, n)
			}
		})
	}
}
