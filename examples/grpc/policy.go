// Package inferpick is a load balancing policy of grpc-go that sends each call to the model
// server that can serve it best. A client connection has it by DialOptions.
package inferpick

import (
	"cmp"
	"errors"
	"reflect"
	"slices"
	"sync/atomic"

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
	scheduling.Must(scheduling.New(profile()))
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
	scheduler := scheduling.Must(scheduling.New(b.profile()))
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
	ready     atomic.Pointer[map[string]balancer.SubConn] // by address; never changed in place
}

// UpdateClientConnState implements balancer.Balancer: an address that stays keeps its state.
func (p *policy) UpdateClientConnState(s balancer.ClientConnState) error {
	var specs []types.Endpoint
	s.ResolverState.Addresses = nil // the balancer of package base goes by them
	for _, ep := range s.ResolverState.Endpoints {
		if len(ep.Addresses) > 0 && !slices.ContainsFunc(specs, func(e types.Endpoint) bool { return e.Address == ep.Addresses[0].Addr }) {
			labels, _ := ep.Attributes.Value(key{}).(Labels)
			specs = append(specs, types.Endpoint{Address: ep.Addresses[0].Addr, Labels: labels})
			s.ResolverState.Addresses = append(s.ResolverState.Addresses, ep.Addresses[0])
		}
	}
	_, err := p.servers.Set(specs)
	return cmp.Or(err, p.Balancer.UpdateClientConnState(s))
}

// Build implements base.PickerBuilder.
func (p *policy) Build(info base.PickerBuildInfo) balancer.Picker {
	ready := map[string]balancer.SubConn{}
	for connection, i := range info.ReadySCs {
		ready[i.Address.Addr] = connection
	}
	p.ready.Store(&ready)
	return p
}

// Pick implements balancer.Picker.
func (p *policy) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	ready := *p.ready.Load()
	endpoints := slices.DeleteFunc(slices.Clone(p.servers.Endpoints()), func(ep *types.Endpoint) bool { return ready[ep.Address] == nil })
	if len(endpoints) == 0 {
		return balancer.PickResult{}, balancer.ErrNoSubConnAvailable // the call waits
	}
	c := callOf(info.Ctx)
	decision, err := p.scheduler.Schedule(info.Ctx, new(c.request), endpoints) // another request for each try
	if errors.Is(err, scheduling.ErrSaturated) {
		return balancer.PickResult{}, status.Error(codes.ResourceExhausted, err.Error())
	} else if err != nil {
		return balancer.PickResult{}, status.Error(codes.Unavailable, err.Error())
	}
	c.decision.Store(decision)
	done := func(info balancer.DoneInfo) {
		decision.Done(types.GRPCEnd{
			Err: info.Err, Code: uint32(status.Code(info.Err)),
			Sent: info.BytesSent, Received: info.BytesReceived, Messages: int(c.messages.Load()),
		}.Outcome())
	}
	return balancer.PickResult{SubConn: ready[decision.Endpoint.Address], Done: done}, nil
}

// Labels are an endpoint's, for filters and costs, such as plugins.Labels.
type Labels map[string]string

// Equal reports whether o are the same labels.
func (l Labels) Equal(o any) bool { return reflect.DeepEqual(l, o) }

// WithLabels is for resolvers: it returns the endpoint with labels.
func WithLabels(ep resolver.Endpoint, labels Labels) resolver.Endpoint {
	ep.Attributes = ep.Attributes.WithValue(key{}, labels)
	return ep
}
