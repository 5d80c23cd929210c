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
	for _, o := range own[1:] {
		o.workAt(speed)
		all.take(&o)
	}
	all.Gateways, all.Missing = len(own), missing
	return all
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
	s.OldestWait = max(s.OldestWait, o.OldestWait)
	for _, f := range [][2]*Figure{
		{&s.Backlog, &o.Backlog}, {&s.Arrivals, &o.Arrivals}, {&s.ArrivalTokens, &o.ArrivalTokens},
		{&s.ArrivalCompute, &o.ArrivalCompute}, {&s.ArrivalOutput, &o.ArrivalOutput}, {&s.ArrivalWork, &o.ArrivalWork}, {&s.RecentWork, &o.RecentWork},
		{&s.ServedWork, &o.ServedWork}, {&s.OutputTokens, &o.OutputTokens}, {&s.Refused, &o.Refused},
	} {
		*f[0] += *f[1]
	}
	s.WorkNoise = Figure(math.Hypot(float64(s.WorkNoise), float64(o.WorkNoise)))
	s.RecentNoise = Figure(math.Hypot(float64(s.RecentNoise), float64(o.RecentNoise)))
	// What all see alike is that of who sees it, and of several the larger.
	for _, f := range [][2]*Figure{
		{&s.KVUsed, &o.KVUsed}, {&s.Batch, &o.Batch}, {&s.Waiting, &o.Waiting}, {&s.Slots, &o.Slots}, {&s.KVTokens, &o.KVTokens}, {&s.Saturation, &o.Saturation},
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

// larger returns the larger of two figures, or that which is known.
func larger(a, b Figure) Figure {
	if !a.Known() || b.Known() && b > a {
		return b
	}
	return a
}

// together is what two gateways know of the times of requests: the larger quantile, as theirs together lies between.
func together(a, b Latency) Latency {
	switch {
	case a.N <= 0:
		return b
	case b.N <= 0:
		return a
	}
	n := float64(a.N + b.N)
	return Latency{
		P90:    larger(a.P90, b.P90),
		Target: Figure((float64(a.Target)*float64(a.N) + float64(b.Target)*float64(b.N)) / n),
		Met:    Figure((float64(a.Met)*float64(a.N) + float64(b.Met)*float64(b.N)) / n),
		N:      a.N + b.N,
	}
}
