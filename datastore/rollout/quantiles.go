package rollout

import "sort"

// mixture is a distribution that is put together from strata, each with a weight; they sum to 1.
type mixture struct {
	of     [maxStrata]*histogram
	weight [maxStrata]float64
	below  [buckets]float64 // share of what is below the end of each bucket
}

// alike returns the distributions of two targets over the strata that both have, the second one with as much of each
// stratum as the first one has (direct standardization): so the two are compared like for like. covered is the share
// of the first one's values that are in such strata.
func alike(a, b *strata, least int) (first, second *mixture, covered float64, n int) {
	first, second = new(mixture), new(mixture)
	for i := range a {
		if a[i] != nil && b[i] != nil && a[i].n > 0 && b[i].n >= least {
			n += a[i].n
			first.of[i], second.of[i] = a[i], b[i]
		}
	}
	for i, h := range first.of {
		if h != nil {
			first.weight[i] = float64(h.n) / float64(n)
			second.weight[i] = first.weight[i]
		}
	}
	first.sum()
	second.sum()
	return first, second, float64(n) / float64(max(a.len(), 1)), n
}

// estimate is a quantile with its interval, in buckets. A bound that too few values have is -1 or buckets.
type estimate struct{ low, middle, high int }

// quantile returns that of level q, and its interval at z. The interval is that of R. S. Woodruff, "Confidence
// intervals for medians and other position measures", JASA 47 (1952): the share of values below the quantile has an
// error, and the values at both ends of that are those of the interval.
func (m *mixture) quantile(q, z float64) estimate {
	var e estimate
	e.middle = m.at(q)
	low, high := ranks(m.effective(q, e.middle), q, z)
	e.low, e.high = -1, buckets
	if low > 0 {
		e.low = m.at(low)
	}
	if high <= 1 {
		e.high = m.at(high)
	}
	return e
}

// only returns a mixture of one histogram.
func only(h *histogram) *mixture {
	m := &mixture{of: [maxStrata]*histogram{h}, weight: [maxStrata]float64{1}}
	m.sum()
	return m
}

// sum fills in below.
func (m *mixture) sum() {
	for i, h := range m.of {
		if h == nil {
			continue
		}
		per := m.weight[i] / float64(h.n)
		for b, n := range h.counts {
			m.below[b] += per * float64(n)
		}
	}
	sum := 0.
	for b := range m.below {
		sum += m.below[b]
		m.below[b] = sum
	}
}

// at returns the bucket at which a level is reached.
func (m *mixture) at(level float64) int {
	return min(sort.SearchFloat64s(m.below[:], level-1e-9), buckets-1)
}

// effective returns how many values of a plain sample would tell the level at a bucket as well.
func (m *mixture) effective(q float64, bucket int) float64 {
	variance, below := 0., 0.
	for i, h := range m.of {
		if h == nil {
			continue
		}
		n := float64(h.n)
		level := (h.level(bucket)*n + 2*q) / (n + 2) // few values that are all below it do not say that all are
		below += m.weight[i] * level
		variance += m.weight[i] * m.weight[i] * level * (1 - level) / n
	}
	if variance <= 0 {
		return 0
	}
	return below * (1 - below) / variance
}
