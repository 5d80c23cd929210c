package gateway_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/gateway"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/scheduling/sharing/sharingtest"
	"github.com/inferpick/inferpick/types"
)

// sharers are gateways that share, in front of the same two servers, and what runs them.
func sharers(t *testing.T, network *sharingtest.Network, s servers, names ...string) (all []*gateway.Gateway) {
	t.Helper()
	for _, name := range names {
		g := newGateway(t, s, gateway.Options{
			Servers: gateway.Addresses("a:1", "b:1"), Sharing: &sharing.Options{Name: name, Transport: network.Open(name)},
			Admission: func() *admission.Options { return new(admission.Options) },
		})
		t.Cleanup(g.Close)
		go g.Run(t.Context())
		all = append(all, g)
	}
	return all
}

// peersHave returns what a gateway believes that others have in flight.
func peersHave(g *gateway.Gateway) (n int64) {
	for _, eps := range g.Pools {
		for _, ep := range eps {
			n += ep.Load.Peers().Requests
		}
	}
	return n
}

func TestSharing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := servers{held: make(chan struct{})}
		network := sharingtest.NewNetwork(sharingtest.NetworkOptions{})
		gateways := sharers(t, network, s, "one", "two", "three")
		one, two := gateways[0], gateways[1]
		for range 3 {
			go ask(one, "tiny")
		}
		time.Sleep(time.Second)
		require.EqualValues(t, 3, peersHave(two))
		require.Zero(t, peersHave(one))
		stats := two.Sharing.Stats(time.Now())
		require.Equal(t, 2, stats.Alive())
		require.Equal(t, "one", stats.Peers[0].Name)
		require.EqualValues(t, 3, stats.Peers[0].Held.Requests)
		stats.Ignored.Elsewhere = 0 // one may tell of the pool's admission before two has seen that there is one
		require.Zero(t, stats.Ignored)
		said := int64(0)
		for _, eps := range two.Pools {
			for _, ep := range eps {
				for _, claim := range two.Sharing.Explain(ep, time.Now()) {
					require.Equal(t, "one", claim.Name)
					said += claim.Requests
				}
			}
		}
		require.EqualValues(t, 3, said)
		require.Contains(t, page(t, two), "inferpick_peer_requests{peer=\"one\"} 3\n")

		close(s.held)
		time.Sleep(time.Second)
		require.Zero(t, peersHave(two))
		one.Close()
		time.Sleep(time.Second)
		require.Equal(t, 1, two.Sharing.Stats(time.Now()).Alive(), "one has said that it leaves")
	})
}

// The admission control of a pool is shared while it is there.
func TestSharingOfAdmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := sharers(t, sharingtest.NewNetwork(sharingtest.NetworkOptions{}), servers{}, "one")[0]
		shared := func(pool string) bool {
			time.Sleep(time.Second)
			defer g.Sharing.Remove(pool) // what this has added
			return g.Sharing.Add(sharing.Scope{Name: pool}) != nil
		}
		require.True(t, shared("all pools"))
		require.False(t, shared("default/default"), "there was no request yet")
		require.Equal(t, 200, ask(g, "tiny").Code)
		require.True(t, shared("default/default"))
		require.NoError(t, g.Director.SetAdmission(func(types.NamespacedName) *admission.Options { return nil }))
		require.False(t, shared("default/default"))
	})
}

// A Run that has ended has left; another one comes back.
func TestSharingRunsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := sharingtest.NewNetwork(sharingtest.NetworkOptions{})
		one := sharers(t, network, servers{}, "one")[0]
		two := newGateway(t, servers{}, gateway.Options{Servers: gateway.Addresses("a:1"), Sharing: &sharing.Options{Name: "two", Transport: network.Open("two")}})
		defer two.Close()
		alive := func() int {
			time.Sleep(time.Second)
			stats := one.Sharing.Stats(time.Now())
			return stats.Alive()
		}
		for range 2 {
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- two.Run(ctx) }()
			require.Equal(t, 1, alive())
			require.Error(t, two.Run(ctx), "it runs")
			require.Equal(t, 1, alive(), "and goes on")
			stop()
			require.NoError(t, <-done)
			require.Zero(t, alive())
		}
	})
}

// A gateway that begins where another has ended knows what that has learned.
func TestWarmStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snapshot")
	begin := func() (g *gateway.Gateway, logged string) {
		var log bytes.Buffer
		g = newGateway(t, servers{}, gateway.Options{
			Servers: gateway.Addresses("a:1", "b:1"), Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Sharing: &sharing.Options{Store: sharing.File(path)},
		})
		return g, log.String()
	}
	explain := func(g *gateway.Gateway) string {
		var all strings.Builder
		req := &types.Request{Model: "tiny", Body: bytes.Repeat([]byte("a long prompt "), 300)}
		req.Prompt = types.Prompt{Spans: []types.Span{{End: len(req.Body)}}, Bytes: len(req.Body), Tokens: 1000}
		for _, eps := range g.Pools {
			d, err := g.Scheduler.Schedule(t.Context(), req, eps)
			require.NoError(t, err)
			d.FirstToken()
			d.Done(types.Outcome{Status: 200})
			x, err := g.Scheduler.Explain(t.Context(), req, eps)
			require.NoError(t, err)
			all.WriteString(x.String())
		}
		return all.String()
	}
	run := func(g *gateway.Gateway) {
		ctx, stop := context.WithCancel(t.Context())
		stop() // it saves when it ends
		require.NoError(t, g.Run(ctx))
		g.Close()
	}
	first, logged := begin()
	require.Contains(t, logged, "there is no snapshot")
	explain(first)
	run(first)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	again, logged := begin()
	require.Contains(t, logged, "restored a snapshot of before")
	require.Contains(t, explain(again), "cached")
	again.Close()

	require.NoError(t, os.WriteFile(path, []byte("this is none"), 0o600))
	broken, logged := begin()
	require.Contains(t, logged, "the snapshot was not restored")
	broken.Close()
}

func TestSharingOptions(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    sharing.Options
		want string
	}{
		{"no transport", sharing.Options{}, "neither a Transport"},
		{"wrong", sharing.Options{Transport: sharingtest.NewNetwork(sharingtest.NetworkOptions{}).Open("x"), MaxPeers: -1}, "MaxPeers"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := gateway.Options{Profile: plugins.Default(), Sharing: &tt.o}
			_, err := gateway.New(o)
			require.ErrorContains(t, err, tt.want)
		})
	}
}
