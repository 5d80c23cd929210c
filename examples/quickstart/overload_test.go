package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/simulation/modelserver"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// pipes is a listener for connections within the process. Ten thousand clients at one
// time need twice as many file descriptors on loopback, which few machines allow.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
}

func newPipes() *pipes {
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.closed) })
	return p
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.close(); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// crowd is a number of clients of one gateway.
type crowd struct {
	http *http.Client
	wg   sync.WaitGroup
	n    int // clients so far

	mu      sync.Mutex
	ended   int
	answers map[string]int // by status and reason
	wrong   []string
}

// add starts a client of a model, which ends when ctx is done.
func (c *crowd) add(ctx context.Context, model string) {
	c.n++
	tenant := tenantName(1 + c.n%tenants)
	stream := c.n%4 == 0
	c.wg.Go(func() {
		answer, err := c.do(ctx, model, tenant, stream)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.ended++
		c.answers[answer]++
		if err != nil && len(c.wrong) < 10 {
			c.wrong = append(c.wrong, fmt.Sprintf("%s: %s: %v", model, answer, err))
		}
	})
}

// do makes a request and returns what it came to. The error is what must not be.
func (c *crowd) do(ctx context.Context, model, tenant string, stream bool) (string, error) {
	body, _ := json.Marshal(map[string]any{
		"model": model, "max_tokens": 8, "stream": stream, "messages": []message{{"user", "hi"}},
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://gateway/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set(director.HeaderFairness, tenant)
	resp, err := c.http.Do(req)
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return "disconnected", nil
		}
		return "no answer", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case errors.Is(err, context.Canceled):
		return "disconnected", nil
	case err != nil:
		return "cut off", err
	case resp.StatusCode == http.StatusOK:
		if stream && !bytes.Contains(text, []byte("[DONE]")) {
			return "200", fmt.Errorf("the answer is %.200q", text)
		}
		return "200", nil
	}
	reason := admission.Reason(resp.Header.Get(director.HeaderReason))
	answer := fmt.Sprintf("%d %s", resp.StatusCode, reason)
	if !bytes.Contains(text, []byte(`"code":"`+string(reason)+`"`)) {
		return answer, fmt.Errorf("the body is %s", text)
	}
	retry, retryErr := strconv.Atoi(resp.Header.Get("Retry-After"))
	switch resp.StatusCode {
	case http.StatusTooManyRequests:
		if reason.Unavailable() || !slices.Contains(admission.Reasons(), reason) || retryErr != nil || retry < 1 {
			return answer, fmt.Errorf("Retry-After is %q", resp.Header.Get("Retry-After"))
		}
	case http.StatusServiceUnavailable:
		if reason != admission.NoEndpoint && reason != admission.Closed {
			return answer, errors.New("that is no reason")
		}
	default:
		return answer, fmt.Errorf("the body is %s", text)
	}
	return answer, nil
}

// count returns how many answers there were of a kind.
func (c *crowd) count(answer string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answers[answer]
}

// eventually waits for what must come on any machine.
func eventually(t *testing.T, what string, good func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !good(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not after %v", what, patience)
		}
	}
}

// TestTrapManyClients: of a crowd in front of a full pool half goes away while it waits,
// then all servers vanish, and at last the gateway shuts down. Every client that stays
// gets a proper answer, and nothing is left of any.
func TestTrapManyClients(t *testing.T) {
	clients := 10_000
	if raceEnabled || testing.Short() {
		clients = 1500
	}
	lag := clients / 2
	http.DefaultClient.CloseIdleConnections()
	before := runtime.NumGoroutine()

	// One slow server to begin with, and fast ones for later.
	cfg := testConfig(t, "-endpoints", "1")
	cfg.timeScale = 0.25
	f, err := startFleet(t.Context(), cfg, cfg.policy)
	require.NoError(t, err)
	slow := []datastore.EndpointSpec{{ID: f.servers[0].Name(), Address: f.servers[0].Address(), Engine: "vllm"}}
	all := slices.Clone(slow)
	for i := range 3 {
		s, err := modelserver.Start(t.Context(), modelserver.Options{
			Name: fmt.Sprintf("fast-%d", i+1), Models: []string{baseModel}, Adapters: adapters(), Calibration: smallGPU(), MaxSeqs: 64, TimeScale: 20,
		})
		require.NoError(t, err)
		f.servers = append(f.servers, s)
		all = append(all, datastore.EndpointSpec{ID: s.Name(), Address: s.Address(), Engine: "vllm"})
	}
	setEndpoints := func(specs []datastore.EndpointSpec) {
		require.NoError(t, f.Store.SetEndpoints(pool(), specs))
	}
	setEndpoints(all)
	f.waitForReadings(t.Context())
	loads := f.endpoints()
	setEndpoints(slow)
	loads = append(loads, f.endpoints()...)

	ln := newPipes()
	g := startFront(f.Gateway, ln, nil)
	control, err := f.Director.Admission(pool())
	require.NoError(t, err)
	transport := &http.Transport{DialContext: ln.dial, MaxIdleConnsPerHost: clients, DisableCompression: true}
	c := &crowd{http: &http.Client{Transport: transport}, answers: map[string]int{}}
	// Those that the gateway has not seen yet: not all that go away get that far.
	outside := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		f.log.mu.Lock()
		defer f.log.mu.Unlock()
		return c.n - c.ended - len(f.log.open)
	}

	// They come faster than one server serves them. Every second one goes away when lag
	// others have come after it.
	models := [...]string{"chat", "chat", "llama-8b", "llama-8b", "sql-writer", "llama-8b", "contract-reader", "batch", "batch", "batch"}
	var leave []context.CancelFunc
	for i := range clients {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		c.add(ctx, models[i%len(models)])
		if i%2 == 0 {
			leave = append(leave, cancel)
		}
		if gone := (i - lag) / 2; i%2 == 0 && i >= lag {
			leave[gone]()
		}
		eventually(t, "they arrive", func() bool { return outside() < lag/10 })
	}
	eventually(t, "all arrive", func() bool { return outside() <= 0 })
	most := control.Stats().Queued
	for _, cancel := range leave {
		cancel()
	}
	eventually(t, "their places are free", func() bool { return outside() == 0 })
	t.Logf("%d clients, of which %d waited at one time; now %+v", c.n, most, control.Stats())

	// More servers, until a part of those that stayed has been served.
	waiting := control.Stats().Queued
	setEndpoints(all)
	loads = append(loads, f.endpoints()...)
	eventually(t, "they are served", func() bool { return control.Stats().Queued <= waiting*3/4 })
	if n := c.count("503 no_endpoint"); n != 0 {
		t.Errorf("%d were told that there is no endpoint while there was", n)
	}

	// The slow one alone again, so that many wait whatever the fast ones took; and none.
	setEndpoints(slow)
	for n := 0; n < 50 || control.Stats().Queued < 100; n++ {
		require.Less(t, n, 5000, "they do not have to wait")
		c.add(t.Context(), "llama-8b")
		eventually(t, "they arrive", func() bool { return outside() < lag/10 })
	}
	setEndpoints(nil)
	for range 20 {
		c.add(t.Context(), "chat")
	}
	c.wg.Wait()
	if n := c.count("503 no_endpoint"); n <= 20 {
		t.Errorf("%d were told that there is no endpoint, of 20 that came and at least 100 that waited then", n)
	}

	// The slow one is back, fills up, and the gateway is shut down.
	setEndpoints(slow)
	loads = append(loads, f.endpoints()...)
	for range 400 {
		c.add(t.Context(), "llama-8b")
	}
	eventually(t, "some wait", func() bool { return outside() <= 0 && control.Stats().Queued > 0 })
	if n := c.count("503 shutting_down"); n != 0 {
		t.Errorf("%d were told of a shutdown before there was one", n)
	}
	f.refuseWaiting()
	c.wg.Wait()
	t.Logf("answers: %v", c.answers)

	for _, w := range c.wrong {
		t.Errorf("wrong answer: %s", w)
	}
	if n := c.count("503 shutting_down"); n == 0 {
		t.Error("nobody was told of the shutdown")
	}
	if n := c.count("disconnected"); n < clients/10 {
		t.Errorf("%d disconnected, want at least %d: the pool was not full", n, clients/10)
	}

	// Nothing is left.
	eventually(t, "all slots are back", func() bool {
		s := control.Stats()
		left := s.Queued
		for _, b := range s.Bands {
			left += b.Running
		}
		return left == 0
	})
	eventually(t, "the ledgers are empty", func() bool {
		return !slices.ContainsFunc(loads, func(ep *types.Endpoint) bool {
			return ep.Load.Requests() != 0 || ep.Load.PrefillTokens() != 0 || ep.Load.ContextTokens() != 0
		}) && f.Scheduler.Open() == 0
	})
	counted := uint64(0)
	for _, b := range control.Stats().Bands {
		counted += b.Dispatched + b.Cancelled
		for n := range maps.Values(b.Refused) {
			counted += n
		}
	}
	if counted > uint64(c.n) || counted < uint64(c.n)*8/10 { // some went away before the gateway saw them
		t.Errorf("%d were let in, refused or went away, of %d", counted, c.n)
	}
	if s := control.Stats(); s.Bytes != 0 {
		t.Errorf("%d bytes wait", s.Bytes)
	}
	f.log.mu.Lock()
	if n := len(f.log.open); n != 0 {
		t.Errorf("%d requests are open in the log", n)
	}
	f.log.mu.Unlock()

	transport.CloseIdleConnections()
	done, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	g.shutdown(done)
	f.close()
	http.DefaultClient.CloseIdleConnections()
	for end := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
		}
	}
}
