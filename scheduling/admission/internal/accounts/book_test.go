package accounts

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/types"
)

// check looks at all that a Book keeps.
func (b *Book) check(t *testing.T) {
	t.Helper()
	n, last := 0, time.Duration(math.MinInt64)
	for at := b.used.Head; at != nil; at = at.Next {
		a := at.Of
		require.True(t, b.own[a.Key] == a && !a.dropped && a.at >= last)
		require.True(t, a.Requests >= 0 && a.Tokens >= 0 && a.round <= b.round)
		last = a.at
		n++
	}
	require.Len(t, b.own, n)
	require.LessOrEqual(t, n, b.most)
	heard := 0
	for _, p := range b.peers {
		n := 0
		for at := p.list.Head; at != nil; at = at.Next {
			require.True(t, p.said[at.Of.Key] == at.Of)
			n++
		}
		require.Len(t, p.said, n)
		heard += n
	}
	require.Equal(t, heard, b.heard)
	require.LessOrEqual(t, heard, perAccount*b.most)
}

func said(key uint64, requests, tokens float64) types.Account {
	return types.Account{Key: key, Requests: requests, Tokens: tokens, RequestsLeft: math.NaN(), TokensLeft: math.NaN()}
}

func told(b *Book, whole bool, now time.Duration, more func(*Account) bool) (keys []uint64) {
	if more == nil {
		more = func(*Account) bool { return false }
	}
	b.Tell(whole, now, more, func(a *Account) { keys = append(keys, a.Key) })
	return keys
}

// The keys are what gateways have in common: a change is another protocol.
func TestKeys(t *testing.T) {
	require.Equal(t, uint64(0xad20abfb8a68a525), Key("tenant", "0", "gold"))
	seen := map[uint64]string{}
	for _, parts := range [][]string{{"a"}, {"a", ""}, {"", "a"}, {"a", "b"}, {"ab"}, {"ab", ""}, {"", "", "a"}, {"a", "b", ""}, {}, {""}} {
		for _, kind := range []string{"x", "y", ""} {
			k, name := Key(kind, parts...), fmt.Sprintf("%q %q", kind, parts)
			require.Empty(t, seen[k], name)
			seen[k] = name
		}
	}
}

func TestTell(t *testing.T) {
	b := New(10)
	a1, a2 := b.Account(1, "one", 0), b.Account(2, "two", 0)
	require.Empty(t, told(b, true, 0, nil), "nothing is charged")
	b.Charge(a1, 1, 100, 0)
	require.Equal(t, []uint64{1}, told(b, false, 0, nil))
	require.Empty(t, told(b, false, 0, nil), "nothing has changed")
	require.Equal(t, []uint64{1}, told(b, true, 0, nil))
	b.Charge(a2, 1, 50, time.Second)
	b.Charge(a1, 0, -20, time.Second)
	require.Equal(t, []uint64{1, 2}, told(b, false, time.Second, nil), "the last charged first")
	require.Equal(t, 80.0, a1.Tokens)
	b.Charge(a1, -2, -100, time.Second)
	require.Equal(t, []float64{0, 0}, []float64{a1.Requests, a1.Tokens}, "no sum is negative")
	b.Charge(a1, 1, 1, 2*time.Second)

	now := 2*time.Second + lateCharged
	require.Equal(t, []uint64{1}, told(b, true, now, nil), "of late")
	require.Equal(t, []uint64{1, 2}, told(b, true, now, func(a *Account) bool { return a.Of == "two" }))
	require.Empty(t, told(b, true, now+1, nil))
	require.Empty(t, told(b, true, 2*time.Second+kept, nil))
	require.Equal(t, 1, b.Len())
	require.True(t, a2.Dropped())
	b.Charge(a2, 1, 1, now)
	require.Equal(t, 1.0, a2.Requests)
	b.check(t)
}

// As many are told again and again as there may be, the last charged first.
func TestTellIsBounded(t *testing.T) {
	b := New(3 * mostTold)
	for i := range uint64(2 * mostTold) {
		b.Charge(b.Account(i, nil, 0), 1, 1, 0)
	}
	require.Len(t, told(b, false, 0, nil), 2*mostTold)
	all := told(b, true, 0, nil)
	require.Len(t, all, mostTold)
	require.Equal(t, uint64(2*mostTold-1), all[0])
}

func TestAccountsMakeRoom(t *testing.T) {
	b := New(3)
	first := b.Account(1, "one", 0)
	b.Account(2, "two", 1)
	b.Account(3, "three", 2)
	b.Charge(first, 1, 1, 3)
	second := b.own[2]
	b.Account(4, "four", 4)
	require.True(t, second.Dropped() && !first.Dropped())
	require.Same(t, first, b.Account(1, "one again", 5))
	require.Equal(t, "one again", first.Of)
	b.SetMost(1)
	require.Equal(t, 1, b.Len())
	b.check(t)
}

func TestHear(t *testing.T) {
	b := New(10)
	own := b.Account(1, "one", 0)
	hear := func(from int, a types.Account, now time.Duration) News {
		t.Helper()
		n, ok := b.Hear(from, a, now)
		require.True(t, ok)
		require.Same(t, own, n.Own)
		n.Took(n.Requests, n.Tokens)
		n.said = nil
		b.check(t)
		return n
	}
	require.Equal(t, News{Own: own, Requests: 5, Tokens: 500, First: true}, hear(1, said(1, 5, 500), 0))
	require.Equal(t, News{Own: own, Requests: 0, Tokens: 0, First: false}, hear(1, said(1, 5, 500), 0), "told again")
	require.Equal(t, News{Own: own, Requests: 2, Tokens: -100, First: false}, hear(1, said(1, 7, 400), 0))
	require.Equal(t, News{Own: own, Requests: 9, Tokens: 900, First: true}, hear(2, said(1, 9, 900), 0), "another peer")
	require.Equal(t, News{Own: own, Requests: 1, Tokens: 0, First: false}, hear(1, said(1, 8, 400), heardTTL))
	require.Equal(t, News{Own: own, Requests: 9, Tokens: 400, First: true}, hear(1, said(1, 9, 400), 2*heardTTL+1), "too long ago")
	b.LosePeer(1)
	require.Equal(t, News{Own: own, Requests: 9, Tokens: 400, First: true}, hear(1, said(1, 9, 400), 2*heardTTL+1), "another of its number")
	b.LosePeer(3)

	hear(1, said(1, 10, 1e9), 2*heardTTL)
	require.Equal(t, News{Own: own, Requests: 10, Tokens: 300, First: true}, hear(1, said(1, 10, 300), 2*heardTTL), "it has begun anew")
	require.Equal(t, News{Own: own, Requests: 0, Tokens: -200, First: false}, hear(1, said(1, 10, 100), 2*heardTTL))
}

// A peer gives back what was taken off for it, and no more.
func TestPeersGiveBack(t *testing.T) {
	b := New(10)
	b.Account(1, "one", 0)
	hear := func(requests, tokens, tookRequests, tookTokens float64) News {
		n, _ := b.Hear(1, said(1, requests, tokens), 0)
		n.Took(tookRequests, tookTokens)
		return n
	}
	hear(100, 10_000, 3, 300)
	require.Equal(t, -200.0, hear(100, 9800, 0, -200).Tokens)
	n := hear(90, 9000, -3, -100)
	require.Equal(t, []float64{-3, -100}, []float64{n.Requests, n.Tokens})
	n = hear(80, 8000, 0, 0)
	require.Zero(t, n.Requests+n.Tokens)
}

func TestHearWhatIsNotHere(t *testing.T) {
	b := New(10)
	_, ok := b.Hear(1, said(7, 1, 1), 0)
	require.False(t, ok)
	require.Zero(t, b.heard, "of tenants nothing is kept")
	budget := said(8, 1, 1)
	budget.TokensLeft = 99
	_, ok = b.Hear(1, budget, 0)
	require.False(t, ok)
	budget.RequestsLeft = 5
	b.Hear(2, budget, time.Second)
	var left []float64
	b.Said(8, 2*time.Second, func(a *Said, age time.Duration) { left = append(left, a.TokensLeft, age.Seconds()) })
	require.ElementsMatch(t, []float64{99, 2, 99, 1}, left)
	b.Said(8, heardTTL+1, func(a *Said, _ time.Duration) { require.Equal(t, 5.0, a.RequestsLeft) })
	b.LosePeer(2)
	b.Said(8, heardTTL+1, func(*Said, time.Duration) { t.Fatal("too long ago") })
	require.Zero(t, b.Len(), "a peer makes no account")
	b.check(t)
}

func TestWhatCannotBe(t *testing.T) {
	b := New(10)
	b.Account(1, "one", 0)
	for _, a := range []types.Account{
		said(1, math.NaN(), 1), said(1, 1, math.NaN()), said(1, math.Inf(1), 1), said(1, 1, math.Inf(-1)),
		said(1, -1, 1), said(1, 1, -1e-9), said(1, 1, 1e300), said(1, math.MaxFloat64, 1),
	} {
		_, ok := b.Hear(1, a, 0)
		require.False(t, ok, "%v", a)
	}
	require.Equal(t, Counts{Heard: 8, Wild: 8}, b.Counts)
	require.Zero(t, b.heard)
}

// A peer that floods makes room for itself at its own cost.
func TestFlood(t *testing.T) {
	b := New(100)
	for i := range uint64(50) {
		b.Account(i, "here", 0)
	}
	for i := range uint64(50) {
		b.Hear(1, said(i, 1, 1), 0)
		b.Hear(2, said(i, 1, 1), 0)
	}
	for i := range uint64(10_000) {
		flood := said(1000+i, 1, 1)
		flood.RequestsLeft = 0
		b.Hear(3, flood, 0)
	}
	b.check(t)
	require.Len(t, b.peers[1].said, 50)
	require.Len(t, b.peers[2].said, 50)
	require.Equal(t, 50, b.Len())
	n, _ := b.Hear(1, said(7, 2, 2), 0)
	require.False(t, n.First)
}

// TestBooksAgree: whatever is lost, comes late or twice, what was heard of a peer is what it charged once the last is.
func TestBooksAgree(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	a, b := New(100), New(100)
	sums := map[uint64]float64{}
	for i := range uint64(10) {
		b.Account(i, "here", 0)
		a.Charge(a.Account(i, "there", 0), 1, 1, 0)
	}
	now := time.Duration(0)
	exchange := func(whole bool, lost float64) {
		a.Tell(whole, now, func(*Account) bool { return false }, func(x *Account) {
			for again := lost; rnd.Float64() >= again; again = 0.5 {
				n, _ := b.Hear(1, said(x.Key, x.Requests, x.Tokens), now)
				n.Took(n.Requests, n.Tokens)
				sums[x.Key] += n.Tokens
			}
		})
	}
	for range 2000 {
		now += 10 * time.Millisecond
		a.Charge(a.own[rnd.Uint64N(10)], 1, float64(rnd.IntN(1000)-200), now)
		if rnd.IntN(5) == 0 {
			exchange(rnd.IntN(10) == 0, 0.3)
		}
	}
	for i := range uint64(10) {
		a.Charge(a.own[i], 0, 0, now)
	}
	exchange(true, 0)
	for i := range uint64(10) {
		require.InDelta(t, a.own[i].Tokens, sums[i], 1e-6)
	}
}
