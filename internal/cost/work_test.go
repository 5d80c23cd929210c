package cost

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// reference is the engine of plugins.CostOptions.
var reference = Engine{
	Step: 7.6e-3, Sequence: 18e-6, Context: 47e-9, Token: 24e-6, Attention: 50e-6, Batch: 8192,
	EncodeItem: 4e-3, EncodeToken: 14.4e-6, EncodeAttention: 1. / 4096, DenoiseToken: 50e-6, DenoiseAttention: 20e-6, Pixel: 1e-7,
}

// What large pictures take grows faster than their tokens, and what batches take with what is computed together.
func TestEncodeGrowsFasterThanTokens(t *testing.T) {
	e := reference
	require.InDelta(t, 4e-3+2*4096*14.4e-6, float64(e.Encode(4096)), 1e-12)
	require.Greater(t, e.Encode(4096), 4*e.Encode(1024))
	last := Seconds(0)
	for n := Tokens(0); n < 1e6; n = 2*n + 1 {
		require.Greater(t, e.Encode(n), last)
		last = e.Encode(n)
	}
	require.Equal(t, e.Prefill(e.Token, 8000, 8000), e.prefill(e.Token, 8000, 8000, 0))
	require.InDelta(t, 10*float64(e.Prefill(e.Token, 800, 800)), float64(e.prefill(e.Token, 8000, 8000, 10)), 1e-12)
	require.Less(t, e.prefill(e.Token, 8000, 8000, 10), e.Prefill(e.Token, 8000, 8000))
	one := types.Denoise{Passes: 50, Latents: 4096, Pixels: 1 << 20}
	large := types.Denoise{Passes: 50, Latents: 16384, Pixels: 1 << 22}
	d := Diffusing{Rates: Rates{Step: 1, Token: 1, Encode: 1}}
	require.InDelta(t, 50*4096*50e-6*(1+4096*20e-6)+(1<<20)*1e-7, float64(d.takes(e.Denoise(one))), 1e-9)
	require.Greater(t, d.takes(e.Denoise(large)), 4*d.takes(e.Denoise(one)))
}

// Media that a server has seen are not encoded there, which counts in all that prefill does.
func TestTermsOfMedia(t *testing.T) {
	m := model()
	m.Engine = reference
	q := &Query{Prompt: 2000, Output: 100, At: 1, Way: .003, Share: 1, Else: 1, Encode: .08, LeastEncode: .02, PerEncode: 2 / reference.Token}
	busy := with(idleServer, func(f *Figures) { f.Token, f.Decoding, f.StepEnds, f.Pending, f.Joining = 24e-6, 4, 1.004, .02, 3 })
	var none, some, all, text Terms
	m.Terms(q, busy, &Place{Special: true}, &none)
	m.Terms(q, busy, &Place{Special: true, Encode: .02}, &some)
	m.Terms(q, busy, &Place{Special: true, Encode: .08}, &all)
	require.InDelta(t, .16, float64(all.Encode), 1e-6, "at twice the time of the reference engine")
	require.InDelta(t, .16, float64(all.Prefill-none.Prefill), 1e-6)
	require.InDelta(t, .16, float64(all.First-none.First), 1e-6)
	require.InDelta(t, m.Join*m.FirstToken*3*.16, float64(all.Join-none.Join), 1e-5)
	require.Equal(t, none.Wait, all.Wait)
	require.InDelta(t, 4*m.Recompute*.75*.12+4*m.LongPrefill*.148, float64(all.Disturb-none.Disturb), .02, "what another has seen holds up those that decode")
	require.InDelta(t, 4*m.LongPrefill*.03, float64(some.Disturb-none.Disturb), .005, "and what none has not")
	m.Terms(&Query{Prompt: 2000, Output: 100, At: 1, Way: .003, Share: 1, Else: 1}, busy, &Place{}, &text)
	require.Equal(t, text, none)
}

// Costs are finite, and more work never costs less.
func TestCostsOfWorkAreMonotone(t *testing.T) {
	m := model()
	m.Engine = reference
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		f := &Figures{
			StepEnds: Seconds(rnd.Float64() * 2), Pending: float32(rnd.Float64()), Queued: float32(rnd.IntN(20000)), Step: .01, Token: float32(1e-5 * math.Exp(rnd.Float64())),
			Decoding: float32(rnd.IntN(30)), OutputCost: .002, KV: float32(rnd.Float64()), PerKV: 1e-5, Stalled: float32(.9 * rnd.Float64()), Joining: float32(rnd.IntN(4)),
		}
		q := &Query{Prompt: Tokens(1 + rnd.IntN(9000)), Output: 10, At: 1, Share: rnd.Float64(), Encode: 1, LeastEncode: Seconds(rnd.Float64()), PerEncode: 1e5 * rnd.Float64(), Items: float64(rnd.IntN(3) * 20)}
		var a, b Terms
		less, more := Place{Special: true, Encode: Seconds(rnd.Float64()), Backlog: Seconds(rnd.Float64())}, Place{Special: true}
		more.Encode, more.Backlog = less.Encode+Seconds(rnd.Float64()), less.Backlog+Seconds(rnd.Float64())
		x, y := m.Terms(q, f, &less, &a), m.Terms(q, f, &more, &b)
		require.False(t, math.IsNaN(float64(y)) || math.IsInf(float64(y), 0))
		require.LessOrEqual(t, x, y+1e-9)
		less.Denoise, more.Denoise = Seconds(rnd.Float64()), 2
		require.LessOrEqual(t, m.Denoise(q, f, &less, &a), m.Denoise(q, f, &more, &b)+1e-9)
	}
}

// denoising is a request for a picture of one of several sizes.
func denoising(rnd *rand.Rand) *Request {
	latents := []float64{1024, 2304, 4096, 9216}[rnd.IntN(4)]
	passes := []float64{20, 28, 50}[rnd.IntN(3)]
	return &Request{Kind: types.Denoises, Denoise: reference.Denoise(types.Denoise{Passes: passes, Latents: latents, Pixels: latents * 256})}
}

// What is before a request is what is there less what was done of it; what takes longer than expected puts off the
// others, and what is given up goes.
func TestBacklog(t *testing.T) {
	m := model()
	m.Engine = reference
	v := &View{Rates: Rates{Transport: 0, Step: 1, Token: 1, Encode: 1}, Diffusion: &Diffusing{Rates: Rates{Step: 1, Token: 1, Encode: 1}}}
	s := NewServer(Start{})
	left := func(now Seconds) float64 {
		s.Derive(m, v, float64(s.requests), now)
		return float64(s.Backlog().At(now))
	}
	of := func(seconds float64) *Request { return &Request{Kind: types.Denoises, Denoise: Sample{Steps: seconds}} }
	require.Zero(t, left(0))
	a, b := of(10), of(4)
	s.Add(a, 0, m, v, 0)
	s.Add(b, 0, m, v, 1)
	require.InDelta(t, 14, left(0), 1e-9)
	require.InDelta(t, 9, left(5), 1e-9)
	require.InDelta(t, 5, left(13), 1e-9, "the first one must nearly be done, and the other has not begun")
	n, prefilling := s.Requests()
	require.Equal(t, [2]int{2, 0}, [2]int{n, prefilling})
	require.Zero(t, s.decoding, "they are no sequences")
	s.Served(a)
	s.Remove(a, 12)
	require.InDelta(t, 4, left(12), 1e-9)
	require.InDelta(t, 1, left(15), 1e-9)
	s.SetPeers(Peers{Requests: 1, Denoise: 1000 / reference.DenoiseToken})
	s.averagePeers(1000)
	require.InDelta(t, 1000+.4, left(1000), 1e-6, "and what peers have there")
	s.Remove(b, 1000)
	require.InDelta(t, 1000, left(1000), 1e-6)
	require.False(t, math.IsNaN(left(2000)))
}

// How long a fleet takes is learned within a few tens of pictures, whatever was believed, and which server is slow.
func TestDiffusionIsLearned(t *testing.T) {
	for _, truth := range []Rates{{Step: 1, Token: 1, Encode: 1}, {Step: 2, Token: .5, Encode: 2}, {Step: .5, Token: 2, Encode: .5}, {Step: 5, Token: 5, Encode: 5}} {
		rnd := rand.New(rand.NewPCG(3, 4))
		m := model()
		m.Engine = reference
		l := NewLearner(Rates{Transport: .003, Step: 1, Token: 1})
		servers := []*Server{NewServer(Start{}), NewServer(Start{}), NewServer(Start{})}
		slower := []float64{1, 1, 2}
		view := func() *View {
			d := l.Diffusing()
			return &View{Rates: Rates{Transport: .003, Step: 1, Token: 1, Encode: 1}, Diffusion: &d}
		}
		now := Seconds(0)
		out := &types.Outcome{Status: 200}
		for range 300 {
			end := now
			for i, s := range servers {
				// Two at a time, one after the other.
				a, b := denoising(rnd), denoising(rnd)
				takes := func(r *Request) Seconds {
					d := Diffusing{Rates: truth}
					return d.takes(r.Denoise) * Seconds(slower[i]*math.Exp(.1*rnd.NormFloat64()))
				}
				at := now
				s.Add(a, 0, m, view(), at)
				s.Add(b, 0, m, view(), at)
				for _, r := range []*Request{a, b} {
					at += takes(r)
					s.Served(r)
					l.Observe(m, view(), s, r, out, at)
					s.Remove(r, at)
					s.Derive(m, view(), float64(s.requests), at)
				}
				end = max(end, at)
			}
			now = end + 100
		}
		// Nothing is learned of what was given up, nor after it while another is under way.
		before := l.Diffusing()
		a, b := denoising(rnd), denoising(rnd)
		servers[0].Add(a, 0, m, view(), now)
		servers[0].Add(b, 0, m, view(), now)
		servers[0].Remove(a, now+1e5)
		servers[0].Served(b)
		l.Observe(m, view(), servers[0], b, out, now+1e6)
		servers[0].Remove(b, now+1e6)
		require.Equal(t, before, l.Diffusing())

		d := l.Diffusing()
		for range 20 {
			r := denoising(rnd).Denoise
			servers[0].Derive(m, view(), 0, now)
			servers[2].Derive(m, view(), 0, now)
			fast, slow := servers[0].Backlog().Takes(&d, r), servers[2].Backlog().Takes(&d, r)
			want := (&Diffusing{Rates: truth}).takes(r)
			require.True(t, within(float64(fast), float64(want), 1.35), "%v: %v, want %v", truth, fast, want)
			require.True(t, within(float64(slow), 2*float64(want), 1.35), "%v: %v, want twice %v", truth, slow, want)
		}
		next, again := again(t, l, servers, now)
		require.Equal(t, l.Diffusing().Rates, next.Diffusing().Rates)
		require.InDelta(t, servers[2].slower(d.Common, now), again[2].slower(next.Diffusing().Common, now-1000), 1e-6)
	}
}

// Encoding is learned beside prefill, and a fleet without media has nothing of it.
func TestEncodingIsLearned(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for _, truth := range []Rates{{.003, 1, 0, 1, 2}, {.003, 1, 0, 1, .5}, {.003, 3, 0, 4, 4}, {.003, 1, 0, 1, 10}} {
		e := engine{truth, .1, rnd}
		f := NewFleet(Rates{Transport: .003, Step: 1, Token: 1})
		for range 300 {
			row := draw(rnd).first()
			if rnd.IntN(2) == 0 {
				row.Encode = float64(reference.Encode(Tokens(256 + rnd.IntN(4000))))
			}
			took := e.took(row) + (row.Encode*truth.Encode)*math.Exp(.1*rnd.NormFloat64())
			f.Observe(row, took, .25)
		}
		require.True(t, within(f.Rates().Encode, truth.Encode, 1.2), "%v, want %v", f.Rates(), truth)
		require.True(t, within(f.Rates().Token, truth.Token, 1.5), "%v, want %v", f.Rates(), truth)
	}
	f := NewFleet(Rates{Transport: .003, Step: 1, Token: 1})
	e := engine{Rates{.003, 3, 0, 8, 0}, .1, rnd}
	for range 200 {
		row := draw(rnd).first()
		f.Observe(row, e.took(row), 1)
	}
	require.Equal(t, f.Rates().Token, f.Rates().Encode, "who computes prompts slowly is taken to encode slowly")
}

// What requests do not say is what others of the model say.
func TestUsual(t *testing.T) {
	var u Usual
	d, guessed := u.Denoise(1<<60, types.Denoise{Passes: 20})
	require.True(t, guessed)
	require.Equal(t, types.Denoise{Passes: 20, Latents: 4096, Pixels: 1 << 20}, d)
	for range 500 {
		u.AddDenoise(1<<60, types.Denoise{Passes: 28, Latents: 1024})
		u.AddDenoise(2<<60, types.Denoise{Passes: math.NaN(), Latents: math.Inf(1)})
		u.AddOutput(1<<60, 100, 300)
	}
	d, guessed = u.Denoise(1<<60, types.Denoise{})
	require.True(t, guessed)
	require.InDelta(t, 28, d.Passes, 2)
	require.InDelta(t, 1024, d.Latents, 200)
	require.InDelta(t, 300, float64(u.Output(1<<60, 100)), 10)
	_, guessed = u.Denoise(1<<60, types.Denoise{Passes: 1, Latents: 2})
	require.False(t, guessed)
}
