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
	for range 8 {
		c.Add(shared, -1)
	}
	c.Add(other, -1)
	if c != (Crowd{}) {
		t.Error("something is left of requests that have ended")
	}
}
