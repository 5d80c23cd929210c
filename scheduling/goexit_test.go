package scheduling_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// leaves ends its goroutine, as a plugin in a test does with FailNow.
type leaves struct {
	split
	now, time bool
}

func (l *leaves) Split(ctx context.Context, req *types.Request, eps, prefill []*types.Endpoint, must bool, by []int32, gains []float64) error {
	if l.now {
		runtime.Goexit()
	}
	return l.split.Split(ctx, req, eps, prefill, must, by, gains)
}

func (l *leaves) PrefillTime(*types.Request, *types.Endpoint) time.Duration {
	if l.time {
		runtime.Goexit()
	}
	return 0
}

// A plugin that ends the goroutine leaves nobody waiting.
func TestSplitterEndsGoroutine(t *testing.T) {
	for name, call := range map[string]func(*scheduling.Decision, []*types.Endpoint){
		"PrefillAgain": func(d *scheduling.Decision, eps []*types.Endpoint) { d.PrefillAgain(ctx, eps) },
		"RetryApart": func(d *scheduling.Decision, eps []*types.Endpoint) {
			_ = d.RetryApart(ctx, eps[2], types.Outcome{}, eps)
		},
		"Alone": func(d *scheduling.Decision, eps []*types.Endpoint) { _ = d.Alone(types.Outcome{}, eps) },
	} {
		t.Run(name, func(t *testing.T) {
			l := new(leaves)
			s := mustNew(t, scheduling.Profile{Splitter: l, Picker: first, OutputTokens: 10, Seed: 1})
			eps := withRoles(roles, "p1", "p2", "d1")
			d, err := s.Schedule(ctx, splittable(100), eps)
			require.NoError(t, err)
			d.PrefillDone(types.Outcome{Status: 500})
			l.now, l.time = true, true
			left := make(chan struct{})
			go func() {
				defer close(left)
				call(d, eps)
			}()
			<-left
			d.Done(types.Outcome{})
			require.Eventually(t, d.Settled, time.Second, time.Millisecond, "who ended its goroutine delivers for ever")
		})
	}
}
