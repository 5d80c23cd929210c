package flags

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	fake "github.com/inferpick/inferpick/datastore/kubernetes/kubernetestest"
	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/types"
)

// kubeconfig writes one with two contexts for a server, of which the current one is in the
// namespace models.
func kubeconfig(t *testing.T, url string) string {
	path := filepath.Join(t.TempDir(), "config")
	write(t, path, fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: %q}}, {name: nowhere, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
contexts:
- {name: here, context: {cluster: c, user: u, namespace: models}}
- {name: there, context: {cluster: nowhere, user: u, namespace: other}}
current-context: here
`, url))
	return path
}

func isolated(t *testing.T) {
	t.Setenv("NAMESPACE", "")
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	t.Setenv("HOME", t.TempDir())
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
}

// connected returns what a command line makes of the cluster.
func connected(t *testing.T, args ...string) (*epp.Options, error) {
	t.Helper()
	f, err := Parse(args, new(bytes.Buffer))
	if err != nil {
		return nil, err
	}
	f.Options.Kubernetes, err = f.cluster()
	return &f.Options, err
}

func TestKubernetesFlags(t *testing.T) {
	isolated(t)
	file := kubeconfig(t, "http://127.0.0.1:2")
	models := func(name string) types.NamespacedName { return types.NamespacedName{Namespace: "models", Name: name} }
	for _, tt := range []struct {
		args string
		ok   func(o *epp.Options, k *epp.Kubernetes) bool
	}{
		{"-kubeconfig F", func(o *epp.Options, k *epp.Kubernetes) bool {
			return k.API.Host == "http://127.0.0.1:2" && k.WriteStatus && k.Lease.Namespace == "models" && k.Lease.Name == "inferpick-epp" &&
				k.SyncTimeout == 30*time.Second && k.Source.Namespaces == nil && k.Source.Pools == nil && o.Pool.IsZero()
		}},
		{"-config x -kubeconfig F", func(_ *epp.Options, k *epp.Kubernetes) bool { return k == nil }},
		{"-config x -kubernetes -kubeconfig F", func(o *epp.Options, k *epp.Kubernetes) bool { return k != nil && o.Config == "x" }},
		{"-kubernetes -kubeconfig F -context there", func(_ *epp.Options, k *epp.Kubernetes) bool {
			return k.API.Host == "http://127.0.0.1:1" && k.Lease.Namespace == "other"
		}},
		{"-kubeconfig F --pool-name llama --config-file y", func(o *epp.Options, k *epp.Kubernetes) bool {
			return o.Config == "y" && o.Pool == models("llama") && len(k.Source.Pools) == 1 && k.Source.Pools[0] == models("llama") && k.Lease.Name == "inferpick-epp-llama"
		}},
		{"-kubeconfig F --pool-name llama --pool-namespace prod", func(o *epp.Options, k *epp.Kubernetes) bool {
			return o.Pool.String() == "prod/llama" && k.Source.Pools[0] == o.Pool && strings.HasPrefix(k.Lease.Name, "inferpick-epp-") && k.Lease.Namespace == "models"
		}},
		{"-kubeconfig F -pools a/b,c -namespaces a,default -pool-selector tier=gold -endpoint-slices -sync-timeout 5s", func(o *epp.Options, k *epp.Kubernetes) bool {
			return o.Pool.IsZero() && len(k.Source.Pools) == 2 && k.Source.Pools[0].String() == "a/b" && len(k.Source.Namespaces) == 2 &&
				k.Source.PoolSelector == "tier=gold" && k.Source.EndpointSlices && k.SyncTimeout == 5*time.Second && len(k.Lease.Name) == len("inferpick-epp-01234567")
		}},
		{"-kubeconfig F --metrics-endpoint-auth", func(_ *epp.Options, k *epp.Kubernetes) bool { return k.MetricsAuth }},
		{"-kubeconfig F --metrics-endpoint-auth=false", func(_ *epp.Options, k *epp.Kubernetes) bool { return !k.MetricsAuth }},
		{"-kubeconfig F -write-status=false", func(_ *epp.Options, k *epp.Kubernetes) bool { return !k.WriteStatus }},
		{"-kubeconfig F -leader-election=false", func(_ *epp.Options, k *epp.Kubernetes) bool { return k.WriteStatus && k.Lease.Name == "" }},
		{"-kubeconfig F -lease a/b", func(_ *epp.Options, k *epp.Kubernetes) bool { return k.Lease.Namespace == "a" && k.Lease.Name == "b" }},
		{"-kubeconfig F -lease b", func(_ *epp.Options, k *epp.Kubernetes) bool {
			return k.Lease.Namespace == "models" && k.Lease.Name == "b"
		}},
		{"-kubeconfig F --endpoint-selector app=llama,role=decode --endpoint-target-ports 8000,8001", func(o *epp.Options, k *epp.Kubernetes) bool {
			p := k.Source.Declared[0]
			return p.Key() == models("endpoints") && o.Pool == p.Key() && k.Source.Pools[0] == p.Key() && len(p.Spec.Selector.MatchLabels) == 2 &&
				p.Spec.Selector.MatchLabels["role"] == "decode" && len(p.Spec.TargetPorts) == 2 && p.Spec.TargetPorts[1].Number == 8001
		}},
		{"-kubeconfig F --endpoint-selector app=llama --pool-name own", func(o *epp.Options, k *epp.Kubernetes) bool {
			return k.Source.Declared[0].Key() == models("own") && k.Source.Declared[0].Spec.TargetPorts[0].Number == 8000
		}},
	} {
		o, err := connected(t, strings.Fields(strings.ReplaceAll(tt.args, "F", file))...)
		require.NoError(t, err, tt.args)
		require.True(t, tt.ok(o, o.Kubernetes), "%s: %+v, %+v", tt.args, o.Pool, o.Kubernetes)
	}
	for args, want := range map[string]string{
		"":                                      "-config is required, or -kubernetes",
		"-kubernetes":                           "-kubernetes: ",
		"-kubernetes=false -pool-name x":        "-config is required",
		"-kubernetes -kubeconfig /none":         "/none",
		"-kubeconfig F -context nowhere":        "nowhere",
		"-kubeconfig F --endpoint-selector app": "want label=value",
		"-kubeconfig F --endpoint-selector a=b -pools ,":                 "-pools",
		"-kubeconfig F --endpoint-selector a=b -endpoint-target-ports 0": "want ports",
	} {
		_, err := connected(t, strings.Fields(strings.ReplaceAll(args, "F", file))...)
		require.ErrorContains(t, err, want, args)
	}
	t.Setenv("NAMESPACE", "mine")
	o, err := connected(t, "-kubeconfig", file, "-pool-name", "llama")
	require.NoError(t, err)
	require.Equal(t, "mine/llama", o.Pool.String())
	require.Equal(t, "mine", o.Kubernetes.Lease.Namespace)
}

// TestAppOfCluster: a command line of theirs, with a pool of a cluster.
func TestAppOfCluster(t *testing.T) {
	isolated(t)
	api := fake.New(fake.Pods, fake.Leases, fake.PoolV1, fake.Model)
	defer api.Close()
	api.Apply(
		fake.Object(`{"apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool", "metadata": {"name": "llama", "namespace": "models"},
			"spec": {"selector": {"matchLabels": {"app": "llama"}}, "targetPorts": [{"number": 8000}]}}`),
		fake.Object(`{"apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceModel", "metadata": {"name": "chat", "namespace": "models"},
			"spec": {"modelName": "chat", "poolRef": {"name": "llama"}}}`),
	)
	policy := filepath.Join(t.TempDir(), "default-plugins.yaml")
	write(t, policy, "apiVersion: inference.networking.x-k8s.io/v1alpha1\nkind: EndpointPickerConfig\nplugins: [{type: queue-scorer}, {type: max-score-picker}]\n")
	log, stop := serve(t, "--pool-name", "llama", "--pool-namespace", "models", "--zap-encoder", "json", "--v", "1", "--config-file", policy,
		"--metrics-endpoint-auth=false", "--ha-enable-leader-election", "-kubeconfig", kubeconfig(t, api.Config().Host))
	log.WaitFor(t, "msg=serving", 1)
	require.NotContains(t, log.String(), "no effect")
	require.Eventually(t, func() bool {
		o := api.Get(fake.Model, "models", "chat")
		return strings.Contains(fmt.Sprint(o["status"]), "Accepted")
	}, patience, 10*time.Millisecond)
	require.NotNil(t, api.Get(fake.Leases, "models", "inferpick-epp-llama"))
	stop()
	require.Equal(t, "", api.Get(fake.Leases, "models", "inferpick-epp-llama")["spec"].(map[string]any)["holderIdentity"], "it was given back")

	require.ErrorContains(t, failing(t, "-kubeconfig", os.DevNull), "-kubernetes: ")
}
