package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	dynamicv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/dynamic_modules/v3"
	modulesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/dynamic_modules/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/inferpick/inferpick/examples/envoy/envoyproxy"
)

// listenersFile is a file that Envoy reads its listeners of, and reads again.
type listenersFile struct {
	t    *testing.T
	path string
	now  *envoyproxy.Bootstrap // its static listeners are those of the file
}

// fromFile has Envoy read the listeners of a file in place of its bootstrap.
func (f *listenersFile) fromFile(t *testing.T, b *envoyproxy.Bootstrap) {
	folder := t.TempDir()
	f.t, f.path = t, filepath.Join(folder, "listeners.json")
	f.now = &envoyproxy.Bootstrap{Proto: proto.CloneOf(b.Proto)}
	b.Proto.StaticResources.Listeners = nil
	b.Proto.Node = &corev3.Node{Id: "test", Cluster: "test"}
	b.Proto.DynamicResources = &bootstrapv3.Bootstrap_DynamicResources{LdsConfig: &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_PathConfigSource{PathConfigSource: &corev3.PathConfigSource{
			Path: f.path, WatchedDirectory: &corev3.WatchedDirectory{Path: folder},
		}},
	}}
	f.write()
}

// write puts the listeners into the file, at once.
func (f *listenersFile) write() {
	f.t.Helper()
	answer := &discoveryv3.DiscoveryResponse{VersionInfo: strconv.FormatInt(time.Now().UnixNano(), 10)}
	for _, l := range f.now.Proto.StaticResources.Listeners {
		a, err := anypb.New(l)
		require.NoError(f.t, err)
		answer.Resources = append(answer.Resources, a)
	}
	text, err := protojson.Marshal(answer)
	require.NoError(f.t, err)
	require.NoError(f.t, os.WriteFile(f.path+".new", text, 0o600))
	require.NoError(f.t, os.Rename(f.path+".new", f.path))
}

// stat returns a counter or gauge of Envoy's.
func (r *rig) stat(name string) int {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	page, err := r.envoy.Admin(ctx, "/stats?filter=^"+regexp.QuoteMeta(name)+"$")
	require.NoError(r.t, err)
	var n int
	fmt.Sscanf(string(page), name+": %d", &n)
	return n
}

// listeners returns the URLs of listeners by their names.
func (r *rig) listeners() map[string]string {
	r.t.Helper()
	page, err := r.envoy.Admin(r.t.Context(), "/listeners?format=json")
	require.NoError(r.t, err)
	var list struct {
		Statuses []struct {
			Name  string
			Local struct {
				Socket struct {
					Port int `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	require.NoError(r.t, json.Unmarshal(page, &list))
	urls := map[string]string{}
	for _, s := range list.Statuses {
		urls[s.Name] = fmt.Sprintf("http://127.0.0.1:%d", s.Local.Socket.Port)
	}
	return urls
}

// anotherListener adds a copy of the first listener, whose module's filter has a name.
func anotherListener(t *testing.T, b *envoyproxy.Bootstrap, name, filter string) {
	t.Helper()
	all := &b.Proto.StaticResources.Listeners
	l := proto.CloneOf((*all)[0])
	l.Name = name
	alone := &envoyproxy.Bootstrap{Proto: &bootstrapv3.Bootstrap{StaticResources: &bootstrapv3.Bootstrap_StaticResources{Listeners: []*listenerv3.Listener{l}}}}
	named(t, alone, filter)
	*all = append(*all, l)
}

// named names the module's filter in all listeners.
func named(t *testing.T, b *envoyproxy.Bootstrap, name string) {
	t.Helper()
	err := b.Manager(func(m *hcmv3.HttpConnectionManager) {
		for _, f := range m.HttpFilters {
			var config modulesv3.DynamicModuleFilter
			if f.GetTypedConfig().MessageIs(&config) {
				require.NoError(t, f.GetTypedConfig().UnmarshalTo(&config))
				config.FilterName = name
				require.NoError(t, f.GetTypedConfig().MarshalFrom(&config))
			}
		}
	})
	require.NoError(t, err)
}

// moduleOf returns which module the filter of the first listener is of.
func moduleOf(t *testing.T, b *envoyproxy.Bootstrap) (module *dynamicv3.DynamicModuleConfig) {
	t.Helper()
	err := b.Manager(func(m *hcmv3.HttpConnectionManager) {
		for _, f := range m.HttpFilters {
			var config modulesv3.DynamicModuleFilter
			if f.GetTypedConfig().MessageIs(&config) {
				require.NoError(t, f.GetTypedConfig().UnmarshalTo(&config))
				module = config.DynamicModuleConfig
			}
		}
	})
	require.NoError(t, err)
	return module
}

// exactly matches one text.
func exactly(text string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: text}}
}
