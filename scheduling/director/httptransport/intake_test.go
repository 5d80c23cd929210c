package httptransport_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/httptransport"
)

// failing is a body that ends with an error.
type failing struct {
	io.Reader
	err    error
	closed *bool
}

func (f failing) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if err == io.EOF {
		err = f.err
	}
	return n, err
}

func (f failing) Close() error { *f.closed = true; return nil }

// TestBodiesThatCannotBeRead: whose fault it is decides on the status.
func TestBodiesThatCannotBeRead(t *testing.T) {
	s := serveRaw(t, says(okEvents))
	f := newRaw(t, nil, s.Addr().String())
	tooLarge := &http.MaxBytesError{Limit: 10}
	for name, tt := range map[string]struct {
		err    error
		status int
	}{
		"breaks off":                   {io.ErrUnexpectedEOF, 400},
		"malformed":                    {errors.New("malformed chunked encoding"), 400},
		"too large for a handler":      {tooLarge, 413},
		"too large, said by a handler": {fmt.Errorf("reading the body: %w", tooLarge), 413},
		"too slow":                     {fmt.Errorf("read: %w", os.ErrDeadlineExceeded), 408},
	} {
		var closed bool
		req, _ := http.NewRequest("POST", "http://any/v1/messages/count_tokens", nil)
		req.Body = failing{strings.NewReader(request[:20]), tt.err, &closed}
		g := f.send(t, req)
		if g.StatusCode != tt.status || !strings.HasPrefix(g.body, `{"type":"error"`) || !closed {
			t.Errorf("%s: status %d, %s, closed %v", name, g.StatusCode, g.body, closed)
		}
	}
	for _, path := range []string{"/v1/chat/completions", "/metrics"} { // whatever becomes of it, it is closed
		for _, upgrade := range []string{"", "websocket"} {
			var closed bool
			req, _ := http.NewRequest("POST", "http://any"+path, nil)
			req.Body = failing{strings.NewReader(request), io.EOF, &closed}
			if upgrade != "" {
				req.Header.Set("Upgrade", upgrade)
			}
			if f.send(t, req); !closed {
				t.Errorf("%s %s: the body was not closed", path, upgrade)
			}
		}
	}
}

// TestLimitsMeanWhatTheySay: without MaxBody the Director's limits count, large and small.
func TestLimitsMeanWhatTheySay(t *testing.T) {
	s := serveRaw(t, says(okEvents))
	for _, tt := range []struct {
		limits  openai.Limits
		maxBody int64
		size    int
		status  int
	}{
		{openai.Limits{}, 0, 15 << 20, 200},
		{openai.Limits{}, 0, 17 << 20, 413},
		{openai.Limits{MaxBytes: 40 << 20}, 0, 39 << 20, 200},
		{openai.Limits{MaxBytes: 40 << 20}, 0, 41 << 20, 413},
		{openai.Limits{MaxBytes: 1000}, 0, 999, 200},
		{openai.Limits{MaxBytes: 1000}, 0, 1001, 413},
		{openai.Limits{MaxBytes: 40 << 20}, 1000, 1001, 413},
	} {
		f := newRaw(t, func(o *director.Options) { o.Limits = tt.limits }, s.Addr().String())
		f.MaxBody = tt.maxBody
		body := strings.Replace(request, "hello", "hello"+strings.Repeat("x", tt.size-len(request)), 1)
		for _, known := range []bool{true, false} {
			req, _ := http.NewRequest("POST", "http://any/v1/chat/completions", strings.NewReader(body))
			if !known {
				req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), -1
			}
			if g := f.send(t, req); g.StatusCode != tt.status {
				t.Errorf("%+v, length known %v: status %d, %.200s", tt, known, g.StatusCode, g.body)
			}
		}
	}
}

// TestAllBodiesTogetherAreBounded: as they come in, while their requests are under way, and
// no longer, however they end.
func TestAllBodiesTogetherAreBounded(t *testing.T) {
	release, there := make(chan struct{}), make(chan struct{}, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		there <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
		answer(streamed)(w, r)
	}))
	defer s.Close()
	f := newRaw(t, nil, s.Listener.Addr().String())
	f.MaxBodies = 300 << 10
	body := strings.Replace(request, "hello", strings.Repeat("x", 140<<10), 1)
	done := make(chan reply, 2)
	for range 2 {
		go func() { done <- f.ask(t, "POST", "/v1/chat/completions", body) }()
	}
	hear(t, "a request has come", there)
	hear(t, "another has come", there)
	if g := f.ask(t, "POST", "/v1/chat/completions", body); g.StatusCode != 503 || g.Header.Get("Retry-After") != "1" || !strings.Contains(g.body, httptransport.CodeBodies) {
		t.Errorf("one more: status %d, %v, %s", g.StatusCode, g.Header, g.body)
	}
	pending, feed := io.Pipe() // an upload without an end is refused when there is no more room
	defer pending.Close()
	upload := make(chan reply, 1)
	go func() {
		req, _ := http.NewRequest("POST", "http://any/v1/files", pending)
		upload <- f.send(t, req)
	}()
	go func() {
		for {
			if _, err := io.WriteString(feed, strings.Repeat("x", 1000)); err != nil {
				return
			}
		}
	}()
	if g := <-upload; g.StatusCode != 503 {
		t.Errorf("an upload without an end: status %d", g.StatusCode)
	}
	close(release)
	for range 2 {
		if g := <-done; g.StatusCode != 200 {
			t.Errorf("status %d", g.StatusCode)
		}
	}
	for i := range 20 { // what was held is given back by each way to end
		path := []string{"/v1/chat/completions", "/metrics", "/v1/nothing%00", "/v1/chat/completions"}[i%4]
		b := body
		if i%4 == 3 {
			b = body[:len(body)-1]
		}
		if g := f.ask(t, "POST", path, b); g.StatusCode == 503 {
			t.Fatalf("%d: %s is refused: %s", i, path, g.body)
		}
	}
}

// TestBodiesAreTheirOwn: the memory of a body is used again for others, but not as long as
// it may be read: by a server that has answered without having read it.
func TestBodiesAreTheirOwn(t *testing.T) {
	f := newRaw(t, nil, "127.0.0.1:1")
	sent := make(chan io.ReadCloser, 100)
	f.Base = roundTripper(func(r *http.Request) (*http.Response, error) {
		sent <- r.Body
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}"))}, nil
	})
	post := func(mark string) {
		body := `{"model":"m","messages":[{"role":"user","content":"` + strings.Repeat(mark, 200<<10) + `"}]}`
		req, _ := http.NewRequest("POST", "http://any/v1/chat/completions", strings.NewReader(body))
		if g := f.send(t, req); g.StatusCode != 200 {
			t.Fatalf("status %d: %s", g.StatusCode, g.body)
		}
	}
	for i := range 20 {
		mark, other := string(rune('A'+i)), string(rune('a'+i))
		post(mark)
		post(other)
		body, late := <-sent, <-sent
		if b, err := io.ReadAll(body); err != nil || strings.Count(string(b), mark) < 200<<10 {
			t.Fatalf("body %s has bytes of another: %v", mark, err)
		}
		late.Close()
	}
}
