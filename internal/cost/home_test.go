package cost

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/internal/prefixindex"
)

// A server that comes or goes moves only its own share of the homes.
func TestHomesMoveWithTheirServerOnly(t *testing.T) {
	home := func(head uint64, servers []uint64) (at int) {
		for i, place := range servers {
			if HomeRank(head, place) > HomeRank(head, servers[at]) {
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

// Who is alone expects nothing of a home; beside others as much is expected as engines have
// cached of prompts in general, and never all of one.
func TestExpectedAtTheHome(t *testing.T) {
	q := &Query{Prompt: 1000}
	for _, tt := range []struct{ others, reuse, want float64 }{
		{0, 1, 0}, {1, 0, 0}, {1, .5, 495.05}, {.1, .5, 250}, {1, 5, 999},
	} {
		require.InDelta(t, tt.want, float64(q.Expected(tt.reuse, Sure(tt.others))), .01, "%+v", tt)
	}
}
