package directortest

import (
	"bytes"
	"context"
	"errors"
	"github.com/stretchr/testify/require"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// recorded runs some subtests of the kit and returns those with faults, with what was found.
func recorded(t *testing.T, o Options, gateway New, only ...string) map[string]string {
	t.Helper()
	var mu sync.Mutex
	found := map[string]string{}
	name := t.Name()
	r := &runner{o: o, gateway: gateway, root: name, only: only, report: func(t *testing.T, message string) {
		mu.Lock()
		defer mu.Unlock()
		found[strings.TrimPrefix(t.Name(), name+"/")] += message + "\n"
	}}
	r.run(t)
	return found
}

// naive is what one writes first: each request to the next server.
func naive(t *testing.T, endpoints []string) http.Handler {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	var next atomic.Int64
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: endpoints[int(next.Add(1))%len(endpoints)]})
		},
		Transport: transport,
		ErrorLog:  log.New(t.Output(), "", 0),
	}
}

// notRaced skips a test of the kit alone: its gateways are no part of what is checked for races.
func notRaced(t *testing.T) {
	t.Helper()
	if raceEnabled {
		t.Skip("its gateways are those of the test, and the race detector makes it long")
	}
}

func TestRunFindsFaults(t *testing.T) {
	notRaced(t)
	bad := []string{
		"faults/refuses", "faults/closed_at_accept", "faults/closed_at_request_head", "faults/reset_at_request_body", "faults/closed_at_status_line", "faults/closed_at_head",
		"faults/status_503", "faults/status_502", "faults/garbage", "faults/101_unasked", "faults/status_001", "faults/tls",
		"hangs/at_accept", "hangs/at_request_body",
		"trust/paths/metrics", "trust/paths/sleep", "trust/paths/v1_load_lora_adapter", "trust/headers/X-Gateway-Destination-Endpoint",
	}
	good := []string{
		"healthy/answers_of_v1_chat_completions_stream_true", "endings/stream_without_done", "endings/gzip", "endings/last_event_of_1_5_mb", "endings/status_400",
		"endings/head", "endings/103", "faults/status_429", "faults/error_event_503", "requests/options", "requests/chunked_with_trailers",
		"requests/bodies_pass_untouched", "clients/leave_in_the_middle", "trust/headers/X-Gateway-Model-Name-Rewrite", "goroutines",
	}
	found := recorded(t, Options{}, naive, append(bad, good...)...)
	for _, want := range bad {
		if found[want] == "" {
			t.Errorf("%s passes, want a fault", want)
		}
	}
	for _, want := range good {
		if found[want] == "" {
			continue
		}
		// On a busy machine net/http itself may cut an answer short, once in a long while.
		if again := recorded(t, Options{}, naive, want); again[want] != "" {
			t.Errorf("%s fails: %s; and again: %s", want, found[want], again[want])
		}
	}
}

// Faults that are of the gateway's own making, one each.
func TestRunFindsEach(t *testing.T) {
	for _, test := range []struct {
		name   string
		want   string // a subtest that must fail
		says   string // of what was found in it
		change func(http.Handler) http.Handler
	}{
		{"adds_to_answers", "healthy/answers_of_v1_chat_completions_stream_true", notGood, func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				h.ServeHTTP(w, r)
				_, _ = w.Write([]byte("x"))
			})
		}},
		{"hangs_up", "healthy/answers_of_v1_chat_completions_stream_false", noStatus, func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		}},
		{"panics", "healthy/answers_of_v1_chat_completions_stream_false", "panicked", func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("oh") })
		}},
		{"hides_that_it_was_cut", "faults/closed_at_middle", notSeen, func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer func() { _ = recover() }()
				h.ServeHTTP(unsized{w}, r)
			})
		}},
		{"writes_bodies_anew", "requests/bodies_pass_untouched", untrue, func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				body = bytes.TrimSpace(body)
				r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
				h.ServeHTTP(w, r)
			})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			found := recorded(t, Options{Patience: time.Second}, func(t *testing.T, endpoints []string) http.Handler {
				return test.change(naive(t, endpoints))
			}, test.want)
			require.Contains(t, found[test.want], test.says)
		})
	}
}

// unsized leaves out the length.
type unsized struct{ http.ResponseWriter }

func (w unsized) WriteHeader(status int) {
	w.Header().Del("Content-Length")
	w.ResponseWriter.WriteHeader(status)
}

func (w unsized) Flush() { w.ResponseWriter.(http.Flusher).Flush() }

// What is not to be expected is not asked for.
func TestRunWithOptions(t *testing.T) {
	t.Run("less", func(t *testing.T) {
		found := recorded(t, Options{NoRetries: true, Skip: []string{"trust/paths", "faults/101_unasked"}}, naive,
			"faults/refuses", "faults/status_503", "faults/closed_at_request_body", "faults/101_unasked", "trust/paths/metrics")
		if len(found) > 0 {
			t.Errorf("found %v, want nothing", found)
		}
	})
	t.Run("others", func(t *testing.T) {
		found := recorded(t, Options{Admin: []string{"/private"}}, naive, "trust/paths/private", "trust/paths/metrics")
		if len(found) != 1 || found["trust/paths/private"] == "" {
			t.Errorf("found %v, want trust/paths/private", found)
		}
	})
}

// A gateway that sends everything to one server, one that keeps away from those that failed once, and one that
// leaks.
func TestRunFindsPolicies(t *testing.T) {
	notRaced(t)
	t.Run("one_server", func(t *testing.T) {
		found := recorded(t, Options{}, func(t *testing.T, endpoints []string) http.Handler { return naive(t, endpoints[:1]) }, "healthy/bursts_metrics_true_stream_true")
		require.Contains(t, found["healthy/bursts_metrics_true_stream_true"], uneven)
	})
	t.Run("never_again", func(t *testing.T) {
		found := recorded(t, Options{Recovery: 300 * time.Millisecond}, func(t *testing.T, endpoints []string) http.Handler {
			p := newPlain(t, endpoints)
			p.failures, p.out, p.blamesAll, p.tries = 1, time.Hour, true, 3
			return p
		}, "recovery/refuses", "poison/closed_at_request_body")
		require.Contains(t, found["recovery/refuses"], unused)
		require.Contains(t, found["poison/closed_at_request_body"], manyOut)
	})
	t.Run("leaks", func(t *testing.T) {
		stop := make(chan struct{})
		defer close(stop)
		var kept [][]byte
		var mu sync.Mutex
		found := recorded(t, Options{Patience: time.Second}, func(t *testing.T, endpoints []string) http.Handler {
			h := naive(t, endpoints)
			for range 20 {
				go func() { <-stop }()
			}
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				kept = append(kept, make([]byte, 1<<14))
				mu.Unlock()
				h.ServeHTTP(w, r)
			})
		}, "leaks", "goroutines")
		if found["goroutines"] == "" || !strings.Contains(found["leaks/heap"], "heap grows") {
			t.Errorf("found %q", found)
		}
		clear(kept)
	})
}

func TestChaosFinds(t *testing.T) {
	notRaced(t)
	for name, test := range map[string]struct {
		gateway New
		says    string // empty: nothing is to be found
	}{
		"naive": {naive, lost},
		"plain": {func(t *testing.T, endpoints []string) http.Handler { return newPlain(t, endpoints) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var found strings.Builder
			r := &runner{o: Options{Patience: 5 * time.Second}, gateway: test.gateway, root: t.Name(), report: func(_ *testing.T, message string) {
				mu.Lock()
				defer mu.Unlock()
				found.WriteString(message + "\n")
			}}
			o := ChaosOptions{Requests: 2000}
			o.defaults()
			r.chaos(t, o)
			if test.says == "" && found.Len() > 0 || !strings.Contains(found.String(), test.says) {
				t.Errorf("found %q, want %q", found.String(), test.says)
			}
		})
	}
}

// What Run expects can be had: a small gateway that counts what is in flight, goes on to another server, and believes
// nobody passes all of it.
func TestRunPassesAGoodGateway(t *testing.T) {
	notRaced(t)
	if testing.Short() {
		t.Skip("takes long")
	}
	Run(t, func(t *testing.T, endpoints []string) http.Handler { return newPlain(t, endpoints) })
}

// plain is a gateway with nothing to it but what Run asks for.
type plain struct {
	transport *http.Transport
	failures  int // in a row, that put a server out
	out       time.Duration
	tries     int  // how many servers a request may try; 0: all
	blamesAll bool // one request may put out every server that it meets

	mu sync.Mutex
	// guarded by mu
	servers []*plainServer
}

type plainServer struct {
	address            string
	inFlight, failures int
	until              time.Time // out until then
	trying             bool
}

func newPlain(t *testing.T, endpoints []string) *plain {
	p := &plain{failures: 2, out: 400 * time.Millisecond, transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64, MaxResponseHeaderBytes: 1 << 20}}
	t.Cleanup(p.transport.CloseIdleConnections)
	for _, a := range endpoints {
		p.servers = append(p.servers, &plainServer{address: a})
	}
	return p
}

// pick takes the server with the least in flight that was not tried yet, nil if there is none.
func (p *plain) pick(tried []*plainServer) *plainServer {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	var best *plainServer
	for _, outToo := range []bool{false, true} {
		for _, i := range rand.Perm(len(p.servers)) {
			s := p.servers[i]
			isOut := now.Before(s.until) || !s.until.IsZero() && s.trying
			if slices.Contains(tried, s) || isOut && !outToo {
				continue
			}
			if best == nil || s.inFlight < best.inFlight {
				best = s
			}
		}
		if best != nil {
			break
		}
	}
	if best != nil {
		best.inFlight++
		best.trying = !best.until.IsZero()
	}
	return best
}

// done accounts an attempt. bad: the server did not answer. One request is held against one server only.
func (p *plain) done(s *plainServer, good, bad bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.inFlight--
	s.trying = false
	switch {
	case good:
		s.failures, s.until = 0, time.Time{}
	case bad:
		if s.failures++; s.failures >= p.failures {
			s.until = time.Now().Add(p.out)
		}
	}
}

func (p *plain) ServeHTTP(w http.ResponseWriter, in *http.Request) {
	switch path := in.URL.Path; {
	case in.Method == "CONNECT" || in.Method == "TRACE":
		http.Error(w, "no", http.StatusMethodNotAllowed)
		return
	case in.URL.RawPath != "" || path != "/health" && !slices.Contains([]string{"/generate_stream", "/completion", "/v2/models/tiny/generate_stream"}, path) && !strings.HasPrefix(path, "/v1/"),
		strings.Contains(path, "//"), strings.Contains(path, "/."), slices.Contains(AdminPaths(), strings.TrimRight(strings.ToLower(path), "/")),
		strings.ContainsAny(path, ";\\ \x00"), strings.HasSuffix(path, "load_lora_adapter/"), strings.ToLower(path) != path:
		http.Error(w, "not here", http.StatusNotFound)
		return
	}
	for _, admin := range AdminPaths() {
		if strings.HasPrefix(strings.ToLower(in.URL.Path), admin) {
			http.Error(w, "not here", http.StatusNotFound)
			return
		}
	}
	body, err := io.ReadAll(io.LimitReader(in.Body, 32<<20))
	if err != nil {
		http.Error(w, "half a body", http.StatusBadRequest)
		return
	}
	var tried []*plainServer
	for blamed := false; ; {
		var s *plainServer
		if p.tries == 0 || len(tried) < p.tries {
			s = p.pick(tried)
		}
		if s == nil {
			http.Error(w, "nobody answered", http.StatusBadGateway)
			return
		}
		tried = append(tried, s)
		if p.try(w, in, body, s, &blamed) {
			return
		}
	}
}

// try reports whether the client has had an answer.
func (p *plain) try(w http.ResponseWriter, in *http.Request, body []byte, s *plainServer, blamed *bool) bool {
	good, bad := false, false
	defer func() { p.done(s, good, bad && (p.blamesAll || !*blamed)); *blamed = *blamed || bad }()
	var resp *http.Response
	for again := 0; ; again++ {
		ctx, cancel := context.WithCancel(in.Context())
		defer cancel()
		out, err := http.NewRequestWithContext(ctx, in.Method, "http://"+s.address+in.URL.RequestURI(), bytes.NewReader(body))
		if err != nil {
			http.Error(w, "no", http.StatusBadRequest)
			return true
		}
		for name, values := range in.Header {
			if !strings.HasPrefix(name, "X-Gateway") {
				out.Header[name] = values
			}
		}
		for _, hop := range []string{"Connection", "Upgrade", "Http2-Settings", "Te", "Keep-Alive", "Proxy-Connection", "Expect", "X-Kit-Hop"} {
			out.Header.Del(hop)
		}
		resp, err = p.transport.RoundTrip(out)
		if err == nil {
			break
		}
		if in.Context().Err() != nil {
			bad = true // a gateway that does not hold it against the server goes on asking one that hangs
			return true
		}
		if again > 0 || !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") && !strings.Contains(err.Error(), "closed") {
			bad = true
			return false
		}
		p.transport.CloseIdleConnections() // it may have been an old connection
	}
	defer resp.Body.Close()
	first := make([]byte, 4096)
	n, err := resp.Body.Read(first)
	if resp.StatusCode < 200 || resp.StatusCode >= 502 && resp.StatusCode <= 504 || n == 0 && err != nil && err != io.EOF {
		bad = true
		return false
	}
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(resp.StatusCode)
	for {
		if _, writeErr := w.Write(first[:n]); writeErr != nil {
			return true
		}
		if err == io.EOF {
			good = resp.StatusCode < 500
			return true
		}
		w.(http.Flusher).Flush()
		if err != nil {
			bad = in.Context().Err() == nil
			panic(http.ErrAbortHandler)
		}
		n, err = resp.Body.Read(first)
	}
}
