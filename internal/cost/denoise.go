package cost

import (
	"math"

	"github.com/inferpick/inferpick/internal/list"
	"github.com/inferpick/inferpick/types"
)

// This file is diffusion models: what they have to do is known beforehand, and servers do it one after the other, or a
// few at a time, so that what is before a request is what is there less what was done of it. How long that takes is
// learned as of prompts, by a Fleet of its own whose samples have other parts: Steps are what goes with the tokens of
// the latents, Prefill what goes with their square, and Encode what goes with the pixels.

// Denoise returns what a diffusion model has to do, in base seconds.
func (e *Engine) Denoise(d types.Denoise) Sample {
	tokens := min(d.Tokens(), mostDenoise) * e.DenoiseToken
	return Sample{Steps: tokens, Prefill: tokens * e.DenoiseAttention * min(d.Latents, mostTokens), Encode: min(d.Pixels, mostDenoise) * e.Pixel}
}

// add adds another so many times.
func (r *Sample) add(o Sample, times float64) {
	r.Steps += times * o.Steps
	r.Prefill += times * o.Prefill
	r.Encode += times * o.Encode
}

// scaled returns what takes so many times as long.
func (r Sample) scaled(by float64) Sample {
	return Sample{r.Fixed, r.Steps * by, r.Grown * by, r.Prefill * by, r.Encode * by}
}

// Diffusing is how long a fleet takes to denoise.
type Diffusing struct {
	Rates  Rates
	Common Common
}

// takes is how long one that is like the others does for a sample.
func (d *Diffusing) takes(r Sample) Seconds {
	return Seconds(r.Steps*d.Rates.Step + r.Prefill*d.Rates.Token + r.Encode*d.Rates.Encode)
}

// diffusion is what one server has to denoise.
type diffusion struct {
	there  list.List[Request] // in the order in which they came
	n      int                // of these
	sum    Sample             // of these
	since  Seconds            // when the last one ended, or the first one came
	unsure bool               // it is not known what the server did before that
	part   float64            // of the requests sent there, those that are to be denoised, averaged
	mean   Seconds            // of one of them, as they were of late

	learned Learned // of its steps, by how much longer it takes than others
	backlog Backlog
}

// Backlog is when a server will have done what it has to denoise, and how fast it does that.
type Backlog struct {
	Until  Seconds // when that of this process is done
	Least  Seconds // that is left of it in any case: what takes longer than expected now puts off those behind it
	Others Seconds // that others have there
	Slower float64 // by which factor it takes longer than the fleet
}

// At returns how long it takes from a time on. b may be nil: there is nothing.
func (b *Backlog) At(t Seconds) Seconds {
	if b == nil {
		return 0
	}
	return max(b.Until-t, b.Least, 0) + b.Others
}

// Takes is how long the server takes for a sample. b may be nil: nothing is known of it.
func (b *Backlog) Takes(d *Diffusing, r Sample) Seconds {
	if b == nil {
		return d.takes(r)
	}
	return Seconds(b.Slower) * d.takes(r)
}

// Backlog returns what was derived last; nil: there never was anything to denoise.
func (s *Server) Backlog() *Backlog {
	if s.diffusion == nil {
		return nil
	}
	return &s.diffusion.backlog
}

// addDenoise is Add for what is to be denoised.
func (s *Server) addDenoise(r *Request, v *View, now Seconds) {
	d := s.diffuses()
	r.crowd, r.alone, r.served = float64(s.requests), d.n == 0, false
	if d.n == 0 {
		d.since, d.unsure = now+Seconds(v.Rates.Transport), false
	}
	d.there.Push(r, &r.denoising)
	d.n++
	d.sum.add(r.Denoise, 1)
	s.requests++
}

// came is told of a request.
func (d *diffusion) came(denoises bool) {
	v := 0.
	if denoises {
		v = 1
	}
	d.part += partGain * (v - d.part)
}

// diffuses returns what the server has to denoise, making it at the first call.
func (s *Server) diffuses() *diffusion {
	if s.diffusion == nil {
		s.diffusion = &diffusion{learned: Learned{slowly: true}}
		if s.requests == 0 {
			s.diffusion.part = 1
		}
	}
	return s.diffusion
}

// removeDenoise is Remove for what was to be denoised. Of one that was given up while it was the first it is not known
// whether the server gave it up, too.
func (s *Server) removeDenoise(r *Request, now Seconds) {
	d := s.diffusion
	if d == nil || r.denoising.Of == nil {
		return
	}
	if first := d.there.Head.Of == r; r.served || first {
		d.since, d.unsure = now, !r.served
	}
	d.there.Remove(&r.denoising)
	d.n--
	d.sum.add(r.Denoise, -1)
	if d.n == 0 {
		d.sum = Sample{} // no dust of many additions
	}
}

// slower is by which factor a server is believed to denoise more slowly than others: at first, as it does prompts.
func (s *Server) slower(c Common, now Seconds) float64 {
	step, _ := s.diffusion.learned.Difference(c, float64(now))
	return math.Exp(s.start.Step + s.start.Token + step)
}

// deriveDiffusion works out the backlog, with what peers have there in tokens of latents times passes, and others in
// requests.
func (s *Server) deriveDiffusion(m *Model, v *View, peers, foreign float64, now Seconds) {
	if v.Diffusion == nil {
		return
	}
	d := s.diffuses()
	b := Backlog{Until: Seconds(math.Inf(-1)), Slower: s.slower(v.Diffusion.Common, now)}
	if d.n > 0 {
		all, first := b.Takes(v.Diffusion, d.sum), b.Takes(v.Diffusion, d.there.Head.Of.Denoise)
		b.Until, b.Least = d.since+all, all-first*(1-leastLeft)
		d.mean = all / Seconds(d.n)
	}
	b.Others = b.Takes(v.Diffusion, Sample{Steps: peers * m.Engine.DenoiseToken}) + Seconds(foreign*d.part)*d.mean
	d.backlog = b
}

// Denoise fills in what it costs to denoise what the request asks for, and returns the sum in weighted seconds: the time
// until all is done, as of a first token.
func (m *Model) Denoise(q *Query, f *Figures, p *Place, t *Terms) Seconds {
	step, beside := until(float64(q.At), float64(f.StepEnds), float64(f.Pending), float64(f.Step), float64(f.Decoding))
	wait := q.Way + Seconds(step+beside) + p.Backlog + Seconds(p.Claimed.Requests)*p.Denoise
	*t = Terms{Wait: wait, Denoise: p.Denoise, First: wait + p.Denoise}
	m.special(q, f, p, t)
	return m.sum(t)
}

// denoised learns from how long it took to denoise what a request asked for: since the one before it was done, or
// since it came. Where several are at work at a time that is too much for one and too little for another.
func (a *answer) denoised() {
	d, r := a.s.diffusion, a.r
	if d == nil || d.unsure {
		return
	}
	began := max(r.sent+Seconds(a.v.Rates.Transport), d.since)
	took := a.now - float64(began)
	weight := 1 / (1 + a.s.foreign)
	if !r.alone || a.s.decoding > idle {
		weight *= besideOthers
	}
	if r.Guessed {
		weight *= guessedWeight
	}
	row := r.Denoise.scaled(a.s.slower(a.denoising.Common(), Seconds(a.now)))
	a.denoising.Observe(row, took, weight)
	if expected := a.denoising.Predict(row); expected > 0 && took > 0 {
		a.denoising.Compare(&d.learned, took, math.Log(took/expected), 1, 0, weight, a.now)
	}
}

// Diffuses reports whether anything was learned of diffusion models.
func (l *Learner) Diffuses() bool { return l.denoising.seen > 0 }

// Diffusing returns how long the fleet is believed to take to denoise.
func (l *Learner) Diffusing() Diffusing { return Diffusing{l.denoising.Rates(), l.denoising.Common()} }

// Usual is what requests of a model usually ask for, for those that do not say it: the passes and latents of diffusion
// models, how many tokens of output come of one that is expected by what goes in, as of speech, and how many tokens media
// have of which no size is known. It is a table of fixed size without keys, as Outputs. The zero value knows nothing. Safe for concurrent use.
type Usual struct{ passes, latents, output, media means }

// means are a mean of all, and of each model, by its hash.
type means struct {
	all    mean
	models [1 << 8]mean
}

func (m *means) of(model uint64, preset float64) float64 {
	return float64(m.models[model>>(64-8)].from(m.all.from(float32(preset))))
}

func (m *means) add(model uint64, v float64) {
	if v > 0 && v <= mostTokens {
		m.all.add(float32(v))
		m.models[model>>(64-8)].add(float32(v))
	}
}

// Denoise returns what a request of a model asks for, with what it does not say as it usually is, and whether that was
// anything.
func (u *Usual) Denoise(model uint64, d types.Denoise) (all types.Denoise, guessed bool) {
	if !(d.Passes > 0) {
		d.Passes, guessed = u.passes.of(model, usualPasses), true
	}
	if !(d.Latents > 0) {
		d.Latents, guessed = u.latents.of(model, usualLatents), true
	}
	if !(d.Pixels > 0) {
		d.Pixels = d.Latents * latentPixels
	}
	return d, guessed
}

// AddDenoise learns what a request says of itself.
func (u *Usual) AddDenoise(model uint64, d types.Denoise) {
	u.passes.add(model, d.Passes)
	u.latents.add(model, d.Latents)
}

// Output returns the tokens to expect of a request of which so many were by what goes in.
func (u *Usual) Output(model uint64, given Tokens) Tokens {
	return given * Tokens(u.output.of(model, 1))
}

// Media returns by which factor media of unknown size have more tokens than they were taken for.
func (u *Usual) Media(model uint64) float64 { return u.media.of(model, 1) }

// AddMedia learns from media that were taken for so many tokens, beside so many other tokens, in a prompt that had so many.
// What is taken for text is not counted exactly: beside much of it nothing is learned.
func (u *Usual) AddMedia(model uint64, guessed, others, prompt Tokens) {
	if guessed > 0 && prompt > others && guessed >= others/2 {
		u.media.add(model, min(max(float64((prompt-others)/guessed), 1/mostGuess), mostGuess))
	}
}

// AddOutput learns how many came where so many were to be expected.
func (u *Usual) AddOutput(model uint64, given, came Tokens) {
	if given > 0 && came > 0 {
		u.output.add(model, min(max(float64(came/given), 1/mostOutput), mostOutput))
	}
}
