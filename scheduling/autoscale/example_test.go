package autoscale_test

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/scheduling/gateway"
	"github.com/inferpick/inferpick/types"
)

// A gateway that holds requests until a server has started, and says how many there should be.
func Example() {
	policy := autoscale.Policy{Max: 20, ToZero: true, TTFT: 2 * time.Second, TPOT: 50 * time.Millisecond}
	g, err := gateway.New(gateway.Options{
		Profile: plugins.Default(),
		Servers: gateway.Addresses(), // none yet: the pool is there all the same; g.SetServers says when there are
		Admission: func() *admission.Options {
			return &admission.Options{WaitForEndpoints: 10 * time.Minute} // longer than a server takes to start
		},
		Autoscale: &gateway.Autoscale{Options: autoscale.Options{
			Policy: func(types.NamespacedName) (autoscale.Policy, bool) { return policy, true },
		}},
	})
	if err != nil {
		panic(err)
	}
	defer g.Close()
	if err := g.SetServers(gateway.Addresses("10.0.0.1:8000", "10.0.0.2:8000")); err != nil {
		panic(err)
	}
	http.Handle("GET /autoscale", g.Autoscaler.Handler())

	r, err := g.Autoscaler.Desired(context.Background(), types.NamespacedName{Name: "default"})
	if err != nil {
		panic(err)
	}
	fmt.Println(r.Replicas)
	// Output: 2
}

// Gateways that ask each other, found by a headless service.
func ExampleNewHTTPPeers() {
	peers, err := autoscale.NewHTTPPeers(autoscale.HTTPPeersOptions{
		Addresses: autoscale.PeerService(nil, "http", "gateways.default.svc.cluster.local", 9090), // all addresses of the name
	})
	if err != nil {
		panic(err)
	}
	_ = autoscale.Options{Peers: peers}
}

// The law alone, for figures from elsewhere.
func ExampleDesired() {
	var history autoscale.History
	policy := autoscale.Policy{StartUp: 2 * time.Minute}
	s := autoscale.NewSignals(types.NamespacedName{Namespace: "default", Name: "llama"}, "", time.Unix(1_000_000_000, 0))
	s.Ready, s.Starting, s.Idle = 4, 0, 0
	s.Speed = types.Speed{Token: 50e-6, Step: .01, Sequence: 50e-6} // learned: seconds
	s.ArrivalWork, s.RecentWork = 3.5, 3.5                          // seconds of one replica's work come in a second
	r := autoscale.Desired(s, policy, &history)
	fmt.Println(r.Replicas, r.Term)
	fmt.Println(r.Reason)
	// Output:
	// 5 demand
	// 3.50 s of work come in a second; a replica is to do 0.72
}
