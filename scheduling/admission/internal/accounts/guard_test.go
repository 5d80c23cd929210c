package accounts

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFresh(t *testing.T) {
	var f Fresh
	f.Age(1000)
	f.Add(1)
	require.Zero(t, f.Age(1002))
	f.Add(2)
	require.Zero(t, f.Age(1000+epochs))
	require.Equal(t, 3.0, f.Sum())
	require.Equal(t, 1.0, f.Age(1000+epochs+1))
	require.Equal(t, 2.0, f.Age(5000))
	require.Zero(t, f.Sum())
	f.Add(4)
	require.Equal(t, 4.0, f.Sum())
}

// What is charged counts as unknown for as long as it takes to be told, and heard.
func TestEpochs(t *testing.T) {
	for _, every := range []time.Duration{10 * time.Millisecond, 100 * time.Millisecond, 5 * time.Second} {
		var e Epochs
		const delay = 150 * time.Millisecond
		now := time.Duration(0)
		for range 200 {
			now += every
			e.Tell(now)
		}
		require.Equal(t, every+delay, e.Unknown(delay))
		var f Fresh
		f.Age(e.At(now, delay))
		f.Add(1)
		for start := now; ; now += time.Millisecond {
			if f.Age(e.At(now, delay)) > 0 {
				require.InDelta(t, 1.1*float64(every+delay), float64(now-start), 0.2*float64(every+delay)+1e6)
				break
			}
		}
	}
	var e Epochs
	require.Equal(t, usually+time.Second, e.Unknown(time.Second), "before the first")
	require.Zero(t, e.Tell(time.Second))
	require.Equal(t, time.Minute, e.Tell(time.Hour), "after a pause")
}

func TestGuard(t *testing.T) {
	minute := Bucket{Size: 60, PerSecond: 1, Peers: 7, Unknown: 0.25}
	for _, tt := range []struct {
		name        string
		here, there float64 // of late
		fresh       float64
		b           Bucket
		want        float64
		least, most float64
	}{
		{"alone", 0, 0, 5, Bucket{Size: 60, PerSecond: 1, Unknown: 0.25}, 1, 0, 0},
		{"the first", 0, 50, 0, minute, 30, 0, 0},
		{"all may do the same", 0, 0, 6.5, minute, 1, 52, 53},
		{"all is here", 60, 0, 6.5, minute, 1, 5, 6},
		{"all is elsewhere", 0, 60, 1, minute, 1, 29, 31},
		{"as usual", 60, 420, 0.1, minute, 0.1, 1, 2},
		{"no bound", 0, 0, 5, Bucket{Peers: 7, Unknown: 0.25}, 1, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := Guard{here: tt.here, there: tt.there, steady: tt.here}
			g.Take(tt.fresh)
			got := g.Others(tt.want, &tt.b)
			require.True(t, got >= tt.least && got <= tt.most, "%g, want %g to %g", got, tt.least, tt.most)
		})
	}
}

// Together gateways take what there is: each the part that it had of late.
func TestGuardsShare(t *testing.T) {
	for _, parts := range [][]float64{{1, 1, 1, 1}, {10, 5, 1, 0}, {1, 0, 0, 0}, {0, 0, 0, 0}} {
		all := 0.0
		for _, v := range parts {
			all += v
		}
		const level = 1000.0
		taken := 0.0
		for _, here := range parts {
			b := Bucket{Size: level, PerSecond: level / 60, Peers: len(parts) - 1, Unknown: 0.25}
			g := Guard{here: 50 * here, there: 50 * (all - here), steady: 50 * here}
			for left := level; left-g.Others(1, &b) >= 1; left-- {
				g.Take(1)
				taken++
			}
		}
		require.InDelta(t, level, taken, 0.05*level, "%v", parts)
	}
}

// A bucket that nobody takes from is given out to whoever comes next.
func TestGuardForgets(t *testing.T) {
	b := Bucket{Size: 6, PerSecond: 10, Peers: 7, Unknown: 0.25}
	g := Guard{there: 10}
	g.Take(1)
	require.Greater(t, g.Others(1, &b), b.Size)
	g.Age(100, 5, &b)
	require.Zero(t, g.Fresh())
	g.Take(1)
	require.Less(t, g.Others(1, &b), b.Size)
	g.Hear(-1e9)
	require.GreaterOrEqual(t, g.there, 0.0)
}

func TestMeeting(t *testing.T) {
	const size, soon = 100, 3
	type peer struct{ taken, left float64 }
	nan := math.NaN()
	for _, tt := range []struct {
		name         string
		young        bool
		level, fresh float64 // and all that is gone here was taken here, of one that is new
		peers        []peer
		want         float64
	}{
		{"it knows no bound", false, 50, 0, []peer{{10, nan}}, 50},
		{"it has taken nothing", true, 50, 0, []peer{{0, 10}}, 50},
		{"it has just started, and heard", false, 50, 0, []peer{{10, 40}}, 40},
		{"it has just started, and heard nothing", false, 50, 0, []peer{{10, 90}}, 40},
		{"some time ago", false, 50, 0, []peer{{12, 90}}, 40},
		{"it has let in nothing for long", false, 50, 0, []peer{{30, 100}}, 50},
		{"it comes back, and knows more", false, 50, 0, []peer{{1e6, 20}}, 20},
		{"it comes back, and knows less", false, 50, 0, []peer{{1e6, 80}}, 50},
		{"it says that all is gone", false, 50, 0, []peer{{10, math.Inf(-1)}}, 40},
		{"more is left than there may be", true, 50, 0, []peer{{10, 1e300}}, 50},

		{"this one has just started", true, 100, 0, []peer{{1e6, 5}, {1e6, 5}, {1e6, 6}}, 5},
		{"and has let in something", true, 97, 3, []peer{{1e6, 5}, {1e6, 5}}, 2},
		{"of which the others have heard", true, 97, 0, []peer{{1e6, 5}, {1e6, 5}}, 5},
		{"all have, and none has heard", true, 95, 0, []peer{{5, 95}, {5, 95}, {5, 95}}, 80},
		{"all have, and some have heard", true, 95, 0, []peer{{5, 95}, {5, 90}, {5, 95}}, 80},
		{"each has heard of those before it", true, 99, 1, []peer{{1, 98}, {1, 97}, {1, 96}}, 96},
		{"the others are not full", true, 100, 0, []peer{{10, 70}, {20, 70}}, 70},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var m Meeting
			level := tt.level
			for _, p := range tt.peers {
				level -= m.Take(Met{Taken: p.taken, Left: p.left, Size: size, Level: level, Own: size - tt.level, Fresh: tt.fresh, Soon: soon}, tt.young)
			}
			require.Equal(t, tt.want, level)
		})
	}
}

func TestDrop(t *testing.T) {
	for _, tt := range []struct {
		level, taken, floor, want float64
		cut                       bool
	}{
		{50, 10, -100, 40, false}, {50, 1e300, -100, -100, true}, {-120, 10, -100, -120, true}, {50, -10, -100, 60, false}, {-120, -10, -100, -110, false}, {50, 0, -100, 50, false},
	} {
		got, cut := Drop(tt.level, tt.taken, tt.floor)
		require.Equal(t, []any{tt.want, tt.cut}, []any{got, cut}, "%v", tt)
	}
}
