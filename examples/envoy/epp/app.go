package epp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/scrape"
	"github.com/inferpick/inferpick/examples/envoy/config"
	"github.com/inferpick/inferpick/examples/envoy/picker"
	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/sharing"
)

// App is an endpoint picker. Make it with New, and Run it.
type App struct {
	o        Options
	store    *datastore.Store
	fleet    *fleet // who schedules for which pool
	director *director.Director
	scraper  *scrape.Scraper
	watcher  *config.Watcher // nil: there is no configuration
	cluster  *cluster        // nil: pools and the rest are those of the configuration
	rollouts *roller         // nil: there are none
	group    *sharing.Group  // nil: nothing is shared
	sharing  sync.WaitGroup  // of group
	scaling  *scaling        // nil: nobody is told how many replicas there should be

	health  *health.Server
	unwatch context.CancelFunc // ends watches of health at the picker's port
	grpc    *grpc.Server
	probes  *grpc.Server // nil: none
	metrics *http.Server // nil: none

	listeners struct{ grpc, health, metrics net.Listener }
}

// New reads the configuration, which has to be good, and listens. Nothing is served
// before Run; an App that is not to be run must be closed. With an error all is closed,
// also what Options.Sharing brings.
func New(o Options) (*App, error) {
	a := new(App)
	var err error
	if a.o, err = o.withDefaults(); err == nil {
		err = a.wire()
	}
	if err == nil {
		err = a.listen()
	}
	if err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

// wire makes everything between the configuration and the picker.
func (a *App) wire() (err error) {
	unknown := datastore.PassThrough
	if a.o.RefuseUnknownModels {
		unknown = datastore.Refuse
	}
	a.store = datastore.New(datastore.Options{Logger: a.o.Logger, UnknownModels: unknown, StickySessions: true, RoleLabel: a.o.RoleLabel})
	if err := a.joinPeers(); err != nil {
		return err
	}
	if a.fleet, err = newFleet(a.store, a.o); err != nil {
		return err
	}
	if a.scaling, err = newScaling(a.fleet, a.o); err != nil {
		return err
	}
	if a.scaling != nil {
		a.fleet.counting.Autoscale = a.scaling.scaler.Recommended
	}
	if a.group != nil {
		a.fleet.counting.Sharing = a.group.Stats
	}
	if err := a.connect(); err != nil {
		return err
	}
	if err := a.newRollouts(); err != nil {
		return err
	}
	if err := a.configure(); err != nil {
		return err
	}
	if err := a.checkPool(); err != nil {
		return err
	}
	a.director, err = director.New(director.Options{
		Store: a.store, NewScheduler: a.fleet.scheduler, Admission: a.fleet.admission,
		RestoreModel: !a.o.KeepTargetModel, SessionHeader: a.o.SessionHeader, TrustRequestHeaders: !a.o.IgnoreRequestHeaders,
		Families:  a.o.Families,
		Limits:    openai.Limits{MaxBytes: a.o.MaxBody, MaxFormBytes: a.o.MaxBody},
		AllowPath: a.o.allows, Passthrough: a.fleet.passes, OnRefused: a.refused, Logger: a.o.Logger,
	})
	if err != nil {
		return err
	}
	a.scraper, err = scrape.New(a.store, scrape.Options{Interval: a.o.ScrapeInterval, Transport: a.o.ServerMetrics.transport(), Logger: a.o.Logger})
	if err != nil {
		return err
	}
	a.fleet.attach(a.director, a.scraper)
	server, err := picker.New(picker.Options{
		Director: a.director, Pool: a.o.Pool, MaxBody: a.o.MaxBody, MaxDestinations: a.o.MaxDestinations,
		MaxStreams: a.o.MaxStreams, IdleTimeout: a.o.IdleTimeout,
		RequestBody: a.o.RequestBody, ResponseBody: a.o.ResponseBody,
		Report: a.fleet.report, Apart: a.fleet.apart, OnRoute: a.routed, OnServed: a.o.OnServed, Tracer: a.o.Tracer, Logger: a.o.Logger,
	})
	if err != nil {
		return err
	}
	a.health = newHealth()
	if a.grpc, err = newGRPC(a.o); err != nil {
		return err
	}
	extprocv3.RegisterExternalProcessorServer(a.grpc, server)
	watching, unwatch := context.WithCancel(context.Background())
	a.unwatch = unwatch
	healthpb.RegisterHealthServer(a.grpc, endingHealth{a.health, watching})
	return nil
}

// connect makes what there is of a cluster, if there is one.
func (a *App) connect() (err error) {
	if a.o.Kubernetes != nil {
		if a.cluster, err = newCluster(a.o.Kubernetes, a.store, a.o.Rollouts != nil, a.o.Logger); err != nil {
			return err
		}
		a.fleet.source.Store(a.cluster.source)
	}
	return nil
}

// configure reads the configuration, if there is one, and puts it in force.
func (a *App) configure() error {
	if a.o.Config == "" {
		none, err := config.Loader{Registry: newRegistry(), PoolsElsewhere: true}.Parse("", nil)
		if err != nil {
			return err
		}
		return a.fleet.apply(none)
	}
	a.watcher = config.NewWatcher(a.o.Config, config.WatchOptions{
		More: a.o.MoreConfig, Interval: a.o.ReloadInterval, Registry: newRegistry(), Logger: a.o.Logger, Apply: a.fleet.apply,
		Strict: a.o.Strict, PoolsElsewhere: a.cluster != nil, CheckEndpoint: checkAddress, RoleLabel: a.o.RoleLabel,
	})
	return a.watcher.Load()
}

// checkPool sees to it that the pool of every request is there: without it none could be
// served. A reload may take it away, and in a cluster it may come later.
func (a *App) checkPool() error {
	if a.o.Pool.IsZero() || a.cluster != nil || a.store.Snapshot().Pool(a.o.Pool) != nil {
		return nil
	}
	var there []string
	for _, p := range a.store.Snapshot().Pools() {
		there = append(there, p.Name().String())
	}
	return fmt.Errorf("epp: there is no InferencePool %s in the configuration, only %s", a.o.Pool, strings.Join(there, ", "))
}

func (a *App) listen() (err error) {
	if a.listeners.grpc, err = listen("gRPC", a.o.GRPCAddr); err != nil {
		return err
	}
	if a.o.HealthAddr != "-" {
		if a.listeners.health, err = listen("health", a.o.HealthAddr); err != nil {
			return err
		}
		a.probes = grpc.NewServer()
		healthpb.RegisterHealthServer(a.probes, a.health)
	}
	if a.scaling != nil {
		if err = a.scaling.listen(a.o, a.grpc); err != nil {
			return err
		}
	}
	if a.o.MetricsAddr != "-" {
		return a.listenMetrics()
	}
	return nil
}

func (a *App) listenMetrics() (err error) {
	pages := a.pages()
	if file := a.o.MetricsTokenFile; file != "" {
		token, err := newToken(file, a.o.Logger)
		if err != nil {
			return err
		}
		pages = guard(token, pages, a.o.Logger)
	} else if k := a.o.Kubernetes; k != nil && k.MetricsAuth {
		if pages, err = newReviewer(k.API, pages, a.o.Logger); err != nil {
			return err
		}
	}
	encryption := a.o.MetricsTLS
	encryption.Off = encryption.CertFile == "" && encryption.KeyFile == ""
	if a.listeners.metrics, err = listen("metrics", a.o.MetricsAddr); err != nil {
		return err
	}
	if a.listeners.metrics, err = encryption.listener(a.listeners.metrics, a.o.Logger); err != nil {
		return err
	}
	a.metrics = &http.Server{
		Handler: pages, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(a.o.Logger.Handler(), slog.LevelWarn),
	}
	return nil
}

// unixPrefix is that of the path of a Unix domain socket in place of host and port.
const unixPrefix = "unix:"

func listen(what, address string) (net.Listener, error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(address, unixPrefix); ok {
		network, address = "unix", path
		removeStale(path)
	}
	ln, err := net.Listen(network, address)
	if err != nil {
		return nil, fmt.Errorf("epp: %s address: %w", what, err)
	}
	return ln, nil
}

// removeStale removes a socket that a process left which did not end well.
func removeStale(path string) {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&os.ModeSocket == 0 {
		return
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close() // somebody listens
		return
	}
	os.Remove(path)
}

// Address returns where Envoy finds the picker.
func (a *App) Address() string { return addressOf(a.listeners.grpc) }

// HealthAddress returns where health is served, empty if nowhere.
func (a *App) HealthAddress() string { return addressOf(a.listeners.health) }

// MetricsAddress returns where metrics are served, empty if nowhere.
func (a *App) MetricsAddress() string { return addressOf(a.listeners.metrics) }

// addresses are for the log.
func (a *App) addresses() []slog.Attr {
	all := []slog.Attr{slog.String("grpc", a.Address()), slog.String("health", a.HealthAddress()), slog.String("metrics", a.MetricsAddress())}
	for _, one := range []slog.Attr{slog.String("keda", a.KEDAAddress()), slog.String("externalMetrics", a.ExternalMetricsAddress())} {
		if one.Value.String() != "" {
			all = append(all, one)
		}
	}
	return all
}

func addressOf(ln net.Listener) string {
	if ln == nil {
		return ""
	}
	if ln.Addr().Network() == "unix" {
		return unixPrefix + ln.Addr().String()
	}
	return ln.Addr().String()
}

// Store returns the store, to look at.
func (a *App) Store() *datastore.Store { return a.store }

// Open returns how many requests are booked and not done.
func (a *App) Open() int { return a.fleet.open() }

// Reload reads the configuration now, if there is one. With an error what was in force stays.
func (a *App) Reload() error {
	if a.watcher == nil {
		return nil
	}
	return a.watcher.Load()
}

// wrong returns what is wrong with the configuration as it was read last, nil if that is in force.
func (a *App) wrong() error {
	if a.watcher == nil {
		return nil
	}
	return a.watcher.Err()
}

// Run serves until ctx is done, drains and returns nil; or an error if a listener
// fails before. Everything has ended and the App is closed when it returns.
func (a *App) Run(ctx context.Context) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, running := errgroup.WithContext(running)
	a.work(running, group)
	serve := func(what string, fn func() error) {
		group.Go(func() error {
			if err := fn(); err != nil && ctx.Err() == nil && !errors.Is(err, grpc.ErrServerStopped) && !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("epp: %s: %w", what, err)
			}
			return nil
		})
	}
	serve("gRPC", func() error { return a.grpc.Serve(a.listeners.grpc) })
	if a.probes != nil {
		serve("health", func() error { return a.probes.Serve(a.listeners.health) })
	}
	if a.metrics != nil {
		serve("metrics", func() error { return a.metrics.Serve(a.listeners.metrics) })
	}
	a.scaling.serve(serve)
	select {
	case <-a.ready(running, group):
		setReady(a.health, true)
		a.o.Logger.LogAttrs(ctx, slog.LevelInfo, "serving", a.addresses()...)
	case <-ctx.Done():
	}
	select {
	case <-ctx.Done():
		a.drain()
	case <-running.Done(): // a listener has failed
	}
	stop()
	a.Close()
	return group.Wait()
}

// work begins what there is beside serving: it ends when ctx is done.
func (a *App) work(ctx context.Context, group *errgroup.Group) {
	group.Go(func() error { a.fleet.follow(ctx); return nil })
	group.Go(func() error { return a.scraper.Run(ctx) })
	a.scaling.run(ctx, group)
	a.share(ctx)
	if a.watcher != nil {
		group.Go(func() error { return a.watcher.Run(ctx) })
	}
	if a.cluster != nil {
		group.Go(func() error { return a.cluster.read(ctx) })
		group.Go(func() error { return a.cluster.tell(ctx) })
	}
	if a.rollouts != nil {
		group.Go(func() error { return a.rollOut(ctx) })
	}
}

// ready returns a channel that is closed once there is something to choose from, or ctx is done.
func (a *App) ready(ctx context.Context, group *errgroup.Group) <-chan struct{} {
	ready := make(chan struct{})
	if a.cluster == nil {
		close(ready)
		return ready
	}
	a.o.Logger.LogAttrs(ctx, slog.LevelInfo, "listening, and waiting for the cluster to be read", append(a.addresses(), slog.String("api", a.o.Kubernetes.API.Host))...)
	group.Go(func() error {
		defer close(ready)
		a.cluster.synced(ctx)
		return nil
	})
	return ready
}

// drain lets requests under way finish, within bounds. Those that wait to be let in are
// refused, so that they are sent to another picker while there is time.
func (a *App) drain() {
	ctx := context.Background()
	setReady(a.health, false)
	a.o.Logger.LogAttrs(ctx, slog.LevelInfo, "draining", slog.Int("requests", a.Open()))
	time.Sleep(a.o.DrainDelay)
	a.unwatch()
	a.scaling.leave()
	a.director.Close()
	done := make(chan struct{})
	go func() {
		a.grpc.GracefulStop()
		close(done)
	}()
	timer := time.NewTimer(a.o.DrainTimeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		a.o.Logger.LogAttrs(ctx, slog.LevelWarn, "requests were cut off", slog.Int("requests", a.Open()))
		a.grpc.Stop()
		<-done
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
