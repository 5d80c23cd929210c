package simulation

import (
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// plain are links of 1000 bytes per second, with tokens of a byte.
func plain() Links {
	return Links{Setup: -1, BytesPerToken: 1, BytesPerSecond: 1000}
}

// fleet returns transfers between n replicas without labels.
func fleetOf(n int, l Links) *transfers {
	t := newTransfers(l.withDefaults())
	for range n {
		t.add(&Replica{})
	}
	return t
}

// finish plays to the end, and returns when each transfer ended.
func finish(x *transfers) map[uint64]time.Duration {
	at := map[uint64]time.Duration{}
	for {
		next, ok := x.next()
		if !ok {
			return at
		}
		for _, id := range x.ends(nil, next) {
			at[id] = next
		}
	}
}

func TestOneTransfer(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		name string
		l    Links
		want time.Duration
	}{
		{"bytes", plain(), 2 * s},
		{"the defaults", Links{}, 5*time.Millisecond + time.Duration(math.Ceil(2000*131072/25e9*1e9))},
		{"setup", Links{Setup: s, BytesPerToken: 1, BytesPerSecond: 1000}, 3 * s},
		{"handshake", Links{Setup: s, Handshake: 5 * s, BytesPerToken: 1, BytesPerSecond: 1000}, 8 * s},
		{"overlap", Links{Setup: s, BytesPerToken: 1, BytesPerSecond: 1000, Overlap: .75}, 3 * s / 2},
		{"all of it", Links{Setup: s, BytesPerToken: 1, BytesPerSecond: 1000, Overlap: 1}, s},
		{"the near way", Links{Setup: s, BytesPerToken: 1, BytesPerSecond: 1, Classes: []LinkClass{
			{Label: "rack", BytesPerSecond: 5}, {Label: "host", BytesPerSecond: 4000, Setup: -1}, {Label: "zone", BytesPerSecond: 7},
		}}, s / 2},
		{"the far way", Links{Setup: s, BytesPerToken: 1, BytesPerSecond: 4000, Classes: []LinkClass{{Label: "rack", BytesPerSecond: 5}}}, 3 * s / 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.NoError(t, tt.l.Validate())
			x := newTransfers(tt.l.withDefaults())
			x.add(&Replica{Labels: map[string]string{"host": "a", "zone": "z", "rack": "1"}})
			x.add(&Replica{Labels: map[string]string{"host": "a", "zone": "z", "rack": "2"}})
			x.start(1, 0, 1, 2000, 10*s)
			require.Equal(t, map[uint64]time.Duration{1: 10*s + tt.want}, finish(x))
		})
	}
}

func TestTransfersShare(t *testing.T) {
	const s = time.Second
	type start struct{ from, to, tokens int }
	for _, tt := range []struct {
		name   string
		starts []start
		want   map[uint64]time.Duration
	}{
		{"equal ones that one sends", []start{{0, 1, 1000}, {0, 2, 1000}}, map[uint64]time.Duration{0: 2 * s, 1: 2 * s}},
		{"equal ones that one receives", []start{{0, 2, 1000}, {1, 2, 1000}}, map[uint64]time.Duration{0: 2 * s, 1: 2 * s}},
		{"one ends and the other goes faster", []start{{0, 1, 1000}, {0, 2, 3000}}, map[uint64]time.Duration{0: 2 * s, 1: 4 * s}},
		{"there and back", []start{{0, 1, 1000}, {1, 0, 1000}}, map[uint64]time.Duration{0: s, 1: s}},
		{"others", []start{{0, 1, 1000}, {2, 3, 1000}}, map[uint64]time.Duration{0: s, 1: s}},
		// 0 has three, which go on at a third; 3 has two, of which one has the half.
		{"the lesser of both ends", []start{{0, 1, 1000}, {0, 2, 1000}, {0, 3, 1000}, {4, 3, 1000}},
			map[uint64]time.Duration{0: 3 * s, 1: 3 * s, 2: 3 * s, 3: 2 * s}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := fleetOf(5, plain())
			for i, a := range tt.starts {
				x.start(uint64(i), a.from, a.to, a.tokens, 0)
			}
			require.Equal(t, tt.want, finish(x))
			require.Empty(t, x.load)
		})
	}
}

// TestPorts: each end shares as much as it has.
func TestPorts(t *testing.T) {
	const s = time.Second
	x := newTransfers(plain().withDefaults())
	for _, ports := range []int{0, 1, 4, 4} {
		x.add(&Replica{Ports: ports})
	}
	x.start(1, 0, 2, 1000, 0)
	x.start(2, 1, 2, 1000, 0)
	x.start(3, 2, 3, 4000, 0)
	require.Equal(t, map[uint64]time.Duration{1: s, 2: s, 3: s}, finish(x), "one port at the other end, and four at both")
}

func TestTransfersLater(t *testing.T) {
	const s = time.Second
	x := fleetOf(3, plain())
	x.start(1, 0, 1, 2000, 0)
	x.start(2, 0, 2, 2000, s) // 1 has 1000 bytes left, at half of the rate
	x.start(3, 0, 2, 9000, s)
	require.True(t, x.cancel(3, s))
	require.False(t, x.cancel(3, s))
	require.Empty(t, x.ends(nil, 3*s-1))
	require.True(t, x.cancel(2, 2*s+s/2+s/2-1))
	require.Equal(t, map[uint64]time.Duration{1: 3 * s}, finish(x))
	x.start(4, 0, 1, 1000, 3*s)
	x.start(5, 1, 2, 500, 3*s)
	x.start(6, 1, 2, 10, 9*s) // both have ended, and wait to be told
	require.True(t, x.cancel(5, 9*s))
	at, ok := x.next()
	require.True(t, ok)
	require.Equal(t, 9*s, at)
	require.Equal(t, []uint64{4}, x.ends(nil, 9*s))
	require.Equal(t, []uint64{7, 6}, x.ends([]uint64{7}, 10*s))
	_, ok = x.next()
	require.False(t, ok)
}

// TestHandshakeOnce: it is for the pair, who begins meanwhile waits for it, and a replica that
// was restarted makes it again.
func TestHandshakeOnce(t *testing.T) {
	const s = time.Second
	l := plain()
	l.Handshake = 5 * s
	x := fleetOf(3, l)
	x.start(1, 0, 1, 1000, 0)
	x.start(2, 0, 1, 0, 2*s)
	x.start(3, 2, 1, 0, 2*s)
	require.Equal(t, map[uint64]time.Duration{1: 6 * s, 2: 5 * s, 3: 7 * s}, finish(x))
	x.start(4, 0, 1, 1000, 10*s)
	require.Equal(t, map[uint64]time.Duration{4: 11 * s}, finish(x))
	x.forget(1)
	x.start(5, 0, 1, 1000, 20*s)
	require.Equal(t, map[uint64]time.Duration{5: 26 * s}, finish(x))
}

// TestTransfersAgainstSmallSteps: random transfers and cancellations end when brute force in
// small steps says so, and the bytes that went over each link are those that were to go.
func TestTransfersAgainstSmallSteps(t *testing.T) {
	const replicas, n, step = 5, 30, time.Millisecond
	for seed := range uint64(10) {
		rng := types.NewRand(seed)
		draw := func(n int) int { return int(rng.Float64() * float64(n)) }
		l := Links{Setup: 40 * step, Handshake: 300 * step, BytesPerToken: 1, BytesPerSecond: 1000,
			Classes: []LinkClass{{Label: "rack", BytesPerSecond: 2500}}, Overlap: .5}
		x := newTransfers(l.withDefaults())
		for i := range replicas {
			x.add(&Replica{Labels: map[string]string{"rack": string(rune('a' + i%2))}})
		}
		type naive struct {
			from, to, class int
			begins          time.Duration
			left            float64
			over            bool
		}
		var all []*naive
		met := map[[2]int]time.Duration{}
		at := time.Duration(0)
		got := map[uint64]time.Duration{}
		moved := 0.0 // by the transfers under test, as their rates say
		move := func(to time.Duration) {
			for {
				next, ok := x.next()
				if !ok || next > to {
					next = to
				}
				for _, a := range x.active {
					if a.flows {
						moved += a.rate * (next - x.now).Seconds()
					}
				}
				for _, id := range x.ends(nil, next) {
					got[id] = next
				}
				if next == to {
					return
				}
			}
		}
		cancels := map[int]time.Duration{}
		bytes := 0.0
		for i := range n {
			at += time.Duration(draw(400)) * step
			move(at)
			from := draw(replicas)
			to := (from + 1 + draw(replicas-1)) % replicas
			tokens := draw(2000)
			x.start(uint64(i), from, to, tokens, at)
			if _, ok := met[[2]int{from, to}]; !ok {
				met[[2]int{from, to}] = at + l.Handshake
			}
			class := 1
			if from%2 == to%2 {
				class = 0
			}
			all = append(all, &naive{from: from, to: to, class: class, left: float64(tokens) / 2,
				begins: max(at, met[[2]int{from, to}]) + l.Setup})
			bytes += float64(tokens) / 2
			if victim := draw(n); draw(6) == 0 && victim <= i {
				if j := slices.IndexFunc(x.active, func(a *transfer) bool { return a.id == uint64(victim) }); j >= 0 {
					bytes -= x.active[j].left
				}
				if x.cancel(uint64(victim), at) {
					cancels[victim] = at
				}
			}
		}
		move(at + time.Hour)
		_, more := x.next()
		require.False(t, more)
		require.InDelta(t, bytes, moved, 1e-3, "seed %d: bytes", seed)
		require.Empty(t, x.load)

		want := map[uint64]time.Duration{}
		for now := time.Duration(0); len(want)+len(cancels) < n; now += step {
			load := map[lane]int{}
			for i, a := range all {
				if c, ok := cancels[i]; ok && now >= c || a.over || now < a.begins {
					continue
				}
				load[lane{a.from, a.class, false}]++
				load[lane{a.to, a.class, true}]++
			}
			for i, a := range all {
				if c, ok := cancels[i]; ok && now >= c || a.over || now < a.begins {
					continue
				}
				rate := []float64{2500, 1000}[a.class] / float64(max(load[lane{a.from, a.class, false}], load[lane{a.to, a.class, true}]))
				if a.left -= rate * step.Seconds(); a.left <= 0 {
					a.over = true
					want[uint64(i)] = now + step
				}
			}
		}
		require.ElementsMatch(t, slices.Collect(maps.Keys(want)), slices.Collect(maps.Keys(got)), "seed %d", seed)
		for id, w := range want {
			require.InDelta(t, w.Seconds(), got[id].Seconds(), .01, "seed %d: transfer %d", seed, id)
		}
	}
}

func TestLinksValidate(t *testing.T) {
	require.NoError(t, new(Links).Validate())
	for want, l := range map[string]Links{
		"Handshake":      {Handshake: -1},
		"BytesPerToken":  {BytesPerToken: -1},
		"BytesPerSecond": {BytesPerSecond: math.NaN()},
		"Overlap":        {Overlap: 1.5},
		"Classes are 9":  {Classes: make([]LinkClass, 9)},
		"Classes[1]":     {Classes: []LinkClass{{Label: "a", BytesPerSecond: 1}, {Label: "b"}}},
		"a Label":        {Classes: []LinkClass{{BytesPerSecond: 1}}},
	} {
		require.ErrorContains(t, l.Validate(), want)
	}
	require.ErrorContains(t, (&Replica{Role: "prefiller"}).validate(), `.Role is "prefiller"`)
	require.ErrorContains(t, (&Replica{Ports: 65}).validate(), ".Ports is 65")
	require.NoError(t, (&Replica{Role: "prefill-decode"}).validate())
}
