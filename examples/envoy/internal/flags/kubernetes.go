package flags

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/datastore/kubernetes/lease"
	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/types"
)

// kubeFlags say from which cluster pools come, and which.
type kubeFlags struct {
	on                  *bool // nil: it was not said
	kubeconfig, context string
	source              kubernetes.Options
	pools               []types.NamespacedName
	writeStatus, elect  bool
	lease               string // name or namespace/name
	syncTimeout         time.Duration

	// Of llm-d's picker, for pods without an InferencePool.
	endpointSelector, endpointPorts string
}

func (k *kubeFlags) add(fs *pflag.FlagSet) {
	one := fs.VarPF(optional{&k.on}, "kubernetes", "", "read pools, models, objectives, rewrites and pods from a cluster; -config has policies (EndpointPickerConfig) then, or is left out. It is the default without -config if -pool-name, -endpoint-selector or -kubeconfig is given")
	one.NoOptDefVal = "true"
	fs.StringVar(&k.kubeconfig, "kubeconfig", "", "`file` that says where the cluster is (default: that of the pod, $KUBECONFIG or ~/.kube/config)")
	fs.StringVar(&k.context, "context", "", "`name` of a context in it (default: the current one)")
	fs.StringSliceVar(&k.source.Namespaces, "namespaces", nil, "`names` of the namespaces to read, with commas between (default: those of -pool and -pools, or else all)")
	fs.Func("pools", "`names` of the pools to read, as of -pool, with commas between (default: all)", func(s string) error {
		for name := range strings.SplitSeq(s, ",") {
			pool, err := exchange.ParsePool(name)
			if err != nil {
				return err
			}
			k.pools = append(k.pools, pool)
		}
		return nil
	})
	fs.StringVar(&k.source.PoolSelector, "pool-selector", "", "`labels` of the pools to read, as of kubectl -l")
	fs.BoolVar(&k.source.EndpointSlices, "endpoint-slices", false, "find servers in EndpointSlices instead of pods")
	fs.BoolVar(&k.writeStatus, "write-status", true, "say in the status of models, objectives and rewrites whether they are in force")
	fs.BoolVar(&k.elect, "leader-election", true, "let one of several pickers write statuses; all serve in any case")
	fs.StringVar(&k.lease, "lease", "", "`name` or namespace/name of the Lease for that (default: one for all pickers of the same pools, in the picker's namespace)")
	fs.DurationVar(&k.syncTimeout, "sync-timeout", 30*time.Second, "how long to wait with health NOT_SERVING for all pools and pods; after that some are enough")
}

// settle finds out whether there is a cluster, and checks what is said of it.
func (k *kubeFlags) settle(f *Flags) error {
	if k.on == nil {
		implied := f.Options.Config == "" && (f.theirs.poolName != "" || k.endpointSelector != "" || k.kubeconfig != "")
		k.on = &implied
	}
	switch {
	case !*k.on && k.endpointSelector != "":
		return errors.New("-endpoint-selector finds pods in a cluster: say -kubernetes, or list servers in StaticEndpoints")
	case !*k.on && k.endpointPorts != "":
		return errors.New("-endpoint-target-ports is for -endpoint-selector; StaticEndpoints have ports of their own")
	case k.endpointSelector == "" && k.endpointPorts != "":
		return errors.New("-endpoint-target-ports is for -endpoint-selector, which is not given")
	}
	return nil
}

// cluster returns what there is of a cluster, nil if there is none, and settles in which namespace
// the pool of every request is.
func (f *Flags) cluster() (*epp.Kubernetes, error) {
	k, pool := &f.kube, &f.Options.Pool
	if !*k.on {
		return nil, nil
	}
	api, namespace, err := k.load()
	if err != nil {
		return nil, fmt.Errorf("-kubernetes: %w", err)
	}
	if f.theirs.poolName != "" && f.theirs.poolNamespace == "" {
		pool.Namespace = namespace
	}
	o := &epp.Kubernetes{API: api, Source: k.source, WriteStatus: k.writeStatus, MetricsAuth: f.theirs.metricsAuth, SyncTimeout: k.syncTimeout}
	o.Source.Pools = k.pools
	if k.endpointSelector != "" {
		declared, err := k.declared(*pool, namespace)
		if err != nil {
			return nil, err
		}
		*pool = declared.Key()
		o.Source.Declared = append(o.Source.Declared, declared)
	}
	if pool.Name != "" {
		o.Source.Pools = append(o.Source.Pools, *pool)
	}
	if k.elect {
		o.Lease = k.leaseIn(namespace, o.Source)
	}
	return o, nil
}

// load finds out where the API server is, and which namespace is the picker's.
func (k *kubeFlags) load() (*rest.Config, string, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = k.kubeconfig
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: k.context})
	api, err := loader.ClientConfig()
	if err != nil {
		return nil, "", err
	}
	api.UserAgent = "inferpick-epp"
	namespace := os.Getenv("NAMESPACE") // as charts set it
	if namespace == "" {
		namespace, _, err = loader.Namespace()
	}
	return api, namespace, err
}

// declared is the pool of the pods that -endpoint-selector selects.
func (k *kubeFlags) declared(name types.NamespacedName, namespace string) (*types.InferencePool, error) {
	if name.Name == "" {
		name = types.NamespacedName{Namespace: namespace, Name: "endpoints"}
	}
	pool := &types.InferencePool{ObjectMeta: types.ObjectMeta{Namespace: name.Namespace, Name: name.Name}}
	pool.Spec.Selector.MatchLabels = make(map[string]string)
	for pair := range strings.SplitSeq(k.endpointSelector, ",") {
		label, value, ok := strings.Cut(strings.TrimSpace(pair), "=")
		if !ok || label == "" {
			return nil, fmt.Errorf("-endpoint-selector %q: want label=value, with commas between", k.endpointSelector)
		}
		pool.Spec.Selector.MatchLabels[label] = strings.TrimPrefix(value, "=")
	}
	ports := k.endpointPorts
	if ports == "" {
		ports = "8000"
	}
	for port := range strings.SplitSeq(ports, ",") {
		n, err := strconv.ParseUint(strings.TrimSpace(port), 10, 16)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("-endpoint-target-ports %q: want ports, with commas between", ports)
		}
		pool.Spec.TargetPorts = append(pool.Spec.TargetPorts, types.Port{Number: int32(n)})
	}
	return pool, nil
}

// leaseIn is the Lease that all pickers of the same pools share.
func (k *kubeFlags) leaseIn(namespace string, o kubernetes.Options) lease.Options {
	if k.lease != "" {
		if in, name, ok := strings.Cut(k.lease, "/"); ok {
			return lease.Options{Namespace: in, Name: name}
		}
		return lease.Options{Namespace: namespace, Name: k.lease}
	}
	name := "inferpick-epp"
	switch {
	case len(o.Pools) == 1 && o.Pools[0].Namespace == namespace:
		name += "-" + o.Pools[0].Name
	case len(o.Pools) > 0 || o.PoolSelector != "" || len(o.Namespaces) > 0:
		h := fnv.New32a()
		fmt.Fprint(h, o.Pools, o.PoolSelector, o.Namespaces)
		name += fmt.Sprintf("-%08x", h.Sum32())
	}
	return lease.Options{Namespace: namespace, Name: name}
}

// optional is a pflag.Value of a boolean that need not be said.
type optional struct{ to **bool }

func (v optional) String() string   { return "" }
func (v optional) Type() string     { return "" }
func (v optional) IsBoolFlag() bool { return true }

func (v optional) Set(s string) error {
	b, err := strconv.ParseBool(s)
	*v.to = &b
	return err
}
