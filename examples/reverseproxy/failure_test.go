package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation/modelserver"
	"github.com/stretchr/testify/require"
)

// A server dies in the middle of its streams, another's metrics hang, a third
// sends garbage in their place: who has had no byte yet is served by a fallback,
// who has is cut off and told so, and nothing is left in the end.
func TestServersFail(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("traffic", serversFail)
	http.DefaultClient.CloseIdleConnections()
	for range 200 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	buf := make([]byte, 1<<20)
	t.Errorf("%d goroutines are left of %d:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
}

func serversFail(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var servers []*modelserver.Server
	var addresses []string
	for i := range 4 {
		s, err := modelserver.Start(ctx, modelserver.Options{Name: fmt.Sprint("s", i), Models: []string{"tiny"}})
		require.NoError(t, err)
		defer s.Close()
		servers = append(servers, s)
		addresses = append(addresses, s.Address())
	}
	gateway, err := newGateway(addresses)
	require.NoError(t, err)
	defer gateway.Close()
	front := httptest.NewServer(gateway.Proxy())
	defer front.Close()

	var served, cutOff atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for c := range 16 {
		clients.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				prompt := strings.Repeat(fmt.Sprintf("client %d request %d ", c, i), 20)
				resp, err := http.Post(front.URL+"/v1/chat/completions", "application/json", strings.NewReader(
					`{"model":"tiny","stream":true,"max_tokens":20,"messages":[{"role":"user","content":"`+prompt+`"}]}`))
				if err != nil {
					t.Errorf("before the first byte: %v", err)
					return
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				switch {
				case err != nil && len(body) > 0:
					cutOff.Add(1)
				case err != nil || resp.StatusCode != 200 || !bytes.HasSuffix(bytes.TrimSpace(body), []byte("data: [DONE]")):
					t.Errorf("status %d, %v, body %q", resp.StatusCode, err, body)
				default:
					served.Add(1)
				}
			}
		})
	}
	waitFor(t, "traffic", func() bool { return served.Load() > 50 && servers[0].Stats().Running > 0 })
	servers[1].HangMetrics(true)
	servers[2].GarbageMetrics(true)
	servers[0].Kill()
	at := served.Load()
	waitFor(t, "traffic without the dead server", func() bool { return served.Load() > at+200 })
	require.NoError(t, servers[0].Restart())
	waitFor(t, "traffic at the restarted server", func() bool { return servers[0].Stats().Requests > 0 })
	close(stop)
	clients.Wait()
	t.Logf("%d served, %d cut off", served.Load(), cutOff.Load())
	if cutOff.Load() > 16 {
		t.Errorf("%d responses were cut off, more than there were streams at the server that died", cutOff.Load())
	}
}

func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 1000 {
		if is() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("waited 10 s for %s", what)
}
