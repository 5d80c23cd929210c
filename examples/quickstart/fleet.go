package main

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kvevents/kveventstest"
	"github.com/inferpick/inferpick/datastore/rollout/loader"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling/admission"
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
	return []string{"chat-v1", "sql-writer", "contract-reader", "ticket-triage"}
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

// fleet is a number of simulated model servers and the gateways in front of them.
type fleet struct {
	policy           policy
	bands            []admission.Band // of its admission control, if it says what they are
	servers          []*modelserver.Server
	objects          []types.Object // the manifests
	log              *requestLog    // of all gateways
	gateways         []*instance
	turn             atomic.Uint64 // of who gets the next request
	rolls            rolls
	loaders          *loader.Client // of adapters, onto the servers
	*gateway.Gateway                // the first; nil until it is wired
}

// startFleet starts the servers and wires gateways with the policy in front of them. Fleets
// of the same config are the same, whatever their policies. Close it.
func startFleet(ctx context.Context, cfg config, p policy) (*fleet, error) {
	f := &fleet{policy: p, log: newRequestLog()}
	f.loaders, _ = loader.New(loader.Options{}) // the zero value has no error
	_, err := plugins.KVSinkOf(p.profile, plugins.KVOptions{})
	f.log.predicts = err == nil
	if err = f.startServers(ctx, cfg); err == nil {
		err = f.wire(ctx, cfg)
	}
	if err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

func (f *fleet) startServers(ctx context.Context, cfg config) error {
	var events func() (modelserver.Publisher, error)
	if f.log.predicts {
		events = func() (modelserver.Publisher, error) { return kveventstest.New(kveventstest.Options{}) }
	}
	for i := range cfg.endpoints {
		server, err := modelserver.Start(ctx, modelserver.Options{
			Name: fmt.Sprintf("server-%d", i+1), Models: []string{baseModel}, Adapters: adapters(),
			Events: events, Calibration: smallGPU(), MaxSeqs: 64, MaxLoRAs: 8, MaxOutput: 512, TimeScale: cfg.timeScale, Seed: cfg.seed,
		})
		if err != nil {
			return fmt.Errorf("model server %d: %w", i+1, err)
		}
		f.servers = append(f.servers, server)
	}
	return nil
}

// wire makes the gateways.
func (f *fleet) wire(ctx context.Context, cfg config) (err error) {
	if f.policy.admission != nil {
		f.bands = f.policy.admission().Bands
	}
	if f.objects, err = types.DecodeManifests(manifests); err != nil {
		return err
	}
	if err := f.hire(ctx, cfg); err != nil {
		return err
	}
	for i, g := range f.gateways {
		p := f.policy
		if i > 0 { // plugins that learn are of one gateway
			if p, err = loadPolicy(p.arg); err != nil {
				return err
			}
		}
		if err := g.open(p); err != nil {
			return err
		}
	}
	f.Gateway = f.gateways[0].now.Load().Gateway
	return nil
}

// specs are the servers as gateways are told of them.
func (f *fleet) specs() (specs []datastore.EndpointSpec) {
	for _, s := range f.servers {
		specs = append(specs, datastore.EndpointSpec{ID: s.Name(), Address: s.Address(), Labels: map[string]string{"app": "llama"}, Engine: "vllm"})
	}
	return specs
}

// waitForReadings returns when every server was scraped by all gateways, or ctx is done.
func (f *fleet) waitForReadings(ctx context.Context) {
	unread := func(ep *types.Endpoint) bool { return ep.Metrics.UpdatedAt.IsZero() }
	for _, g := range f.running() {
		for slices.ContainsFunc(g.endpoints(), unread) && sleep(ctx, 10*time.Millisecond) {
		}
	}
}

// refuseWaiting refuses what waits to be let in, and what comes from now on.
func (f *fleet) refuseWaiting() {
	for _, g := range f.running() {
		for _, c := range g.Director.Admissions() {
			c.Close()
		}
	}
}

// close ends everything that startFleet started and returns when it has ended.
// The fronts must be closed before.
func (f *fleet) close() {
	for _, g := range f.gateways {
		g.turn.Lock()
		if r := g.now.Load(); r != nil {
			r.close()
		}
		g.turn.Unlock()
	}
	f.loaders.Close()
	for _, s := range f.servers {
		s.Close()
	}
}
