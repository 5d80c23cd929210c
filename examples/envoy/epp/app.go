package epp

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/scrape"
	"github.com/inferpick/inferpick/examples/envoy/config"
	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/examples/envoy/picker"
	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/sharing"
)

// App is an endpoint picker. Make it with New, and Run it.
type App struct {
	o        Options
	keeper   keeper // of what goes on in the background
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

	taking  atomic.Bool // it says that it is ready
	health  *health.Server
	unwatch context.CancelFunc // ends watches of health at the picker's port
	grpc    *grpc.Server       // nil: requests come in this process
	probes  *grpc.Server       // nil: none
	metrics *http.Server       // nil: none

	listeners struct{ grpc, health, metrics net.Listener }
}

// New reads the configuration, which has to be good, and listens. Nothing is served
// before Run; an App that is not to be run must be closed. With an error all is closed,
// also what Options.Sharing brings.
func New(o Options) (*App, error) {
	a := new(App)
	var err error
	if a.o, err = o.withDefaults(); err == nil {
		a.keeper = newKeeper(a.o.Logger)
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
	a.health = newHealth()
	if a.o.GRPCAddr == nowhere {
		_, err = exchange.New(a.Exchanges()) // as they will be checked where they are used
		return err
	}
	return a.wirePicker()
}

// wirePicker makes what Envoy asks by gRPC.
func (a *App) wirePicker() error {
	server, err := picker.New(picker.Options{
		Options: a.Exchanges(), IdleTimeout: a.o.IdleTimeout, RequestBody: a.o.RequestBody, ResponseBody: a.o.ResponseBody,
	})
	if err != nil {
		return err
	}
	if a.grpc, err = newGRPC(a.o); err != nil {
		return err
	}
	extprocv3.RegisterExternalProcessorServer(a.grpc, server)
	watching, unwatch := context.WithCancel(context.Background())
	a.unwatch = unwatch
	healthpb.RegisterHealthServer(a.grpc, endingHealth{a.health, watching})
	return nil
}

// Exchanges returns what an adapter for Envoy is made with: the picker's server is, and so is one
// in whose process the App runs (Options.GRPCAddr). It is for after New, also before Run.
func (a *App) Exchanges() exchange.Options {
	return exchange.Options{
		Director: a.director, Pool: a.o.Pool, MaxBody: a.o.MaxBody, MaxDestinations: a.o.MaxDestinations, MaxStreams: a.o.MaxStreams,
		Report: a.fleet.report, Apart: a.fleet.apart, OnRoute: a.routed, OnServed: a.o.OnServed, Tracer: a.o.Tracer, Logger: a.o.Logger,
	}
}

// connect makes what there is of a cluster, if there is one.
func (a *App) connect() (err error) {
	if a.o.Kubernetes != nil {
		if a.cluster, err = newCluster(a.o.Kubernetes, a.store, a.o.Rollouts != nil, a.keeper, a.o.Logger); err != nil {
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

// Store returns the store, to look at.
func (a *App) Store() *datastore.Store { return a.store }

// Open returns how many requests are booked and not done.
func (a *App) Open() int { return a.fleet.open() }

// Ready reports whether requests are taken, as health does: Run has begun, what there is to choose from is known (at
// once, but where it is to be read from a cluster first) and the drain has not begun. It may be asked for each request.
func (a *App) Ready() bool { return a.taking.Load() }

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
