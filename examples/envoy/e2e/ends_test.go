package e2e_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// This file is about ends: of Envoy with the picker inside, and of requests whose clients do not wait for them.

// TestEnvoyEnds under load, while requests wait to be let in and others are at servers: soon, and with exit code 0.
func TestEnvoyEnds(t *testing.T) {
	server, arrived, release := holding(t)
	r, _ := newInner(t, rigOptions{servers: []string{server}, config: classes})
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first := r.ask(ctx, "report", "first")
	<-arrived
	waiting := []<-chan answered{r.ask(ctx, "report", "second"), r.ask(ctx, "report", "third")}
	r.waits(2)
	var wg sync.WaitGroup
	var refused atomic.Int64
	for range 4 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ { // which are refused: the pool is full
				resp, _, err := r.do(ctx, "/v1/chat/completions", strings.Replace(chatBody(i%2000), `"chat"`, `"batch"`, 1))
				if err != nil {
					return // Envoy has ended
				}
				if resp.StatusCode != 429 && resp.StatusCode != 503 {
					t.Errorf("what is sheddable: %s", resp.Status)
				}
				refused.Add(1)
			}
		})
	}
	waitFor(t, "load", func() bool { return refused.Load() > 50 })
	start := time.Now()
	require.NoError(t, syscall.Kill(r.envoy.PID(), syscall.SIGTERM))
	r.stopped = true
	select {
	case <-r.envoy.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("Envoy does not end")
	}
	t.Logf("Envoy ended after %v", time.Since(start))
	require.NoError(t, r.envoy.Err(), "%s", &r.log)
	for _, out := range append(waiting, first) {
		if a := <-out; a.err == nil && a.StatusCode != 503 {
			t.Errorf("a request under way was answered %s", a.Status)
		}
	}
	wg.Wait()
}

// TestClientsLeave at any time, as they send, wait to be let in, wait for a server or read: nothing is left of them.
func TestClientsLeave(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		time.Sleep(time.Duration(rand.IntN(8)) * time.Millisecond)
		w.Header().Set("Content-Type", "text/event-stream")
		for range 5 {
			io.WriteString(w, soakEvent)
			w.(http.Flusher).Flush()
			time.Sleep(time.Duration(rand.IntN(4)) * time.Millisecond)
		}
	})
	r, in := newInner(t, rigOptions{servers: []string{server}, config: classes})
	before := in.state(true)
	const requests, clients = 600, 16
	var next, whole atomic.Int64
	var wg sync.WaitGroup
	h2 := h2Client(t)
	for range clients {
		wg.Go(func() {
			for i := next.Add(1); i <= requests; i = next.Add(1) {
				client := r.client
				if i%2 == 0 {
					client = h2
				}
				if r.leaves(client, int(i)) {
					whole.Add(1)
				}
			}
		})
	}
	wg.Wait()
	r.settled()
	r.waits(0)
	waitFor(t, "goroutines to end", func() bool { return in.state(false).Goroutines <= before.Goroutines+5 })
	t.Logf("%d of %d were served before their clients left", whole.Load(), requests)
	if n := whole.Load(); n == 0 || n == requests {
		t.Error("want some, not all")
	}
}

// leaves sends a request and leaves at any time. It reports whether all was read before.
func (r *rig) leaves(client *http.Client, n int) bool {
	patience := time.Duration(rand.IntN(60_000)) * time.Microsecond
	if n%20 == 0 {
		patience = 30 * time.Second
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	model, words := []string{"chat", "report", "batch"}[n%3], []int{1, 2000, 40_000}[n%5%3]
	body := strings.Replace(chatBody(words), `"chat"`, `"`+model+`"`, 1)
	var from io.Reader = strings.NewReader(body)
	if n%4 == 0 {
		from = io.MultiReader(strings.NewReader(body[:len(body)/2]), pause{ctx}, strings.NewReader(body[len(body)/2:]))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/v1/chat/completions", from)
	if err != nil {
		r.t.Error(err)
		return false
	}
	req.Header.Set("X-Session-Id", fmt.Sprint("leaves", n))
	resp, _, err := read(client.Do(req))
	return err == nil && resp.StatusCode == 200
}

// pause is a part of a body that takes its time.
type pause struct{ ctx context.Context }

// Read implements io.Reader.
func (p pause) Read([]byte) (int, error) {
	select {
	case <-p.ctx.Done():
		return 0, p.ctx.Err()
	case <-time.After(time.Duration(rand.IntN(20)) * time.Millisecond):
		return 0, io.EOF
	}
}
