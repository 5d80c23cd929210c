package picker

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/inferpick/inferpick/scheduling/director"
)

// Namespaces of Envoy's dynamic metadata.
const (
	namespaceLB     = "envoy.lb"
	namespaceSubset = "envoy.lb.subset_hint"
)

// destinations is what Envoy is told: the addresses of the choice and its fallbacks, best
// first, and the first fallback once more, for data planes of the protocol's first version,
// which knew but one.
type destinations struct{ all, fallback string }

func (x *exchange) destinations() (to destinations) {
	route := x.core.Route()
	if to.all = x.atPrimary(); to.all != "" { // a header says for which rank, of one server
		return to
	}
	first := route.Endpoint()
	addresses := append(make([]string, 0, 4), first.Address)
	prefill := x.prefill()
	for _, ep := range route.Fallbacks() {
		if len(addresses) == x.wishes.destinations {
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
		to.fallback = addresses[1]
	}
	to.all = strings.Join(addresses, ",")
	return to
}

// metadata is the dynamic metadata that says where a request goes.
func (to destinations) metadata() *structpb.Struct {
	lb := map[string]*structpb.Value{keyDestination: structpb.NewStringValue(to.all)}
	if to.fallback != "" {
		lb[keyFallback] = structpb.NewStringValue(to.fallback)
	}
	return &structpb.Struct{Fields: map[string]*structpb.Value{
		namespaceLB: structpb.NewStructValue(&structpb.Struct{Fields: lb}),
	}}
}

// servedBy returns the address that Envoy says served the request, empty if it says
// nothing.
func servedBy(m *corev3.Metadata) string {
	return strings.TrimSpace(m.GetFilterMetadata()[namespaceLB].GetFields()[keyServed].GetStringValue())
}

// readSubset takes the endpoints that Envoy restricts the choice to from the metadata of a
// message: a list, or a string with commas. A hint of another kind allows nobody: what cannot
// be read must not be ignored.
func readSubset(m *corev3.Metadata, in *director.Incoming) {
	v, ok := m.GetFilterMetadata()[namespaceSubset].GetFields()[keySubset]
	if !ok {
		return
	}
	in.HasSubset, in.Subset = true, nil
	switch k := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		in.Subset = strings.Split(k.StringValue, ",")
	case *structpb.Value_ListValue:
		for _, e := range k.ListValue.GetValues() {
			in.Subset = append(in.Subset, strings.Split(e.GetStringValue(), ",")...)
		}
	}
}
