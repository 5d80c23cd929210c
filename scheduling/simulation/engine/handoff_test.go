package engine_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/stretchr/testify/require"
)

// empty asserts that an engine has nothing of anyone.
func empty(t *testing.T, e *engine.Engine) {
	t.Helper()
	require.NoError(t, e.Check())
	_, ok := e.Step(1 << 60)
	require.False(t, ok)
	m := e.Metrics(1 << 62)
	require.Zero(t, m.Running+m.Waiting+m.Receiving+m.PinnedBlocks)
	require.Equal(t, m.Blocks, m.FreeBlocks)
	require.Empty(t, m.RunningAdapters)
	require.Empty(t, m.WaitingAdapters)
}

// TestPrefillLegIsARequestOfOneToken: it takes the time of one, hits what one hits, and then
// keeps its blocks until it is released.
func TestPrefillLegIsARequestOfOneToken(t *testing.T) {
	plain, leg := newEngine(t, engine.Config{}), newEngine(t, engine.Config{})
	for _, e := range []*engine.Engine{plain, leg} {
		submit(t, e, engine.Request{ID: 1, Prompt: 320, Output: 1, Hashes: hashes(1, 320)})
		drain(t, e)
	}
	r := engine.Request{ID: 2, Prompt: 1000, Output: 1, Hashes: slices.Concat(hashes(1, 320), hashes(2, 680))}
	submit(t, plain, r)
	r.Pin = true
	submit(t, leg, r)
	require.Equal(t, drain(t, plain), drain(t, leg))

	m := leg.Metrics(time.Hour)
	require.Equal(t, 63, m.PinnedBlocks)
	require.Equal(t, m.Blocks-63, m.FreeBlocks)
	require.InDelta(t, 63/float64(m.Blocks), m.KVUsage(), 1e-12)
	require.Equal(t, uint64(2), m.Finished)
	require.ErrorIs(t, leg.Submit(r), engine.ErrInvalid, "the ID is in use")

	require.True(t, leg.Release(2))
	require.False(t, leg.Release(2))
	empty(t, leg)
	require.Equal(t, plain.Cached(r.Hashes, 0), leg.Cached(r.Hashes, 0), "what it computed can be hit")
}

// TestPinnedBlocksAreNotEvicted: a request that needs them waits, until they are released or
// the lease ends.
func TestPinnedBlocksAreNotEvicted(t *testing.T) {
	for name, give := range map[string]func(*engine.Engine) time.Duration{
		"Release": func(e *engine.Engine) time.Duration { e.Release(1); return time.Second },
		"Cancel":  func(e *engine.Engine) time.Duration { e.Cancel(1); return time.Second },
		"lease": func(e *engine.Engine) time.Duration {
			at, ok := e.LeaseEnds()
			require.True(t, ok)
			if _, ok := e.Step(at - 1); ok {
				t.Error("a step before the lease has ended")
			}
			return at
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t, engine.Config{Blocks: 10, KVLease: 5 * time.Second})
			submit(t, e, engine.Request{ID: 1, Prompt: 96, Output: 1, Pin: true})
			step, ok := e.Step(0)
			require.True(t, ok)
			at, _ := e.LeaseEnds()
			require.Equal(t, step.Duration+5*time.Second, at)
			submit(t, e, engine.Request{ID: 2, Prompt: 80, Output: 1})
			before := e.Metrics(time.Hour).Steps
			if _, ok = e.Step(step.Duration); ok {
				t.Fatal("a request of 5 blocks has room beside 6 pinned ones of 10")
			}
			require.NoError(t, e.Check())
			m := e.Metrics(step.Duration)
			require.Equal(t, 1, m.Waiting)
			require.Equal(t, before, m.Steps)
			_, ok = e.Step(give(e))
			require.True(t, ok)
			require.NoError(t, e.Check())
			empty(t, e)
			if name == "lease" {
				require.Equal(t, uint64(1), e.Metrics(1<<62).LeasesEnded)
			}
			require.Zero(t, e.Metrics(1<<62).Cancelled)
		})
	}
}

// TestHoldOutlivesTheLease: leases end in turn, and those of the held do not.
func TestHoldOutlivesTheLease(t *testing.T) {
	e := newEngine(t, engine.Config{})
	for id := range uint64(3) {
		submit(t, e, engine.Request{ID: id, Prompt: 100, Output: 1, Pin: true})
	}
	drain(t, e)
	require.True(t, e.Hold(1))
	require.True(t, e.Hold(1))
	e.Step(time.Hour)
	require.NoError(t, e.Check())
	require.False(t, e.Hold(0), "its lease has ended")
	require.Equal(t, 7, e.Metrics(2*time.Hour).PinnedBlocks)
	_, ok := e.LeaseEnds()
	require.False(t, ok)
	require.True(t, e.Release(1))
	empty(t, e)
	require.Equal(t, uint64(2), e.Metrics(1<<62).LeasesEnded)
}

// TestPinnedBlocksAreCountedOnce: two legs with one prompt share its full blocks.
func TestPinnedBlocksAreCountedOnce(t *testing.T) {
	e := newEngine(t, engine.Config{})
	for id := range uint64(2) {
		submit(t, e, engine.Request{ID: id, Prompt: 100, Output: 1, Pin: true, Hashes: hashes(1, 100)})
	}
	drain(t, e)
	require.Equal(t, 8, e.Metrics(time.Hour).PinnedBlocks)
	e.Release(0)
	e.Step(time.Second)
	require.Equal(t, 7, e.Metrics(time.Hour).PinnedBlocks)
	require.NoError(t, e.Check())
}

// remote plays one request whose prompt is received after the given time, alone.
func remote(t *testing.T, e *engine.Engine, r engine.Request, transfer time.Duration) (a engine.Admission, log []timed) {
	t.Helper()
	r.Remote = true
	submit(t, e, r)
	step, ok := e.Step(0)
	require.False(t, ok, "it has nothing to compute yet")
	require.Len(t, step.Admitted, 1)
	a = step.Admitted[0]
	m := e.Metrics(1 << 62)
	require.Equal(t, []int{0, 0, 1}, []int{m.Running, m.Waiting, m.Receiving})
	require.Equal(t, (r.Prompt+15)/16, m.Blocks-m.FreeBlocks)
	require.NoError(t, e.Check())
	require.True(t, e.Received(r.ID))
	require.False(t, e.Received(r.ID))
	require.NoError(t, e.Check())
	for now := transfer; ; {
		step, ok := e.Step(now)
		require.NoError(t, e.Check())
		require.Empty(t, step.Admitted)
		if !ok {
			return a, log
		}
		now += step.Duration
		for _, ev := range step.Events {
			log = append(log, timed{ev, now})
		}
	}
}

// TestTransferOfNoTimeIsAFullHit: with a prompt of whole blocks and one token, of which a hit
// is all but the last token, as is what is received.
func TestTransferOfNoTimeIsAFullHit(t *testing.T) {
	const prompt, transfer = 1601, 20 * time.Millisecond
	r := engine.Request{ID: 2, Prompt: prompt, Output: 40, Hashes: hashes(1, prompt), Adapter: 3}
	hit := newEngine(t, engine.Config{})
	submit(t, hit, engine.Request{ID: 1, Prompt: prompt, Output: 1, Hashes: r.Hashes, Adapter: 3})
	drain(t, hit)
	submit(t, hit, r)
	want := drain(t, hit)

	cold := newEngine(t, engine.Config{})
	submit(t, cold, engine.Request{ID: 1, Prompt: 1, Output: 1, Adapter: 3}) // loads the adapter
	drain(t, cold)
	began := cold.Metrics(time.Hour).At
	a, got := remote(t, cold, r, began+transfer)
	require.Equal(t, engine.Admission{ID: 2, Lacks: prompt}, a)
	require.Len(t, got, 40)
	for i := range got {
		require.Equal(t, want[i].at, got[i].at-began-transfer, "token %d", i)
		require.Equal(t, want[i].Generated, got[i].Generated)
		require.Zero(t, got[i].Cached, "nothing was in the cache here")
	}
	m := cold.Metrics(1 << 62)
	require.Equal(t, uint64(prompt), m.ReceivedTokens)
	require.Equal(t, uint64(40+1), m.GeneratedTokens)
	require.Equal(t, hit.Cached(r.Hashes, 3), cold.Cached(r.Hashes, 3))
	empty(t, cold)
}

// TestOnlyWhatIsLackingIsReceived: blocks in the prefix cache are not transferred.
func TestOnlyWhatIsLackingIsReceived(t *testing.T) {
	for _, tt := range []struct {
		name   string
		cfg    engine.Config
		cached []uint64
		want   engine.Admission
	}{
		{"nothing", engine.Config{}, nil, engine.Admission{ID: 2, Lacks: 640}},
		{"a head", engine.Config{}, hashes(1, 320), engine.Admission{ID: 2, Cached: 320, Lacks: 320}},
		{"all", engine.Config{}, hashes(1, 640), engine.Admission{ID: 2, Cached: 624, Lacks: 16}},
		{"no cache", engine.Config{NoPrefixCache: true}, hashes(1, 640), engine.Admission{ID: 2, Lacks: 640}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEngine(t, tt.cfg)
			submit(t, e, engine.Request{ID: 1, Prompt: max(1, 16*len(tt.cached)), Output: 1, Hashes: tt.cached})
			drain(t, e)
			got, log := remote(t, e, engine.Request{ID: 2, Prompt: 640, Output: 3, Hashes: hashes(1, 640)}, 0)
			require.Equal(t, tt.want, got)
			require.Equal(t, tt.want.Cached, log[0].Cached)
			empty(t, e)
		})
	}
}

// TestReceivedCanBeHit: not while it is on its way.
func TestReceivedCanBeHit(t *testing.T) {
	e := newEngine(t, engine.Config{})
	h := hashes(1, 320)
	submit(t, e, engine.Request{ID: 1, Prompt: 320, Output: 9, Remote: true, Hashes: h})
	e.Step(0)
	require.Zero(t, e.Cached(h, 0))
	e.Received(1)
	e.Step(0)
	require.Equal(t, 20, e.Cached(h, 0))
}

// TestReceivingTakesNoPartInTheBatch: the others decode as if it were not there, and it waits
// for memory, in its turn.
func TestReceivingTakesNoPartInTheBatch(t *testing.T) {
	e, alone := newEngine(t, engine.Config{Blocks: 20}), newEngine(t, engine.Config{Blocks: 20})
	submit(t, e, engine.Request{ID: 1, Prompt: 16, Output: 40})
	submit(t, alone, engine.Request{ID: 1, Prompt: 16, Output: 40})
	want, _ := alone.Step(0)
	first, _ := e.Step(0)
	require.Equal(t, want, first)
	submit(t, e, engine.Request{ID: 2, Prompt: 240, Output: 2, Remote: true}, engine.Request{ID: 3, Prompt: 64, Output: 2, Remote: true},
		engine.Request{ID: 4, Prompt: 16, Output: 2})
	step, _ := e.Step(0)
	require.Equal(t, []engine.Admission{{ID: 2, Lacks: 240}}, step.Admitted, "3 has no room and 4 is behind it")
	want, _ = alone.Step(0)
	require.Equal(t, want.Duration, step.Duration)
	require.Equal(t, 1, step.Sequences)
	m := e.Metrics(time.Hour)
	require.Equal(t, []int{1, 2, 1}, []int{m.Running, m.Waiting, m.Receiving})

	e.Received(2)
	step, _ = e.Step(0)
	require.Equal(t, 2, step.Sequences)
	require.Equal(t, 2, step.Tokens)
	step, _ = e.Step(0) // 2 ends
	require.True(t, slices.ContainsFunc(step.Events, func(ev engine.Event) bool { return ev.ID == 2 && ev.Last }))
	step, _ = e.Step(0)
	require.Equal(t, []engine.Admission{{ID: 3, Lacks: 64}}, step.Admitted)
	require.Equal(t, 2, step.Sequences, "1 and 4")
}

// TestReadyWaitsForItsPlace: in the batch, and for an adapter's slot, ahead of the queue.
func TestReadyWaitsForItsPlace(t *testing.T) {
	e := newEngine(t, engine.Config{MaxSeqs: 2, MaxLoRAs: 1})
	submit(t, e, engine.Request{ID: 1, Prompt: 100, Output: 2, Adapter: 7, Remote: true}, engine.Request{ID: 2, Prompt: 100, Output: 1, Remote: true})
	step, _ := e.Step(0)
	require.Len(t, step.Admitted, 2)
	submit(t, e, engine.Request{ID: 3, Prompt: 10, Output: 3, Adapter: 8}, engine.Request{ID: 4, Prompt: 10, Output: 3})
	e.Step(0)
	require.Equal(t, []uint32{7}, e.Metrics(time.Hour).WaitingAdapters)
	e.Received(1)
	e.Received(2)
	var ended []uint64
	for _, ev := range drain(t, e) {
		if ev.Last {
			ended = append(ended, ev.ID)
		}
	}
	// 3 holds the slot and 4 the second place; when they are done 1 comes in with 2.
	require.Equal(t, []uint64{3, 4, 2, 1}, ended)
	empty(t, e)
}

// TestPreemptedDecodeLegIsComputedHere: it is not received twice.
func TestPreemptedDecodeLegIsComputedHere(t *testing.T) {
	e := newEngine(t, engine.Config{Blocks: 12})
	for id := range uint64(2) {
		submit(t, e, engine.Request{ID: id, Prompt: 80, Output: 40, Remote: true})
	}
	step, _ := e.Step(0)
	require.Len(t, step.Admitted, 2)
	e.Received(0)
	e.Received(1)
	tokens, preempted := map[uint64]int{}, 0
	for _, ev := range drain(t, e) {
		if ev.Kind == engine.Preempted {
			preempted++
			require.Equal(t, uint64(1), ev.ID)
			continue
		}
		tokens[ev.ID]++
	}
	require.Equal(t, map[uint64]int{0: 40, 1: 40}, tokens)
	require.Positive(t, preempted)
	require.Equal(t, uint64(160), e.Metrics(1<<62).ReceivedTokens)
	empty(t, e)
}

// TestPreemptionBesidePinnedBlocks: a sequence that is alone in the batch gives way to blocks
// that nobody can take away, and goes on when they are released.
func TestPreemptionBesidePinnedBlocks(t *testing.T) {
	e := newEngine(t, engine.Config{Blocks: 12})
	submit(t, e, engine.Request{ID: 1, Prompt: 96, Output: 1, Pin: true})
	drain(t, e)
	submit(t, e, engine.Request{ID: 2, Prompt: 80, Output: 40})
	events := drain(t, e) // until it is stuck
	require.NotEmpty(t, events)
	m := e.Metrics(time.Hour)
	require.Equal(t, []int{0, 1}, []int{m.Running, m.Waiting})
	require.Equal(t, uint64(1), m.Preemptions)
	e.Release(1)
	log := drain(t, e)
	require.True(t, log[len(log)-1].Last)
	empty(t, e)
}

// TestCancelBetweenEngines: a request that is cancelled leaves nothing, wherever it is.
func TestCancelBetweenEngines(t *testing.T) {
	r := engine.Request{ID: 1, Prompt: 100, Output: 5, Adapter: 2, Hashes: hashes(1, 100)}
	for _, tt := range []struct {
		name        string
		pin, remote bool
		reach       func(*engine.Engine) // brings it to where it is cancelled
		cancelled   uint64
	}{
		{"arriving", false, true, func(e *engine.Engine) {}, 1},
		{"waiting", false, true, func(e *engine.Engine) {
			submit(t, e, engine.Request{ID: 2, Prompt: 10 * 16, Output: 1, Pin: true})
			e.Cancel(1)
			e.Step(0)
			submit(t, e, r)
			e.Step(0)
			require.Equal(t, 1, e.Metrics(1<<62).Waiting)
			e.Release(2)
		}, 2},
		{"receiving", false, true, func(e *engine.Engine) { e.Step(0) }, 1},
		{"ready", false, true, func(e *engine.Engine) { e.Step(0); e.Received(1) }, 1},
		{"running", true, true, func(e *engine.Engine) { e.Step(0); e.Received(1); e.Step(0) }, 1},
		{"pinned", true, false, func(e *engine.Engine) { drain(t, e) }, 0},
		{"held", true, false, func(e *engine.Engine) { drain(t, e); e.Hold(1) }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEngine(t, engine.Config{Blocks: 10})
			r.Pin, r.Remote = tt.pin, tt.remote
			submit(t, e, r)
			tt.reach(e)
			require.NoError(t, e.Check())
			require.True(t, e.Cancel(1))
			require.False(t, e.Cancel(1))
			require.False(t, e.Received(1))
			require.False(t, e.Release(1))
			empty(t, e)
			require.Equal(t, tt.cancelled, e.Metrics(1<<62).Cancelled)
		})
	}
}

// handoffs plays everything at once, at random: ordinary requests and both legs, in too
// little memory, transfers that take any time, leases that end, and cancellations. All that
// is not cancelled ends with all of its tokens, and nothing stays behind.
func handoffs(t testing.TB, seed uint64, cfg engine.Config) []timed {
	const requests = 200
	cfg.KVLease = 300 * time.Millisecond
	e := newEngine(t, cfg)
	rng := rand.New(rand.NewPCG(seed, 11))
	var log []timed
	want, transfers, pinned := map[uint64]int{}, []uint64{}, []uint64{}
	now := time.Duration(0)
	for id := uint64(0); id < requests || len(want) > 0; {
		for range rng.IntN(4) {
			if id >= requests {
				break
			}
			r := engine.Request{ID: id, Prompt: 1 + rng.IntN(200), Output: 1 + rng.IntN(40), Adapter: uint32(rng.IntN(4)),
				Remote: rng.IntN(3) == 0, Pin: rng.IntN(3) == 0}
			r.Hashes = hashes(uint64(rng.IntN(8)), r.Prompt)
			if err := e.Submit(r); err == nil {
				want[id] = r.Output
				if r.Pin {
					pinned = append(pinned, id)
				}
			} else if !errors.Is(err, engine.ErrTooLong) {
				t.Fatal(err)
			}
			id++
		}
		if victim := rng.Uint64N(requests); rng.IntN(8) == 0 && e.Cancel(victim) {
			delete(want, victim)
		}
		if n := len(transfers); n > 0 && rng.IntN(2) == 0 {
			i := rng.IntN(n)
			_, alive := want[transfers[i]]
			require.Equal(t, alive, e.Received(transfers[i]))
			transfers = slices.Delete(transfers, i, i+1)
		}
		if n := len(pinned); n > 0 && rng.IntN(4) == 0 {
			if i := pinned[rng.IntN(n)]; rng.IntN(3) > 0 {
				e.Release(i)
			} else if e.Hold(i) && rng.IntN(2) == 0 {
				require.True(t, e.Release(i))
			}
		}
		if rng.IntN(64) == 0 { // so that the held do not hold everything
			for _, i := range pinned {
				e.Release(i)
			}
		}
		require.NoError(t, e.Check(), "seed %d, before the step", seed)
		step, ok := e.Step(now)
		require.NoError(t, e.Check(), "seed %d, request %d", seed, id)
		for _, a := range step.Admitted {
			require.Positive(t, a.Lacks)
			transfers = append(transfers, a.ID)
		}
		if ok {
			require.Positive(t, step.Sequences)
			now += step.Duration
		} else {
			require.Zero(t, step.Duration)
			now += time.Millisecond
		}
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
	for _, i := range pinned {
		e.Release(i)
	}
	require.NoError(t, e.Check())
	e.Step(now)
	m := e.Metrics(1 << 62)
	require.Equal(t, m.Blocks, m.FreeBlocks)
	require.Zero(t, m.PinnedBlocks+m.Receiving+m.Waiting+m.Running)
	return log
}

func TestHandoffs(t *testing.T) {
	for seed := range uint64(6) {
		one := handoffs(t, seed, tight())
		require.Equal(t, one, handoffs(t, seed, tight()), "seed %d: two runs differ", seed)
	}
}

func FuzzHandoffs(f *testing.F) {
	f.Add(uint64(1), uint8(60), uint8(12), uint8(128), uint8(2), false)
	f.Add(uint64(2), uint8(17), uint8(255), uint8(16), uint8(1), true)
	f.Add(uint64(3), uint8(30), uint8(1), uint8(255), uint8(3), false)
	f.Fuzz(func(t *testing.T, seed uint64, blocks, seqs, tokens, loras uint8, whole bool) {
		handoffs(t, seed, engine.Config{
			Blocks: 1 + int(blocks), MaxSeqs: int(seqs), MaxBatchedTokens: int(tokens), MaxLoRAs: int(loras), WholePromptMustFit: whole,
		})
	})
}
