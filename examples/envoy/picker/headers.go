package picker

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
)

// fields are the headers of a message.
func fields(m *corev3.HeaderMap) exchange.Fields {
	return func(yield func(key, value string) bool) {
		for _, hv := range m.GetHeaders() {
			if !yield(hv.GetKey(), valueOf(hv)) {
				return
			}
		}
	}
}

// valueOf returns the value of a header, which newer Envoys put into raw_value.
func valueOf(hv *corev3.HeaderValue) string {
	if raw := hv.GetRawValue(); len(raw) > 0 {
		return string(raw)
	}
	return hv.GetValue()
}

// mutation is the message for changes of a request's headers.
func mutation(c exchange.Changes) *headerMutation {
	return &headerMutation{RemoveHeaders: c.Remove, SetHeaders: setHeaders(c.Set...)}
}
