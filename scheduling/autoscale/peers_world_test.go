package autoscale_test

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/types"
)

var peerPool = types.NamespacedName{Namespace: "default", Name: "llama"}

// peerClock is the clock of a test of several gateways.
type peerClock struct {
	mu  sync.Mutex
	now time.Time
}

func newPeerClock() *peerClock { return &peerClock{now: time.Unix(1_700_000_000, 0)} }

func (c *peerClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *peerClock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// firstOf picks the first endpoint.
type firstOf struct{}

func (firstOf) Pick(context.Context, *types.Request, []*types.Endpoint, []float64) (int, error) {
	return 0, nil
}

// evenSpeed is the speed of all endpoints.
type evenSpeed struct{}

func (evenSpeed) Speed(*types.Endpoint) (types.Speed, bool) {
	return types.Speed{Token: 1e-4, Step: .01, Sequence: 1e-5}, true
}

// peerGateway is a gateway with one pool, which recommends.
type peerGateway struct {
	*autoscale.Autoscaler
	collector *autoscale.Collector
	scheduler *scheduling.Scheduler
	eps       []*types.Endpoint
}

func newPeerGateway(t testing.TB, clock *peerClock, peers autoscale.Peers, o autoscale.CollectorOptions) *peerGateway {
	t.Helper()
	g := &peerGateway{}
	for i := range 2 {
		ep := types.NewEndpoint(fmt.Sprint("pod-", i), fmt.Sprintf("10.0.0.%d:8000", i+1))
		ep.Metrics = types.Metrics{KVUsage: types.Known(.5), Running: types.Known(3), UpdatedAt: clock.Now()}
		g.eps = append(g.eps, ep)
	}
	o.Now, o.Speeds = clock.Now, evenSpeed{}
	if o.Pools == nil {
		o.Pools = iter.Seq2[types.NamespacedName, []*types.Endpoint](func(yield func(types.NamespacedName, []*types.Endpoint) bool) { yield(peerPool, g.eps) })
	}
	var err error
	g.collector, err = autoscale.NewCollector(o)
	require.NoError(t, err)
	profile := scheduling.Profile{Picker: firstOf{}, Now: clock.Now}
	profile.Hooks = g.collector.Hooks(peerPool, profile.Hooks)
	g.scheduler, err = scheduling.New(profile)
	require.NoError(t, err)
	g.Autoscaler, err = autoscale.New(autoscale.Options{Collector: g.collector, Peers: peers, PeerTimeout: time.Minute})
	require.NoError(t, err)
	return g
}

// holds books requests, which do not end.
func (g *peerGateway) holds(n int64) *peerGateway {
	g.eps[0].Load.Book(types.Booking{Requests: n, Prefilling: n, PrefillTokens: 10 * n, ContextTokens: 100 * n})
	return g
}

// running returns how many requests there are in all, by a recommendation that is made now.
func (g *peerGateway) running(t testing.TB) (int64, error) {
	t.Helper()
	g.Tick(context.Background())
	s, err := g.Signals(context.Background(), peerPool, "")
	return s.Running, err
}

// asks has it recommend, and checks what there is in all.
func (g *peerGateway) sees(t testing.TB, want int64) {
	t.Helper()
	n, err := g.running(t)
	require.NoError(t, err)
	require.Equal(t, want, n)
}

// lacks has it recommend, and checks that it does not take a part for the whole.
func (g *peerGateway) lacks(t testing.TB, missing int) {
	t.Helper()
	_, err := g.running(t)
	require.ErrorIs(t, err, autoscale.ErrPartial)
	s, err := g.Signals(context.Background(), peerPool, "")
	require.ErrorIs(t, err, autoscale.ErrPartial)
	require.Equal(t, missing, s.Missing)
	r, err := g.Desired(context.Background(), peerPool)
	require.ErrorIs(t, err, autoscale.ErrPartial)
	require.True(t, r.Partial)
}
