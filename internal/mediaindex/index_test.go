package mediaindex

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSeen(t *testing.T) {
	x := New(Options{Pairs: 5, ServerTokens: 1000})
	a, b := x.Add(), x.Add()
	require.Equal(t, []uint64{0, 0}, x.Seen([]uint64{1, 2}, nil))
	require.False(t, x.Sees(a, 1, 400))
	require.False(t, x.Sees(a, 2, 400))
	require.False(t, x.Sees(b, 2, 400))
	require.False(t, x.Sees(b, 0, 400), "not known what it is")
	require.Equal(t, []uint64{0b11, 0b10}, x.Seen([]uint64{1, 2, 0, 9}, make([]uint64, 7)))

	require.True(t, x.Sees(a, 1, 400))
	x.Sees(a, 3, 400) // the one that was used the longest ago goes
	require.Equal(t, []uint64{0b101, 0b010}, x.Seen([]uint64{1, 2, 3}, nil))
	x.Sees(a, 4, 1001) // more than is kept
	require.Equal(t, []uint64{0b101, 0b010}, x.Seen([]uint64{1, 2, 3, 4}, nil))
	x.Forget(a, 3)
	x.Forget(a, 3)
	require.Equal(t, []uint64{0b001, 0b010}, x.Seen([]uint64{1, 2, 3}, nil))

	for key := uint64(10); key < 14; key++ { // the bound on all
		x.Sees(b, key, 10)
	}
	require.Equal(t, 5, x.Len())
	require.Equal(t, []uint64{0b001, 0b000}, x.Seen([]uint64{1, 2, 3}, nil))

	x.Remove(b)
	x.Remove(b)
	require.Equal(t, 1, x.Len())
	require.False(t, x.Sees(b, 1, 10), "it has gone")
	require.Equal(t, b, x.Add())
	require.Equal(t, []uint64{0b001, 0b000}, x.Seen([]uint64{1, 10}, nil), "and has seen nothing when it comes again")
	require.Equal(t, uint64(1<<63), x.Seen(append(make([]uint64, 63), 1, 1), nil)[a], "more are not told apart")
}

// What a simple one says is what the index says, whatever happens.
func TestAgainstASimpleOne(t *testing.T) {
	type one struct {
		slot   int
		key    uint64
		tokens int
	}
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		o := Options{Pairs: 1 + rnd.IntN(60), ServerTokens: 100 + rnd.IntN(2000)}
		x := New(o)
		var all []one // the oldest first
		there := map[int]bool{}
		drop := func(keep func(one) bool) {
			var left []one
			for _, p := range all {
				if keep(p) {
					left = append(left, p)
				}
			}
			all = left
		}
		for range 2000 {
			slot, key := rnd.IntN(6), uint64(rnd.IntN(30))
			switch rnd.IntN(20) {
			case 0:
				there[x.Add()] = true
			case 1:
				x.Remove(slot)
				delete(there, slot)
				drop(func(p one) bool { return p.slot != slot })
			case 2:
				x.Forget(slot, key)
				drop(func(p one) bool { return p.slot != slot || p.key != key })
			default:
				tokens := 1 + rnd.IntN(200)
				had := false
				if there[slot] && key != 0 && tokens <= o.ServerTokens {
					for _, p := range all {
						if p.slot == slot && p.key == key {
							had, tokens = true, p.tokens
						}
					}
					drop(func(p one) bool { return p.slot != slot || p.key != key })
					all = append(all, one{slot, key, tokens})
					for sum := o.ServerTokens + 1; sum > o.ServerTokens; {
						sum = 0
						first := -1
						for i, p := range all {
							if p.slot == slot {
								sum += p.tokens
								if first < 0 {
									first = i
								}
							}
						}
						if sum > o.ServerTokens {
							all = append(all[:first:first], all[first+1:]...)
						}
					}
					all = all[max(len(all)-o.Pairs, 0):]
				}
				require.Equal(t, had, x.Sees(slot, key, tokens))
			}
			require.Equal(t, len(all), x.Len())
			require.Equal(t, len(all) == 0, len(x.byKey) == 0)
		}
		keys := make([]uint64, 30)
		for i := range keys {
			keys[i] = uint64(i)
		}
		seen := x.Seen(keys, nil)
		for slot := range seen {
			want := uint64(0)
			for _, p := range all {
				if p.slot == slot {
					want |= 1 << p.key
				}
			}
			require.Equal(t, want, seen[slot])
		}
	}
}

func BenchmarkSeen(b *testing.B) {
	x := New(Options{Pairs: 1 << 16, ServerTokens: 1 << 20})
	keys := []uint64{1, 2, 3, 4}
	for range 100 {
		slot := x.Add()
		for _, key := range keys {
			x.Sees(slot, key, 1000)
		}
	}
	var room []uint64
	b.ReportAllocs()
	for b.Loop() {
		room = x.Seen(keys, room)
	}
}
