package e2e_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var chaos = flag.Int("chaos", 3000, "how many requests TestTrailersUnderLoad sends")

// chaosRequest is a request whose kind and body follow from its number, which is its id:
// a server knows what it should have got.
type chaosRequest int

func (n chaosRequest) path() string {
	if n%4 == 1 {
		return "/v1/files"
	}
	return "/v1/chat/completions"
}

// bodies returns what a client sends and what a server is to get.
func (n chaosRequest) bodies() (sent, want string) {
	switch n % 4 {
	case 1:
		body := strings.Repeat(smuggled, int(n%7)) // is a request, or some
		return body, body
	case 2:
		return chatBody(2000 + int(n%5000)), routedBody(2000 + int(n%5000)) // 10 to 35 KB
	}
	return chatBody(int(n % 50)), routedBody(int(n % 50))
}

func (n chaosRequest) trailers() bool { return n%3 != 0 }
func (n chaosRequest) http2() bool    { return n%2 == 0 }
func (n chaosRequest) givesUp() bool  { return n%23 == 5 }

// first is what the first server that gets it does.
func (n chaosRequest) first() reaction {
	switch {
	case n%10 == 7:
		return refuses
	case n%41 == 3:
		return hangsUp
	}
	return serves
}

// chaosServers hold what they get against what they should.
type chaosServers struct {
	mu       sync.Mutex
	attempts map[chaosRequest]int // guarded by mu
	wrong    []string             // guarded by mu
}

func (c *chaosServers) react(q *rawRequest) reaction {
	number, err := strconv.Atoi(q.id())
	n := chaosRequest(number)
	_, want := n.bodies()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || q.line != "POST "+n.path()+" HTTP/1.1" || q.body != want {
		c.wrong = append(c.wrong, fmt.Sprintf("request %s: %q with %d bytes, want %d: %.100q", q.id(), q.line, len(q.body), len(want), q.body))
		return serves
	}
	if c.attempts[n]++; c.attempts[n] == 1 {
		return n.first()
	}
	return serves
}

// TestTrailersUnderLoad: requests with and without trailers, over HTTP/1 and HTTP/2, some of
// which are refused, broken off or given up: whatever a server gets is one of them, whole,
// and no more often than it was sent.
//
//	go test ./e2e -run TestTrailersUnderLoad -chaos 100000 -timeout 15m -v
func TestTrailersUnderLoad(t *testing.T) {
	for _, v := range adapters {
		t.Run(v.name, func(t *testing.T) {
			const clients = 32
			check := &chaosServers{attempts: map[chaosRequest]int{}}
			var servers []*rawServer
			var addresses []string
			for range 3 {
				s := newRawServer(t, check.react)
				servers, addresses = append(servers, s), append(addresses, s.address)
			}
			r := newRig(t, rigOptions{bootstrap: v.bootstrap, inShort: true, envoy: http1Trailers, servers: addresses})
			// Envoy closes a connection on which more than about 33 requests a second are given up for long.
			var h2 []*http.Client
			for range 1 + *chaos/10_000 {
				h2 = append(h2, h2Client(t))
			}
			var next, retried, gone, lost atomic.Int64
			start := time.Now()
			var wg sync.WaitGroup
			for range clients {
				wg.Go(func() {
					for i := next.Add(1); i <= int64(*chaos); i = next.Add(1) {
						n := chaosRequest(i)
						client := r.client
						if n.http2() {
							client = h2[int(n)/2%len(h2)]
						}
						status, err := n.send(t.Context(), client, r.url)
						check.mu.Lock()
						attempts := check.attempts[n]
						check.mu.Unlock()
						switch {
						case n.givesUp():
							gone.Add(1)
						case n.first() == hangsUp && status == 503 && attempts == 1:
							lost.Add(1) // which is not retried: it may have been served
						case err != nil || status != 200:
							t.Errorf("request %d: %d, %v after %d attempts", n, status, err, attempts)
						case n.first() == refuses && attempts != 2 || n.first() == serves && attempts != 1:
							t.Errorf("request %d was sent to servers %d times", n, attempts)
						case attempts == 2:
							retried.Add(1)
						}
					}
				})
			}
			wg.Wait()
			took := time.Since(start)
			r.settled()
			r.stopEnvoy() // what it still had to send it has sent
			desyncs := check.wrong
			for _, s := range servers {
				s.close()
				desyncs = append(desyncs, s.broken...)
			}
			for i, d := range desyncs {
				if i == 10 {
					break
				}
				t.Error(d)
			}
			t.Logf("%d requests in %v: %d desyncs, %d retried, %d clients gave up, %d lost with their server", *chaos, took, len(desyncs), retried.Load(), gone.Load(), lost.Load())
			if retried.Load() < int64(*chaos)/20 {
				t.Errorf("%d requests were retried, want about a tenth", retried.Load())
			}
		})
	}
}

// send sends it and returns the status of the answer.
func (n chaosRequest) send(ctx context.Context, client *http.Client, url string) (int, error) {
	if n.givesUp() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(rand.IntN(4000))*time.Microsecond)
		defer cancel()
	}
	sent, _ := n.bodies()
	var body io.Reader = strings.NewReader(sent)
	if n.trailers() && n%5 != 0 {
		body = io.MultiReader(body) // of unknown length
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+n.path(), body)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Test-Id", strconv.Itoa(int(n)))
	if n.trailers() && req.ContentLength <= 0 && sent != "" || n.trailers() && n.http2() && sent != "" {
		req.Trailer = http.Header{"X-T": {"1"}}
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode == 200 && string(text) != answer && string(text) != restored {
		err = errors.New("the answer is wrong: " + string(text))
	}
	return resp.StatusCode, err
}
