package autoscale

import (
	"math"

	"github.com/inferpick/inferpick/types"
)

// learner learns how fast the servers of a pool are from how requests went, where nobody else knows: a step by a line
// through the times between tokens over how many requests were there, and a prompt token by the median of the times to
// first tokens of requests that had none before them.
type learner struct {
	// Sums over answers, old ones weighing less: of weights, requests there, their squares, times, and times·requests.
	w, x, xx, y, xy float64
	token           float64 // seconds, running median
	seen            int     // first tokens
	steps           int     // answers
}

const (
	learnMemory = 300. // answers that are remembered, as the constant of forgetting
	learnLeast  = 30   // of either kind before anything is said
	learnStep   = .05  // part by which the running median moves
)

// first learns from a first token after so many seconds, of a request that had tokens to compute and found nobody
// waiting for one.
func (l *learner) first(took, tokens float64) {
	if tokens < leastLearnTokens || !(took > 0) {
		return
	}
	step := 0.
	if l.steps >= learnLeast {
		step, _ = l.line()
	}
	per := max(took-step, took/10) / tokens
	switch {
	case l.token == 0:
		l.token = per
	case per > l.token:
		l.token *= 1 + learnStep
	default:
		l.token /= 1 + learnStep
	}
	l.seen++
}

// leastLearnTokens is how many tokens tell how long one takes.
const leastLearnTokens = 64

// answered learns from an answer whose tokens came every so many seconds, beside so many others.
func (l *learner) answered(every, others float64) {
	if !(every > 0) || math.IsInf(every, 0) {
		return
	}
	const keep = 1 - 1/learnMemory
	// Times far above what is believed waited for prefills: they are cut, so that those of few count for what they are.
	if step, more := l.line(); l.steps >= learnLeast {
		every = min(every, 3*(step+more*others))
	}
	l.w, l.x, l.xx = keep*l.w+1, keep*l.x+others, keep*l.xx+others*others
	l.y, l.xy = keep*l.y+every, keep*l.xy+every*others
	l.steps++
}

// line returns what a step takes alone, and how much longer for each request in it. Where all were among as many, a
// tenth of it is taken to be for those.
func (l *learner) line() (step, more float64) {
	if l.w <= 0 {
		return 0, 0
	}
	mx, my := l.x/l.w, l.y/l.w
	spread := l.xx/l.w - mx*mx
	// A prior of a tenth of the mean, worth a spread of a quarter of the mean.
	prior := max(mx*mx/16, 1e-9)
	believed := .1 * my / max(mx, 1)
	more = (l.xy/l.w - mx*my + prior*believed) / (spread + prior)
	more = min(max(more, 0), .9*my/max(mx, 1))
	return my - more*mx, more
}

// speed returns what was learned, and whether that is enough.
func (l *learner) speed() (types.Speed, bool) {
	if l.seen < learnLeast || l.steps < learnLeast {
		return types.Speed{}, false
	}
	step, more := l.line()
	s := types.Speed{Token: l.token, Step: step, Sequence: more}
	return s, s.Known()
}
