package plugins

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/internal/prefixindex"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Cost is a Coster that estimates in seconds what a request costs at each endpoint,
// for itself and for the others there. It is the whole of the Default profile:
//
//	cost = 5·(wait + prefill + step)            time to the first token
//	     + output·(0.2·step' + load)            its own output, and what that takes from others
//	     + decoding·(recompute + 0.3·long)      how long its prefill holds up those that decode
//	     + adapter + kv - home
//
// wait is the rest of the step under way and the prefills that go before; their end is
// known from the tokens that come back, because all tokens of a step leave an engine
// together. prefill is the time for the tokens that the endpoint has not cached. load
// is the part of a step that grows with the sequences in it: one more sequence takes
// as much from the others together as they take from it, so the sum is least where the
// two are charged alike. recompute is prefill that another endpoint would have saved,
// divided by one more than the requests in flight that begin alike: a beginning that
// many share is worth another copy. long is what a prefill exceeds six steps by. kv
// grows as k/(1-k) with the part k of the KV cache in use. home draws a prompt to the
// endpoint that all gateways agree on, where there are others.
//
// All of it is read from what this process sent and saw: it needs no metrics, and with
// them it adds the requests of others. How long steps and prefills take is learned for
// each endpoint from the answers. The constants are in CostOptions.
//
// Make it with NewCost; it belongs to one Scheduler, which serves one kind of model.
// Safe for concurrent use; decisions run in parallel.
type Cost struct {
	o      CostOptions
	prefix *PrefixCache
	key    *types.Key[*costed]

	// servers.mu also guards what follows.
	servers     endpointTable[costServer]
	names       map[string]*modelName // of target models
	outputs     outputLengths
	crowd       crowd
	fleet       fleetRates
	meanContext float64 // tokens of a request, at half of its output
	reuse       float64 // part of prompts that engines found in their caches

	// Written by decisions, which hold the lock for reading.
	others  atomicFloat // part of the requests at the servers that others sent
	foreign atomicFloat // requests of others at a server, on average

	start   sync.Once
	epoch   time.Time
	scratch sync.Pool // of *costScratch
}

// costed is what Cost keeps with a request.
type costed struct {
	prefix
	prompt, output float64 // tokens; output is what is expected
	adapter        int32   // 0: none
	streamed       bool

	// The question, from Cost to Picked, for Items.
	query costQuery

	// Of the endpoint chosen last, from Picked to Finished.
	at         *costServer
	next, prev *costed // in costServer's list of those without a first token
	waiting    bool    // is in that list
	compute    float64 // tokens that are not cached there
	base       float64 // seconds of their prefill on CostOptions.Engine
	work       float64 // the same on that server
	predicted  float64 // seconds until the first token, without work
	sent       float64
	first      float64 // when the first token was seen; with firstAfter 0: it was not
	firstAfter float64 // seconds until then
	stepThen   float64 // base seconds of a step then
	doneThen   float64 // costServer.done then
}

// costQuery is what one decision looks at in all endpoints alike.
type costQuery struct {
	at      float64 // when the request reaches an engine
	best    float64 // most tokens cached at one endpoint, or expected at the home
	share   float64 // 1/(1 + requests in flight that begin alike)
	scarce  float64 // part of the endpoints whose adapter slots are full
	home    *costServer
	worth   float64 // what that is worth in seconds
	slo     types.SLO
	meets   bool    // some endpoint meets the SLO
	dearest float64 // cost per hour
}

type costScratch struct {
	servers []*costServer
	late    []float64
	held    []uint32
}

// NewCost returns a Cost, or an error that names the option that is out of range.
func NewCost(o CostOptions) (*Cost, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	prefix, err := NewPrefixCache(o.Prefix)
	if err != nil {
		return nil, err
	}
	return &Cost{
		o: o, prefix: prefix, key: types.NewKey[*costed]("cost"), names: map[string]*modelName{},
		scratch: sync.Pool{New: func() any { return new(costScratch) }},
	}, nil
}

// mustCost is NewCost for options that are known to be valid.
func mustCost(o CostOptions) *Cost {
	c, err := NewCost(o)
	if err != nil {
		panic(err)
	}
	return c
}

// Cost implements scheduling.Coster.
func (c *Cost) Cost(_ context.Context, req *types.Request, eps []*types.Endpoint, costs []float64) error {
	if len(eps) == 0 {
		return nil
	}
	r := c.of(req)
	sc := c.scratch.Get().(*costScratch)
	defer c.scratch.Put(sc)
	if cap(sc.servers) < len(eps) {
		sc.servers = make([]*costServer, len(eps)+len(eps)/4)
		sc.late = make([]float64, len(eps)+len(eps)/4)
	}
	servers := sc.servers[:len(eps)]
	held := c.prefix.matchAll(r.hashes, &sc.held)
	now := c.seconds(req.Now)

	c.find(req, eps, servers, now)
	defer c.servers.mu.RUnlock()
	c.ask(req, r, eps, servers, held, costs, now)
	q := &r.query
	if q.slo != (types.SLO{}) {
		c.costWithSLO(r, eps, servers, costs, sc.late[:len(eps)])
		return nil
	}
	for i, s := range servers {
		if s == nil {
			costs[i] = math.NaN()
			continue
		}
		t := c.estimate(s, r, costs[i])
		costs[i] = t.sum()
	}
	if r.adapter != 0 {
		for i, s := range servers {
			if s != nil {
				delay, _ := c.adapterTerm(s, eps[i], r)
				costs[i] += c.o.FirstToken * delay
			}
		}
	}
	if q.home != nil {
		for i, s := range servers {
			if s == q.home {
				costs[i] -= q.worth
			}
		}
	}
	return nil
}

// find fills in what is known of each endpoint, with its reading taken over, and
// returns with the lock held for reading. Endpoints that have gone are nil.
func (c *Cost) find(req *types.Request, eps []*types.Endpoint, servers []*costServer, now float64) {
	c.servers.mu.RLock()
	fresh := true
	for i, ep := range eps {
		s := c.servers.lookup(ep)
		servers[i] = s
		if s == nil || s.reading != ep || now >= s.recheck {
			fresh = false
			break
		}
	}
	if fresh {
		return
	}
	c.servers.mu.RUnlock()
	c.servers.mu.Lock()
	for i, ep := range eps {
		s := c.servers.lookup(ep)
		if s == nil {
			s = c.enter(ep)
		}
		servers[i] = s
		if s != nil && (s.reading != ep || now >= s.recheck) {
			c.refresh(s, ep, now)
		}
	}
	c.servers.mu.Unlock()
	c.servers.mu.RLock()
}

// enter makes the entry of an endpoint that was not met before; nil if it has gone.
// Caller must hold the lock for writing.
func (c *Cost) enter(ep *types.Endpoint) *costServer {
	return c.servers.enter(ep, func(s *costServer) {
		s.handle = -1
		if cached := c.prefix.serverOf(ep); cached != nil {
			s.handle = int32(cached.handle.Slot())
		}
		s.place = prefixindex.Seed(ep.Address)
		s.rate = c.o.startRates(ep)
	})
}

// refresh takes over the reading of ep. Caller must hold the lock for writing.
func (c *Cost) refresh(s *costServer, ep *types.Endpoint, now float64) {
	if s.reading != ep {
		s.read(ep)
		c.reportAdapters(s, &ep.Metrics)
	}
	s.recheck = math.Inf(1)
	if s.known {
		// The trust in it falls with its age.
		if age := c.epoch.Add(fromSeconds(now)).Sub(ep.Metrics.UpdatedAt); age < freshAge {
			s.recheck = now + (freshAge - age).Seconds()
		} else if age < staleAge {
			s.recheck = now + freshAge.Seconds()/2
		}
	}
	c.derive(s, now)
}

// derive works out what decisions read, after anything has changed. Caller must hold
// the lock for writing.
func (c *Cost) derive(s *costServer, now float64) {
	e := &c.o.Engine
	believed := 0.0
	s.foreign = 0
	if ep := s.reading; ep != nil {
		if s.known {
			believed = trust(c.epoch.Add(fromSeconds(now)).Sub(ep.Metrics.UpdatedAt))
			s.foreign = believed * max(s.raw, 0)
		}
		// Other Schedulers of this process book in the same ledger.
		if ep.Load != nil {
			s.foreign += max(float64(ep.Load.Requests())-float64(s.requests), 0)
		}
	}
	n := float64(s.requests) + s.foreign + (1-believed)*c.foreign.load()
	reading := s.context + (n-float64(s.requests))*c.meanContext
	s.decoding = max(n-float64(s.prefilling), 0)
	f := c.stepFactor(s)
	growing := e.Sequence*n + e.Context*reading
	s.step = f * (e.Step + e.Sequence*s.decoding + e.Context*reading*s.decoding/max(n, 1))
	s.token = e.Token * c.tokenFactor(s)
	s.outputCost = f * (c.o.Output*(e.Step+e.Sequence+growing) + growing)
	s.perContext = f * c.o.Output * e.Context
	s.kv = 0
	if s.kvTokens > 0 {
		s.kv = s.computed / s.kvTokens
		if k, ok := s.reading.Metrics.KVUsage.Value(); ok && believed > 0 {
			s.kv = k + s.since/s.kvTokens
		}
	}
}

// ask looks at all endpoints: costs[i] becomes the tokens of the prompt that endpoint i
// has cached, and r.query what they have in common.
func (c *Cost) ask(req *types.Request, r *costed, eps []*types.Endpoint, servers []*costServer, held []uint32, costs []float64, now float64) {
	q := &r.query
	*q = costQuery{at: now + c.o.Transport, share: 1, slo: req.SLO}
	perBlock := 0.0
	if req.Prompt.Bytes > 0 {
		perBlock = r.prompt * float64(c.prefix.index.Options().BlockBytes) / float64(req.Prompt.Bytes)
	}
	most := uint32(0)
	own, foreign := 0.0, 0.0
	for i, s := range servers {
		costs[i] = 0
		if s == nil {
			continue
		}
		own += float64(s.requests)
		foreign += s.foreign
		if int(s.handle) < len(held) && s.handle >= 0 {
			if h := held[s.handle]; h > 0 {
				most = max(most, h)
				costs[i] = min(float64(h)*perBlock, r.prompt-1)
			}
		}
	}
	others := c.others.load()
	if own+foreign > 0 {
		c.foreign.store(foreign / float64(len(eps)))
		c.others.store(others + .01*(foreign/(own+foreign)-others))
	}
	if most > 0 {
		q.best = min(float64(most)*perBlock, r.prompt-1)
		alike := float64(c.crowd.share(r.hashes, int(most))) / (1 - min(others, .9))
		q.share = 1 / (1 + alike)
	}
	if r.adapter != 0 {
		for i, s := range servers {
			if m := eps[i].Metrics.MaxAdapters.Or(0); s != nil && m > 0 && float64(s.adapters.busy) >= m {
				q.scarce += 1 / float64(len(eps))
			}
		}
	}
	if len(eps) > 1 && others > .02 {
		c.findHome(r, servers, costs, others)
	}
}

// homePart is the part of all requests, divided by the number of endpoints, that may
// have a beginning in common that has one home.
const homePart = .2

// findHome finds the home of the prompt, where as much is taken to be cached as is
// anywhere, or as is of prompts in general.
func (c *Cost) findHome(r *costed, servers []*costServer, costs []float64, others float64) {
	q := &r.query
	sure := others * others / (others*others + .01)
	expected := min(c.reuse*r.prompt*sure, r.prompt-1)
	if expected < 64 {
		return
	}
	head := c.crowd.head(r.hashes, homePart/float64(len(servers)))
	if head == 0 {
		return
	}
	i := homeOf(head, servers)
	if i < 0 {
		return
	}
	q.best = max(q.best, expected)
	costs[i] = max(costs[i], q.best)
	q.home = servers[i]
	q.worth = c.o.Home * c.o.FirstToken * q.home.token * q.best * sure
}

// costTerms are weighted seconds.
type costTerms struct {
	wait, prefill, output, disturb, kv float64

	first float64 // seconds until the first token, not weighted
}

func (t *costTerms) sum() float64 { return t.wait + t.prefill + t.output + t.disturb + t.kv }

// estimate is the cost at an endpoint that has hit tokens of the prompt cached, without
// adapters. It must be quick: it runs for each endpoint in each decision.
func (c *Cost) estimate(s *costServer, r *costed, hit float64) (t costTerms) {
	q, e := &r.query, &c.o.Engine
	wait, beside := s.until(q.at)
	compute := max(r.prompt-hit, 1)
	own := s.token * compute * (1 + e.Attention*(r.prompt-compute/2))
	wait += c.o.Transport + beside + s.step*(1+math.Floor((s.queued+compute)/e.Batch))
	t.output = r.output * (s.outputCost + s.perContext*(r.prompt+r.output/2))
	t.disturb = s.decoding * (c.o.Recompute*q.share*s.token*(q.best-hit) + c.o.LongPrefill*max(0, own-c.o.LongSteps*s.step))
	if s.kvTokens > 0 {
		if short := s.kv + compute/s.kvTokens - 1; short > 0 && s.decoding > 0 {
			// It waits until those that decode have ended and given back their part.
			wait += short / s.kv * r.output * s.step
		}
		k := min(s.kv+(compute+r.output)/s.kvTokens, .98)
		t.kv = c.o.KVPressure * k / (1 - k)
	}
	t.first = wait + own
	t.wait = c.o.FirstToken * wait
	t.prefill = c.o.FirstToken * own
	return t
}

// adapterTerm is the delay by the request's LoRA adapter.
func (c *Cost) adapterTerm(s *costServer, ep *types.Endpoint, r *costed) (seconds float64, what string) {
	m := ep.Metrics.MaxAdapters.Or(0)
	if m < 1 {
		return 0, ""
	}
	return c.adapterDelay(s, r.adapter, int(min(m, maxAdapterStates)), r.output*s.step, r.query.scarce)
}

const (
	// sloMiss is added for each endpoint that misses the SLO where another meets it.
	sloMiss = 1e3
	// sloLate is what being late by as much as the target costs.
	sloLate = 1e3
)

// costWithSLO fills in the costs of a request with an SLO. costs holds the tokens that
// are cached. Among endpoints that meet it, only what others lose counts, and the price.
// If none does, the least late is best.
func (c *Cost) costWithSLO(r *costed, eps []*types.Endpoint, servers []*costServer, costs, late []float64) {
	q := &r.query
	for _, ep := range eps {
		q.dearest = max(q.dearest, ep.Capacity.CostPerHour)
	}
	for i, s := range servers {
		if s != nil {
			_, late[i] = c.lateness(s, eps[i], r, costs[i])
			q.meets = q.meets || late[i] == 0
		}
	}
	for i, s := range servers {
		if s == nil {
			costs[i] = math.NaN()
			continue
		}
		t := c.withSLO(s, eps[i], r, costs[i], late[i])
		costs[i] = t.cost
	}
}

// lateness is by which part of the targets an endpoint would miss them; 0: it meets them.
func (c *Cost) lateness(s *costServer, ep *types.Endpoint, r *costed, hit float64) (t costTerms, late float64) {
	t = c.estimate(s, r, hit)
	if r.adapter != 0 {
		delay, _ := c.adapterTerm(s, ep, r)
		t.first += delay
	}
	if want := r.query.slo.TTFT.Seconds(); want > 0 {
		late += max(0, t.first/want-1)
	}
	if want := r.query.slo.TPOT.Seconds(); want > 0 {
		late += max(0, s.step/want-1)
	}
	return t, late
}

type sloTerms struct {
	costTerms
	slo, price, cost float64
}

func (c *Cost) withSLO(s *costServer, ep *types.Endpoint, r *costed, hit, late float64) (x sloTerms) {
	q := &r.query
	x.costTerms = c.estimate(s, r, hit)
	switch {
	case late > 0 && q.meets:
		x.slo = sloMiss + sloLate*late
	case late > 0:
		x.slo = sloLate * late
	default:
		// How soon it is served below the target is of no use to anybody.
		x.wait, x.prefill = 0, 0
		x.output -= min(r.output*s.step*c.o.Output, x.output)
		if q.dearest > 0 {
			x.price = c.o.Price * ep.Capacity.CostPerHour / q.dearest
		}
	}
	x.cost = x.sum() + x.slo + x.price
	if r.adapter != 0 {
		delay, _ := c.adapterTerm(s, ep, r)
		x.cost += c.o.FirstToken * delay
	}
	if s == q.home {
		x.cost -= q.worth
	}
	return x
}

// Items implements scheduling.Itemizer.
func (c *Cost) Items(req *types.Request, ep *types.Endpoint) []scheduling.CostItem {
	r := c.of(req)
	hit := min(float64(c.prefix.CachedTokens(req, ep)), max(r.prompt-1, 0))
	c.servers.mu.RLock()
	defer c.servers.mu.RUnlock()
	s, q := c.servers.lookup(ep), &r.query
	if s == nil {
		return nil
	}
	cached := fmt.Sprintf("%.0f of %.0f tokens cached", hit, r.prompt)
	if s == q.home {
		hit = max(hit, q.best)
	}
	t := c.estimate(s, r, hit)
	first, late := t.first, 0.0
	if q.slo != (types.SLO{}) {
		_, late = c.lateness(s, ep, r, hit)
		x := c.withSLO(s, ep, r, hit, late)
		t = x.costTerms
	}
	items := []scheduling.CostItem{
		{Name: "wait", Seconds: t.wait, Detail: fmt.Sprintf("%d without a first token, first token in %s", s.prefilling, seconds(first))},
		{Name: "prefill", Seconds: t.prefill, Detail: cached},
		{Name: "output", Seconds: t.output, Detail: fmt.Sprintf("%.0f tokens expected, a step takes %s", r.output, seconds(s.step))},
		{Name: "disturb", Seconds: t.disturb, Detail: fmt.Sprintf("%.0f decoding", s.decoding)},
		{Name: "kv", Seconds: t.kv, Detail: fmt.Sprintf("%.0f %% of the KV cache in use", 100*s.kv)},
	}
	if s.kvTokens == 0 {
		items[4].Detail = "size of the KV cache unknown"
	}
	if r.adapter != 0 {
		delay, what := c.adapterTerm(s, ep, r)
		items = append(items, scheduling.CostItem{Name: "adapter", Seconds: c.o.FirstToken * delay, Detail: what})
	}
	if q.home != nil {
		it := scheduling.CostItem{Name: "home"}
		if s == q.home {
			it.Seconds, it.Detail = -q.worth, "the prompt's home"
		}
		items = append(items, it)
	}
	if q.slo != (types.SLO{}) {
		x := c.withSLO(s, ep, r, hit, late)
		it := scheduling.CostItem{Name: "slo", Seconds: x.slo, Detail: "met"}
		if late > 0 {
			it.Detail = fmt.Sprintf("late by %.0f %%", 100*late)
		}
		items = append(items, it)
		if q.dearest > 0 && c.o.Price > 0 {
			items = append(items, scheduling.CostItem{Name: "price", Seconds: x.price, Detail: fmt.Sprintf("%g per hour", ep.Capacity.CostPerHour)})
		}
	}
	return items
}

// of returns what is kept with a request, making it at the first call.
func (c *Cost) of(req *types.Request) *costed {
	if r, ok := c.key.Get(&req.Attrs); ok {
		return r
	}
	r := &costed{prompt: max(float64(req.Prompt.Tokens), 1), streamed: req.Stream}
	c.prefix.prepare(req, &r.prefix)
	c.servers.mu.RLock()
	r.output = c.outputs.expect(req)
	name, known := c.names[req.TargetModel]
	r.adapter = name.adapterID()
	c.servers.mu.RUnlock()
	if !known && req.TargetModel != "" {
		c.servers.mu.Lock()
		r.adapter = c.enterName(req.TargetModel).adapterID()
		c.servers.mu.Unlock()
	}
	c.key.Set(&req.Attrs, r)
	return r
}

// ExpectedOutput implements scheduling.OutputEstimator.
func (c *Cost) ExpectedOutput(req *types.Request) int { return int(c.of(req).output) }

// CachedTokens implements scheduling.CacheEstimator.
func (c *Cost) CachedTokens(req *types.Request, ep *types.Endpoint) int {
	c.of(req)
	return c.prefix.CachedTokens(req, ep)
}

// Picked implements scheduling.Tracker.
func (c *Cost) Picked(req *types.Request, ep *types.Endpoint) {
	r := c.of(req)
	hit := c.prefix.CachedTokens(req, ep)
	c.prefix.Picked(req, ep)
	now := c.seconds(req.Now)
	c.servers.mu.Lock()
	defer c.servers.mu.Unlock()
	r.at = nil
	s := c.servers.lookup(ep)
	if s == nil {
		if s = c.enter(ep); s == nil {
			return
		}
		c.refresh(s, ep, now)
	}
	r.at = s
	r.sent, r.first, r.firstAfter = now, 0, 0
	r.compute = max(r.prompt-float64(hit), 1)
	r.base = c.o.Engine.prefillTime(r.prompt, r.compute)
	r.work = r.base * s.token / c.o.Engine.Token
	s.expire(now)
	s.add(r, c.o.Transport, c.o.Engine.Batch)
	c.crowd.add(r.hashes, 1)
	if r.adapter != 0 {
		s.adapters.count(r.adapter, 1, 0, now)
	}
	size := r.prompt + r.output/2
	if c.meanContext == 0 {
		c.meanContext = size
	}
	c.meanContext += .01 * (size - c.meanContext)
	c.derive(s, now)
}

// FirstToken implements scheduling.Tracker.
func (c *Cost) FirstToken(req *types.Request, ep *types.Endpoint) {
	c.prefix.FirstToken(req, ep)
	r := c.of(req)
	now := c.seconds(req.Now)
	c.servers.mu.Lock()
	defer c.servers.mu.Unlock()
	s := r.at
	if s == nil {
		return
	}
	r.first, r.firstAfter = now, now-r.sent
	s.prefilled(r)
	if r.adapter != 0 {
		s.adapters.count(r.adapter, 0, 1, now)
	}
	c.derive(s, now)
	s.sync(now, c.o.Transport)
	r.stepThen, r.doneThen = s.step/c.stepFactor(s), s.done
}

// Finished implements scheduling.Tracker.
func (c *Cost) Finished(req *types.Request, ep *types.Endpoint, out types.Outcome) {
	c.prefix.Finished(req, ep, out)
	r := c.of(req)
	now := c.seconds(req.Now)
	c.servers.mu.Lock()
	defer c.servers.mu.Unlock()
	s := r.at
	if s == nil {
		return
	}
	r.at = nil
	c.crowd.add(r.hashes, -1)
	served := !out.Failed() && out.Status < 400 && !out.Cancelled && !out.Retried
	if served {
		c.observe(s, r, now, out.Usage)
		c.learnRequest(req, r, out.Usage)
	}
	s.expire(now)
	s.remove(r)
	if r.adapter != 0 {
		running := int32(0)
		if r.firstAfter > 0 {
			running = -1
		}
		s.adapters.count(r.adapter, -1, running, now)
	}
	c.derive(s, now)
	if served {
		s.sync(now, c.o.Transport)
	}
}

// learnRequest learns what a served request says of those like it. Caller must hold
// the lock.
func (c *Cost) learnRequest(req *types.Request, r *costed, u types.Usage) {
	if n := u.CompletionTokens.Or(0); n > 0 {
		c.outputs.add(req, n)
	}
	if cached, ok := u.CachedTokens.Value(); ok {
		c.reuse += .01 * (min(cached/r.prompt, 1) - c.reuse)
	}
	if n := c.names[req.TargetModel]; n != nil && !n.adapter && n.unseen < baseAfter {
		n.unseen++
	}
}

// Forget implements scheduling.Forgetter.
func (c *Cost) Forget(ep *types.Endpoint) {
	c.prefix.Forget(ep)
	c.servers.mu.Lock()
	defer c.servers.mu.Unlock()
	c.servers.remove(ep)
}

// Stats returns the size of the prefix index.
func (c *Cost) Stats() PrefixStats { return c.prefix.Stats() }

// seconds is a time since the first one that Cost has seen.
func (c *Cost) seconds(t time.Time) float64 {
	c.start.Do(func() { c.epoch = t })
	return t.Sub(c.epoch).Seconds()
}

func fromSeconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// seconds prints a time for people.
func seconds(s float64) string {
	if s < 1 {
		return fmt.Sprintf("%.3g ms", 1000*s)
	}
	return fmt.Sprintf("%.3g s", s)
}

// atomicFloat is a float64 that is read and written whole.
type atomicFloat struct{ bits atomic.Uint64 }

func (a *atomicFloat) load() float64   { return math.Float64frombits(a.bits.Load()) }
func (a *atomicFloat) store(v float64) { a.bits.Store(math.Float64bits(v)) }

var (
	_ scheduling.Coster          = (*Cost)(nil)
	_ scheduling.Itemizer        = (*Cost)(nil)
	_ scheduling.Tracker         = (*Cost)(nil)
	_ scheduling.Forgetter       = (*Cost)(nil)
	_ scheduling.CacheEstimator  = (*Cost)(nil)
	_ scheduling.OutputEstimator = (*Cost)(nil)
)
