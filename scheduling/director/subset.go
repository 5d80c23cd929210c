package director

import (
	"net"
	"strings"

	"github.com/inferpick/inferpick/types"
)

// subset returns those of eps whose address is in list: as ip:port, or as a host
// alone, which means all of its ports. White space around entries is ignored. A
// port that is given counts.
func subset(eps []*types.Endpoint, list []string) []*types.Endpoint {
	allowed := make(map[string]bool, len(list))
	for _, a := range list {
		if a = strings.TrimSpace(a); a != "" {
			allowed[a] = true
		}
	}
	var left []*types.Endpoint
	for _, ep := range eps {
		if allowed[ep.Address] {
			left = append(left, ep)
			continue
		}
		if host, _, err := net.SplitHostPort(ep.Address); err == nil && (allowed[host] || allowed["["+host+"]"]) {
			left = append(left, ep)
		}
	}
	return left
}
