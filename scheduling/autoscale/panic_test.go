package autoscale_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/internal/guard/guardtest"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/types"
)

type speedsDouble struct{ at func(string) }

func (d *speedsDouble) Speed(*types.Endpoint) (types.Speed, bool) {
	d.at("Speed")
	return types.Speed{Token: 1e-4, Step: .01, Sequence: 1e-3}, true
}

// peersDouble fails for the first time, so that there is something to log.
type peersDouble struct {
	at func(string)
	n  int
}

func (d *peersDouble) Ask(context.Context) ([]autoscale.Own, int, error) {
	d.at("Ask")
	if d.n++; d.n == 1 {
		return nil, 0, errors.New("there is nobody to ask")
	}
	return nil, 0, nil
}

type storeDouble struct {
	at    func(string)
	saves atomic.Int64
}

func (d *storeDouble) Save(context.Context, string, []byte) error {
	d.at("Save")
	d.saves.Add(1)
	return nil
}

func (d *storeDouble) Load(context.Context, string) ([]byte, error) {
	d.at("Load")
	return nil, fs.ErrNotExist
}

var doubles = []guardtest.Double{
	guardtest.DoubleOf(func(_ autoscale.Speeds, at func(string)) autoscale.Speeds { return &speedsDouble{at} }),
	guardtest.DoubleOf(func(_ autoscale.Peers, at func(string)) autoscale.Peers { return &peersDouble{at: at} }),
	guardtest.DoubleOf(func(_ autoscale.Store, at func(string)) autoscale.Store { return &storeDouble{at: at} }),
}

// Whatever of its options panics, an Autoscaler recommends on, and by what is the case once that has stopped.
func TestOptionsPanic(t *testing.T) {
	type options struct {
		autoscale.Options
		Collector autoscale.CollectorOptions
	}
	base := options{
		Options: autoscale.Options{
			Peers: &peersDouble{}, Store: &storeDouble{},
			Policy: func(types.NamespacedName) (autoscale.Policy, bool) { return autoscale.Policy{Max: 5}, true },
		},
		Collector: autoscale.CollectorOptions{
			Pools: func(func(types.NamespacedName, []*types.Endpoint) bool) {}, VariantLabel: "kind",
			Policy: func(types.NamespacedName) (autoscale.Policy, bool) { return autoscale.Policy{}, true },
		},
	}
	guardtest.Each(t, base, doubles, nil, func(t *testing.T, o options, f *guardtest.Fault) {
		synctest.Test(t, func(t *testing.T) {
			eps := []*types.Endpoint{types.NewEndpoint("a", "10.0.0.1:8000"), types.NewEndpoint("b", "10.0.0.2:8000")}
			eps[0].Labels, eps[1].Labels = map[string]string{"kind": "x"}, map[string]string{"kind": "y"}
			var some atomic.Bool // endpoints
			pools := o.Collector.Pools
			o.Collector.Pools = func(yield func(types.NamespacedName, []*types.Endpoint) bool) {
				pools(yield)
				if some.Load() {
					yield(pool, eps)
				} else {
					yield(pool, nil)
				}
			}
			collector, err := autoscale.NewCollector(o.Collector)
			require.NoError(t, err)
			o.Options.Collector = collector
			a, err := autoscale.New(o.Options)
			require.NoError(t, err)
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() { defer close(ended); _ = a.Run(ctx) }()
			first := scheduling.PickerFunc(func(context.Context, *types.Request, []*types.Endpoint, []float64) (int, error) { return 0, nil })
			s, err := scheduling.New(scheduling.Profile{Picker: first, Hooks: collector.Hooks(types.NamespacedName{}, scheduling.Hooks{})})
			require.NoError(t, err)
			ask := func() {
				if d, err := s.Schedule(ctx, request("m", 100), eps); err == nil {
					time.Sleep(time.Second)
					d.FirstToken()
					d.Done(types.Outcome{Status: 200})
				}
				collector.Refused(request("m", 100), pool, "no_endpoint", 503)
				_, _ = a.Desired(ctx, pool)
				_ = a.Pools()
			}
			ask()
			time.Sleep(2 * time.Minute)
			some.Store(true)
			ask()
			time.Sleep(2 * time.Minute)
			f.Off()
			ask()
			time.Sleep(2 * time.Minute)
			signals, err := a.Signals(ctx, pool, "")
			require.NoError(t, err)
			require.Equal(t, 2, signals.Ready)
			require.WithinDuration(t, time.Now(), signals.At, 5*time.Second)
			r, err := a.Desired(ctx, pool)
			require.NoError(t, err)
			require.Positive(t, r.Replicas)
			stop()
			<-ended
			require.Positive(t, o.Store.(*storeDouble).saves.Load())
		})
	})
}

// Whatever of its options panics, HTTPPeers are asked, and answer once that has stopped.
func TestHTTPPeersOptionsPanic(t *testing.T) {
	peer, err := autoscale.New(autoscale.Options{Collector: newRig(t, 1, autoscale.CollectorOptions{}, nil).collector})
	require.NoError(t, err)
	server := httptest.NewServer(peer.Handler())
	t.Cleanup(server.Close)
	base := autoscale.HTTPPeersOptions{Addresses: autoscale.PeerList(server.URL), Timeout: 20 * time.Second}
	guardtest.Each(t, base, doubles, nil, func(t *testing.T, o autoscale.HTTPPeersOptions, f *guardtest.Fault) {
		if o.Client != nil {
			t.Cleanup(o.Client.CloseIdleConnections)
		} else {
			o.Client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		}
		p, err := autoscale.NewHTTPPeers(o)
		require.NoError(t, err)
		_, _, _ = p.Ask(t.Context())
		f.Off()
		answers, missing, err := p.Ask(t.Context())
		require.NoError(t, err)
		require.Zero(t, missing)
		require.Len(t, answers, 1)
		require.Len(t, p.Peers(), 1)
	})
}

// Whatever of its options panics, NotePeers say who is missing once that has stopped.
func TestNotePeersOptionsPanic(t *testing.T) {
	base := autoscale.NotePeersOptions{Gateways: func() int { return 3 }}
	guardtest.Each(t, base, nil, nil, func(t *testing.T, o autoscale.NotePeersOptions, f *guardtest.Fault) {
		p, err := autoscale.NewNotePeers(o)
		require.NoError(t, err)
		p.Parts()[0].(interface {
			AppendNote([]byte, time.Time) []byte
		}).AppendNote(nil, time.Now().Add(-time.Minute))
		_, _, _ = p.Ask(t.Context())
		f.Off()
		_, missing, err := p.Ask(t.Context())
		require.NoError(t, err)
		require.Equal(t, 2, missing)
	})
}
