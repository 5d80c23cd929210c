package app_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/kubernetes/kubernetestest"
	"github.com/inferpick/inferpick/examples/kubernetes/app"
	"github.com/inferpick/inferpick/scheduling/simulation/modelserver"
)

const chat = `
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata:
  name: chat
  namespace: app
  annotations:
    inferpick.dev/rollout: |
      {"stable": "v1", "canary": "v2", "minRequests": 10, "steps": [{"setWeight": 50}, {"setWeight": 100}],
       "metrics": [{"name": "errors", "maxRise": 40}], "load": {"source": "/adapters/v2"}}
spec: {modelName: chat, poolRef: {name: llama}, targetModels: [{name: v1}]}
`

// TestRollout: an annotation moves the traffic of a model to another adapter; clients cannot load adapters, and commands
// are refused where everybody could give them.
func TestRollout(t *testing.T) {
	server, err := modelserver.Start(t.Context(), modelserver.Options{Models: []string{"llama-8b"}, Adapters: []string{"v1"}, TimeScale: 50})
	require.NoError(t, err)
	t.Cleanup(server.Close)
	to, err := url.Parse(server.URL())
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(to)
	r := newRigWith(t, proxy.ServeHTTP, func(o *app.Options) { o.Rollouts = "auto" },
		classes, gateways, routes, namespaces, kubernetestest.Services, kubernetestest.Pods, kubernetestest.Leases, kubernetestest.Events, kubernetestest.PoolV1, kubernetestest.Model)
	r.apply(route)
	r.apply(chat)
	deadline := time.Now().Add(30 * time.Second)
	for _, page := ask(r, r.admin, "GET", "/rollouts", ""); !strings.Contains(page, `"phase":"Done"`); _, page = ask(r, r.admin, "GET", "/rollouts", "") {
		require.True(t, time.Now().Before(deadline), page)
		ask(r, r.port, "POST", "/v1/completions", `{"model": "chat", "prompt": "hi", "max_tokens": 2}`)
	}
	o := r.api.Get(kubernetestest.Model, "app", "chat")
	require.Equal(t, []any{map[string]any{"name": "v2", "weight": 10000.0}}, o["spec"].(map[string]any)["targetModels"])

	for _, path := range []string{"/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/load_lora_adapter", "/unload_lora_adapter"} {
		status, _ := ask(r, r.port, "POST", path, `{"lora_name": "v2", "lora_path": "/x"}`)
		require.Equal(t, http.StatusForbidden, status, path)
	}
	status, text := ask(r, r.admin, "POST", "/rollouts/app/InferenceModel/chat/abort", "")
	require.Equal(t, http.StatusForbidden, status, text)
}

func ask(r *rig, port int, method, path, body string) (int, string) {
	r.Helper()
	req, err := http.NewRequest(method, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), strings.NewReader(body))
	require.NoError(r, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error() // it does not listen yet
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	require.NoError(r, err)
	return resp.StatusCode, string(data)
}
