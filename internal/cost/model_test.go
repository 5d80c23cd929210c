package cost

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"
)

// idleServer has nothing to do: a step takes 10 ms there and a token 10 µs.
var idleServer = Figures{StepEnds: -1e9, Step: .01, Token: 1e-5, OutputCost: .002}

// about compares figures that were rounded to a float32 on their way.
var about = cmp.Options{
	cmpopts.EquateApprox(1e-5, 1e-7),
	cmp.Comparer(func(a, b Seconds) bool { return cmp.Equal(float64(a), float64(b), cmpopts.EquateApprox(1e-5, 1e-7)) }),
}

func with(f Figures, change func(*Figures)) *Figures {
	change(&f)
	return &f
}

// Each term by itself: a prompt of 1,000 tokens and 100 of output.
func TestTerms(t *testing.T) {
	ask := func(change func(*Query)) *Query {
		q := &Query{Prompt: 1000, Output: 100, At: 1, Way: .003, Share: 1}
		change(q)
		return q
	}
	plain := ask(func(*Query) {})
	idle := Terms{Wait: .013, Prefill: .01, Output: .2, First: .023}
	for _, tt := range []struct {
		name string
		q    *Query
		f    *Figures
		p    Place
		want Terms
	}{
		{"idle", plain, &idleServer, Place{}, idle},
		{"cached", ask(func(q *Query) { q.Best = 900 }), &idleServer, Place{Hit: 900}, Terms{Wait: .013, Prefill: .001, Output: .2, First: .014}},
		{"all of it cached: the last is computed", plain, &idleServer, Place{Hit: 1000}, Terms{Wait: .013, Prefill: 1e-5, Output: .2, First: .01301}},
		{"the rest of a step, and prefills in the next", plain, with(idleServer, func(f *Figures) { f.StepEnds, f.Pending, f.Decoding = 1.004, .02, 2 }), Place{},
			Terms{Wait: .037, Prefill: .01, Output: .2, First: .047}},
		{"others whose first tokens come with its own", plain, with(idleServer, func(f *Figures) { f.StepEnds, f.Pending, f.Joining = 1.004, .02, 3 }), Place{},
			Terms{Wait: .037, Prefill: .01, Output: .2, First: .047, Join: 2 * 5 * 3 * .01}},
		{"others who will come while it waits for more than two steps", ask(func(q *Query) { q.Arriving = 50 }), with(idleServer, func(f *Figures) { f.StepEnds, f.Pending, f.Decoding = 1.01, .04, 2 }), Place{},
			Terms{Wait: .063, Prefill: .01, Output: .2, First: .073, Join: 2 * 5 * 50 * (.06 - .02) * .01}},
		{"who does not wait for more puts nobody off", ask(func(q *Query) { q.Arriving = 50 }), with(idleServer, func(f *Figures) { f.StepEnds, f.Decoding = 1.01, 2 }), Place{},
			Terms{Wait: .023, Prefill: .01, Output: .2, First: .033}},
		{"others whose step has begun", plain, with(idleServer, func(f *Figures) { f.StepEnds, f.Pending, f.Joining = 1, .02, 3 }), Place{},
			Terms{Wait: .043, Prefill: .01, Output: .2, First: .053}},
		{"more than a step holds before it", plain, with(idleServer, func(f *Figures) { f.Queued = 16000 }), Place{},
			Terms{Wait: .033, Prefill: .01, Output: .2, First: .043}},
		{"recompute", ask(func(q *Query) { q.Best, q.Share = 500, .5 }), with(idleServer, func(f *Figures) { f.Decoding, f.StepEnds = 4, 1 }), Place{},
			Terms{Wait: .023, Prefill: .01, Output: .2, First: .033, Disturb: 4 * 1.5 * .5 * 1e-5 * 500}},
		{"recompute of a part, where prefills take half of the time", ask(func(q *Query) { q.Best, q.Share, q.Else = 500, .5, .6 }), with(idleServer, func(f *Figures) { f.Decoding, f.StepEnds, f.Stalled = 4, 1, .5 }), Place{},
			Terms{Wait: .023, Prefill: .01, Output: .2, First: .033, Disturb: .8 * 4 * 1.5 * .5 * 1e-5 * 500}},
		{"a long prefill", ask(func(q *Query) { q.Prompt = 8000 }), with(idleServer, func(f *Figures) { f.Decoding, f.StepEnds = 4, 1 }), Place{},
			Terms{Wait: .023, Prefill: .08, Output: .2, First: .103, Disturb: 4 * .3 * (.08 - .06)}},
		{"context", plain, with(idleServer, func(f *Figures) { f.PerContext = 1e-6 }), Place{}, Terms{Wait: .013, Prefill: .01, Output: .2 + .105, First: .023}},
		{"lean", ask(func(q *Query) { q.Lean, q.Mine = .3, .5 }), with(idleServer, func(f *Figures) { f.Mine = 1 }), Place{},
			Terms{Wait: .013, Prefill: .01, Output: .2 * (1 - .15), First: .023}},
		{"half a KV cache", plain, with(idleServer, func(f *Figures) { f.PerKV = 1. / 2200 }), Place{},
			Terms{Wait: .013, Prefill: .01, Output: .2, First: .023, KV: .15}},
		{"what is cached adds nothing to it", plain, with(idleServer, func(f *Figures) { f.PerKV, f.KV = 1./2200, .5 }), Place{Hit: 999},
			Terms{Wait: .013, Prefill: 1e-5, Output: .2, First: .01301, KV: .15 * ((.5+101./2200)/(.5-101./2200) - 1)}},
		{"no room in the KV cache", plain, with(idleServer, func(f *Figures) { f.PerKV, f.KV = 1e-4, 1 }), Place{},
			Terms{Wait: .013 + .1*100*.01, Prefill: .01, Output: .2, First: .123, KV: .15 * 1100e-4 / (.05 * .05)}},
		{"one that decides at this moment", plain, &idleServer, Place{Claimed: Claimed{1, .001}},
			Terms{Wait: .033, Prefill: .01, Output: .3, First: .043, Join: 2 * 5 * .01}},
		{"home", ask(func(q *Query) { q.Home = .7 }), &idleServer, Place{Home: true, Special: true},
			Terms{Wait: .013, Prefill: .01, Output: .2, First: .023, Home: -.7}},
		{"adapter", plain, &idleServer, Place{Delay: .4, Special: true},
			Terms{Wait: .013, Prefill: .01, Output: .2, First: .023, Adapter: .4}},
		{"SLO met", ask(func(q *Query) { q.SLO, q.Dearest = Targets{TTFT: 1}, 8 }), &idleServer, Place{PerHour: 2, Special: true},
			Terms{Wait: .013, Prefill: .01, Output: .2, First: .023, Price: .5, SLO: 1 - Seconds(likely(.023, ttftDoubt))}},
		{"SLO missed: at the price of the dearest", ask(func(q *Query) { q.SLO, q.Dearest = Targets{TTFT: .0115}, 8 }), &idleServer, Place{PerHour: 2, Special: true},
			Terms{Wait: .013, Prefill: .01, Output: .2, First: .023, Late: 1, Price: 2, SLO: 1 - Seconds(likely(2, ttftDoubt))}},
		{"at the brink, for others too", ask(func(q *Query) { q.SLO, q.EmptyStep = Targets{TPOT: .01}, .004 }), &idleServer, Place{Special: true},
			Terms{Wait: .013, Prefill: .01, Output: .2, First: .023, SLO: .5 + .6*.25/tpotDoubt}},
		{"price without an SLO", ask(func(q *Query) { q.Dearest = 8 }), &idleServer, Place{PerHour: 2, Special: true},
			Terms{Wait: .013, Prefill: .01, Output: .2, First: .023, Price: .25}},
	} {
		m := model()
		m.Price, m.PriceWithoutSLO = 2, 1
		var got Terms
		sum := m.Terms(tt.q, tt.f, &tt.p, &got)
		require.InDelta(t, float64(m.sum(&got)), float64(sum), 1e-12, tt.name)
		require.Empty(t, cmp.Diff(tt.want, got, about), tt.name)
	}
}

func TestSum(t *testing.T) {
	m := model()
	require.InDelta(t, 5*(1+2+11)+3+4+5+6+5*7+8+9+10, float64(m.sum(&Terms{1, 2, 100, 11, 3, 4, 5, 6, 7, 8, 9, 10, 100, 100})), 1e-9)
}

// How much steps grow lies between how much longer they take than the reference's and how much
// longer prompt tokens do.
func TestEngineAt(t *testing.T) {
	e := Engine{Step: 1, Sequence: 2, Context: 3, Token: 4, Attention: 5, Batch: 6}
	require.Equal(t, e, e.at(Rates{Step: 50, Token: 50}))
	require.Equal(t, Engine{Step: 1, Sequence: 1, Context: 1.5, Token: 4, Attention: 5, Batch: 6}, e.at(Rates{Step: 2, Token: .5}))
}

func TestCached(t *testing.T) {
	q := &Query{Prompt: 1000, PerBlock: 64}
	for held, want := range map[Blocks]Tokens{0: 0, 1: 64, 15: 960, 16: 999, 1 << 30: 999} {
		require.Equal(t, want, q.Cached(held), "%d blocks", held)
	}
}
