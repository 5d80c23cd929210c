package engine_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/stretchr/testify/require"
)

// encoding is how long a medium takes.
func encoding(c engine.Calibration, tokens int) time.Duration {
	t := float64(tokens)
	return time.Duration((c.Encoder.Fixed + c.Encoder.PerToken*t + c.Encoder.PerToken2*t*t) * 1e9)
}

func TestEncoderTimes(t *testing.T) {
	for _, tt := range []struct {
		calibration engine.Calibration
		tokens      int
		want        float64 // seconds, by the sizes of the models at 400 TFLOP/s
	}{
		{engine.Qwen2VLH100(), 1280, .028}, {engine.Qwen2VLH100(), 4096, .165},
		{engine.Qwen25VLH100(), 1280, .019}, {engine.Qwen25VLH100(), 4096, .070},
		{engine.Qwen2AudioH100(), 750, .0058},
	} {
		require.InEpsilon(t, tt.want, encoding(tt.calibration, tt.tokens).Seconds(), .04, "%s, %d tokens", tt.calibration.Name, tt.tokens)
	}
}

func TestMediaAreEncodedInTheStepOfTheirFirstToken(t *testing.T) {
	c := engine.Qwen2VLH100()
	e := newEngine(t, engine.Config{Calibration: c, MaxBatchedTokens: 1000})
	submit(t, e, engine.Request{ID: 1, Prompt: 2500, Output: 1, Media: []engine.Medium{{Key: 1, At: 900, Tokens: 800}, {Key: 2, At: 1700, Tokens: 200}, {Key: 1, At: 2300, Tokens: 100}}})
	want := []time.Duration{
		seconds(c, 1, 1000, 0, 1000*500) + encoding(c, 800),
		seconds(c, 1, 1000, 0, 1000*1500) + encoding(c, 200),
		seconds(c, 1, 500, 0, 500*2250), // it has that one
	}
	now := time.Duration(0)
	for i, w := range want {
		s, ok := e.Step(now)
		require.True(t, ok)
		require.True(t, near(s.Duration, w), "step %d takes %v, want %v", i, s.Duration, w)
		require.NoError(t, e.Check())
		now += s.Duration
	}
	m := e.Metrics(now)
	require.Equal(t, [2]uint64{1000, 100}, [2]uint64{m.EncodedTokens, m.EncoderHitTokens})
}

func TestMediaThatCostNothing(t *testing.T) {
	c := engine.Qwen2VLH100()
	encoded := func(cfg engine.Config, second engine.Request) uint64 {
		cfg.Calibration = c
		e := newEngine(t, cfg)
		first := engine.Request{ID: 1, Prompt: 1600, Output: 1, Hashes: hashes(1, 1600), Media: []engine.Medium{{Key: 5, At: 160, Tokens: 800}}}
		submit(t, e, first)
		drain(t, e)
		before := e.Metrics(time.Hour).EncodedTokens
		second.ID, second.Prompt, second.Output = 2, 1600, 1
		submit(t, e, second)
		drain(t, e)
		return e.Metrics(time.Hour).EncodedTokens - before
	}
	here := []engine.Medium{{Key: 5, At: 160, Tokens: 800}}
	require.EqualValues(t, 0, encoded(engine.Config{}, engine.Request{Media: here}), "in the encoder's cache")
	require.EqualValues(t, 800, encoded(engine.Config{}, engine.Request{Media: []engine.Medium{{Key: 6, At: 160, Tokens: 800}}}), "another")
	require.EqualValues(t, 800, encoded(engine.Config{}, engine.Request{Media: []engine.Medium{{At: 160, Tokens: 800}}}), "like no other")
	require.EqualValues(t, 800, encoded(engine.Config{EncoderCache: 1000}, engine.Request{Media: []engine.Medium{{Key: 6, At: 0, Tokens: 300}, {Key: 5, At: 300, Tokens: 500}}}), "another took its place")
	other := []engine.Medium{{Key: 7, At: 160, Tokens: 800}} // which the cache has not
	require.EqualValues(t, 0, encoded(engine.Config{}, engine.Request{Hashes: hashes(1, 1600), Media: other}), "in the prefix cache")
	require.EqualValues(t, 800, encoded(engine.Config{NoPrefixCache: true}, engine.Request{Hashes: hashes(1, 1600), Media: other}), "no prefix cache")
}

// A step encodes no more than its budget: what comes before is computed, and the rest waits.
func TestEncoderBudget(t *testing.T) {
	e := newEngine(t, engine.Config{EncoderBudget: 500, EncoderCache: 2000})
	for id := range uint64(3) {
		submit(t, e, engine.Request{ID: id, Prompt: 1000, Output: 1, Media: []engine.Medium{{Key: id + 1, At: 100, Tokens: 400}}})
	}
	tokens := []int{}
	for now := time.Duration(0); ; {
		s, ok := e.Step(now)
		if !ok {
			break
		}
		require.NoError(t, e.Check())
		tokens = append(tokens, s.Tokens)
		now += s.Duration
	}
	require.Equal(t, []int{1200, 900, 900}, tokens)
	require.ErrorIs(t, e.Submit(engine.Request{ID: 9, Prompt: 1000, Output: 1, Media: []engine.Medium{{At: 0, Tokens: 501}}}), engine.ErrTooLong)
	for _, media := range [][]engine.Medium{{{At: 0, Tokens: 0}}, {{At: -1, Tokens: 3}}, {{At: 999, Tokens: 2}}, {{At: 10, Tokens: 5}, {At: 14, Tokens: 2}}} {
		require.ErrorIs(t, e.Submit(engine.Request{ID: 9, Prompt: 1000, Output: 1, Media: media}), engine.ErrInvalid)
	}
}

// Whatever comes, the books balance, all ends, and all that is to be encoded is.
func TestMediaAndPoolsPlayedAtRandom(t *testing.T) {
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 3))
		arrivals := mixed(seed, 200, 60)
		for i := range arrivals {
			r := &arrivals[i].Request
			switch rng.IntN(4) {
			case 0:
				r.Pools, r.Output = true, 0
				if rng.IntN(2) == 0 {
					r.Items = 1 + rng.IntN(r.Prompt)
				}
			case 1, 2:
				for at := rng.IntN(40); ; {
					m := engine.Medium{Key: uint64(rng.IntN(9)), At: at, Tokens: 1 + rng.IntN(90)}
					if m.At+m.Tokens > r.Prompt {
						break
					}
					r.Media = append(r.Media, m)
					at += m.Tokens + rng.IntN(3)
				}
			}
		}
		e := newEngine(t, engine.Config{
			Calibration: engine.Qwen2VLH100(), Blocks: 60, MaxBatchedTokens: 128, MaxSeqs: 9, EncoderCache: 100 + rng.IntN(100), EncoderBudget: 90 + rng.IntN(60),
		})
		ended := 0
		next := 0
		for now := time.Duration(0); ; {
			for ; next < len(arrivals) && arrivals[next].at <= now; next++ {
				r := arrivals[next].Request
				r.ID = uint64(next) + 1
				submit(t, e, r)
				if rng.IntN(15) == 0 {
					e.Cancel(uint64(1 + rng.IntN(next+1)))
				}
			}
			step, ok := e.Step(now)
			require.NoError(t, e.Check())
			if !ok && next == len(arrivals) {
				break
			}
			if !ok {
				now = arrivals[next].at
			}
			now += step.Duration
			for _, ev := range step.Events {
				if ev.Last {
					ended++
				}
			}
		}
		m := e.Metrics(time.Hour)
		require.EqualValues(t, len(arrivals), m.Finished+m.Cancelled)
		require.EqualValues(t, ended, m.Finished)
		require.Zero(t, m.Running+m.Waiting)
		require.Equal(t, m.Blocks, m.FreeBlocks)
	}
}
