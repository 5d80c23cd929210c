package inferpick

import (
	"context"
	"fmt"
	"sync"

	"github.com/caddyserver/caddy/v2"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/scrape"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/httptransport"
	"github.com/inferpick/inferpick/scheduling/telemetry"
	"github.com/inferpick/inferpick/types"
)

// gateways has those of all configurations: two of them are there while Caddy reloads.
var gateways = caddy.NewUsagePool()

// gateway is what outlives a reload.
type gateway struct {
	store     *datastore.Store
	director  *director.Director
	transport *httptransport.Transport
	metrics   *telemetry.Metrics
	stop      context.CancelFunc
	running   sync.WaitGroup

	mu      sync.Mutex
	inForce int64 // the number of the handler whose servers these are; guarded by mu
}

func newGateway(h *Handler) (_ *gateway, err error) {
	options := datastore.Options{Logger: h.logger}
	if h.RefuseUnknown {
		options.UnknownModels = datastore.Refuse
	}
	g := &gateway{store: datastore.New(options)}
	if g.metrics, err = telemetry.New(telemetry.Options{Pools: g.pools, Admissions: g.admissions}); err != nil {
		return nil, err
	}
	h.profile.Hooks = g.metrics.Hooks(h.pool(), h.profile.Hooks)
	scheduler, err := scheduling.New(h.profile)
	if err != nil {
		return nil, fmt.Errorf("profile %s: %w", h.Profile, err)
	}
	g.director, err = director.New(director.Options{
		Store: g.store, Scheduler: scheduler, RestoreModel: h.RestoreModel, Logger: h.logger,
		Admission: func(pool types.NamespacedName) *admission.Options {
			options := h.admission()
			if options != nil {
				options.Hooks = g.metrics.AdmissionHooks(pool, *options)
			}
			return options
		},
		OnRefused: func(req *types.Request, pool types.NamespacedName, err *director.Error) {
			g.metrics.Refused(req, pool, err.Code, err.Status)
		},
	})
	if err != nil {
		return nil, err
	}
	g.transport = httptransport.New(g.director)
	return g, g.run(h)
}

// run reads the configuration's file and the servers' metrics until stop is called.
func (g *gateway) run(h *Handler) error {
	source := datastore.NewFileSource(g.store, h.Config, datastore.FileOptions{Logger: h.logger})
	if h.Config != "" {
		if err := source.Load(); err != nil {
			return err
		}
	}
	if err := g.apply(h); err != nil {
		return err
	}
	scraper, err := scrape.New(g.store, scrape.Options{Logger: h.logger})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	g.stop = stop
	g.running.Go(func() { scraper.Run(ctx) })
	if h.Config != "" {
		g.running.Go(func() { source.Run(ctx) })
	}
	return nil
}

// apply puts the servers of a handler in force, unless a newer one's are.
func (g *gateway) apply(h *Handler) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if h.number < g.inForce {
		return nil
	}
	g.inForce = h.number
	return h.setEndpoints(g.store)
}

// Destruct implements caddy.Destructor. Requests under way go on.
func (g *gateway) Destruct() error {
	g.stop()
	g.running.Wait()
	g.director.Close()
	g.transport.CloseIdleConnections()
	return nil
}

func (g *gateway) pools(yield func(types.NamespacedName, []*types.Endpoint) bool) {
	for _, pool := range g.store.Snapshot().Pools() {
		if !yield(pool.Name(), pool.Endpoints()) {
			return
		}
	}
}

func (g *gateway) admissions(yield func(types.NamespacedName, admission.Stats) bool) {
	for pool, controller := range g.director.Admissions() {
		if !yield(pool, controller.Stats()) {
			return
		}
	}
}
