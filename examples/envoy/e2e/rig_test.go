// Package e2e tests the picker with a real Envoy, beside it and inside of it: nothing between a client and a model
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
	"testing"
	"time"

	"github.com/inferpick/inferpick/examples/envoy/e2e/testmodule/control"
	"github.com/inferpick/inferpick/examples/envoy/envoyproxy"
	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/examples/envoy/internal/logbuffer"
	"github.com/inferpick/inferpick/examples/envoy/internal/samplepool"
	"github.com/stretchr/testify/require"
)

// Configurations of Envoy.
const (
	overrideHost = "../envoy.yaml"
	originalDst  = "../envoy-original-dst.yaml"
	others       = "testdata/others.yaml"
	inside       = "../envoy-module.yaml" // with the picker inside
)

// adapters are the ways in which Envoy and the picker meet.
var adapters = []variant{{"ext_proc", overrideHost, nil}, {"module", inside, nil}}

// variant is one way of using a configuration of Envoy.
type variant struct {
	name      string
	bootstrap string
	envoy     func(*testing.T, *envoyproxy.Bootstrap)
}

// rigOptions say what a rig is made of. Where bootstrap has the module's filter, that is the adapter.
type rigOptions struct {
	inShort   bool   // it is run in short too, where the race detector is
	bootstrap string // default overrideHost
	envoy     func(*testing.T, *envoyproxy.Bootstrap)
	flags     map[string]any     // of the picker, by name
	picker    func(*epp.Options) // of the picker outside alone
	args      []string           // further ones of Envoy
	shipped   bool               // the module is the one that is shipped, of which views and state are not known
	config    string             // documents beside the pool, the model chat and the endpoints
	servers   []string
}

// rig is servers, a picker and Envoy.
type rig struct {
	t       *testing.T
	options rigOptions
	folder  string // of the picker's configuration
	url     string // of Envoy
	envoy   *envoyproxy.Process
	log     logbuffer.Buffer // of Envoy
	client  *http.Client

	stopped  bool   // Envoy was
	observed        // the picker, wherever it is
	picker   *outer // nil: it is inside
}

// observed is what can be learned of a picker.
type observed interface {
	// view and views return what it saw of the sessions that a test gives each request.
	view(session string) control.View
	views() map[string]control.View
	resetViews()
	// state returns how it is, with the heap after garbage was collected where that is asked for.
	state(heap bool) control.State
}

// newRig starts everything and ends it with the test.
func newRig(t *testing.T, o rigOptions) *rig {
	t.Helper()
	if testing.Short() && !o.inShort {
		t.Skip("one request after the other through Envoy is not for short")
	}
	bin := findEnvoy(t)
	if o.bootstrap == "" {
		o.bootstrap = overrideHost
	}
	r := &rig{t: t, options: o, folder: t.TempDir()}
	r.configure(o.servers...)
	b, err := envoyproxy.ReadBootstrap(o.bootstrap)
	require.NoError(t, err)
	for _, err := range []error{b.Listen("127.0.0.1:0", "127.0.0.1:0"), b.Servers(o.servers...)} {
		require.NoError(t, err)
	}
	start := envoyproxy.StartOptions{Bin: bin, Bootstrap: b, Concurrency: 2, Log: &r.log, Args: o.args}
	if b.HasModule() {
		r.inside(&start)
	} else {
		r.outside(b)
	}
	if o.envoy != nil {
		o.envoy(t, b)
	}
	r.envoy, err = envoyproxy.Start(context.Background(), start)
	require.NoError(t, err)
	t.Cleanup(r.stopEnvoy)
	r.url = r.envoy.URL()
	transport := &http.Transport{MaxIdleConnsPerHost: 256}
	r.client = &http.Client{Transport: transport, Timeout: 30 * time.Second}
	t.Cleanup(transport.CloseIdleConnections)
	return r
}

// findEnvoy returns Envoy's binary.
func findEnvoy(t *testing.T) string {
	t.Helper()
	bin, err := envoyproxy.Find("..")
	if errors.Is(err, envoyproxy.ErrNotFound) {
		t.Skipf("skipped: %v", err)
	}
	require.NoError(t, err)
	return bin
}

// stopEnvoy ends Envoy, which must not have ended by itself, and not by a panic.
func (r *rig) stopEnvoy() {
	r.t.Helper()
	select {
	case <-r.envoy.Done():
		if !r.stopped {
			r.t.Errorf("Envoy has ended by itself:\n%s", &r.log)
		}
	default:
	}
	r.stopped = true
	r.envoy.Stop()
	if text := r.log.String(); strings.Contains(text, "Caught Aborted") || strings.Contains(text, "Caught Segmentation") || strings.Contains(text, "fatal error:") {
		r.t.Errorf("Envoy has crashed:\n%s", text)
	}
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

// settled fails the test unless nothing is booked any more.
func (r *rig) settled() {
	r.t.Helper()
	var s control.State
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if s = r.state(false); s.Booked == 0 && s.Open == 0 && s.Exchanges == 0 {
			return
		}
	}
	r.t.Fatalf("%d requests are booked, %d decisions and %d exchanges open", s.Booked, s.Open, s.Exchanges)
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
