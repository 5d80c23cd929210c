package scaling

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func point(hours, met float64) Point { return Point{Figures: Figures{Hours: hours, Attainment: met}} }

func TestFrontier(t *testing.T) {
	f := frontier([]Point{point(5, .97), point(2, .8), point(3, .9), point(4, .85), point(6, .97), point(2, .7)})
	require.Equal(t, []Point{point(2, .8), point(3, .9), point(5, .97)}, f)
	require.InDelta(t, .85, metFor(f, 2.5), 1e-9)
	require.InDelta(t, .8, metFor(f, 2), 1e-9)
	require.InDelta(t, .97, metFor(f, 9), 1e-9)
	require.True(t, math.IsNaN(metFor(f, 1.9)))
	require.InDelta(t, 4, hoursFor(f, .935), 1e-9)
	require.InDelta(t, 2, hoursFor(f, .5), 1e-9)
	require.True(t, math.IsInf(hoursFor(f, .98), 1))
}

func TestJudge(t *testing.T) {
	f := []Point{point(2, .8), point(3, .9), point(5, .97)}
	for _, c := range []struct {
		name          string
		p             Point
		ahead, behind bool
	}{
		{"more for the same", point(3, .91), true, false},
		{"less for the same", point(3, .89), false, true},
		{"on it", point(2.5, .85), false, false},
		{"more than it ever has", point(5, .98), true, false},
		{"as much for fewer than it has", point(1.5, .8), true, false},
		{"little for little: it has more for hardly more", point(1.99, .5), false, false},
		{"beyond all of its hours", point(6, .97), false, false},
	} {
		_, _, ahead, behind := judge(c.p, f)
		require.Equal(t, []bool{c.ahead, c.behind}, []bool{ahead, behind}, c.name)
	}
}
