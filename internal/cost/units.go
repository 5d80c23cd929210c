package cost

import (
	"math"
	"sync/atomic"
)

// Amounts are floating-point numbers, of types that keep them apart.
type (
	// Tokens of a prompt or of an answer.
	Tokens float64
	// Seconds of time, or since the first instant that was seen.
	Seconds float64
	// Blocks of a prompt in the prefix index.
	Blocks uint32
)

// Float is a float64 that is read and changed by many goroutines. The zero value is 0.
type Float struct{ bits atomic.Uint64 }

// Load returns the value.
func (f *Float) Load() float64 { return math.Float64frombits(f.bits.Load()) }

// Store sets the value.
func (f *Float) Store(v float64) { f.bits.Store(math.Float64bits(v)) }

// Update sets the value to what change makes of it, and returns that.
func (f *Float) Update(change func(float64) float64) float64 {
	for {
		old := f.bits.Load()
		v := change(math.Float64frombits(old))
		if next := math.Float64bits(v); next == old || f.bits.CompareAndSwap(old, next) {
			return v
		}
	}
}

// Add adds d and returns the sum.
func (f *Float) Add(d float64) float64 {
	for {
		old := f.bits.Load()
		v := math.Float64frombits(old) + d
		if next := math.Float64bits(v); next == old || f.bits.CompareAndSwap(old, next) {
			return v
		}
	}
}

// Set is Store where the value is likely to be the same.
func (f *Float) Set(v float64) {
	if f.Load() != v {
		f.Store(v)
	}
}

// SharedRates are Rates that are read and changed by many goroutines.
type SharedRates [5]Float

// Load returns the rates.
func (r *SharedRates) Load() Rates {
	return Rates{r[0].Load(), r[1].Load(), r[2].Load(), r[3].Load(), r[4].Load()}
}

// Store sets the rates, one after the other: who uses them meanwhile is to look again.
func (r *SharedRates) Store(v Rates) {
	r[0].Store(v.Transport)
	r[1].Store(v.Step)
	r[2].Store(v.Growth)
	r[3].Store(v.Token)
	r[4].Store(v.Encode)
}
