package instance_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/examples/envoy/internal/exchangetest"
	"github.com/inferpick/inferpick/examples/envoy/internal/logbuffer"
	"github.com/inferpick/inferpick/examples/envoy/module/filter"
	"github.com/inferpick/inferpick/examples/envoy/module/filter/hosttest"
	"github.com/inferpick/inferpick/examples/envoy/module/instance"
)

const manifests = `
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: llama}
spec: {selector: {matchLabels: {app: llama}}, targetPorts: [{number: 8000}]}
---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: other}
spec: {selector: {matchLabels: {app: other}}, targetPorts: [{number: 8000}]}
---
apiVersion: inferpick.io/v1alpha1
kind: StaticEndpoints
metadata: {name: of-llama}
spec:
  poolRef: {name: llama}
  endpoints:
  - {id: a, address: "10.0.0.1:8000", metrics: {disabled: true}}
---
apiVersion: inferpick.io/v1alpha1
kind: StaticEndpoints
metadata: {name: of-other}
spec:
  poolRef: {name: other}
  endpoints: [{id: o, address: "10.0.0.9:8000", metrics: {disabled: true}}]
`

// fixture are Instances, and a configuration for them.
type fixture struct {
	*instance.Instances
	path string
	log  *logbuffer.Buffer
}

func newFixture(t *testing.T, change func(string, *epp.Options)) *fixture {
	t.Helper()
	f := &fixture{path: filepath.Join(t.TempDir(), "epp.yaml"), log: new(logbuffer.Buffer)}
	require.NoError(t, os.WriteFile(f.path, []byte(manifests), 0o600))
	f.Instances = instance.New(instance.Options{Change: change, NewLogger: func() *slog.Logger {
		return slog.New(slog.NewTextHandler(f.log, nil))
	}})
	return f
}

// config is the configuration of a filter, as Envoy has it, with fields in pairs beside the picker's file.
func (f *fixture) config(t *testing.T, pairs ...any) []byte {
	t.Helper()
	fields := map[string]any{"config": f.path, "pool": "llama"}
	for i := 0; i < len(pairs); i += 2 {
		fields[pairs[i].(string)] = pairs[i+1]
	}
	b, err := json.Marshal(fields)
	require.NoError(t, err)
	return b
}

// open makes a filter, which is closed at the test's end if it was not.
func (f *fixture) open(t *testing.T, name string, pairs ...any) filter.Factory {
	t.Helper()
	one, err := f.NewFilter(name, f.config(t, pairs...), false)
	require.NoError(t, err)
	t.Cleanup(one.Close)
	return one
}

// goes returns where a request goes.
func goes(t *testing.T, one filter.Factory, route *filter.Settings) string {
	t.Helper()
	s := hosttest.New(t, one.NewStream())
	s.RouteSettings = route
	s.Request(false, ":method", "POST", ":path", "/v1/chat/completions", "content-type", "application/json")
	s.Body(true, exchangetest.ChatBody(1))
	require.Nil(t, s.Answer, "%v", s)
	s.Wait()
	require.Nil(t, s.Answer, "%v", s)
	to, _ := s.Upstream.Get(exchangetest.DestinationKey)
	s.Destroy()
	return to
}

// free returns an address that nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	return ln.Addr().String()
}

// isFree reports whether nobody listens.
func isFree(address string) bool {
	ln, err := net.Listen("tcp", address)
	if err == nil {
		ln.Close()
	}
	return err == nil
}

// TestBadSettings: what is wrong is named, nothing is begun, and Envoy's validation says the same.
func TestBadSettings(t *testing.T) {
	f := newFixture(t, nil)
	missing := filepath.Join(t.TempDir(), "missing.yaml")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	before := runtime.NumGoroutine()
	for _, tt := range []struct {
		field string
		value any
		want  string
		later bool // only a start finds it
	}{
		{"pool", "a/b/c", `pool: pool is "a/b/c"`, false},
		{"pool", "", "pool is", false},
		{"pool", []any{"llama"}, "pool is", false},
		{"pool", nil, "pool is null", false},
		{"destinations", "many", `destinations: "many", want a number from 1, or all`, false},
		{"destinations", 0, "destinations:", false},
		{"destinations", 1.5, "destinations:", false},
		{"destinations", true, "destinations is true", false},
		{"explain", "perhaps", "explain", false},
		{"max-body", "-1", "max-body", true},
		{"max-bodi", 5, "max-bodi is no flag of the picker; the nearest is max-body", false},
		{"grpc-addr", ":9002", "grpc-addr is of no use here", false},
		{"stream-idle-timeout", "1s", "stream-idle-timeout is of no use here", false},
		{"help", true, "help is of no use here", false},
		{"metrics-addr", nil, "metrics-addr", false},
		{"config", missing, missing, false},
		{"metrics-addr", taken.Addr().String(), "metrics address", true},
		{"metrics-addr", "nonsense", "nonsense", true},
	} {
		for _, validate := range []bool{true, false} {
			if validate && tt.later {
				continue
			}
			_, err := f.NewFilter("main", f.config(t, tt.field, tt.value), validate)
			require.ErrorContains(t, err, "filter main: ", "%s: %v", tt.field, tt.value)
			require.ErrorContains(t, err, tt.want, "%s: %v", tt.field, tt.value)
		}
		if tt.field == "pool" || tt.field == "destinations" {
			_, err := f.NewRoute("main", mustJSON(t, map[string]any{tt.field: tt.value}))
			require.ErrorContains(t, err, "route's configuration of filter main: ")
			require.ErrorContains(t, err, tt.want)
		}
	}
	for _, config := range []string{"[]", "null", "text", `"text"`, "{", "7"} {
		_, err := f.NewFilter("main", []byte(config), true)
		require.ErrorContains(t, err, "want a google.protobuf.Struct", config)
		_, err = f.NewRoute("main", []byte(config))
		require.ErrorContains(t, err, "want a google.protobuf.Struct", config)
	}
	_, err = f.NewRoute("main", f.config(t))
	require.ErrorContains(t, err, "a route has no config, only pool and destinations")
	exchangetest.NoMoreGoroutines(t, before)
	f.open(t, "main") // what failed has left nothing
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return b
}

// TestStartErrors leave nothing: what listened before something else failed does not any more.
func TestStartErrors(t *testing.T) {
	before := runtime.NumGoroutine()
	f := newFixture(t, nil)
	health := free(t)
	for range 3 {
		_, err := f.NewFilter("main", f.config(t, "health-addr", health, "metrics-addr", "nonsense"), false)
		require.ErrorContains(t, err, "nonsense")
		require.True(t, isFree(health))
	}
	exchangetest.NoMoreGoroutines(t, before)
}

// TestValidate begins nothing.
func TestValidate(t *testing.T) {
	before := runtime.NumGoroutine()
	f := newFixture(t, func(string, *epp.Options) { t.Error("an instance is made") })
	metrics := free(t)
	one, err := f.NewFilter("main", f.config(t, "metrics-addr", metrics), true)
	require.NoError(t, err)
	require.True(t, isFree(metrics))
	require.Panics(t, func() { one.NewStream() })
	one.Close()
	require.NoError(t, os.WriteFile(f.path, []byte("kind: Nonsense\n"), 0o600))
	_, err = f.NewFilter("main", f.config(t), true)
	require.ErrorContains(t, err, f.path)
	exchangetest.NoMoreGoroutines(t, before)
}

// TestNames: filters of one name share a picker, which ends with the last of them; those of another have their own.
func TestNames(t *testing.T) {
	before := runtime.NumGoroutine()
	var made []string
	f := newFixture(t, func(name string, _ *epp.Options) { made = append(made, name) })
	metrics := free(t)
	first := f.open(t, "main", "metrics-addr", metrics)
	second := f.open(t, "main", "metrics-addr", metrics, "pool", "other", "destinations", "all")
	another := f.open(t, "another")
	require.Equal(t, []string{"main", "another"}, made)
	require.Equal(t, "10.0.0.1:8000", goes(t, another, nil))

	// What each filter, and each route, asks for is its own.
	for range 4 {
		require.Equal(t, "10.0.0.1:8000", goes(t, first, nil))
		require.Equal(t, "10.0.0.9:8000", goes(t, second, nil))
	}
	route, err := f.NewRoute("main", []byte(`{"pool": "default/other"}`))
	require.NoError(t, err)
	require.Equal(t, "10.0.0.9:8000", goes(t, first, route))
	route, err = f.NewRoute("main", nil)
	require.NoError(t, err)
	require.Equal(t, "10.0.0.9:8000", goes(t, second, route))

	// Flags are those of the first, as long as there is one.
	for name, config := range map[string][]byte{
		"metrics-addr": f.config(t, "metrics-addr", free(t)),
		"explain":      f.config(t, "metrics-addr", metrics, "explain", true),
	} {
		_, err := f.NewFilter("main", config, false)
		require.ErrorContains(t, err, "filter main: its picker runs with another "+name)
		require.ErrorContains(t, err, "restart Envoy, or give the filter another filter_name")
	}
	resp, err := http.Get("http://" + metrics + "/metrics")
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, 200, resp.StatusCode)

	first.Close()
	first.Close() // counts once
	require.False(t, isFree(metrics))
	require.Equal(t, "10.0.0.9:8000", goes(t, second, nil))
	second.Close()
	require.True(t, isFree(metrics))
	anew := f.open(t, "main", "metrics-addr", metrics, "explain", true)
	require.Equal(t, "10.0.0.1:8000", goes(t, anew, nil))
	require.Len(t, made, 3)
	anew.Close()
	another.Close()
	http.DefaultClient.CloseIdleConnections()
	exchangetest.NoMoreGoroutines(t, before)
}

// TestAtTheSameTime: filters may come and go from any goroutine.
func TestAtTheSameTime(t *testing.T) {
	before := runtime.NumGoroutine()
	var mu sync.Mutex
	running := map[string]int{}
	f := newFixture(t, func(name string, _ *epp.Options) {
		mu.Lock()
		defer mu.Unlock()
		running[name]++
	})
	metrics := map[string]string{"a": free(t), "b": free(t)}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 4 {
				name := string("ab"[(i+n)%2])
				one, err := f.NewFilter(name, f.config(t, "metrics-addr", metrics[name]), false)
				if err != nil {
					t.Error(err)
					return
				}
				if i%2 == 0 {
					runtime.Gosched()
				}
				one.Close()
			}
		})
	}
	wg.Wait()
	require.Positive(t, running["a"])
	require.Positive(t, running["b"])
	for _, address := range metrics {
		require.True(t, isFree(address))
	}
	http.DefaultClient.CloseIdleConnections()
	exchangetest.NoMoreGoroutines(t, before)
}

// TestStateStays: what a picker knows stays while there is a filter of its name, such as how many requests are open.
func TestStateStays(t *testing.T) {
	f := newFixture(t, nil)
	first := f.open(t, "main", "max-streams", 1)
	s := hosttest.New(t, first.NewStream())
	s.Request(false, ":method", "POST", ":path", "/v1/chat/completions")
	second := f.open(t, "main", "max-streams", 1)
	refused := hosttest.New(t, second.NewStream())
	refused.Request(false, ":method", "POST", ":path", "/v1/chat/completions")
	require.NotNil(t, refused.Answer)
	require.Equal(t, 503, refused.Answer.Status)
	s.Destroy()
	first.Close()
	require.Equal(t, "10.0.0.1:8000", goes(t, second, nil))
}

// TestPanicInTheBackground, even of who is told what goes on there: the picker goes on.
func TestPanicInTheBackground(t *testing.T) {
	f := newFixture(t, nil)
	log := &explodes{Handler: slog.NewTextHandler(f.log, nil)}
	f.Instances = instance.New(instance.Options{
		Change:    func(_ string, o *epp.Options) { o.ReloadInterval = 5 * time.Millisecond },
		NewLogger: func() *slog.Logger { return slog.New(log) },
	})
	one := f.open(t, "main")
	require.Equal(t, "10.0.0.1:8000", goes(t, one, nil))
	require.NoError(t, os.WriteFile(f.path, []byte(strings.ReplaceAll(manifests, "10.0.0.1:", "10.0.0.6:")), 0o600))
	require.Eventually(t, func() bool { return log.told.Load() >= 2 }, exchangetest.Patience, 5*time.Millisecond, f.log)
	require.NoError(t, os.WriteFile(f.path, []byte(strings.ReplaceAll(manifests, "10.0.0.1:", "10.0.0.7:")), 0o600))
	require.Eventually(t, func() bool { return goes(t, one, nil) == "10.0.0.7:8000" }, exchangetest.Patience, 5*time.Millisecond, "it reads on")
}

// explodes panics when it is told that a configuration was read again.
type explodes struct {
	slog.Handler
	told atomic.Int32
}

// Handle implements slog.Handler.
func (e *explodes) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == "configuration is in force" && e.told.Add(1) == 2 {
		panic("on purpose")
	}
	return e.Handler.Handle(ctx, r)
}

// TestHeap: what is reserved of it stays.
func TestHeap(t *testing.T) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		t.Skip("somebody has decided about the heap")
	}
	f := newFixture(t, nil)
	f.open(t, "main").Close()
	f.open(t, "main")
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	require.Greater(t, m.HeapAlloc, uint64(128<<20))
	require.Less(t, m.HeapAlloc, uint64(256<<20), "once")
	runtime.KeepAlive(f)
}

// TestProcessors: there are more than Envoy has workers, unless somebody has decided.
func TestProcessors(t *testing.T) {
	t.Cleanup(runtime.SetDefaultGOMAXPROCS)
	for _, decided := range []string{"1", ""} {
		t.Setenv("GOMAXPROCS", decided)
		runtime.GOMAXPROCS(1)
		newFixture(t, nil).open(t, "main")
		want := 1
		if decided == "" {
			want = runtime.NumCPU() + 2
		}
		require.Equal(t, want, runtime.GOMAXPROCS(0), "GOMAXPROCS=%s", decided)
	}
}

// ExampleInstances is what Envoy does with a module.
func ExampleInstances() {
	all := instance.New(instance.Options{NewLogger: func() *slog.Logger { return slog.New(slog.DiscardHandler) }})
	_, err := all.NewFilter("main", []byte(`{"config": "/no/such/file", "destinations": "all"}`), true)
	fmt.Println(err)
	// Output: filter main: config: stat /no/such/file: no such file or directory
}
