package engine_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

// arrival is a request and when it is submitted.
type arrival struct {
	at time.Duration
	engine.Request
}

// record is what became of an arrival.
type record struct {
	arrival
	first, last time.Duration // when its first and last token left
	preempted   int
}

// play submits the arrivals, in order, when their time comes, steps until the
// engine is idle, and returns what became of each. IDs are indexes of arrivals.
func play(t testing.TB, e *engine.Engine, arrivals []arrival) []record {
	t.Helper()
	records := make([]record, len(arrivals))
	next := 0
	for now := time.Duration(0); ; {
		for ; next < len(arrivals) && arrivals[next].at <= now; next++ {
			r := arrivals[next]
			r.ID = uint64(next)
			records[next].arrival = r
			submit(t, e, r.Request)
		}
		step, ok := e.Step(now)
		if !ok {
			if next == len(arrivals) {
				return records
			}
			now = arrivals[next].at
			continue
		}
		now += step.Duration
		for _, ev := range step.Events {
			r := &records[ev.ID]
			switch {
			case ev.Kind == engine.Preempted:
				r.preempted++
				continue
			case ev.First:
				r.first = now
			}
			if ev.Last {
				r.last = now
			}
		}
	}
}

// poisson returns n arrivals of equal requests at the given rate per second.
func poisson(seed uint64, n int, rate float64, r engine.Request) []arrival {
	rng := rand.New(rand.NewPCG(seed, 9))
	arrivals := make([]arrival, n)
	at := 0.0
	for i := range arrivals {
		at += rng.ExpFloat64() / rate
		arrivals[i] = arrival{time.Duration(at * 1e9), r}
	}
	return arrivals
}

// mixed returns n arrivals of all kinds: lengths, shared prefixes, adapters.
func mixed(seed uint64, n int, rate float64) []arrival {
	rng := rand.New(rand.NewPCG(seed, 10))
	arrivals := poisson(seed, n, rate, engine.Request{})
	for i := range arrivals {
		r := &arrivals[i].Request
		r.Prompt, r.Output = 1+rng.IntN(300), 1+rng.IntN(80)
		r.Adapter = uint32(rng.IntN(5))
		r.Hashes = hashes(uint64(rng.IntN(6)), r.Prompt)
	}
	return arrivals
}
