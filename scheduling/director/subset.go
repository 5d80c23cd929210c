package director

import (
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

// of returns those of eps that are in it.
func (s subset) of(eps []*types.Endpoint) []*types.Endpoint {
	var left []*types.Endpoint
	for _, ep := range eps {
		if s.has(ep) {
			left = append(left, ep)
		}
	}
	return left
}

// name is the same for lists with the same entries.
func (s subset) name() string {
	entries := make([]string, 0, len(s))
	for a := range s {
		entries = append(entries, a)
	}
	slices.Sort(entries)
	return strings.Join(entries, ",")
}
