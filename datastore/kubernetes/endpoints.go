package kubernetes

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/types"
)

// shape is what endpoints have in common.
type shape struct {
	cluster     string
	template    datastore.EndpointSpec
	metricsPort int
}

// endpoints returns those of a pool: each of its pods that has an address and has not ended, at
// each of the pool's ports that takes requests. The rank in an endpoint's ID is the index of its
// port. Pods that are not ready, or being deleted, finish what they have: they are draining.
func (s shape) endpoints(pool *types.InferencePool, pods map[string]*pod) []datastore.EndpointSpec {
	out := make([]datastore.EndpointSpec, 0, len(pods)*len(pool.Spec.TargetPorts))
	for _, name := range slices.Sorted(maps.Keys(pods)) {
		p := pods[name]
		if _, err := netip.ParseAddr(p.ip); err != nil || p.finished {
			continue // none yet, or no more
		}
		labels := s.labels(p.labels)
		for rank, port := range pool.Spec.TargetPorts {
			if p.limited && !lists(p.active, port.Number) {
				continue
			}
			e := s.template
			e.ID = s.id(pool.Namespace, name, rank)
			e.Address = net.JoinHostPort(p.ip, strconv.Itoa(int(port.Number)))
			e.Labels = labels
			e.State = types.Ready
			if !p.ready || p.terminating {
				e.State = types.Draining
			}
			e.MetricsAddress = ""
			if s.metricsPort != 0 {
				e.MetricsAddress = ":" + strconv.Itoa(s.metricsPort)
			}
			out = append(out, e)
		}
	}
	return out
}

// id returns NAMESPACE/POD-rank-INDEX, and before it the cluster if that has a name.
func (s shape) id(namespace, pod string, rank int) string {
	id := namespace + "/" + pod + "-rank-" + strconv.Itoa(rank)
	if s.cluster != "" {
		return s.cluster + "/" + id
	}
	return id
}

// labels returns the labels of a pod's endpoints.
func (s shape) labels(pod map[string]string) map[string]string {
	if s.cluster == "" && len(s.template.Labels) == 0 {
		return pod
	}
	out := make(map[string]string, len(pod)+len(s.template.Labels)+1)
	maps.Copy(out, pod)
	maps.Copy(out, s.template.Labels)
	if s.cluster != "" {
		out[ClusterLabel] = s.cluster
	}
	return out
}

// lists reports whether a comma-separated list of ports, as in the annotation active-ports, has
// a port. What is no port is ignored.
func lists(active string, port int32) bool {
	for one := range strings.SplitSeq(active, ",") {
		if n, err := strconv.ParseInt(strings.TrimSpace(one), 10, 32); err == nil && int32(n) == port {
			return true
		}
	}
	return false
}

// sameEndpoint reports whether two endpoints of the same shape are equal: they can differ in what
// comes from pods only.
func sameEndpoint(a, b datastore.EndpointSpec) bool {
	return a.ID == b.ID && a.Address == b.Address && a.State == b.State && maps.Equal(a.Labels, b.Labels)
}

// difference returns which endpoints are new or other than before, and the IDs of those that are
// gone. Mostly one pod of many has changed, so what is equal at both ends is left out first.
func difference(old, next []datastore.EndpointSpec) (set []datastore.EndpointSpec, gone []string) {
	for len(old) > 0 && len(next) > 0 && sameEndpoint(old[0], next[0]) {
		old, next = old[1:], next[1:]
	}
	for len(old) > 0 && len(next) > 0 && sameEndpoint(old[len(old)-1], next[len(next)-1]) {
		old, next = old[:len(old)-1], next[:len(next)-1]
	}
	had := make(map[string]datastore.EndpointSpec, len(old))
	for _, e := range old {
		had[e.ID] = e
	}
	for _, e := range next {
		if before, ok := had[e.ID]; !ok || !sameEndpoint(before, e) {
			set = append(set, e)
		}
		delete(had, e.ID)
	}
	return set, slices.Sorted(maps.Keys(had))
}

// overlaps returns, for pools that have addresses in common with others, those others. Each pool
// then knows only its own part of what such a server has to do.
func overlaps(endpoints map[types.NamespacedName][]datastore.EndpointSpec) map[types.NamespacedName][]types.NamespacedName {
	out := make(map[types.NamespacedName][]types.NamespacedName)
	note := func(pool, other types.NamespacedName) {
		if !slices.Contains(out[pool], other) {
			out[pool] = append(out[pool], other)
		}
	}
	owner := make(map[string]types.NamespacedName)
	for _, pool := range slices.SortedFunc(maps.Keys(endpoints), types.NamespacedName.Compare) {
		for _, e := range endpoints[pool] {
			first, ok := owner[e.Address]
			switch {
			case !ok:
				owner[e.Address] = pool
			case first != pool:
				note(first, pool)
				note(pool, first)
			}
		}
	}
	return out
}
