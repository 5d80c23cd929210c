package epp

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/examples/envoy/config"
	"github.com/inferpick/inferpick/examples/envoy/internal/logbuffer"
)

func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logbuffer.Buffer
		k := newKeeper(slog.New(slog.NewTextHandler(&log, nil)))
		calls, failed := 0, errors.New("failed")
		var before context.Context
		err := k.keep(t.Context(), "work", func(ctx context.Context) error {
			if before != nil {
				require.Error(t, before.Err(), "what the last call began has ended")
			}
			before = ctx
			if calls++; calls < 3 {
				panic(calls)
			}
			return failed
		})
		require.Equal(t, failed, err, "an error is no panic")
		require.Equal(t, 3, calls)
		require.Contains(t, log.String(), `msg="epp: work panicked" panic=1 stack=`)
		require.Contains(t, log.String(), "keep_test.go")
		require.NotContains(t, log.String(), "panic=2", "once in a while")

		ctx, cancel := context.WithCancel(t.Context())
		require.NoError(t, k.keep(ctx, "the end", func(context.Context) error { cancel(); panic("oops") }))
	})
}

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

// panicking is a handler that panics, as anything else may under the lock of a fleet.
type panicking struct{ slog.Handler }

func (panicking) Enabled(context.Context, slog.Level) bool { panic("oops") }

// TestPanicOfFleet: what panics while pools get what they are to have leaves no lock behind.
func TestPanicOfFleet(t *testing.T) {
	store := datastore.New(datastore.Options{})
	f, err := newFleet(store, Options{Logger: slog.New(panicking{})})
	require.NoError(t, err)
	pool := func(annotations string) *config.Config {
		c, err := config.Loader{}.Parse("c.yaml", []byte(`
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: llama, annotations: {`+annotations+`}}
spec: {selector: {matchLabels: {app: llama}}, targetPorts: [{number: 8000}]}
`))
		require.NoError(t, err)
		return c
	}
	require.NoError(t, f.apply(pool("")))
	bad := pool(`inferpick.io/scheduling-profile: turns`) // there is none of that name, which is told
	require.Panics(t, func() { _ = f.apply(bad) })
	require.True(t, f.mu.TryLock(), "the lock is free")
	f.mu.Unlock()
	require.NoError(t, store.Commit(bad.Change))
	require.NoError(t, f.apply(pool("")))
	require.NoError(t, store.Commit(bad.Change))
	require.Panics(t, f.settle)
	require.True(t, f.mu.TryLock(), "the lock is free")
}
