package cost

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFading(t *testing.T) {
	var f Fading
	require.Zero(t, f.PerSecond(3))
	for i := range 1000 {
		f.Add(2, Seconds(i)/10)
	}
	require.InDelta(t, 20, f.PerSecond(99.9), .25, "2 each tenth of a second")
	require.InDelta(t, f.PerSecond(99.9)/math.E, f.PerSecond(99.9+stallMemory), 1e-9, "it fades")
	require.Equal(t, f.PerSecond(99.9), f.PerSecond(90), "a clock that is behind")
}
