package datastore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

const goodFile = `{
  "manifests": [
    {"apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool", "metadata": {"name": "llama"},
     "spec": {"selector": {"matchLabels": {"app": "llama"}}, "targetPorts": [{"number": 8000}]}},
    {"kind": "List", "items": [
      {"apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceModel", "metadata": {"name": "chat"},
       "spec": {"modelName": "chat", "poolRef": {"name": "llama"}, "targetModels": [{"name": "chat-v1"}]}}]}
  ],
  "endpoints": [
    {"pool": "default/llama", "id": "a", "address": "10.0.0.1:8000", "labels": {"zone": "1"}, "state": "draining", "engine": "vllm",
     "capacity": {"speed": 2, "maxConcurrency": 256, "kvTokens": 500000, "costPerHour": 2.5},
     "metrics": {"address": "10.0.0.1:9100", "path": "/m", "scheme": "https", "disabled": true}},
    {"address": "10.0.0.2:8000", "labels": {"app": "llama"}},
    {"pool": "plain", "address": "10.0.0.3:8000"}
  ]
}`

func write(t *testing.T, path, text string) {
	t.Helper()
	// As an editor or a config map does it: the new file takes the old one's place.
	must(t, os.WriteFile(path+".new", []byte(text), 0o600))
	must(t, os.Rename(path+".new", path))
}

func TestFileSource(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inferpick.json")
	var (
		log   bytes.Buffer
		loads []error
	)
	s := datastore.New(datastore.Options{})
	must(t, s.SetEndpoints(name("elsewhere"), specs(1)))
	f := datastore.NewFileSource(s, path, datastore.FileOptions{
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
		OnLoad: func(err error) { loads = append(loads, err) },
	})
	if err := f.Load(); !errors.Is(err, os.ErrNotExist) || f.Err() == nil {
		t.Errorf("Load without a file = %v, want that it does not exist", err)
	}

	write(t, path, goodFile)
	must(t, f.Load())
	must(t, f.Err())
	var got []datastore.EndpointSpec
	stop := s.Watch(func(ev datastore.Event) {
		if ev.Pool == llama {
			got = append(got, ev.Spec)
		}
	})
	stop()
	if len(got) != 2 {
		t.Fatalf("specs = %+v, want two", got)
	}
	want := datastore.EndpointSpec{
		ID: "a", Address: "10.0.0.1:8000", State: types.Draining, Engine: "vllm",
		Capacity:       types.Capacity{Speed: 2, MaxConcurrency: 256, KVTokens: 500000, CostPerHour: 2.5},
		MetricsAddress: "10.0.0.1:9100", MetricsPath: "/m", MetricsScheme: "https", NoMetrics: true,
	}
	if zone := got[0].Labels["zone"]; zone != "1" {
		t.Errorf("zone = %q, want 1", zone)
	}
	got[0].Labels = nil
	if fmt.Sprintf("%+v", got[0]) != fmt.Sprintf("%+v", want) {
		t.Errorf("spec = %+v, want %+v", got[0], want)
	}
	if got[1].ID != "10.0.0.2:8000" {
		t.Errorf("the endpoint that is selected by its labels = %+v", got[1])
	}
	r, err := s.Snapshot().Resolve(datastore.Query{Model: "chat"})
	if err != nil || r.TargetModel != "chat-v1" {
		t.Errorf("Resolve = %+v, %v", r, err)
	}

	// A bad version: all stays, and the error says where.
	before := s.Snapshot()
	write(t, path, strings.Replace(goodFile, `"10.0.0.2:8000"`, `"10.0.0.2"`, 1))
	for range 2 {
		err := f.Load()
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), `endpoints[1].address is "10.0.0.2", want host:port`) {
			t.Errorf("Load of a bad version = %v", err)
		}
	}
	if s.Snapshot() != before {
		t.Error("a bad version changed something")
	}

	// What an earlier version named is emptied, what others feed is not.
	write(t, path, `{"endpoints": [{"pool": "llama", "address": "10.0.0.9:1"}]}`)
	must(t, f.Load())
	if n := len(endpoints(t, s, name("plain"))); n != 0 {
		t.Errorf("pool plain has %d endpoints, want none: the file names it no more", n)
	}
	if n := len(endpoints(t, s, name("elsewhere"))); n != 1 {
		t.Error("a pool of another source was touched")
	}
	if len(s.Snapshot().Models()) != 1 {
		t.Error("without manifests in the file, those in the store must stay")
	}
	write(t, path, `{"manifests": []}`)
	must(t, f.Load())
	if s.Snapshot().Pool(llama) != nil || len(s.Snapshot().Models()) != 0 {
		t.Error("an empty list of manifests must take all away")
	}
	write(t, path, `{"manifests": [], "endpoints": []}`)
	must(t, f.Load())
	if s.Snapshot().Pool(llama) != nil {
		t.Error("a pool that went with its manifest came back")
	}

	if len(loads) != 6 || loads[0] == nil || loads[1] != nil || loads[2] == nil || loads[5] != nil {
		t.Errorf("OnLoad was called with %v", loads)
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 2 {
		t.Errorf("%d errors in the log, want 2:\n%s", n, log.String())
	}
}

func TestFileErrors(t *testing.T) {
	tests := []struct {
		name string
		text string
		want []string
	}{
		{"empty", ``, []string{"f.json:1:1: the document is empty, want a JSON object"}},
		{"syntax", "{\n \"endpoints\": [,]}", []string{"f.json:2:16: the document is no JSON: "}},
		{"after the end", `{} {}`, []string{"f.json:1:4: ", "after top-level value"}},
		{"unknown field", `{"pools": []}`, []string{"f.json:1:2: pools is not a field; known are manifests, endpoints"}},
		{"unknown field of an endpoint", `{"endpoints": [{"adress": "a:1"}]}`, []string{"f.json:1:17: endpoints[0].adress is not a field; the nearest is address"}},
		{"type", "{\"endpoints\":\n [{\"address\": 5}]}", []string{"f.json:2:4: endpoints[0].address is 5, want a string"}},
		{"type of the file", `[]`, []string{"f.json:1:1: the document is [], want an object"}},
		{"twice", "{\"endpoints\": [],\n \"endpoints\": []}", []string{"f.json:2:2: endpoints is there twice, first at line 1, column 2"}},
		{"label twice", `{"endpoints": [{"pool": "p", "address": "a:1", "labels": {"x": "1", "x": "2"}}]}`, []string{"endpoints[0].labels.x is there twice, first at line 1, column 59"}},
		{"all that is wrong", `{"manifests": [{"kind": "Pod"}], "endpoints": [{"pool": "p"}, {"pool": "a/b/c", "address": "a:1"}, {"address": "a:1"}, {"pool": "p", "address": "a:1", "state": "idle"}]}`,
			[]string{`f.json:1:17: manifests[0]: object 0: kind is " Pod", want one of InferencePool`, `f.json:1:48: endpoints[0].address is "", want host:port`, `f.json:1:64: endpoints[1].pool is "a/b/c", want name or namespace/name`, "f.json:1:100: endpoints[2].pool is required", `endpoints[3].state is "idle", want one of ready, draining, unhealthy`}},
		{"same id", `{"endpoints": [{"pool": "p", "address": "a:1"}, {"pool": "p", "address": "a:1"}]}`, []string{`pool default/p: endpoint 1: id "a:1" is that of endpoint 0 too`}},
		{"too large", `{"endpoints": []` + strings.Repeat(" ", 1000) + `}`, []string{"more than 1000 bytes (FileOptions.MaxBytes)"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f.json")
			write(t, path, tt.text)
			s := datastore.New(datastore.Options{})
			err := datastore.NewFileSource(s, path, datastore.FileOptions{MaxBytes: 1000}).Load()
			require.Error(t, err, "Load = nil")
			for _, want := range append(tt.want, path) {
				require.Contains(t, err.Error(), want)
			}
			if len(s.Snapshot().Pools()) != 0 {
				t.Error("something was taken over")
			}
		})
	}
}

func TestFileSourceRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.json")
	synctest.Test(t, func(t *testing.T) {
		s := datastore.New(datastore.Options{DeclaredPoolsOnly: true})
		f := datastore.NewFileSource(s, path, datastore.FileOptions{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- f.Run(ctx) }()
		expect := func(what string, n int, bad bool) {
			t.Helper()
			time.Sleep(1100 * time.Millisecond)
			synctest.Wait()
			if got := len(endpoints(t, s, llama)); got != n || (f.Err() != nil) != bad {
				t.Errorf("%s: %d endpoints, Err %v; want %d, bad %v", what, got, f.Err(), n, bad)
			}
		}
		expect("no file", 0, true)
		write(t, path, `{"endpoints": [{"pool": "llama", "address": "a:1"}]}`)
		expect("the pool is not declared yet", 0, true)
		must(t, s.Apply(pool("llama")))
		expect("it is now", 1, false)
		// The same size, and perhaps the same time.
		write(t, path, `{"endpoints": [{"pool": "llama", "address": "b:1"}]}`)
		expect("same size", 1, false)
		require.Equal(t, "b:1", endpoints(t, s, llama)[0].Address, "address")
		must(t, os.Remove(path))
		expect("removed", 1, true)
		cancel()
		must(t, <-done)
	})
}

// names is a Resolver of our own. A test that looks names up in another
// goroutine changes it in set.
type names struct {
	mu    sync.Mutex
	hosts map[string][]string
	srv   []*net.SRV
	err   error
	slow  bool
}

func (n *names) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.slow {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if n.err != nil {
		return nil, n.err
	}
	list, ok := n.hosts[host]
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out, nil
}

func (n *names) set(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
}

func (n *names) LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error) {
	return name, n.srv, n.err
}

func TestDNSSource(t *testing.T) {
	r := &names{hosts: map[string][]string{"llama": {"10.0.0.2", "10.0.0.1", "::ffff:10.0.0.1", "fd00::1"}}}
	s := datastore.New(datastore.Options{})
	d, err := datastore.NewDNSSource(s, datastore.DNSOptions{
		Pool: llama, Host: "llama", Port: 8000, Resolver: r, MaxAddresses: 4, MetricsPort: 9100,
		Template: datastore.EndpointSpec{Labels: map[string]string{"app": "llama"}, Engine: "vllm"},
	})
	must(t, err)
	expect := func(what string, bad string, want ...string) {
		t.Helper()
		err := d.Load(t.Context())
		if (err == nil) != (bad == "") || err != nil && !strings.Contains(err.Error(), bad) || !errors.Is(d.Err(), err) {
			t.Errorf("%s: Load = %v, Err = %v, want %q", what, err, d.Err(), bad)
		}
		if got := ids(endpoints(t, s, llama)); !slices.Equal(got, want) {
			t.Errorf("%s: endpoints %q, want %q", what, got, want)
		}
	}
	expect("first", "", "10.0.0.1:8000", "10.0.0.2:8000", "[fd00::1]:8000")
	eps := endpoints(t, s, llama)
	if eps[0].Labels["app"] != "llama" {
		t.Error("the template was not used")
	}
	stop := s.Watch(func(ev datastore.Event) {
		if ev.Spec.Engine != "vllm" || !strings.HasSuffix(ev.Spec.MetricsAddress, ":9100") {
			t.Errorf("spec = %+v", ev.Spec)
		}
	})
	stop()

	r.hosts["llama"] = []string{"10.0.0.2", "10.0.0.3"}
	expect("one goes, one comes", "", "10.0.0.2:8000", "10.0.0.3:8000")
	if endpoints(t, s, llama)[0].Load != eps[1].Load {
		t.Error("the one that stays lost its ledger")
	}

	r.hosts["llama"] = nil
	expect("empty", "has no addresses", "10.0.0.2:8000", "10.0.0.3:8000")
	delete(r.hosts, "llama")
	expect("not found", "no such host", "10.0.0.2:8000", "10.0.0.3:8000")
	r.err = errors.New("server misbehaving")
	expect("failing", "server misbehaving", "10.0.0.2:8000", "10.0.0.3:8000")

	r.err = nil
	r.hosts["llama"] = []string{"10.0.0.9", "10.0.0.8", "10.0.0.7", "10.0.0.6", "10.0.0.5"}
	expect("too many", "MaxAddresses is 4", "10.0.0.5:8000", "10.0.0.6:8000", "10.0.0.7:8000", "10.0.0.8:8000")
}

func TestDNSSourceClears(t *testing.T) {
	for _, what := range []string{"not found", "empty", "failing"} {
		t.Run(what, func(t *testing.T) {
			r := &names{hosts: map[string][]string{"llama": {"10.0.0.1"}}}
			s := datastore.New(datastore.Options{})
			d, err := datastore.NewDNSSource(s, datastore.DNSOptions{Pool: llama, Host: "llama", Port: 1, Resolver: r, ClearOnNotFound: true})
			must(t, err)
			must(t, d.Load(t.Context()))
			want := 0
			switch what {
			case "not found":
				delete(r.hosts, "llama")
			case "empty":
				r.hosts["llama"] = nil
			case "failing":
				r.err = errors.New("timeout")
				want = 1
			}
			if err := d.Load(t.Context()); err == nil {
				t.Error("Load = nil")
			}
			require.Len(t, endpoints(t, s, llama), want, "endpoints")
		})
	}
}

func TestDNSSourceSRV(t *testing.T) {
	r := &names{
		hosts: map[string][]string{"a.llama": {"10.0.0.1"}, "b.llama": {"10.0.0.2", "10.0.0.3"}, "spare": {"10.0.0.9"}},
		srv: []*net.SRV{
			{Target: "a.llama.", Port: 8000, Priority: 1}, {Target: "a.llama.", Port: 8001, Priority: 1},
			{Target: "b.llama.", Port: 8000, Priority: 1}, {Target: "gone.", Port: 8000, Priority: 1},
			{Target: "spare.", Port: 8000, Priority: 2}, {Target: ".", Port: 0, Priority: 1},
		},
	}
	s := datastore.New(datastore.Options{})
	d, err := datastore.NewDNSSource(s, datastore.DNSOptions{Pool: llama, Host: "_http._tcp.llama", SRV: true, Resolver: r, ClearOnNotFound: true})
	must(t, err)
	must(t, d.Load(t.Context()))
	want := []string{"10.0.0.1:8000", "10.0.0.1:8001", "10.0.0.2:8000", "10.0.0.3:8000"}
	if got := ids(endpoints(t, s, llama)); !slices.Equal(got, want) {
		t.Errorf("endpoints %q, want %q", got, want)
	}
}

func TestDNSSourceRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &names{hosts: map[string][]string{"llama": {"10.0.0.1"}}}
		s := datastore.New(datastore.Options{})
		d, err := datastore.NewDNSSource(s, datastore.DNSOptions{Pool: llama, Host: "llama", Port: 1, Resolver: r, Interval: time.Second, Timeout: 3 * time.Second})
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- d.Run(ctx) }()
		synctest.Wait()
		require.Len(t, endpoints(t, s, llama), 1, "endpoints at the start")
		r.set(func() { r.hosts["llama"] = []string{"10.0.0.1", "10.0.0.2"} })
		time.Sleep(time.Second)
		synctest.Wait()
		require.Len(t, endpoints(t, s, llama), 2, "endpoints after an interval")
		r.set(func() { r.slow = true })
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if !errors.Is(d.Err(), context.DeadlineExceeded) || len(endpoints(t, s, llama)) != 2 {
			t.Errorf("after a lookup without an answer: Err = %v", d.Err())
		}
		cancel()
		must(t, <-done)
	})
}

func TestDNSOptions(t *testing.T) {
	good := datastore.DNSOptions{Pool: llama, Host: "h", Port: 1}
	for want, change := range map[string]func(*datastore.DNSOptions){
		"Host is required":                           func(o *datastore.DNSOptions) { o.Host = "" },
		"Pool is required":                           func(o *datastore.DNSOptions) { o.Pool = types.NamespacedName{} },
		"Port is 0, want 1 to 65535":                 func(o *datastore.DNSOptions) { o.Port = 0 },
		"MetricsPort is 70000, want 0 to 65535":      func(o *datastore.DNSOptions) { o.MetricsPort = 70000 },
		`Network is "tcp", want one of ip, ip4, ip6`: func(o *datastore.DNSOptions) { o.Network = "tcp" },
	} {
		o := good
		change(&o)
		if _, err := datastore.NewDNSSource(datastore.New(datastore.Options{}), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewDNSSource = %v, want %q", err, want)
		}
	}
}

// FuzzFile: a file never makes a source panic, is taken over whole or not at
// all, and what is taken over is valid for the store.
func FuzzFile(f *testing.F) {
	f.Add([]byte(goodFile))
	f.Add([]byte(`{"endpoints": [{"pool": "p", "address": "[::1]:80"}]}`))
	f.Add([]byte(`{"manifests": null, "endpoints": [{}]} x`))
	f.Add([]byte(`{"endpoints": [{"pool": "p", "address": "a:1", "labels": {"a": "b", "a": "c"}}]}`))
	f.Add([]byte(`{"endpoints": [{"pool": "p", "address": "a:1", "ranks": 3}, {"pool": "p", "address": "b:1", "ranks": 2, "rank": 1}]}`))
	path := filepath.Join(f.TempDir(), "f.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		must(t, os.WriteFile(path, data, 0o600))
		s := datastore.New(datastore.Options{})
		must(t, s.SetEndpoints(name("mark"), specs(1)))
		before := s.Snapshot()
		err := datastore.NewFileSource(s, path, datastore.FileOptions{}).Load()
		if err != nil {
			if s.Snapshot() != before {
				t.Fatalf("changed although %v", err)
			}
			return
		}
		for _, p := range s.Snapshot().Pools() {
			for _, e := range endpoints(t, s, p.Name()) {
				if _, _, err := net.SplitHostPort(e.Address); err != nil || e.ID == "" {
					t.Fatalf("endpoint %+v", e)
				}
			}
		}
	})
}

func TestDecodeEndpoint(t *testing.T) {
	got, err := datastore.DecodeEndpoint([]byte(`{"id": "a", "address": "10.0.0.1:8000", "labels": {"Pool": "x"}, "state": "draining",
		"engine": "vllm", "capacity": {"speed": 2}, "metrics": {"address": ":9100", "path": "/m"}}`))
	must(t, err)
	want := datastore.EndpointSpec{
		ID: "a", Address: "10.0.0.1:8000", Labels: map[string]string{"Pool": "x"}, State: types.Draining,
		Engine: "vllm", Capacity: types.Capacity{Speed: 2}, MetricsAddress: ":9100", MetricsPath: "/m",
	}
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("DecodeEndpoint = %+v, want %+v", got, want)
	}
	for in, want := range map[string]string{
		`{"address": "a"}`: `line 1, column 2: address is "a", want host:port`,
		`{"address": 1}`:   "line 1, column 2: address is 1, want a string",
		`{"address": "a:1", "metrics": {"port": 1}}`:        "line 1, column 32: metrics.port is not a field; known are address, path, scheme, disabled",
		`{"address": "a:1", "metrics": {"Path": "/m"}}`:     "line 1, column 32: metrics.Path is not a field; the nearest is path",
		`{"Address": "a:1"}`:                                "line 1, column 2: Address is not a field; the nearest is address",
		`{"address": "a:1", "pool": "p"}`:                   "line 1, column 20: pool is not a field; known are id, address, rank, ranks, labels, state, engine, capacity, metrics",
		`{"address": "a:1", "address": "b:1"}`:              "line 1, column 20: address is there twice, first at line 1, column 2",
		`{"address": "a:1", "state": "idle"}`:               `line 1, column 20: state is "idle", want one of ready, draining, unhealthy`,
		`{"address": "a:1", "capacity": {"kvTokens": 0.5}}`: "line 1, column 33: capacity.kvTokens is 0.5, want an integer",
		`[]`: "line 1, column 1: the document is [], want an object",
		``:   "line 1, column 1: the document is empty, want a JSON object",
	} {
		if _, err := datastore.DecodeEndpoint([]byte(in)); err == nil || err.Error() != "datastore: "+want {
			t.Errorf("DecodeEndpoint(%s): %v, want %s", in, err, want)
		}
	}
}
