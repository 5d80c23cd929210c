package simulation

import (
	"fmt"
	"math"
	"sort"

	"github.com/inferpick/inferpick/types"
)

// The kinds of Length.
const (
	LengthFixed           = "fixed"            // Tokens
	LengthNormal          = "normal"           // Mean, SD
	LengthLogNormal       = "lognormal"        // Median, Sigma
	LengthExponential     = "exponential"      // Mean
	LengthInverseCDF      = "cdf"              // Points
	LengthShareGPTInputs  = "sharegpt-inputs"  // prompts of ShareGPT, see ShareGPT
	LengthShareGPTOutputs = "sharegpt-outputs" // replies of ShareGPT
)

// Length is a distribution of lengths in tokens. Whatever the kind, lengths are
// rounded to whole tokens and kept between Min and Max.
//
// The zero Length stands for the default of the field it is in.
type Length struct {
	// Kind says which of the fields count: LengthFixed, LengthNormal, LengthLogNormal,
	// LengthExponential, LengthInverseCDF, LengthShareGPTInputs or
	// LengthShareGPTOutputs.
	Kind string `json:"kind"`
	// Tokens is the one length there is. LengthFixed.
	Tokens int `json:"tokens,omitempty"`
	// Mean and SD are those before lengths are kept in bounds. LengthNormal;
	// LengthExponential has a Mean.
	Mean float64 `json:"mean,omitempty"`
	SD   float64 `json:"sd,omitempty"`
	// Median, and the standard deviation of the logarithm. LengthLogNormal.
	Median float64 `json:"median,omitempty"`
	Sigma  float64 `json:"sigma,omitempty"`
	// Points are pairs of a probability and the length that so large a part stays
	// below, from 0 to 1, with straight lines between them. LengthInverseCDF.
	Points [][2]float64 `json:"points,omitempty"`
	// Min and Max are the bounds. Default 1 and 1,048,576; at most 16,777,216.
	Min int `json:"min,omitempty"`
	Max int `json:"max,omitempty"`
}

const (
	defaultMaxLength = 1 << 20
	maxPoints        = 100_000
)

// shareGPTInputs and shareGPTOutputs describe the first turns of the ShareGPT
// dataset with prompts and replies of 4 to 1024 tokens, counted with the tokenizer
// of Llama 2. They keep the percentiles 10, 25, 50, 75, 90 and 99.
func shareGPTInputs() [][2]float64 {
	return [][2]float64{{0, 4}, {.10, 13}, {.25, 28}, {.50, 109}, {.75, 385}, {.90, 714}, {.99, 987}, {1, 1024}}
}

func shareGPTOutputs() [][2]float64 {
	return [][2]float64{{0, 3}, {.10, 14}, {.25, 46}, {.50, 144}, {.75, 300}, {.90, 564}, {.99, 948}, {1, 1024}}
}

// Validate reports what is wrong with l. The zero Length is not wrong.
func (l Length) Validate() error {
	if err := l.check(); err != nil {
		return fmt.Errorf("simulation: length: %w", err)
	}
	return nil
}

func (l Length) check() error {
	lo, hi := l.bounds()
	if l.Min < 0 || hi > maxTokens || lo > hi {
		return fmt.Errorf("min and max are %d and %d, want 1 <= min <= max <= %d", lo, hi, maxTokens)
	}
	positive := func(field string, v float64) error {
		if !(v > 0 && v <= maxTokens) {
			return fmt.Errorf("%s of %s is %v, want above 0 and at most %d", field, l.Kind, v, maxTokens)
		}
		return nil
	}
	switch l.Kind {
	case "":
		if l.isZero() {
			return nil
		}
		return fmt.Errorf("kind is missing, want %s", lengthKinds)
	case LengthFixed:
		return positive("tokens", float64(l.Tokens))
	case LengthNormal:
		if !(l.SD >= 0 && l.SD <= maxTokens) {
			return fmt.Errorf("sd of normal is %v, want 0 to %d", l.SD, maxTokens)
		}
		return positive("mean", l.Mean)
	case LengthLogNormal:
		if !(l.Sigma >= 0 && l.Sigma <= 10) {
			return fmt.Errorf("sigma of lognormal is %v, want 0 to 10", l.Sigma)
		}
		return positive("median", l.Median)
	case LengthExponential:
		return positive("mean", l.Mean)
	case LengthInverseCDF:
		return checkPoints(l.Points)
	case LengthShareGPTInputs, LengthShareGPTOutputs:
		return nil
	}
	return fmt.Errorf("kind is %q, want %s", l.Kind, lengthKinds)
}

const lengthKinds = "fixed, normal, lognormal, exponential, cdf, sharegpt-inputs or sharegpt-outputs"

func checkPoints(points [][2]float64) error {
	n := len(points)
	if n < 2 || n > maxPoints || points[0][0] != 0 || points[n-1][0] != 1 {
		return fmt.Errorf("points has %d pairs, want 2 to %d, the first with probability 0, the last with 1", n, maxPoints)
	}
	for i, p := range points {
		if !(p[1] >= 0 && p[1] <= maxTokens) {
			return fmt.Errorf("points[%d] has length %v, want 0 to %d", i, p[1], maxTokens)
		}
		if i > 0 && !(p[0] > points[i-1][0] && p[1] >= points[i-1][1]) {
			return fmt.Errorf("points[%d] is %v after %v, want a higher probability and no lower length", i, p, points[i-1])
		}
	}
	return nil
}

func (l Length) isZero() bool {
	return l.Kind == "" && l.Tokens == 0 && l.Mean == 0 && l.SD == 0 && l.Median == 0 && l.Sigma == 0 &&
		l.Points == nil && l.Min == 0 && l.Max == 0
}

func (l Length) bounds() (lo, hi int) {
	return max(1, l.Min), withDefault(l.Max, defaultMaxLength)
}

// or returns l, or def if l is zero.
func (l Length) or(def Length) Length {
	if l.isZero() {
		return def
	}
	return l
}

// LengthSampler draws lengths. It is made by Length.Sampler, does not change, and
// may be used from several goroutines.
type LengthSampler struct {
	kind   string
	lo, hi float64
	a, b   float64
	lines  []line
}

// line is a piece of an inverse distribution function.
type line struct{ u, tokens, slope float64 }

// Sampler prepares l for drawing. One of a Length that does not validate draws
// something between its bounds.
func (l Length) Sampler() *LengthSampler {
	lo, hi := l.bounds()
	s := &LengthSampler{kind: l.Kind, lo: float64(lo), hi: float64(hi)}
	switch l.Kind {
	case LengthFixed:
		s.a = float64(l.Tokens)
	case LengthNormal:
		s.a, s.b = l.Mean, l.SD*math.Sqrt2
	case LengthLogNormal:
		s.a, s.b = l.Median, l.Sigma*math.Sqrt2
	case LengthExponential:
		s.a = l.Mean
	case LengthInverseCDF:
		s.lines = segmentsOf(l.Points)
	case LengthShareGPTInputs:
		s.kind, s.lines = LengthInverseCDF, segmentsOf(shareGPTInputs())
	case LengthShareGPTOutputs:
		s.kind, s.lines = LengthInverseCDF, segmentsOf(shareGPTOutputs())
	}
	return s
}

func segmentsOf(points [][2]float64) []line {
	var lines []line
	for i := 1; i < len(points); i++ {
		p, q := points[i-1], points[i]
		lines = append(lines, line{u: p[0], tokens: p[1], slope: (q[1] - p[1]) / (q[0] - p[0])})
	}
	return lines
}

// Sample draws a length. It takes exactly one number from r, whatever the kind,
// so that another distribution leaves later draws where they were.
func (s *LengthSampler) Sample(r *types.Rand) int { return s.Quantile(unit(r)) }

// Quantile returns the length that a part u of the lengths, 0 to 1, stays below.
func (s *LengthSampler) Quantile(u float64) int {
	var x float64
	switch s.kind {
	case LengthFixed:
		x = s.a
	case LengthNormal:
		x = s.a + float64(s.b*math.Erfinv(float64(2*u)-1))
	case LengthLogNormal:
		x = s.a * math.Exp(s.b*math.Erfinv(float64(2*u)-1))
	case LengthExponential:
		x = -s.a * math.Log1p(-u)
	case LengthInverseCDF:
		x = s.interpolate(u)
	}
	if !(x > s.lo) { // NaN included
		return int(s.lo)
	}
	// The conversion to float64 keeps the compiler from fusing the operations, which
	// would round differently on other processors. Likewise above and below.
	return int(float64(min(x, s.hi)) + 0.5)
}

func (s *LengthSampler) interpolate(u float64) float64 {
	lines := s.lines
	if len(lines) == 0 {
		return 0
	}
	i := 0
	if len(lines) > 16 {
		i = max(0, sort.Search(len(lines), func(i int) bool { return lines[i].u > u })-1)
	}
	for i+1 < len(lines) && lines[i+1].u <= u {
		i++
	}
	l := &lines[i]
	return l.tokens + float64((u-l.u)*l.slope)
}

// Mean returns the mean length, bounds and rounding included, to about one part in
// a thousand.
func (s *LengthSampler) Mean() float64 {
	const n = 1 << 14
	sum := 0.0
	for i := range n {
		sum += float64(s.Quantile((float64(i) + 0.5) / n))
	}
	return sum / n
}
