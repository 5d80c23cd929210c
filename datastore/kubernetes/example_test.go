package kubernetes_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"k8s.io/client-go/rest"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/datastore/kubernetes/internal/fakeapi"
	"github.com/inferpick/inferpick/types"
)

// A pool and its pods: the store has them once the source is synced.
func Example() {
	cluster := fakeapi.New(fakeapi.Pods, fakeapi.PoolV1)
	defer cluster.Close()
	cluster.Apply(poolV1("llama", "llama", 8000), pod("llama-0", "llama", "10.0.0.1"), pod("llama-1", "llama", "10.0.0.2"))

	store := datastore.New(datastore.Options{})
	source, err := kubernetes.New(cluster.Config(), kubernetes.Options{})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		source.Run(ctx, store)
	}()
	<-source.Synced()
	for _, pool := range store.Snapshot().Pools() {
		for _, e := range pool.Endpoints() {
			fmt.Println(pool.Name(), e.ID, e.Address, e.State)
		}
	}
	for _, kind := range source.Kinds() {
		fmt.Println(kind.Kind, kind.Objects, kind.Up, kind.Err != nil)
	}
	cancel()
	<-done
	// Output:
	// default/llama default/llama-0-rank-0 10.0.0.1:8000 ready
	// default/llama default/llama-1-rank-0 10.0.0.2:8000 ready
	// InferenceModel 0 false true
	// InferenceModelRewrite 0 false true
	// InferenceObjective 0 false true
	// InferencePool 1 true false
	// Pod 2 true false
	// discovery 0 true false
}

// In a pod of the cluster, for the pools of one namespace.
func ExampleNew() {
	run := func(ctx context.Context, store *datastore.Store) error {
		config, err := rest.InClusterConfig()
		if err != nil {
			return err
		}
		source, err := kubernetes.New(config, kubernetes.Options{
			Namespaces: []string{"models"},
			Logger:     slog.New(slog.NewTextHandler(os.Stderr, nil)),
		})
		if err != nil {
			return err
		}
		return source.Run(ctx, store)
	}
	fmt.Println(run(context.Background(), datastore.New(datastore.Options{})) != nil) // not in a cluster
	// Output: true
}

// Two clusters feed one store. A pool of the same name in both is one pool.
func ExampleOptions_cluster() {
	store := datastore.New(datastore.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	for i, name := range []string{"east", "west"} {
		cluster := fakeapi.New(fakeapi.Pods, fakeapi.PoolV1)
		defer cluster.Close()
		cluster.Apply(poolV1("llama", "llama", 8000), pod("llama-0", "llama", fmt.Sprintf("10.%d.0.1", i)))

		source, err := kubernetes.New(cluster.Config(), kubernetes.Options{Cluster: name})
		if err != nil {
			panic(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			source.Run(ctx, store)
		}()
		defer func() { <-done }()
		<-source.Synced()
	}
	defer cancel()
	for _, e := range store.Snapshot().Pool(types.NamespacedName{Name: "llama"}).Endpoints() {
		fmt.Println(e.ID, e.Labels[kubernetes.ClusterLabel])
	}
	// Output:
	// east/default/llama-0-rank-0 east
	// west/default/llama-0-rank-0 west
}
