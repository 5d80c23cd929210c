package cost

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/internal/prefixindex"
	"github.com/inferpick/inferpick/types"
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

// chosen returns which of the places are homes.
func chosen(h Homes, places []uint64) (at []int) {
	for i, place := range places {
		if h.Have(place) {
			at = append(at, i)
		}
	}
	return at
}

func placesOf(n int) (places []uint64) {
	for i := range n {
		places = append(places, prefixindex.Seed(string(rune('a'+i))))
	}
	return places
}

// What few begin with has one home, and what all begin with has none. What is between has some, of
// which one is that of each conversation that begins so.
func TestHomesOfWhatBeginsAlike(t *testing.T) {
	var h Heads
	places := placesOf(16)
	common, app := chain("common", 40), func(i int) []uint64 { return chain(string(rune('A'+i)), 40) }
	fork := func(from []uint64, topic string) []uint64 {
		return append(slices.Clone(from[:12]), chain(topic, 40)[12:]...)
	}
	for i := range 600 {
		h.Add(common)
		h.Add(fork(app(i%10), fmt.Sprint(i)))
	}
	const share = .04
	require.Empty(t, chosen(h.Homes(common, places, share), places), "half of all prompts")
	some := chosen(h.Homes(app(3)[:12], places, share), places)
	require.Greater(t, len(some), 1, "a twentieth of all prompts")
	require.Less(t, len(some), 10)
	homes := map[int]bool{}
	for i := range 50 {
		one := chosen(h.Homes(fork(app(3), fmt.Sprint("new", i)), places, share), places)
		require.Len(t, one, 1, "a conversation")
		require.Contains(t, some, one[0], "where its system prompt is")
		homes[one[0]] = true
	}
	require.Len(t, homes, len(some), "all of them are used")
	require.Len(t, chosen(h.Homes(app(3)[:12], places, .2), places), 1, "with a fleet so little used that one can take it")
}

// Gateways that see some of the requests each agree on nearly all homes.
func TestGatewaysAgreeOnHomes(t *testing.T) {
	var gateways [4]Heads
	places := placesOf(12)
	turn := func(session int) []uint64 {
		return append(chain(string(rune('A'+session%8)), 12), chain(fmt.Sprint(session), 40)[12:]...)
	}
	rnd := types.NewRand(1)
	same, all := 0, 0
	for session := range 400 {
		for range 8 {
			gateways[rnd.IntN(4)].Add(turn(session))
		}
		a, b := gateways[0].Homes(turn(session), places, .02), gateways[1].Homes(turn(session), places, .02)
		if session < 100 {
			continue
		}
		if all++; slices.Equal(chosen(a, places), chosen(b, places)) {
			same++
		}
	}
	require.Greater(t, float64(same)/float64(all), .8, "%d of %d", same, all)
}

// What was common once is forgotten, also when the counts were scaled down between.
func TestHeadsForget(t *testing.T) {
	var h Heads
	places, was, is := placesOf(10), chain("was", 8), chain("is", 8)
	for range 2000 {
		h.Add(was)
	}
	require.False(t, func() bool { one := h.Homes(was, places, .02); return one.Any() }())
	for range 15 * headMemory {
		h.Add(is)
	}
	require.Less(t, h.one, float32(mostCount))
	require.Len(t, chosen(h.Homes(was, places, .02), places), 1)
	require.Empty(t, chosen(h.Homes(is, places, .02), places))
}

// The less is in flight, the more may have one home.
func TestHomeShare(t *testing.T) {
	require.InDelta(t, .02, HomeShare(10, 1000), 1e-9)
	require.InDelta(t, .1, HomeShare(10, 30), 1e-9)
	require.InDelta(t, 1, HomeShare(10, 0), 1e-9)
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
