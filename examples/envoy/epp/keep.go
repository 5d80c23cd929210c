package epp

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/inferpick/inferpick/examples/envoy/internal/seldom"
)

// keeper runs what goes on in the background. A panic there, of a function of the user's or of our own, must
// not end the process, which may be Envoy's: it is told, and what panicked begins anew.
type keeper struct{ rarely *seldom.Logger }

func newKeeper(logger *slog.Logger) *keeper { return &keeper{seldom.New(logger)} }

// How long after a panic is waited before it goes on: the first time, and at most.
const (
	firstPause   = 50 * time.Millisecond
	longestPause = 5 * time.Second
)

// keep returns what f does, which works until ctx is done. Whenever it panics, it is called again after a pause, which
// grows if it does so again soon. The context of a call is done when it has ended, however.
func (k *keeper) keep(ctx context.Context, name string, f func(ctx context.Context) error) error {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		began := time.Now()
		err, panicked := k.call(name, func() error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			return f(ctx)
		})
		if !panicked {
			return err
		}
		if time.Since(began) > longestPause {
			pause = firstPause
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// in is keep in a goroutine of a group.
func (k *keeper) in(ctx context.Context, group *errgroup.Group, name string, f func(ctx context.Context) error) {
	group.Go(func() error { return k.keep(ctx, name, f) })
}

// once returns what f does, which cannot begin anew: its panic is an error.
func (k *keeper) once(name string, f func() error) error {
	err, _ := k.call(name, f)
	return err
}

// call calls f. A panic is told, once in a while.
func (k *keeper) call(name string, f func() error) (err error, panicked bool) {
	defer func() {
		if v := recover(); v != nil {
			err, panicked = fmt.Errorf("epp: %s: panic: %v", name, v), true
			k.tell(name, v, debug.Stack())
		}
	}()
	return f(), false
}

func (k *keeper) tell(name string, v any, stack []byte) {
	defer func() { _ = recover() }() // of the logger, or of what v says of itself: there is nobody left to tell
	k.rarely.Log(context.Background(), slog.LevelError, name, "panic in the background, it goes on",
		slog.String("in", name), slog.String("panic", fmt.Sprint(v)), slog.String("stack", string(stack)))
}

// collector keeps a panic of a Collector from ending the process: a Registry asks each in a goroutine of its own. What
// it has told before is told.
func (k *keeper) collector(name string, c prometheus.Collector) prometheus.Collector {
	return keptCollector{c, name, k}
}

type keptCollector struct {
	prometheus.Collector
	name string
	k    *keeper
}

// Collect implements prometheus.Collector.
func (c keptCollector) Collect(ch chan<- prometheus.Metric) {
	_ = c.k.once(c.name, func() error { c.Collector.Collect(ch); return nil })
}
