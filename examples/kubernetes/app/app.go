// Package app puts the gateway together: what it knows of the cluster, the table that it makes
// of that, the servers that serve it, and the statuses that say so.
package app

import (
	"context"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/datastore/kubernetes/lease"
	"github.com/inferpick/inferpick/datastore/kubernetes/rollouts"
	kubestatus "github.com/inferpick/inferpick/datastore/kubernetes/status"
	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/examples/kubernetes/routing"
	"github.com/inferpick/inferpick/examples/kubernetes/serve"
	"github.com/inferpick/inferpick/examples/kubernetes/status"
	"github.com/inferpick/inferpick/examples/kubernetes/watch"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/gateway"
	"github.com/inferpick/inferpick/scheduling/telemetry"
	"github.com/inferpick/inferpick/types"
)

// debounce is how long a change waits for others, so that many are one.
const debounce = 50 * time.Millisecond

// Gateway is the gateway of a cluster. Make one with New, and Run it.
type Gateway struct {
	o         Options
	client    dynamic.Interface
	inference *gateway.Gateway
	metrics   *telemetry.Metrics
	source    *kubernetes.Source // of pools, their pods and models
	models    *kubestatus.Writer // of what is said of models
	home      *rollouts.Home     // of rollouts; nil: there are none
	watcher   *watch.Watcher     // of what else there is
	server    *serve.Server
	statuses  statuses
	ready     chan struct{} // closed when the first table is in force
}

// New returns a Gateway that does nothing before Run.
func New(o Options) (*Gateway, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	g := &Gateway{o: o, ready: make(chan struct{}), statuses: statuses{changed: make(chan struct{}, 1)}}
	config := rest.CopyConfig(o.Config)
	config.QPS = -1 // watches are few, and writes have a limit of their own
	var err error
	if g.client, err = dynamic.NewForConfig(config); err != nil {
		return nil, err
	}
	if g.source, err = kubernetes.New(config, kubernetes.Options{Logger: o.Logger}); err != nil {
		return nil, err
	}
	rolls, err := g.rolls(config)
	if err != nil {
		return nil, err
	}
	if g.inference, err = gateway.New(g.options(rolls)); err != nil {
		return nil, err
	}
	if g.models, err = kubestatus.New(config, g.source, g.inference.Store, kubestatus.Options{Logger: o.Logger}); err != nil {
		return nil, err
	}
	g.watcher = watch.New(g.client, o.Logger, kinds()...)
	g.server = serve.New(serve.Options{
		Director: g.inference.Director, Host: o.Host, Drain: o.Drain, NameEndpoint: o.NameEndpoint,
		TrustRequestHeaders: o.TrustRequestHeaders, Logger: o.Logger,
	})
	return g, nil
}

// options are those of the library's gateway: one scheduler for each pool.
func (g *Gateway) options(rolls *rollout.Options) gateway.Options {
	var controller *rollout.Controller // nil: there are no rollouts
	return gateway.Options{
		Profile: g.o.Policy.Profile, Admission: g.o.Policy.Admission, Sharing: g.o.Sharing, Rollouts: rolls, Logger: g.o.Logger,
		Director: director.Options{
			TrustRequestHeaders: true, // clients' are stripped before those of routes are set
			Passthrough:         func(pool types.NamespacedName) bool { return g.server.PicksElsewhere(pool) },
			NewScheduler: func(pool *datastore.Pool) (*scheduling.Scheduler, error) {
				profile := g.o.Policy.Profile
				if controller != nil {
					profile = gateway.WithRollouts(profile, controller)
				}
				profile.Hooks = g.metrics.Hooks(pool.Name(), profile.Hooks)
				return scheduling.New(profile)
			},
		},
		Metrics: func(parts *gateway.Gateway) (_ gateway.Metrics, err error) {
			o := telemetry.Options{Pools: parts.Pools, Admissions: parts.Admissions, Sharing: parts.Sharing.Stats}
			if controller = parts.Rollouts; controller != nil {
				o.Rollouts = controller.Status
			}
			g.metrics, err = telemetry.New(o)
			return g.metrics, err
		},
	}
}

// Run serves until ctx is done and the requests that are under way then have ended, or their
// time is over. The error is that of a port that is not for clients.
func (g *Gateway) Run(ctx context.Context) error {
	ctx, end := context.WithCancel(ctx)
	inner, stop := context.WithCancel(context.WithoutCancel(ctx)) // outlives ctx while requests end
	var all sync.WaitGroup
	defer all.Wait()
	defer g.inference.Close()
	defer stop()
	defer end()
	all.Go(func() { _ = g.source.Run(inner, g.inference.Store) }) // always nil
	all.Go(func() { _ = g.inference.Run(inner) })                 // runs once
	all.Go(func() { g.watcher.Run(inner) })
	all.Go(func() { g.follow(inner) })
	all.Go(func() { g.lead(ctx) })
	if g.home != nil {
		all.Go(func() { g.home.Run(inner) })
	}
	closeAdmin, err := g.serveAdmin(ctx)
	if err != nil {
		return err
	}
	defer closeAdmin()
	<-ctx.Done()
	g.o.Logger.Info("ending", slog.Duration("delay", g.o.DrainDelay), slog.Duration("drain", g.o.Drain))
	time.Sleep(g.o.DrainDelay)
	g.server.Close()
	return nil
}

// follow puts a new table in force whenever objects have changed.
func (g *Gateway) follow(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-g.watcher.Synced():
	}
	for first := true; ctx.Err() == nil; first = false {
		now, o := objects(g.watcher), g.routingOptions()
		table, s := routing.Build(now, o)
		if o.Unavailable = g.server.Set(table); len(o.Unavailable) > 0 {
			_, s = routing.Build(now, o)
		}
		g.statuses.set(s)
		if first {
			close(g.ready)
		}
		select {
		case <-ctx.Done():
			return
		case <-g.watcher.Changed():
		}
		time.Sleep(debounce)
	}
}

func (g *Gateway) routingOptions() routing.Options {
	addresses := g.o.Addresses
	if len(addresses) == 0 {
		addresses = g.serviceAddresses()
	}
	return routing.Options{Controller: g.o.Controller, Only: g.o.Only, Addresses: statusAddresses(addresses), OwnPicker: g.o.OwnPicker}
}

// serviceAddresses are those of Options.Service: of its load balancer, or of the cluster.
func (g *Gateway) serviceAddresses() []string {
	var list []string
	for _, s := range watch.Objects[*corev1.Service](g.watcher, services) {
		if s.Namespace != g.o.Service.Namespace || s.Name != g.o.Service.Name {
			continue
		}
		for _, in := range s.Status.LoadBalancer.Ingress {
			if in.IP != "" {
				list = append(list, in.IP)
			} else if in.Hostname != "" {
				list = append(list, in.Hostname)
			}
		}
		if len(list) == 0 && s.Spec.ClusterIP != "" && s.Spec.ClusterIP != corev1.ClusterIPNone {
			list = s.Spec.ClusterIPs
		}
	}
	return list
}

// lead writes statuses for as long as this replica is to do so.
func (g *Gateway) lead(ctx context.Context) {
	write := func(ctx context.Context) {
		var all sync.WaitGroup
		all.Go(func() { g.models.Run(ctx) })
		all.Go(func() { g.writeStatuses(ctx) })
		if g.home != nil {
			all.Go(func() { g.home.Lead(ctx) })
		}
		all.Wait()
	}
	if g.o.Lease.IsZero() {
		write(ctx)
		return
	}
	o := lease.Options{Namespace: g.o.Lease.Namespace, Name: g.o.Lease.Name, Logger: g.o.Logger}
	if err := lease.Elect(ctx, g.o.Config, o, write); err != nil {
		g.o.Logger.Error("no statuses are written", slog.Any("error", err))
	}
}

// writeStatuses writes the newest Status until ctx is done.
func (g *Gateway) writeStatuses(ctx context.Context) {
	w := status.Writer{Client: g.client, Cached: g.watcher.Raw, Logger: g.o.Logger}
	again := time.NewTicker(time.Second) // for what was refused or has met another writer
	defer again.Stop()
	for {
		var retry <-chan time.Time
		if s := g.statuses.get(); s != nil && !w.Write(ctx, s) {
			retry = again.C
		}
		select {
		case <-ctx.Done():
			return
		case <-g.statuses.changed:
		case <-retry:
		}
	}
}

// statuses has the newest Status.
type statuses struct {
	changed chan struct{} // has a value when there is a newer one

	mu     sync.Mutex
	newest *routing.Status
}

func (s *statuses) set(newest *routing.Status) {
	s.mu.Lock()
	s.newest = newest
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *statuses) get() *routing.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest
}
