package engine_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/stretchr/testify/require"
)

// hashes returns block hashes of a sequence of n tokens that follows no other.
func hashes(name uint64, n int) []uint64 {
	h := make([]uint64, n/engine.BlockTokens)
	for i := range h {
		h[i] = name<<32 + uint64(i) + 1
	}
	return h
}

func newEngine(t testing.TB, cfg engine.Config) *engine.Engine {
	t.Helper()
	e, err := engine.New(cfg)
	require.NoError(t, err, "New(%+v)", cfg)
	return e
}

func submit(t testing.TB, e *engine.Engine, requests ...engine.Request) {
	t.Helper()
	for _, r := range requests {
		require.NoError(t, e.Submit(r), "Submit(%d)", r.ID)
	}
}

// timed is an event and the end of its step.
type timed struct {
	engine.Event
	at time.Duration
}

// drain steps until the engine is idle, checks it after each step and returns
// what happened.
func drain(t testing.TB, e *engine.Engine) (log []timed) {
	t.Helper()
	for now := time.Duration(0); ; {
		step, ok := e.Step(now)
		require.NoError(t, e.Check())
		if !ok {
			return log
		}
		now += step.Duration
		for _, ev := range step.Events {
			log = append(log, timed{ev, now})
		}
	}
}

// seconds is the formula in floating point, for a step without adapters.
func seconds(c engine.Calibration, sequences, tokens int, context, pairs float64) time.Duration {
	s := c.Fixed + c.PerSequence*float64(sequences) + math.Hypot(c.WeightFloor, c.PerToken*float64(tokens)) +
		c.PerContextToken*context + c.PrefillAttention*pairs
	return time.Duration(s * 1e9)
}

func near(got, want time.Duration) bool { return (got - want).Abs() <= 5*time.Nanosecond }

func TestOneRequestAlone(t *testing.T) {
	for _, c := range engine.Calibrations() {
		t.Run(c.Name, func(t *testing.T) {
			const in, out = 1000, 20
			e := newEngine(t, engine.Config{Calibration: c})
			submit(t, e, engine.Request{ID: 7, Prompt: in, Output: out})
			log := drain(t, e)
			if len(log) != out {
				t.Fatalf("%d events, want %d tokens", len(log), out)
			}
			if want := seconds(c, 1, in, 0, in*in/2); !near(log[0].at, want) || !log[0].First {
				t.Errorf("first event %+v at %v, want the first token at %v", log[0].Event, log[0].at, want)
			}
			for i := 1; i < out; i++ {
				got, want := log[i].at-log[i-1].at, seconds(c, 1, 1, float64(in+i), 0)
				if !near(got, want) || log[i].First || log[i].Last != (i == out-1) || log[i].Generated != i+1 {
					t.Errorf("event %d: %+v after %v, want after %v", i, log[i].Event, got, want)
				}
			}
		})
	}
}

func TestLongPromptIsChunked(t *testing.T) {
	c := engine.Llama31H100()
	e := newEngine(t, engine.Config{Calibration: c, MaxBatchedTokens: 2048})
	submit(t, e, engine.Request{ID: 1, Prompt: 5000, Output: 1})
	want := seconds(c, 1, 2048, 0, 2048*1024) +
		seconds(c, 1, 2048, 0, 2048*(2048+1024)) +
		seconds(c, 1, 904, 0, 904*(4096+452))
	if log := drain(t, e); len(log) != 1 || !near(log[0].at, want) || !log[0].First || !log[0].Last {
		t.Errorf("events %+v, want one token at %v", log, want)
	}
}

func TestPublishedAnchors(t *testing.T) {
	prefill := func(c engine.Calibration, in int) time.Duration {
		e := newEngine(t, engine.Config{Calibration: c})
		submit(t, e, engine.Request{ID: 1, Prompt: in, Output: 1})
		return drain(t, e)[0].at
	}
	interToken := func(c engine.Calibration) time.Duration {
		e := newEngine(t, engine.Config{Calibration: c})
		submit(t, e, engine.Request{ID: 1, Prompt: 100, Output: 11})
		log := drain(t, e)
		return (log[10].at - log[0].at) / 10
	}
	for _, tt := range []struct {
		name      string
		got, want time.Duration
		tolerance float64
	}{
		{"Qwen3-32B TP2, prefill of 8192", prefill(engine.Qwen3H100x2(), 8192), 400 * time.Millisecond, .05},
		{"Llama-2-7B, inter-token", interToken(engine.Llama2H100()), 6500 * time.Microsecond, .15},
		{"Llama-3.1-8B, inter-token", interToken(engine.Llama31H100()), 6900 * time.Microsecond, .15},
		{"70B TP4, inter-token", interToken(engine.Llama70H100x4()), 16700 * time.Microsecond, .15},
	} {
		if off := math.Abs(tt.got.Seconds()/tt.want.Seconds() - 1); off > tt.tolerance {
			t.Errorf("%s: %v, published %v", tt.name, tt.got, tt.want)
		}
	}
}

func TestSpeedScalesEverything(t *testing.T) {
	run := func(speed float64) []timed {
		c := engine.Llama2H100()
		c.Speed = speed
		e := newEngine(t, engine.Config{Calibration: c})
		for i := range uint64(20) {
			submit(t, e, engine.Request{ID: i, Prompt: 100 + int(i), Output: 10, Adapter: uint32(i % 3)})
		}
		return drain(t, e)
	}
	slow, fast := run(1), run(4)
	for i := range slow {
		if slow[i].Event != fast[i].Event || (slow[i].at-4*fast[i].at).Abs() > time.Microsecond {
			t.Fatalf("event %d: %+v at %v, four times as fast %+v at %v", i, slow[i].Event, slow[i].at, fast[i].Event, fast[i].at)
		}
	}
}

func TestSecondIdenticalPromptHits(t *testing.T) {
	for _, in := range []int{1, 15, 16, 17, 32, 33, 1000, 1024, 1025, 20000} {
		e := newEngine(t, engine.Config{})
		h := hashes(1, in)
		submit(t, e, engine.Request{ID: 1, Prompt: in, Output: 2, Hashes: h})
		drain(t, e)
		submit(t, e, engine.Request{ID: 2, Prompt: in, Output: 2, Hashes: h})
		log := drain(t, e)
		if want := (in - 1) / 16 * 16; log[0].Cached != want {
			t.Errorf("prompt of %d tokens: %d cached the second time, want %d", in, log[0].Cached, want)
		}
		m := e.Metrics(time.Hour)
		if m.QueriedTokens != uint64(2*in) || m.HitTokens != uint64(log[0].Cached) {
			t.Errorf("prompt of %d tokens: %d of %d queried tokens hit, want %d of %d", in, m.HitTokens, m.QueriedTokens, log[0].Cached, 2*in)
		}
	}
}

func TestHits(t *testing.T) {
	prompt := hashes(1, 320)
	forked := slices.Concat(prompt[:10], hashes(2, 160))
	for _, tt := range []struct {
		name string
		cfg  engine.Config
		next engine.Request
		want int
	}{
		{"shared head", engine.Config{}, engine.Request{Prompt: 320, Hashes: forked}, 160},
		{"no hashes", engine.Config{}, engine.Request{Prompt: 320}, 0},
		{"first block differs", engine.Config{}, engine.Request{Prompt: 320, Hashes: hashes(3, 320)}, 0},
		{"other adapter", engine.Config{}, engine.Request{Prompt: 320, Hashes: prompt, Adapter: 1}, 0},
		{"output of the first", engine.Config{}, engine.Request{Prompt: 400, Hashes: hashes(1, 400)}, 352},
		{"caching off", engine.Config{NoPrefixCache: true}, engine.Request{Prompt: 320, Hashes: prompt}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEngine(t, tt.cfg)
			// 320 + 33 tokens, of which the last is not fed back: 22 full blocks.
			submit(t, e, engine.Request{ID: 1, Prompt: 320, Output: 33, Hashes: hashes(1, 353)})
			drain(t, e)
			tt.next.ID, tt.next.Output = 2, 1
			submit(t, e, tt.next)
			if log := drain(t, e); log[0].Cached != tt.want {
				t.Errorf("%d tokens cached, want %d", log[0].Cached, tt.want)
			}
		})
	}
}

func TestHitWithinOneStep(t *testing.T) {
	e := newEngine(t, engine.Config{})
	h := hashes(1, 160)
	submit(t, e,
		engine.Request{ID: 1, Prompt: 160, Output: 1, Hashes: h},
		engine.Request{ID: 2, Prompt: 160, Output: 1, Hashes: h})
	step, _ := e.Step(0)
	if len(step.Events) != 2 || step.Events[1].Cached != 144 || step.Tokens != 176 {
		t.Errorf("step %+v: want 176 tokens, the second request with 144 cached", step)
	}
}

func TestEviction(t *testing.T) {
	// Room for 20 blocks. A and B hold 8 each, then C needs 8: the 4 that were
	// never used and the tail of A go, in that order.
	e := newEngine(t, engine.Config{Blocks: 20})
	a, b, c := hashes(1, 128), hashes(2, 128), hashes(3, 128)
	for i, h := range [][]uint64{a, b, c} {
		submit(t, e, engine.Request{ID: uint64(i), Prompt: 128, Output: 1, Hashes: h})
		drain(t, e)
	}
	for _, tt := range []struct {
		name string
		h    []uint64
		want int
	}{{"a", a, 4}, {"b", b, 8}, {"c", c, 8}} {
		require.Equal(t, tt.want, e.Cached(tt.h, 0), "Cached(%s) blocks", tt.name)
	}
}

func TestCapacity(t *testing.T) {
	for _, tt := range []struct{ blocks, in, out int }{{100, 33, 16}, {99, 33, 16}, {1000, 145, 16}, {7, 112, 1}} {
		e := newEngine(t, engine.Config{Blocks: tt.blocks, MaxBatchedTokens: 1 << 20})
		for i := range uint64(tt.blocks) {
			submit(t, e, engine.Request{ID: i, Prompt: tt.in, Output: tt.out})
		}
		step, _ := e.Step(0)
		if want := tt.blocks * 16 / (tt.in + tt.out - 1); step.Sequences != want {
			t.Errorf("%+v: %d sequences in the first step, want %d", tt, step.Sequences, want)
		}
		drain(t, e)
		if m := e.Metrics(time.Hour); m.Preemptions != 0 || m.Finished != uint64(tt.blocks) || m.FreeBlocks != tt.blocks || m.KVUsage() != 0 {
			t.Errorf("%+v: at the end %+v", tt, m)
		}
	}
}

func TestFirstComeFirstServed(t *testing.T) {
	e := newEngine(t, engine.Config{MaxSeqs: 3})
	for i := range uint64(10) {
		submit(t, e, engine.Request{ID: i, Prompt: 50, Output: 5})
	}
	var first []uint64
	for _, ev := range drain(t, e) {
		if ev.First {
			first = append(first, ev.ID)
		}
	}
	if !slices.IsSorted(first) || len(first) != 10 {
		t.Errorf("first tokens in the order %v", first)
	}
}

func TestMemoryBlocksTheQueue(t *testing.T) {
	e := newEngine(t, engine.Config{Blocks: 10})
	submit(t, e,
		engine.Request{ID: 1, Prompt: 100, Output: 5}, // 7 blocks
		engine.Request{ID: 2, Prompt: 100, Output: 5}, // does not fit yet
		engine.Request{ID: 3, Prompt: 10, Output: 5})  // would, and must wait its turn
	step, _ := e.Step(0)
	require.Equal(t, 1, step.Sequences, "sequences in the first step")
	if m := e.Metrics(time.Hour); m.Running != 1 || m.Waiting != 2 {
		t.Errorf("%d running, %d waiting, want 1 and 2", m.Running, m.Waiting)
	}
}

func TestWholePromptMustFit(t *testing.T) {
	for _, must := range []bool{false, true} {
		e := newEngine(t, engine.Config{Blocks: 10, MaxBatchedTokens: 64, WholePromptMustFit: must})
		submit(t, e, engine.Request{ID: 1, Prompt: 48, Output: 40}, engine.Request{ID: 2, Prompt: 128, Output: 5})
		step, _ := e.Step(0)
		if want := map[bool]int{false: 2, true: 1}[must]; step.Sequences != want {
			t.Errorf("WholePromptMustFit %t: %d sequences, want %d", must, step.Sequences, want)
		}
		drain(t, e)
	}
}

func TestPreemption(t *testing.T) {
	// Two sequences of 4 blocks that grow to 6 do not fit into 10 together.
	e := newEngine(t, engine.Config{Blocks: 10})
	submit(t, e,
		engine.Request{ID: 1, Prompt: 64, Output: 33},
		engine.Request{ID: 2, Prompt: 64, Output: 33},
		engine.Request{ID: 3, Prompt: 64, Output: 33})
	var ended []uint64
	tokens := map[uint64]int{}
	for _, ev := range drain(t, e) {
		switch {
		case ev.Kind == engine.Preempted:
			if ev.ID == 1 {
				t.Errorf("request 1 was preempted: want the last one admitted")
			}
		default:
			tokens[ev.ID]++
			if tokens[ev.ID] != ev.Generated {
				t.Errorf("request %d: token %d is told to be %d", ev.ID, tokens[ev.ID], ev.Generated)
			}
			if ev.Last {
				ended = append(ended, ev.ID)
			}
		}
	}
	if !slices.Equal(ended, []uint64{1, 2, 3}) {
		t.Errorf("ended in the order %v: the preempted one has to come before those behind it", ended)
	}
	if m := e.Metrics(time.Hour); m.Preemptions == 0 || m.GeneratedTokens != 99 {
		t.Errorf("%d preemptions, %d tokens: want some, and 99", m.Preemptions, m.GeneratedTokens)
	}
}

func TestPreemptedReturnsToTheHead(t *testing.T) {
	e := newEngine(t, engine.Config{Blocks: 10})
	submit(t, e, engine.Request{ID: 1, Prompt: 64, Output: 33}, engine.Request{ID: 2, Prompt: 64, Output: 33})
	for now := time.Duration(0); e.Metrics(now).Preemptions == 0; {
		if now == 0 {
			submit(t, e, engine.Request{ID: 3, Prompt: 64, Output: 1})
		}
		step, ok := e.Step(now)
		require.True(t, ok, "idle and nothing preempted")
		now += step.Duration
	}
	for _, ev := range drain(t, e) {
		if ev.ID == 2 && ev.Kind == engine.Token {
			return
		}
		if ev.ID == 3 {
			t.Fatal("request 3 overtook the preempted one")
		}
	}
}

func TestAdapters(t *testing.T) {
	c := engine.Llama31H100()
	e := newEngine(t, engine.Config{Calibration: c, MaxLoRAs: 1, MaxHostLoRAs: 2})
	// All three start cold; the second adapter has no slot until the first is
	// done, and does not hold up the base model behind it.
	submit(t, e,
		engine.Request{ID: 1, Prompt: 10, Output: 2, Adapter: 1},
		engine.Request{ID: 2, Prompt: 10, Output: 2, Adapter: 2},
		engine.Request{ID: 3, Prompt: 10, Output: 2})
	step, _ := e.Step(0)
	base := seconds(c, 2, 20, 0, 100)
	want := time.Duration(float64(base)*(1+c.AdapterFactor)) + 280*time.Millisecond
	if !near(step.Duration, want) || step.Sequences != 2 {
		t.Errorf("first step: %d sequences in %v, want 2 in %v", step.Sequences, step.Duration, want)
	}
	m := e.Metrics(step.Duration)
	if !slices.Equal(m.RunningAdapters, []uint32{1}) || !slices.Equal(m.WaitingAdapters, []uint32{2}) {
		t.Errorf("adapters running %v, waiting %v, want [1] and [2]", m.RunningAdapters, m.WaitingAdapters)
	}
	drain(t, e)
	if m := e.Metrics(time.Hour); len(m.RunningAdapters)+len(m.WaitingAdapters) != 0 {
		t.Errorf("idle: adapters running %v, waiting %v", m.RunningAdapters, m.WaitingAdapters)
	}

	for _, tt := range []struct {
		adapter uint32
		load    time.Duration
	}{
		{2, 0},                      // still in its slot
		{1, 30 * time.Millisecond},  // in host memory
		{3, 280 * time.Millisecond}, // pushes 2 out of host memory
		{1, 30 * time.Millisecond},
		{2, 280 * time.Millisecond},
	} {
		submit(t, e, engine.Request{ID: 9, Prompt: 10, Output: 1, Adapter: tt.adapter})
		step, _ := e.Step(0)
		want := time.Duration(float64(seconds(c, 1, 10, 0, 50))*(1+c.AdapterFactor)) + tt.load
		if !near(step.Duration, want) {
			t.Errorf("adapter %d: a step of %v, want %v", tt.adapter, step.Duration, want)
		}
	}
}

func TestMetricsLag(t *testing.T) {
	e := newEngine(t, engine.Config{})
	submit(t, e, engine.Request{ID: 1, Prompt: 100, Output: 3})
	first, _ := e.Step(0)
	if m := e.Metrics(first.Duration - 1); m.Running != 0 || m.GeneratedTokens != 0 {
		t.Errorf("during the first step: %+v, want nothing to be seen", m)
	}
	submit(t, e, engine.Request{ID: 2, Prompt: 100, Output: 3})
	if m := e.Metrics(first.Duration); m.Running != 1 || m.Waiting != 0 || m.GeneratedTokens != 1 || m.FreeBlocks != m.Blocks-7 {
		t.Errorf("after the first step: %+v", m)
	}
	second, _ := e.Step(first.Duration)
	if m := e.Metrics(first.Duration + second.Duration - 1); m.Running != 1 {
		t.Errorf("during the second step: %d running, want 1", m.Running)
	}
	if m := e.Metrics(first.Duration + second.Duration); m.Running != 2 {
		t.Errorf("after the second step: %d running, want 2", m.Running)
	}
}

func TestCancel(t *testing.T) {
	e := newEngine(t, engine.Config{MaxSeqs: 1})
	submit(t, e, engine.Request{ID: 1, Prompt: 100, Output: 30, Adapter: 5}, engine.Request{ID: 2, Prompt: 100, Output: 30, Adapter: 6})
	e.Step(0)
	submit(t, e, engine.Request{ID: 3, Prompt: 100, Output: 30})
	for _, id := range []uint64{1, 2, 3} { // running, waiting, arriving
		if !e.Cancel(id) {
			t.Errorf("Cancel(%d) = false", id)
		}
		require.NoError(t, e.Check(), "after Cancel(%d)", id)
		if e.Cancel(id) {
			t.Errorf("Cancel(%d) = true the second time", id)
		}
	}
	if _, ok := e.Step(time.Second); ok {
		t.Error("a step with nothing to do")
	}
	if m := e.Metrics(time.Hour); m.Running+m.Waiting != 0 || m.FreeBlocks != m.Blocks || m.Cancelled != 3 || len(m.RunningAdapters) != 0 {
		t.Errorf("all cancelled: %+v", m)
	}
}

func TestSubmitErrors(t *testing.T) {
	e := newEngine(t, engine.Config{Blocks: 10})
	submit(t, e, engine.Request{ID: 1, Prompt: 1, Output: 160}) // exactly fits
	for _, tt := range []struct {
		name string
		r    engine.Request
		want error
	}{
		{"no prompt", engine.Request{ID: 2, Output: 1}, engine.ErrInvalid},
		{"no output", engine.Request{ID: 2, Prompt: 1}, engine.ErrInvalid},
		{"ID in use", engine.Request{ID: 1, Prompt: 1, Output: 1}, engine.ErrInvalid},
		{"too long", engine.Request{ID: 2, Prompt: 1, Output: 161}, engine.ErrTooLong},
	} {
		if err := e.Submit(tt.r); !errors.Is(err, tt.want) {
			t.Errorf("%s: Submit = %v, want %v", tt.name, err, tt.want)
		}
	}
	if log := drain(t, e); len(log) != 160 {
		t.Errorf("%d tokens, want 160", len(log))
	}
}

func TestNewErrors(t *testing.T) {
	slow := engine.Llama2H100()
	slow.Speed = -1
	for _, cfg := range []engine.Config{
		{Blocks: -1}, {MaxSeqs: -1}, {MaxBatchedTokens: -1}, {MaxLoRAs: -1}, {MaxLoRAs: 4, MaxHostLoRAs: 3}, {Calibration: slow},
		{Calibration: engine.Calibration{Name: "no blocks", Fixed: 1}}, {Noise: engine.Noise{Spread: 3}},
	} {
		if _, err := engine.New(cfg); err == nil {
			t.Errorf("New(%+v) = nil error", cfg)
		}
	}
}

// TestMoreMemoryNeverHitsLess is the stack property of LRU.
func TestMoreMemoryNeverHitsLess(t *testing.T) {
	run := func(blocks int) uint64 {
		e := newEngine(t, engine.Config{Blocks: blocks})
		rng := rand.New(rand.NewPCG(1, 2))
		for id := range uint64(400) {
			group := uint64(rng.IntN(30))
			submit(t, e, engine.Request{ID: id, Prompt: 16*(1+rng.IntN(15)) + 1, Output: 1, Hashes: hashes(group, 16*15)})
			drain(t, e)
		}
		return e.Metrics(time.Hour).HitTokens
	}
	before := uint64(0)
	for _, blocks := range []int{16, 32, 64, 128, 256, 512} {
		hits := run(blocks)
		if hits < before {
			t.Errorf("%d blocks: %d tokens hit, %d with half of the memory", blocks, hits, before)
		}
		before = hits
	}
}

// traffic runs a random workload in which everything happens: shared
// prefixes, adapters, chunks, preemptions, cancellations.
func traffic(t testing.TB, seed uint64, cfg engine.Config) []timed {
	e := newEngine(t, cfg)
	rng := rand.New(rand.NewPCG(seed, 3))
	var log []timed
	want := map[uint64]int{} // tokens still to come, of requests not cancelled
	now := time.Duration(0)
	for id := uint64(0); id < 300 || len(want) > 0; {
		for range rng.IntN(4) {
			if id >= 300 {
				break
			}
			r := engine.Request{ID: id, Prompt: 1 + rng.IntN(200), Output: 1 + rng.IntN(60), Adapter: uint32(rng.IntN(6))}
			r.Hashes = hashes(uint64(rng.IntN(8)), r.Prompt)
			if err := e.Submit(r); err == nil {
				want[id] = r.Output
			} else if !errors.Is(err, engine.ErrTooLong) {
				t.Fatal(err)
			}
			id++
		}
		if victim := rng.Uint64N(300); rng.IntN(8) == 0 && e.Cancel(victim) {
			delete(want, victim)
		}
		step, ok := e.Step(now)
		require.NoError(t, e.Check(), "seed %d, request %d", seed, id)
		if !ok {
			now += time.Millisecond
			continue
		}
		now += step.Duration
		for _, ev := range step.Events {
			log = append(log, timed{ev, now})
			if ev.Kind != engine.Token {
				continue
			}
			want[ev.ID]--
			if (want[ev.ID] == 0) != ev.Last || want[ev.ID] < 0 {
				t.Fatalf("seed %d: %+v with %d tokens to come", seed, ev, want[ev.ID])
			}
			if ev.Last {
				delete(want, ev.ID)
			}
		}
	}
	return log
}

func TestTrafficIsDeterministic(t *testing.T) {
	for seed := range uint64(4) {
		cfg := engine.Config{Blocks: 60, MaxSeqs: 12, MaxBatchedTokens: 128, MaxLoRAs: 2}
		one, two := traffic(t, seed, cfg), traffic(t, seed, cfg)
		if !reflect.DeepEqual(one, two) {
			t.Errorf("seed %d: two runs differ", seed)
		}
	}
}

func FuzzTraffic(f *testing.F) {
	f.Add(uint64(1), uint8(60), uint8(12), uint8(128), uint8(2), false)
	f.Add(uint64(2), uint8(17), uint8(255), uint8(16), uint8(1), true)
	f.Fuzz(func(t *testing.T, seed uint64, blocks, seqs, tokens, loras uint8, whole bool) {
		traffic(t, seed, engine.Config{
			Blocks: int(blocks), MaxSeqs: int(seqs), MaxBatchedTokens: int(tokens), MaxLoRAs: int(loras), WholePromptMustFit: whole,
		})
	})
}

func TestStepAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	e := newEngine(t, engine.Config{})
	for i := range uint64(64) {
		submit(t, e, engine.Request{ID: i, Prompt: 100, Output: 10000, Adapter: uint32(i % 3)})
	}
	for range 50 {
		e.Step(0)
	}
	if got := testing.AllocsPerRun(100, func() { e.Step(0) }); got > 0.5 {
		t.Errorf("%v allocations in a step of decodes, want 0", got)
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, sequences := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("sequences=%d", sequences), func(b *testing.B) {
			b.ReportAllocs()
			e := newEngine(b, engine.Config{})
			id, tokens := uint64(0), 0
			for b.Loop() {
				for int(id)-int(e.Metrics(1<<62).Finished) < sequences {
					submit(b, e, engine.Request{ID: id, Prompt: 256, Output: 250, Hashes: hashes(id, 256)})
					id++
				}
				step, _ := e.Step(0)
				tokens += len(step.Events)
			}
			b.ReportMetric(float64(tokens)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}
