package kubernetes

import (
	"cmp"
	"slices"
)

// endpointSlice is what the source keeps of an EndpointSlice. Immutable.
type endpointSlice struct {
	service   string
	ipv6      bool
	endpoints []sliceEndpoint
}

// sliceEndpoint is one address of a service.
type sliceEndpoint struct {
	name, ip, zone string // name: that of its pod, or if there is none the address

	ready, terminating bool
}

// serviceLabel is the label of slices that names their service.
const serviceLabel = "kubernetes.io/service-name"

type sliceForm struct {
	Metadata struct {
		identity
		Labels map[string]string `json:"labels"`
	} `json:"metadata"`
	AddressType string `json:"addressType"`
	Endpoints   []struct {
		Addresses  []string `json:"addresses"`
		Zone       string   `json:"zone"`
		Conditions struct {
			Ready       *bool `json:"ready"` // null: unknown, to be taken as true
			Terminating *bool `json:"terminating"`
		} `json:"conditions"`
		TargetRef struct {
			Kind string `json:"kind"`
			Name string `json:"name"`
		} `json:"targetRef"`
	} `json:"endpoints"`
}

// decodeSlice decodes an EndpointSlice from JSON. One of host names has no endpoints.
func decodeSlice(decode func(any) error) (d decoded[*endpointSlice], err error) {
	var f sliceForm
	err = decode(&f)
	d.identify(&f.Metadata.identity)
	if err != nil {
		return d, err
	}
	s := &endpointSlice{service: f.Metadata.Labels[serviceLabel], ipv6: f.AddressType == "IPv6"}
	for _, e := range f.Endpoints {
		if len(e.Addresses) == 0 || f.AddressType == "FQDN" {
			continue
		}
		one := sliceEndpoint{
			name: e.Addresses[0], ip: e.Addresses[0], zone: e.Zone,
			ready:       e.Conditions.Ready == nil || *e.Conditions.Ready,
			terminating: e.Conditions.Terminating != nil && *e.Conditions.Terminating,
		}
		if e.TargetRef.Kind == "Pod" && e.TargetRef.Name != "" {
			one.name = e.TargetRef.Name
		}
		s.endpoints = append(s.endpoints, one)
	}
	d.object = s
	return d, nil
}

func (s *endpointSlice) same(o *endpointSlice) bool {
	return s.service == o.service && s.ipv6 == o.ipv6 && slices.Equal(s.endpoints, o.endpoints)
}

// zoneLabel is the label of an endpoint with the zone that its slice names.
const zoneLabel = "topology.kubernetes.io/zone"

// podsOf returns what slices say of their pods, by name. Of a pod with addresses of both
// families the IPv4 one is taken; of one that is in two slices, as while it moves from one to
// the other, what says that it is ready.
func podsOf(all []*endpointSlice) map[string]*pod {
	ordered := slices.Clone(all)
	slices.SortStableFunc(ordered, func(a, b *endpointSlice) int {
		return cmp.Compare(boolToInt(a.ipv6), boolToInt(b.ipv6))
	})
	out := make(map[string]*pod)
	family := make(map[string]bool)
	for _, s := range ordered {
		for _, e := range s.endpoints {
			old := out[e.name]
			if old != nil && (family[e.name] != s.ipv6 || old.ready || !e.ready) {
				continue
			}
			p := &pod{ip: e.ip, ready: e.ready, terminating: e.terminating}
			if e.zone != "" {
				p.labels = map[string]string{zoneLabel: e.zone}
			}
			out[e.name], family[e.name] = p, s.ipv6
		}
	}
	return out
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
