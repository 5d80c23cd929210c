package disagg

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Of one width every number comes before any comes again, wherever the counter starts.
func TestIDsAreAPermutation(t *testing.T) {
	for _, limit := range []uint64{2, 3, 4, 255, 256, 1000, 1 << 14} {
		for start := range uint64(3) {
			i := newIDs(func() uint64 { return start * 0x9e3779b97f4a7c15 })
			size := uint64(1)
			for 2*size <= limit {
				size *= 2
			}
			seen := map[uint64]bool{}
			for range size {
				n := i.below(limit)
				require.Less(t, n, size)
				require.False(t, seen[n], "below(%d) = %d twice", limit, n)
				seen[n] = true
			}
		}
	}
	require.Equal(t, "00000000000000ff", hex(255))
	require.Equal(t, "ffffffffffffffff", hex(1<<64-1))
}
