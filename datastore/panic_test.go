package datastore_test

import (
	"context"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/internal/guard/guardtest"
	"github.com/inferpick/inferpick/types"
)

// A function of the user's that panics is told of, and keeps nobody else from anything.
func TestWatchSurvivesPanic(t *testing.T) {
	var panics, others, readings int
	s := datastore.New(datastore.Options{})
	fail := func() { panics++; panic("watcher failed") }
	stops := []func(){
		s.Watch(func(datastore.Event) { fail() }),
		s.WatchPools(func(datastore.PoolEvent) { fail() }),
		s.WatchManifests(fail),
		s.WatchReadings(func(types.NamespacedName, *types.Endpoint) { fail() }),
		s.Watch(func(datastore.Event) { others++ }),
		s.WatchReadings(func(types.NamespacedName, *types.Endpoint) { readings++ }),
	}
	must(t, s.Apply(pool("llama")))
	must(t, s.SetEndpoints(llama, specs(2)))
	s.UpdateMetrics(endpoints(t, s, llama)[0].Load, types.Metrics{UpdatedAt: time.Now(), Waiting: types.Known(1)})
	require.Equal(t, []int{5, 2, 1}, []int{panics, others, readings}, "panics, other events, other readings")
	for _, stop := range stops {
		stop()
	}
}

// Whatever of its options panics, a store takes changes and readings.
func TestStoreOptionsPanic(t *testing.T) {
	guardtest.Each(t, datastore.Options{}, nil, nil, func(t *testing.T, o datastore.Options, f *guardtest.Fault) {
		s := datastore.New(o)
		add := func() {
			spec := specs(1)[0]
			spec.Labels = map[string]string{types.RoleLabel: "none at all"}
			must(t, s.SetEndpoints(llama, []datastore.EndpointSpec{spec}))
			must(t, s.SetEndpoints(llama, nil))
			must(t, s.SetEndpoints(llama, specs(1)))
			s.UpdateMetrics(endpoints(t, s, llama)[0].Load, types.Metrics{UpdatedAt: time.Now(), Waiting: types.Known(1)})
		}
		add()
		f.Off()
		add()
		require.True(t, endpoints(t, s, llama)[0].Metrics.Waiting.IsKnown())
	})
}

type resolver struct {
	inner datastore.Resolver
	at    func(string)
}

func (r *resolver) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	r.at("LookupNetIP")
	return r.inner.LookupNetIP(ctx, network, host)
}

func (r *resolver) LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error) {
	r.at("LookupSRV")
	return r.inner.LookupSRV(ctx, service, proto, name)
}

// Whatever of its options panics, a source looks again.
func TestDNSSourceOptionsPanic(t *testing.T) {
	doubles := []guardtest.Double{guardtest.DoubleOf(func(inner datastore.Resolver, at func(string)) datastore.Resolver {
		return &resolver{inner, at}
	})}
	found := &fixed{}
	guardtest.Each(t, datastore.DNSOptions{Pool: llama, Host: "llama.test", Port: 8000, Resolver: found}, doubles, nil, func(t *testing.T, o datastore.DNSOptions, f *guardtest.Fault) {
		synctest.Test(t, func(t *testing.T) {
			o.SRV = f.At == "Resolver.LookupSRV"
			s := datastore.New(datastore.Options{})
			d, err := datastore.NewDNSSource(s, o)
			must(t, err)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			done := make(chan struct{})
			go func() { defer close(done); _ = d.Run(ctx) }()
			time.Sleep(time.Minute)
			f.Off()
			time.Sleep(time.Minute)
			require.NoError(t, d.Err())
			require.Len(t, endpoints(t, s, llama), 1)
			stop()
			<-done
		})
	})
}

// fixed is a Resolver of one answer.
type fixed struct{}

func (fixed) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil
}

func (fixed) LookupSRV(context.Context, string, string, string) (string, []*net.SRV, error) {
	return "", []*net.SRV{{Target: "a.llama.test", Port: 8000}}, nil
}

// Whatever of its options panics, a source takes over the next version of its file.
func TestFileSourceOptionsPanic(t *testing.T) {
	guardtest.Each(t, datastore.FileOptions{Interval: 10 * time.Millisecond}, nil, nil, func(t *testing.T, o datastore.FileOptions, f *guardtest.Fault) {
		path := filepath.Join(t.TempDir(), "f.json")
		write(t, path, goodFile)
		s := datastore.New(datastore.Options{})
		source := datastore.NewFileSource(s, path, o)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = source.Run(ctx) }()
		require.Eventually(t, func() bool { return f.Calls() > 0 }, 20*time.Second, time.Millisecond)
		f.Off()
		write(t, path, `{"endpoints": [{"pool": "other", "address": "10.0.0.9:8000"}]}`)
		require.Eventually(t, func() bool { return s.Snapshot().Pool(name("other")) != nil }, 20*time.Second, time.Millisecond)
		stop()
		<-done
	})
}
