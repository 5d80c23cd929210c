package cost

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestClaims(t *testing.T) {
	var c Claims
	now, later := MomentOf(1), MomentOf(1.06)
	require.NotEqual(t, now, later)
	require.Equal(t, now, MomentOf(1.04))
	c.Take(now)
	require.Zero(t, c.At(now), "nothing can be taken from nothing")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				c.Add(now)
				c.Add(now)
				c.Take(now)
			}
		})
	}
	all.Wait()
	require.Equal(t, 800., c.At(now))
	require.Zero(t, c.At(later), "claims are good for a moment only")
	c.Add(later)
	require.Equal(t, 1., c.At(later))
	c.Take(now)
	require.Equal(t, 1., c.At(later), "that moment is over")
}
