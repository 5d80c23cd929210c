package rollout_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/datastore/rollout/loader"
	"github.com/inferpick/inferpick/types"
)

// A plan in the annotation of a manifest moves its traffic.
func ExampleController() {
	store := datastore.New(datastore.Options{})
	llama := types.NamespacedName{Name: "llama"}
	if err := store.SetEndpoints(llama, []datastore.EndpointSpec{{ID: "a", Address: "10.0.0.1:8000"}}); err != nil {
		panic(err)
	}
	told := make(chan string, 10)
	c, err := rollout.New(rollout.Options{
		Store:  store,
		Loader: rollout.Served{}, // somebody else brings adapters onto servers
		OnEvent: func(e rollout.Event) {
			if e.Kind != rollout.Held && e.Kind != rollout.Continued {
				told <- fmt.Sprint(e.Kind, ": ", e.Text)
			}
		},
	})
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx) }()

	objects, err := types.DecodeManifests([]byte(`
		{"apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceModel",
		 "metadata": {"name": "chat", "annotations": {"inferpick.dev/rollout": "{\"stable\": \"chat-v1\", \"canary\": \"chat-v2\"}"}},
		 "spec": {"modelName": "chat", "poolRef": {"name": "llama"}, "targetModels": [{"name": "chat-v1"}]}}`))
	if err != nil {
		panic(err)
	}
	if err := store.Apply(objects...); err != nil {
		panic(err)
	}
	for text := range told {
		if fmt.Println(text); text[:7] == "Stepped" {
			break
		}
	}
	// Requests would come now, of which hooks tell Scheduled and Finished. A person may end it.
	object := rollout.Object{Kind: "InferenceModel", Name: types.NamespacedName{Name: "chat"}}
	for c.Abort(object, "an example is over") != nil {
		time.Sleep(time.Millisecond)
	}
	fmt.Println(<-told)
	stop()
	<-done
	// Output:
	// Started: from chat-v1 to chat-v2 in 5 steps
	// Loaded: 1 of 1 servers have chat-v2
	// Stepped: step 1 of 5: 1 % for chat-v2: the canary is loaded
	// Aborted: chat-v1 has all traffic again: an example is over
}

// A StoreHome with a file goes on after a restart; a Client's loaders speak to model servers.
func ExampleNewStoreHome() {
	store := datastore.New(datastore.Options{})
	home, err := rollout.NewStoreHome(store, rollout.StoreHomeOptions{Path: "/var/lib/gateway/rollouts.json"})
	if err != nil {
		log.Fatal(err)
	}
	servers, err := loader.New(loader.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer servers.Close()
	c, err := rollout.New(rollout.Options{Store: store, Home: home, Loader: servers.Auto()})
	if err != nil {
		log.Fatal(err)
	}
	go http.ListenAndServe("127.0.0.1:9090", c.Handler()) // never where clients are
}
