package bound

import (
	"math"
	"slices"

	"github.com/inferpick/inferpick/scheduling/simulation"
)

// Prices that are tried, from where jobs run alone to where steps are as large as can be.
const (
	leastLambda = 1e-2
	mostLambda  = 1e4
	lambdas     = 24
)

// tangents are sizes of steps that are tried.
func tangents() []float64 { return []float64{0, 50, 150, 500} }

// mean returns the best bound of the mean end-to-end time: over λ, of which it is a concave
// function, over the tangents, and over some moments C, a few per cent after the last arrival.
func (k *setting) mean() (best float64) {
	for _, tangent := range tangents() {
		for _, later := range []float64{0, .05, .2} {
			until := k.arrivals + later*(k.arrivals-k.from)
			best = max(best, highest(func(log float64) float64 {
				return k.meanAt(k.at(math.Exp(log), tangent), until)
			}, math.Log(leastLambda), math.Log(mostLambda)))
		}
	}
	return best
}

func (k *setting) meanAt(p prices, until float64) float64 {
	sum := -p.lambda * k.speed * (until - k.from)
	for i := range k.jobs {
		j := &k.jobs[i]
		later := max(k.alone(j), until-j.arrival.Seconds())
		sum += min(p.job(j), later)
	}
	return sum / float64(len(k.jobs))
}

// highest returns the highest value of f that a golden-section search comes across.
func highest(f func(float64) float64, low, high float64) float64 {
	const part = .6180339887498949
	a, b := high-part*(high-low), low+part*(high-low)
	fa, fb := f(a), f(b)
	for range 20 {
		if fa > fb {
			high, b, fb = b, a, fa
			a = high - part*(high-low)
			fa = f(a)
		} else {
			low, a, fa = a, b, fb
			b = low + part*(high-low)
			fb = f(b)
		}
	}
	return max(fa, fb)
}

// tokenTimes raises the percentiles of the time per token as far as prices show.
func (k *setting) tokenTimes(d *simulation.Distribution) {
	for _, tangent := range tangents() {
		for i := range lambdas {
			c := k.choices(k.at(leastLambda*math.Pow(mostLambda/leastLambda, float64(i)/(lambdas-1)), tangent))
			d.P50, d.P90, d.P99 = c.beyond(.5, d.P50), c.beyond(.9, d.P90), c.beyond(.99, d.P99)
		}
	}
}

// choices are the jobs whose time per token is to be at most y, or not, at one λ.
type choices struct {
	jobs   []choice
	budget float64   // what all of the servers' time costs, without that of prefills
	more   []float64 // memory
}

type choice struct {
	tokens float64
	fast   float64 // its price if it is, without what y takes off for each token
	slow   float64 // its price if it is not
}

func (k *setting) choices(p prices) *choices {
	c := &choices{budget: p.lambda * k.speed * (k.end - k.from)}
	for i := range k.jobs {
		j := &k.jobs[i]
		c.budget -= p.lambda * p.prefill(j)
		if j.decodes > 0 {
			c.jobs = append(c.jobs, choice{j.decodes, p.decodes(j), p.least(j)})
		}
	}
	c.more = make([]float64, len(c.jobs))
	return c
}

// beyond returns the highest y that the percentile q cannot be, or known if that is higher.
func (c *choices) beyond(q, known float64) float64 {
	need := int(q*float64(len(c.jobs))) + 1
	if need > len(c.jobs) || c.possible(need, known*1.002) {
		return known
	}
	low, high := known*1.002, 2*known
	for !c.possible(need, high) {
		low, high = high, 2*high
	}
	for high > 1.001*low {
		if y := math.Sqrt(low * high); c.possible(need, y) {
			high = y
		} else {
			low = y
		}
	}
	return low
}

// possible reports whether servers may have the time for so many jobs of at most y, and for
// the others: for the cheapest choice of them.
func (c *choices) possible(need int, y float64) bool {
	sum, all := 0.0, 0.0
	for i, one := range c.jobs {
		sum += one.slow
		c.more[i] = max(one.fast-y*one.tokens-one.slow, 0)
		all += c.more[i]
	}
	if sum > c.budget || sum+all <= c.budget {
		return sum <= c.budget
	}
	slices.Sort(c.more)
	for _, v := range c.more[:need] {
		sum += v
	}
	return sum <= c.budget
}
