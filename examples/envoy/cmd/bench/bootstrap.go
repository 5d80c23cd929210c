package main

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"github.com/inferpick/inferpick/examples/envoy/envoyproxy"
)

// fit gives a configuration free ports and the servers. Picker and Envoy talk in plain,
// the empty picker too: what is measured is what a picker costs, and not what TLS does.
func fit(b *envoyproxy.Bootstrap, addresses []string) error {
	b.Cluster("endpoint_picker").TransportSocket = nil
	if err := b.Listen("127.0.0.1:0", "127.0.0.1:0"); err != nil {
		return err
	}
	return b.Servers(addresses...)
}

// roundRobin leaves the choice to Envoy.
func roundRobin(b *envoyproxy.Bootstrap) error {
	c := b.Cluster("model_servers")
	c.LoadBalancingPolicy, c.LbPolicy = nil, clusterv3.Cluster_ROUND_ROBIN
	return b.WithoutPicker()
}
