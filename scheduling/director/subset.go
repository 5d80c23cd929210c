package director

import (
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/inferpick/inferpick/types"
)

// subset is a list of addresses that a gateway restricts the candidates to: each as
// ip:port, or as a host alone, which means all of its ports. White space around entries
// is ignored. A port that is given counts.
type subset map[string]bool

func newSubset(list []string) subset {
	s := make(subset, len(list))
	for _, a := range list {
		if a = strings.TrimSpace(a); a != "" {
			s[a] = true
		}
	}
	return s
}

// has reports whether the endpoint is in it.
func (s subset) has(ep *types.Endpoint) bool {
	if s[ep.Address] {
		return true
	}
	host, _, err := net.SplitHostPort(ep.Address)
	return err == nil && (s[host] || s["["+host+"]"])
}

// of returns those of eps that are in it: all, if there is none.
func (s subset) of(eps []*types.Endpoint) []*types.Endpoint {
	if s == nil {
		return eps
	}
	return matching(eps, s.has)
}

func matching(eps []*types.Endpoint, match func(*types.Endpoint) bool) []*types.Endpoint {
	var left []*types.Endpoint
	for _, ep := range eps {
		if match(ep) {
			left = append(left, ep)
		}
	}
	return left
}

// name is the same for lists with the same entries.
func (s subset) name() string { return strings.Join(slices.Sorted(maps.Keys(s)), ",") }
