package room

import (
	"math"
	"time"
)

// Pace is a rate of late: events a second, those of longer ago than 10 s hardly counting.
type Pace struct {
	n    float64 // events, decayed
	time float64 // seconds, decayed in the same way
	last time.Duration
}

const paceTime = 10.0 // seconds

// Add counts an event.
func (p *Pace) Add(now time.Duration) {
	if now-p.last >= time.Millisecond { // of two that come sooner the decay is nothing
		p.decay(now)
	}
	p.n++
}

func (p *Pace) decay(now time.Duration) {
	d := (now - p.last).Seconds()
	f := math.Exp(-d / paceTime)
	p.n *= f
	p.time = p.time*f + paceTime*(1-f)
	p.last = now
}

// Rate returns events a second, 0 if nothing is known yet.
func (p *Pace) Rate(now time.Duration) float64 {
	p.decay(now)
	if p.time < 0.1 {
		return 0
	}
	return p.n / p.time
}

// Recall makes it what it was in another run of the program, unless something is known.
func (p *Pace) Recall(rate float64, now time.Duration) {
	if p.n == 0 {
		p.n, p.time, p.last = rate*paceTime/2, paceTime/2, now
	}
}

// FirstTokens is how long first tokens take: mean and mean deviation, as TCP keeps those of
// round trips.
type FirstTokens struct{ mean, dev float64 } // seconds

// Learn takes a measurement.
func (f *FirstTokens) Learn(took time.Duration) {
	v := took.Seconds()
	if f.mean == 0 {
		f.mean, f.dev = v, v/2
		return
	}
	f.dev += 0.05 * (math.Abs(v-f.mean) - f.dev)
	f.mean += 0.02 * (v - f.mean)
}

// Expected is what nine in ten requests do not exceed; 0 if nothing is known yet.
func (f *FirstTokens) Expected() time.Duration {
	return time.Duration((f.mean + 2*f.dev) * float64(time.Second))
}

// Keep returns what is known, for Recall; 0: nothing.
func (f *FirstTokens) Keep() (mean, dev float64) { return f.mean, f.dev }

// Recall makes it what it was in another run of the program, unless something is known.
func (f *FirstTokens) Recall(mean, dev float64) {
	if f.mean == 0 {
		f.mean, f.dev = mean, dev
	}
}

// Presumed is after how long a request that will not tell of its first token is presumed to
// have had it.
func (f *FirstTokens) Presumed() time.Duration {
	return min(max(f.Expected(), presumedTTFT), maxPresumed)
}

// What detectors of a backlog keep is worked off in about the first. The second bounds what
// those say whose first tokens are seen.
const (
	presumedTTFT = 400 * time.Millisecond
	maxPresumed  = 5 * time.Second
)

// Part is which part of some things are of a kind, by what was seen of late.
type Part struct{ some, all float64 }

const partKept = 0.98 // of what was seen before, each time

// Of takes note that some of all are, and returns which part are; 0 while none were seen.
func (p *Part) Of(some, all float64) float64 {
	p.some = p.some*partKept + some
	p.all = p.all*partKept + all
	if p.all <= 0 {
		return 0
	}
	return min(p.some/p.all, 1)
}
