package conformance

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/inferpick/inferpick/datastore/kubernetes/crds"
	"github.com/inferpick/inferpick/examples/kubernetes/app"
	"github.com/inferpick/inferpick/integration/kubernetes/cluster"
	"github.com/inferpick/inferpick/types"
)

func TestMain(m *testing.M) { os.Exit(cluster.Run(m)) }

// Namespaces, and the port of the Gateways.
const (
	infra   = "conformance-infra"
	backend = "conformance-app"
	port    = 18080
)

// rig is a cluster with a gateway, two Gateways, and pools of three echo servers each.
type rig struct {
	*testing.T
	*cluster.Server
	host string // where the gateway listens
	url  string // of the gateway
	pods map[string][]*cluster.Pod
}

// base is what the suite has before its cases. Its pools name no picker.
const base = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: conformance-primary, namespace: conformance-infra}
spec:
  gatewayClassName: inferpick
  listeners: [{name: http, port: 18080, protocol: HTTP, allowedRoutes: {namespaces: {from: All}, kinds: [{kind: HTTPRoute}]}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: conformance-secondary, namespace: conformance-infra}
spec:
  gatewayClassName: inferpick
  listeners: [{name: http, port: 18080, protocol: HTTP, hostname: secondary.example.com, allowedRoutes: {namespaces: {from: All}}}]
---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: primary, namespace: conformance-app}
spec: {selector: {matchLabels: {app: primary}}, targetPorts: [{number: 3000}]}
---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: secondary, namespace: conformance-app}
spec: {selector: {matchLabels: {app: secondary}}, targetPorts: [{number: 3000}]}
`

func newRig(t *testing.T) *rig {
	r := &rig{T: t, Server: cluster.Start(t), pods: make(map[string][]*cluster.Pod)}
	for _, namespace := range []string{infra, backend} {
		r.Apply(t, "", "{apiVersion: v1, kind: Namespace, metadata: {name: "+namespace+"}}")
	}
	r.InstallCRDs(t, crds.CRDs)
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	require.NoError(t, err)
	for _, name := range []string{"gatewayclasses", "gateways", "httproutes", "referencegrants"} {
		crd, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "config/crd/standard/gateway.networking.k8s.io_"+name+".yaml"))
		require.NoError(t, err)
		r.InstallCRD(t, string(crd))
	}
	r.host = fmt.Sprintf("127.%d.%d.%d", 2+rand.IntN(250), 2+rand.IntN(250), 2+rand.IntN(250))
	r.url = "http://" + net.JoinHostPort(r.host, fmt.Sprint(port))
	for _, group := range []string{"primary", "secondary"} {
		r.servers(group, 3000)
	}
	manifests, err := os.ReadFile("../../../examples/kubernetes/deploy/gateway.yaml")
	require.NoError(t, err)
	r.Apply(t, "", string(manifests))
	r.Apply(t, "", base)
	r.gateway()
	return r
}

// servers starts three echo servers, the pods of a pool.
func (r *rig) servers(group string, ports ...int) {
	for range 3 {
		r.pods[group] = append(r.pods[group], r.Pod(r.T, cluster.PodOptions{
			Namespace: backend, Name: fmt.Sprintf("%s-%d", group, len(r.pods[group])), Labels: map[string]string{"app": group}, Ports: ports,
			Handler: func(p *cluster.Pod, port int) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
					if strings.HasSuffix(req.URL.Path, "/metrics") {
						http.NotFound(w, req)
						return
					}
					body, _ := io.ReadAll(req.Body)
					w.Header().Set("Content-Type", "application/json")
					_ = json.NewEncoder(w).Encode(echo{Pod: p.Name, Group: group, Port: port, Path: req.URL.Path, Proto: req.Proto, Body: string(body)})
				})
			},
		}))
	}
}

// gateway runs the gateway for as long as the test, under the rights that its manifests give.
func (r *rig) gateway() {
	g, err := app.New(app.Options{
		Config: r.ServiceAccount(r, "inferpick-system", "inferpick-gateway"), Lease: types.NamespacedName{Namespace: "inferpick-system", Name: "inferpick-gateway"},
		Host: r.host, Addresses: []string{r.host}, Drain: time.Second,
		Logger: slog.New(slog.NewTextHandler(testWriter{r.T}, nil)),
	})
	require.NoError(r, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	r.Cleanup(func() {
		stop()
		require.NoError(r, <-done)
	})
}

// testWriter writes a log into that of a test.
type testWriter struct{ testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.Helper()
	w.Logf("%s", bytes.TrimSpace(p))
	return len(p), nil
}

// echo is what a server says of a request.
type echo struct {
	Pod, Group  string
	Port        int
	Path, Proto string
	Body        string
}

// answer is that to a request.
type answer struct {
	Status int
	Header http.Header
	Echo   echo
	Text   string
}

// request is one to the gateway.
type request struct {
	Host, Path string // defaults: primary.example.com and /
	Header     []string
	Body       string // POST
}

func (r *rig) do(q request) (answer, error) {
	method := http.MethodGet
	if q.Body != "" {
		method = http.MethodPost
	}
	req, err := http.NewRequest(method, r.url+cmp.Or(q.Path, "/"), strings.NewReader(q.Body))
	if err != nil {
		return answer{}, err
	}
	req.Host = cmp.Or(q.Host, "primary.example.com")
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(q.Header); i += 2 {
		req.Header.Add(q.Header[i], q.Header[i+1])
	}
	resp, err := (&http.Client{Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	a := answer{Status: resp.StatusCode, Header: resp.Header, Text: string(text)}
	_ = json.Unmarshal(text, &a.Echo) // errors of the gateway are other JSON
	return a, err
}

// limit is how long anything may take to come true.
const limit = 30 * time.Second

// serves waits until a request is answered by a group of servers; an empty one waits for the
// status.
func (r *rig) serves(q request, status int, group string) answer {
	r.Helper()
	var a answer
	cluster.Eventually(r, limit, func() (err error) {
		if a, err = r.do(q); err == nil && (a.Status != status || a.Echo.Group != group) {
			err = fmt.Errorf("%v: %d from %q, want %d from %q: %s", q, a.Status, a.Echo.Group, status, group, a.Text)
		}
		return err
	})
	return a
}

// route is an HTTPRoute to Gateways.
func route(name, gateways, rest string) string {
	var parents []string
	for g := range strings.FieldsSeq(gateways) {
		parents = append(parents, "{name: conformance-"+g+", namespace: conformance-infra}")
	}
	return "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: " + name + ", namespace: conformance-app}\nspec:\n  parentRefs: [" +
		strings.Join(parents, ", ") + "]\n  " + strings.ReplaceAll(strings.TrimSpace(rest), "\n", "\n  ")
}

// toPool is a rule of a route.
func toPool(path, pool string) string {
	return "{matches: [{path: {value: " + path + "}}], backendRefs: [" + pools(pool) + "]}"
}

func pools(name string) string {
	return "{group: inference.networking.k8s.io, kind: InferencePool, name: " + name + "}"
}

// Resources whose status is looked at.
var (
	gatewayClasses = schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "gatewayclasses"}
	gateways       = schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "gateways"}
	httpRoutes     = schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "httproutes"}
	inferencePools = schema.GroupVersionResource{Group: "inference.networking.k8s.io", Version: "v1", Resource: "inferencepools"}
)

// status returns the status of an object.
func (r *rig) status(resource schema.GroupVersionResource, namespace, name string) map[string]any {
	o, err := r.Dynamic.Resource(resource).Namespace(namespace).Get(r.Context(), name, metav1.GetOptions{})
	require.NoError(r, err)
	status, _, err := unstructured.NestedMap(o.Object, "status")
	require.NoError(r, err)
	return status
}

// said returns the conditions of a list as "TYPE=STATUS/REASON …".
func said(conditions any) string {
	var all []string
	list, _ := conditions.([]any)
	for _, c := range list {
		c := c.(map[string]any)
		all = append(all, fmt.Sprintf("%v=%v/%v", c["type"], c["status"], c["reason"]))
	}
	return strings.Join(all, " ")
}

// parents waits until the status of a route or pool has these entries, by Gateway.
func (r *rig) parents(resource schema.GroupVersionResource, name string, want map[string]string) {
	r.Helper()
	cluster.Eventually(r, limit, func() error {
		got := map[string]string{}
		list, _ := r.status(resource, backend, name)["parents"].([]any)
		for _, p := range list {
			p := p.(map[string]any)
			ref := p["parentRef"].(map[string]any)
			if p["controllerName"] != "inferpick.io/gateway" || ref["namespace"] != infra {
				return fmt.Errorf("%s %s has a parent %v", resource.Resource, name, p)
			}
			got[strings.TrimPrefix(ref["name"].(string), "conformance-")] = said(p["conditions"])
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("%s %s has parents %v, want %v", resource.Resource, name, got, want)
		}
		return nil
	})
}

const (
	good      = "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs"
	notFound  = "Accepted=True/Accepted ResolvedRefs=False/BackendNotFound"
	noSuchEPP = "Accepted=True/Accepted ResolvedRefs=False/InvalidExtensionRef"
)
