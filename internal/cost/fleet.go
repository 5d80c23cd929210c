package cost

import (
	"cmp"
	"math"
)

// Rates are how long a fleet takes: for what a request spends on its way, and by which
// factors its engines differ from the reference engine.
type Rates struct {
	Transport float64 // seconds from the gateway to an engine and back
	Step      float64 // factor of a step
	Growth    float64 // by how much a step grows with each sequence in it, beyond the reference: of GrowthUnit
	Token     float64 // factor of a prompt token
	Encode    float64 // factor of encoding pictures, sounds and films
}

// Near reports whether nothing takes noticeably longer or shorter by the one than by the
// other: by two parts in a hundred. step is a step of the reference engine in seconds.
func (r Rates) Near(o Rates, step float64) bool {
	first := o.Transport + step*o.Step
	return math.Abs(r.Transport-o.Transport) <= nearRates*first && math.Abs(r.Step-o.Step) <= nearRates*o.Step &&
		math.Abs(r.Growth-o.Growth) <= nearRates*o.Step && math.Abs(r.Token-o.Token) <= nearRates*o.Token &&
		math.Abs(r.Encode-o.Encode) <= nearRates*o.Encode
}

// Sample says what a time was spent on: the time it took is
//
//	Fixed·Transport + Steps·Step + Grown·Growth + Prefill·Token + Encode·Encode
//
// in the Rates of a fleet.
type Sample struct {
	Fixed   float64 // 1 if the way is in it, else 0
	Steps   float64 // base seconds of steps, as the reference engine grows with sequences and context
	Grown   float64 // base seconds of GrowthUnit, for each step and each sequence in it
	Prefill float64 // base seconds of prefill
	Encode  float64 // base seconds of encoding media
}

const terms = 5

// scale is what a term is worth with its factor at 1.
func (r Sample) scale(transport float64) [terms]float64 {
	return [terms]float64{r.Fixed * transport, r.Steps, r.Grown, r.Prefill, r.Encode}
}

// Fleet learns Rates: a least-squares fit of the rows it was shown, in relative terms, in
// which old rows weigh less and less. Each row counts as what it was off by, divided by
// the larger of what it took and what was expected. So a single row has little influence
// however far it is off, rows that took longer because they waited for something that is not
// in the model have less than those that did not, and a fleet that is a hundred times faster
// or slower than believed is known after a few of them. Make it with NewFleet.
type Fleet struct {
	start Rates
	a     [terms][terms]float64 // weighted sums of products of a row's terms
	b     [terms]float64        // and of these with the time
	c     float64               // and of the square of the time
	x     [terms]float64        // the factors that fit best: of start, and of Growth itself
	left  float64               // the part of the squares of times that x does not explain, 0 to 1
	seen  float64               // rows

	step, token common // by what all servers differ from that together: see Compare
	told        common // Token, as servers tell it themselves, as logarithms: see Told
}

// NewFleet returns a Fleet that believes in start until it is shown better. The Transport in
// it is where learning starts; 0 fixes it. An Encode of 0 is the same as Token.
func NewFleet(start Rates) *Fleet {
	start.Encode = cmp.Or(start.Encode, start.Token)
	return &Fleet{start: start, x: [terms]float64{1, 1, 0, 1, 1}}
}

const growth, tokens, encode = 2, 3, 4 // indices of Growth, Token and Encode

// Rates returns what is believed now.
func (f *Fleet) Rates() Rates {
	return Rates{f.start.Transport * f.x[0], f.start.Step * f.x[1], f.x[growth], f.start.Token * f.x[tokens], f.start.Encode * f.x[encode]}
}

// terms returns what the terms of a row are worth with all factors at 1.
func (f *Fleet) terms(r Sample) [terms]float64 {
	p := r.scale(f.start.Transport)
	p[1] *= f.start.Step
	p[tokens] *= f.start.Token
	p[encode] *= f.start.Encode
	return p
}

// Predict returns how long a row takes by what is believed now.
func (f *Fleet) Predict(r Sample) (seconds float64) {
	p := f.terms(r)
	for i := range p {
		seconds += p[i] * f.x[i]
	}
	return seconds
}

// Observe learns from a row that took so many seconds. weight, above 0 and at most 1, is
// how much it says. A time that is no positive number is left out.
func (f *Fleet) Observe(r Sample, seconds, weight float64) {
	expected := f.Predict(r)
	if !(seconds > 0) || math.IsInf(seconds, 0) || !(weight > 0) || !(expected > 0) {
		return
	}
	weight = min(weight, 1)
	keep := 1 - weight/fleetMemory
	w := weight / (max(seconds, expected) * max(expected, seconds/(1+longer*f.left)))
	p := f.terms(r)
	for i := range p {
		for j := range p {
			f.a[i][j] = keep*f.a[i][j] + w*p[i]*p[j]
		}
		f.b[i] = keep*f.b[i] + w*p[i]*seconds
	}
	f.c = keep*f.c + w*seconds*seconds
	f.fit()
	f.left = f.unexplained()
	f.seen = min(f.seen+weight, fleetMemory)
}

// Told learns from a server itself by which factor its prompt tokens take longer than those of the
// reference engine. What it told before counts no more.
func (f *Fleet) Told(s *Learned, factor, now float64) {
	told := math.Log(factor / f.start.Token)
	if math.IsNaN(told) || math.IsInf(told, 0) {
		return
	}
	f.told.add(&s.told, -1)
	s.told = offset{mean: told, weight: 1}
	f.told.add(&s.told, 1)
	f.fit()
	step, token := s.Difference(f.Common(), now)
	f.Compare(s, longMoment, told-math.Log(f.x[tokens])-step-token, 0, 1, firstWeight, now)
}

// fit finds what fits best. Who computes prompts slowly is taken to encode slowly until it shows otherwise.
func (f *Fleet) fit() {
	f.x = solve(f.withPrior())
	if f.a[encode][encode] == 0 {
		f.x[encode] = f.x[tokens]
	}
}

// withPrior returns the sums with what was believed at first in them: the square of the
// logarithm of a factor, as it curves where the factor is now.
func (f *Fleet) withPrior() (a [terms][terms]float64, b [terms]float64) {
	a, b = f.a, f.b
	for i, x := range f.x {
		if i == growth {
			b[i] -= growthDoubt * math.Sqrt(a[i][i])
			a[i][i] += growthPrior
			continue
		}
		like := 1.
		if i == encode {
			like = f.x[tokens]
		}
		a[i][i] += fleetPrior / (x * x)
		b[i] += fleetPrior * (1 - math.Log(x/like)) / x
	}
	if f.told.weight > 0 {
		token := math.Exp(f.told.mean())
		a[tokens][tokens] += toldRows / (token * token)
		b[tokens] += toldRows / token
	}
	hold(&a, f.a, f.left)
	return a, b
}

// unexplained returns the part of the squares of all times that what is believed does not
// explain.
func (f *Fleet) unexplained() float64 {
	left := f.c
	for i, x := range f.x {
		left -= 2 * x * f.b[i]
		for j, y := range f.x {
			left += x * y * f.a[i][j]
		}
	}
	if !(f.c > 0) {
		return 0
	}
	return min(max(left/f.c, 0), 1)
}

// hold adds to a what holds the factors of a fleet together: rows that differ in what they
// are made of by little more than their terms are wrong tell nothing of one factor alone.
// With the errors in the terms left out, a constant would explain best what all rows have in
// common, and a step be learned to take no time (the attenuation of errors in variables:
// Fuller, Measurement Error Models, 1987). rows are the sums without a prior, and wrong is the
// variance of the error of a term, as a part of its square.
func hold(a *[terms][terms]float64, rows [terms][terms]float64, wrong float64) {
	sum := 0.
	for i := range rows {
		if i != growth {
			sum += rows[i][i]
		}
	}
	if sum <= 0 {
		return
	}
	for i := range rows {
		for j := range rows {
			switch {
			case i == growth || j == growth:
			case i == j:
				a[i][i] += wrong * rows[i][i] * (1 - rows[i][i]/sum)
			default:
				a[i][j] -= wrong * rows[i][i] * rows[j][j] / sum
			}
		}
	}
}

// solve returns the x that fits best and has no negative part. a is positive definite.
func solve(a [terms][terms]float64, b [terms]float64) (x [terms]float64) {
	lowest := [terms]float64{leastFactor, leastFactor, 0, leastFactor, leastFactor}
	var fixed [terms]bool
	for range terms {
		x = solveFree(a, b, lowest, fixed)
		worst := -1
		for i := range x {
			if !fixed[i] && x[i] < lowest[i] && (worst < 0 || x[i]-lowest[i] < x[worst]-lowest[worst]) {
				worst = i
			}
		}
		if worst < 0 {
			return x
		}
		fixed[worst] = true
	}
	return lowest
}

// solveFree solves for those parts of x that are not fixed at their lowest, by Cholesky's
// decomposition.
func solveFree(a [terms][terms]float64, b, lowest [terms]float64, fixed [terms]bool) (x [terms]float64) {
	var l [terms][terms]float64
	for i := range terms {
		if fixed[i] {
			// The row of a part that is fixed is x[i] = lowest[i].
			for j := range terms {
				if j != i {
					b[j] -= a[j][i] * lowest[i]
					a[i][j], a[j][i] = 0, 0
				}
			}
			a[i][i], b[i] = 1, lowest[i]
		}
	}
	var y [terms]float64
	for i := range terms {
		for j := 0; j <= i; j++ {
			sum := a[i][j]
			for k := range j {
				sum -= l[i][k] * l[j][k]
			}
			if i == j {
				l[i][i] = math.Sqrt(max(sum, 1e-30))
			} else {
				l[i][j] = sum / l[j][j]
			}
		}
		y[i] = b[i]
		for k := range i {
			y[i] -= l[i][k] * y[k]
		}
		y[i] /= l[i][i]
	}
	for i := terms - 1; i >= 0; i-- {
		x[i] = y[i]
		for k := i + 1; k < terms; k++ {
			x[i] -= l[k][i] * x[k]
		}
		x[i] /= l[i][i]
	}
	return x
}
