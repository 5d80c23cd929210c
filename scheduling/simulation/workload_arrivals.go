package simulation

import (
	"fmt"
	"math"
	"time"

	"github.com/inferpick/inferpick/types"
)

// Arrivals is a renewal process with gaps of a gamma distribution: Rate arrivals
// per second on average, whose gaps have the coefficient of variation CV. It
// starts in equilibrium, as if it had run forever before time 0.
//
// The workloads of this package have these fields among their own; a Spec
// elsewhere can use the type itself.
type Arrivals struct {
	// Rate is arrivals per second. Default 10; at most 10,000,000.
	Rate float64
	// CV is the standard deviation of a gap over its mean. Default 1, which is a
	// Poisson process; above it arrivals come in bursts. At most 100. Negative:
	// arrivals are evenly spaced.
	CV float64
	// Vary changes the rate over time. nil: it is constant.
	Vary *Vary
}

// The kinds of Vary.
const (
	VarySteps = "steps" // Steps
	VarySine  = "sine"  // Amplitude, Period
	VaryRamps = "ramps" // Steps, with straight lines between them
)

// Vary multiplies a rate of arrivals by a factor that depends on the time.
type Vary struct {
	// Kind is VarySteps, VarySine or VaryRamps.
	Kind string `json:"kind"`
	// Steps are moments, ascending, from which a factor holds. It is 1 before the
	// first. 1 to 10,000 of them. Of VaryRamps, they are points that the factor goes through in straight lines: before
	// the first it is that of the first.
	Steps []Step `json:"steps,omitempty"`
	// Amplitude, 0 to 1, and Period, in seconds, make the factor
	// 1 + Amplitude·sin(2π·t/Period), with a mean of 1.
	Amplitude float64 `json:"amplitude,omitempty"`
	Period    float64 `json:"period_s,omitempty"`
}

// Step is a moment, in seconds since the start, from which a rate is multiplied by
// Factor, 0 to 1000.
type Step struct {
	At     float64 `json:"at_s"`
	Factor float64 `json:"factor"`
}

const defaultRate = 10

// Validate reports what is wrong with a.
func (a Arrivals) Validate() error {
	if err := a.check(); err != nil {
		return fmt.Errorf("simulation: arrivals: %w", err)
	}
	return nil
}

func (a Arrivals) check() error {
	if !(a.Rate == 0 || a.Rate >= 1e-6 && a.Rate <= maxRate) {
		return fmt.Errorf("rate is %v, want 0.000001 to %d per second, or 0 for the default", a.Rate, int(maxRate))
	}
	if math.IsNaN(a.CV) || a.CV > 100 || a.CV > 0 && a.CV < 0.001 {
		return fmt.Errorf("cv is %v, want 0.001 to 100, 0 for the default, or a negative number for none", a.CV)
	}
	if a.Vary == nil {
		return nil
	}
	if err := a.Vary.check(); err != nil {
		return fmt.Errorf("vary: %w", err)
	}
	return nil
}

func (v *Vary) check() error {
	const week = 7 * 24 * 3600.0
	switch v.Kind {
	case VarySine:
		if !(v.Amplitude >= 0 && v.Amplitude <= 1) {
			return fmt.Errorf("amplitude is %v, want 0 to 1", v.Amplitude)
		}
		if !(v.Period >= 0.001 && v.Period <= week) {
			return fmt.Errorf("period_s is %v, want 0.001 to %v", v.Period, week)
		}
		return nil
	case VarySteps, VaryRamps:
		if len(v.Steps) == 0 || len(v.Steps) > 10_000 {
			return fmt.Errorf("steps has %d entries, want 1 to 10000", len(v.Steps))
		}
		for i, s := range v.Steps {
			if !(s.At >= 0 && s.At <= 1e8) || i > 0 && s.At <= v.Steps[i-1].At {
				return fmt.Errorf("steps[%d]: at_s is %v, want 0 to 1e8 and later than the step before", i, s.At)
			}
			if !(s.Factor == 0 || s.Factor >= 1e-6 && s.Factor <= 1000) {
				return fmt.Errorf("steps[%d]: factor is %v, want 0, or 0.000001 to 1000", i, s.Factor)
			}
		}
		return nil
	}
	return fmt.Errorf("kind is %q, want steps, sine or ramps", v.Kind)
}

func (a Arrivals) withDefaults() Arrivals {
	a.Rate = withDefault(a.Rate, defaultRate)
	a.CV = withDefault(a.CV, 1)
	return a
}

// ArrivalTimes is one run of Arrivals. It is used by one goroutine.
type ArrivalTimes struct {
	rand    types.Rand
	mean    float64 // seconds between two arrivals at factor 1
	shape   float64 // of the gamma distribution of gaps; 0: evenly spaced
	vary    *Vary
	step    int // steps of vary that have begun
	now     time.Duration
	started bool
}

// Times starts the process. a must be valid.
func (a Arrivals) Times(seed uint64) *ArrivalTimes {
	a = a.withDefaults()
	t := &ArrivalTimes{rand: types.NewRand(derive(seed, streamArrivals)), mean: 1 / a.Rate, vary: a.Vary}
	if a.CV > 0 {
		t.shape = 1 / (a.CV * a.CV)
	}
	return t
}

// Next returns the time of the next arrival, not before that of the last, and
// whether there is one: with a rate that goes to 0 for good there is an end.
func (t *ArrivalTimes) Next() (time.Duration, bool) {
	gap := t.mean * t.gap()
	var d time.Duration
	if t.vary == nil {
		d = toDuration(gap)
	} else {
		d = t.invert(gap)
	}
	if d >= math.MaxInt64/2-t.now {
		return 0, false
	}
	t.now += d
	return t.now, true
}

// gap returns a gap with mean 1. The first is what is left, at a random moment, of
// the gap it falls into. Long gaps are met more often, in proportion to their
// length; a gamma distribution weighted so has a shape that is larger by one.
func (t *ArrivalTimes) gap() float64 {
	first := !t.started
	t.started = true
	switch {
	case t.shape == 0 && first:
		return unit(&t.rand)
	case t.shape == 0:
		return 1
	case t.shape == 1: // the rest of an exponential gap is exponential
		return -math.Log(unit(&t.rand))
	case first:
		return unit(&t.rand) * gamma(&t.rand, t.shape+1) / t.shape
	}
	return gamma(&t.rand, t.shape) / t.shape
}

// gamma draws from the gamma distribution with scale 1: Marsaglia and Tsang, "A
// simple method for generating gamma variables", ACM TOMS 26(3), 2000, with their
// note for shapes below 1.
func gamma(r *types.Rand, shape float64) float64 {
	if shape < 1 {
		return gamma(r, shape+1) * math.Pow(unit(r), 1/shape)
	}
	d := shape - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := math.Sqrt2 * math.Erfinv(float64(2*unit(r))-1)
		v := 1 + float64(c*x)
		if v <= 0 {
			continue
		}
		v = v * v * v
		if math.Log(unit(r)) < float64(0.5*x*x)+float64(d*(1-v+math.Log(v))) {
			return d * v
		}
	}
}

// invert returns after how much time from now the integral of the factor comes to
// gap seconds.
func (t *ArrivalTimes) invert(gap float64) time.Duration {
	if t.vary.Kind == VarySine {
		return toDuration(t.vary.invertSine(t.now, gap))
	}
	if t.vary.Kind == VaryRamps {
		return t.invertRamps(gap)
	}
	at := t.now
	for {
		for t.step < len(t.vary.Steps) && toDuration(t.vary.Steps[t.step].At) <= at {
			t.step++
		}
		factor := 1.0
		if t.step > 0 {
			factor = t.vary.Steps[t.step-1].Factor
		}
		if t.step == len(t.vary.Steps) {
			if factor == 0 {
				return math.MaxInt64 / 2
			}
			return at - t.now + toDuration(gap/factor)
		}
		piece := toDuration(t.vary.Steps[t.step].At) - at
		if enough := toDuration(gap / factor); factor > 0 && enough < piece {
			return at - t.now + enough
		}
		gap = max(0, gap-float64(factor*piece.Seconds()))
		at += piece
	}
}

// invertRamps is invert for straight lines: within each the integral is a quadratic.
func (t *ArrivalTimes) invertRamps(gap float64) time.Duration {
	steps := t.vary.Steps
	at := t.now
	for {
		for t.step < len(steps) && toDuration(steps[t.step].At) <= at {
			t.step++
		}
		if t.step == len(steps) {
			factor := steps[t.step-1].Factor
			if factor == 0 {
				return math.MaxInt64 / 2
			}
			return at - t.now + toDuration(gap/factor)
		}
		next := steps[t.step]
		from, slope := next.Factor, 0.0
		piece := (toDuration(next.At) - at).Seconds()
		if t.step > 0 {
			before := steps[t.step-1]
			slope = (next.Factor - before.Factor) / (next.At - before.At)
			from = before.Factor + float64(slope*(at.Seconds()-before.At))
		}
		area := float64(piece*from) + float64(slope*piece*piece)/2
		if gap < area {
			// The smaller root of slope/2·d² + from·d = gap, in the form that does not cancel.
			root := math.Sqrt(max(0, float64(from*from)+float64(2*slope*gap)))
			d := 0.0 // a gap of 0 where the factor is 0, too
			if from+root > 0 {
				d = min(2*gap/(from+root), piece)
			}
			return at - t.now + toDuration(d)
		}
		gap = max(0, gap-area)
		at = toDuration(next.At)
	}
}

// invertSine solves d + a·p/2π·(cos φ - cos(φ + 2π·d/p)) = gap for d, by Newton's
// method kept inside a bracket that shrinks.
func (v *Vary) invertSine(now time.Duration, gap float64) float64 {
	period := toDuration(v.Period)
	phase := 2 * math.Pi * float64(now%period) / float64(period)
	w := 2 * math.Pi / v.Period
	swing := v.Amplitude / w
	lo, hi := max(0, gap-2*swing), gap+2*swing
	d := gap
	for range 100 {
		if hi-lo < 1e-10 {
			break
		}
		angle := phase + float64(w*d)
		miss := d + float64(swing*(math.Cos(phase)-math.Cos(angle))) - gap
		if miss > 0 {
			hi = d
		} else {
			lo = d
		}
		slope := 1 + float64(v.Amplitude*math.Sin(angle))
		next := d - miss/slope
		if !(next > lo && next < hi) {
			next = lo + (hi-lo)/2
		}
		if math.Abs(next-d) < 1e-12 {
			break
		}
		d = next
	}
	return d
}
