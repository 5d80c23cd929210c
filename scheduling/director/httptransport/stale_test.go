package httptransport_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/disagg"
	"github.com/inferpick/inferpick/scheduling/director/httptransport"
)

// roundTripper is another type than http.Transport.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// closing returns a server that answers the first n requests of each connection and closes
// it, in the way given, when the next one comes.
func closing(t *testing.T, n int, reset bool) *rawServer {
	t.Helper()
	var mu sync.Mutex
	served := map[net.Conn]int{}
	return serveRaw(t, func(c net.Conn, _ *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if served[c]++; served[c] > n {
			if reset {
				_ = c.(*net.TCPConn).SetLinger(0)
			}
			return false
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
		return true
	})
}

// TestStaleConnections: a connection that was kept alive and is closed when it is used again
// is no failure, of any method and body, for any RoundTripper that uses an http.Transport;
// and the server gets each request once more at most.
func TestStaleConnections(t *testing.T) {
	large := strings.Replace(request, "hello", strings.Repeat("hello ", 100_000), 1)
	for name, wrap := range map[string]func(http.RoundTripper) http.RoundTripper{
		"an http.Transport": func(rt http.RoundTripper) http.RoundTripper { return rt },
		"within another":    func(rt http.RoundTripper) http.RoundTripper { return roundTripper(rt.RoundTrip) },
	} {
		for _, reset := range []bool{false, true} {
			for _, body := range []string{request, large, ""} {
				s := closing(t, 1, reset)
				f := newRaw(t, nil, s.Addr().String(), dead(t))
				f.Base = wrap(f.Base)
				for range 10 {
					g := f.ask(t, "POST", "/v1/chat/completions", body)
					if body == "" {
						g = f.ask(t, "GET", "/v1/files/x", "")
					} else if g.StatusCode != 200 || g.body != "{}" {
						t.Errorf("%s, reset %v, %d bytes: %d %q", name, reset, len(body), g.StatusCode, g.body)
					}
				}
				if len(f.left) != 0 {
					t.Errorf("%s, reset %v, %d bytes: left %+v", name, reset, len(body), <-f.left)
				}
			}
		}
	}
	// Many old connections, and a server that fails this request on every one.
	s := closing(t, 1, false)
	f := newRaw(t, nil, s.Addr().String())
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() { f.chat(t) })
	}
	all.Wait()
	s2 := serveRaw(t, says(""))
	f = newRaw(t, nil, s2.Addr().String())
	f.chat(t)
	if n := s2.requests.Load(); n != 1 {
		t.Errorf("a server that closes new connections got the request %d times", n)
	}
	if end := next(t, f.ended); end.Unsent || end.Err == nil {
		t.Errorf("a server that closes new connections is not to blame: %+v", end)
	}
}

// TestPoisonedRequests: one that kills the server's connection comes there twice at most,
// however many connections are kept alive.
func TestPoisonedRequests(t *testing.T) {
	s := serveRaw(t, func(c net.Conn, r *http.Request) bool {
		if r.URL.Path == "/v1/embeddings" {
			return false
		}
		time.Sleep(5 * time.Millisecond) // so that each has a connection
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
		return true
	})
	f := newRaw(t, nil, s.Addr().String())
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() { f.chat(t) })
	}
	all.Wait()
	before := s.requests.Load()
	if g := f.ask(t, "POST", "/v1/embeddings", `{"model":"m","input":"x"}`); g.StatusCode != 502 {
		t.Errorf("status %d", g.StatusCode)
	}
	if n := s.requests.Load() - before; n != 2 {
		t.Errorf("it came %d times, want 2", n)
	}
}

// TestWhoIsToBlame: what fails before anything is sent is the endpoint's fault only if it is
// there that it fails.
func TestWhoIsToBlame(t *testing.T) {
	fails := func(err error) func(*rawFixture) {
		return func(f *rawFixture) {
			f.Base = roundTripper(func(*http.Request) (*http.Response, error) { return nil, err })
		}
	}
	dials := func(err error) func(*rawFixture) {
		return func(f *rawFixture) {
			f.Base.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, err }
		}
	}
	dialing := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	plain := serveRaw(t, says(okEvents)).Addr().String()
	mute := serveRaw(t, says("")).Addr().String()
	for name, tt := range map[string]struct {
		change  func(*rawFixture)
		address string
		header  string
		unsent  bool
	}{
		"refused":                   {func(*rawFixture) {}, dead(t), "", false},
		"TLS where there is none":   {func(f *rawFixture) { f.Scheme = "https" }, plain, "", false},
		"TLS and no word":           {func(f *rawFixture) { f.Scheme = "https" }, mute, "", false},
		"no word":                   {func(*rawFixture) {}, mute, "", false},
		"a header that is none":     {func(*rawFixture) {}, plain, "a\nb", true},
		"no descriptors":            {dials(dialing(syscall.EMFILE)), plain, "", true},
		"no ports":                  {dials(dialing(syscall.EADDRNOTAVAIL)), plain, "", true},
		"no buffers":                {dials(dialing(syscall.ENOBUFS)), plain, "", true},
		"refused by its own dialer": {dials(dialing(syscall.ECONNREFUSED)), plain, "", false},
		"timed out":                 {dials(dialing(syscall.ETIMEDOUT)), plain, "", false},
		"a dialer's own words":      {dials(errors.New("boom")), plain, "", false},
		"the name server is out":    {dials(&net.DNSError{Err: "x", IsTemporary: true}), plain, "", true},
		"no such host":              {dials(&net.DNSError{Err: "x", IsNotFound: true}), plain, "", false},
		"untraced: refused":         {fails(dialing(syscall.ECONNREFUSED)), plain, "", false},
		"untraced: EOF":             {fails(io.EOF), plain, "", false},
		"untraced: no descriptors":  {fails(dialing(syscall.EMFILE)), plain, "", true},
		"untraced: own words":       {fails(errors.New("too many requests in this process")), plain, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newRaw(t, nil, tt.address)
			tt.change(f)
			req, _ := http.NewRequest("POST", "http://any/v1/chat/completions", strings.NewReader(request))
			if tt.header != "" {
				req.Header["X-Bad"] = []string{tt.header}
			}
			if g := f.send(t, req); g.StatusCode != 502 || !strings.Contains(g.body, "no server answered") {
				t.Errorf("status %d, %s", g.StatusCode, g.body)
			}
			if end := next(t, f.ended); end.Unsent != tt.unsent || end.Err == nil || end.Status != 0 {
				t.Errorf("%+v, want unsent %v", end, tt.unsent)
			}
		})
	}
}

// TestDefaultTransportOfAnotherType.
func TestDefaultTransportOfAnotherType(t *testing.T) {
	before := http.DefaultTransport
	defer func() { http.DefaultTransport = before }()
	http.DefaultTransport = roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("not this one") })
	s := serveRaw(t, says(okEvents))
	f := newRaw(t, nil, s.Addr().String())
	if g := f.chat(t); g.body != streamed {
		t.Errorf("%d %q", g.StatusCode, g.body)
	}
	f.Transport = &httptransport.Transport{Director: f.Director} // which has it as its Base
	if g := f.chat(t); g.StatusCode != 502 {
		t.Errorf("%d %q", g.StatusCode, g.body)
	}
	if len(f.left) != 0 {
		t.Error("something was left")
	}
}

// TestStaleDecodeLegs: a decode leg that meets a connection that is closed when it is used again is not sent over another
// one, by whatever RoundTripper, since its engine may have fetched the cache; another engine gets a hand-over of its own.
func TestStaleDecodeLegs(t *testing.T) {
	for name, wrap := range map[string]func(http.RoundTripper) http.RoundTripper{
		"an http.Transport": func(rt http.RoundTripper) http.RoundTripper { return rt },
		"within another":    func(rt http.RoundTripper) http.RoundTripper { return roundTripper(rt.RoundTrip) },
	} {
		t.Run(name, func(t *testing.T) {
			var legs atomic.Int64
			a := newRawApart(t, disagg.NIXL(disagg.Options{}), map[string]func(net.Conn, *http.Request) bool{
				"p0": says(answerOf("", goodPrefill)),
				"d0": func(c net.Conn, _ *http.Request) bool {
					if legs.Add(1) > 1 {
						return false
					}
					_, _ = io.WriteString(c, answerOf("", goodAnswer))
					return true
				},
				"d1": says(answerOf("", goodAnswer)),
			}, func(_ *scheduling.Profile, _ *director.Options, tr *httptransport.Transport) {
				tr.Base = wrap(httptransport.New(nil).Base)
			})
			for range 2 {
				status, body, _ := a.post(t, `{"model":"m","messages":[{"role":"user","content":"hi"}]}`)
				require.Equal(t, 200, status, body)
			}
			require.EqualValues(t, 2, legs.Load())
		})
	}
}
