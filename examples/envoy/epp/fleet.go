package epp

import (
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"weak"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/scrape"
	"github.com/inferpick/inferpick/examples/envoy/config"
	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/telemetry"
	"github.com/inferpick/inferpick/types"
)

// fleet holds a scheduler for each pool of the configuration in force, and the options of
// its admission control. A pool whose declaration of either is the same after a reload
// keeps it, with what has been learned.
type fleet struct {
	store    *datastore.Store
	logger   *slog.Logger
	servers  ServerMetrics     // where metrics are of which the configuration does not say it
	counting telemetry.Options // of telemetry
	// Made for the first configuration, and the same from then on.
	telemetry *telemetry.Metrics
	legacy    bool // it has the legacy names

	mu       sync.Mutex
	director *director.Director // nil while the first configuration is read
	scraper  *scrape.Scraper    // nil as long
	pools    map[types.NamespacedName]scheduled
	admitted admissions // for the pools that have admission control
	// Replaced, with requests still under way: those keep them alive, and nothing else.
	retired []weak.Pointer[scheduling.Scheduler]

	config atomic.Pointer[config.Config] // in force; nil before the first
}

type scheduled struct {
	key       string // of the declaration
	scheduler *scheduling.Scheduler
}

// admissions are the options of pools' admission controls. It is not modified once the
// director knows it.
type admissions map[types.NamespacedName]admits

type admits struct {
	key     string // of the declaration
	options *admission.Options
}

// of is for director.Options.Admission. The options that it returns for a pool are the
// same ones each time: the controller that is made of them, or configured by them, is one.
func (a admissions) of(pool types.NamespacedName) *admission.Options { return a[pool].options }

// apply puts a configuration in force, whole or not at all.
func (f *fleet) apply(c *config.Config) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.telemetry == nil {
		var err error
		counting := f.counting
		counting.LegacyNames = c.LegacyMetrics
		if f.telemetry, err = newTelemetry(counting, f.store, f.admissions); err != nil {
			return err
		}
		f.legacy = c.LegacyMetrics
	}
	next := make(map[types.NamespacedName]scheduled)
	for _, pool := range c.Pools() {
		key := c.ProfileKey(pool)
		if old, ok := f.pools[pool]; ok && old.key == key {
			next[pool] = old
			continue
		}
		profile, err := c.Profile(pool)
		if err != nil {
			return err
		}
		profile.Hooks = f.telemetry.Hooks(pool, profile.Hooks)
		s, err := scheduling.New(profile)
		if err != nil {
			return fmt.Errorf("epp: pool %s: %w", pool, err)
		}
		next[pool] = scheduled{key, s}
	}
	admitted, err := f.admissionsLocked(c)
	if err != nil {
		return err
	}
	// New pools have who schedules for them before they can be seen, and old ones
	// until they cannot.
	both := make(map[types.NamespacedName]scheduled)
	bothAdmitted := make(admissions)
	for pool := range next {
		if _, old := f.pools[pool]; !old && admitted[pool].options != nil {
			bothAdmitted[pool] = admitted[pool]
		}
	}
	fresh := len(bothAdmitted) > 0
	maps.Copy(bothAdmitted, f.admitted)
	for pool, s := range f.pools {
		both[pool] = s
	}
	for pool, s := range next {
		both[pool] = s
	}
	f.setLocked(both)
	if fresh {
		f.admitLocked(bothAdmitted)
	}
	if err := f.store.Commit(f.servers.of(c.Change)); err != nil {
		f.setLocked(f.pools)
		if fresh {
			f.admitLocked(f.admitted)
		}
		return err
	}
	f.setLocked(next)
	f.scrapeLocked(c)
	if !maps.Equal(admitted, f.admitted) {
		f.admitLocked(admitted)
		f.admitted = admitted
	}
	for pool, old := range f.pools {
		if next[pool].scheduler != old.scheduler {
			f.retired = append(f.retired, weak.Make(old.scheduler))
		}
	}
	f.pools = next
	f.config.Store(c)
	f.openLocked() // forgets those that are idle
	if c.LegacyMetrics != f.legacy {
		f.logger.Warn("the feature gate enableLegacyMetrics counts when the picker starts: restart it")
	}
	return nil
}

// setLocked tells the director. Caller must hold f.mu.
func (f *fleet) setLocked(pools map[types.NamespacedName]scheduled) {
	if f.director == nil || len(pools) == 0 {
		return
	}
	if err := f.director.SetSchedulers(nil, schedulersOf(pools)); err != nil {
		panic(err) // it is none of the errors that SetSchedulers has
	}
}

// admissionsLocked returns the options of the pools' admission controls by c: those that
// there are, if they are declared as before. Caller must hold f.mu.
func (f *fleet) admissionsLocked(c *config.Config) (admissions, error) {
	next := make(admissions)
	for _, pool := range c.Pools() {
		key := c.AdmissionKey(pool)
		if key == "" {
			continue
		}
		if old, ok := f.admitted[pool]; ok && old.key == key {
			next[pool] = old
			continue
		}
		o := c.Admission(pool)
		if err := o.Validate(); err != nil {
			return nil, fmt.Errorf("epp: pool %s: %w", pool, err)
		}
		o.Hooks = f.telemetry.AdmissionHooks(pool, *o)
		next[pool] = admits{key, o}
	}
	return next, nil
}

// admitLocked tells the director. Caller must hold f.mu.
func (f *fleet) admitLocked(a admissions) {
	if f.director == nil {
		return
	}
	if err := f.director.SetAdmission(a.of); err != nil {
		panic(err) // they were validated
	}
}

// admissions are what the admission controls are like now.
func (f *fleet) admissions(yield func(types.NamespacedName, admission.Stats) bool) {
	f.mu.Lock()
	d := f.director
	f.mu.Unlock()
	if d == nil {
		return
	}
	for pool, c := range d.Admissions() {
		if !yield(pool, c.Stats()) {
			return
		}
	}
}

// scrapeLocked tells the scraper. Caller must hold f.mu.
func (f *fleet) scrapeLocked(c *config.Config) {
	if f.scraper == nil {
		return
	}
	if err := f.scraper.SetPools(c.ServerMetrics()); err != nil {
		panic(err) // engines were validated
	}
}

// scrapeWith makes the scraper follow the configuration from now on.
func (f *fleet) scrapeWith(s *scrape.Scraper) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.scraper = s
	f.scrapeLocked(f.config.Load())
}

// attach makes the director follow the configuration from now on.
func (f *fleet) attach(d *director.Director) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.director = d
	f.setLocked(f.pools)
	f.admitLocked(f.admitted)
}

func (f *fleet) schedulers() map[types.NamespacedName]*scheduling.Scheduler {
	f.mu.Lock()
	defer f.mu.Unlock()
	return schedulersOf(f.pools)
}

func schedulersOf(pools map[types.NamespacedName]scheduled) map[types.NamespacedName]*scheduling.Scheduler {
	m := make(map[types.NamespacedName]*scheduling.Scheduler, len(pools))
	for pool, s := range pools {
		m[pool] = s.scheduler
	}
	return m
}

// open returns how many requests are booked, also with schedulers that were replaced.
func (f *fleet) open() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.openLocked()
}

// openLocked forgets replaced schedulers that have none, too. Caller must hold f.mu.
func (f *fleet) openLocked() (n int) {
	for _, s := range f.pools {
		n += s.scheduler.Open()
	}
	f.retired = slices.DeleteFunc(f.retired, func(p weak.Pointer[scheduling.Scheduler]) bool {
		s := p.Value()
		if s == nil {
			return true
		}
		open := s.Open()
		n += open
		return open == 0
	})
	return n
}

// checkAddress sees to it that Envoy can use what it is told: numbers, not names.
func checkAddress(s datastore.EndpointSpec) error {
	if _, err := netip.ParseAddrPort(s.Address); err != nil {
		return &check.Error{Field: "address", Value: s.Address, Want: "ip:port, which is all that Envoy takes", Err: err}
	}
	return nil
}

// report returns what Envoy is to be told of the usage of a pool's request: numbers by name,
// by namespace.
func (f *fleet) report(pool types.NamespacedName, u types.Usage) map[string]map[string]any {
	c := f.config.Load()
	if c == nil {
		return nil
	}
	var told map[string]map[string]any
	for _, r := range c.Reports(pool) {
		v, ok := r.Value(u)
		if !ok {
			continue
		}
		if told == nil {
			told = make(map[string]map[string]any)
		}
		if told[r.Namespace] == nil {
			told[r.Namespace] = make(map[string]any)
		}
		told[r.Namespace][r.Name] = v
	}
	return told
}

// passes reports whether the bodies of a pool's requests are not to be looked at.
func (f *fleet) passes(pool types.NamespacedName) bool {
	c := f.config.Load()
	return c != nil && c.Passthrough(pool)
}
