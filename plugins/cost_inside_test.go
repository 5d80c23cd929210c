package plugins

import (
	"math"
	"testing"

	"github.com/inferpick/inferpick/internal/prefixindex"
)

// A step of 10 ms ends at second 1; what a request that reaches the engine then or
// later waits for it, and what prefill it finds in the next one.
func TestCostRhythm(t *testing.T) {
	for _, tt := range []struct {
		name                        string
		at, ends, pending, decoding float64
		wait, beside                float64
	}{
		{"the step under way", .995, 1, 0, 5, .005, 0},
		{"prefill that goes into the next step is shared", .995, 1, .02, 5, .005, .02},
		{"that step has begun", 1.005, 1, .02, 5, .025, 0},
		{"the step after a known end only decodes", 1.004, 1, 0, 5, .006, 0},
		{"nothing is known for longer than that", 1.5, 1, 0, 5, .005, 0},
		{"nothing was ever known", 1, math.Inf(-1), 0, 5, .005, 0},
		{"an idle engine starts at once", 1.004, 1, 0, 0, 0, 0},
		{"an idle engine that was just sent a prefill", .995, 1, .02, 0, .005, .02},
	} {
		wait, beside := until(tt.at, tt.ends, tt.pending, .01, tt.decoding)
		if math.Abs(wait-tt.wait) > 1e-12 || math.Abs(beside-tt.beside) > 1e-12 {
			t.Errorf("%s: waits %v beside %v, want %v and %v", tt.name, wait, beside, tt.wait, tt.beside)
		}
	}
}

// A token that comes back says which prefills are in the step that begins.
func TestCostSync(t *testing.T) {
	s := &costServer{step: .01, decoding: 3}
	early, late := &costed{sent: 1, work: .02}, &costed{sent: 1.0995, work: .04}
	early.next, late.prev = late, early
	s.head, s.tail = early, late
	s.sync(1.1, .003)
	if math.Abs(s.stepEnds-1.13) > 1e-12 || s.pending != .04 {
		t.Errorf("the step ends at %v with %v s in the next one, want 1.13 and 0.04", s.stepEnds, s.pending)
	}
}

// Of a server with very many prefills only the first are looked at one by one, and the sum
// of the others is taken for the rest.
func TestCostSyncMany(t *testing.T) {
	const n = 4 * manyPrefills
	s := &costServer{step: .01, token: 1e-4}
	for i := range n {
		s.add(&costed{sent: float64(i) / n, compute: 100, work: .01}, .003, 8192)
	}
	s.sync(2, .003)
	if want := 2 + .01 + n*.01; math.Abs(s.stepEnds-want) > 1e-6 {
		t.Errorf("the step ends at %v, want %v", s.stepEnds, want)
	}
}

func chain(topic string, blocks int) (hashes []uint64) {
	h := prefixindex.NewHasher(64, prefixindex.Seed())
	for len(hashes) < blocks {
		hashes = h.Append(hashes, []byte((topic + "................................................................")[:64]))
	}
	return hashes
}

func TestCrowd(t *testing.T) {
	var c crowd
	shared, other := chain("shared", 40), chain("other", 40)
	for range 8 {
		c.add(shared, 1)
	}
	c.add(other, 1)
	for blocks, want := range map[int]int{0: 0, 1: 8, 13: 8, 40: 8} {
		if got := c.share(shared, blocks); got != want {
			t.Errorf("%d requests share %d blocks, want %d", got, blocks, want)
		}
	}
	// Where a tenth of the requests is the most that may have a home in common, the
	// prompt of all but one has none, and the other's is its shortest beginning.
	if h := c.head(shared, .1); h != 0 {
		t.Errorf("head of the common prompt = %x, want none", h)
	}
	if h := c.head(other, .1); h != other[0] {
		t.Errorf("head of the other = %x, want its first block %x", h, other[0])
	}
	// A prompt that goes on differently has its head behind the common part.
	fork := append(append([]uint64(nil), shared[:12]...), other[12:]...)
	if h := c.head(fork, .1); h != fork[13] { // 14 blocks is the first length that is counted behind 12
		t.Errorf("head of the fork = %x, want %x", h, fork[13])
	}
	for range 8 {
		c.add(shared, -1)
	}
	c.add(other, -1)
	if c != (crowd{}) {
		t.Error("something is left of requests that have ended")
	}
}

// A server that comes or goes moves only its own share of the homes.
func TestHomesMoveWithTheirServerOnly(t *testing.T) {
	home := func(head uint64, servers []uint64) (at int) {
		for i, place := range servers {
			if homeRank(head, place) > homeRank(head, servers[at]) {
				at = i
			}
		}
		return at
	}
	servers := []uint64{prefixindex.Seed("a"), prefixindex.Seed("b"), prefixindex.Seed("c"), prefixindex.Seed("d")}
	share := make([]int, 4)
	for i := range 4000 {
		head := prefixindex.Seed(string(rune(i)))
		at := home(head, servers)
		share[at]++
		if at < 3 && home(head, servers[:3]) != at {
			t.Fatalf("head %d moved from a server that stayed", i)
		}
	}
	for i, n := range share {
		if n < 800 || n > 1200 {
			t.Errorf("server %d is home to %d of 4000, want about a quarter", i, n)
		}
	}
}
