package deploy_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/integration/engines/process"
	"github.com/inferpick/inferpick/integration/kubernetes/cluster"
	"github.com/inferpick/inferpick/scheduling/simulation/modelserver"
)

// rig is a rendered standalone picker that runs: a client of the official library talks to the
// real Envoy, that asks the picker, that knows what the API server says.
type rig struct {
	server *cluster.Server
	ns     string
	picker *picker
	url    string // of Envoy
	ready  string // what the kubelet asks
	client openai.Client
}

// newRig installs the chart, and runs what its pod would run.
func newRig(t *testing.T, texts ...string) *rig {
	t.Helper()
	bin := envoy(t)
	s := server(t)
	r := &rig{server: s, ns: s.Namespace(t)}
	objects := renderIn(t, r.ns, append([]string{needed, `{proxy: {enabled: true}}`}, texts...)...)
	account := s.ServiceAccount(t, r.ns, "llama-epp")
	install(t, s, objects)
	r.picker = startPicker(t, s, account, objects, "-drain-delay=2s", "-drain-timeout=15s")
	r.picker.listens(t)

	var bootstrap string
	for _, o := range objects {
		if o.id() == "ConfigMap llama-epp-proxy" {
			bootstrap = o.text("data", "envoy.yaml")
		}
	}
	listener, ready, admin := freePort(t), freePort(t), freePort(t)
	_, grpc, err := net.SplitHostPort(r.picker.grpc)
	require.NoError(t, err)
	bootstrap = strings.NewReplacer("0.0.0.0", "127.0.0.1", "port_value: 8081", "port_value: "+listener,
		"port_value: 19001", "port_value: "+ready, "port_value: 19000", "port_value: "+admin, "port_value: 9002", "port_value: "+grpc).Replace(bootstrap)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "envoy.yaml"), []byte(bootstrap), 0o600))
	p, err := process.Start(filepath.Join(dir, "log"), nil, bin, "-c", filepath.Join(dir, "envoy.yaml"), "--log-level", "warning", "--use-dynamic-base-id", "--concurrency", "1")
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Kill() })
	r.url, r.ready = "http://127.0.0.1:"+listener, "http://127.0.0.1:"+ready+"/ready"
	r.client = openai.NewClient(option.WithBaseURL(r.url+"/v1"), option.WithAPIKey("none"), option.WithMaxRetries(0))
	return r
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// pod adds a model server.
func (r *rig) pod(t *testing.T) *cluster.Pod {
	t.Helper()
	return r.server.Pod(t, cluster.PodOptions{Namespace: r.ns, Labels: map[string]string{"app": "llama"}, Model: modelserver.Options{Models: []string{"llama-8b"}}})
}

// chat asks for some tokens, and returns who served it.
func (r *rig) chat(ctx context.Context, model string, tokens int64) (who string, err error) {
	var response *http.Response
	_, err = r.client.Chat.Completions.New(ctx, question(model, tokens), option.WithResponseInto(&response))
	if err != nil {
		return "", err
	}
	return response.Header.Get("x-served-by"), nil
}

func question(model string, tokens int64) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model: model, MaxTokens: openai.Int(tokens),
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Hello")},
	}
}

// TestStandalone: the chart's picker and Envoy serve what the cluster says, from the first pod
// that is ready to the drain at the end, and lose no request.
func TestStandalone(t *testing.T) {
	skipShort(t)
	r := newRig(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	first := r.pod(t)
	cluster.Eventually(t, patience, func() error { _, err := r.chat(ctx, "llama-8b", 1); return err })

	response, err := http.Get(r.ready)
	require.NoError(t, err)
	response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
	models, err := r.client.Models.List(ctx)
	require.NoError(t, err)
	require.Equal(t, "llama-8b", models.Data[0].ID)

	// A public name, by an object of the cluster.
	r.server.Apply(t, r.ns, `
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: chat}
spec: {modelName: chat, poolRef: {name: llama, group: inference.networking.k8s.io}, targetModels: [{name: llama-8b}]}
`)
	cluster.Eventually(t, patience, func() error { _, err := r.chat(ctx, "chat", 1); return err })

	// Pods come and go under load.
	var done atomic.Bool
	var served, failed atomic.Int64
	var last atomic.Value
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for !done.Load() {
				if _, err := r.chat(ctx, "chat", 4); err != nil {
					failed.Add(1)
					last.Store(err)
				} else {
					served.Add(1)
				}
			}
		})
	}
	second := r.pod(t)
	cluster.Eventually(t, patience, func() error {
		if who, err := r.chat(ctx, "chat", 1); err != nil || who != second.IP+":8000" {
			return fmt.Errorf("served by %s, %v", who, err)
		}
		return nil
	})
	require.NoError(t, first.Terminate(ctx, time.Second))
	before := served.Load()
	cluster.Eventually(t, patience, func() error {
		if served.Load() < before+20 {
			return fmt.Errorf("%d served after the pod has gone", served.Load()-before)
		}
		return nil
	})
	done.Store(true)
	clients.Wait()
	require.Zero(t, failed.Load(), "of %d; the last: %v", served.Load(), last.Load())
	t.Logf("%d requests", served.Load())

	r.drains(ctx, t)
}

// drains: a picker that ends serves while clients have not noticed, and lets a stream finish.
func (r *rig) drains(ctx context.Context, t *testing.T) {
	t.Helper()
	stream := r.client.Chat.Completions.NewStreaming(ctx, question("chat", 400), option.WithJSONSet("ignore_eos", true)) // longer than the delay
	require.True(t, stream.Next(), "%v", stream.Err())
	ended := make(chan error, 1)
	go func() { ended <- r.picker.Close() }()
	r.picker.says(t, "draining")
	_, err := r.chat(ctx, "chat", 1)
	require.NoError(t, err, "a request in the delay")
	var all openai.ChatCompletionAccumulator
	for stream.Next() {
		all.AddChunk(stream.Current())
	}
	require.NoError(t, stream.Err())
	require.Len(t, all.Choices, 1)
	require.Equal(t, "length", all.Choices[0].FinishReason)
	require.NoError(t, <-ended)
	_, err = r.chat(ctx, "chat", 1)
	require.Error(t, err, "nobody is there to ask")
}

// TestStandaloneWithoutPool: without an InferencePool the picker finds pods by their labels.
func TestStandaloneWithoutPool(t *testing.T) {
	skipShort(t)
	r := newRig(t, `{inferenceExtension: {endpointsServer: {createInferencePool: false, endpointSelector: "app=llama"}}}`)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	pod := r.pod(t)
	cluster.Eventually(t, patience, func() error { _, err := r.chat(ctx, "llama-8b", 1); return err })
	who, err := r.chat(ctx, "llama-8b", 1)
	require.NoError(t, err)
	require.Equal(t, pod.IP+":8000", who)
	require.NotContains(t, r.picker.log(), "is forbidden", "it is refused nothing")
}
