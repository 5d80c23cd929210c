package simulation

import (
	"math"
	"sort"
	"strconv"

	"github.com/inferpick/inferpick/types"
)

// popularity draws one of several things by their shares.
type popularity struct {
	n   int
	cum []float64 // cumulative shares; nil: all are equal
}

// zipf makes the i-th of n things, from 0, come in proportion to 1/(i+1)^skew.
func zipf(n int, skew float64) popularity {
	if !(skew > 0) {
		return popularity{n: n}
	}
	p := popularity{n: n, cum: make([]float64, n)}
	sum := 0.0
	for i := range p.cum {
		sum += math.Pow(float64(i+1), -skew)
		p.cum[i] = sum
	}
	for i := range p.cum {
		p.cum[i] /= sum
	}
	return p
}

// sharesOf makes the i-th thing come with shares[i]; what is missing from 1 falls
// to index len(shares).
func sharesOf(shares []float64) popularity {
	p := popularity{n: len(shares) + 1, cum: make([]float64, len(shares))}
	sum := 0.0
	for i, s := range shares {
		sum += s
		p.cum[i] = sum
	}
	if len(shares) > 0 && sum > 1-1e-9 {
		p.cum[len(shares)-1] = 1
	}
	return p
}

// pick takes one number from r.
func (p *popularity) pick(r *types.Rand) int { return p.at(unit(r)) }

func (p *popularity) at(u float64) int {
	if p.cum == nil {
		return min(p.n-1, int(u*float64(p.n)))
	}
	return min(p.n-1, sort.Search(len(p.cum), func(i int) bool { return u < p.cum[i] }))
}

// labels returns prefix-0, prefix-1, …, made once and not for each job.
func labels(prefix string, n int) []string {
	s := make([]string, n)
	for i := range s {
		s[i] = prefix + "-" + strconv.Itoa(i)
	}
	return s
}
