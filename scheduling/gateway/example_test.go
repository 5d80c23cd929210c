package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/datastore/rollout/loader"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling/gateway"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/scheduling/sharing/mesh"
	"github.com/inferpick/inferpick/scheduling/telemetry"
)

func Example() {
	ctx, mux := context.Background(), http.NewServeMux()

	g, err := gateway.New(gateway.Options{
		Profile: plugins.Default(),
		Servers: gateway.Addresses("10.0.0.1:8000", "10.0.0.2:8000"),
	})
	if err != nil {
		panic(err) // says which option is wrong
	}
	defer g.Close()
	go g.Run(ctx)                 // reads the servers' metrics
	mux.Handle("/v1/", g.Proxy()) // the API

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader(`{"model": 7}`)))
	fmt.Println(w.Code)
	// Output: 400
}

// Metrics for Prometheus.
func ExampleOptions_metrics() {
	var metrics *telemetry.Metrics
	g, err := gateway.New(gateway.Options{
		Profile: plugins.Default(),
		Metrics: func(g *gateway.Gateway) (_ gateway.Metrics, err error) {
			metrics, err = telemetry.New(telemetry.Options{Pools: g.Pools, Admissions: g.Admissions, Sharing: g.Sharing.Stats, Rollouts: g.Rollouts.Status})
			return metrics, err
		},
	})
	if err != nil {
		panic(err)
	}
	defer g.Close()
	http.Handle("GET /metrics", metrics.Handler())
}

// Gateways that act as one: each connects to all others.
func ExampleOptions_sharing() {
	key, more, err := mesh.ReadKeyFile("peers.key") // a secret of all gateways
	if err != nil {
		panic(err)
	}
	transport, err := mesh.New(mesh.Options{
		Listen: ":7946",
		Peers:  []string{"gateways.default.svc.cluster.local:7946"}, // all of its addresses
		Key:    key, MoreKeys: more,
	})
	if err != nil {
		panic(err)
	}
	g, err := gateway.New(gateway.Options{
		Profile: plugins.Default(),
		Sharing: &sharing.Options{Transport: transport},
	})
	if err != nil {
		panic(err)
	}
	defer g.Close() // takes leave, and closes the transport
	go g.Run(context.Background())
}

// New LoRA adapters get traffic step by step, and judge themselves.
func ExampleOptions_rollouts() {
	adapters, err := loader.New(loader.Options{})
	if err != nil {
		panic(err)
	}
	defer adapters.Close()
	g, err := gateway.New(gateway.Options{
		Profile: plugins.Default(),
		Config:  "models.json", // manifests with annotations inferpick.dev/rollout
		Rollouts: &rollout.Options{
			Loader:    adapters.Auto(), // vLLM or SGLang, whichever a server is
			StateFile: "/var/lib/gateway/rollouts.json",
			OnEvent:   func(e rollout.Event) { fmt.Println(e.Kind, e.Object, e.Text) },
		},
	})
	if err != nil {
		panic(err)
	}
	defer g.Close()
	go g.Run(context.Background())

	// Who reaches this can move traffic: it is not for clients.
	go http.ListenAndServe("127.0.0.1:9090", g.Rollouts.Handler())
}

// What peers say.
func ExampleGateway_sharing() {
	var g *gateway.Gateway // of ExampleOptions_sharing

	stats := g.Sharing.Stats(time.Now())
	for _, p := range stats.Peers {
		fmt.Println(p.Name, p.Alive, p.Age, p.Held.Requests)
	}
	for _, eps := range g.Pools {
		for _, claim := range g.Sharing.Explain(eps[0], time.Now()) {
			fmt.Println(claim) // gateway-2: 3 in flight, 900 prompt tokens owed, 40ms ago
		}
	}
}
