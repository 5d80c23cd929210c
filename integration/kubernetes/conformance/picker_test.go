package conformance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/examples/envoy/envoyproxy"
	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/integration/kubernetes/cluster"
	"github.com/inferpick/inferpick/types"
)

// address returns one of this machine that EndpointSlices take: they refuse loopback.
func address(t testing.TB) string {
	all, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			return n.IP.String()
		}
	}
	t.Skip("this machine has no address beside loopback, at which a picker could be in an EndpointSlice")
	return ""
}

// service is a Service of a picker at an address, or with no ready pod.
func service(name, address string, port int) string {
	text := "apiVersion: v1\nkind: Service\nmetadata: {name: " + name + ", namespace: conformance-app}\nspec: {ports: [{name: grpc, port: 9002, appProtocol: http2}]}\n---\n" +
		"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: " + name + "-1, namespace: conformance-app, labels: {kubernetes.io/service-name: " + name + "}}\naddressType: IPv4\n"
	if address == "" {
		return text + "endpoints: []"
	}
	return text + fmt.Sprintf("ports: [{name: grpc, port: %d}]\nendpoints: [{addresses: [%s], conditions: {ready: true}}]", port, address)
}

// epp runs the picker of examples/envoy for a pool that is there, with the endpoints that a
// header names, makes a Service for it, and returns its address.
func (r *rig) epp(name, pool string) string {
	r.Helper()
	file := filepath.Join(r.TempDir(), "epp.yaml")
	require.NoError(r, os.WriteFile(file, []byte(`
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins: [{type: header-based-testing-filter}, {type: random-picker}]
`), 0o600))
	host := address(r)
	grpc := freePort(r, host)
	named := types.NamespacedName{Namespace: backend, Name: pool}
	a, err := epp.New(epp.Options{
		Config: file, Pool: named,
		Kubernetes: &epp.Kubernetes{API: r.Config(), Source: kubernetes.Options{Namespaces: []string{backend}, Pools: []types.NamespacedName{named}}},
		GRPCAddr:   net.JoinHostPort(host, fmt.Sprint(grpc)), HealthAddr: "127.0.0.1:0", MetricsAddr: "-", DrainTimeout: time.Second,
		Logger: slog.New(slog.NewTextHandler(testWriter{r.T}, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	require.NoError(r, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	r.Cleanup(func() {
		stop()
		require.NoError(r, <-done)
	})
	r.apply(service(name, host, grpc))
	return net.JoinHostPort(host, fmt.Sprint(grpc))
}

func freePort(t testing.TB, host string) int {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

const picks = "test-epp-endpoint-selection"

const prompt = `{"model": "conformance-fake-model", "prompt": "Write as if you were a critic: San Francisco"}`

func (r *rig) followsEPP() {
	r.apply(pool("following", "primary", "endpointPickerRef: {name: following-epp, port: {number: 9002}}"))
	r.epp("following-epp", "following")
	r.apply(route("following", "primary", "rules: ["+toPool("/v1/completions", "following")+"]"))
	r.parents(inferencePools, "following", map[string]string{"primary": good})
	r.goesWherePicked()
}

// goesWherePicked: requests go to the pods that their header names, and to no others.
func (r *rig) goesWherePicked() {
	r.Helper()
	pods := r.pods["primary"]
	for _, chosen := range [][]*cluster.Pod{pods[:1], pods[1:2], pods[2:], pods[1:], pods} {
		var ips []string
		want := map[string]bool{}
		for _, p := range chosen {
			ips = append(ips, p.IP)
			want[p.Name] = true
		}
		q := request{Path: "/v1/completions", Header: []string{picks, strings.Join(ips, ",")}, Body: prompt}
		r.serves(q, 200, "primary")
		count := r.spread(q, 100, 10, func(a answer) string { return a.Echo.Pod })
		require.Len(r, count, len(want), "%v", count)
		for pod := range count {
			require.True(r, want[pod], "%v of %v", count, want)
		}
	}
	a := r.serves(request{Path: "/v1/completions", Body: prompt}, 200, "primary")
	require.Equal(r, prompt, a.Echo.Body)
}

func (r *rig) followsEPPByPort() {
	r.servers("dp", 3000, 3002, 3004)
	r.apply(pool("dp", "dp", "endpointPickerRef: {name: dp-epp, port: {number: 9002}}"))
	r.epp("dp-epp", "dp")
	r.apply(route("dp", "primary", "rules: ["+toPool("/v1", "dp")+"]"))
	r.goesToRankPicked()
}

// goesToRankPicked: an address alone is all ports of a pod, with a port that one.
func (r *rig) goesToRankPicked() {
	r.Helper()
	pods := r.pods["dp"]
	for chosen, want := range map[string][]string{
		pods[0].IP:           {"dp-0:3000", "dp-0:3002", "dp-0:3004"},
		pods[1].IP + ":3002": {"dp-1:3002"},
		pods[1].IP + ":3002," + pods[2].IP + ":3004": {"dp-1:3002", "dp-2:3004"},
	} {
		q := request{Path: "/v1/completions", Header: []string{picks, chosen}, Body: prompt}
		r.serves(q, 200, "dp")
		count := r.spread(q, 100, 10, func(a answer) string { return fmt.Sprintf("%s:%d", a.Echo.Pod, a.Echo.Port) })
		var got []string
		for at := range count {
			got = append(got, at)
		}
		require.ElementsMatch(r, want, got, chosen)
	}
}

// TestEnvoy is the picker's cases with a real Envoy in the place of the gateway.
func TestEnvoy(t *testing.T) {
	bin, err := envoyproxy.Find("../../../examples/envoy")
	if errors.Is(err, envoyproxy.ErrNotFound) {
		t.Skip(err)
	}
	require.NoError(t, err)
	r := newRig(t)
	r.servers("dp", 3000, 3002, 3004)
	for _, c := range []struct {
		name, pool string
		run        func(*rig)
	}{
		{"GatewayFollowingEPPRouting", "primary", (*rig).goesWherePicked},
		{"GatewayFollowingEPPRoutingWithDataParallelism", "dp", (*rig).goesToRankPicked},
	} {
		t.Run(c.name, func(t *testing.T) {
			sub := *r
			sub.T = t
			sub.apply(pool("envoy-"+c.pool, c.pool, ""))
			picker := sub.epp("envoy-epp-"+c.pool, "envoy-"+c.pool)
			b, err := envoyproxy.ReadBootstrap("../../../examples/envoy/envoy-original-dst.yaml")
			require.NoError(t, err)
			require.NoError(t, errors.Join(b.Listen("127.0.0.1:0", "127.0.0.1:0"), b.Picker(picker)))
			envoy, err := envoyproxy.Start(context.Background(), envoyproxy.StartOptions{Bin: bin, Bootstrap: b, Concurrency: 1})
			require.NoError(t, err)
			t.Cleanup(envoy.Stop)
			sub.url = envoy.URL()
			c.run(&sub)
		})
	}
}

// failOpen: a picker that has no ready pod, and then one that is gone without anyone's having
// been told.
func (r *rig) failOpen() {
	host := address(r)
	for name, text := range map[string]string{"no-pod": service("no-pod", "", 0), "dead": service("dead", host, freePort(r, host))} {
		r.apply(text)
		for mode, want := range map[string]int{"FailOpen": 200, "FailClose": 503} {
			id := name + "-" + strings.ToLower(mode)
			r.apply(pool(id, "secondary", "endpointPickerRef: {name: "+name+", port: {number: 9002}, failureMode: "+mode+"}"))
			r.apply(route(id, "primary", "rules: ["+toPool("/"+id, id)+"]"))
			r.parents(inferencePools, id, map[string]string{"primary": good})
			group := ""
			if want == 200 {
				group = "secondary"
			}
			r.serves(request{Path: "/" + id, Body: prompt}, want, group)
		}
	}
}
