package cost

import (
	"testing"

	"github.com/inferpick/inferpick/internal/prefixindex"
)

func chain(topic string, blocks int) (hashes []uint64) {
	h := prefixindex.NewHasher(64, prefixindex.Seed())
	for len(hashes) < blocks {
		hashes = h.Append(hashes, []byte((topic + "................................................................")[:64]))
	}
	return hashes
}

func TestCrowd(t *testing.T) {
	var c Crowd
	shared, other := chain("shared", 40), chain("other", 40)
	for range 8 {
		c.Add(shared, 1)
	}
	c.Add(other, 1)
	for blocks, want := range map[int]int{0: 0, 1: 8, 13: 8, 40: 8} {
		if got := c.Share(shared, blocks); got != want {
			t.Errorf("%d requests share %d blocks, want %d", got, blocks, want)
		}
	}
	// Where a tenth of the requests is the most that may have a home in common, the
	// prompt of all but one has none, and the other's is its shortest beginning.
	if h := c.Head(shared, .1); h != 0 {
		t.Errorf("head of the common prompt = %x, want none", h)
	}
	if h := c.Head(other, .1); h != other[0] {
		t.Errorf("head of the other = %x, want its first block %x", h, other[0])
	}
	// A prompt that goes on differently has its head behind the common part.
	fork := append(append([]uint64(nil), shared[:12]...), other[12:]...)
	if h := c.Head(fork, .1); h != fork[13] { // 14 blocks is the first length that is counted behind 12
		t.Errorf("head of the fork = %x, want %x", h, fork[13])
	}
	for range 8 {
		c.Add(shared, -1)
	}
	c.Add(other, -1)
	if c != (Crowd{}) {
		t.Error("something is left of requests that have ended")
	}
}
