// Package e2e tests the picker with a real Envoy: nothing between a client and a model
// server is simulated but the server. Where Envoy is not to be had the tests are
// skipped, and say so.
package e2e_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inferpick/inferpick/examples/envoy/envoyproxy"
	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/examples/envoy/internal/samplepool"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/stretchr/testify/require"
)

const (
	overrideHost = "../envoy.yaml"
	originalDst  = "../envoy-original-dst.yaml"
	others       = "testdata/others.yaml"
)

// rigOptions say what a rig is made of.
type rigOptions struct {
	inShort   bool   // it is run in short too, where the race detector is
	bootstrap string // default overrideHost
	envoy     func(*testing.T, *envoyproxy.Bootstrap)
	picker    func(*epp.Options)
	config    string // documents beside the pool, the model chat and the endpoints
	servers   []string
}

// rig is servers, a picker and Envoy.
type rig struct {
	t       *testing.T
	options rigOptions
	folder  string // of the picker's configuration
	url     string // of Envoy
	envoy   *envoyproxy.Process
	client  *http.Client

	picker *runningPicker
	views  *views
}

// views are what the picker saw, by the session that a test gives each request: Envoy makes
// request ids of its own for clients from outside.
type views struct {
	mu     sync.Mutex
	chosen map[string]string // the first choice
	served map[string]string
}

func (v *views) reset() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.chosen, v.served = map[string]string{}, map[string]string{}
}

func (v *views) of(id string) (chosen, served string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.chosen[id], v.served[id]
}

type runningPicker struct {
	app  *epp.App
	stop func() error // drains and returns Run's error
}

// newRig starts everything and ends it with the test.
func newRig(t *testing.T, o rigOptions) *rig {
	t.Helper()
	if testing.Short() && !o.inShort {
		t.Skip("one request after the other through Envoy is not for short")
	}
	bin, err := envoyproxy.Find("..")
	if errors.Is(err, envoyproxy.ErrNotFound) {
		t.Skipf("skipped: %v", err)
	}
	require.NoError(t, err)
	if o.bootstrap == "" {
		o.bootstrap = overrideHost
	}
	r := &rig{t: t, options: o, folder: t.TempDir(), views: new(views)}
	r.views.reset()
	r.configure(o.servers...)
	r.startPicker("127.0.0.1:0")
	t.Cleanup(func() {
		if err := r.picker.stop(); err != nil {
			t.Errorf("the picker ended with %v", err)
		}
	})

	b, err := envoyproxy.ReadBootstrap(o.bootstrap)
	require.NoError(t, err)
	for _, err := range []error{b.Listen("127.0.0.1:0", "127.0.0.1:0"), b.Picker(r.picker.app.Address()), b.Servers(o.servers...)} {
		require.NoError(t, err)
	}
	if o.envoy != nil {
		o.envoy(t, b)
	}
	r.envoy, err = envoyproxy.Start(context.Background(), envoyproxy.StartOptions{Bin: bin, Bootstrap: b, Concurrency: 2})
	require.NoError(t, err)
	t.Cleanup(r.envoy.Stop)
	r.url = r.envoy.URL()
	transport := &http.Transport{MaxIdleConnsPerHost: 256}
	r.client = &http.Client{Transport: transport, Timeout: 30 * time.Second}
	t.Cleanup(transport.CloseIdleConnections)
	return r
}

// configure writes the picker's configuration.
func (r *rig) configure(servers ...string) {
	r.t.Helper()
	text := samplepool.YAML(servers, r.options.config)
	// As a mounted ConfigMap does: the new version takes the place of the old one at
	// once.
	path := filepath.Join(r.folder, "config.yaml")
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		r.t.Fatal(err)
	}
}

// startPicker starts a picker at an address.
func (r *rig) startPicker(address string) {
	r.t.Helper()
	o := epp.Options{
		Config: r.folder, ReloadInterval: 20 * time.Millisecond, GRPCAddr: address, HealthAddr: "127.0.0.1:0", MetricsAddr: "127.0.0.1:0",
		DrainTimeout: time.Second,
		OnRoute: func(route *director.Route) {
			r.views.mu.Lock()
			defer r.views.mu.Unlock()
			r.views.chosen[route.Request.SessionID] = route.Endpoint().Address
		},
		OnServed: func(route *director.Route, address string) {
			r.views.mu.Lock()
			defer r.views.mu.Unlock()
			r.views.served[route.Request.SessionID] = address
		},
	}
	if r.options.picker != nil {
		r.options.picker(&o)
	}
	app, err := epp.New(o)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx) }()
	r.picker = &runningPicker{app, sync.OnceValue(func() error {
		cancel()
		return <-ended
	})}
}

// settled fails the test unless nothing is booked any more.
func (r *rig) settled() {
	r.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		booked := 0
		for _, p := range r.picker.app.Store().Snapshot().Pools() {
			for _, ep := range p.Endpoints() {
				booked += int(ep.Load.Requests())
			}
		}
		if booked == 0 && r.picker.app.Open() == 0 {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%d requests are booked, %d decisions open", booked, r.picker.app.Open())
		}
	}
}

// post sends a chat request of n words and returns the response with its body read.
func (r *rig) post(ctx context.Context, words int, header ...string) (*http.Response, string, error) {
	return r.do(ctx, "/v1/chat/completions", chatBody(words), header...)
}

func (r *rig) do(ctx context.Context, path, body string, header ...string) (*http.Response, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+path, strings.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp, string(data), err
}

func chatBody(words int) string {
	return `{"model": "chat", "messages": [{"role": "user", "content": "` + strings.Repeat("word ", words) + `"}], "seed": 12345678901234567890}`
}

func routedBody(words int) string { return strings.Replace(chatBody(words), `"chat"`, `"llama-8b"`, 1) }

// answer is what a server without a model says.
const answer = `{"id": "1", "object": "chat.completion", "model": "llama-8b", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}}`

const restored = `{"id": "1", "object": "chat.completion", "model": "chat", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}}`

// serve starts a server on loopback and returns its address.
func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// answering is a server that reads the request and says the answer.
func answering(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/json")
	io.WriteString(w, answer)
}

// unused returns an address that nobody listens at.
func unused(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	return ln.Addr().String()
}
