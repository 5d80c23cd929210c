package httptransport_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/director"
)

// upload is a server that says what it has read of a request's body, piece by piece, and how it ended.
type upload struct {
	server *httptest.Server
	whole  chan string // as the server has it at the end; "!" and what there was if it broke off
	began  chan struct{}
}

func newUpload(t testing.TB, then http.HandlerFunc) *upload {
	u := &upload{whole: make(chan string, 100), began: make(chan struct{}, 100)}
	u.server = httptest.NewServer(u.handler(then))
	t.Cleanup(u.server.Close)
	return u
}

func (u *upload) handler(then http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		one := make([]byte, 1)
		_, err := io.ReadFull(r.Body, one)
		u.began <- struct{}{}
		rest, err2 := io.ReadAll(r.Body)
		if body := string(one) + string(rest); err != nil || err2 != nil || r.ContentLength != int64(len(body)) {
			u.whole <- "!" + body
		} else {
			u.whole <- body
		}
		then(w, r)
	}
}

func (u *upload) address() string { return u.server.Listener.Addr().String() }

// newEarly returns a Transport that decides when 4 KiB are there, and sends another model on.
func newEarly(t testing.TB, addresses ...string) *rawFixture {
	f := newRaw(t, nil, addresses...)
	f.Early = 4 << 10
	f.Incoming = func(_ *http.Request, in *director.Incoming) { in.Rewrite = "the-target" }
	return f
}

// largeBody is a chat of about n bytes for a model, and ends in end.
func largeBody(model string, n int, end string) string {
	line := `It was the best of \"times\".\n`
	return `{"model":"` + model + `","messages":[{"role":"user","content":"` + strings.Repeat(line, n/len(line)) + `"}` + end
}

// slowly is a request whose body comes as it is fed.
func slowly(t testing.TB, size int) (*http.Request, *io.PipeWriter) {
	r, w := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://any/v1/chat/completions", r)
	require.NoError(t, err)
	req.ContentLength = int64(size)
	return req, w
}

// start sends a request.
func (f *rawFixture) start(t testing.TB, req *http.Request) <-chan reply {
	done := make(chan reply, 1)
	go func() { done <- f.send(t, req) }()
	return done
}

func feed(t testing.TB, w io.Writer, s string) {
	_, err := io.WriteString(w, s)
	require.NoError(t, err)
}

func settled(t testing.TB, f *rawFixture) {
	t.Helper()
	for _, ep := range f.store.Snapshot().Pool(pool).Endpoints() {
		require.Eventually(t, func() bool { return ep.Load.Requests() == 0 }, patience, time.Millisecond, ep.ID)
	}
}

// The server has the beginning while the client sends the rest, but not the end; what it has in the end is what it would
// have had.
func TestEarly(t *testing.T) {
	for _, size := range []int{9 << 10, 100 << 10, 3 << 20} {
		u := newUpload(t, answer(streamed))
		f := newEarly(t, u.address())
		noLeaks(t, func() {
			body := largeBody("m", size, `],"max_tokens":5,"stream":true}`)
			req, w := slowly(t, len(body))
			done := f.start(t, req)
			feed(t, w, body[:5000])
			hear(t, "the request has begun", u.began)
			feed(t, w, body[5000:len(body)-1])
			select {
			case got := <-u.whole:
				t.Fatalf("the server has all of it: %.100s", got)
			case <-time.After(5 * time.Millisecond):
			}
			feed(t, w, body[len(body)-1:])
			w.Close()
			require.Equal(t, strings.Replace(body, `"m"`, `"the-target"`, 1), <-u.whole)
			g := <-done
			require.Equal(t, 200, g.StatusCode)
			require.Equal(t, streamed, g.body)
			o := next(t, f.ended)
			require.True(t, o.Served())
			require.Empty(t, f.left)
			require.Empty(t, f.ended)
			f.CloseIdleConnections()
			u.server.CloseClientConnections()
		})
		settled(t, f)
	}
}

// Where the rest changes something, it is as if nothing had been decided before: for the client, and for the server.
func TestEarlyIsLost(t *testing.T) {
	for name, tt := range map[string]struct {
		end    string
		status int
	}{
		"another model":   {`],"model":"other"}`, 200},
		"the same again":  {`],"model":"m"}`, 200},
		"tools":           {`],"tools":[{"x":1}]}`, 200},
		"a salt":          {`],"cache_salt":"x"}`, 200},
		"no JSON":         {`],}`, 400},
		"wrong type":      {`],"stream":"yes"}`, 400},
		"too deep":        {`],"x":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`, 400},
		"data at the end": {`]}x`, 400},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUpload(t, answer(streamed))
			f := newEarly(t, u.address())
			body := largeBody("m", 50<<10, tt.end)
			plain := newEarly(t, u.address())
			plain.Early = 0
			want := plain.ask(t, "POST", "/v1/chat/completions", body)
			var sent string
			if tt.status == 200 {
				hear(t, "it has begun", u.began)
				sent = <-u.whole
			}
			noLeaks(t, func() {
				req, w := slowly(t, len(body))
				done := f.start(t, req)
				feed(t, w, body[:5000])
				hear(t, "the request has begun", u.began)
				feed(t, w, body[5000:])
				w.Close()
				g := <-done
				require.Equal(t, tt.status, g.StatusCode)
				require.Equal(t, want.body, g.body)
				lost := next(t, f.ended)
				require.True(t, lost.Unsent && lost.Cancelled && !lost.Failed(), "%+v", lost.Outcome)
				got := []string{<-u.whole}
				if tt.status == 200 {
					got = append(got, <-u.whole)
					slices.Sort(got) // they may have ended in any order
					require.Equal(t, sent, got[1])
					require.True(t, next(t, f.ended).Served())
				}
				require.True(t, strings.HasPrefix(got[0], "!"), "it was broken off")
				f.CloseIdleConnections()
				u.server.CloseClientConnections()
			})
			settled(t, f)
		})
	}
}

// A client that stalls keeps no place at a server, and is served when it goes on. One that leaves is to blame alone.
func TestEarlyStalls(t *testing.T) {
	body := largeBody("hasty", 50<<10, `]}`) // nor does patience with the server begin before all is there
	for _, leaves := range []bool{false, true} {
		u := newUpload(t, answer(streamed))
		f := newEarly(t, u.address(), dead(t))
		f.EarlyTimeout = 80 * time.Millisecond
		if leaves {
			f.EarlyTimeout = time.Hour
		}
		noLeaks(t, func() {
			req, w := slowly(t, len(body))
			done := f.start(t, req)
			feed(t, w, body[:5000])
			hear(t, "the request has begun", u.began)
			if leaves {
				w.CloseWithError(io.ErrUnexpectedEOF)
				require.Equal(t, 400, (<-done).StatusCode)
			}
			lost := next(t, f.ended)
			require.True(t, lost.Unsent && lost.Cancelled && !lost.Failed(), "%+v", lost.Outcome)
			settled(t, f)
			require.True(t, strings.HasPrefix(<-u.whole, "!"), "it was broken off")
			if !leaves {
				feed(t, w, body[5000:])
				w.Close()
				require.Equal(t, 200, (<-done).StatusCode)
				require.True(t, next(t, f.ended).Served())
			}
			require.Empty(t, f.left)
			f.CloseIdleConnections()
			u.server.CloseClientConnections()
		})
	}
}

// What a server does before it has all of the request: others are asked as ever, with all of it.
func TestEarlyFallback(t *testing.T) {
	body := largeBody("m", 300<<10, `]}`)
	for name, tt := range map[string]struct {
		first  func(net.Conn)
		nobody bool // listens
		status int
		blamed bool
	}{
		"nobody listens": {nobody: true, status: 200, blamed: true},
		"it resets":      {first: func(c net.Conn) { c.Close() }, status: 200},
		"it is busy":     {first: func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n") }, status: 200},
		"it refuses":     {first: func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 422 No\r\nContent-Length: 2\r\n\r\nno") }, status: 422},
		"it answers":     {first: func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") }, status: 200},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUpload(t, answer(streamed))
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer ln.Close()
			did := make(chan struct{}, 10)
			go func() {
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					_, _ = io.ReadFull(c, make([]byte, 2000))
					tt.first(c)
					did <- struct{}{}
					defer c.Close() // only at the end: it reads no more
				}
			}()
			if tt.nobody {
				ln.Close()
			}
			f := newEarly(t, ln.Addr().String(), u.address())
			req, w := slowly(t, len(body))
			done := f.start(t, req)
			feed(t, w, body[:5000])
			if !tt.nobody {
				hear(t, "it did", did)
			}
			time.Sleep(5 * time.Millisecond)
			feed(t, w, body[5000:])
			w.Close()
			g := <-done
			require.Equal(t, tt.status, g.StatusCode)
			if tt.status == 200 && name != "it answers" {
				require.Equal(t, streamed, g.body)
				require.Equal(t, strings.Replace(body, `"m"`, `"the-target"`, 1), <-u.whole)
				left := next(t, f.left)
				require.Equal(t, "0", left.id)
				if name != "it resets" { // which may be seen when it has waited for the client, or later
					require.Equal(t, tt.blamed, left.Err != nil && !left.Unsent, "%+v", left.Outcome)
				}
			}
			next(t, f.ended)
			settled(t, f)
		})
	}
}

// After bets that were lost there are fewer.
func TestEarlyOdds(t *testing.T) {
	u := newUpload(t, answer(streamed))
	f := newEarly(t, u.address())
	bad, good := largeBody("m", 150<<10, `],"tools":[{"x":1}]}`), largeBody("m", 150<<10, `]}`)
	attempts := func(body string) (n int) {
		require.Equal(t, 200, f.ask(t, "POST", "/v1/chat/completions", body).StatusCode)
		for len(f.ended) > 0 {
			<-f.ended
			n++
		}
		return n
	}
	var all []int
	for range 10 {
		all = append(all, attempts(bad))
	}
	require.Equal(t, []int{2, 1, 2, 1, 1, 1, 2, 1, 1, 1}, all)
	for range 4 {
		require.Equal(t, 1, attempts(bad))
	}
	require.Equal(t, 1, attempts(good), "won")
	require.Equal(t, 2, attempts(bad))
	require.Equal(t, 1, attempts(bad))
	require.Equal(t, 2, attempts(bad))
}

// What a body holds counts against MaxBodies until its request ends, and no longer.
func TestEarlyMemory(t *testing.T) {
	u := newUpload(t, answer(streamed))
	f := newEarly(t, u.address())
	f.MaxBodies = 2 << 20
	good, bad := largeBody("m", 1<<20, `]}`), largeBody("m", 1<<20, `],"tools":[{}]}`)
	for i := range 30 {
		body := good
		if i%3 == 2 {
			body = bad
		}
		require.Equal(t, 200, f.ask(t, "POST", "/v1/chat/completions", body).StatusCode, "%d", i)
	}
	require.Equal(t, 503, f.ask(t, "POST", "/v1/chat/completions", largeBody("m", 3<<20, `]}`)).StatusCode)
	require.Equal(t, 200, f.ask(t, "POST", "/v1/chat/completions", good).StatusCode)
	settled(t, f)
}

// Bodies that are not large, whose length is not known, or that cannot be decided early are as ever.
func TestNotEarly(t *testing.T) {
	u := newUpload(t, answer(streamed))
	f := newEarly(t, u.address())
	calls := 0
	f.Incoming = func(_ *http.Request, in *director.Incoming) {
		calls++
		in.Rewrite = "the-target"
	}
	for name, change := range map[string]func(*http.Request) string{
		"small": func(*http.Request) string { return largeBody("m", 6<<10, `]}`) },
		"model last": func(*http.Request) string {
			return strings.Replace(largeBody("x", 50<<10, `],"model":"m"}`), `"model":"x",`, "", 1)
		},
		"length not known": func(r *http.Request) string { r.ContentLength = -1; return largeBody("m", 150<<10, `]}`) },
	} {
		req, _ := http.NewRequest("POST", "http://any/v1/chat/completions", nil)
		req.ContentLength = 0
		body := change(req)
		if req.ContentLength == 0 {
			req.ContentLength = int64(len(body))
		}
		req.Body = io.NopCloser(strings.NewReader(body))
		calls = 0
		require.Equal(t, 200, f.send(t, req).StatusCode, name)
		require.Equal(t, strings.Replace(body, `"m"`, `"the-target"`, 1), <-u.whole, name)
		require.Equal(t, 1, calls, name)
		next(t, f.ended)
		require.Empty(t, f.ended)
	}
}

// Panics of functions of the embedder's are those of the caller's goroutine, and end the request.
func TestEarlyPanics(t *testing.T) {
	body := largeBody("m", 150<<10, `]}`)
	f := newEarly(t, dead(t))
	f.Base = roundTripper(func(*http.Request) (*http.Response, error) { panic("mine") })
	require.PanicsWithValue(t, "mine", func() {
		req, _ := http.NewRequest("POST", "http://any/v1/chat/completions", strings.NewReader(body))
		_, _ = f.RoundTrip(req)
	})
	settled(t, f)
	f.OnRoute = func(*http.Request, *director.Route) { panic("mine, too") }
	require.Equal(t, 500, f.ask(t, "POST", "/v1/chat/completions", body).StatusCode)
	settled(t, f)
}

// Through a gateway, by HTTP/1.1 and HTTP/2, with a client that waits until it may go on.
func TestEarlyProtocols(t *testing.T) {
	for _, two := range []bool{false, true} {
		u := &upload{whole: make(chan string, 10), began: make(chan struct{}, 10)}
		u.server = httptest.NewUnstartedServer(u.handler(answer(streamed)))
		u.server.EnableHTTP2 = two
		u.server.StartTLS()
		t.Cleanup(u.server.Close)
		f := newEarly(t, u.address())
		f.Scheme = "https"
		base := f.Base.(*http.Transport)
		base.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
		base.ForceAttemptHTTP2 = two
		front := httptest.NewUnstartedServer(&httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}, Transport: f.Transport, FlushInterval: -1})
		front.EnableHTTP2 = two
		front.StartTLS()
		t.Cleanup(front.Close)

		body := largeBody("m", 600<<10, `]}`)
		req, w := slowly(t, len(body))
		req.URL.Scheme, req.URL.Host = "https", front.Listener.Addr().String()
		req.Header.Set("Expect", "100-continue")
		client := front.Client()
		client.Transport.(*http.Transport).ExpectContinueTimeout = time.Hour
		done := make(chan error, 1)
		go func() {
			resp, err := client.Do(req)
			if err == nil {
				var got []byte
				if got, err = io.ReadAll(resp.Body); err == nil && string(got) != streamed {
					err = fmt.Errorf("status %d, HTTP/%d: %s", resp.StatusCode, resp.ProtoMajor, got)
				}
				if (resp.ProtoMajor == 2) != two {
					err = errors.New(resp.Proto)
				}
			}
			done <- err
		}()
		feed(t, w, body[:300<<10])
		hear(t, "the request has begun", u.began)
		feed(t, w, body[300<<10:])
		w.Close()
		require.NoError(t, <-done)
		require.Equal(t, strings.Replace(body, `"m"`, `"the-target"`, 1), <-u.whole)
		require.True(t, next(t, f.ended).Served())
		settled(t, f)
	}
}

// Many at once, of which some are lost, stall or leave, get what is theirs.
func TestEarlyMany(t *testing.T) {
	var bad atomic.Int64
	echo := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if !bytes.HasPrefix(body, []byte(`{"model":"the-target"`)) {
			bad.Add(1)
		}
		_, _ = w.Write(body)
	}
	a, b := httptest.NewServer(http.HandlerFunc(echo)), httptest.NewServer(http.HandlerFunc(echo))
	defer a.Close()
	defer b.Close()
	f := newEarly(t, a.Listener.Addr().String(), b.Listener.Addr().String())
	f.EarlyTimeout = 3 * time.Millisecond
	noLeaks(t, func() {
		errs := make(chan error, 100)
		for i := range 100 {
			go func() {
				end := `]}`
				if i%5 == 1 {
					end = `],"tools":[{}]}`
				}
				body := largeBody("m", 20<<10+i*1000, end)
				body = strings.Replace(body, "It was", fmt.Sprintf("%06d", i), 1)
				r, w := io.Pipe()
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				req, _ := http.NewRequestWithContext(ctx, "POST", "http://any/v1/chat/completions", r)
				req.ContentLength = int64(len(body))
				go func() {
					out := bufio.NewWriterSize(w, 1+i*200)
					_, _ = io.WriteString(out, body[:len(body)/2])
					if i%5 == 2 {
						time.Sleep(6 * time.Millisecond)
					}
					if i%5 == 3 {
						w.CloseWithError(io.ErrUnexpectedEOF)
						return
					}
					_, _ = io.WriteString(out, body[len(body)/2:])
					_ = out.Flush()
					w.Close()
				}()
				resp, err := f.RoundTrip(req)
				if err != nil {
					errs <- err
					return
				}
				defer resp.Body.Close()
				got, err := io.ReadAll(resp.Body)
				if want := strings.Replace(body, `"m"`, `"the-target"`, 1); err == nil && i%5 != 3 && string(got) != want {
					err = fmt.Errorf("%d: status %d, %d bytes, want %d: %.100q", i, resp.StatusCode, len(got), len(want), got)
				}
				errs <- err
			}()
		}
		for range 100 {
			require.NoError(t, <-errs)
		}
		f.CloseIdleConnections()
		a.CloseClientConnections()
		b.CloseClientConnections()
	})
	require.Zero(t, bad.Load())
	settled(t, f)
}
