package autoscale

import (
	"cmp"
	"slices"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
)

// read appends the signals of a pool, and of its models.
func (c *Collector) read(
	all []Signals, p *tally, eps []*types.Endpoint, stats *admission.Stats, gated bool, now time.Time,
) []Signals {
	s := NewSignals(p.name, "", now)
	f := fleet{c: c, seen: &types.Request{Now: now, StaleBefore: now.Add(-c.o.MetricsTTL)}}
	for _, ep := range eps {
		f.add(ep)
	}
	policy, scaled := Policy{}, false
	if c.o.Policy != nil {
		c.panics.Load().Call("CollectorOptions.Policy", func() { policy, scaled = c.o.Policy(p.name) })
	}
	starting, known := c.starting(p.name, "")
	variants := f.variants(p)

	p.mu.Lock()
	defer p.mu.Unlock()
	if policy, err := policy.withDefaults(); scaled && err == nil {
		p.targets = targets{policy.TTFT.Seconds(), policy.TPOT.Seconds()}
	}
	if speed, ok := f.speed(); ok {
		p.speed = speed
	} else if speed, ok := p.learner.speed(); ok {
		p.speed = speed
	}
	s.Speed = p.speed
	p.all.read(&s, now)
	f.read(&s)
	s.Variants, s.MaxWait = variants, p.maxWait
	if s.Ready == 0 {
		s.MaxWait = cmp.Or(p.waitForEndpoints, p.maxWait)
	}
	if known {
		s.Starting = max(starting, 0)
	}
	s.Backlog = p.backlog(p.all, float64(s.PrefillTokens))
	if gated {
		s.Saturation, s.OldestWait = Figure(stats.Saturation), stats.Oldest
	} else {
		s.OldestWait = p.oldest(nil, now)
	}
	all = append(all, s)
	for name, a := range p.models {
		m := modelSignals(&s, name)
		m.OldestWait = p.oldest(a, now)
		a.read(&m, now)
		m.Backlog = p.backlog(a, 0)
		all = append(all, m)
	}
	return all
}

// starting is CollectorOptions.Starting. What panics does not know.
func (c *Collector) starting(pool types.NamespacedName, variant string) (n int, known bool) {
	if c.o.Starting != nil {
		c.panics.Load().Call("CollectorOptions.Starting", func() { n, known = c.o.Starting(pool, variant) })
	}
	return n, known
}

// modelSignals is what is not counted of a model of a pool.
func modelSignals(of *Signals, model string) Signals {
	s := NewSignals(of.Pool, model, of.At)
	s.Gateways, s.Speed = of.Gateways, of.Speed
	return s
}

// backlog is the seconds of what waits, and of so many tokens that servers have to compute.
func (p *tally) backlog(a *account, owed float64) Figure {
	if !p.speed.Known() {
		return Unknown()
	}
	return Figure((owed + float64(a.tokens)*a.cached.or(p.all.cached.or(1))) * p.speed.Token)
}

// oldest is how long the request has waited that has the longest: of a model, or of all.
func (p *tally) oldest(of *account, now time.Time) (longest time.Duration) {
	for _, w := range p.waits {
		if !w.letIn && (of == nil || w.of == of) {
			longest = max(longest, now.Sub(w.since))
		}
	}
	return longest
}

// fleet is the endpoints of a pool.
type fleet struct {
	c    *Collector
	seen *types.Request

	ready                               int
	held                                types.Booking
	kv, batch, waiting, slots, kvTokens average
	all                                 speeds
	kinds                               []kindOf
}

type kindOf struct {
	Variant
	speeds
}

// average is that of the figures that are known.
type average struct {
	sum float64
	n   int
}

// add takes v in, unless it is NaN.
func (m *average) add(v float64) {
	if v == v {
		m.sum += v
		m.n++
	}
}

func (m *average) figure() Figure {
	if m.n == 0 {
		return Unknown()
	}
	return Figure(m.sum / float64(m.n))
}

// speeds is the speeds of endpoints, in what they do in a second: those of several add up.
type speeds struct {
	token, step, sequence float64
	n                     int
}

func (m *speeds) add(s types.Speed) {
	m.token += 1 / s.Token
	m.step += s.Step
	m.sequence += s.Sequence
	m.n++
}

func (m *speeds) mean() (types.Speed, bool) {
	if m.n == 0 {
		return types.Speed{}, false
	}
	n := float64(m.n)
	return types.Speed{Token: n / m.token, Step: m.step / n, Sequence: m.sequence / n}, true
}

// add takes an endpoint in. Requests at one that takes no new ones are there all the same.
func (f *fleet) add(ep *types.Endpoint) {
	if ep.Load != nil {
		f.held = f.held.Plus(ep.Load.Held())
	}
	kind := f.kind(ep)
	if ep.State != types.Ready {
		return
	}
	f.ready++
	f.kv.add(ep.KVUsage(f.seen))
	f.batch.add(ep.Running(f.seen))
	f.waiting.add(ep.Waiting(f.seen))
	if n := ep.Capacity.MaxConcurrency; n > 0 {
		f.slots.add(float64(n))
	}
	if n := kvTokens(ep); n > 0 {
		f.kvTokens.add(n)
	}
	if kind != nil {
		kind.Ready++
	}
	if f.c.o.Speeds == nil {
		return
	}
	s, ok := types.Speed{}, false
	f.c.panics.Load().Call("CollectorOptions.Speeds", func() { s, ok = f.c.o.Speeds.Speed(ep) })
	if ok && s.Known() {
		f.all.add(s)
		if kind != nil {
			kind.speeds.add(s)
		}
	}
}

// kvTokens is how many tokens fit in the KV cache of ep; 0: not known.
func kvTokens(ep *types.Endpoint) float64 {
	if n := ep.Capacity.KVTokens; n > 0 {
		return float64(n)
	}
	return ep.Metrics.BlockSize.Or(0) * ep.Metrics.NumBlocks.Or(0)
}

// kind returns the variant of ep, nil if they are not told apart.
func (f *fleet) kind(ep *types.Endpoint) *kindOf {
	if f.c.o.VariantLabel == "" {
		return nil
	}
	name := ep.Labels[f.c.o.VariantLabel]
	i := slices.IndexFunc(f.kinds, func(k kindOf) bool { return k.Name == name })
	if i < 0 {
		i = len(f.kinds)
		f.kinds = append(f.kinds, kindOf{Variant: Variant{Name: name, Starting: -1}})
	}
	k := &f.kinds[i]
	k.CostPerHour = max(k.CostPerHour, ep.Capacity.CostPerHour)
	return k
}

// speed returns the mean speed of those that are known.
func (f *fleet) speed() (types.Speed, bool) { return f.all.mean() }

// read fills in what servers and the ledger say.
func (f *fleet) read(s *Signals) {
	s.Ready = f.ready
	s.Running, s.PrefillTokens, s.ContextTokens = f.held.Requests, f.held.PrefillTokens, f.held.ContextTokens
	s.KVUsed, s.Batch, s.Waiting = f.kv.figure(), f.batch.figure(), f.waiting.figure()
	s.Slots, s.KVTokens = f.slots.figure(), f.kvTokens.figure()
	if s.Running > 0 {
		s.Idle = 0
	}
}

// variants returns the kinds of replicas, nil if there is one.
func (f *fleet) variants(p *tally) []Variant {
	if len(f.kinds) < 2 {
		return nil
	}
	var all []Variant
	for _, k := range f.kinds {
		if speed, ok := k.mean(); ok {
			k.Speed = speed
		}
		if n, ok := f.c.starting(p.name, k.Name); ok {
			k.Starting = max(n, 0)
		}
		all = append(all, k.Variant)
	}
	slices.SortFunc(all, func(a, b Variant) int { return cmp.Compare(a.Name, b.Name) })
	return all
}
