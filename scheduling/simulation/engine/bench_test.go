package engine_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

// lengths draws from the published quantiles of ShareGPT (prompts and replies
// of at most 1024 tokens) by linear interpolation.
type lengths struct{ rng *rand.Rand }

var (
	quantiles = []float64{0, .10, .25, .50, .75, .90, .99, 1}
	prompts   = []float64{4, 13, 28, 109, 385, 714, 987, 1024}
	replies   = []float64{3, 14, 46, 144, 300, 564, 948, 1024}
)

func (l lengths) draw(values []float64) int {
	u, i := l.rng.Float64(), 1
	for u > quantiles[i] {
		i++
	}
	part := (u - quantiles[i-1]) / (quantiles[i] - quantiles[i-1])
	return int(math.Round(values[i-1] + part*(values[i]-values[i-1])))
}

// BenchmarkShareGPT is the cost of a request in an engine close to saturation,
// with about 250 sequences in the batch: what a simulation of a fleet pays for
// each request, apart from the decision.
//
//	go test -run xxx -bench ShareGPT -count 10 | benchstat -
func BenchmarkShareGPT(b *testing.B) {
	for _, quiet := range []bool{false, true} {
		b.Run(fmt.Sprintf("quiet=%t", quiet), func(b *testing.B) {
			b.ReportAllocs()
			// The calibration with room for 250 sequences; Llama-2 has room for 220.
			e := newEngine(b, engine.Config{Calibration: engine.Llama31H100(), Quiet: quiet})
			rng := lengths{rand.New(rand.NewPCG(1, 2))}
			var names []uint64 // hashes of all prompts: memory that is not the engine's
			for range 1 << 20 {
				names = append(names, rng.rng.Uint64())
			}
			id, now, here := uint64(0), time.Duration(0), 0
			steps, running, seen := 0, 0, 0
			step := func() {
				for here < 250 {
					r := engine.Request{ID: id, Prompt: rng.draw(prompts), Output: rng.draw(replies)}
					n := r.Prompt / engine.BlockTokens
					at := int(id*64) % (len(names) - n)
					r.Hashes = names[at : at+n : at+n]
					submit(b, e, r)
					id++
					here++
				}
				s, _ := e.Step(now)
				now += s.Duration
				for i := range s.Events {
					if s.Events[i].Last {
						here--
						seen++
					}
				}
				steps++
				running += s.Sequences
			}
			for seen < 2000 {
				step()
			}
			seen, steps, running = 0, 0, 0
			for b.Loop() {
				// One iteration is one request's worth of steps.
				for until := seen + 1; seen < until; {
					step()
				}
			}
			b.ReportMetric(b.Elapsed().Seconds()*1e6/float64(seen), "µs/request")
			b.ReportMetric(float64(running)/float64(steps), "sequences")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(running), "ns/token")
		})
	}
}
