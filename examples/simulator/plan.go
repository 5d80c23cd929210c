package main

import (
	"context"
	"fmt"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation"
)

// core is the simulator proper. Tests put another in its place.
type core struct {
	run      func(context.Context, simulation.Config) (*simulation.Report, error)
	capacity func(context.Context, simulation.Config) (float64, error)
}

func realCore() core { return core{simulation.Run, simulation.Capacity} }

// planned is one run to be made.
type planned struct {
	policy simulation.Policy
	seed   uint64
	level  level
	config simulation.Config
}

// level is how much is asked of the fleet.
type level struct {
	load float64 // fraction of the measured capacity; 0: not measured
	rate float64 // arrivals per second; 0: the workload's own, which is not known
	unit string  // what arrives
	// clients in a closed loop; 0: arrivals do not wait for anything.
	clients int
}

// String is how the level is called in tables.
func (l level) String() string {
	switch {
	case l.clients > 0:
		return fmt.Sprintf("%d clients in a closed loop", l.clients)
	case l.load > 0:
		return fmt.Sprintf("load %.4g (%.4g %s/s)", l.load, l.rate, l.unit)
	case l.rate > 0:
		return fmt.Sprintf("%.4g %s/s", l.rate, l.unit)
	}
	return "the workload's own rate"
}

// Short is String for the head of a column.
func (l level) Short() string {
	switch {
	case l.clients > 0:
		return fmt.Sprintf("%d clients", l.clients)
	case l.load > 0:
		return fmt.Sprintf("%.4g %%", 100*l.load)
	case l.rate > 0:
		return fmt.Sprintf("%.4g/s", l.rate)
	}
	return "own rate"
}

// baseConfig is what all runs of cfg have in common.
func (cfg *config) baseConfig() simulation.Config {
	c := simulation.Config{
		Fleet:    cfg.replicasWithRoles(),
		Links:    simulation.Links{BytesPerSecond: cfg.link / 8 * 1e9},
		Workload: cfg.spec,
		Gateways: cfg.gateways, Sharing: cfg.sharing, Shares: cfg.shares, Sticky: cfg.sticky,
		ClosedLoop: cfg.clients,
		Scrape:     simulation.Scrape{Period: cfg.scrape},
		Duration:   cfg.duration,
		Warmup:     cfg.warmup,
		Seed:       cfg.seeds[0],
		CPU:        cfg.cpu,
	}
	if cfg.scrape == 0 {
		c.Scrape.Period = -1
	}
	return c
}

// roles tells whether some servers compute prompts for others.
func (cfg *config) roles() bool { return cfg.prefill > 0 || cfg.decode > 0 || cfg.both }

// alike makes the fleet without roles.
func (cfg *config) alike() simulation.Fleet {
	f := simulation.Uniform(cfg.replicas, cfg.engine)
	for i := range f.Replicas {
		f.Replicas[i].Diffusion = cfg.denoises
	}
	return f
}

// replicasWithRoles makes the fleet.
func (cfg *config) replicasWithRoles() simulation.Fleet {
	f := cfg.alike()
	if !cfg.roles() {
		return f
	}
	for i := range f.Replicas {
		switch {
		case i < cfg.prefill:
			f.Replicas[i].Role = "prefill"
		case i < cfg.prefill+cfg.decode:
			f.Replicas[i].Role = "decode"
		default:
			f.Replicas[i].Role = "prefill-decode"
		}
	}
	return f
}

// ownRate tells whether the workload is played as it is.
func (cfg *config) ownRate() bool { return len(cfg.loads) == 0 && len(cfg.rates) == 0 }

// levels returns the levels to play. If they are fractions of the capacity, that is
// measured first; it is 0 otherwise.
func (cfg *config) levels(ctx context.Context) ([]level, float64, error) {
	unit := arrivals(cfg.spec)
	if cfg.clients > 0 {
		return []level{{clients: cfg.clients, unit: unit}}, 0, nil
	}
	if cfg.ownRate() {
		return []level{{rate: simulation.Rate(cfg.spec), unit: unit}}, 0, nil
	}
	var ls []level
	for _, r := range cfg.rates {
		ls = append(ls, level{rate: r, unit: unit})
	}
	if len(cfg.loads) == 0 {
		return ls, 0, nil
	}
	capacity, err := cfg.capacity(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("capacity: %w", err)
	}
	for _, f := range cfg.loads {
		ls = append(ls, level{load: f, rate: f * capacity, unit: unit})
	}
	return ls, capacity, nil
}

// capacity measures the highest rate at which the fleet keeps up with the workload
// under least-req, on the first seed. It does not depend on how long the runs are.
func (cfg *config) capacity(ctx context.Context) (float64, error) {
	c := cfg.baseConfig()
	c.Duration, c.Warmup = 0, capacityWarmup
	c.Fleet = cfg.alike() // where nobody waits for another
	var err error
	if c.Workload, err = endless(cfg.spec); err != nil {
		return 0, err
	}
	return cfg.core.capacity(ctx, c)
}

const (
	// capacityPolicy is what simulation.Capacity plays of itself: it balances, and
	// does not look for cached prefixes. Policies that do so may keep up with more.
	capacityPolicy = "least-req"
	// capacityWarmup is long enough for the caches to fill.
	capacityWarmup = 30 * time.Second
)

// plan lists the runs: by level, policy, and seed. The workload of a level and
// seed is the same for all policies.
func (cfg *config) plan(levels []level) ([]planned, error) {
	var runs []planned
	for _, l := range levels {
		base := cfg.baseConfig()
		if !cfg.ownRate() {
			spec, err := simulation.WithRate(cfg.spec, l.rate)
			if err != nil {
				return nil, err
			}
			base.Workload = spec
		}
		base.ExplainJob = cfg.explain
		if base.ExplainJob == 0 && l.clients > 0 {
			base.ExplainJob = 3 * l.clients // caches are no longer empty
		}
		if base.ExplainJob == 0 {
			base.ExplainJob = middle(base.Duration, base.Warmup, l.rate)
		}
		for _, p := range cfg.policies {
			for _, seed := range cfg.seeds {
				c := base
				c.Policy, c.Seed = p, seed
				if err := c.Validate(); err != nil {
					return nil, err
				}
				runs = append(runs, planned{p, seed, l, c})
			}
		}
	}
	return runs, nil
}

// middle is the number of a request that arrives in the middle of what is counted.
func middle(duration, warmup time.Duration, rate float64) int {
	return max(1, int(rate*(warmup+(duration-warmup)/2).Seconds()))
}
