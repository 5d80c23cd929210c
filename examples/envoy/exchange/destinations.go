package exchange

import (
	"strconv"
	"strings"

	"github.com/inferpick/inferpick/scheduling/director"
)

// Namespaces of Envoy's dynamic metadata.
const (
	NamespaceLB     = "envoy.lb"             // where a request goes, and went
	NamespaceSubset = "envoy.lb.subset_hint" // where it may go
)

// Keys of the Endpoint Picker Protocol, as they are on the wire and in these namespaces.
var (
	KeyDestination = lower(director.HeaderDestination)
	KeyFallback    = lower(director.HeaderFallback)
	KeyServed      = lower(director.HeaderServed)
	KeySubset      = lower(director.HeaderSubset)
)

// Destinations is what Envoy is told: the addresses of the choice and its fallbacks, best
// first with commas between, and the first fallback once more, for data planes of the protocol's first
// version, which knew but one.
type Destinations struct{ All, Fallback string }

// Destinations returns where the request goes. It has a route.
func (x *Exchange) Destinations() (to Destinations) {
	route := x.core.Route()
	if to.All = x.atPrimary(); to.All != "" { // a header says for which rank, of one server
		return to
	}
	first := route.Endpoint()
	addresses := append(make([]string, 0, 4), first.Address)
	prefill := x.prefill()
	for _, ep := range route.Fallbacks() {
		if len(addresses) == x.wishes.Destinations {
			break
		}
		if ep.Rank.IsSet() != first.Rank.IsSet() || ep.Rank.Index != first.Rank.Index {
			continue // the header that says for which rank is the same for all
		}
		if prefill == nil || ep.Load != prefill.Load { // its side-car would ask itself
			addresses = append(addresses, ep.Address)
		}
	}
	if len(addresses) > 1 {
		to.Fallback = addresses[1]
	}
	to.All = strings.Join(addresses, ",")
	return to
}

// Changes is what becomes of a request's headers.
type Changes struct {
	Set    []string // names, in lower case, and values in turns; each takes the place of all of its name
	Remove []string // names
}

// Changes returns what becomes of the request's headers. It has a route. withBody says that what
// Pieces returns takes the place of its body, so that the length is set.
func (x *Exchange) Changes(to Destinations, withBody bool) Changes {
	set := append(make([]string, 0, 12), KeyDestination, to.All)
	set = x.tellSidecar(set)
	if withBody {
		set = append(set, "content-length", strconv.Itoa(x.core.Route().Length()))
	}
	if path := x.core.Route().RequestPath(); path != x.core.Incoming.Path { // of a session, whose model is in its query
		set = append(set, ":path", path)
	}
	if x.named {
		set = append(set, lower(director.HeaderRequestID), x.id)
	}
	remove := removing(set)
	set = x.span.Propagate(set)
	for i := 0; i < len(set); i += 2 {
		set[i] = lower(set[i])
	}
	return Changes{Set: set, Remove: remove}
}
