package engine_test

import (
	"math"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

// plain is a calibration with a fixed time per step and a time per token.
func plain(fixed, token float64) engine.Calibration {
	return engine.Calibration{Name: "plain", Fixed: fixed, PerToken: token, Blocks: 1 << 16}
}

// meanWait is the mean time between arrival and the beginning of the step that
// answers, for requests that need one step of length service.
func meanWait(records []record, service time.Duration) float64 {
	sum := 0.0
	for _, r := range records {
		sum += (r.last - r.at - service).Seconds()
	}
	return sum / float64(len(records))
}

// TestOneAtATimeIsMD1: with one sequence a step and one step a request, the
// engine is a queue with one server and equal services, whose mean wait
// Pollaczek and Khinchine gave.
func TestOneAtATimeIsMD1(t *testing.T) {
	const service = .010
	for _, load := range []float64{.3, .6, .8, .9} {
		e := newEngine(t, engine.Config{Calibration: plain(.004, .006/100), MaxSeqs: 1})
		records := play(t, e, poisson(1, 300_000, load/service, engine.Request{Prompt: 100, Output: 1}))
		got, want := meanWait(records, 10*time.Millisecond), load*service/(2*(1-load))
		if math.Abs(got/want-1) > .04 {
			t.Errorf("load %v: mean wait %.5f s, want %.5f s", load, got, want)
		}
	}
}

// TestBatchesAreGated: if the time of a step does not depend on what is in it,
// each step takes all that came during the one before. Those that came then
// (rate·step of them, per step) wait half a step on average; those that find the
// engine idle (after a step in which nobody came: exp(-rate·step)) do not wait.
func TestBatchesAreGated(t *testing.T) {
	const step = .010
	for _, rate := range []float64{10, 50, 100, 500, 2000} {
		e := newEngine(t, engine.Config{Calibration: plain(step, 0)})
		records := play(t, e, poisson(2, 200_000, rate, engine.Request{Prompt: 4, Output: 1}))
		perStep := rate * step
		got, want := meanWait(records, 10*time.Millisecond), step/2*perStep/(perStep+math.Exp(-perStep))
		if math.Abs(got/want-1) > .02 {
			t.Errorf("rate %v: mean wait %.5f s, want %.5f s", rate, got, want)
		}
	}
}

// fluidStep is the mean length of a step in a fleet without noise: the fixed
// point of the step-time formula with the batch that the rate (requests per
// second and engine) keeps in it. Whole prefills come in a step or do not, and the
// root is convex, so it is taken at the whole numbers around their mean.
func fluidStep(c engine.Calibration, rate, in, out float64) float64 {
	s := c.Fixed
	for range 1000 {
		prefills, decodes := rate*s, rate*s*(out-1)
		few, part := math.Modf(prefills)
		linear := func(n float64) float64 { return math.Hypot(c.WeightFloor, c.PerToken*(n*in+decodes)) }
		s = c.Fixed + c.PerSequence*(prefills+decodes) +
			(1-part)*linear(few) + part*linear(few+1) +
			c.PerContextToken*decodes*(in+out/2) +
			c.PrefillAttention*prefills*in*in/2
	}
	return s
}

// TestFluid: a round robin over several engines, equal requests at equal
// distances, comes to the fixed point.
func TestFluid(t *testing.T) {
	const engines = 4
	for _, tt := range []struct {
		c       engine.Calibration
		rate    float64 // of one engine
		in, out int
	}{
		{engine.Llama2H100(), 5, 250, 225},
		{engine.Llama2H100(), 20, 250, 225},
		{engine.Llama31H100(), 40, 64, 300},
		{engine.Llama31H100(), 60, 32, 200},
		{engine.Qwen3H100x2(), 10, 128, 256},
	} {
		fleet := make([][]arrival, engines)
		gap := time.Duration(1e9 / (tt.rate * engines))
		n := int(tt.rate * engines * 120)
		for i := range n {
			fleet[i%engines] = append(fleet[i%engines], arrival{time.Duration(i) * gap, engine.Request{Prompt: tt.in, Output: tt.out}})
		}
		sum, count := 0.0, 0
		for _, arrivals := range fleet {
			for _, r := range play(t, newEngine(t, engine.Config{Calibration: tt.c}), arrivals) {
				if r.at > 40*time.Second && r.at < 100*time.Second {
					sum += (r.last - r.first).Seconds() / float64(tt.out-1)
					count++
				}
			}
		}
		got, want := sum/float64(count), fluidStep(tt.c, tt.rate, float64(tt.in), float64(tt.out))
		if math.Abs(got/want-1) > .02 {
			t.Errorf("%s at %v/s, %d in, %d out: a token each %.3f ms, want %.3f ms", tt.c.Name, tt.rate, tt.in, tt.out, 1e3*got, 1e3*want)
		}
	}
}

// TestSustainedCapacity: as many sequences as the KV cache has room for run
// side by side to their end and nobody is preempted; with one more at a time,
// somebody is.
func TestSustainedCapacity(t *testing.T) {
	for _, tt := range []struct{ blocks, in, out int }{{320, 128, 33}, {1000, 250, 225}, {64, 16, 240}} {
		most := tt.blocks / ((tt.in + tt.out - 1 + engine.BlockTokens - 1) / engine.BlockTokens)
		for _, over := range []int{0, 1} {
			e := newEngine(t, engine.Config{Blocks: tt.blocks, MaxBatchedTokens: 1 << 20})
			arrivals := make([]arrival, most+over)
			for i := range arrivals {
				arrivals[i].Request = engine.Request{Prompt: tt.in, Output: tt.out}
			}
			play(t, e, arrivals)
			if m := e.Metrics(time.Hour); over == 0 && m.Preemptions != 0 || over == 1 && m.Preemptions == 0 && m.Steps == uint64(tt.out) {
				t.Errorf("%+v: %d sequences, %d preemptions in %d steps", tt, most+over, m.Preemptions, m.Steps)
			}
		}
	}
}
