package autoscale

import (
	"math"

	"github.com/inferpick/inferpick/types"
)

// mergeSignals is Merge.
func mergeSignals(own []Signals, missing int) Signals {
	if len(own) == 0 {
		return Signals{Missing: missing}
	}
	speed := own[0].Speed
	for i := range own {
		if !speed.Known() {
			speed = own[i].Speed
		}
	}
	all := own[0]
	all.workAt(speed)
	worked := []Signals{all}
	for _, o := range own[1:] {
		o.workAt(speed)
		all.take(&o)
		worked = append(worked, o)
	}
	for _, of := range sums {
		*of(&all) = sum(worked, of)
	}
	all.Gateways, all.Missing = len(own), missing
	return all
}

// sums are the figures that add up.
var sums = []func(*Signals) *Figure{
	func(s *Signals) *Figure { return &s.Backlog },
	func(s *Signals) *Figure { return &s.Arrivals },
	func(s *Signals) *Figure { return &s.ArrivalTokens },
	func(s *Signals) *Figure { return &s.ArrivalCompute },
	func(s *Signals) *Figure { return &s.ArrivalOutput },
	func(s *Signals) *Figure { return &s.ArrivalWork },
	func(s *Signals) *Figure { return &s.RecentWork },
	func(s *Signals) *Figure { return &s.ServedWork },
	func(s *Signals) *Figure { return &s.OutputTokens },
	func(s *Signals) *Figure { return &s.Refused },
}

// sum is the sum of a figure. A gateway that does not know it is taken to have as much as those who do have in the mean:
// it is neither 0, nor does it keep the sum from being known.
func sum(all []Signals, of func(*Signals) *Figure) Figure {
	total, known := 0., 0
	for i := range all {
		if f := *of(&all[i]); f.Known() {
			total += float64(f)
			known++
		}
	}
	if known == 0 {
		return Unknown()
	}
	return Figure(total * float64(len(all)) / float64(known))
}

// workAt fills in what is not known in seconds, for a gateway that has not learned yet how fast servers are, by what
// another one has.
func (s *Signals) workAt(speed types.Speed) {
	if s.Speed.Known() || !speed.Known() {
		return
	}
	s.Speed = speed
	part := 1.
	if s.ArrivalTokens.Or(0) > 0 {
		part = s.ArrivalCompute.Or(0) / float64(s.ArrivalTokens)
	}
	s.Backlog = Figure((float64(s.PrefillTokens) + part*float64(s.QueuedTokens)) * speed.Token)
	s.ArrivalWork = Figure(s.ArrivalCompute.Or(0)*speed.Token + s.ArrivalOutput.Or(0)*speed.Sequence)
	s.RecentWork, s.WorkNoise, s.RecentNoise, s.ServedWork = s.ArrivalWork, 0, 0, 0
}

// take adds what another gateway knows.
func (s *Signals) take(o *Signals) {
	if o.At.After(s.At) {
		s.At = o.At
	}
	s.TTFT, s.TPOT = together(s.TTFT, o.TTFT), together(s.TPOT, o.TPOT)
	// What each has of its own adds up.
	s.Queued += o.Queued
	s.QueuedTokens += o.QueuedTokens
	s.Running += o.Running
	s.PrefillTokens += o.PrefillTokens
	s.ContextTokens += o.ContextTokens
	s.MaxWait = max(s.MaxWait, o.MaxWait)
	s.OldestWait = max(s.OldestWait, o.OldestWait)
	s.WorkNoise, s.RecentNoise = both(s.WorkNoise, o.WorkNoise), both(s.RecentNoise, o.RecentNoise)
	// What all see alike is that of who sees it, and of several the larger.
	for _, f := range [][2]*Figure{
		{&s.KVUsed, &o.KVUsed}, {&s.Batch, &o.Batch}, {&s.Waiting, &o.Waiting}, {&s.Slots, &o.Slots},
		{&s.KVTokens, &o.KVTokens}, {&s.Saturation, &o.Saturation}, {&s.Duration, &o.Duration},
	} {
		*f[0] = larger(*f[0], *f[1])
	}
	if o.Ready > s.Ready { // who knows of fewer replicas has not heard of them yet
		s.Variants = o.Variants
	}
	s.Ready, s.Starting = max(s.Ready, o.Ready), max(s.Starting, o.Starting)
	if s.Idle < 0 || o.Idle >= 0 && o.Idle < s.Idle {
		s.Idle = o.Idle
	}
}

// both is the standard error of a sum, by those of its parts, or that which is known.
func both(a, b Figure) Figure {
	switch {
	case !a.Known():
		return b
	case !b.Known():
		return a
	}
	return Figure(math.Hypot(float64(a), float64(b)))
}

// larger returns the larger of two figures, or that which is known.
func larger(a, b Figure) Figure {
	if !a.Known() || b.Known() && b > a {
		return b
	}
	return a
}

// together is what two gateways know of the times of requests: each counts by how many requests it has seen. That is
// exact for the mean target and for the part that met it. Of quantiles, which do not add up, it is the mean: it lies
// between, as theirs together does, and is theirs if they are alike; the larger of many that are alike would be too large.
func together(a, b Latency) Latency {
	switch {
	case a.N <= 0:
		return b
	case b.N <= 0:
		return a
	}
	n := float64(a.N + b.N)
	return Latency{
		P90:    mixed(a.P90, b.P90, float64(a.N)/n),
		Target: mixed(a.Target, b.Target, float64(a.N)/n),
		Met:    mixed(a.Met, b.Met, float64(a.N)/n),
		N:      a.N + b.N,
	}
}

// mixed is a part of a and the rest of b, or that which is known.
func mixed(a, b Figure, part float64) Figure {
	switch {
	case !a.Known():
		return b
	case !b.Known():
		return a
	}
	return a*Figure(part) + b*Figure(1-part)
}
