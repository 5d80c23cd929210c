package epp

import (
	"context"
	"encoding/json"
	"net"
	"strings"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/types"
)

// newRegistry returns the plugins that a configuration may name: those of package
// plugins, and one that conformance tests of gateways declare.
func newRegistry() *plugins.Registry {
	r := plugins.NewRegistry()
	r.Register("header-based-testing-filter", func(p json.RawMessage) (any, error) {
		return headerSelection{}, plugins.Parameters(p, &struct{}{})
	})
	return r
}

// headerSelection is a Filter that leaves the endpoints that a header of the request
// names, all if there is none: any client chooses its server. It is for the
// conformance tests of the Inference Extension alone.
type headerSelection struct{}

const headerTestSelection = "Test-Epp-Endpoint-Selection"

// Filter implements scheduling.Filter.
func (headerSelection) Filter(_ context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error {
	values := req.Header[headerTestSelection]
	if len(values) == 0 {
		return nil
	}
	allowed := make(map[string]bool)
	for _, a := range strings.Split(values[0], ",") {
		allowed[strings.TrimSpace(a)] = true
	}
	for i, ep := range eps {
		host, _, _ := net.SplitHostPort(ep.Address)
		keep[i] = keep[i] && (allowed[ep.Address] || allowed[host])
	}
	return nil
}
