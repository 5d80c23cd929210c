package kubernetes_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/kubernetes"
)

// faulty is what makes requests, which panics as long as it is told to.
type faulty struct {
	http.RoundTripper
	panics *atomic.Bool
	n      *atomic.Int64
}

func (f *faulty) RoundTrip(req *http.Request) (*http.Response, error) {
	if f.panics.Load() {
		f.n.Add(1)
		panic("of the user's rest.Config")
	}
	return f.RoundTripper.RoundTrip(req)
}

// What makes requests may panic, in the beginning and later: a source reads on.
func TestTransportPanics(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		w.api.Apply(poolV1("llama", "llama", 8000))
		var panics atomic.Bool
		var n atomic.Int64
		panics.Store(true)
		config := w.api.Config()
		config.WrapTransport = func(rt http.RoundTripper) http.RoundTripper { return &faulty{rt, &panics, &n} }
		source, err := kubernetes.New(config, kubernetes.Options{})
		require.NoError(t, err)
		w.source = source
		ctx, cancel := context.WithCancel(t.Context())
		w.cancel, w.done = cancel, make(chan struct{})
		go func() { defer close(w.done); _ = source.Run(ctx, w.store) }()
		w.after(time.Minute)
		panics.Store(false)
		w.after(time.Minute)
		require.True(t, w.synced())
		require.Contains(t, w.pools(), "default/llama")
		before := n.Load()
		panics.Store(true)
		w.after(2 * time.Minute)
		require.Greater(t, n.Load(), before)
		panics.Store(false)
		w.api.Apply(pod("a", "llama", "10.0.0.1"))
		w.after(2 * time.Minute)
		require.Len(t, w.pools()["default/llama"], 1)
	})
}
