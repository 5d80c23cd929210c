package httptransport

import (
	"math/bits"
	"sync"
)

// rooms lends the memory of large bodies: it need not be cleared for each, is warm in the
// cache, and is no work for the collector.
var rooms lender

// lender has memory by size, from 36 KiB to 8 MiB: each size is an eighth of an octave
// above the one before.
type lender [8 * (largestShift - smallestShift + 1)]sync.Pool // of *[]byte

const (
	smallestShift = 12 // the sizes up to 64 KiB differ by 4 KiB,
	largestShift  = 19 // and those up to 8 MiB by 512 KiB
	leastLent     = 8<<smallestShift + 1
	mostLent      = 16 << largestShift
)

// roomOf returns how much memory is lent for a size that is, and the place of such.
func roomOf(size int) (room, place int) {
	shift := bits.Len(uint(size-1)) - 4
	n := (size + 1<<shift - 1) >> shift // 9 to 16
	return n << shift, 8*(shift-smallestShift) + n - 9
}

// lend returns memory of at least size bytes; what is in it is of others. Nil: so little, or
// so much, is not lent.
func (l *lender) lend(size int) *[]byte {
	if size < leastLent || size > mostLent {
		return nil
	}
	room, place := roomOf(size)
	if b, ok := l[place].Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, room)
	return &b
}

// takeBack takes back what was lent, if anything was.
func (l *lender) takeBack(b *[]byte) {
	if b != nil {
		_, place := roomOf(len(*b))
		l[place].Put(b)
	}
}
