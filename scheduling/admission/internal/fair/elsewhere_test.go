package fair

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// others is a Queues with tenants that wait, and what is known of other gateways.
type others struct {
	*Queues
	t     *testing.T
	lane  Lane
	of    map[string]*Flow
	told  Elsewhere
	items map[string][]*Item
}

func newOthers(t *testing.T, credit float64, peers int) *others {
	c := testConfig()
	c.Credit, c.OutputTokens = credit, 0
	o := &others{Queues: New(c), t: t, of: map[string]*Flow{}, items: map[string][]*Item{}, told: Elsewhere{Peers: peers, Kept: 0.9, Unknown: 0.25}}
	o.Settle(o.told)
	return o
}

// come has a request of 100 tokens wait.
func (o *others) come(tenant string) *Item {
	it := &Item{Lane: &o.lane}
	o.Rank(it)
	o.Assign(it, tenant, "", 0)
	o.Estimate(it, Amount{Prompt: 100})
	o.Add(it)
	o.of[tenant] = it.Flow()
	return it
}

// serve lets in so many, and returns whose they were.
func (o *others) serve(n int) (tenants string) {
	for range n {
		it := o.Next(everywhere{}.has)
		o.Take(it, 0)
		o.Start(it)
		tenants += it.Tenant()
		o.End(it, 100, 0, 0)
		o.check(o.t)
	}
	return tenants
}

func (o *others) settle() {
	o.told.Epoch++
	o.Settle(o.told)
	o.check(o.t)
}

// What other gateways served a tenant counts as what this one did.
func TestHeardCounts(t *testing.T) {
	o := newOthers(t, 1000, 0) // nothing is guessed
	for range 10 {
		o.come("a")
		o.come("b")
	}
	o.Hear(o.of["a"], 3, 300)
	o.settle()
	require.Equal(t, "bbb", o.serve(3))
	o.Hear(o.of["a"], 0, -200) // it took less
	o.settle()
	require.Equal(t, "aa", o.serve(2))
}

// Until others are heard they are taken to do the same: here a turn of each is one of all.
func TestOthersDoTheSame(t *testing.T) {
	for peers, want := range map[int]string{0: "aaaa", 7: "abab"} {
		o := newOthers(t, 1000, peers)
		for range 10 {
			o.come("a")
			o.come("b")
		}
		if b := o.of["b"].band; peers > 0 {
			b.elsewhere.here, b.elsewhere.there = 1e5, 7e5
		}
		o.of["a"].move(0)
		o.of["b"].move(400) // a is behind by four requests of this gateway, or half a one of all
		require.Equal(t, want, o.serve(4))
		for range 6 {
			o.settle()
			if peers > 0 {
				o.Hear(o.of["a"], 2, 1400.0/6)
			}
		}
		require.InDelta(t, 0, o.of["a"].beside, 100, "by now they have been heard")
	}
}

// Hearing puts no tenant further ahead, or behind, than what is on its way explains.
func TestHearingIsBounded(t *testing.T) {
	o := newOthers(t, 1000, 1)
	for range 10 {
		o.come("a")
		o.come("b")
	}
	for range 100 { // a has other gateways for itself
		o.Hear(o.of["a"], 1, 100)
		o.settle()
	}
	most := 1000 + 3*250.0 // what is heard in the time of a message
	require.InDelta(t, most, o.of["a"].at()-o.of["b"].at(), 100)
	for range 100 { // and b is put right again and again
		o.Hear(o.of["b"], 0, -100)
		o.settle()
	}
	require.InDelta(t, most, o.of["a"].at()-o.of["b"].at(), 300)
}

// A tenant that comes back elsewhere has come back here: it is owed nothing for the time.
func TestHearingLifts(t *testing.T) {
	o := newOthers(t, 100, 0)
	o.come("a")
	o.serve(1)
	o.come("b")
	for range 30 {
		o.serve(1)
		o.come("b")
	}
	o.Hear(o.of["a"], 1, 100)
	o.settle()
	o.come("a")
	require.InDelta(t, 0, o.of["a"].counter-o.of["b"].counter, 1)

	// And who has been served elsewhere holds nothing against those that come anew.
	o = newOthers(t, 100, 0)
	o.come("a")
	o.serve(1)
	for range 30 {
		o.Hear(o.of["a"], 1, 100)
		o.settle()
	}
	o.come("c")
	require.InDelta(t, 200, o.of["a"].counter-o.of["c"].counter, 1, "a request, and the credit")
}

// What is heard of a tenant that was forgotten changes nothing.
func TestHearingOfForgotten(t *testing.T) {
	o := newOthers(t, 100, 1)
	o.come("a")
	o.serve(1)
	a := o.of["a"]
	o.Hear(a, 1, 100)
	a.band.forget(time.Hour, &o.c, true)
	before := a.counter
	o.Hear(a, 1, 100)
	o.settle()
	require.Equal(t, before, a.counter)
	for range 100 {
		o.settle()
	}
	require.Empty(t, a.band.elsewhere.active)
}

// TestHearing plays at random, and looks at all that is kept.
func TestHearing(t *testing.T) {
	for seed := range uint64(8) {
		rnd := rand.New(rand.NewPCG(seed, 9))
		o := newOthers(t, 500, int(seed%4))
		names := []string{"a", "b", "c", "d"}
		for range 300 {
			name := names[rnd.IntN(len(names))]
			switch f := o.of[name]; rnd.IntN(5) {
			case 0, 1:
				o.come(name)
			case 2:
				o.serve(min(o.Len(), rnd.IntN(3)))
			case 3:
				if f != nil {
					o.Hear(f, float64(rnd.IntN(3)), rnd.NormFloat64()*1000)
				}
			case 4:
				o.told.Epoch += rnd.Uint64N(3)
				o.told.Peers = rnd.IntN(4)
				o.settle()
			}
			o.check(t)
		}
		o.told.Peers = 0
		for range 2 {
			o.settle()
		}
		for _, b := range o.bands {
			require.Empty(t, b.elsewhere.active)
			for _, f := range b.flows {
				require.Zero(t, f.beside)
				require.Nil(t, f.elsewhere)
			}
		}
	}
}
