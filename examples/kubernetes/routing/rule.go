package routing

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Rule is what is done with the requests that match it.
type Rule struct {
	// Name is NAMESPACE/ROUTE/RULE; the rule is its name or its place.
	Name     string
	Backends []Backend
	// Request and Response change headers. Nil: nothing.
	Request, Response *HeaderEdit
	// Redirect answers requests; Rewrite changes them. Nil: nothing.
	Redirect *Redirect
	Rewrite  *Rewrite
	// Timeout bounds a request and its answer, BackendTimeout the time at one backend. 0: no
	// bound.
	Timeout, BackendTimeout time.Duration

	total int64         // weight
	next  atomic.Uint32 // of the draws
}

// add adds a backend.
func (r *Rule) add(b Backend) {
	r.Backends = append(r.Backends, b)
	r.total += int64(b.Weight)
}

// compile sets what a rule says besides matches and backends.
func (r *Rule) compile(in *gatewayv1.HTTPRouteRule, i int) (wrong *problem) {
	r.next.Store(rand.Uint32())
	if in.Timeouts != nil {
		for d, text := range map[*time.Duration]*gatewayv1.Duration{&r.Timeout: in.Timeouts.Request, &r.BackendTimeout: in.Timeouts.BackendRequest} {
			parsed, err := time.ParseDuration(string(or(text, "0s")))
			if err != nil {
				return problemf(gatewayv1.RouteReasonUnsupportedValue, "rules[%d].timeouts: %v", i, err)
			}
			*d = parsed
		}
	}
	for j, f := range in.Filters {
		if wrong := r.addFilter(f); wrong != nil {
			return problemf(gatewayv1.RouteReasonUnsupportedValue, "rules[%d].filters[%d]: %s", i, j, wrong.message)
		}
	}
	return nil
}

// Choose returns the backend of the next request, by weight; nil if there is none. Draws are
// spread evenly: of any 10 requests in a row 7 go where the weight is 70 of 100, give or take
// one.
func (r *Rule) Choose() *Backend {
	if r.total == 0 {
		return nil
	}
	const golden = 0x9E3779B9 // 2^32 / the golden ratio: a Kronecker sequence
	at := int64(uint64(r.next.Add(1)*golden) * uint64(r.total) >> 32)
	for i := range r.Backends {
		if at -= int64(r.Backends[i].Weight); at < 0 {
			return &r.Backends[i]
		}
	}
	return &r.Backends[len(r.Backends)-1]
}
