package kubernetes_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/kubernetes"
)

type faultyHandler struct {
	slog.Handler
	fault func(string)
}

func (h faultyHandler) Handle(ctx context.Context, r slog.Record) error {
	h.fault(r.Message)
	return h.Handler.Handle(ctx, r)
}

type faultyTransport struct {
	next  http.RoundTripper
	fault func(string)
}

func (f faultyTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	f.fault(r.URL.Path)
	return f.next.RoundTrip(r)
}

// TestPanicOfTransport: a transport of the user's that panics is a server that is away, whatever it is asked.
func TestPanicOfTransport(t *testing.T) {
	for _, part := range []string{"/apis", "/pods", "/inferencepools"} {
		t.Run(part, func(t *testing.T) {
			inCluster(t, all, func(t *testing.T, w *world) {
				var bad atomic.Bool
				bad.Store(true)
				w.fault = func(what string) {
					if bad.Load() && strings.HasSuffix(what, part) {
						panic("oops")
					}
				}
				w.api.Apply(poolV1("llama", "llama", 8000), pod("a", "llama", "10.0.0.1"))
				w.start(kubernetes.Options{})
				w.after(10 * time.Second)
				require.False(t, w.synced())
				require.Contains(t, w.log.String(), "panic: oops")
				require.Contains(t, w.log.String(), "panic_test.go", "the stack")
				bad.Store(false)
				w.after(time.Minute)
				require.True(t, w.synced())
				require.Equal(t, []string{"default/a-rank-0 10.0.0.1:8000"}, w.pools()["default/llama"])
			})
		})
	}
}

// TestPanicWhilePutInForce: what was not put in force because of a panic is so a little later.
func TestPanicWhilePutInForce(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		panics := 0
		w.fault = func(what string) {
			if what == "an object of the cluster is not in force" && panics < 3 {
				panics++
				panic("oops")
			}
		}
		w.start(kubernetes.Options{})
		w.api.Apply(poolV1("llama", "llama", 8000), pod("a", "llama", "10.0.0.1"))
		for i := range 3 {
			w.api.Apply(poolV1(fmt.Sprint("bad-", i), "llama", 8000, 8000)) // a port twice
			w.after(10 * time.Second)
		}
		require.Equal(t, 3, panics)
		require.Equal(t, 3, w.log.lines("it is tried again"))
		w.api.Apply(pod("b", "llama", "10.0.0.2"), poolV1("bad-0", "llama", 8000))
		w.settle()
		both := []string{"default/a-rank-0 10.0.0.1:8000", "default/b-rank-0 10.0.0.2:8000"}
		require.Equal(t, map[string][]string{"default/llama": both, "default/bad-0": both}, w.pools())
	})
}
