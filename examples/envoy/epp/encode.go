package epp

import (
	"context"
	"log/slog"
	"net"
	"slices"

	"github.com/inferpick/inferpick/examples/envoy/config"
	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// apart is for picker.Options.Apart: what the side-car in front of a server is told.
func (f *fleet) apart(ctx context.Context, in *director.Incoming, r *director.Route) (a exchange.Apart) {
	m := f.of(r.Pool)
	if m == nil {
		return a
	}
	a.PrimaryPort = m.policy.PrimaryPort()
	if m.encoders != nil && m.policy.Encode().Wanted(&r.Request) {
		a.Encoders, a.Encoded = f.encode(ctx, m, in, r)
	}
	return a
}

// encode chooses those that encode what a request has beside text, and books it at the first of them.
// That there are none is no error: then who computes the prompt encodes, too.
func (f *fleet) encode(ctx context.Context, m *member, in *director.Incoming, r *director.Route) (addresses []string, done func()) {
	var able []*types.Endpoint
	for _, ep := range r.Resolution.Pool.Endpoints() {
		if ep.Roles.Has(types.RoleEncode) && ep.Load != r.Endpoint().Load && mayChoose(in, ep) && m.policy.Encode().Pairs(ep, r.Endpoint()) {
			one := *ep
			one.Roles = 0 // here it is they that answer
			able = append(able, &one)
		}
	}
	if len(able) == 0 {
		return nil, nil
	}
	req := r.Request // its own, as long as it is booked
	req.Split = false
	d, err := m.encoders.Schedule(ctx, &req, able)
	if err != nil {
		f.logger.LogAttrs(ctx, slog.LevelDebug, "nobody encodes", slog.String("id", req.ID), slog.Any("error", err))
		return nil, nil
	}
	addresses = append(addresses, d.Endpoint.Address)
	for _, ep := range d.Fallbacks {
		addresses = append(addresses, ep.Address)
	}
	return addresses, func() { d.Done(types.Outcome{}) }
}

// mayChoose reports whether the gateway allows an endpoint: it may restrict the choice to hosts, with or
// without a port.
func mayChoose(in *director.Incoming, ep *types.Endpoint) bool {
	if !in.HasSubset {
		return true
	}
	host, _, _ := net.SplitHostPort(ep.Address)
	return slices.Contains(in.Subset, ep.Address) || slices.Contains(in.Subset, host)
}

// newEncoders returns the scheduler of those that encode, nil if there is none.
func newEncoders(e *config.Encode) (*scheduling.Scheduler, error) {
	if e == nil {
		return nil, nil
	}
	profile, err := e.Profile()
	if err != nil {
		return nil, err
	}
	return scheduling.New(profile)
}
