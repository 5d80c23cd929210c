package cost

import (
	"math"

	"github.com/inferpick/inferpick/types"
)

// Learner learns from how requests went how fast a fleet is, and by how much its servers
// differ. It is guarded by its owner's lock, and what it changes of a Server by that of the
// Server. Make it with NewLearner.
type Learner struct {
	fleet     *Fleet
	denoising *Fleet
	late      Median
}

// NewLearner returns a Learner that believes in start until it is shown better.
func NewLearner(start Rates) *Learner {
	return &Learner{fleet: NewFleet(start), denoising: NewFleet(Rates{Step: 1, Token: 1, Encode: 1})}
}

// Believed returns what is believed of the fleet.
func (l *Learner) Believed() (Rates, Common, Seconds) {
	return l.fleet.Rates(), l.fleet.Common(), l.lateness()
}

// Knows reports whether enough was seen of the fleet for what others know of it to be no better.
func (l *Learner) Knows() bool { return l.fleet.seen >= fleetMemory/2 }

// Confident reports whether enough was seen of the fleet to say how fast it is.
func (l *Learner) Confident() bool { return l.fleet.confidence() >= 1 }

// lateness is how much longer than the sum of its parts a first token takes, in the median:
// what is not in the model, such as an engine's API that has too little to run on. It is the
// same for all servers, so it decides nothing by itself. It is learned from those that found
// nobody waiting for a first token: a queue ends, and leaves nothing to the next one.
func (l *Learner) lateness() Seconds { return Seconds(max(l.late.Value(), 0)) }

// Forget takes a server out of what those of the fleet have in common: it has gone.
func (l *Learner) Forget(s *Server) {
	l.fleet.Forget(&s.learned)
	s.learned = Learned{}
	if s.diffusion != nil {
		l.denoising.Forget(&s.diffusion.learned)
		s.diffusion.learned = Learned{slowly: true}
	}
}

// Told learns from how many prompt tokens a second a server says that it computes. It is of use where
// little was seen yet, as when a gateway has just started.
func (l *Learner) Told(m *Model, s *Server, rate float64, now Seconds) {
	l.fleet.Told(&s.learned, 1/(rate*m.Engine.Token*math.Exp(s.start.Step+s.start.Token)), float64(now))
}

// answer is a request that has ended as it should.
type answer struct {
	*Learner
	m   *Model
	v   *View
	s   *Server
	r   *Request
	now float64
	out *types.Outcome

	tokens      float64
	own, weight float64 // base seconds of its prefill, and how sure that is
}

// Observe learns from how a request went that ends now, before it is removed.
func (l *Learner) Observe(m *Model, v *View, s *Server, r *Request, out *types.Outcome, now Seconds) {
	a := answer{Learner: l, m: m, v: v, s: s, r: r, now: float64(now), out: out}
	switch r.Kind {
	case types.Denoises:
		a.denoised()
		return
	case types.Converses:
		return // it takes as long as people talk
	case types.Pools:
		a.pooled()
		return
	}
	a.tokens = out.Usage.CompletionTokens.Or(float64(out.Tokens))
	a.own, a.weight = a.computed()
	if r.Apart && !(r.begun && a.timed()) {
		return // the time until its first token is not this server's
	}
	if !r.begun || !a.timed() {
		if a.stalled() {
			return
		}
		a.whole()
		return
	}
	if !r.Apart {
		a.first()
	}
	if r.behind == 0 && !r.Apart { // else it may have waited for those before it to end, where places are few
		l.late.Add(float64(r.firstAfter - (r.predicted - r.late + r.work)))
	}
	if a.tokens > leastDecoded {
		// As many steps as there are tokens, and the prefills that came in between.
		steps := a.tokens - 1
		row := Sample{Steps: steps * (r.stepThen + s.baseStep) / 2, Grown: steps * m.grown((r.beside+s.decoding)/2)}
		a.prefills(&row, s.done-r.doneThen, s.encoded-r.encoded)
		a.learn(row, a.now-float64(r.firstAt)-out.Stalled.Seconds(), 1)
	}
}

// first learns from the time to a first token. That is less exact than the time between
// tokens: it waited for a step that was under way.
func (a *answer) first() {
	r := a.r
	took, steps, others := float64(r.firstAfter-r.wait), r.steps, r.joined
	if took < float64(r.firstAfter)/2 {
		// How long it had to wait is not known so well that it could be left out.
		took, steps, others = float64(r.firstAfter), r.steps+halfIf(r.wait > 0), r.ahead
	}
	row := Sample{Fixed: 1, Steps: steps * r.stepThen, Grown: steps * a.m.grown(r.beside), Prefill: a.own, Encode: float64(r.Encode)}
	encodes := 0.
	if r.encodes > 0 { // in what is ahead; of what joins it the same part
		encodes = r.encodes * min(others/r.ahead, 1)
	}
	a.prefills(&row, others, encodes)
	took = a.beyondWay(&row, took, r.beside < idle && r.behind == 0)
	a.learn(row, took, firstWeight*a.weight/(1+r.behind))
}

// timed reports whether the times of the first and the last token are what they seem.
func (a *answer) timed() bool {
	if a.tokens <= leastDecoded {
		return true
	}
	took := a.now - float64(a.r.firstAt)
	switch {
	case a.out.Reads > 0 && float64(a.out.Reads)*collected < a.tokens:
		return false
	case took < instant*(a.now-float64(a.r.sent)):
		return false // what contradicts the whole is not believed
	}
	return a.out.Stalled.Seconds() <= mostStalled*took
}

// stalled reports whether the whole time is in part the client's, of which it is not known what the server worked through.
func (a *answer) stalled() bool {
	return a.out.Stalled.Seconds() > mostStalled*(a.now-float64(a.r.sent))
}

// whole learns from an answer of which only the whole time is known.
func (a *answer) whole() {
	s, r := a.s, a.r
	if a.tokens < 1 && !r.begun && r.Output > 1 {
		return // how much was computed is not known
	}
	between := s.done - r.doneThen
	if r.waiting.Of == nil {
		between -= r.base
	}
	steps := r.steps + halfIf(r.wait > 0) + max(a.tokens, 1) - 1
	row := Sample{Fixed: 1, Steps: steps * (r.stepThen + s.baseStep) / 2, Grown: steps * a.m.grown((r.beside+s.decoding)/2), Prefill: a.own, Encode: float64(r.Encode)}
	if r.ahead >= between {
		a.prefills(&row, r.ahead, r.encodes)
	} else {
		encoded := s.encoded - r.encoded
		if r.waiting.Of == nil {
			encoded -= float64(r.Encode)
		}
		a.prefills(&row, between, encoded)
	}
	took := a.beyondWay(&row, a.now-float64(r.sent), r.crowd == 0)
	a.learn(row, took, a.weight/(1+r.crowd/crowdDoubt))
}

// pooled learns from a prompt that is all there was to compute. Prompts are computed in the order in which they came: from
// when the last one ended before this one was sent, all that were ahead of it were computed, and it.
func (a *answer) pooled() {
	s, r := a.s, a.r
	if a.stalled() {
		return
	}
	a.own, a.weight = a.computed()
	steps := r.steps
	row := Sample{Steps: steps * (r.stepThen + s.baseStep) / 2, Grown: steps * a.m.grown((r.beside+s.decoding)/2), Prefill: a.own, Encode: float64(r.Encode)}
	a.prefills(&row, r.ahead, r.encodes)
	took := a.now - float64(r.filling)
	if r.paused {
		row.Fixed = 1
		took = a.beyondWay(&row, took, r.crowd == 0)
	}
	a.learn(row, took, a.weight)
}

// prefills adds those of others to a row: so many base seconds, with so many of encoding in them.
func (a *answer) prefills(row *Sample, base, encoding float64) {
	row.Prefill += max(base-encoding*a.r.perEncode, 0)
	row.Encode += max(encoding, 0)
}

// beyondWay leaves the way out of a row, and of the time that it took, unless the time tells
// how long the way is. How long a request waited for others is not known so well that what
// is left would be the way: that only a server with nothing else to do tells (alone), and a
// time that is hardly longer than the way. Believed to be too long, it spoils the rhythm of
// steps.
func (a *answer) beyondWay(row *Sample, took float64, alone bool) float64 {
	way := a.v.Rates.Transport
	if alone || took <= 2*way {
		return took
	}
	row.Fixed = 0
	return took - way
}

// halfIf is the half of a step that is left of the one under way, if there is one.
func halfIf(busy bool) float64 {
	if busy {
		return .5
	}
	return 0
}

// computed returns how much prefill a request was, in base seconds, and how sure that is.
func (a *answer) computed() (seconds, weight float64) {
	r, u := a.r, &a.out.Usage
	prompt := u.PromptTokens.Or(float64(r.Prompt))
	if !(prompt >= 1 && prompt <= mostTokens) {
		prompt = float64(r.Prompt)
	}
	cached, weight := float64(r.Prompt-r.compute), 1.
	if c, ok := u.CachedTokens.Value(); ok && c >= 0 {
		cached = c
	} else if cached > 0 {
		weight = .5 // so it is believed
	}
	e := &a.m.Engine
	return float64(e.prefill(e.Token, Tokens(prompt), Tokens(max(prompt-cached, 1)), r.Items)), weight
}

// grown is what GrowthUnit makes of a step with so many sequences, in base seconds.
func (m *Model) grown(sequences float64) float64 { return GrowthUnit * m.Engine.Step * sequences }

// learn shows a time to the fleet, as it would have been on a server like the others, and
// what is left of it to the server.
func (a *answer) learn(row Sample, seconds, weight float64) {
	step, token := a.s.difference(a.fleet.Common(), Seconds(a.now))
	token = math.Exp(step + token)
	step = math.Exp(step)
	row.Steps *= step
	row.Grown *= step
	row.Prefill *= token
	row.Encode *= token
	a.fleet.Observe(row, seconds, weight)
	if expected := a.fleet.Predict(row); expected > 0 && seconds > 0 {
		rates := a.fleet.Rates()
		steps := (row.Steps*rates.Step + row.Grown*rates.Growth) / expected
		prefill := (row.Prefill*rates.Token + row.Encode*rates.Encode) / expected
		a.fleet.Compare(&a.s.learned, a.now-float64(a.r.sent), math.Log(seconds/expected), steps, prefill, weight, a.now)
	}
}
