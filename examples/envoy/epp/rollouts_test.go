package epp_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/stretchr/testify/require"

	fake "github.com/inferpick/inferpick/datastore/kubernetes/kubernetestest"
	"github.com/inferpick/inferpick/datastore/kubernetes/lease"
	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/scheduling/simulation/modelserver"
)

// soon is a plan for which few requests are enough.
const soon = `{"stable": "v1", "canary": "v2", "minRequests": 10, "steps": [{"setWeight": 50}, {"setWeight": 100}],
	"metrics": [{"name": "errors", "maxRise": 40}], "load": {"source": "/adapters/v2"}}`

// newModelServer is one with the adapter v1, at a port, or any if that is 0.
func newModelServer(t *testing.T, port int) *modelserver.Server {
	t.Helper()
	for i := range 100 {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.8.%d.%d:%d", time.Now().UnixNano()%250, i+1, port))
		if err != nil {
			continue
		}
		s, err := modelserver.Start(t.Context(), modelserver.Options{Models: []string{"llama-8b"}, Adapters: []string{"v1"}, Listener: ln})
		must(t, err)
		t.Cleanup(s.Close)
		return s
	}
	t.Fatal("no address is free")
	return nil
}

// traffic asks for the model until something is true.
func traffic(t *testing.T, c extprocv3.ExternalProcessorClient, what string, ok func() bool) {
	t.Helper()
	eventually(t, what, func() bool {
		exchanged(t, c, "chat")
		return ok()
	})
}

// phase returns where the rollout of the model is, as the picker's page says.
func (r *running) phase() string {
	_, _, text := r.page("GET", "/rollouts/default/InferenceModel/chat", "")
	var s struct{ Phase string }
	if json.Unmarshal([]byte(text), &s) != nil {
		return ""
	}
	return s.Phase
}

// TestRolloutInCluster: the weights and the state are in the object, what happens is told there, and metrics tell it.
func TestRolloutInCluster(t *testing.T) {
	t.Parallel()
	server := newModelServer(t, 8000)
	api := newAPI(t, append([]fake.Resource{fake.Events}, clusterKinds...)...)
	model := clusterModel("chat", "llama", "v1")
	model["metadata"].(map[string]any)["annotations"] = map[string]any{rollout.Annotation: soon}
	ip, _, _ := net.SplitHostPort(server.Address())
	api.Apply(clusterPool("llama", ""), model, clusterPod("a", "llama", ip))
	r := startCluster(t, api, "", func(o *epp.Options) {
		o.Rollouts = &epp.Rollouts{Loader: "vllm"}
		o.Kubernetes.WriteStatus = true
		o.Kubernetes.Lease = lease.Options{Namespace: "default", Name: "epp"}
	})
	r.ready()
	r.has("llama", 1)
	c := r.client()
	traffic(t, c, "done", func() bool { return r.phase() == string(rollout.Done) })

	// The picker knows it before it has told the API server.
	eventually(t, "the state is there", func() bool {
		o := api.Get(fake.Model, "default", "chat")
		return strings.Contains(fmt.Sprint(o["metadata"].(map[string]any)["annotations"].(map[string]any)[rollout.StateAnnotation]), `"phase":"Done"`)
	})
	o := api.Get(fake.Model, "default", "chat")
	require.Equal(t, []any{map[string]any{"name": "v2", "weight": 10000.0}}, o["spec"].(map[string]any)["targetModels"])
	eventually(t, "both conditions are there", func() bool {
		text := fmt.Sprint(api.Get(fake.Model, "default", "chat")["status"])
		return strings.Contains(text, "type:Accepted") && strings.Contains(text, "type:Rollout") && strings.Contains(text, "reason:Done")
	})
	eventually(t, "it is told", func() bool { return strings.Contains(fmt.Sprint(api.List(fake.Events)), "reason:RolloutCompleted") })
	page := r.metrics()
	r.wantMetric(page, 1, "inferpick_kubernetes_rollout_leader")
	require.Contains(t, page, `inferpick_rollout_phase{kind="InferenceModel",name=`)
}

// TestRolloutFromFiles: without a cluster weights are the picker's own, and the state is kept over a restart.
func TestRolloutFromFiles(t *testing.T) {
	t.Parallel()
	server := newModelServer(t, 0)
	state := filepath.Join(t.TempDir(), "state")
	text := poolYAML("llama") + strings.Replace(modelYAML("chat", "llama", "v1"), "metadata: {name: chat}",
		"metadata: {name: chat, annotations: {inferpick.dev/rollout: '"+strings.ReplaceAll(soon, "\n", "")+"'}}", 1) + endpointsYAML("llama", server.Address())
	change := func(o *epp.Options) { o.Rollouts = &epp.Rollouts{StateFile: state} }
	r := start(t, text, change)
	c := r.client()
	traffic(t, c, "done", func() bool { return r.phase() == string(rollout.Done) })
	requests := server.Stats().Requests
	r.stop()
	require.NoError(t, r.ends())

	r = start(t, text, change)
	eventually(t, "it is still done", func() bool { return r.phase() == string(rollout.Done) })
	require.Equal(t, requests, server.Stats().Requests, "nothing is loaded or tried again")
}

// TestRolloutCommands: who may give commands.
func TestRolloutCommands(t *testing.T) {
	t.Parallel()
	token := write(t, t.TempDir(), "token", "secret")
	for name, c := range map[string]struct {
		change        func(*epp.Options)
		authorization string
		want          int
	}{
		"loopback":       {func(*epp.Options) {}, "", http.StatusNotFound}, // there is no such rollout
		"all addresses":  {func(o *epp.Options) { o.MetricsAddr = ":0" }, "", http.StatusForbidden},
		"all may":        {func(o *epp.Options) { o.MetricsAddr, o.Rollouts.Commands = ":0", true }, "", http.StatusNotFound},
		"a token":        {func(o *epp.Options) { o.MetricsAddr, o.MetricsTokenFile = ":0", token }, "Bearer secret", http.StatusNotFound},
		"no token":       {func(o *epp.Options) { o.MetricsTokenFile = token }, "", http.StatusUnauthorized},
		"no rollouts":    {func(o *epp.Options) { o.Rollouts = nil }, "", http.StatusNotFound},
		"another origin": {func(*epp.Options) {}, "origin", http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, base, func(o *epp.Options) {
				o.Rollouts = &epp.Rollouts{Loader: "manual"}
				c.change(o)
			})
			_, port, _ := net.SplitHostPort(r.MetricsAddress())
			req, err := http.NewRequest(http.MethodPost, "http://127.0.0.1:"+port+"/rollouts/default/InferenceModel/chat/abort", nil)
			must(t, err)
			req.Header.Set("Content-Type", "application/json")
			if c.authorization == "origin" {
				req.Header.Set("Origin", "http://elsewhere.example")
				req.Header.Set("Sec-Fetch-Site", "cross-site")
			} else if c.authorization != "" {
				req.Header.Set("Authorization", c.authorization)
			}
			resp, err := http.DefaultClient.Do(req)
			must(t, err)
			resp.Body.Close()
			require.Equal(t, c.want, resp.StatusCode)
		})
	}
}

func TestRolloutOptions(t *testing.T) {
	t.Parallel()
	_, err := tryStart(t, base, func(o *epp.Options) { o.Rollouts = &epp.Rollouts{Loader: "tgi"} })
	require.ErrorContains(t, err, `epp: Options.Rollouts: loader: "tgi" is no loader: want auto, vllm, sglang, resolver or manual`)
	_, err = launch(t, base, func(o *epp.Options) {
		o.Kubernetes = &epp.Kubernetes{API: newAPI(t).Config()}
		o.Rollouts = &epp.Rollouts{StateFile: "x"}
	})
	require.ErrorContains(t, err, "epp: Options.Rollouts.StateFile is for pickers without Kubernetes")
}
