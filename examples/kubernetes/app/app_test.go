package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/inferpick/inferpick/datastore/kubernetes/kubernetestest"
	"github.com/inferpick/inferpick/examples/kubernetes/app"
	"github.com/inferpick/inferpick/types"
)

// Kinds of the Gateway API, as the server of the tests has them.
var (
	classes    = kubernetestest.Resource{Group: "gateway.networking.k8s.io", Version: "v1", Plural: "gatewayclasses", Kind: "GatewayClass", Status: true}
	gateways   = kubernetestest.Resource{Group: "gateway.networking.k8s.io", Version: "v1", Plural: "gateways", Kind: "Gateway", Status: true}
	routes     = kubernetestest.Resource{Group: "gateway.networking.k8s.io", Version: "v1", Plural: "httproutes", Kind: "HTTPRoute", Status: true}
	namespaces = kubernetestest.Resource{Version: "v1", Plural: "namespaces", Kind: "Namespace"}
)

const objects = `
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: ours, generation: 1}
spec: {controllerName: inferpick.io/gateway}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw, namespace: app, generation: 1}
spec: {gatewayClassName: ours, listeners: [{name: http, port: LISTEN, protocol: HTTP}]}
---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: llama, namespace: app, generation: 1}
spec: {selector: {matchLabels: {app: llama}}, targetPorts: [{number: SERVER}]}
---
apiVersion: v1
kind: Pod
metadata: {name: llama-0, namespace: app, labels: {app: llama}}
status: {phase: Running, podIP: 127.0.0.1, podIPs: [{ip: 127.0.0.1}], conditions: [{type: Ready, status: "True"}]}
`

const route = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: app, generation: 1}
spec:
  parentRefs: [{name: gw}]
  rules: [{backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: llama}]}]
`

// rig is a gateway of an API server of the tests.
type rig struct {
	*testing.T
	api         *kubernetestest.Server
	port, admin int
	stop        func() // ends the gateway, and waits for that
}

func newRig(t *testing.T, handler http.HandlerFunc, resources ...kubernetestest.Resource) *rig {
	return newRigWith(t, handler, func(*app.Options) {}, resources...)
}

func newRigWith(t *testing.T, handler http.HandlerFunc, change func(*app.Options), resources ...kubernetestest.Resource) *rig {
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	_, serverPort, _ := net.SplitHostPort(server.Listener.Addr().String())
	r := &rig{T: t, api: kubernetestest.New(resources...), port: freePort(t), admin: freePort(t)}
	t.Cleanup(r.api.Close)
	r.apply(strings.NewReplacer("LISTEN", strconv.Itoa(r.port), "SERVER", serverPort).Replace(objects))
	o := app.Options{
		Config: r.api.Config(), Host: "127.0.0.1", Addresses: []string{"127.0.0.1"}, Admin: fmt.Sprintf("127.0.0.1:%d", r.admin),
		Lease: types.NamespacedName{Namespace: "app", Name: "gateway"}, Drain: 10 * time.Second,
	}
	change(&o)
	g, err := app.New(o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(r.stop)
	return r
}

func (r *rig) apply(documents string) {
	r.Helper()
	for text := range strings.SplitSeq(documents, "\n---\n") {
		data, err := yaml.ToJSON([]byte(text))
		require.NoError(r, err)
		r.api.Apply(kubernetestest.Object(string(data)))
	}
}

func freePort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// get asks the gateway, or at a port of its own.
func (r *rig) get(port int, path string) (status int, body string) {
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", port, path))
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

// eventually waits until what is got has what is wanted in it.
func (r *rig) eventually(want string, got func() string) {
	r.Helper()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(got(), want); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			require.Contains(r, got(), want)
		}
	}
}

// status returns that of an object as JSON.
func (r *rig) status(resource kubernetestest.Resource, namespace, name string) func() string {
	return func() string {
		text, err := json.Marshal(r.api.Get(resource, namespace, name)["status"])
		require.NoError(r, err)
		return string(text)
	}
}

func (r *rig) answer() string {
	status, body := r.get(r.port, "/v1/models")
	return fmt.Sprint(status, " ", body)
}

var everything = []kubernetestest.Resource{
	classes, gateways, routes, namespaces, kubernetestest.Pods, kubernetestest.PoolV1, kubernetestest.Services, kubernetestest.EndpointSlices, kubernetestest.Leases,
}

func ok(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "metrics") {
		http.NotFound(w, r)
		return
	}
	fmt.Fprintf(w, `{"object":"list","data":[{"id":"served"}]}`)
}

// TestGateway: what is in the cluster is served, and told in statuses. Kinds that are missing,
// as secrets and grants are here, are missed.
func TestGateway(t *testing.T) {
	r := newRig(t, ok, everything...)
	r.eventually(`"type":"Programmed"`, r.status(gateways, "app", "gw"))
	r.eventually(`404`, r.answer)
	r.apply(route)
	r.eventually(`200 {"object":"list","data":[{"id":"served"`, r.answer)
	r.eventually(`"controllerName":"inferpick.io/gateway"`, r.status(routes, "app", "r"))
	r.eventually(`"reason":"ResolvedRefs"`, r.status(kubernetestest.PoolV1, "app", "llama"))
	r.eventually("200 ok", func() string { status, body := r.get(r.admin, "/readyz"); return fmt.Sprint(status, " ", body) })

	_, page := r.get(r.admin, "/metrics")
	for _, line := range []string{
		`inferpick_kubernetes_source_up{kind="HTTPRoute",namespace=""} 1`, `inferpick_kubernetes_source_up{kind="Secret",namespace=""} 0`,
		`inference_pool_ready_pods{name="app/llama"} 1`, "go_goroutines ",
	} {
		require.True(t, strings.Contains(page, line), line)
	}

	r.api.Delete(routes, "app", "r")
	r.eventually("404", r.answer)
	r.eventually("{}", r.status(kubernetestest.PoolV1, "app", "llama"))
}

// TestAway: what is known is served without the API server.
func TestAway(t *testing.T) {
	r := newRig(t, ok, everything...)
	r.apply(route)
	r.eventually("200", r.answer)
	r.api.Fail(func(kubernetestest.Request) *kubernetestest.Failure {
		return &kubernetestest.Failure{Drop: true}
	})
	r.api.CutWatches()
	for range 20 {
		require.Contains(t, r.answer(), "200")
	}
	r.api.Fail(nil)
}

// TestEnd: requests under way end, and the lease is given back.
func TestEnd(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	arrive, let := sync.OnceFunc(func() { close(arrived) }), sync.OnceFunc(func() { close(release) })
	r := newRig(t, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/v1/files" {
			arrive() // more than once, if the gateway takes a busy machine for a server that hangs
			<-release
		}
		ok(w, q)
	}, everything...)
	r.apply(route)
	r.eventually("200", r.answer)
	r.eventually(`"holderIdentity":"`, func() string {
		text, _ := json.Marshal(r.api.Get(kubernetestest.Leases, "app", "gateway"))
		return string(text)
	})
	defer let()
	answer := make(chan int, 1)
	go func() {
		status, _ := r.get(r.port, "/v1/files")
		answer <- status
	}()
	<-arrived
	stopped := make(chan struct{})
	go func() { r.stop(); close(stopped) }()
	r.eventually("refused", r.answer)
	let()
	require.Equal(t, 200, <-answer)
	<-stopped
	lease, _ := json.Marshal(r.api.Get(kubernetestest.Leases, "app", "gateway"))
	require.Contains(t, string(lease), `"holderIdentity":""`)
}
