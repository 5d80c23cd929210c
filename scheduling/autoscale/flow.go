package autoscale

import (
	"math"
	"time"

	"github.com/inferpick/inferpick/types"
)

// flow is what comes, over a window. It is kept in tokens, so that what was learned of speeds later counts for what
// came before too.
type flow struct {
	window time.Duration
	began  time.Time
	at     time.Time

	// Exponentially weighted sums at an instant, each of n/window·exp(−age/window): divided by the weight of the time
	// since it began they are rates per second.
	requests, prompt, compute, output float64
	// Sums of products, decaying as squares do: the variance of a sum by chance, if what comes is independent.
	computes, outputs, both float64
}

// leastAge is the least time that a rate is taken to have been counted for.
const leastAge = 2 * time.Second

// advance lets it decay until now. Events that are late count as of the latest; by more than its window, the clock was
// set back, and it goes on from there.
func (f *flow) advance(now time.Time) {
	if f.at.IsZero() {
		f.began, f.at = now, now
		return
	}
	age := now.Sub(f.at)
	switch {
	case age < -f.window:
		f.began, f.at = f.began.Add(age), now
		return
	case age <= 0:
		return
	}
	f.at = now
	keep := math.Exp(-age.Seconds() / f.window.Seconds())
	for _, v := range []*float64{&f.requests, &f.prompt, &f.compute, &f.output} {
		*v *= keep
	}
	for _, v := range []*float64{&f.computes, &f.outputs, &f.both} {
		*v *= keep * keep
	}
}

// add counts a request with a prompt of so many tokens, of which some are to be computed, and so many tokens of output.
func (f *flow) add(prompt, compute, output float64, now time.Time) {
	f.advance(now)
	w := f.window.Seconds()
	f.requests += 1 / w
	f.prompt += prompt / w
	f.compute += compute / w
	f.output += output / w
	f.computes += compute * compute / (w * w)
	f.outputs += output * output / (w * w)
	f.both += compute * output / (w * w)
}

// rates are those of a flow at one time.
type rates struct{ requests, prompt, compute, output, computes, outputs, both float64 }

// read returns the rates at now.
func (f *flow) read(now time.Time) rates {
	f.advance(now)
	age := max(now.Sub(f.began), leastAge)
	by := 1 / (1 - math.Exp(-age.Seconds()/f.window.Seconds()))
	return rates{
		f.requests * by, f.prompt * by, f.compute * by, f.output * by,
		f.computes * by * by, f.outputs * by * by, f.both * by * by,
	}
}

// work returns the seconds of work per second at a speed, and its standard error by chance.
func (r *rates) work(s types.Speed) (work, noise Figure) {
	if !s.Known() {
		return Unknown(), Unknown()
	}
	work = Figure(r.compute*s.Token + r.output*s.Sequence)
	variance := r.computes*s.Token*s.Token + r.outputs*s.Sequence*s.Sequence + 2*r.both*s.Token*s.Sequence
	return work, Figure(math.Sqrt(max(variance, 0)))
}

// mean is an average of which old values weigh less and less; that of none is not known.
type mean struct{ sum, weight float64 }

// add counts v with a weight, of which as much is remembered as memory says.
func (m *mean) add(v, weight, memory float64) {
	keep := math.Exp(-weight / memory)
	m.sum, m.weight = m.sum*keep+v*weight, m.weight*keep+weight
}

func (m *mean) or(def float64) float64 {
	if m.weight <= 0 {
		return def
	}
	return m.sum / m.weight
}
