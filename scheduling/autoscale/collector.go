package autoscale

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
)

// Speeds tells how fast an endpoint is, and whether that is known. plugins.Cost is one. It is called for each endpoint
// about once a second.
type Speeds interface {
	Speed(ep *types.Endpoint) (types.Speed, bool)
}

// CollectorOptions say where a Collector has its figures from. Pools is required.
type CollectorOptions struct {
	// Pools yields every pool with its endpoints as they are now, as telemetry.Options has it.
	Pools iter.Seq2[types.NamespacedName, []*types.Endpoint]
	// Admissions yields what the admission control of every pool that has one is like now. Optional.
	Admissions iter.Seq2[types.NamespacedName, admission.Stats]
	// Speeds tells how fast endpoints are: see SpeedsOf. Nil: that is learned from requests.
	Speeds Speeds
	// Starting tells how many replicas of a pool, or of one variant of it, are there that do not serve yet, and whether
	// that is known. Optional.
	Starting func(pool types.NamespacedName, variant string) (n int, ok bool)
	// VariantLabel is the label of endpoints whose values tell kinds of replicas apart. Empty: all are of one kind.
	VariantLabel string
	// Policy returns that of a pool, for the targets of requests that have none. Optional.
	Policy func(pool types.NamespacedName) (Policy, bool)
	// Now is the clock: the one of the schedulers whose hooks these are. Default time.Now, which also takes its place
	// where it panics.
	Now func() time.Time
	// MetricsTTL is the age beyond which a reading of an endpoint is unknown. Default scheduling.DefaultMetricsTTL.
	MetricsTTL time.Duration
	// MaxModels bounds the models of a pool that are told apart: the first to come are, and when one has not been asked
	// for in 10 minutes the next takes its place. Default DefaultMaxModels.
	MaxModels int
}

// DefaultMaxModels is the default of CollectorOptions.MaxModels.
const DefaultMaxModels = 100

// Collector makes Signals from what hooks tell it and from what endpoints and admission controls are like. All methods
// may be called from any goroutine; it starts none.
type Collector struct {
	o   CollectorOptions
	key *types.Key[*use]

	mu     sync.RWMutex
	pools  map[types.NamespacedName]*tally        // guarded by mu
	byLoad atomic.Pointer[map[*types.Load]*tally] // a nil one: it is in no pool
	woken  atomic.Pointer[func(types.NamespacedName)]
	uses   sync.Pool                    // of *use
	panics atomic.Pointer[guard.Teller] // nil: there is no Autoscaler
}

// NewCollector returns a Collector that has seen nothing. The error names the option that is wrong.
func NewCollector(o CollectorOptions) (*Collector, error) {
	wrong := check.Checks{Package: "autoscale"}
	if o.Pools == nil {
		wrong.Failf("Pools", "is required")
	}
	check.Positive(&wrong, "MetricsTTL", &o.MetricsTTL, scheduling.DefaultMetricsTTL)
	check.Default(&wrong, "MaxModels", &o.MaxModels, DefaultMaxModels, 1, 10_000)
	if err := wrong.Err(); err != nil {
		return nil, err
	}
	c := &Collector{
		o: o, key: types.NewKey[*use]("autoscale"), pools: map[types.NamespacedName]*tally{},
		uses: sync.Pool{New: func() any { return new(use) }},
	}
	if o.Now == nil {
		c.o.Now = time.Now
	} else {
		c.o.Now = guard.Clock("CollectorOptions.Now", o.Now, func(p *guard.Panic) { c.panics.Load().Tell(p) })
	}
	return c, nil
}

// SpeedsOf returns the first plugin of a profile that is a Speeds, nil if there is none.
func SpeedsOf(p scheduling.Profile) Speeds {
	for _, plugin := range p.Plugins() {
		if s, ok := plugin.(Speeds); ok {
			return s
		}
	}
	return nil
}

// tally is what is kept of a pool.
type tally struct {
	name   types.NamespacedName
	asleep atomic.Bool // nothing is recommended for it: whoever comes wakes it

	mu sync.Mutex
	// guarded by mu
	all                       *account
	models                    map[string]*account
	waits                     map[*types.Request]wait
	gated                     bool // admission control tells what comes
	maxWait, waitForEndpoints time.Duration
	told                      bool // refusals are told of by Refused
	learner                   learner
	speed                     types.Speed // known last
	targets                   targets
}

// wait is a request that waits, or has waited and is not booked yet.
type wait struct {
	of     *account // nil: its model has none of its own
	tokens int64
	since  time.Time
	letIn  bool
	waited time.Duration
}

// use is what is kept with a request that was sent to a server.
type use struct {
	pool    *tally
	of      *account // nil: its model has none of its own
	compute float64  // tokens of its prompt
	waited  float64  // seconds until it was let in
	alone   bool     // nobody waited for a first token before it
	others  float64  // that were there when it came
}

// forgetModel is after how long a model that nobody asks for may lose its place.
const forgetModel = 10 * time.Minute

// tally returns what is kept of a pool, which is made if it is new.
func (c *Collector) tally(name types.NamespacedName) *tally {
	if name.Namespace == "" {
		name.Namespace = types.DefaultNamespace
	}
	c.mu.RLock()
	p := c.pools[name]
	c.mu.RUnlock()
	if p != nil {
		return p
	}
	now := c.o.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.pools[name]; p != nil {
		return p
	}
	var policy Policy
	policy, _ = policy.withDefaults()
	p = &tally{
		name: name, all: newAccount(now), models: map[string]*account{}, waits: map[*types.Request]wait{},
		targets: targets{policy.TTFT.Seconds(), policy.TPOT.Seconds()},
	}
	c.pools[name] = p
	return p
}

// tallyOf returns the pool of an endpoint, nil if it is in none that is known.
func (c *Collector) tallyOf(ep *types.Endpoint) *tally {
	if ep == nil || ep.Load == nil {
		return nil
	}
	if m := c.byLoad.Load(); m != nil {
		if p, ok := (*m)[ep.Load]; ok {
			return p
		}
	}
	return c.look(ep.Load) // it is new, or its pool is
}

// look notes which endpoint is in which pool, and returns that of one. If it is in none that is noted too, until All is
// called next: nobody looks twice for the same.
func (c *Collector) look(load *types.Load) *tally {
	m := map[*types.Load]*tally{load: nil}
	for name, eps := range c.o.Pools {
		c.note(m, c.tally(name), eps)
	}
	c.byLoad.Store(&m)
	return m[load]
}

// note notes that endpoints are of a pool.
func (c *Collector) note(m map[*types.Load]*tally, p *tally, eps []*types.Endpoint) {
	for _, ep := range eps {
		if ep.Load != nil {
			m[ep.Load] = p
		}
	}
}

// model returns the account of a model, nil if there are too many. Caller must hold p.mu.
func (p *tally) model(name string, most int, now time.Time) *account {
	if name == "" {
		return nil
	}
	if a := p.models[name]; a != nil {
		return a
	}
	if len(p.models) >= most && !p.forgetOne(now) {
		return nil
	}
	a := newAccount(now)
	p.models[strings.Clone(name)] = a
	return a
}

// forgetOne drops the model that was asked for the longest ago, if that is long enough. Caller must hold p.mu.
func (p *tally) forgetOne(now time.Time) bool {
	oldest, at := "", now.Add(-forgetModel)
	for name, a := range p.models {
		if a.queued == 0 && a.running == 0 && a.active.Before(at) {
			oldest, at = name, a.active
		}
	}
	if oldest == "" {
		return false
	}
	delete(p.models, oldest)
	return true
}

// wake tells that something came for a pool for which nothing is recommended.
func (c *Collector) wake(p *tally) {
	if p.asleep.Load() && p.asleep.CompareAndSwap(true, false) {
		if f := c.woken.Load(); f != nil {
			(*f)(p.name)
		}
	}
}

// onWake has f called, from the goroutine of a request, when something comes for a pool that was put to sleep.
func (c *Collector) onWake(f func(types.NamespacedName)) { c.woken.Store(&f) }

// sleep says whether nothing is recommended for a pool.
func (c *Collector) sleep(name types.NamespacedName, asleep bool) { c.tally(name).asleep.Store(asleep) }

// Signals returns what this gateway knows of a pool, or of one model of it: of one that was not asked for lately, that
// nothing comes. Errors are ErrUnknownPool and ErrTooManyModels, wrapped.
func (c *Collector) Signals(name types.NamespacedName, model string) (Signals, error) {
	if name.Namespace == "" {
		name.Namespace = types.DefaultNamespace
	}
	var all []Signals
	if p := guard.Call("CollectorOptions.Pools", func() { all = c.all(&name) }); p != nil {
		return Signals{}, fmt.Errorf("autoscale: %w", p)
	}
	if len(all) == 0 {
		return Signals{}, fmt.Errorf("%w %v", ErrUnknownPool, name)
	}
	if model == "" {
		return all[0], nil
	}
	return c.modelOf(&all[0], all[1:], model)
}

// modelOf returns the signals of a model of a pool, of whose models some have signals.
func (c *Collector) modelOf(pool *Signals, models []Signals, model string) (Signals, error) {
	if i := slices.IndexFunc(models, func(m Signals) bool { return m.Model == model }); i >= 0 {
		return models[i], nil
	}
	if len(models) >= c.o.MaxModels { // what comes for it may have found no place: that is not nothing
		return Signals{}, fmt.Errorf("%w: %.80q of pool %v is none of %d", ErrTooManyModels, model, pool.Pool, len(models))
	}
	none := modelSignals(pool, model)
	newAccount(none.At).read(&none, none.At)
	none.Missing = pool.Missing
	return none, nil
}

// All returns the signals of all pools, each followed by those of its models, in order of their names. A panic of
// CollectorOptions.Pools is the caller's: a part must not be taken for the whole.
func (c *Collector) All() []Signals { return c.all(nil) }

// all returns the signals of one pool, or of all.
func (c *Collector) all(only *types.NamespacedName) []Signals {
	now := c.o.Now()
	gates := map[types.NamespacedName]admission.Stats{}
	if c.o.Admissions != nil {
		for name, stats := range c.o.Admissions {
			gates[name] = stats
		}
	}
	var all []Signals
	m := map[*types.Load]*tally{}
	for name, eps := range c.o.Pools {
		p := c.tally(name)
		c.note(m, p, eps)
		if only != nil && name != *only {
			continue
		}
		stats, gated := gates[name]
		all = c.read(all, p, eps, &stats, gated, now)
	}
	c.byLoad.Store(&m)
	slices.SortStableFunc(all, func(a, b Signals) int {
		return cmp.Or(a.Pool.Compare(b.Pool), cmp.Compare(a.Model, b.Model))
	})
	return all
}
