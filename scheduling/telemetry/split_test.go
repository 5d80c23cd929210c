package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/telemetry"
	"github.com/inferpick/inferpick/types"
)

// always has the first other endpoint that may compute prompts do so.
type always struct{}

func (always) Split(_ context.Context, _ *types.Request, eps, prefill []*types.Endpoint, _ bool, by []int32, _ []float64) error {
	for i, ep := range eps {
		for k, p := range prefill {
			if p.Load != ep.Load {
				by[i] = int32(k)
				break
			}
		}
	}
	return nil
}

// separate is a fixture where p and q compute prompts, and d and e answer.
func separate(t testing.TB, next scheduling.Hooks) *fixture {
	f := newFixture(t, telemetry.Options{}, scheduling.Profile{Splitter: always{}, Hooks: next, Alone: scheduling.AloneLimits{Share: 1}},
		endpoint("p"), endpoint("q"), endpoint("d"), endpoint("e"))
	for i, ep := range f.eps {
		ep.Roles = types.RolePrefill
		if i > 1 {
			ep.Roles = types.RoleDecode
		}
	}
	return f
}

func splittable() *types.Request {
	req := request("chat", "")
	req.Split = true
	return req
}

func TestSplit(t *testing.T) {
	prompt, down := types.Outcome{Status: 200}, types.Outcome{Err: errors.New("connection refused")}
	unsent := types.Outcome{Unsent: true}
	for _, tt := range []struct {
		name string
		do   func(*fixture, *scheduling.Decision)
		want string // what is counted, without the names' beginnings and the pool
	}{
		{"apart", func(f *fixture, d *scheduling.Decision) {
			f.pass(300 * time.Millisecond)
			d.PrefillDone(prompt)
			f.pass(time.Second)
			d.FirstToken()
			d.Done(served)
		}, "split_requests apart, prefills served, prefill_seconds 0.3"},
		{"apart, in one piece", func(f *fixture, d *scheduling.Decision) {
			d.PrefillDone(prompt)
			d.Done(served)
		}, "split_requests apart, prefills served, prefill_seconds 0"},
		{"apart, handed over as it is computed", func(f *fixture, d *scheduling.Decision) {
			d.FirstToken()
			f.pass(time.Second)
			d.PrefillDone(prompt)
			d.Done(served)
		}, "split_requests apart, prefills served, prefill_seconds 1"},
		{"apart, the end of the prompt was not told", func(f *fixture, d *scheduling.Decision) {
			d.FirstToken()
			d.Done(served)
		}, "split_requests apart, prefills cancelled"},
		{"apart, what failed after the first token says nothing", func(f *fixture, d *scheduling.Decision) {
			d.FirstToken()
			d.PrefillDone(down)
			d.Done(served)
		}, "split_requests apart, prefills failed"},
		{"the next one serves", func(f *fixture, d *scheduling.Decision) {
			d.PrefillDone(down)
			f.pass(time.Second)
			require.NotNil(f.t, d.PrefillAgain(ctx, f.eps))
			f.pass(time.Second)
			d.PrefillDone(prompt)
			d.FirstToken()
			d.Done(served)
		}, "split_requests apart, prefills failed, prefills served, prefill_retries 1, prefill_seconds 1"},
		{"all fail", func(f *fixture, d *scheduling.Decision) {
			d.PrefillDone(down)
			require.NotNil(f.t, d.PrefillAgain(ctx, f.eps))
			d.PrefillDone(types.Outcome{Status: 503})
			require.Nil(f.t, d.PrefillAgain(ctx, f.eps))
			require.NoError(f.t, d.Alone(unsent, f.eps))
			d.FirstToken()
			d.Done(served)
			require.Equal(f.t, "0", scrape(f.t, f.Metrics)[`inferpick_retries_total{pool="llama"}`], "it went on to nobody else")
		}, "split_requests fallback, prefills failed 2, prefill_retries 1"},
		{"the one that answers fails, another answers apart", func(f *fixture, d *scheduling.Decision) {
			d.PrefillDone(prompt)
			d.RetryApart(ctx, f.eps[3], down, f.eps)
			f.pass(time.Second)
			d.PrefillDone(prompt)
			d.FirstToken()
			d.Done(served)
		}, "split_requests apart, prefills served 2, prefill_seconds 1"},
		{"the one that answers fails, another answers alone", func(f *fixture, d *scheduling.Decision) {
			d.Retry(f.eps[3], down)
			d.Done(served)
		}, "split_requests alone, prefills cancelled"},
		{"the client goes", func(f *fixture, d *scheduling.Decision) {
			d.Done(types.Outcome{Cancelled: true})
		}, "prefills cancelled"},
		{"it does not end well", func(f *fixture, d *scheduling.Decision) {
			d.PrefillDone(types.Outcome{Status: 400})
			d.Done(types.Outcome{Status: 400})
		}, "prefills failed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := separate(t, scheduling.Hooks{})
			tt.do(f, f.schedule(splittable()))
			require.Equal(t, tt.want, countedSplits(t, f.Metrics))
		})
	}

	f := separate(t, scheduling.Hooks{})
	f.schedule(request("chat", "")).Done(served)
	require.Empty(t, countedSplits(t, f.Metrics), "of a request that cannot be split")
	f.eps = f.eps[2:]
	f.schedule(splittable()).Done(served)
	require.Equal(t, "split_requests alone", countedSplits(t, f.Metrics))
}

// countedSplits returns what there is of requests that can be split, in short.
func countedSplits(t testing.TB, m *telemetry.Metrics) string {
	var all []string
	got := scrape(t, m)
	add := func(short, series string) {
		v, ok := got["inferpick_"+series]
		if !ok {
			return
		}
		if v != "1" || !strings.Contains(short, " ") {
			short += " " + v
		}
		all = append(all, short)
	}
	for _, prompt := range []string{"apart", "alone", "fallback"} {
		add("split_requests "+prompt, fmt.Sprintf("split_requests_total{pool=%q,prompt=%q}", "llama", prompt))
	}
	for _, outcome := range []string{"failed", "served", "cancelled"} {
		add("prefills "+outcome, fmt.Sprintf("prefills_total{outcome=%q,pool=%q}", outcome, "llama"))
	}
	add("prefill_retries", `prefill_retries_total{pool="llama"}`)
	add("prefill_seconds", `prefill_duration_seconds_sum{pool="llama"}`)
	return strings.Join(all, ", ")
}

// The user's hooks are called, too, after ours, and none is lost.
func TestSplitHooks(t *testing.T) {
	var f *fixture
	var seen []string
	saw := func(what string) func(scheduling.Event) {
		return func(e scheduling.Event) { seen = append(seen, what+": "+countedSplits(t, f.Metrics)) }
	}
	f = separate(t, scheduling.Hooks{
		Scheduled: saw("scheduled"), FirstToken: saw("first token"), Prefilled: saw("prefilled"),
		Retried: saw("retried"), Finished: saw("finished"),
	})
	d := f.schedule(splittable())
	d.Retry(f.eps[3], types.Outcome{Unsent: true})
	d.FirstToken()
	d.Done(served)
	require.Equal(t, []string{
		"scheduled: ", "prefilled: prefills cancelled", "retried: prefills cancelled", "first token: prefills cancelled",
		"finished: split_requests alone, prefills cancelled",
	}, seen)
}

func TestSplitAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	m := newMetrics(t, telemetry.Options{})
	h := m.Hooks(pool, scheduling.Hooks{})
	d := decision(splittable())
	e, out := event(d, types.Outcome{}), event(d, served)
	e.Prefill = endpoint("p")
	life := func() {
		h.Scheduled(e)
		h.Prefilled(out)
		h.FirstToken(e)
		h.Finished(out)
	}
	life()
	require.Zero(t, testing.AllocsPerRun(100, life))
}

// Many goroutines count while others read; nothing is lost.
func TestSplitConcurrency(t *testing.T) {
	f := separate(t, scheduling.Hooks{})
	const workers, each = 8, 50
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				d := f.schedule(splittable())
				d.PrefillDone(types.Outcome{Status: 200})
				d.FirstToken()
				d.Done(served)
			}
		})
		wg.Go(func() {
			if _, err := f.Gather(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, "split_requests apart 400, prefills served 400, prefill_seconds 0", countedSplits(t, f.Metrics))
}

// Whatever hooks there are, those of the user are called.
func TestAllHooksGoOn(t *testing.T) {
	var next scheduling.Hooks
	called := map[string]int{}
	fields := reflect.ValueOf(&next).Elem()
	for i := range fields.NumField() {
		name := fields.Type().Field(i).Name
		fields.Field(i).Set(reflect.MakeFunc(fields.Field(i).Type(), func([]reflect.Value) []reflect.Value {
			called[name]++
			return nil
		}))
	}
	m := newMetrics(t, telemetry.Options{})
	h := m.Hooks(pool, next)
	h.Scheduled(event(decision(request("chat", "")), types.Outcome{}))
	h.Rejected(request("chat", ""), errors.New("no"))
	h.PluginFailed(nil, &scheduling.PluginError{})
	h.Warned(nil, scheduling.ErrNoSlots)
	for _, hook := range []func(scheduling.Event){h.FirstToken, h.Prefilled, h.Retried, h.Finished} {
		hook(event(decision(request("chat", "")), served))
	}
	for i := range fields.NumField() {
		name := fields.Type().Field(i).Name
		require.Equal(t, 1, called[name], name)
	}
}
