package kubernetes

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/types"
)

// Options configure a Source. The zero value reads everything in all namespaces.
type Options struct {
	// Namespaces lists the namespaces to read, for roles that are limited to them. Default:
	// those of Pools, or if there are none all of the cluster.
	Namespaces []string

	// Pools lists the pools to read, PoolSelector selects them by their labels, in the syntax of
	// kubectl -l. Default: all pools. Models, objectives and rewrites that belong only to other
	// pools are then left to those who serve these.
	Pools        []types.NamespacedName
	PoolSelector string

	// Declared are pools that have no object in the cluster, for use without CRDs. Their pods
	// are found by the selector, like those of others. An object of the same name wins.
	Declared []*types.InferencePool

	// EndpointSlices reads EndpointSlices instead of pods, where the right to read pods is not
	// given. The slices of a pool are those of the service that its annotation ServiceAnnotation
	// names, else of the service with the name of the pool. Labels and annotations of pods are
	// then unknown.
	EndpointSlices bool

	// Cluster is the value of the endpoints' label "cluster" and the start of their IDs, for
	// several sources that feed one store. Pools of the same name in several clusters are one
	// pool, with the endpoints of all; their manifests should be equal, as the last change wins.
	// Default: no label.
	Cluster string

	// Template has the common fields of all endpoints, such as capacity, engine and metrics
	// path. ID, Address, MetricsAddress and State come from the pods; Labels are added to theirs.
	Template datastore.EndpointSpec
	// MetricsPort is the port of the metrics. Default: the port of the endpoint.
	MetricsPort int

	// Debounce is how long the source waits after a change for others to commit with it.
	// Default 20 ms, at most 1 s. Negative: no wait.
	Debounce time.Duration

	// MaxPodWatches bounds the watches of pods in a namespace, one for each selector of a pool.
	// With more selectors all pods of the namespace are read by a single watch. Default 64.
	MaxPodWatches int

	// Refresh is the time between checks of which kinds the server has. Default 30 s, at least
	// 10 ms.
	Refresh time.Duration
	// MinRetry and MaxRetry bound the wait before a kind that is missing or forbidden is tried
	// again; it doubles from one to the other. Default 30 s and 5 min. After other failures the
	// source waits 0.8 s to 30 s, or as long as the server says, at most 5 min.
	MinRetry, MaxRetry time.Duration

	// Logger receives changes and failures, repeated ones only once. Nil: no logging.
	Logger *slog.Logger
}

// ServiceAnnotation is the annotation of a pool that names its service, for
// Options.EndpointSlices.
const ServiceAnnotation = "inferpick.io/service"

// ClusterLabel is the label of endpoints with the value of Options.Cluster.
const ClusterLabel = "cluster"

// complete fills in defaults and returns all that is wrong.
func (o *Options) complete() error {
	c := check.Checks{Package: "kubernetes: Options"}
	for i, ns := range o.Namespaces {
		c.Want(ns != "", fmt.Sprintf("Namespaces[%d]", i), ns, "a name")
	}
	o.Namespaces, o.Pools, o.Declared = slices.Clone(o.Namespaces), slices.Clone(o.Pools), slices.Clone(o.Declared)
	for i, pool := range o.Pools {
		c.Want(pool.Name != "", fmt.Sprintf("Pools[%d]", i), pool.String(), "namespace/name")
		o.Pools[i].Namespace = cmp.Or(pool.Namespace, types.DefaultNamespace)
	}
	if len(o.Namespaces) == 0 {
		for _, pool := range o.Pools {
			o.Namespaces = append(o.Namespaces, pool.Namespace)
		}
	}
	slices.Sort(o.Namespaces)
	o.Namespaces = slices.Compact(o.Namespaces)
	if _, err := labels.Parse(o.PoolSelector); err != nil {
		c.Failf("PoolSelector", "is no label selector: %w", err)
	}
	for i, pool := range o.Declared {
		pool = pool.Clone()
		pool.SetDefaults()
		c.Add(fmt.Sprintf("Declared[%d]", i), pool.Validate())
		o.Declared[i] = pool
	}
	c.Want(len(o.Cluster) <= 63, "Cluster", o.Cluster, "at most 63 characters")
	check.Range(&c, "MetricsPort", o.MetricsPort, 0, 65535)
	if o.Debounce < 0 {
		o.Debounce = 0
	} else {
		check.Default(&c, "Debounce", &o.Debounce, 20*time.Millisecond, 0, time.Second)
	}
	check.Default(&c, "MaxPodWatches", &o.MaxPodWatches, 64, 1, 0)
	check.Default(&c, "Refresh", &o.Refresh, 30*time.Second, 10*time.Millisecond, 0)
	check.Default(&c, "MinRetry", &o.MinRetry, 30*time.Second, time.Millisecond, 0)
	check.Default(&c, "MaxRetry", &o.MaxRetry, max(o.MinRetry, 5*time.Minute), o.MinRetry, 0)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return c.Err()
}
