// Package source tests datastore/kubernetes with real API servers, and with requests that go
// through a gateway of the library to pods that are simulated model servers.
package source

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/integration/kubernetes/cluster"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling/gateway"
	"github.com/inferpick/inferpick/scheduling/simulation/modelserver"
	"github.com/inferpick/inferpick/types"
)

func TestMain(m *testing.M) { os.Exit(cluster.Run(m)) }

// own starts a server of the test's own. In short, as with the race detector, one that all share
// must do: what happens to a source meanwhile is tested with fakes there.
func own(t *testing.T) *cluster.Server {
	t.Helper()
	if testing.Short() {
		t.Skip("needs an API server of its own")
	}
	return cluster.Start(t)
}

// patience is how long tests wait for what should take milliseconds.
const patience = 30 * time.Second

// manifests are a pool of the pods with the label app=llama, and the model chat of it.
const manifests = `
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: llama}
spec: {selector: {matchLabels: {app: llama}}, targetPorts: [{number: 8000}]}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: chat}
spec: {modelName: chat, poolRef: {name: llama}, targetModels: [{name: llama-8b}]}
`

// podOptions are those of a pod of the pool.
func podOptions(namespace string) cluster.PodOptions {
	return cluster.PodOptions{
		Namespace: namespace, Labels: map[string]string{"app": "llama"},
		Model: modelserver.Options{Models: []string{"llama-8b"}, TimeScale: 10},
	}
}

// quick is how tests would have options: they wait for what is missing no longer than need be.
func quick(o kubernetes.Options) kubernetes.Options {
	o.Refresh, o.MinRetry, o.MaxRetry = 100*time.Millisecond, 50*time.Millisecond, 500*time.Millisecond
	return o
}

// gatewayOf is a gateway that sources feed.
type gatewayOf struct {
	*gateway.Gateway
	url string
}

func newGateway(t *testing.T) *gatewayOf {
	t.Helper()
	g, err := gateway.New(gateway.Options{Profile: plugins.Default()})
	require.NoError(t, err)
	var running sync.WaitGroup
	running.Go(func() { _ = g.Run(t.Context()) })
	server := httptest.NewServer(g.Proxy())
	t.Cleanup(func() {
		server.Close()
		g.Close()
		running.Wait()
	})
	return &gatewayOf{g, server.URL}
}

// follow starts a source that feeds the gateway until the end of the test.
func (g *gatewayOf) follow(t *testing.T, config *rest.Config, o kubernetes.Options) *kubernetes.Source {
	t.Helper()
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	source, err := kubernetes.New(config, o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- source.Run(ctx, g.Store) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	return source
}

// synced waits for a source.
func synced(t *testing.T, source *kubernetes.Source) {
	t.Helper()
	select {
	case <-source.Synced():
	case <-time.After(patience):
		require.Fail(t, "not synced", "%+v", source.Kinds())
	}
}

// endpoints returns those of a pool: name and state. Nil: there is no such pool.
func (g *gatewayOf) endpoints(namespace string) map[string]types.State {
	pool := g.Store.Snapshot().Pool(types.NamespacedName{Namespace: namespace, Name: "llama"})
	if pool == nil {
		return nil
	}
	states := make(map[string]types.State)
	for _, e := range pool.Endpoints() {
		states[e.ID] = e.State
	}
	return states
}

// has waits until the pool has so many endpoints.
func (g *gatewayOf) has(t *testing.T, namespace string, n int) {
	t.Helper()
	cluster.Eventually(t, patience, func() error {
		if found := g.endpoints(namespace); len(found) != n {
			return fmt.Errorf("endpoints are %v, want %d", found, n)
		}
		return nil
	})
}

// serves waits until a server gets a request that it had not before.
func serves(t *testing.T, server *modelserver.Server) time.Duration {
	t.Helper()
	begun, before := time.Now(), server.Stats().Requests
	cluster.Eventually(t, patience, func() error {
		if server.Stats().Requests == before {
			return errors.New("no request came to " + server.Name())
		}
		return nil
	})
	return time.Since(begun)
}

// load is clients that send requests for the model chat, one after the other.
type load struct {
	sent    atomic.Int64
	stop    context.CancelFunc
	clients sync.WaitGroup
	mu      sync.Mutex
	failed  int
	errs    []error // the first few
}

// load starts clients. Every second answer is a stream.
func (g *gatewayOf) load(t *testing.T, model string, clients int) *load {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	l := &load{stop: stop}
	for i := range clients {
		l.clients.Go(func() {
			for n := i; ctx.Err() == nil; n++ {
				if err := ask(g.url, model, n%2 == 0); err != nil {
					l.fail(err)
				}
				l.sent.Add(1)
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	t.Cleanup(func() { l.end() })
	return l
}

func (l *load) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed++; l.failed <= 5 {
		l.errs = append(l.errs, fmt.Errorf("request %d: %w", l.sent.Load(), err))
	}
}

// end stops the clients and returns what went wrong.
func (l *load) end() error {
	l.stop()
	l.clients.Wait()
	if l.failed > 0 {
		return fmt.Errorf("%d of %d requests failed, at first: %w", l.failed, l.sent.Load(), errors.Join(l.errs...))
	}
	return nil
}

// ask sends a request and reads the whole answer.
func ask(url, model string, stream bool) error {
	body := fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"Hi"}],"max_tokens":20,"ignore_eos":true,"stream":%v}`, model, stream)
	response, err := http.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(body))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(response.Body)
		return fmt.Errorf("%s of %s: %s", response.Status, response.Header.Get("X-Sim-Server"), text)
	}
	last := ""
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if line := lines.Text(); line != "" {
			last = line
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("from %s: %w", response.Header.Get("X-Sim-Server"), err)
	}
	if complete := stream && last == "data: [DONE]" || !stream && strings.Contains(last, `"completion_tokens":20`); !complete {
		return fmt.Errorf("from %s: the answer ends with %q", response.Header.Get("X-Sim-Server"), last)
	}
	return nil
}
