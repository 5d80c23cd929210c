package datastore_test

import (
	"fmt"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/types"
)

// A store needs no manifests: endpoints are enough.
func ExampleStore() {
	store := datastore.New(datastore.Options{})
	err := store.SetEndpoints(types.NamespacedName{Name: "llama"}, []datastore.EndpointSpec{
		{Address: "10.0.0.1:8000"},
		{Address: "10.0.0.2:8000"},
	})
	if err != nil {
		panic(err)
	}
	r, err := store.Snapshot().Resolve(datastore.Query{Model: "llama-3"})
	if err != nil {
		panic(err)
	}
	fmt.Println(r.Pool.Name(), r.TargetModel, r.Priority)
	for _, e := range r.Pool.Endpoints() {
		fmt.Println(e.ID, e.State, e.Metrics.Waiting.IsKnown())
	}
	// Output:
	// default/llama llama-3 0
	// 10.0.0.1:8000 ready false
	// 10.0.0.2:8000 ready false
}

// The manifests of the Inference Extension work as they are.
func ExampleStore_Apply() {
	objs, err := types.DecodeManifests([]byte(`
		{"apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool", "metadata": {"name": "llama"},
		 "spec": {"selector": {"matchLabels": {"app": "llama"}}, "targetPorts": [{"number": 8000}]}}
		{"apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceModel", "metadata": {"name": "food-review"},
		 "spec": {"modelName": "food-review", "criticality": "Critical", "poolRef": {"name": "llama"},
		  "targetModels": [{"name": "food-review-v1", "weight": 90}, {"name": "food-review-v2", "weight": 10}]}}`))
	if err != nil {
		panic(err)
	}
	store := datastore.New(datastore.Options{UnknownModels: datastore.Refuse})
	if err := store.Apply(objs...); err != nil {
		panic(err)
	}
	rnd := types.NewRand(7)
	r, err := store.Snapshot().Resolve(datastore.Query{Model: "food-review", Rand: &rnd})
	fmt.Println(r.TargetModel, r.Source, r.Priority, err)
	_, err = store.Snapshot().Resolve(datastore.Query{Model: "other"})
	fmt.Println(err)
	// Output:
	// food-review-v1 model 100 <nil>
	// datastore: unknown model "other" in pool default/llama
}

// Watch tells what comes and goes.
func ExampleStore_Watch() {
	pool := types.NamespacedName{Name: "llama"}
	store := datastore.New(datastore.Options{})
	stop := store.Watch(func(ev datastore.Event) { fmt.Println(ev.Kind, ev.Pool, ev.Endpoint.ID) })
	defer stop()
	_ = store.SetEndpoints(pool, []datastore.EndpointSpec{{ID: "a", Address: "10.0.0.1:8000"}})
	_ = store.SetEndpoints(pool, []datastore.EndpointSpec{{ID: "b", Address: "10.0.0.2:8000"}})
	// Output:
	// added default/llama a
	// removed default/llama a
	// added default/llama b
}
