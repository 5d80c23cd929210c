package picker

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// Namespaces of Envoy's dynamic metadata.
const (
	namespaceLB     = "envoy.lb"
	namespaceSubset = "envoy.lb.subset_hint"
)

// destinations are the addresses that Envoy is told: the choice and its fallbacks,
// best first.
func (x *exchange) destinations() []string {
	fallbacks := x.routed.Fallbacks()
	fallbacks = fallbacks[:min(len(fallbacks), x.wishes.destinations-1)]
	addresses := make([]string, 0, 1+len(fallbacks))
	addresses = append(addresses, x.routed.Endpoint().Address)
	for _, ep := range fallbacks {
		addresses = append(addresses, ep.Address)
	}
	return addresses
}

// destinationMetadata is the dynamic metadata that says where a request goes. The
// first fallback is there once more for data planes of the protocol's first version,
// which knew but one.
func destinationMetadata(addresses []string) *structpb.Struct {
	lb := map[string]*structpb.Value{keyDestination: structpb.NewStringValue(strings.Join(addresses, ","))}
	if len(addresses) > 1 {
		lb[keyFallback] = structpb.NewStringValue(addresses[1])
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

// subsetHint is the endpoints that Envoy restricts the choice to.
type subsetHint struct {
	given     bool
	addresses []string
}

// read takes a hint from the metadata of a message: a list, or a string with commas.
// A hint of another kind allows nobody: what cannot be read must not be ignored.
func (s *subsetHint) read(m *corev3.Metadata) {
	v, ok := m.GetFilterMetadata()[namespaceSubset].GetFields()[keySubset]
	if !ok {
		return
	}
	s.given, s.addresses = true, nil
	switch k := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		s.addresses = strings.Split(k.StringValue, ",")
	case *structpb.Value_ListValue:
		for _, e := range k.ListValue.GetValues() {
			s.addresses = append(s.addresses, strings.Split(e.GetStringValue(), ",")...)
		}
	}
}
