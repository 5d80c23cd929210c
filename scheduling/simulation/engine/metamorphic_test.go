package engine_test

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

// tight is a configuration in which memory, budget, sequences and slots bind.
func tight() engine.Config {
	return engine.Config{Blocks: 60, MaxSeqs: 12, MaxBatchedTokens: 128, MaxLoRAs: 2}
}

// TestTimesScale: k times the time for everything and k times the distance
// between arrivals gives k times each latency.
func TestTimesScale(t *testing.T) {
	const k = 7
	c := engine.Llama2H100()
	slow := c
	for _, f := range []*float64{
		&slow.Fixed, &slow.PerSequence, &slow.WeightFloor, &slow.PerToken, &slow.PerContextToken,
		&slow.PrefillAttention, &slow.AdapterToGPU, &slow.AdapterToHost,
	} {
		*f *= k
	}
	for seed := range uint64(5) {
		cfg, slowCfg := tight(), tight()
		cfg.Calibration, slowCfg.Calibration = c, slow
		arrivals := mixed(seed, 500, 20)
		later := slices.Clone(arrivals)
		for i := range later {
			later[i].at *= k
		}
		one, other := play(t, newEngine(t, cfg), arrivals), play(t, newEngine(t, slowCfg), later)
		for i := range one {
			a, b := one[i], other[i]
			if (k*a.first-b.first).Abs() > 100*time.Microsecond || (k*a.last-b.last).Abs() > 100*time.Microsecond || a.preempted != b.preempted {
				t.Fatalf("seed %d, request %d: %v to %v, %d times slower %v to %v", seed, i, a.first, a.last, k, b.first, b.last)
			}
		}
	}
}

// TestQuietChangesEventsOnly: the events of a quiet engine are those of a loud
// one without the tokens in between, and all else is equal, step by step.
func TestQuietChangesEventsOnly(t *testing.T) {
	for seed := range uint64(5) {
		cfg := tight()
		loud := newEngine(t, cfg)
		cfg.Quiet = true
		quiet := newEngine(t, cfg)
		arrivals := mixed(seed, 300, 30)
		for now, next := time.Duration(0), 0; ; {
			for ; next < len(arrivals) && arrivals[next].at <= now; next++ {
				arrivals[next].ID = uint64(next)
				submit(t, loud, arrivals[next].Request)
				submit(t, quiet, arrivals[next].Request)
			}
			a, ok := loud.Step(now)
			b, _ := quiet.Step(now)
			want := slices.DeleteFunc(slices.Clone(a.Events), func(ev engine.Event) bool {
				return ev.Kind == engine.Token && !ev.First && !ev.Last
			})
			if !slices.Equal(want, b.Events) || a.Duration != b.Duration || a.Sequences != b.Sequences || a.Tokens != b.Tokens {
				t.Fatalf("seed %d at %v: loud %+v, quiet %+v", seed, now, a, b)
			}
			if x, y := loud.Metrics(now+a.Duration), quiet.Metrics(now+a.Duration); !reflect.DeepEqual(x, y) {
				t.Fatalf("seed %d at %v: metrics loud %+v, quiet %+v", seed, now, x, y)
			}
			if ok {
				now += a.Duration
			} else if next < len(arrivals) {
				now = arrivals[next].at
			} else {
				break
			}
		}
	}
}

// TestNamesDoNotMatter: other IDs, hashes and numbers of adapters for the same
// things give the same times.
func TestNamesDoNotMatter(t *testing.T) {
	arrivals := mixed(3, 500, 20)
	renamed := slices.Clone(arrivals)
	for i := range renamed {
		r := &renamed[i].Request
		if r.Adapter != 0 {
			r.Adapter = 1000 - r.Adapter
		}
		r.Hashes = slices.Clone(r.Hashes)
		for j := range r.Hashes {
			r.Hashes[j] = r.Hashes[j]*0x9e3779b97f4a7c15 + 12345
		}
	}
	one, other := play(t, newEngine(t, tight()), arrivals), play(t, newEngine(t, tight()), renamed)
	for i := range one {
		if one[i].first != other[i].first || one[i].last != other[i].last {
			t.Fatalf("request %d: %v to %v, renamed %v to %v", i, one[i].first, one[i].last, other[i].first, other[i].last)
		}
	}
}

// TestMoreMemoryNeverHitsLessInARow is the stack property of LRU with decodes
// and conversations: each prompt is the one before and its answer.
func TestMoreMemoryNeverHitsLessInARow(t *testing.T) {
	run := func(blocks int) (hits uint64) {
		e := newEngine(t, engine.Config{Blocks: blocks})
		rng := rand.New(rand.NewPCG(4, 5))
		lengths := make([]int, 12)
		for id := range uint64(600) {
			who := rng.IntN(len(lengths))
			if lengths[who] > 500 {
				lengths[who] = 0
			}
			lengths[who] += 16 * (1 + rng.IntN(6))
			out := 16 * (1 + rng.IntN(3))
			h := hashes(uint64(who), lengths[who]+out)
			submit(t, e, engine.Request{ID: id, Prompt: lengths[who] + 1, Output: out, Hashes: h})
			drain(t, e)
			lengths[who] += out
		}
		return e.Metrics(1 << 62).HitTokens
	}
	before := uint64(0)
	for _, blocks := range []int{48, 64, 96, 128, 192, 256, 512} {
		hits := run(blocks)
		if hits < before {
			t.Errorf("%d blocks: %d tokens hit, %d with less memory", blocks, hits, before)
		}
		before = hits
	}
}

// TestSpeedIsCapacity: a machine twice as fast answers a trace that arrives
// twice as fast in half of the time.
func TestSpeedIsCapacity(t *testing.T) {
	cfg, fast := tight(), tight()
	cfg.Calibration, fast.Calibration = engine.Llama2H100(), engine.Llama2H100()
	fast.Calibration.Speed = 2
	arrivals := mixed(6, 400, 20)
	sooner := slices.Clone(arrivals)
	for i := range sooner {
		sooner[i].at /= 2
	}
	one, other := play(t, newEngine(t, cfg), arrivals), play(t, newEngine(t, fast), sooner)
	for i := range one {
		if (one[i].last - 2*other[i].last).Abs() > 100*time.Microsecond {
			t.Fatalf("request %d: ended at %v, twice as fast at %v", i, one[i].last, other[i].last)
		}
	}
}
