// Package envoyproxy runs Envoy: it finds the binary, reads a bootstrap file strictly,
// fits it to addresses that are known only at run time, and starts and stops the
// process. The demo, the tests and the measurements use it; a deployment has its own
// way to run Envoy.
package envoyproxy

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	modulesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/dynamic_modules/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3" // so that its configuration can be read
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/least_request/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/override_host/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"sigs.k8s.io/yaml"
)

// Names of clusters in the bootstrap files.
const (
	clusterPicker  = "endpoint_picker"
	clusterServers = "model_servers"
)

// Bootstrap is the configuration that Envoy starts with.
type Bootstrap struct {
	Proto *bootstrapv3.Bootstrap
}

// ReadBootstrap reads a bootstrap file in YAML: fields and types that Envoy's API does
// not know are errors, and so is what its validation rules refuse, also inside of
// extensions. What only Envoy itself checks Start or Validate will tell.
func ReadBootstrap(path string) (*Bootstrap, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("envoyproxy: %w", err)
	}
	b, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("envoyproxy: %s: %w", path, err)
	}
	return b, nil
}

// parse is ReadBootstrap of the file's contents.
func parse(data []byte) (*Bootstrap, error) {
	js, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return nil, err
	}
	b := &Bootstrap{Proto: new(bootstrapv3.Bootstrap)}
	if err := protojson.Unmarshal(js, b.Proto); err != nil {
		return nil, err
	}
	return b, validate(b.Proto)
}

// JSON returns the configuration for Envoy's option -c.
func (b *Bootstrap) JSON() ([]byte, error) {
	return protojson.MarshalOptions{Multiline: true}.Marshal(b.Proto)
}

// Listen sets the addresses of the listener and of the admin interface: ip:port, where
// port 0 is any free one.
func (b *Bootstrap) Listen(listener, admin string) error {
	l, err := socketAddress(listener)
	if err != nil {
		return err
	}
	a, err := socketAddress(admin)
	if err != nil {
		return err
	}
	for _, to := range b.Proto.GetStaticResources().GetListeners() {
		to.Address = l
	}
	b.Proto.Admin.Address = a
	return nil
}

// Picker sets the ip:port of the endpoint picker, or unix: and the path of its socket.
func (b *Bootstrap) Picker(address string) error { return b.setEndpoints(clusterPicker, address) }

// Servers sets the model servers' ip:port. A cluster that knows no endpoints stays as
// it is.
func (b *Bootstrap) Servers(addresses ...string) error {
	if c := b.Cluster(clusterServers); c != nil && c.GetType() == clusterv3.Cluster_ORIGINAL_DST {
		return nil
	}
	return b.setEndpoints(clusterServers, addresses...)
}

// MaxDestinations is how many endpoints a picker may name for this configuration: 1 if
// the address is all that Envoy knows of a server, 0 for what the configuration asks for
// (picker.DestinationsMetadata).
func (b *Bootstrap) MaxDestinations() int {
	if b.Cluster(clusterServers).GetType() == clusterv3.Cluster_ORIGINAL_DST {
		return 1
	}
	return 0
}

// FailOpen sets whether Envoy goes on without the picker when that does not answer.
func (b *Bootstrap) FailOpen(open bool) error {
	return b.ExtProc(func(p *extprocv3.ExternalProcessor) { p.FailureModeAllow = open })
}

// Cluster returns a cluster by name, nil if there is none.
func (b *Bootstrap) Cluster(name string) *clusterv3.Cluster {
	for _, c := range b.Proto.GetStaticResources().GetClusters() {
		if c.GetName() == name {
			return c
		}
	}
	return nil
}

func (b *Bootstrap) setEndpoints(cluster string, addresses ...string) error {
	c := b.Cluster(cluster)
	if c == nil {
		return fmt.Errorf("envoyproxy: there is no cluster %s", cluster)
	}
	var endpoints []*endpointv3.LbEndpoint
	for _, a := range addresses {
		address, err := socketAddress(a)
		if err != nil {
			return err
		}
		endpoints = append(endpoints, &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address}}})
	}
	c.LoadAssignment = &endpointv3.ClusterLoadAssignment{
		ClusterName: cluster, Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: endpoints}},
	}
	return nil
}

// Manager changes every HTTP connection manager.
func (b *Bootstrap) Manager(change func(*hcmv3.HttpConnectionManager)) error {
	for _, l := range b.Proto.GetStaticResources().GetListeners() {
		for _, chain := range l.GetFilterChains() {
			for _, f := range chain.GetFilters() {
				if err := changeAny(f.GetTypedConfig(), change); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// ExtProc changes the configuration of the picker's filter.
func (b *Bootstrap) ExtProc(change func(*extprocv3.ExternalProcessor)) error {
	return changeFilters(b, change)
}

// Module changes the configuration of the module's filter: what it says in fields takes the place of
// what was there; nil removes.
func (b *Bootstrap) Module(fields map[string]any) error {
	var errs []error
	err := changeFilters(b, func(m *modulesv3.DynamicModuleFilter) {
		errs = append(errs, changeAny(m.FilterConfig, func(config *structpb.Struct) {
			for name, value := range fields {
				v, err := structpb.NewValue(value)
				errs = append(errs, err)
				config.Fields[name] = v
				if value == nil {
					delete(config.Fields, name)
				}
			}
		}))
	})
	return errors.Join(append(errs, err)...)
}

// HasModule reports whether the picker is a module of Envoy's.
func (b *Bootstrap) HasModule() bool {
	has := false
	return changeFilters(b, func(*modulesv3.DynamicModuleFilter) { has = true }) == nil && has
}

// WithoutPicker takes the picker's filter out, and with it the choice.
func (b *Bootstrap) WithoutPicker() error {
	return b.Manager(func(m *hcmv3.HttpConnectionManager) {
		m.HttpFilters = slices.DeleteFunc(m.HttpFilters, func(f *hcmv3.HttpFilter) bool {
			config := f.GetTypedConfig()
			return config.MessageIs((*extprocv3.ExternalProcessor)(nil)) || config.MessageIs((*modulesv3.DynamicModuleFilter)(nil))
		})
	})
}

// changeFilters changes the configuration of the HTTP filters of a type.
func changeFilters[T any, M interface {
	*T
	proto.Message
}](b *Bootstrap, change func(M)) error {
	var errs []error
	err := b.Manager(func(m *hcmv3.HttpConnectionManager) {
		for _, f := range m.GetHttpFilters() {
			errs = append(errs, changeAny(f.GetTypedConfig(), change))
		}
	})
	return errors.Join(append(errs, err)...)
}

// changeAny changes the message in a, which is a no-op if it is of another type.
func changeAny[T any, M interface {
	*T
	proto.Message
}](a *anypb.Any, change func(M)) error {
	m := M(new(T))
	if !a.MessageIs(m) {
		return nil
	}
	if err := a.UnmarshalTo(m); err != nil {
		return err
	}
	change(m)
	return a.MarshalFrom(m)
}

func socketAddress(s string) (*corev3.Address, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok && path != "" {
		return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path}}}, nil
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return nil, fmt.Errorf("envoyproxy: address %q: want ip:port, IPv6 in brackets", s)
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       a.Addr().String(),
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(a.Port())},
	}}}, nil
}
