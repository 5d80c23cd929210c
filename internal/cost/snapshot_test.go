package cost

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/internal/figures"
	"github.com/inferpick/inferpick/types"
)

// taught returns a Learner that was shown so many requests of a fleet, and two of its servers.
func taught(seed uint64, n int, truth Rates, noise float64) (*Learner, []*Server) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	e := engine{truth, noise, rnd}
	l := NewLearner(Rates{Transport: .003, Step: 1, Token: 1})
	servers := []*Server{NewServer(Start{}), NewServer(Start{.5, -.25})}
	for i := range n {
		q, now := draw(rnd), float64(i)/3
		for k, row := range []Sample{q.first(), q.decode(), q.whole()} {
			took := e.took(row)
			l.fleet.Observe(row, took, 1-.25*float64(k))
			l.fleet.Compare(&servers[i%2].learned, 1, math.Log(took/l.fleet.Predict(row)), .7, .3, 1, now)
		}
		l.late.Add(.01 * rnd.NormFloat64())
		if i%7 == 0 {
			l.fleet.Told(&servers[0].learned, 1+rnd.Float64(), now)
		}
	}
	return l, servers
}

// again makes of a Learner and its servers those of a process that begins where theirs ended, whose clock is 1000
// seconds behind.
func again(t testing.TB, l *Learner, servers []*Server, now Seconds) (*Learner, []*Server) {
	t.Helper()
	b := l.Append(nil)
	for i := range servers {
		k := servers[i].Keep()
		before := len(b)
		b = k.Append(b, now)
		require.Len(t, b, before+KeptSize)
	}
	r := figures.NewReader(b)
	next := ReadLearner(r, l.fleet.start)
	resumed := make([]*Server, len(servers))
	for i := range servers {
		k := ReadKept(r, now-1000)
		next.Expect(&k)
		resumed[i] = NewServer(servers[i].start)
		require.True(t, resumed[i].Resume(&k))
	}
	require.NoError(t, r.End())
	return next, resumed
}

// Whatever was learned is believed again, and learning goes on as if nothing had been.
func TestLearnerGoesOn(t *testing.T) {
	for seed, truth := range []Rates{
		{.003, 1, 0, 1, 1}, {.3, 100, 0, 100, 100}, {.00003, .01, 0, .01, .01}, {.003, 1, .5, 100, 100}, {.003, .01, 2, 100, 100}, {0, 1, 0, 1, 1}, {.1, 1, 0, 0, 0},
	} {
		for _, noise := range []float64{0, .2, 3} {
			for _, n := range []int{0, 1, 2, 10, 2000} {
				l, servers := taught(uint64(seed), n, truth, noise)
				now := Seconds(n) / 3
				next, resumed := again(t, l, servers, now)
				check := func(after float64) {
					rates, common, late := l.Believed()
					r, c, s := next.Believed()
					require.InEpsilonSlice(t, []float64{1 + rates.Transport, rates.Step, 1 + rates.Growth, rates.Token}, []float64{1 + r.Transport, r.Step, 1 + r.Growth, r.Token}, 1e-9)
					require.InDelta(t, common.Step, c.Step, 1e-9)
					require.InDelta(t, common.Token, c.Token, 1e-9)
					require.InDelta(t, common.Left, c.Left, 1e-9)
					require.Equal(t, late, s)
					for i := range servers {
						step, token := servers[i].difference(common, now+Seconds(after))
						a, b := resumed[i].difference(c, now-1000+Seconds(after))
						require.InDelta(t, step, a, 1e-6)
						require.InDelta(t, token, b, 1e-6)
					}
				}
				check(0)
				check(100)
				row := request{1000, 100, 3}.whole()
				for range 5 {
					l.fleet.Observe(row, 2, 1)
					next.fleet.Observe(row, 2, 1)
				}
				check(200)
			}
		}
	}
}

// A server that is taken for another kind is none that was kept.
func TestResumeAnotherKind(t *testing.T) {
	_, servers := taught(1, 100, Rates{.003, 1, 0, 1, 1}, .1)
	k := servers[1].Keep()
	for _, start := range []Start{{.5, 0}, {0, -.25}} {
		s := NewServer(start)
		require.False(t, s.Resume(&k))
		require.Equal(t, NewServer(start), s)
	}
	l, _ := taught(1, 100, Rates{.003, 1, 0, 1, 1}, .1)
	before := l.fleet.Common()
	l.Expect(&k)
	l.Dismiss(&k)
	require.InDelta(t, before.Step, l.fleet.Common().Step, 1e-12)
}

func TestOutputsAgain(t *testing.T) {
	var o Outputs
	for i := range uint64(300) {
		o.Add(i<<56, i<<52, Tokens(i+1))
	}
	r := figures.NewReader(o.Append(nil))
	read := ReadOutputs(r)
	require.NoError(t, r.End())
	var next Outputs
	next.Add(1, 2, 3)
	next.Take(read)
	for i := range uint64(300) {
		require.Equal(t, o.Expect(i<<56, i<<52, 100), next.Expect(i<<56, i<<52, 100))
	}
	require.Equal(t, o.Expect(1, 2, 100), next.Expect(1, 2, 100))
}

func TestHopsAgain(t *testing.T) {
	h := NewHops(3, Hop{.007, 3e-6})
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		lacks := Tokens(rnd.Float64() * 10000)
		h.Learn(rnd.IntN(3), lacks, .01+Seconds(lacks)*1e-5)
	}
	r := figures.NewReader(h.Append(nil))
	next := ReadHops(r, 3)
	require.NoError(t, r.End())
	require.Empty(t, cmp.Diff(h, next, cmp.AllowUnexported(Hops{}, hops{})))
	ReadHops(figures.NewReader(NewHops(1, Hop{.007, 0}).Append(nil)), 1)
}

func TestTierPricesAgain(t *testing.T) {
	var p, next TierPrices
	p.Learn(types.KVDisk, 100, 1, .01)
	p.Learn(Peer, 100, -1, .01)
	r := figures.NewReader(p.Append(nil))
	next.Take(ReadTierPrices(r))
	require.NoError(t, r.End())
	for tier := range Peer + 1 {
		require.Equal(t, p.Of(tier), next.Of(tier))
	}
}

func TestHeadsAgain(t *testing.T) {
	var h Heads
	rnd := rand.New(rand.NewPCG(1, 2))
	prompt := func() []uint64 {
		p := make([]uint64, 20)
		for i := range p {
			p[i] = rnd.Uint64()
		}
		return p
	}
	first := prompt()
	for range 3000 {
		h.Add(first[:8])
		h.Add(prompt())
	}
	b := h.Append(nil)
	require.Less(t, len(b), 300<<10)
	r := figures.NewReader(b)
	next := ReadHeads(r)
	require.NoError(t, r.End())
	places := []uint64{1 << 60, 2 << 60, 3 << 60, 4 << 60, 5 << 60}
	for range 100 {
		p := append(first[:8:8], prompt()...)
		require.Equal(t, h.Homes(p, places, .1), next.Homes(p, places, .1))
	}
}

// What learning could not have come to is not believed.
func TestSnapshotsThatLie(t *testing.T) {
	l, servers := taught(3, 500, Rates{.003, 2, 0, 3, 3}, .1)
	learner, kept := l.Append(nil), servers[0].Keep()
	server := kept.Append(nil, 0)
	hops := NewHops(1, Hop{.007, 3e-6}).Append(nil)
	var o Outputs
	o.Add(1<<60, 2<<60, 100)
	outputs := o.Append(nil)
	var h Heads
	h.Add([]uint64{1, 2, 3})
	heads := h.Append(nil)
	readers := map[string]func(*figures.Reader){
		"learner": func(r *figures.Reader) { ReadLearner(r, l.fleet.start) },
		"server":  func(r *figures.Reader) { ReadKept(r, 0) },
		"hops":    func(r *figures.Reader) { ReadHops(r, 1) },
		"outputs": func(r *figures.Reader) { ReadOutputs(r) },
		"heads":   func(r *figures.Reader) { ReadHeads(r) },
		"tiers":   func(r *figures.Reader) { ReadTierPrices(r) },
	}
	float := func(b []byte, at int, v float64) []byte {
		b = append([]byte(nil), b...)
		binary.BigEndian.PutUint64(b[8*at:], math.Float64bits(v))
		return b
	}
	bytes := func(b []byte, at int, v ...byte) []byte {
		b = append([]byte(nil), b...)
		copy(b[at:], v)
		return b
	}
	for _, c := range []struct {
		name, what string
		in         []byte
		want       string
	}{
		{"cut", "learner", learner[:len(learner)-1], "is cut off"},
		{"a negative sum", "learner", float(learner, 0, -1), "sum of products of terms"},
		{"a sum that is too large for the others", "learner", float(learner, 1, 1e9), "contradict"},
		{"sums that say of the time what they do not of its squares", "learner", float(learner, 25, 1e-9), "contradict"},
		{"no number", "learner", float(learner, 20, math.NaN()), "factor of a rate"},
		{"a factor of 0", "learner", float(learner, 21, 0), "contradict"},
		{"a factor out of range", "learner", float(learner, 23, 1e7), "factor of a rate"},
		{"infinite lateness", "learner", float(learner, 56, math.Inf(-1)), "lateness"},
		{"too sure", "learner", float(learner, 27, 1e6), "number of rows"},
		{"mean", "server", float(server, 7, 4), "logarithm of a difference"},
		{"weight", "server", float(server, 9, 101), "weight of a difference"},
		{"told", "server", float(server, 13, math.Inf(1)), "what was told"},
		{"seen", "server", float(server, 4, 1e10), "time since a server was compared"},
		{"hops", "hops", float(hops, 1, 1e6), "contradict"},
		{"no hops", "hops", float(hops, 0, 0), "number of hand-overs"},
		{"endless hop", "hops", float(hops, 5, 1e6), "setup of a hand-over"},
		{"length", "outputs", bytes(outputs, 0, 0x7f, 0xc0, 0, 0, 0x3f, 0x80, 0, 0), "as the mean of"},
		{"place", "outputs", bytes(outputs, 10, 1, 0), "a mean at 256, want less than 256"},
		{"many", "outputs", bytes(outputs, 8, 255, 255), "cut off"},
		{"count", "heads", bytes(heads, 22, 0x7f, 0x80, 0, 0), "count of a beginning"},
		{"heads", "heads", bytes(heads, 16, 255, 255, 255, 255), "cut off"},
		{"price", "tiers", float(make([]byte, 8*(types.KVTiers+1)), 1, 2), "price of a tier"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := figures.NewReader(c.in)
			readers[c.what](r)
			err := r.End()
			require.Error(t, err)
			require.True(t, strings.Contains(err.Error(), c.want), err)
		})
	}
}

// Whatever is believed, learning goes on from it with rates that are numbers.
func FuzzReadLearner(f *testing.F) {
	for seed := range uint64(3) {
		l, servers := taught(seed, int(50*seed), Rates{.003, 2, 0, 3, 3}, .1)
		k := servers[1].Keep()
		f.Add(k.Append(l.Append(nil), 10))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := figures.NewReader(b)
		l := ReadLearner(r, Rates{Transport: .003, Step: 1, Token: 1})
		k := ReadKept(r, 5)
		if r.End() != nil {
			return
		}
		l.Expect(&k)
		s := NewServer(k.start)
		require.True(t, s.Resume(&k))
		for i := range 20 {
			row := request{1000, 100, float64(i % 5)}.whole()
			l.fleet.Observe(row, 2, 1)
			l.fleet.Compare(&s.learned, 1, .1, .5, .5, 1, float64(6+i))
			rates, common, late := l.Believed()
			for _, v := range []float64{rates.Transport, rates.Step, rates.Growth, rates.Token, common.Left, float64(late)} {
				require.True(t, v >= 0 && v <= 1e9, "%v %v %v", rates, common, late)
			}
			step, token := s.difference(common, 100)
			require.False(t, math.IsNaN(step+token+common.Step+common.Token))
		}
	})
}

// Tables are read without panics, and what is read is written as the same.
func FuzzReadTables(f *testing.F) {
	var o Outputs
	o.Add(1<<60, 2<<60, 100)
	var h Heads
	h.Add([]uint64{1, 2, 3})
	f.Add(h.Append(o.Append(NewHops(2, Hop{.007, 3e-6}).Append(new(TierPrices).Append(nil)))))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := figures.NewReader(b)
		prices, hops, outputs, heads := ReadTierPrices(r), ReadHops(r, 2), ReadOutputs(r), ReadHeads(r)
		if r.End() != nil {
			return
		}
		hops.Learn(0, 100, 1)
		require.False(t, math.IsNaN(float64(hops.Of(0).Takes(100))))
		again := heads.Append(outputs.Append(hops.Append(prices.Append(nil))))
		r = figures.NewReader(again)
		ReadTierPrices(r)
		ReadHops(r, 2)
		ReadOutputs(r)
		ReadHeads(r)
		require.NoError(t, r.End())
	})
}
