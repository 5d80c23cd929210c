package httptransport_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/httptransport"
	"github.com/inferpick/inferpick/types"
)

var pool = types.NamespacedName{Name: "pool"}

const streamed = "data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n" +
	"data: {\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":1}}\n\ndata: [DONE]\n\n"

func answer(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, body)
	}
}

// fixture is a gateway in front of servers; the first is always the first choice.
type fixture struct {
	front     *httptest.Server
	transport *httptransport.Transport
	store     *datastore.Store
	outcomes  chan types.Outcome
}

func newFixture(t *testing.T, change func(*director.Options), servers ...http.HandlerFunc) *fixture {
	t.Helper()
	f := &fixture{store: datastore.New(datastore.Options{}), outcomes: make(chan types.Outcome, 100)}
	for i, h := range servers {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		require.NoError(t, f.store.UpsertEndpoint(pool, datastore.EndpointSpec{ID: fmt.Sprint(i), Address: s.Listener.Addr().String()}))
	}
	s, err := scheduling.New(scheduling.Profile{
		Scorers: []scheduling.Weighted{{Weight: 1, Scorer: scheduling.EachScorer(func(_ *types.Request, ep *types.Endpoint) float64 {
			return 1 - float64(ep.ID[0]-'0')/10
		})}},
		Picker: plugins.MaxScore{}, Fallbacks: 2,
		Hooks: scheduling.Hooks{Finished: func(e scheduling.Event) { f.outcomes <- e.Outcome }},
	})
	require.NoError(t, err)
	o := director.Options{Store: f.store, Scheduler: s}
	if change != nil {
		change(&o)
	}
	d, err := director.New(o)
	require.NoError(t, err)
	t.Cleanup(d.Close)
	f.transport = httptransport.New(d)
	f.transport.NameEndpoint = true
	t.Cleanup(f.transport.CloseIdleConnections)
	f.front = httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}, Transport: f.transport, FlushInterval: -1})
	t.Cleanup(f.front.Close)
	return f
}

func (f *fixture) post(t *testing.T, path, body string) (*http.Response, string, error) {
	t.Helper()
	resp, err := http.Post(f.front.URL+path, "application/json", strings.NewReader(body))
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp, string(b), err
}

func (f *fixture) ledgersEmpty(t *testing.T) {
	t.Helper()
	for _, ep := range f.store.Snapshot().Pool(pool).Endpoints() {
		if l := ep.Load; l.Requests() != 0 || l.PrefillTokens() != 0 || l.ContextTokens() != 0 {
			t.Errorf("the ledger of %s is not empty: %d requests", ep.ID, l.Requests())
		}
	}
}

const request = `{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]}`

func hijack(w http.ResponseWriter) net.Conn {
	c, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	return c
}

// A request of which the client has had no byte yet succeeds on a fallback.
func TestFallback(t *testing.T) {
	for name, first := range map[string]http.HandlerFunc{
		"503":               func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) },
		"502":               func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) },
		"connection closed": func(w http.ResponseWriter, _ *http.Request) { hijack(w).Close() },
		"breaks off before any byte": func(w http.ResponseWriter, _ *http.Request) {
			c := hijack(w)
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
			c.Close()
		},
		"garbage": func(w http.ResponseWriter, _ *http.Request) {
			c := hijack(w)
			fmt.Fprint(c, "garbage\r\n\r\n")
			c.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nil, first, first, answer(streamed))
			resp, body, err := f.post(t, "/v1/chat/completions", request)
			if err != nil || resp.StatusCode != 200 || body != streamed || resp.Header.Get(httptransport.HeaderEndpoint) != "2" {
				t.Errorf("status %d by %s, %v, body %q", resp.StatusCode, resp.Header.Get(httptransport.HeaderEndpoint), err, body)
			}
			if o := <-f.outcomes; o.Err != nil || o.Usage.PromptTokens.Or(0) != 8 {
				t.Errorf("Outcome = %+v", o)
			}
			f.ledgersEmpty(t)
		})
	}
}

func TestNobodyAnswers(t *testing.T) {
	down := func(w http.ResponseWriter, _ *http.Request) { hijack(w).Close() }
	f := newFixture(t, nil, down, down)
	resp, body, _ := f.post(t, "/v1/chat/completions", request)
	if resp.StatusCode != 502 || !strings.Contains(body, "no server answered") || strings.Contains(body, "127.0.0.1") || resp.Header.Get(director.HeaderReason) != director.CodeUpstream {
		t.Errorf("status %d, body %s", resp.StatusCode, body)
	}
	if o := <-f.outcomes; o.Err == nil || !strings.Contains(o.Err.Error(), "no endpoint answered: 0: ") || !strings.Contains(o.Err.Error(), "; 1: ") {
		t.Errorf("Outcome = %+v", o)
	}
	f.ledgersEmpty(t)
	busy := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503); fmt.Fprint(w, "busy") }
	f = newFixture(t, nil, busy, busy)
	if resp, body, _ := f.post(t, "/v1/chat/completions", request); resp.StatusCode != 503 || body != "busy" {
		t.Errorf("the last server's answer is status %d, body %q, want it passed on", resp.StatusCode, body)
	}
}

func TestRefusals(t *testing.T) {
	f := newFixture(t, nil, answer(streamed))
	f.transport.MaxBody = 200
	for _, tt := range []struct {
		name, body, encoding string
		status               int
	}{
		{"malformed", `{"model"`, "", 400},
		{"no model", `{}`, "", 400},
		{"too large", `{"model":"m","messages":["` + strings.Repeat("x", 300) + `"]}`, "", 413},
		{"compressed", request, "gzip", 415},
	} {
		req, _ := http.NewRequest("POST", f.front.URL+"/v1/chat/completions", strings.NewReader(tt.body))
		if tt.encoding != "" {
			req.Header.Set("Content-Encoding", tt.encoding)
		}
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tt.status || !strings.Contains(string(body), `"message":`) || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: status %d, body %s", tt.name, resp.StatusCode, body)
		}
	}
	f.ledgersEmpty(t)
}

func TestModelsAndPassThrough(t *testing.T) {
	f := newFixture(t, nil, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Method, " ", r.URL.Path) })
	objs, err := types.DecodeManifests([]byte(`{"apiVersion":"inference.networking.x-k8s.io/v1alpha2","kind":"InferenceModel","metadata":{"name":"a"},"spec":{"modelName":"a","poolRef":{"name":"pool"}}}`))
	require.NoError(t, err)
	require.NoError(t, f.store.Apply(objs...))
	for path, want := range map[string]string{"/v1/models": `"id":"a"`, "/v1/files/7": "GET /v1/files/7"} {
		resp, err := http.Get(f.front.URL + path)
		require.NoError(t, err)
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || !strings.Contains(string(body), want) {
			t.Errorf("GET %s: status %d, body %s, want %s in it", path, resp.StatusCode, body, want)
		}
	}
	f.ledgersEmpty(t)
}

// What the server gets is what the client sent, but for the host, the model and
// the headers that no client may set.
func TestWhatTheServerGets(t *testing.T) {
	type got struct {
		header http.Header
		body   string
		length int64
		path   string
	}
	seen := make(chan got, 1)
	f := newFixture(t, nil, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		seen <- got{r.Header, string(b), r.ContentLength, r.URL.String()}
		fmt.Fprint(w, "{}")
	})
	objs, _ := types.DecodeManifests([]byte(`{"apiVersion":"inference.networking.x-k8s.io/v1alpha2","kind":"InferenceModel","metadata":{"name":"a"},"spec":{"modelName":"m","poolRef":{"name":"pool"},"targetModels":[{"name":"target-model"}]}}`))
	require.NoError(t, f.store.Apply(objs...))
	body := `{ "z":1, "model" : "m", "seed":12345678901234567890,"a":1,"a":2, "messages":[] }`
	req, _ := http.NewRequest("POST", f.front.URL+"/v1/chat/completions?x=1", strings.NewReader(body))
	req.Header.Set("Authorization", "Bearer key")
	req.Header.Set(director.HeaderDestination, "10.0.0.1:1")
	req.Header.Set(director.HeaderSubset, "10.0.0.1:1")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	g := <-seen
	want := strings.Replace(body, `"m"`, `"target-model"`, 1)
	if g.body != want || g.length != int64(len(want)) || g.path != "/v1/chat/completions?x=1" {
		t.Errorf("the server got %d bytes at %s: %s\nwant %s", g.length, g.path, g.body, want)
	}
	if g.header.Get("Authorization") != "Bearer key" || g.header.Get(director.HeaderDestination) != "" || g.header.Get(director.HeaderSubset) != "" {
		t.Errorf("the server got the headers %v", g.header)
	}
}

func TestRestoreModel(t *testing.T) {
	f := newFixture(t, func(o *director.Options) { o.RestoreModel = true }, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "31")
		fmt.Fprint(w, `{"id":1,"model":"target-model"}`)
	})
	objs, _ := types.DecodeManifests([]byte(`{"apiVersion":"inference.networking.x-k8s.io/v1alpha2","kind":"InferenceModel","metadata":{"name":"a"},"spec":{"modelName":"m","poolRef":{"name":"pool"},"targetModels":[{"name":"target-model"}]}}`))
	require.NoError(t, f.store.Apply(objs...))
	resp, body, err := f.post(t, "/v1/chat/completions", request)
	if err != nil || body != `{"id":1,"model":"m"}` || resp.StatusCode != 200 {
		t.Errorf("%v, body %s", err, body)
	}
}

func TestTrapBookingLeakedOnDisconnect(t *testing.T) {
	for _, afterFirst := range []bool{false, true} {
		t.Run(fmt.Sprint("after the first byte ", afterFirst), func(t *testing.T) {
			there, gone := make(chan struct{}, 1), make(chan struct{}, 1)
			f := newFixture(t, nil, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				there <- struct{}{}
				if afterFirst {
					w.Header().Set("Content-Type", "text/event-stream")
					fmt.Fprint(w, "data: {}\n\n")
					w.(http.Flusher).Flush()
				}
				<-r.Context().Done()
				gone <- struct{}{}
			})
			ctx, cancel := context.WithCancel(context.Background())
			req, _ := http.NewRequestWithContext(ctx, "POST", f.front.URL+"/v1/chat/completions", strings.NewReader(request))
			if afterFirst {
				resp, err := http.DefaultClient.Do(req)
				require.NoError(t, err)
				_, _ = io.ReadFull(resp.Body, make([]byte, 10))
				cancel()
				resp.Body.Close()
			} else {
				go func() { // not before the server has the request
					<-there
					cancel()
				}()
				if _, err := http.DefaultClient.Do(req); !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
			}
			if o := <-f.outcomes; !o.Cancelled || o.Err != nil {
				t.Errorf("Outcome = %+v, want it cancelled", o)
			}
			<-gone // the server hears of it too
			f.ledgersEmpty(t)
		})
	}
}

// A response that breaks off in the middle is the endpoint's failure, and is cut
// off for the client too: it must not look complete.
func TestCutOff(t *testing.T) {
	f := newFixture(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		c := hijack(w)
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\na\r\ndata: {}\n\n\r\n")
		c.Close()
	}, answer(streamed))
	if _, body, err := f.post(t, "/v1/chat/completions", request); err == nil {
		t.Errorf("the client read %q without an error", body)
	}
	if o := <-f.outcomes; o.Err == nil || o.Cancelled {
		t.Errorf("Outcome = %+v, want a failure", o)
	}
	f.ledgersEmpty(t)
}

// The first token reaches the client before the second is made.
func TestStreamsAtOnce(t *testing.T) {
	next := make(chan struct{})
	f := newFixture(t, nil, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		for _, part := range strings.SplitAfter(streamed, "\n\n") {
			fmt.Fprint(w, part)
			w.(http.Flusher).Flush()
			if part != "" {
				<-next
			}
		}
	})
	resp, err := http.Post(f.front.URL+"/v1/chat/completions", "application/json", strings.NewReader(request))
	require.NoError(t, err)
	defer resp.Body.Close()
	for _, part := range strings.SplitAfter(strings.TrimSuffix(streamed, "\n\n"), "\n\n") {
		buf := make([]byte, len(part))
		if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != part {
			t.Fatalf("read %q, %v, want %q", buf, err, part)
		}
		next <- struct{}{}
	}
}

// Many requests, some of which fail or are given up, at the same time as the
// endpoints change: in the end nothing is booked and no goroutine is left.
func TestManyAtOnce(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("traffic", func(t *testing.T) {
		var n atomic.Int64
		flaky := func(w http.ResponseWriter, r *http.Request) {
			switch n.Add(1) % 4 {
			case 0:
				hijack(w).Close()
			case 1:
				w.WriteHeader(503)
			default:
				answer(streamed)(w, r)
			}
		}
		f := newFixture(t, nil, flaky, answer(streamed), answer(streamed))
		f.outcomes = make(chan types.Outcome, 10000)
		eps := f.store.Snapshot().Pool(pool).Endpoints()
		stop := make(chan struct{})
		var changes, clients sync.WaitGroup
		changes.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
				f.store.UpdateMetrics(eps[i%3].Load, types.Metrics{UpdatedAt: time.Now(), Waiting: types.Known(float64(i % 5))})
				f.store.SetState(eps[2].Load, []types.State{types.Ready, types.Draining}[i%2])
			}
		})
		for range 8 {
			clients.Go(func() {
				for i := range 25 {
					ctx, cancel := context.WithCancel(context.Background())
					if i%5 == 0 {
						time.AfterFunc(time.Millisecond, cancel)
					}
					req, _ := http.NewRequestWithContext(ctx, "POST", f.front.URL+"/v1/chat/completions", strings.NewReader(request))
					if resp, err := http.DefaultClient.Do(req); err == nil {
						body, err := io.ReadAll(resp.Body)
						resp.Body.Close()
						if ctx.Err() == nil && (err != nil || resp.StatusCode != 200 || string(body) != streamed) {
							t.Errorf("status %d, %v, body %q", resp.StatusCode, err, body)
						}
					}
					cancel()
				}
			})
		}
		clients.Wait()
		close(stop)
		changes.Wait()
		for i := 0; i < 8*25; i++ {
			select {
			case <-f.outcomes:
			case <-time.After(5 * time.Second):
				// Requests given up before they were routed have no outcome.
				i = 8 * 25
			}
			if len(f.outcomes) == 0 && open(eps) == 0 {
				break
			}
		}
		f.ledgersEmpty(t)
	})
	http.DefaultClient.CloseIdleConnections()
	for range 100 {
		if runtime.NumGoroutine() <= before+1 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}

func open(eps []*types.Endpoint) (n int64) {
	for _, ep := range eps {
		n += ep.Load.Requests()
	}
	return n
}

// TestGRPCTrailers: an answer over gRPC says after its data how it ended.
func TestGRPCTrailers(t *testing.T) {
	for code, want := range map[string]int{"0": 200, "13": 500, "14": 503} {
		f := newFixture(t, nil, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Trailer", "Grpc-Status")
			_, _ = w.Write([]byte{0, 0, 0, 0, 8, 2<<3 | 2, 6, 3 << 3, 5, 4 << 3, 7, 5 << 3, 0})
			w.Header().Set("Grpc-Status", code)
		})
		resp, _, err := f.post(t, "/vllm.grpc.engine.VllmEngine/Generate", "\x00\x00\x00\x00\x04\x1a\x02hi")
		require.NoError(t, err)
		require.Equal(t, code, resp.Trailer.Get("Grpc-Status"))
		require.Equal(t, want, (<-f.outcomes).Status, "grpc-status %s", code)
	}
}
