// Package inferpick is a load balancing policy of grpc-go that sends each call to the model
// server that can serve it best. A client connection has it by DialOptions.
package inferpick

import (
	"errors"
	"maps"
	"slices"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Name is that of the policy with plugins.Default, which is registered when the package is
// imported.
const Name = "inferpick"

func init() { Register(Name, plugins.Default) }

// Register registers a policy under a name, for service configs and DialOptions. profile is
// called for each client connection, and makes a new one each time, since plugins learn of
// one set of servers. Register is to be called by init functions, and panics if the profile
// is wrong.
func Register(name string, profile func() scheduling.Profile) {
	if _, err := scheduling.New(profile()); err != nil {
		panic(err)
	}
	balancer.Register(builder{name, profile})
}

type builder struct {
	name    string
	profile func() scheduling.Profile
}

// Name implements balancer.Builder.
func (b builder) Name() string { return b.name }

// Build implements balancer.Builder.
func (b builder) Build(cc balancer.ClientConn, options balancer.BuildOptions) balancer.Balancer {
	scheduler, err := scheduling.New(b.profile())
	if err != nil {
		panic(err) // the one in Register was good
	}
	p := &policy{servers: scheduling.NewEndpointList(scheduler), scheduler: scheduler}
	p.Balancer = base.NewBalancerBuilder(b.name, p, base.Config{HealthCheck: true}).Build(cc, options)
	return p
}

// policy is that of one client connection. The balancer of package base keeps a connection
// to each address; the list keeps what is known of it, whatever becomes of the connection.
type policy struct {
	balancer.Balancer
	servers   *scheduling.EndpointList
	scheduler *scheduling.Scheduler
}

// UpdateClientConnState implements balancer.Balancer: an address that stays keeps its state.
func (p *policy) UpdateClientConnState(s balancer.ClientConnState) error {
	var specs []types.Endpoint
	s.ResolverState.Addresses = nil // the balancer of package base goes by them
	for _, ep := range s.ResolverState.Endpoints {
		if len(ep.Addresses) == 0 || slices.ContainsFunc(specs, func(e types.Endpoint) bool { return e.Address == ep.Addresses[0].Addr }) {
			continue
		}
		labels, _ := ep.Attributes.Value(labelsKey{}).(Labels)
		specs = append(specs, types.Endpoint{Address: ep.Addresses[0].Addr, Labels: labels})
		s.ResolverState.Addresses = append(s.ResolverState.Addresses, ep.Addresses[0])
	}
	if _, err := p.servers.Set(specs); err != nil {
		return err
	}
	return p.Balancer.UpdateClientConnState(s)
}

// Build implements base.PickerBuilder.
func (p *policy) Build(info base.PickerBuildInfo) balancer.Picker {
	if len(info.ReadySCs) == 0 {
		return base.NewErrPicker(balancer.ErrNoSubConnAvailable)
	}
	ready := map[string]balancer.SubConn{}
	for connection, i := range info.ReadySCs {
		ready[i.Address.Addr] = connection
	}
	return &picker{p, ready}
}

type picker struct {
	*policy
	ready map[string]balancer.SubConn // by address
}

// Pick implements balancer.Picker.
func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	all := p.servers.Endpoints()
	endpoints := make([]*types.Endpoint, 0, len(all))
	for _, ep := range all {
		if p.ready[ep.Address] != nil {
			endpoints = append(endpoints, ep)
		}
	}
	c := callOf(info.Ctx)
	request := c.request // another one for each try
	decision, err := p.scheduler.Schedule(info.Ctx, &request, endpoints)
	switch {
	case errors.Is(err, scheduling.ErrSaturated):
		return balancer.PickResult{}, status.Error(codes.ResourceExhausted, err.Error())
	case err != nil:
		return balancer.PickResult{}, status.Error(codes.Unavailable, err.Error())
	}
	c.decision.Store(decision)
	return balancer.PickResult{
		SubConn: p.ready[decision.Endpoint.Address],
		Done:    func(info balancer.DoneInfo) { decision.Done(c.outcome(info)) },
	}, nil
}

// Labels are an endpoint's, for filters and costs, such as plugins.Labels.
type Labels map[string]string

// Equal reports whether o are the same labels.
func (l Labels) Equal(o any) bool {
	other, ok := o.(Labels)
	return ok && maps.Equal(l, other)
}

type labelsKey struct{}

// WithLabels is for resolvers: it returns the endpoint with labels.
func WithLabels(ep resolver.Endpoint, labels Labels) resolver.Endpoint {
	ep.Attributes = ep.Attributes.WithValue(labelsKey{}, labels)
	return ep
}
