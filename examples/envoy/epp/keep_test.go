package epp

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/internal/logbuffer"
)

func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logbuffer.Buffer
		k := newKeeper(slog.New(slog.NewTextHandler(&log, nil)))
		start, calls := time.Now(), []time.Duration(nil)
		var before context.Context
		failed := errors.New("failed")
		err := k.keep(t.Context(), "work", func(ctx context.Context) error {
			if before != nil {
				require.Error(t, before.Err(), "what the last call began has ended")
			}
			before = ctx
			calls = append(calls, time.Since(start))
			switch n := len(calls); {
			case n == 10:
				time.Sleep(time.Minute)
				panic("after a good time")
			case n == 11:
				return failed
			default:
				panic(n)
			}
		})
		require.Equal(t, failed, err, "an error is no panic")
		ms := time.Millisecond
		sum, want := time.Duration(0), []time.Duration{0}
		for _, pause := range []time.Duration{50 * ms, 100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 5000 * ms, 5000 * ms, time.Minute + 50*ms} {
			sum += pause
			want = append(want, sum)
		}
		require.Equal(t, want, calls)
		require.Equal(t, 2, strings.Count(log.String(), "panic in the background"), "once in a while")
		require.Contains(t, log.String(), "in=work panic=1 stack=")
		require.Contains(t, log.String(), "keep_test.go")
		require.Contains(t, log.String(), "leftOut=8")
	})
}

func TestKeepEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeper(slog.New(badHandler{}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		require.NoError(t, k.keep(ctx, "work", func(context.Context) error { panic("always") }))
		require.Equal(t, time.Second, time.Since(start))
		require.EqualError(t, k.once("serving", func() error { panic("oops") }), "epp: serving: panic: oops")
	})
}

// badHandler is a logger's that panics, too.
type badHandler struct{ slog.Handler }

func (badHandler) Enabled(context.Context, slog.Level) bool { panic("and the logger") }

// badCollector panics after its first metric.
type badCollector struct{ prometheus.Collector }

func (c badCollector) Collect(ch chan<- prometheus.Metric) {
	c.Collector.Collect(ch)
	panic("oops")
}

// TestKeepCollector: a Registry asks in goroutines of its own; the metrics of others, and those told before, are there.
func TestKeepCollector(t *testing.T) {
	k := newKeeper(slog.New(slog.DiscardHandler))
	r := prometheus.NewRegistry()
	gauge := func(name string) prometheus.Collector { return prometheus.NewGauge(prometheus.GaugeOpts{Name: name}) }
	r.MustRegister(gauge("good"), k.collector("bad", badCollector{gauge("bad")}))
	families, err := r.Gather()
	require.NoError(t, err)
	require.Len(t, families, 2)
}
