package epp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
)

// drainEvery is how often a drain without gRPC looks whether the last request is done.
const drainEvery = 10 * time.Millisecond

// Run serves until ctx is done, drains and returns nil; or an error if a listener
// fails before. Everything has ended and the App is closed when it returns.
func (a *App) Run(ctx context.Context) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, running := errgroup.WithContext(running)
	a.work(running, group)
	serve := func(what string, fn func() error) {
		group.Go(func() error {
			if err := a.keeper.Try(what, fn); err != nil && ctx.Err() == nil && !errors.Is(err, grpc.ErrServerStopped) && !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("epp: %s: %w", what, err)
			}
			return nil
		})
	}
	if a.grpc != nil {
		serve("gRPC", func() error { return a.grpc.Serve(a.listeners.grpc) })
	}
	if a.probes != nil {
		serve("health", func() error { return a.probes.Serve(a.listeners.health) })
	}
	if a.metrics != nil {
		serve("metrics", func() error { return a.metrics.Serve(a.listeners.metrics) })
	}
	a.scaling.serve(serve)
	select {
	case <-a.known(running, group):
		a.setReady(true)
		a.o.Logger.LogAttrs(ctx, slog.LevelInfo, "serving", a.addresses()...)
	case <-ctx.Done():
	}
	select {
	case <-ctx.Done():
		a.keeper.Call("the drain", a.drain) // if it panics the end comes sooner
	case <-running.Done(): // a listener has failed
	}
	stop()
	a.Close()
	return group.Wait()
}

// work begins what there is beside serving: it ends when ctx is done.
func (a *App) work(ctx context.Context, group *errgroup.Group) {
	keep := func(name string, f func(ctx context.Context) error) { a.keeper.in(ctx, group, name, f) }
	keep("pools", func(ctx context.Context) error { a.fleet.follow(ctx); return nil })
	keep("servers' metrics", a.scraper.Run)
	if a.scaling != nil {
		keep("autoscaling", a.scaling.scaler.Run)
	}
	a.share(ctx)
	if a.watcher != nil {
		keep("configuration", a.watcher.Run)
	}
	if a.cluster != nil {
		a.cluster.work(ctx, group)
	}
	if a.rollouts != nil {
		keep("rollouts", a.rollOut)
	}
}

// known returns a channel that is closed once there is something to choose from, or ctx is done.
func (a *App) known(ctx context.Context, group *errgroup.Group) <-chan struct{} {
	known := make(chan struct{})
	if a.cluster == nil {
		close(known)
		return known
	}
	a.o.Logger.LogAttrs(ctx, slog.LevelInfo, "listening, and waiting for the cluster to be read", append(a.addresses(), slog.String("api", a.o.Kubernetes.API.Host))...)
	group.Go(func() error {
		defer close(known)
		return a.keeper.keep(ctx, "reading of the cluster", func(ctx context.Context) error { a.cluster.synced(ctx); return nil })
	})
	return known
}

func (a *App) setReady(ready bool) {
	setReady(a.health, ready)
	a.taking.Store(ready)
}

// drain lets requests under way finish, within bounds. Those that wait to be let in are
// refused, so that they are sent to another picker while there is time.
func (a *App) drain() {
	ctx := context.Background()
	a.setReady(false)
	a.o.Logger.LogAttrs(ctx, slog.LevelInfo, "draining", slog.Int("requests", a.Open()))
	time.Sleep(a.o.DrainDelay)
	a.scaling.leave()
	a.director.Close()
	timer := time.NewTimer(a.o.DrainTimeout)
	defer timer.Stop()
	if a.grpc != nil {
		a.drainStreams(ctx, timer.C)
	} else {
		a.drainOpen(ctx, timer.C)
	}
}

// drainStreams waits until Envoy has ended the last stream, and cuts off those that are left at the end.
func (a *App) drainStreams(ctx context.Context, end <-chan time.Time) {
	a.unwatch()
	done := make(chan struct{})
	go func() {
		a.grpc.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
	case <-end:
		a.o.Logger.LogAttrs(ctx, slog.LevelWarn, "requests were cut off", slog.Int("requests", a.Open()))
		a.grpc.Stop()
		<-done
	}
}

// drainOpen waits until the last request is done, whoever brings them. Those that are left at the end are not ours to
// cut off.
func (a *App) drainOpen(ctx context.Context, end <-chan time.Time) {
	tick := time.NewTicker(drainEvery)
	defer tick.Stop()
	for a.Open() > 0 {
		select {
		case <-tick.C:
		case <-end:
			a.o.Logger.LogAttrs(ctx, slog.LevelWarn, "requests are still under way", slog.Int("requests", a.Open()))
			return
		}
	}
}

// Close ends what New began. Run does it.
func (a *App) Close() {
	for _, ln := range []net.Listener{a.listeners.grpc, a.listeners.health, a.listeners.metrics} {
		if ln != nil {
			ln.Close()
		}
	}
	for _, s := range []*grpc.Server{a.grpc, a.probes} {
		if s != nil {
			s.Stop()
		}
	}
	a.scaling.close()
	if a.unwatch != nil {
		a.unwatch()
	}
	if a.metrics != nil {
		a.metrics.Close()
	}
	if a.director != nil {
		a.director.Close()
	}
	if a.rollouts != nil {
		a.rollouts.close()
	}
	a.leavePeers()
}
