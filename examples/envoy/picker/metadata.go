package picker

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
)

// metadataOf is the dynamic metadata that says where a request goes.
func metadataOf(to exchange.Destinations) *structpb.Struct {
	lb := map[string]*structpb.Value{exchange.KeyDestination: structpb.NewStringValue(to.All)}
	if to.Fallback != "" {
		lb[exchange.KeyFallback] = structpb.NewStringValue(to.Fallback)
	}
	return &structpb.Struct{Fields: map[string]*structpb.Value{
		exchange.NamespaceLB: structpb.NewStructValue(&structpb.Struct{Fields: lb}),
	}}
}

// servedBy returns the address that Envoy says served the request, empty if it says
// nothing.
func servedBy(m *corev3.Metadata) string {
	return m.GetFilterMetadata()[exchange.NamespaceLB].GetFields()[exchange.KeyServed].GetStringValue()
}

// readSubset takes the endpoints that Envoy restricts the choice to from the metadata of a
// message: a list, or a string. A hint of another kind allows nobody.
func (x *stream) readSubset(m *corev3.Metadata) {
	v, ok := m.GetFilterMetadata()[exchange.NamespaceSubset].GetFields()[exchange.KeySubset]
	if !ok {
		return
	}
	var hint []string
	switch k := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		hint = []string{k.StringValue}
	case *structpb.Value_ListValue:
		for _, e := range k.ListValue.GetValues() {
			hint = append(hint, e.GetStringValue())
		}
	}
	x.Subset(hint)
}
