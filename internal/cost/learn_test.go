package cost

import (
	"math"
	"math/rand/v2"
	"testing"
)

// engine is one that takes its time as the model has it, with noise.
type engine struct {
	rates Rates
	noise float64
	rnd   *rand.Rand
}

func (e *engine) took(r Sample) float64 {
	return (r.Fixed*e.rates.Transport + r.Steps*e.rates.Step + r.Grown*e.rates.Growth + r.Prefill*e.rates.Token) *
		math.Exp(e.noise*e.rnd.NormFloat64())
}

const (
	baseStep  = 7.6e-3
	baseToken = 24e-6
)

// request is a prompt and an answer, with others beside it.
type request struct{ prompt, tokens, others float64 }

func (q request) first() Sample {
	return Sample{Fixed: 1, Steps: baseStep, Grown: GrowthUnit * baseStep * q.others, Prefill: baseToken * q.prompt}
}

func (q request) decode() Sample {
	n := q.tokens - 1
	return Sample{Steps: n * baseStep, Grown: GrowthUnit * n * baseStep * q.others}
}

func (q request) whole() Sample {
	f, d := q.first(), q.decode()
	return Sample{Fixed: 1, Steps: f.Steps + d.Steps, Grown: f.Grown + d.Grown, Prefill: f.Prefill}
}

func draw(rnd *rand.Rand) request {
	return request{prompt: 20 + math.Floor(math.Exp(7*rnd.Float64())), tokens: 5 + rnd.Float64()*155, others: math.Floor(8 * rnd.Float64())}
}

func within(got, want, factor float64) bool {
	return got > 0 && want > 0 && math.Abs(math.Log(got/want)) <= math.Log(factor)
}

// A fleet that is up to a hundred times faster or slower than believed, at steps and at
// prefills alike or not, is known within fifty requests, streamed, unstreamed or mixed.
func TestFleetFarFromThePrior(t *testing.T) {
	prior := Rates{Transport: .003, Step: 1, Token: 1}
	asked, missed := 0, 0
	for _, factors := range [][3]float64{
		{1, 1, 1}, {100, 100, 100}, {.01, .01, .01}, {1, 100, 100}, {1, .01, .01}, {20, 3, 300}, {.1, 10, .1}, {1, 1, 100}, {30, 1, 1}, {0, 1, 1},
	} {
		truth := Rates{prior.Transport * factors[0], factors[1], 0, factors[2], factors[2]}
		for _, how := range []string{"streamed", "unstreamed", "mixed"} {
			for seed := range uint64(20) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				e := engine{truth, .2, rnd}
				f := NewFleet(prior)
				for i := range 50 {
					q := draw(rnd)
					if how == "streamed" || how == "mixed" && i%2 == 0 {
						f.Observe(q.first(), e.took(q.first()), 1)
						f.Observe(q.decode(), e.took(q.decode()), 1)
					} else {
						f.Observe(q.whole(), e.took(q.whole()), 1)
					}
				}
				if got := f.Rates().Step; !within(got, truth.Step, 1.2) {
					t.Errorf("%v %s seed %d: step factor %v, want %v", factors, how, seed, got, truth.Step)
				}
				// Of a time to the first token only what whole answers tell is known when nothing
				// is streamed: it must be right where it is a part of these that can be seen.
				exact := engine{truth, 0, rnd}
				for _, prompt := range []float64{50, 300, 1000} {
					q := request{prompt: prompt, tokens: 60}
					if how == "unstreamed" && exact.took(q.first()) < .3*exact.took(q.whole()) {
						continue
					}
					asked++
					got, want := f.Predict(q.first()), exact.took(q.first())
					if !within(got, want, 2) {
						missed++
						t.Logf("%v %s seed %d: first token of %v tokens after %v s, want %v", factors, how, seed, prompt, got, want)
					}
					if !within(got, want, 2.5) {
						t.Errorf("%v %s seed %d: first token of %v tokens after %v s, want %v", factors, how, seed, prompt, got, want)
					}
				}
			}
		}
	}
	if missed > asked/500 {
		t.Errorf("%d of %d first tokens are not within a factor of 2", missed, asked)
	}
}

// One row, however far it is off, moves what is known by little, and many rows that waited for
// something else by less than they waited for.
func TestFleetOutliers(t *testing.T) {
	for name, off := range map[string]float64{"a thousand times as long": 1000, "in no time": 1e-9} {
		rnd := rand.New(rand.NewPCG(1, 1))
		e := engine{Rates{.003, 2, 0, 2, 2}, .2, rnd}
		f := NewFleet(Rates{Transport: .003, Step: 1, Token: 1})
		for range 100 {
			q := draw(rnd)
			f.Observe(q.decode(), e.took(q.decode()), 1)
		}
		before := f.Rates().Step
		q := draw(rnd)
		f.Observe(q.decode(), off*e.took(q.decode()), 1)
		if after := f.Rates().Step; !within(after, before, 1.05) {
			t.Errorf("%s: the step's factor goes from %v to %v", name, before, after)
		}
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	e := engine{Rates{.003, 2, 0, 2, 2}, .2, rnd}
	f := NewFleet(Rates{Transport: .003, Step: 1, Token: 1})
	for i := range 400 {
		q := draw(rnd)
		took := e.took(q.whole())
		if i%4 == 0 {
			took *= 3
		}
		f.Observe(q.whole(), took, 1)
	}
	if got := f.Rates().Step; !within(got, 2, 1.2) {
		t.Errorf("with a quarter of the answers three times as late the step's factor is %v, want 2", got)
	}
}

// What a step grows by with each sequence is told apart from the step.
func TestFleetGrowth(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 1))
	e := engine{Rates{.003, 2, 1.5, 2, 2}, .1, rnd}
	f := NewFleet(Rates{Transport: .003, Step: 1, Token: 1})
	for range 500 {
		q := draw(rnd)
		f.Observe(q.whole(), e.took(q.whole()), 1)
	}
	e.noise = 0
	for _, others := range []float64{0, 7} {
		if q := (request{100, 60, others}).decode(); !within(f.Predict(q), e.took(q), 1.12) {
			t.Errorf("with %v others an answer is expected to take %v s, want %v: %+v", others, f.Predict(q), e.took(q), f.Rates())
		}
	}
	e.noise = .1
	e.rates.Growth = 0
	for range 1000 {
		q := draw(rnd)
		f.Observe(q.whole(), e.took(q.whole()), 1)
	}
	if r := f.Rates(); r.Growth > .1 {
		t.Errorf("rates are %+v, want no growth any more", r)
	}
}

// Where there are always about as many sequences, it looks as if all of a step were growth: it is
// taken for the step.
func TestFleetAlwaysAsFull(t *testing.T) {
	rnd := rand.New(rand.NewPCG(4, 1))
	e := engine{Rates{.005, 1, 0, 1, 1}, .1, rnd}
	f := NewFleet(Rates{Transport: .003, Step: 1, Token: 1})
	for range 2000 {
		q := draw(rnd)
		q.others = 40 + 5*rnd.Float64()
		f.Observe(q.decode(), e.took(q.decode())*(1+.01*(q.others-40)), 1)
	}
	if r := f.Rates(); !within(r.Step, 1, 1.2) {
		t.Errorf("rates are %+v, want a step of 1", r)
	}
}

// A fleet that is shown one kind of request alone stays right for that, whatever the rest.
func TestFleetOfOneKind(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 1))
	e := engine{Rates{.06, 5, 0, 200, 200}, .1, rnd}
	f := NewFleet(Rates{Transport: .003, Step: 1, Token: 1})
	q := request{prompt: 40, tokens: 60}
	for range 10_000 {
		f.Observe(q.whole(), e.took(q.whole()), 1)
	}
	e.noise = 0
	if got, want := f.Predict(q.whole()), e.took(q.whole()); !within(got, want, 1.05) {
		t.Errorf("predicts %v, want %v", got, want)
	}
}

func TestFleetNonsense(t *testing.T) {
	f := NewFleet(Rates{Transport: .003, Step: 1, Token: 1})
	before := *f
	for _, seconds := range []float64{0, -1, math.NaN(), math.Inf(1), math.Inf(-1)} {
		f.Observe(request{100, 50, 1}.whole(), seconds, 1)
	}
	f.Observe(Sample{}, 1, 1)
	f.Observe(request{100, 50, 1}.whole(), 1, 0)
	f.Observe(request{100, 50, 1}.whole(), 1, math.NaN())
	if *f != before {
		t.Errorf("it learned from nonsense: %+v", f.Rates())
	}
	f.Observe(Sample{Steps: math.NaN()}, 1, 1)
	if r := f.Rates(); r != (Rates{.003, 1, 0, 1, 1}) {
		t.Errorf("rates are %+v", r)
	}
}

// known is a fleet of which something is known.
func known() *Fleet {
	f := NewFleet(Rates{Transport: .003, Step: 1, Token: 1})
	for range 2 * fleetKnown {
		f.Observe(request{100, 50, 1}.decode(), request{100, 50, 1}.decode().Steps, 1)
	}
	return f
}

// Servers that are alike stay so, for as long as they run, also where the fleet is not what
// is believed of it.
func TestServersThatAreAlike(t *testing.T) {
	for _, all := range []float64{0, 2, -2} {
		rnd := rand.New(rand.NewPCG(7, 1))
		f := known()
		servers := make([]Learned, 4)
		for i := range 100_000 {
			now := float64(i) / 10
			k := rnd.IntN(3) // the last one is never asked
			step, token := servers[k].Difference(f.Common(), now)
			// The model is a little wrong for each.
			f.Compare(&servers[k], .1, all+.04*float64(k-1)+.3*rnd.NormFloat64()-.9*step-.1*token, .9, .1, 1, now)
			for k := range servers {
				if step, token := servers[k].Difference(f.Common(), now); math.Abs(step) > .05 || math.Abs(token) > .05 {
					t.Fatalf("all %v off: after %d answers server %d differs by %v and %v", all, i, k, step, token)
				}
			}
		}
	}
}

// What slows all requests down that are at a server together is one piece of evidence, however
// many they are: servers alike that share a machine, in bursts of 40.
func TestRequestsThatWereThereTogether(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		f := known()
		servers := make([]Learned, 3)
		for burst := range 30 {
			for k := range servers {
				slow := .7 * rnd.NormFloat64()
				for i := range 13 {
					step, _ := servers[k].Difference(f.Common(), float64(burst))
					now := float64(2*burst) + .1*float64(i)
					f.Compare(&servers[k], 1.5, slow+.1*rnd.NormFloat64()-step, 1, 0, 1, now)
				}
			}
			for k := range servers {
				if step, _ := servers[k].Difference(f.Common(), float64(2*burst+1)); math.Abs(step) > math.Log(1.6) {
					t.Errorf("seed %d: after %d bursts server %d is believed to differ by %v", seed, burst, k, step)
				}
			}
		}
	}
}

// A server that is not like the others is known after some answers, at steps and at prefills
// apart; and is tried again when nothing was seen of it for long.
func TestServerThatDiffers(t *testing.T) {
	for _, tt := range []struct{ step, token float64 }{{3, 3}, {1. / 3, 1. / 3}, {2, 6}, {1, 4}, {10, 10}} {
		rnd := rand.New(rand.NewPCG(11, 1))
		f := known()
		var s, others Learned
		now := 0.
		answer := func(s *Learned, step, token float64) {
			bs, _ := s.Difference(f.Common(), now)
			// Decoding only, and a first token that is mostly prefill.
			f.Compare(s, .1, math.Log(step)-bs+.2*rnd.NormFloat64(), 1, 0, 1, now)
			bs, bt := s.Difference(f.Common(), now)
			f.Compare(s, .1, math.Log(token)-bs-bt+.2*rnd.NormFloat64(), .1, .9, 1, now)
		}
		for i := range 40 {
			now = float64(i)
			answer(&s, tt.step, tt.token)
			for range 3 {
				answer(&others, 1, 1)
			}
		}
		step, token := s.Difference(f.Common(), now)
		otherStep, otherToken := others.Difference(f.Common(), now)
		step, token = step-otherStep, token-otherToken
		if !within(math.Exp(step), tt.step, 1.25) || !within(math.Exp(step+token), tt.token, 1.35) {
			t.Errorf("%v: believed are %v and %v", tt, math.Exp(step), math.Exp(step+token))
		}
		if step, _ := s.Difference(f.Common(), now+20*serverAge); math.Abs(step) > .05 {
			t.Errorf("%v: long after the last answer %v is still believed", tt, step)
		}
	}
}

// The first answers of a fleet that nothing is known of are not held against the servers that
// gave them, and one odd answer is soon forgotten.
func TestOneOddAnswer(t *testing.T) {
	f := known()
	var s, other Learned
	f.Compare(&s, .1, 5, 1, 0, 1, 0)
	if step, token := s.Difference(f.Common(), 0); step != 0 || token != 0 {
		t.Errorf("of the only server that was asked %v and %v are believed", step, token)
	}
	for i := range 30 {
		now := float64(i)
		for _, s := range []*Learned{&s, &other} {
			step, _ := s.Difference(f.Common(), now)
			f.Compare(s, .1, -step, 1, 0, 1, now)
		}
	}
	f.Compare(&s, .1, 5, 1, 0, 1, 30)
	if step, _ := s.Difference(f.Common(), 30); math.Abs(step) > .1 {
		t.Errorf("after one odd answer of 31 %v is believed", step)
	}
}

// What servers tell of their prefill is believed at once where nothing was seen, replaces what they told
// before, and gives way to what is seen; what it says of steps is nothing.
func TestFleetIsTold(t *testing.T) {
	f := NewFleet(Rates{Transport: .003, Step: 1, Token: 1})
	servers := make([]Learned, 3)
	tell := func(factor, now float64) {
		for i := range servers {
			f.Told(&servers[i], factor, now)
		}
	}
	tell(20, 1)
	if r := f.Rates(); !within(r.Token, 20, 1.05) || !within(r.Step, 1, 1.05) {
		t.Errorf("told that a token takes 20 times as long: %+v", r)
	}
	tell(.3, 2)
	if r := f.Rates(); !within(r.Token, .3, 1.05) {
		t.Errorf("told anew: %+v", r)
	}
	for i := range servers {
		f.Forget(&servers[i])
		servers[i] = Learned{}
	}
	for range 10 {
		f.x = solve(f.withPrior())
	}
	if r := f.Rates(); !within(r.Token, 1, 1.05) {
		t.Errorf("those who told it have gone: %+v", r)
	}

	tell(3, 3)
	e := &engine{rates: Rates{Transport: .003, Step: 2, Token: 1}, noise: .1, rnd: rand.New(rand.NewPCG(1, 1))}
	for range 300 {
		q := draw(e.rnd)
		f.Observe(q.first(), e.took(q.first()), 1)
		f.Observe(q.decode(), e.took(q.decode()), 1)
	}
	if r := f.Rates(); !within(r.Token, 1, 1.15) || !within(r.Step, 2, 1.15) {
		t.Errorf("seen otherwise: %+v", r)
	}
	for _, factor := range []float64{0, -1, math.NaN(), math.Inf(1)} {
		before := f.Rates()
		if tell(factor, 4); f.Rates() != before {
			t.Errorf("told %v: %+v", factor, f.Rates())
		}
	}
}
