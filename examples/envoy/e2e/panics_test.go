package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// This file is about panics inside of Envoy, each of which would be its end if it got out.

// newInner starts a rig with the module, and returns its picker too.
func newInner(t *testing.T, o rigOptions) (*rig, *inner) {
	t.Helper()
	o.bootstrap = inside
	r := newRig(t, o)
	return r, r.observed.(*inner)
}

// gotten counts what servers get.
type gotten struct {
	mu sync.Mutex
	n  map[string]int // by the header that says what panics
}

func (g *gotten) add(r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n[r.Header.Get("X-Test-Panic")]++
}

func (g *gotten) of(place string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.n[place]
}

// TestPanics: whatever panics, in whatever hook, a function of the user's or Envoy's interface, the one request is
// answered with 500, or, if its answer has begun, is reset. Nothing stays booked, it is told once in a while, and
// Envoy goes on.
func TestPanics(t *testing.T) {
	seen := gotten{n: map[string]int{}}
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		seen.add(r)
		w.Header().Set("Trailer", "X-Sum")
		answering(w, r)
		w.(http.Flusher).Flush()
		w.Header().Set("X-Sum", "1")
	})
	r, in := newInner(t, rigOptions{servers: []string{server}, envoy: upstream1Trailers})
	const (
		unsent = iota // 500, and no server gets it
		lost          // 500, though a server has it
		cut           // the answer breaks off
		none          // there is no answer, and no server gets it
		well          // nothing is to be seen of it
	)
	for _, tt := range []struct {
		place string
		want  int
	}{
		{"Start", unsent}, {"request headers", unsent}, {"request body", unsent}, {"request trailers", unsent},
		{"Routed", unsent}, {"OnRoute", unsent}, {"Propagate", unsent}, {"woken", unsent},
		{"Response", lost}, {"OnServed", lost}, {"response headers", lost},
		{"response body", cut}, {"response trailers", cut},
		{"End", well}, {"destroy", well},
		{"outside request headers", none}, {"outside request body", none}, {"outside request trailers", none}, {"outside woken", none},
		{"outside response headers", cut}, {"outside response body", cut}, {"outside response trailers", cut},
	} {
		for i := range 3 {
			before := seen.of(tt.place)
			status, body, err := panicking(t, r, tt.place)
			sent := seen.of(tt.place) - before
			ok := false
			switch tt.want {
			case unsent:
				ok = err == nil && status == 500 && sent == 0
			case lost:
				ok = err == nil && status == 500 && sent == 1
			case cut:
				ok = err != nil && sent == 1
			case none:
				ok = err != nil && sent == 0
			case well:
				ok = err == nil && status == 200 && body == restored
			}
			if !ok {
				t.Errorf("%s, request %d: %d, %v, %.200s; a server got %d", tt.place, i, status, err, body, sent)
			}
			if status == 500 && !strings.Contains(body, `"error"`) {
				t.Errorf("%s, request %d: %s, want an error as clients know it", tt.place, i, body)
			}
		}
		r.settled()
		if resp, body, err := r.post(t.Context(), 1); err != nil || resp.StatusCode != 200 || body != restored {
			t.Errorf("after %s: %v, %s", tt.place, err, body)
		}
	}
	resp, body, err := r.do(t.Context(), "/v1/chat/completions", `{"model": "chat"`, "x-test-panic", "Refused")
	if err != nil || resp.StatusCode != 500 || !strings.Contains(body, `"error"`) {
		t.Errorf("Refused: %v, %v, %s", err, resp, body)
	}
	r.settled()
	if n := strings.Count(r.log.String(), "panic while a request was processed"); n != 1 {
		t.Errorf("it was told %d times within a minute, want 1:\n%s", n, &r.log)
	}

	// In the background: the file is read again by a watcher whose logger panics when it tells what is wrong.
	in.arm("log", true)
	other := serve(t, answering)
	r.options.config = "kind: Nonsense\n"
	r.configure(other)
	waitFor(t, "a panic", func() bool { return in.state(false).Panics > 0 })
	in.arm("log", false)
	r.options.config = ""
	r.configure(other)
	waitFor(t, "the configuration to be read", func() bool {
		_, _, err := r.post(t.Context(), 1)
		require.NoError(t, err)
		r.resetViews()
		_, _, err = r.post(t.Context(), 1, "x-session-id", "s")
		require.NoError(t, err)
		return r.view("s").Chosen == other
	})
	r.settled()
}

// panicking sends a request, with trailers over HTTP/2, for which a place panics.
func panicking(t *testing.T, r *rig, place string) (status int, body string, err error) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/v1/chat/completions", io.MultiReader(strings.NewReader(chatBody(10))))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Test-Panic", place)
	req.Trailer = http.Header{"X-T": {"1"}}
	client := h2Client(t)
	defer client.CloseIdleConnections()
	resp, body, err := read(client.Do(req))
	if err != nil {
		return 0, "", fmt.Errorf("no whole answer: %w", err)
	}
	return resp.StatusCode, body, nil
}
