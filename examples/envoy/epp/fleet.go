package epp

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/datastore/scrape"
	"github.com/inferpick/inferpick/examples/envoy/config"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/gateway"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/scheduling/telemetry"
	"github.com/inferpick/inferpick/scheduling/trail"
	"github.com/inferpick/inferpick/types"
)

// fleet gives each pool of the store what the configuration in force says of it: a scheduler,
// the options of its admission control, and how its servers' metrics are read. It follows both,
// wherever pools come from. A pool for which the same is declared as before keeps what it has,
// with what has been learned.
type fleet struct {
	store    *datastore.Store
	logger   *slog.Logger
	servers  ServerMetrics       // where metrics are of which the configuration does not say it
	counting telemetry.Options   // of telemetry
	rollouts *rollout.Controller // nil: there are none
	// Made for the first configuration, and the same from then on.
	telemetry *telemetry.Metrics
	legacy    bool                              // it has the legacy names
	collector *autoscale.Collector              // nil: nothing is recommended
	trail     *trail.Trail                      // nil: nobody may ask for it
	source    atomic.Pointer[kubernetes.Source] // of pods; nil: not known, or there is none

	wake    chan struct{}                 // a pool has come, changed or gone
	config  atomic.Pointer[config.Config] // in force; nil before the first
	members atomic.Pointer[members]       // never nil

	mu       sync.Mutex         // held by who replaces config and members
	director *director.Director // nil while the first configuration is read
	scraper  *scrape.Scraper    // nil as long
	// Replaced, with requests still under way: those keep them alive, and nothing else.
	retired []weak.Pointer[scheduling.Scheduler]
}

// members is what pools have. It is not modified once it is published.
type members map[types.NamespacedName]*member

// member is what one pool has. Immutable.
type member struct {
	manifest  *types.InferencePool // nil: the pool has none
	config    *config.Config       // by which this was found
	policy    *config.Policy
	scheduler *scheduling.Scheduler
	parts     []any                 // of scheduler, that take part in sharing
	speeds    autoscale.Speeds      // the plugin of scheduler that knows how fast servers are; nil: none does
	encoders  *scheduling.Scheduler // nil: nobody encodes for others
	// admission is nil if there is none. While its declaration is the same, so is it: the
	// controller that is made of it, or configured by it, is one.
	admission *admission.Options
	wrong     string // with the pool's annotations
}

func newFleet(store *datastore.Store, o Options) (*fleet, error) {
	f := &fleet{
		store: store, logger: o.Logger, servers: o.ServerMetrics, wake: make(chan struct{}, 1),
		counting: telemetry.Options{Names: o.MetricNames, MetricsTTL: o.MetricsTTL, Version: o.Version, Commit: o.Commit},
	}
	f.members.Store(&members{})
	var err error
	if o.Explain {
		f.trail, _ = trail.New(trail.Options{}) // the zero value has no error
	}
	f.collector, err = f.newCollector(o)
	return f, err
}

// follow keeps the members in step with the pools of the store until ctx is done. It may be called again.
func (f *fleet) follow(ctx context.Context) {
	stop := f.store.WatchPools(func(datastore.PoolEvent) {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	})
	defer stop()
	for {
		f.settle() // also what came before
		select {
		case <-f.wake:
		case <-ctx.Done():
			return
		}
	}
}

// apply puts a configuration in force, whole or not at all. What of it are objects goes into
// the store, unless pools are found elsewhere.
func (f *fleet) apply(c *config.Config) error {
	before, next, err := f.replace(c)
	if err == nil {
		f.admit(before, next)
	}
	return err
}

// replace is apply, but for what the director has to be told without the lock.
func (f *fleet) replace(c *config.Config) (before, next members, err error) {
	f.mu.Lock()
	defer f.mu.Unlock() // also if there is a panic
	before = *f.members.Load()
	if err := f.countLocked(c); err != nil {
		return nil, nil, err
	}
	if next, err = f.assign(c, f.poolsOf(c), before); err != nil {
		return nil, nil, err
	}
	// Requests for pools that come with this wait for the lock to find what they have.
	if c.Change.OnlyObjects {
		if err := f.store.Commit(c.Change); err != nil {
			return nil, nil, err
		}
		if next, err = f.assign(c, f.pools(), next); err != nil {
			return nil, nil, err
		}
	}
	f.config.Store(c)
	f.publishLocked(next)
	if c.LegacyMetrics != f.legacy {
		f.logger.Warn("the feature gate enableLegacyMetrics counts when the picker starts: restart it")
	}
	return before, next, nil
}

// countLocked makes the telemetry for the first configuration. Caller must hold f.mu.
func (f *fleet) countLocked(c *config.Config) (err error) {
	if f.telemetry != nil {
		return nil
	}
	counting := f.counting
	counting.LegacyNames = c.LegacyMetrics
	f.legacy = c.LegacyMetrics
	f.telemetry, err = newTelemetry(counting, f.store, f.admissions)
	return err
}

// declared is a pool as it is declared.
type declared struct {
	name     types.NamespacedName
	manifest *types.InferencePool
}

// pools returns those of the store.
func (f *fleet) pools() (all []declared) {
	for _, p := range f.store.Snapshot().Pools() {
		all = append(all, declared{p.Name(), p.Manifest()})
	}
	return all
}

// poolsOf returns those that there are with a configuration.
func (f *fleet) poolsOf(c *config.Config) (all []declared) {
	if !c.Change.OnlyObjects {
		return f.pools()
	}
	for _, o := range c.Change.Objects {
		if p, ok := o.(*types.InferencePool); ok {
			all = append(all, declared{p.Key(), p})
		}
	}
	return all
}

// settle gives the pools of the store what they lack, and takes what those had that have gone.
func (f *fleet) settle() {
	before, next, err := f.reassign()
	if err != nil {
		f.logger.Error("pools are served as before", slog.Any("error", err)) // profiles can be built, as config has found out
		return
	}
	f.admit(before, next)
}

// reassign is settle, but for what the director has to be told without the lock.
func (f *fleet) reassign() (before, next members, err error) {
	f.mu.Lock()
	defer f.mu.Unlock() // also if there is a panic
	before = *f.members.Load()
	next, err = f.assign(f.config.Load(), f.pools(), before)
	if err == nil && !maps.Equal(before, next) {
		f.publishLocked(next)
	}
	return before, next, err
}

// assign returns what pools have by a configuration; before is what they have so far.
func (f *fleet) assign(c *config.Config, pools []declared, before members) (members, error) {
	next := make(members, len(pools))
	for _, p := range pools {
		had := before[p.name]
		if had != nil && had.config == c && had.manifest == p.manifest {
			next[p.name] = had
			continue
		}
		m, err := f.member(c, p, had)
		if err != nil {
			return nil, fmt.Errorf("epp: pool %s: %w", p.name, err)
		}
		next[p.name] = m
	}
	return next, nil
}

// member returns what a pool has by a configuration; had is what it has so far, nil if it is new.
func (f *fleet) member(c *config.Config, p declared, had *member) (*member, error) {
	m := &member{manifest: p.manifest, config: c}
	if had == nil {
		had = &member{}
	}
	var annotations map[string]string
	if p.manifest != nil {
		annotations = p.manifest.Annotations
	}
	var err error
	if m.policy, err = c.Policy(p.name, annotations, had.policy); err != nil {
		m.wrong = err.Error()
	}
	m.scheduler, m.parts, m.speeds, m.encoders, m.admission = had.scheduler, had.parts, had.speeds, had.encoders, had.admission
	if had.policy == nil || m.policy.Key() != had.policy.Key() {
		profile, err := m.policy.Profile()
		if err != nil {
			return nil, err
		}
		if f.rollouts != nil {
			profile = gateway.WithRollouts(profile, f.rollouts)
		}
		profile.Hooks = f.hooks(p.name, profile.Hooks)
		if m.scheduler, err = scheduling.New(profile); err != nil {
			return nil, err
		}
		m.parts, m.speeds = sharing.PartsOf(profile), autoscale.SpeedsOf(profile)
		if m.encoders, err = newEncoders(m.policy.Encode()); err != nil {
			return nil, err
		}
	}
	if had.policy == nil || m.policy.AdmissionKey() != had.policy.AdmissionKey() {
		if m.admission = m.policy.Admission(); m.admission != nil {
			if err := m.admission.Validate(); err != nil {
				return nil, err
			}
			m.admission.Hooks = f.admissionHooks(p.name, *m.admission)
		}
	}
	return m, nil
}

// hooks are those of a pool's scheduler.
func (f *fleet) hooks(pool types.NamespacedName, next scheduling.Hooks) scheduling.Hooks {
	if f.collector != nil {
		next = f.collector.Hooks(pool, next)
	}
	if f.trail != nil {
		next = f.trail.Hooks(next)
	}
	return f.telemetry.Hooks(pool, next)
}

// admissionHooks are those of a pool's admission control.
func (f *fleet) admissionHooks(pool types.NamespacedName, o admission.Options) admission.Hooks {
	if f.collector != nil {
		o.Hooks = f.collector.AdmissionHooks(pool, o)
	}
	if f.trail != nil {
		next := o.Hooks.Dispatched
		o.Hooks.Dispatched = func(t *admission.Ticket, waited time.Duration) {
			f.trail.Waited(t.Request(), waited)
			if next != nil {
				next(t, waited)
			}
		}
	}
	return f.telemetry.AdmissionHooks(pool, o)
}

// publishLocked makes members those that there are. Caller must hold f.mu.
func (f *fleet) publishLocked(next members) {
	before := *f.members.Load()
	f.members.Store(&next)
	for pool, old := range before {
		if m := next[pool]; m == nil || m.scheduler != old.scheduler {
			f.retired = append(f.retired, weak.Make(old.scheduler))
		}
	}
	f.openLocked() // forgets those that are idle
	for pool, m := range next {
		if old := before[pool]; m.wrong != "" && (old == nil || old.wrong != m.wrong) {
			f.logger.Warn("pool has another policy than it asks for", slog.String("pool", pool.String()), slog.String("error", m.wrong))
		}
	}
	if f.director != nil {
		f.director.Renew()
	}
	f.scrapeLocked()
}

// scrapeLocked tells the scraper. Caller must hold f.mu.
func (f *fleet) scrapeLocked() {
	if f.scraper == nil {
		return
	}
	pools := make(map[types.NamespacedName]scrape.PoolOptions)
	for pool, m := range *f.members.Load() {
		pools[pool] = f.servers.of(m.policy.ServerMetrics())
	}
	if err := f.scraper.SetPools(pools); err != nil {
		panic(err) // engines were validated
	}
}

// admit tells the director, if the admission control of a pool is another than before. Caller
// must not hold f.mu: the director asks, also about pools that have come meanwhile.
func (f *fleet) admit(before, next members) {
	f.mu.Lock()
	d := f.director
	f.mu.Unlock()
	if d == nil || maps.Equal(before.admissions(), next.admissions()) {
		return
	}
	if err := d.SetAdmission(f.admission); err != nil {
		panic(err) // they were validated
	}
}

// admissions are the options of the pools that have admission control.
func (m members) admissions() map[types.NamespacedName]*admission.Options {
	all := make(map[types.NamespacedName]*admission.Options)
	for pool, one := range m {
		if one.admission != nil {
			all[pool] = one.admission
		}
	}
	return all
}

// attach makes the director and the scraper follow from now on.
func (f *fleet) attach(d *director.Director, s *scrape.Scraper) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.director, f.scraper = d, s
	f.scrapeLocked()
}
