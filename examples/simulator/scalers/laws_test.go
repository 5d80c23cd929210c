package scalers

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/types"
)

var world = World{Min: 1, Max: 20, StartUp: 2 * time.Minute, SLO: types.SLO{TTFT: 2 * time.Second, TPOT: 50 * time.Millisecond}, Slots: 16, PrefillRate: 10_000}

// asked is what a law that an HPA follows tells it.
func asked(t *testing.T, l Law, tuned bool, o *simulation.Observation) []Metric {
	t.Helper()
	s := l.make(l.Shipped, tuned, world)
	if r, ok := s.(*ratio); ok {
		return r.driven.metrics(o)
	}
	return s.(*driven).metrics(o)
}

func servers(kv ...float64) []simulation.Server {
	var all []simulation.Server
	for i, v := range kv {
		all = append(all, simulation.Server{Name: string(rune('a' + i)), KVUsage: v, Waiting: 2, Running: 5})
	}
	return all
}

func TestMetricsOfLaws(t *testing.T) {
	o := &simulation.Observation{
		Target: 4, Ready: 3, Starting: 1, Servers: servers(.5, .7, math.NaN()), Queued: 6, QueuedTokens: 9000, InFlight: 40,
		PrefillTokens: 3000, Saturation: .9, Arrived: 10, Tokens: 20_000,
	}
	require.Equal(t, []Metric{{Target: 5, Value: 12}}, asked(t, queue(), false, o), "6 at the gateway, 2 in each server")
	require.InDelta(t, 1.2, asked(t, kvUsage(), false, o)[0].Value, 1e-9, "a server that says nothing counts as nothing")
	require.Equal(t, []Metric{{Target: 1, Value: 6}, {Target: 16, Value: 40}}, asked(t, queueAndRunning(), false, o))
	require.Equal(t, []Metric{{Type: AverageValue, Target: .7, Value: .9}}, asked(t, saturation(), false, o))
	require.Equal(t, []Metric{{Type: Value, Target: .7, Value: .9}}, asked(t, saturation(), true, o))

	// 12,000 tokens at 10,000 in a second, of which 0.65·(2 - 2000/10,000) s are the replica's part.
	m := asked(t, tokenBacklog(), false, o)
	require.InDelta(t, 1.2/(.65*1.8), m[0].Value, 1e-9)
	require.InDelta(t, 1.2, m[1].Value, 1e-9)
	require.Equal(t, .8, m[1].Target)
}

func TestSLORatio(t *testing.T) {
	for _, c := range []struct {
		name     string
		over     float64
		n, ready int
		want     float64
	}{
		{"between", .5, 4, 4, 4},
		{"above", .8, 4, 4, 6},                         // 4 + ⌈4·(0.8/0.55 - 1)⌉
		{"above, and half of them start", .8, 4, 2, 4}, // 0.8·0.5 is below 0.55: those that come will do
		{"far above, and half of them start", 2, 4, 2, 8},
		{"below", .29, 4, 4, 3}, // 4 - ⌊4·(1 - 0.29/0.4)⌋
		{"nothing", 0, 4, 4, 1},
	} {
		s := sloRatio().make(.55, false, world).(*ratio)
		s.seen = slices.Repeat([]float64{c.over}, 45)
		require.Equal(t, c.want, s.metrics(&simulation.Observation{Target: c.n, Ready: c.ready})[0].Value, c.name)
	}
}

func TestWVA(t *testing.T) {
	for _, c := range []struct {
		name string
		o    simulation.Observation
		want int
	}{
		{"one server with room stays", simulation.Observation{Servers: servers(.3)}, 0},
		{"little room in the cache", simulation.Observation{Servers: servers(.75, .72)}, 1},
		{"all saturated", simulation.Observation{Servers: servers(.9, .85)}, 1},
		{"one saturated, room in the others", simulation.Observation{Servers: servers(.9, .5, .5)}, 0},
		{"room with one fewer", simulation.Observation{Servers: servers(.2, .2, .2)}, -1},
		{"some start", simulation.Observation{Servers: servers(.9, .9), Starting: 1}, 0},
		{"a queue at the gateway", simulation.Observation{Servers: servers(.2, .2), Queued: 8}, 1},
	} {
		for i := range c.o.Servers {
			c.o.Servers[i].Waiting = 0
		}
		c.o.Ready = len(c.o.Servers)
		s := variants().make(.8, false, world).(*wva)
		s.Sample(&c.o)
		require.Equal(t, c.want, s.change(&c.o), c.name)
	}
}

// All have a name of their own, a target among those that make sense, and can be made for a pool that scales to zero.
func TestLaws(t *testing.T) {
	seen := map[string]bool{}
	for _, l := range append(Laws(), Fixed()) {
		require.False(t, seen[l.Name], l.Name)
		seen[l.Name] = true
		require.NotEmpty(t, l.What)
		require.Positive(t, l.Shipped)
		w := world
		w.ToZero = true
		s, err := l.Scaler(l.Shipped, l.Tunes, w)()
		require.NoError(t, err)
		require.NotNil(t, s)
		found, err := ByName(l.Name)
		require.NoError(t, err)
		require.Equal(t, l.Name, found.Name)
	}
	_, err := ByName("nothing")
	require.ErrorContains(t, err, "unknown law")
}
