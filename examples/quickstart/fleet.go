package main

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"slices"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kvevents"
	"github.com/inferpick/inferpick/datastore/kvevents/kveventstest"
	"github.com/inferpick/inferpick/datastore/scrape"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/gateway"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/scheduling/simulation/modelserver"
	"github.com/inferpick/inferpick/types"
)

//go:embed manifests.json
var manifests []byte // the pool and its models, as for Kubernetes

const baseModel = "llama-8b"

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
	policy           string
	bands            []admission.Band // of its admission control, if it says what they are
	servers          []*modelserver.Server
	log              *requestLog
	sink             *plugins.KVSink // of what servers tell that they hold; nil: nobody asks
	unsubscribe      func()          // from what servers tell; nil: nobody listens
	*gateway.Gateway                 // nil until it is wired
}

// startFleet starts the servers and wires a scheduler with the policy in front of
// them. Fleets of the same config are the same, whatever their policies. Close it.
func startFleet(ctx context.Context, cfg config, p policy) (*fleet, error) {
	f := &fleet{policy: p.name, log: newRequestLog()}
	f.sink, _ = plugins.KVSinkOf(p.profile, plugins.KVOptions{}) // nil: the policy does not ask what is cached
	f.log.predicts = f.sink != nil
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
	var events func() (modelserver.Publisher, error)
	if f.sink != nil {
		events = func() (modelserver.Publisher, error) { return kveventstest.New(kveventstest.Options{}) }
	}
	for i := range cfg.endpoints {
		server, err := modelserver.Start(ctx, modelserver.Options{
			Name: fmt.Sprintf("server-%d", i+1), Models: []string{baseModel}, Adapters: adapters(),
			Events: events, Calibration: smallGPU(), MaxSeqs: 64, MaxOutput: 512, TimeScale: cfg.timeScale, Seed: cfg.seed,
		})
		if err != nil {
			return fmt.Errorf("model server %d: %w", i+1, err)
		}
		f.servers = append(f.servers, server)
	}
	return nil
}

// wire makes the gateway: what it knows, how it decides, and how requests pass.
func (f *fleet) wire(ctx context.Context, cfg config, p policy) (err error) {
	o := gateway.Options{
		Profile: p.profile, Pool: pool(),
		Store:  datastore.Options{UnknownModels: datastore.Refuse, StickySessions: true},
		Scrape: scrape.Options{Seed: cfg.seed},
		Director: director.Options{
			RestoreModel: true, Seed: cfg.seed, OnRefused: f.log.refused,
			EngineSessions:      func(types.NamespacedName) bool { return f.sink != nil },
			TrustRequestHeaders: true, // the gateway has made sure of them: see identify
		},
	}
	o.Profile.Hooks = f.log.hooks()
	o.Profile.Seed = cmp.Or(p.profile.Seed, cfg.seed)
	if p.admission != nil {
		f.bands = p.admission().Bands
		o.Admission = func() *admission.Options {
			a := p.admission()
			a.Hooks = f.log.admissionHooks()
			return a
		}
	}
	if f.Gateway, err = gateway.New(o); err != nil {
		return fmt.Errorf("policy %s: %w", p.name, err)
	}
	f.Transport.NameEndpoint, f.Transport.Explain = true, true
	f.Transport.Incoming, f.Transport.OnRoute = identify, f.log.routed
	objects, err := types.DecodeManifests(manifests)
	if err != nil {
		return err
	}
	if err := f.Store.Apply(objects...); err != nil {
		return err
	}
	var specs []datastore.EndpointSpec
	for _, s := range f.servers {
		specs = append(specs, datastore.EndpointSpec{ID: s.Name(), Address: s.Address(), Labels: map[string]string{"app": "llama"}, Engine: "vllm"})
	}
	go f.Run(ctx)
	if f.sink != nil {
		events, err := kvevents.New(f.Store, kvevents.Options{Sink: f.sink, Seed: cfg.seed})
		if err != nil {
			return err
		}
		ctx, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			events.Run(ctx)
		}()
		f.unsubscribe = func() { stop(); <-done }
	}
	return f.SetServers(specs)
}

// waitForReadings returns when every server was scraped, or ctx is done.
func (f *fleet) waitForReadings(ctx context.Context) {
	unread := func(ep *types.Endpoint) bool { return ep.Metrics.UpdatedAt.IsZero() }
	for slices.ContainsFunc(f.endpoints(), unread) && sleep(ctx, 10*time.Millisecond) {
	}
}

// refuseWaiting refuses what waits to be let in, and what comes from now on.
func (f *fleet) refuseWaiting() {
	for _, c := range f.Director.Admissions() {
		c.Close()
	}
}

// close ends everything that startFleet started and returns when it has ended.
// The gateway must be closed before.
func (f *fleet) close() {
	if f.unsubscribe != nil {
		f.unsubscribe()
	}
	if f.Gateway != nil {
		f.Gateway.Close()
	}
	for _, s := range f.servers {
		s.Close()
	}
}
