package policies

import (
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Random sends each request to any endpoint: what a Kubernetes Service does for
// clients that open a connection for each request (iptables or IPVS in random
// mode).
func Random() scheduling.Profile { return unscored(plugins.Random{}) }

// RoundRobin sends requests to the endpoints in turn.
func RoundRobin() scheduling.Profile { return unscored(new(plugins.RoundRobin)) }

// LeastRequests sends each request to the endpoint with the fewest requests in
// flight from this gateway: least connections, with ties at random.
func LeastRequests() scheduling.Profile {
	return rule("in-flight", lowest{"in flight", func(_ *types.Request, ep *types.Endpoint) float64 { return inFlight(ep) }})
}

// PowerOfTwo draws two endpoints and takes the one with fewer requests in flight
// from this gateway; of equals, the first drawn (Mitzenmacher, "The power of two
// choices in randomized load balancing", IEEE TPDS 2001).
func PowerOfTwo() scheduling.Profile {
	p := LeastRequests()
	p.Picker = plugins.PowerOfTwo{}
	return p
}

func unscored(picker scheduling.Picker) scheduling.Profile {
	p := rule("", lowest{})
	p.Scorers, p.Picker = nil, picker
	return p
}
