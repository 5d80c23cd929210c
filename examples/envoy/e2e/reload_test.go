package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	modulesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/dynamic_modules/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/inferpick/inferpick/examples/envoy/envoyproxy"
)

// This file is about configurations of Envoy that has the picker inside: which there may be, and what becomes of the
// picker when they change.

// TestConfigurationOfEnvoyChanges under load: no request is lost, the picker stays and knows what it knew. Flags that
// cannot change are refused, and what was there stays. Another name is another picker, and the one that nobody uses any
// more ends.
func TestConfigurationOfEnvoyChanges(t *testing.T) {
	servers := []string{serve(t, answering), serve(t, answering)}
	var file listenersFile
	r, in := newInner(t, rigOptions{servers: servers, envoy: file.fromFile, args: []string{"--drain-time-s", "1", "--drain-strategy", "immediate"}})
	done := make(chan struct{})
	var wg sync.WaitGroup
	var served atomic.Int64
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				resp, body, err := r.post(t.Context(), 1)
				if err != nil || resp.StatusCode != 200 || body != restored {
					t.Errorf("under way: %v, %v, %s", err, resp, body)
					return
				}
				served.Add(1)
			}
		})
	}
	end := sync.OnceFunc(func() {
		close(done)
		wg.Wait()
	})
	defer end()
	goesOn := func() {
		t.Helper()
		before := served.Load()
		waitFor(t, "requests", func() bool { return served.Load() > before+20 })
	}
	for i, destinations := range []string{"1", "2", "all"} {
		require.NoError(t, file.now.Module(map[string]any{"destinations": destinations}))
		file.write()
		waitFor(t, "Envoy to take the listener", func() bool { return r.stat("listener_manager.listener_modified") == i+1 })
		goesOn()
	}
	require.Equal(t, 1, in.state(false).Started)

	// That an update was refused Envoy may count more than once, so it is the log that tells which.
	refused := func(why string) {
		t.Helper()
		waitFor(t, "Envoy to say why it refuses it", func() bool { return strings.Contains(r.log.String(), why) })
		waitFor(t, "Envoy to count it", func() bool { return r.stat("listener_manager.lds.update_rejected") > 0 })
	}
	require.NoError(t, file.now.Module(map[string]any{"max-body": 12345}))
	file.write()
	refused("its picker runs with another max-body")
	goesOn()

	named(t, file.now, "another")
	require.NoError(t, file.now.Module(map[string]any{"config": "/nowhere"}))
	file.write()
	refused("/nowhere")
	goesOn()
	require.False(t, in.stateOf("another", false).Running)

	require.NoError(t, file.now.Module(map[string]any{"config": r.folder}))
	file.write()
	waitFor(t, "the other picker", func() bool { return in.stateOf("another", false).Running })
	goesOn()
	waitFor(t, "the first picker to end", func() bool { return !in.state(false).Running })
	goesOn()
	end()
	require.Equal(t, 1, in.state(false).Started)
	waitFor(t, "all to be done", func() bool {
		s := in.stateOf("another", false)
		return s.Booked == 0 && s.Open == 0 && s.Exchanges == 0
	})
	t.Logf("%d requests were served meanwhile", served.Load())
}

// TestRefusedConfigurations: Envoy does not start with what is wrong, and says what it is.
func TestRefusedConfigurations(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts Envoy for each of them")
	}
	bin := findEnvoy(t)
	needCompiler(t)
	modules, err := modules.ours()
	require.NoError(t, err)
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	require.NoError(t, os.WriteFile(bad, []byte("kind: [\n"), 0o600))
	t.Setenv("ENVOY_DYNAMIC_MODULES_SEARCH_PATH", modules)
	for _, tt := range []struct {
		name   string
		fields map[string]any
		want   []string
	}{
		{"bad YAML", map[string]any{"config": bad}, []string{"bad.yaml"}},
		{"no such file", map[string]any{"config": "/nowhere"}, []string{"/nowhere"}},
		{"no flag", map[string]any{"config": "../demo", "max-bdy": 1}, []string{"max-bdy", "the nearest is max-body"}},
		{"no destinations", map[string]any{"config": "../demo", "destinations": "many"}, []string{"destinations", "many"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := envoyproxy.ReadBootstrap(inside)
			require.NoError(t, err)
			require.NoError(t, b.Listen("127.0.0.1:0", "127.0.0.1:0"))
			require.NoError(t, b.Module(tt.fields))
			p, err := envoyproxy.Start(t.Context(), envoyproxy.StartOptions{Bin: bin, Bootstrap: b, Concurrency: 1})
			if err == nil {
				p.Stop()
				t.Fatal("Envoy has started")
			}
			for _, want := range tt.want {
				require.ErrorContains(t, err, want)
			}
			require.ErrorContains(t, envoyproxy.Validate(t.Context(), bin, written(t, b)), tt.want[0], "by --mode validate")
		})
	}
	t.Run("validate opens no ports", func(t *testing.T) {
		b, err := envoyproxy.ReadBootstrap(inside)
		require.NoError(t, err)
		taken := serve(t, answering) // what is listened at already could not be opened
		require.NoError(t, b.Module(map[string]any{"config": "../demo", "metrics-addr": taken, "health-addr": taken}))
		require.NoError(t, envoyproxy.Validate(t.Context(), bin, written(t, b)))
	})
}

// written returns the path of a file with a configuration.
func written(t *testing.T, b *envoyproxy.Bootstrap) string {
	t.Helper()
	text, err := b.JSON()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "envoy.json")
	require.NoError(t, os.WriteFile(path, text, 0o600))
	return path
}

// TestRoutesAndNames: a route can have a pool and a number of destinations of its own, or go without a picker. Filters
// of one name share a picker, and another name is one more.
func TestRoutesAndNames(t *testing.T) {
	first, second, unknown := serve(t, answering), serve(t, answering), serve(t, answering)
	r, in := newInner(t, rigOptions{servers: []string{first}, config: fmt.Sprintf(`
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: second}
spec: {selector: {matchLabels: {app: second}}, targetPorts: [{number: 8000}]}
---
apiVersion: inferpick.io/v1alpha1
kind: StaticEndpoints
metadata: {name: second}
spec: {poolRef: {name: second}, endpoints: [{address: %q, metrics: {disabled: true}}]}
`, second), flags: map[string]any{"metrics-addr": "-"}, envoy: func(t *testing.T, b *envoyproxy.Bootstrap) {
		require.NoError(t, b.Servers(first, second, unknown))
		routes(t, b)
		anotherListener(t, b, "same", filterName)
		anotherListener(t, b, "other", "other")
	}})
	by := func(header ...string) string {
		t.Helper()
		resp, body, err := r.do(t.Context(), "/v1/chat/completions", strings.Replace(chatBody(1), `"chat"`, `"any"`, 1), header...)
		require.NoError(t, err)
		require.Equal(t, 200, resp.StatusCode, body)
		return resp.Header.Get("x-served-by")
	}
	for i := range 6 {
		id := fmt.Sprint("s", i)
		require.Equal(t, first, by("x-session-id", "first"+id, "x-route", "first"))
		require.Equal(t, second, by("x-session-id", "second"+id, "x-route", "second"))
		require.Equal(t, second, in.view("second"+id).Served)
	}
	alone := map[string]bool{}
	for i := range 12 {
		alone[by("x-route", "none", "x-session-id", fmt.Sprint("none", i))] = true
		require.Empty(t, in.view(fmt.Sprint("none", i)))
	}
	require.Len(t, alone, 3, "Envoy chooses by itself among all")

	urls := r.listeners()
	for name, url := range urls {
		r.url = url
		require.Equal(t, first, by("x-session-id", name, "x-route", "first"))
		require.Equal(t, first, in.view(name).Served)
	}
	require.Len(t, urls, 3)
	require.Equal(t, 1, in.state(false).Started)
	require.Equal(t, 1, in.stateOf("other", false).Started)
	r.settled()
}

// routes makes routes by a header: of the pools llama and second, and one without a picker.
func routes(t *testing.T, b *envoyproxy.Bootstrap) {
	perRoute := func(fields map[string]any) *anypb.Any {
		config, err := structpb.NewStruct(fields)
		require.NoError(t, err)
		own, err := anypb.New(config)
		require.NoError(t, err)
		a, err := anypb.New(&modulesv3.DynamicModuleFilterPerRoute{
			DynamicModuleConfig: moduleOf(t, b), FilterName: filterName, FilterConfig: own,
		})
		require.NoError(t, err)
		return a
	}
	off, err := anypb.New(&routev3.FilterConfig{Disabled: true})
	require.NoError(t, err)
	err = b.Manager(func(m *hcmv3.HttpConnectionManager) {
		host := m.GetRouteConfig().VirtualHosts[0]
		all := host.Routes[0]
		host.Routes = nil
		for name, config := range map[string]*anypb.Any{
			"first": perRoute(map[string]any{"pool": "llama"}), "second": perRoute(map[string]any{"pool": "default/second", "destinations": 1}), "none": off,
		} {
			one := proto.CloneOf(all)
			one.Match.Headers = []*routev3.HeaderMatcher{{Name: "x-route", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: exactly(name)}}}
			one.TypedPerFilterConfig = map[string]*anypb.Any{filterName: config}
			host.Routes = append(host.Routes, one)
		}
		host.Routes = append(host.Routes, all)
	})
	require.NoError(t, err)
}
