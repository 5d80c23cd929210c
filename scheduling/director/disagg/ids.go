package disagg

import (
	"math/bits"
	"strconv"
	"sync/atomic"
)

// ids are numbers that look random and do not come again: a counter that starts anywhere,
// through a permutation of all numbers of its width.
type ids struct {
	next atomic.Uint64
	key  uint64
}

func newIDs(random func() uint64) *ids {
	i := &ids{key: random()}
	i.next.Store(random())
	return i
}

// below returns a number of as many bits as all fit below limit, which is at least 2. Of one
// width no number comes twice before all have.
func (i *ids) below(limit uint64) uint64 {
	width := bits.Len64(limit) - 1
	mask := uint64(1)<<width - 1
	z := (i.next.Add(1) ^ i.key) & mask
	// Each step can be undone, so that different numbers stay different: a xor with the
	// number's own upper bits, and a product with an odd number. The constants are those of
	// SplitMix64.
	for _, odd := range [...]uint64{0xbf58476d1ce4e5b9, 0x94d049bb133111eb} {
		z ^= z >> (width/2 + 1)
		z = z * odd & mask
	}
	return z ^ z>>(width/2+1)
}

// hex returns 16 digits.
func hex(n uint64) string {
	s := strconv.FormatUint(n, 16)
	return "0000000000000000"[len(s):] + s
}
