package gateway_test

import (
	"context"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/scheduling/gateway"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/scheduling/sharing/sharingtest"
	"github.com/inferpick/inferpick/types"
)

// A first request for a pool without servers waits and wakes the pool, is answered by the server that comes, and when
// nothing comes any more there should be none.
func TestAutoscaleFromZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(t, servers{}, gateway.Options{
			Admission: func() *admission.Options { return &admission.Options{WaitForEndpoints: 10 * time.Minute} },
			Autoscale: &gateway.Autoscale{Options: autoscale.Options{
				Policy: func(types.NamespacedName) (autoscale.Policy, bool) {
					return autoscale.Policy{ToZero: true, IdleAfter: 5 * time.Minute}, true
				},
			}},
		})
		defer g.Close()
		require.NoError(t, g.SetServers(nil))
		go g.Run(t.Context())
		name := types.NamespacedName{Name: "default"}
		active, stop, err := g.Autoscaler.Watch(name)
		require.NoError(t, err)
		defer stop()
		require.False(t, <-active)
		time.Sleep(time.Hour)

		answer := make(chan *httptest.ResponseRecorder)
		asked := time.Now()
		go func() { answer <- ask(g, "tiny") }()
		require.True(t, <-active)
		require.Less(t, time.Since(asked), time.Second)
		time.Sleep(3 * time.Minute)
		s, err := g.Autoscaler.Signals(t.Context(), name, "tiny")
		require.NoError(t, err)
		require.EqualValues(t, 1, s.Queued)
		require.GreaterOrEqual(t, s.OldestWait, 3*time.Minute-5*time.Second)
		require.NoError(t, g.SetServers(gateway.Addresses("10.0.0.1:8000")))
		w := <-answer
		require.Equal(t, 200, w.Code, w.Body)
		require.Contains(t, page(t, g), "inferpick_pool_desired_replicas{pool=\"default\"} 1\n")
		require.False(t, <-active)
		require.InDelta(t, 8*60, time.Since(asked).Seconds(), 3)
	})
}

// Without admission control a request is refused at once, and wakes the pool all the same; each pool is told apart
// although one scheduler decides for all.
func TestAutoscaleWithoutAdmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(t, servers{}, gateway.Options{Autoscale: &gateway.Autoscale{Options: autoscale.Options{
			Policy: func(types.NamespacedName) (autoscale.Policy, bool) { return autoscale.Policy{ToZero: true}, true },
		}}})
		defer g.Close()
		require.NoError(t, g.SetServers(nil))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go g.Run(ctx)
		synctest.Wait()
		require.Equal(t, 503, ask(g, "tiny").Code)
		ok, err := g.Autoscaler.Active(ctx, types.NamespacedName{Name: "default"})
		require.NoError(t, err)
		require.True(t, ok)
	})
}

// Gateways that share recommend by what all of them have, and a request that comes to one of them for a pool without
// servers wakes it at all.
func TestAutoscaleWithPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := servers{held: make(chan struct{})}
		network := sharingtest.NewNetwork(sharingtest.NetworkOptions{})
		var all []*gateway.Gateway
		for _, name := range []string{"one", "two", "three"} {
			g := newGateway(t, s, gateway.Options{
				Servers: gateway.Addresses("a:1", "b:1"), Sharing: &sharing.Options{Name: name, Transport: network.Open(name)},
				Autoscale: &gateway.Autoscale{Options: autoscale.Options{
					Policy: func(types.NamespacedName) (autoscale.Policy, bool) {
						return autoscale.Policy{ToZero: true, IdleAfter: time.Minute}, true
					},
				}},
			})
			t.Cleanup(g.Close)
			go g.Run(t.Context())
			all = append(all, g)
		}
		name := types.NamespacedName{Name: "default"}
		time.Sleep(5 * time.Second)
		for i := range 4 {
			go ask(all[i%2], "tiny")
		}
		time.Sleep(3 * time.Second)
		for _, g := range all {
			s, err := g.Autoscaler.Signals(t.Context(), name, "tiny")
			require.NoError(t, err)
			require.EqualValues(t, 4, s.Running)
			require.Equal(t, 3, s.Gateways)
		}
		close(s.held)
		for _, g := range all {
			require.NoError(t, g.SetServers(nil))
		}
		time.Sleep(3 * time.Minute)
		active, stop, err := all[2].Autoscaler.Watch(name)
		require.NoError(t, err)
		defer stop()
		require.False(t, <-active)
		asked := time.Now()
		require.Equal(t, 503, ask(all[0], "tiny").Code)
		require.True(t, <-active)
		require.Less(t, time.Since(asked), 300*time.Millisecond)
	})
}
