package rollout_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/types"
)

func TestSampleOf(t *testing.T) {
	usage := types.Usage{PromptTokens: types.Known(1000), CompletionTokens: types.Known(101),
		CachedTokens: types.Known(900)}
	whole := types.Outcome{
		Status: 200, Usage: usage, Reads: 100, Duration: 3 * time.Second, TTFT: time.Second, Finish: types.FinishStop, Stalled: 100 * time.Millisecond,
	}
	with := func(change func(*types.Outcome)) types.Outcome {
		o := whole
		change(&o)
		return o
	}
	s := rollout.Sample{
		Target: "v2", Sent: start.Add(-3 * time.Second), Told: true, TTFT: time.Second, TPOT: 19 * time.Millisecond,
		Uncached: 100, CacheTold: true, Tokens: 101, Finish: types.FinishStop,
	}
	sample := func(change func(*rollout.Sample)) *rollout.Sample {
		c := s
		change(&c)
		return &c
	}
	failed := func(status int) *rollout.Sample {
		return &rollout.Sample{Target: "v2", Sent: s.Sent, Failed: true, Status: status, Tokens: -1}
	}
	for _, c := range []struct {
		name string
		o    types.Outcome
		want *rollout.Sample
	}{
		{"all is well", whole, &s},
		{"the zero outcome is a success", types.Outcome{Duration: whole.Duration}, &rollout.Sample{Target: "v2",
			Sent: s.Sent, Tokens: -1}},
		{"500", types.Outcome{Status: 500, Duration: whole.Duration}, failed(500)},
		{"503", types.Outcome{Status: 503, Duration: whole.Duration}, failed(503)},
		{"reset", types.Outcome{Err: errors.New("reset"), Status: 200, Duration: whole.Duration}, failed(0)},
		{"reset, and tried elsewhere", types.Outcome{Err: errors.New("reset"), Retried: true, Duration: whole.Duration},
			failed(0)},
		{"the adapter is not there", types.Outcome{Status: 404, ModelMissing: true, Duration: whole.Duration}, failed(404)},
		{"the path is not there", types.Outcome{Status: 404, Duration: whole.Duration}, &rollout.Sample{Target: "v2",
			Sent: s.Sent, Refused: true, Tokens: -1}},
		{"400", types.Outcome{Status: 400, Duration: whole.Duration}, &rollout.Sample{Target: "v2", Sent: s.Sent, Refused: true, Tokens: -1}},
		{"400, and tried elsewhere", types.Outcome{Status: 400, Retried: true}, nil},
		{"429", types.Outcome{Status: 429}, &rollout.Sample{Target: "v2", Sent: start, Busy: true, Tokens: -1}},
		{"529, and tried elsewhere", types.Outcome{Status: 529, Retried: true},
			&rollout.Sample{Target: "v2", Sent: start, Busy: true, Tokens: -1}},
		{"a page of HTML", types.Outcome{Status: 200, Duration: whole.Duration}, &rollout.Sample{Target: "v2", Sent: s.Sent,
			Unreadable: true, Tokens: -1}},
		{"cancelled", with(func(o *types.Outcome) { o.Cancelled = true }), nil},
		{"cancelled, with an error", types.Outcome{Err: errors.New("gone"), Cancelled: true}, nil},
		{"never sent", types.Outcome{Err: errors.New("refused"), Unsent: true}, nil},
		{"moved on without a failure", types.Outcome{Retried: true}, nil},
		{"empty", with(func(o *types.Outcome) { o.Usage.CompletionTokens, o.TTFT = types.Known(0), 0 }),
			sample(func(s *rollout.Sample) {
				s.Empty, s.Tokens, s.TTFT, s.TPOT, s.Uncached, s.CacheTold = true, 0, 0, 0, 0, false
			})},
		{"a call of a tool is not empty", with(func(o *types.Outcome) {
			o.Usage.CompletionTokens, o.TTFT, o.Finish = types.Known(0), 0, types.FinishTools
		}), sample(func(s *rollout.Sample) {
			s.Tokens, s.TTFT, s.TPOT, s.Uncached, s.CacheTold, s.Finish = 0, 0, 0, 0, false, types.FinishTools
		})},
		{"an embedding is not empty", types.Outcome{Duration: whole.Duration,
			Usage: types.Usage{CompletionTokens: types.Known(0)}},
			&rollout.Sample{Target: "v2", Sent: s.Sent}},
		{"buffered on the way", with(func(o *types.Outcome) { o.Reads = 2 }), sample(func(s *rollout.Sample) {
			s.TTFT, s.TPOT, s.Uncached, s.CacheTold = 0, 0, 0, false
		})},
		{"all at once", with(func(o *types.Outcome) { o.TTFT = 2999 * time.Millisecond }), sample(func(s *rollout.Sample) {
			s.TTFT, s.TPOT, s.Uncached, s.CacheTold = 0, 0, 0, false
		})},
		{"a slow client", with(func(o *types.Outcome) { o.Stalled = time.Second }),
			sample(func(s *rollout.Sample) { s.TPOT = 0 })},
		{"one token", with(func(o *types.Outcome) { o.Usage.CompletionTokens, o.Tokens = types.Known(1), 1 }),
			sample(func(s *rollout.Sample) { s.Tokens, s.TPOT = 1, 0 })},
		{"the end is counted as a token", with(func(o *types.Outcome) {
			o.Usage.CompletionTokens, o.TTFT = types.Known(1),
				0
		}), sample(func(s *rollout.Sample) {
			s.Empty, s.Tokens, s.TTFT, s.TPOT, s.Uncached, s.CacheTold = true, 1, 0, 0, 0, false
		})},
		{"one token was asked for", with(func(o *types.Outcome) {
			o.Usage.CompletionTokens, o.Finish = types.Known(1),
				types.FinishLength
		}), sample(func(s *rollout.Sample) {
			s.Tokens, s.TPOT, s.Finish = 1, 0, types.FinishLength
		})},
		{"no usage is told", with(func(o *types.Outcome) { o.Usage, o.Tokens = types.Usage{}, 101 }),
			sample(func(s *rollout.Sample) {
				s.Tokens, s.Uncached, s.CacheTold = -1, 77, false
			})},
		{"no usage and no end is told", with(func(o *types.Outcome) {
			o.Usage, o.Tokens, o.Finish = types.Usage{}, 101,
				0
		}), sample(func(s *rollout.Sample) {
			s.Told, s.Tokens, s.Uncached, s.CacheTold, s.Finish = false, -1, 77, false, 0
		})},
		{"nonsense is told", with(func(o *types.Outcome) { o.Usage.CachedTokens = types.Known(-5) }),
			sample(func(s *rollout.Sample) { s.Uncached, s.CacheTold = 1000, false })},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := types.Request{Model: "chat", TargetModel: "v2", Stream: true, Now: start, Prompt: types.Prompt{Tokens: 77}}
			got, ok := rollout.SampleOf(&req, c.o)
			require.Equal(t, c.want != nil, ok)
			if ok {
				require.Equal(t, *c.want, got)
			}
			req.Stream = false
			got, _ = rollout.SampleOf(&req, c.o)
			require.Zero(t, got.TTFT+got.TPOT, "only streamed answers have times")
		})
	}
	req := types.Request{TargetModel: "v2", Now: start, Prompt: types.Prompt{Tokens: 77}}
	got, ok := rollout.SampleOf(&req, with(func(o *types.Outcome) { o.ResponseBytes = 5000 }))
	require.True(t, ok)
	require.Equal(t, *sample(func(s *rollout.Sample) {
		s.TTFT, s.TPOT, s.Whole, s.Bytes = 0, 0, 2900*time.Millisecond, 5000
	}), got, "it was not streamed")
	got, _ = rollout.SampleOf(&req, with(func(o *types.Outcome) { o.Stalled = time.Second }))
	require.Zero(t, got.Whole, "a slow client")
	_, ok = rollout.SampleOf(&types.Request{PreviousID: "resp_1"}, types.Outcome{Status: 404})
	require.False(t, ok, "it may be the response that is not there")
}
