package epp

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/internal/guardlog"
)

// keeper runs what goes on in the background. A panic there, of a function of the user's or of our own, must
// not end the process, which may be Envoy's: it is told, and what panicked begins anew.
type keeper struct{ *guard.Teller }

func newKeeper(logger *slog.Logger) keeper { return keeper{guardlog.Teller(logger, "epp")} }

// keep returns what f does, which works until ctx is done, and is called again if it panics. The context of a call is
// done when it has ended, however.
func (k keeper) keep(ctx context.Context, name string, f func(ctx context.Context) error) (err error) {
	k.Loop(ctx, name, func() {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		err = f(ctx)
	})
	return err
}

// in is keep in a goroutine of a group.
func (k keeper) in(ctx context.Context, group *errgroup.Group, name string, f func(ctx context.Context) error) {
	group.Go(func() error { return k.keep(ctx, name, f) })
}

// collector keeps a panic of a Collector from ending the process: a Registry asks each in a goroutine of its own. What
// it has told before is told.
func (k keeper) collector(name string, c prometheus.Collector) prometheus.Collector {
	return keptCollector{c, name, k}
}

type keptCollector struct {
	prometheus.Collector
	name string
	k    keeper
}

// Collect implements prometheus.Collector.
func (c keptCollector) Collect(ch chan<- prometheus.Metric) {
	c.k.Call(c.name, func() { c.Collector.Collect(ch) })
}
