package picker

import (
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

type sender = func(*extprocv3.ProcessingResponse) error

// reporting returns a function that sends as x.send does, and tells Envoy with the first
// message what exchange.Options.Report says of the usage. The response has ended.
func (x *stream) reporting() sender {
	metadata := reportMetadata(x.Report())
	return func(r *extprocv3.ProcessingResponse) error {
		if metadata != nil {
			r.DynamicMetadata, metadata = metadata, nil
		}
		return x.send(r)
	}
}

// reportMetadata is dynamic metadata of values by name, by namespace; nil if there are
// none, or one cannot be told.
func reportMetadata(told map[string]map[string]any) *structpb.Struct {
	if len(told) == 0 {
		return nil
	}
	all := &structpb.Struct{Fields: make(map[string]*structpb.Value, len(told))}
	for namespace, values := range told {
		s, err := structpb.NewStruct(values)
		if err != nil {
			return nil
		}
		all.Fields[namespace] = structpb.NewStructValue(s)
	}
	return all
}
