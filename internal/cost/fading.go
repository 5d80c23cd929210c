package cost

import "math"

// Fading is a sum whose parts count for less the longer ago they were added: over a time constant of
// stallMemory. The zero value is 0.
type Fading struct {
	sum float64
	at  Seconds // when it was that
}

// Add adds v.
func (f *Fading) Add(v float64, now Seconds) { f.sum, f.at = f.left(now)+v, now }

// PerSecond returns how much was added in a second.
func (f *Fading) PerSecond(now Seconds) float64 { return f.left(now) / stallMemory }

func (f *Fading) left(now Seconds) float64 {
	return f.sum * math.Exp(-max(float64(now-f.at), 0)/stallMemory)
}
