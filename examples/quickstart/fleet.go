package main

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/scrape"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/httptransport"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/scheduling/simulation/modelserver"
	"github.com/inferpick/inferpick/types"
)

//go:embed manifests.json
var manifests []byte // the pool and its models, as for Kubernetes

const (
	baseModel = "llama-8b"

	// scrapeInterval is what the reference deployment uses, 50 ms, times four: it
	// is enough with a ledger, and leaves the CPU to the show.
	scrapeInterval = 200 * time.Millisecond
)

// pool is that of the manifests.
func pool() types.NamespacedName {
	return types.NamespacedName{Namespace: types.DefaultNamespace, Name: "llama"}
}

// adapters are the LoRA adapters that the manifests name as targets.
func adapters() []string {
	return []string{"chat-canary", "sql-writer", "contract-reader", "ticket-triage"}
}

// smallGPU is an 8B model on a GPU such as an A10: against the H100 of the
// engine's calibrations, between a fifth and a sixth of the memory bandwidth, an
// eighth of the arithmetic, and a tenth of the room for KV cache. Slow servers make
// few steps and tokens per second, so that two fleets fit on a laptop in real time.
func smallGPU() engine.Calibration {
	const bandwidth, arithmetic, memory = 5.6, 8, 10 // times less
	c := engine.Llama31H100()
	c.Name = "llama-3.1-8b on a small GPU"
	c.WeightFloor *= bandwidth
	c.PerContextToken *= bandwidth
	c.PerToken *= arithmetic
	c.PrefillAttention *= arithmetic
	c.Blocks /= memory
	return c
}

// fleet is a number of simulated model servers and all that a gateway in front of
// them needs.
type fleet struct {
	policy    string
	bands     []admission.Band // of its admission control, if it says what they are
	servers   []*modelserver.Server
	store     *datastore.Store
	scheduler *scheduling.Scheduler
	director  *director.Director
	transport *httptransport.Transport
	log       *requestLog

	stopScraper context.CancelFunc
	scraping    sync.WaitGroup
}

// startFleet starts the servers and wires a scheduler with the policy in front of
// them. Fleets of the same config are the same, whatever their policies. Close it.
func startFleet(ctx context.Context, cfg config, p policy) (*fleet, error) {
	f := &fleet{policy: p.name, log: newRequestLog(), stopScraper: func() {}}
	err := f.startServers(ctx, cfg)
	if err == nil {
		err = f.wire(ctx, cfg, p)
	}
	if err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

func (f *fleet) startServers(ctx context.Context, cfg config) error {
	for i := range cfg.endpoints {
		server, err := modelserver.Start(ctx, modelserver.Options{
			Name: fmt.Sprintf("server-%d", i+1), Models: []string{baseModel}, Adapters: adapters(),
			Calibration: smallGPU(), MaxSeqs: 64, MaxOutput: 512, TimeScale: cfg.timeScale, Seed: cfg.seed,
		})
		if err != nil {
			return fmt.Errorf("model server %d: %w", i+1, err)
		}
		f.servers = append(f.servers, server)
	}
	return nil
}

// wire makes the gateway: what it knows, how it decides, and how requests pass.
func (f *fleet) wire(ctx context.Context, cfg config, p policy) error {
	// What the gateway knows: manifests, endpoints, and what they report.
	f.store = datastore.New(datastore.Options{UnknownModels: datastore.Refuse, StickySessions: true})
	objects, err := types.DecodeManifests(manifests)
	if err != nil {
		return err
	}
	if err := f.store.Apply(objects...); err != nil {
		return err
	}
	var specs []datastore.EndpointSpec
	for _, s := range f.servers {
		specs = append(specs, datastore.EndpointSpec{ID: s.Name(), Address: s.Address(), Labels: map[string]string{"app": "llama"}, Engine: "vllm"})
	}
	if err := f.store.SetEndpoints(pool(), specs); err != nil {
		return err
	}
	scraper, err := scrape.New(f.store, scrape.Options{Interval: scrapeInterval, Seed: cfg.seed})
	if err != nil {
		return err
	}

	// How it decides.
	profile := p.profile
	profile.Hooks = f.log.hooks()
	profile.Seed = cmp.Or(profile.Seed, cfg.seed)
	if f.scheduler, err = scheduling.New(profile); err != nil {
		return fmt.Errorf("policy %s: %w", p.name, err)
	}

	// How requests pass, and who waits while there is not room for all.
	options := director.Options{
		Store: f.store, Scheduler: f.scheduler, RestoreModel: true, Seed: cfg.seed, OnRefused: f.log.refused,
		TrustRequestHeaders: true, // the gateway has made sure of them: see identify
	}
	if p.admission != nil {
		f.bands = p.admission().Bands
		options.Admission = func(types.NamespacedName) *admission.Options {
			o := p.admission()
			o.Hooks = f.log.admissionHooks()
			return o
		}
	}
	if f.director, err = director.New(options); err != nil {
		return err
	}
	f.transport = httptransport.New(f.director)
	f.transport.NameEndpoint, f.transport.Explain = true, true
	f.transport.Incoming, f.transport.OnRoute = identify, f.log.routed

	ctx, f.stopScraper = context.WithCancel(ctx)
	f.scraping.Go(func() { scraper.Run(ctx) })
	return nil
}

// waitForReadings returns when every server was scraped, or ctx is done.
func (f *fleet) waitForReadings(ctx context.Context) {
	unread := func(ep *types.Endpoint) bool { return ep.Metrics.UpdatedAt.IsZero() }
	for slices.ContainsFunc(f.endpoints(), unread) && sleep(ctx, 10*time.Millisecond) {
	}
}

// refuseWaiting refuses what waits to be let in, and what comes from now on.
func (f *fleet) refuseWaiting() {
	for _, c := range f.director.Admissions() {
		c.Close()
	}
}

// close ends everything that startFleet started and returns when it has ended.
// The gateway must be closed before.
func (f *fleet) close() {
	f.stopScraper()
	f.scraping.Wait()
	if f.director != nil {
		f.director.Close()
	}
	if f.transport != nil {
		f.transport.CloseIdleConnections()
	}
	for _, s := range f.servers {
		s.Close()
	}
}
