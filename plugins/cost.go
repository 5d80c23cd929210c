package plugins

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/inferpick/inferpick/internal/cost"
	"github.com/inferpick/inferpick/internal/prefixindex"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Cost is a Coster that estimates in seconds what a request costs at each endpoint,
// for itself and for the others there. It is what the Default profile decides by:
//
//	cost = 5·(wait + prefill + step)            time to the first token
//	     + output·(0.2·step' + load)            its own output, and what that takes from others
//	     + decoding·(1.5·recompute + 0.3·long)  how long its prefill holds up those that decode
//	     + adapter + kv - home
//
// wait is the rest of the step under way and the prefills that go before; their end is
// known from the tokens that come back, because all tokens of a step leave an engine
// together. prefill is the time for the tokens that the endpoint has not cached. load
// is the part of a step that grows with the sequences in it: one more sequence takes
// as much from the others together as they take from it, so the sum is least where the
// two are charged alike. recompute is prefill that another endpoint would have saved,
// divided by one more than the requests in flight that begin alike for each copy there
// would be: a beginning that many share is worth another copy, until there are enough.
// long is what a prefill exceeds six steps by. kv grows as k/(1-k) with the part k of
// the KV cache in use. home draws a prompt to the endpoint that all gateways agree on,
// where there are others.
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

	table costTable
	// table.mu also guards what follows.
	adapterIDs  adapterIDs
	outputs     outputLengths
	crowd       crowd
	fleet       *cost.Fleet
	lateness    cost.Median // see late
	rates       cost.Rates  // by which the figures of all endpoints are: those of fleet, nearly
	turn        int         // whose figures are worked out anew next, for their age
	meanContext float64     // tokens of a request, at half of its output
	reuse       float64     // part of prompts that engines found in their caches
	own         float64     // requests of this process at the servers
	foreign     float64     // requests of others there, as far as they are believed in
	believed    float64     // endpoints, as far as their readings are
	recheck     float64     // when trust in some reading falls

	claims claims // at all servers; not guarded

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
	query     costQuery
	claimed   *costServer // where it is likely to be booked; nil: it was, or is not known
	claimedIn uint32      // the moment

	// Of the endpoint chosen last, from Picked to Finished.
	at         *costServer
	next, prev *costed // in costServer's list of those without a first token
	waiting    bool    // is in that list
	compute    float64 // tokens that are not cached there
	base       float64 // seconds of their prefill on CostOptions.Engine
	work       float64 // the same on that server
	predicted  float64 // seconds until the first token, without work
	late       float64 // of these, what is not in the model
	sent       float64
	wait       float64 // seconds of these for the step under way
	steps      float64 // of its own until the first token
	joined     float64 // base seconds of the prefills that are computed with its own
	ahead      float64 // base seconds of all prefills that came before
	behind     float64 // how many these were
	crowd      float64 // requests that were there
	begun      bool    // a first token was seen
	firstAt    float64 // when
	firstAfter float64 // seconds until then

	// As it was when it was sent, and from the first token on as it was then.
	stepThen float64 // costServer.baseStep
	beside   float64 // costServer.decoding
	doneThen float64 // costServer.done
}

// costQuery is what one decision looks at in all endpoints alike.
type costQuery struct {
	now     float64
	at      float64 // when the request reaches an engine
	best    float64 // most tokens cached at one endpoint, or expected at the home
	share   float64 // 1/(1 + requests in flight that begin alike, for each copy)
	scarce  float64 // part of the endpoints whose adapter slots are full
	home    int32   // index of the endpoint; -1: none
	worth   float64 // what that is worth in seconds
	lean    float64 // part of the cost of output by which a server that only this process uses is better
	mine    float64 // part of the requests at the servers that are this process's
	slo     types.SLO
	meets   bool    // some endpoint meets the SLO
	dearest float64 // cost per hour

	contended bool // others decide at this moment
}

type costScratch struct {
	index []int32 // of the endpoints in the table; -1: gone
	held  []uint32
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
	fleet := cost.NewFleet(cost.Rates{Transport: o.Transport, Step: 1, Token: 1})
	return &Cost{
		o: o, prefix: prefix, key: types.NewKey[*costed]("cost"), fleet: fleet, rates: fleet.Rates(),
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
	if cap(sc.index) < len(eps) {
		sc.index = make([]int32, len(eps)+len(eps)/4)
	}
	index := sc.index[:len(eps)]
	held := c.prefix.matchAll(r.hashes, &sc.held)
	now := c.seconds(req.Now)
	c.disclaim(r)

	most := c.find(eps, index, held, costs, now)
	defer c.table.mu.RUnlock()
	r.adapter = c.adapterIDs.of(req.Target()) // which may just have been listed
	c.ask(req, r, eps, index, most, costs, now)
	if r.query.slo != (types.SLO{}) {
		c.costWithSLO(r, eps, index, costs)
	} else {
		c.costWithoutSLO(r, eps, index, costs)
	}
	c.claim(r, index, costs, &req.Rand)
	return nil
}

// costWithoutSLO replaces the cached tokens in costs by the costs of a request that has no
// SLO.
func (c *Cost) costWithoutSLO(r *costed, eps []*types.Endpoint, index []int32, costs []float64) {
	var t costTerms
	for k, i := range index {
		if i < 0 {
			costs[k] = math.NaN()
			continue
		}
		c.estimate(&c.table.figures[i], r, costs[k], c.claimsAt(i, r), &t)
		costs[k] = c.o.FirstToken*t.first + t.output + t.disturb + t.kv
	}
	if r.adapter != 0 || r.query.home >= 0 {
		for k, i := range index {
			if i < 0 {
				continue
			}
			delay, _ := c.adapterTerm(i, eps[k], r)
			costs[k] += c.o.FirstToken * delay
			if i == r.query.home {
				costs[k] -= r.query.worth
			}
		}
	}
}

// find fills in where each endpoint is in the table, -1 for those that have gone, and in
// costs how many blocks of the prompt it holds; it returns the most of these. It takes
// over readings that are new, and returns with the lock held for reading.
func (c *Cost) find(eps []*types.Endpoint, index []int32, held []uint32, costs []float64, now float64) (most uint32) {
	c.table.mu.RLock()
	if now < c.recheck {
		if most, ok := c.look(eps, index, held, costs); ok {
			return most
		}
	}
	c.table.mu.RUnlock()
	c.catchUp(eps, now)
	c.table.mu.RLock()
	most, _ = c.look(eps, index, held, costs)
	return most
}

// look is find for endpoints whose readings were taken over, and reports whether they
// all were.
func (c *Cost) look(eps []*types.Endpoint, index []int32, held []uint32, costs []float64) (most uint32, ok bool) {
	t := &c.table
	ok = true
	for k, ep := range eps {
		i := t.endpointIndex.lookup(ep)
		index[k], costs[k] = i, 0
		if i < 0 {
			ok = false
			continue
		}
		f := &t.figures[i]
		ok = ok && f.reading == ep
		if uint(f.handle) < uint(len(held)) {
			if h := held[f.handle]; h > 0 {
				most = max(most, h)
				costs[k] = float64(h)
			}
		}
	}
	return most, ok
}

// catchUp enters endpoints that are new and takes over readings that are.
func (c *Cost) catchUp(eps []*types.Endpoint, now float64) {
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	if now >= c.recheck {
		c.recheck = math.Inf(1)
		for _, s := range c.table.values {
			if s != nil && s.reading != nil {
				c.refresh(s, s.reading, now)
			}
		}
	}
	for _, ep := range eps {
		s := c.table.lookup(ep)
		if s == nil {
			s = c.enter(ep)
		}
		// Who decides at the same time may have a newer reading already.
		if s != nil && s.reading != ep && (s.reading == nil || !ep.Metrics.UpdatedAt.Before(s.reading.Metrics.UpdatedAt)) {
			c.refresh(s, ep, now)
		}
	}
	// What is taken to be where nothing is known depends on all the others.
	for _, s := range c.table.values {
		if s != nil && s.believed < 1 && c.foreign > 0 {
			c.derive(s, now)
		}
	}
}

// enter makes the entry of an endpoint that was not met before; nil if it has gone.
// Caller must hold the lock for writing.
func (c *Cost) enter(ep *types.Endpoint) *costServer {
	s := c.table.enter(ep)
	if s == nil {
		return nil
	}
	s.handle, s.stepEnds = -1, math.Inf(-1)
	if cached := c.prefix.serverOf(ep); cached != nil {
		s.handle = int32(cached.handle.Slot())
	}
	s.place = prefixindex.Seed(ep.Address)
	s.start = c.o.startRates(ep)
	return s
}

// refresh takes over a reading, or looks anew how old it is. Caller must hold the lock
// for writing.
func (c *Cost) refresh(s *costServer, ep *types.Endpoint, now float64) {
	if s.reading != ep {
		s.read(ep, c.seconds(ep.Metrics.UpdatedAt))
		c.reportAdapters(s, &ep.Metrics)
	}
	if s.known {
		// The trust in it falls with its age: look again when it has.
		age := c.age(s, now)
		if age < freshAge {
			c.recheck = min(c.recheck, now+(freshAge-age).Seconds())
		} else if age < staleAge {
			c.recheck = min(c.recheck, now+freshAge.Seconds()/2)
		}
	}
	c.derive(s, now)
}

func (c *Cost) age(s *costServer, now float64) time.Duration {
	return c.epoch.Add(fromSeconds(now)).Sub(s.reading.Metrics.UpdatedAt)
}

// others is the part of the requests at the servers that others sent.
func (c *Cost) others() float64 {
	if c.foreign <= 0 {
		return 0
	}
	return c.foreign / (c.own + c.foreign)
}

// derive works out what follows from what s has, after anything has changed, and
// publishes it. Caller must hold the lock for writing.
func (c *Cost) derive(s *costServer, now float64) {
	e := &c.o.Engine
	believed, foreign := 0.0, 0.0
	if s.known {
		believed = trust(c.age(s, now))
		foreign = believed * max(s.raw, 0)
	}
	if s.index >= 0 {
		c.foreign += foreign - s.foreign
		c.believed += believed - s.believed
	}
	s.foreign, s.believed = foreign, believed
	// Where nothing is known there are as many as elsewhere.
	if believed < 1 && c.believed > 1e-6 {
		foreign += (1 - believed) * c.foreign / c.believed
	}
	// Other Schedulers of this process book in the same ledger.
	if s.reading != nil {
		foreign += max(float64(s.reading.Load.Requests())-float64(s.requests), 0)
	}
	n := float64(s.requests) + foreign
	reading := s.context + foreign*c.meanContext
	s.decoding = max(n-float64(s.prefilling), 0)
	rate := c.rateOf(s, now)
	own := math.Exp(rate.step)
	f, grown := c.rates.Step*own, c.rates.Growth*own*c.grown(1)
	growing := f*(e.Sequence*n+e.Context*reading) + grown*n
	s.perClaim = (c.o.Output + 1) * (f*(e.Sequence+e.Context*c.meanContext) + grown)
	s.baseStep = e.Step + e.Sequence*s.decoding + e.Context*reading*s.decoding/max(n, 1)
	s.step = f*s.baseStep + grown*s.decoding
	s.baseToken = e.Token
	s.token = e.Token * c.rates.Token * own * math.Exp(rate.token)
	s.outputCost = c.o.Output*(f*(e.Step+e.Sequence)+grown+growing) + growing
	s.perContext = f * c.o.Output * e.Context
	s.outputCost += c.crowded(s, float64(s.requests))
	if n > 0 {
		s.mine += mineGain * (float64(s.requests)/n - s.mine)
	}
	s.kv = 0
	if s.kvTokens > 0 {
		s.kv = s.computed / s.kvTokens
		if k, ok := s.reading.Metrics.KVUsage.Value(); ok && believed > 0 {
			s.kv = k*s.stay() + s.since/s.kvTokens
		}
	}
	s.publish(&c.table)
}

const (
	// How many requests an engine serves at a time is not known. A request beyond carriedMore
	// times as many of this process's as it is known to have served together, or as
	// leastCarried, is taken to wait for one of these to end. Without that bound, the one of
	// several servers that seems the least bit faster gets the whole of a burst, if it is not
	// known either that steps grow. With carriedMore at 1, tenants lose a tenth of their TTFT
	// while the load grows; with 1.5 a burst may be half as uneven again.
	leastCarried = 8
	carriedMore  = 1.1
	// carriedMemory is after how many requests what was served together is half forgotten.
	carriedMemory = 1000
)

// crowded is what outputCost is more for the wait of a request beyond those that s carries,
// where so many were sent.
func (c *Cost) crowded(s *costServer, sent float64) float64 {
	most := carriedMore * max(s.carried, leastCarried)
	if sent < most {
		return 0
	}
	return c.o.Output * s.step * (sent + 1 - most) / most
}

// late is how much longer than the sum of its parts a first token takes, in the median: what
// is not in the model, such as an engine's API that has too little to run on. It is the same
// for all servers, so it decides nothing by itself. It is learned from those that found nobody
// waiting for a first token: a queue ends, and leaves nothing to the next one.
func (c *Cost) late() float64 {
	if c.o.FixedRates {
		return 0
	}
	return max(c.lateness.Value(), 0)
}

// carry is told of so many requests that are, or were, served together. Caller must hold the
// lock for writing.
func (s *costServer) carry(requests float64) {
	s.carried = max(s.carried-(s.carried-float64(s.requests))/carriedMemory, requests)
}

// ask fills in r.query, and makes of the blocks in costs tokens, of which most is the
// most.
func (c *Cost) ask(req *types.Request, r *costed, eps []*types.Endpoint, index []int32, most uint32, costs []float64, now float64) {
	q := &r.query
	*q = costQuery{now: now, at: now + c.rates.Transport, share: 1, slo: req.SLO, home: -1, contended: c.claims.at(momentOf(now)) > 0}
	others := c.others()
	if most > 0 {
		perBlock := c.tokensPerBlock(req, r)
		holders, half := 0, float64(most)/2
		for k, h := range costs {
			if h >= half {
				holders++
			}
			costs[k] = min(h*perBlock, r.prompt-1)
		}
		q.best = min(float64(most)*perBlock, r.prompt-1)
		alike := float64(c.crowd.share(r.hashes, int(most))) / (1 - min(others, .9))
		q.share = 1 / (1 + alike/float64(holders+1))
	}
	if r.adapter != 0 {
		for k, i := range index {
			if m := eps[k].Metrics.MaxAdapters.Or(0); i >= 0 && m > 0 && float64(c.table.values[i].adapters.busy) >= m {
				q.scarce += 1 / float64(len(eps))
			}
		}
	}
	if len(eps) > 1 && others > .02 {
		if c.findHome(r, index, costs, others); q.home < 0 {
			q.lean, q.mine = c.o.Lean, 1-others
		}
	}
}

// mineGain is how fast the part that a server's requests are this process's is averaged, for
// each event there.
const mineGain = .02

// homePart is the part of all requests, divided by the number of endpoints, that may
// have a beginning in common that has one home.
const homePart = .2

// findHome finds the home of the prompt, where as much is taken to be cached as is
// anywhere, or as is of prompts in general.
func (c *Cost) findHome(r *costed, index []int32, costs []float64, others float64) {
	q := &r.query
	sure := others * others / (others*others + .01)
	expected := min(c.reuse*r.prompt*sure, r.prompt-1)
	if expected < 64 {
		return
	}
	head := c.crowd.head(r.hashes, homePart/float64(len(index)))
	if head == 0 {
		return
	}
	at, top := -1, uint64(0)
	for k, i := range index {
		if i < 0 {
			continue
		}
		if rank := homeRank(head, c.table.values[i].place); at < 0 || rank > top {
			at, top = k, rank
		}
	}
	if at < 0 {
		return
	}
	q.best = max(q.best, expected)
	costs[at] = max(costs[at], q.best)
	q.home = index[at]
	q.worth = c.o.Home * c.o.FirstToken * c.table.values[q.home].token * q.best * sure
}

// costTerms are weighted seconds.
type costTerms struct {
	wait, prefill, output, disturb, kv float64

	first float64 // seconds until the first token, not weighted
}

// estimate fills in the cost at an endpoint that has hit tokens of the prompt cached,
// without adapters, and where so many others like it are about to be booked. It must be
// quick: it runs for each endpoint in each decision.
func (c *Cost) estimate(f *costFigures, r *costed, hit float64, more claimed, t *costTerms) {
	q, e := &r.query, &c.o.Engine
	step, token, decoding := float64(f.step), float64(f.token), float64(f.decoding)
	ends, pending, outputCost, queued := f.stepEnds, float64(f.pending), float64(f.outputCost), float64(f.queued)
	wait, beside := until(q.at, ends, pending, step, decoding)
	// Comparisons in place of max and min, which look for NaN and -0.
	compute := r.prompt - hit
	if compute < 1 {
		compute = 1
	}
	own := token * compute * (1 + e.Attention*(r.prompt-compute/2))
	if more.requests > 0 { // as if costServer.add had been called for them
		if ends <= q.at {
			ends, pending = q.at+wait, 0
		}
		wait, beside = until(q.at, ends, pending+more.requests*own, step, decoding)
		queued += more.requests * compute
		outputCost += more.output
	}
	wait += c.rates.Transport + c.late() + beside + step
	if all := queued + compute; all >= e.Batch {
		wait += step * math.Floor(all/e.Batch)
	}
	t.output = r.output * (outputCost + float64(f.perContext)*r.size())
	if q.lean > 0 {
		t.output *= 1 - q.lean*(float64(f.mine)-q.mine)
	}
	t.kv = 0
	t.disturb = decoding * c.o.Recompute * q.share * token * (q.best - hit)
	if long := own - c.o.LongSteps*step; long > 0 {
		t.disturb += decoding * c.o.LongPrefill * long
	}
	if perKV := float64(f.perKV); perKV > 0 {
		kv := float64(f.kv)
		if short := kv + compute*perKV - 1; short > 0 && kv > 0 {
			// It waits until those that decode have ended and given back their part.
			wait += min(short/kv, 1) * r.output * step
		}
		k := min(kv+(compute+r.output)*perKV, .98)
		t.kv = c.o.KVPressure * k / (1 - k)
	}
	t.first = wait + own
	t.wait = c.o.FirstToken * wait
	t.prefill = c.o.FirstToken * own
}

// size is the context that a request holds, at half of its output.
func (r *costed) size() float64 { return r.prompt + r.output/2 }

// adapterTerm is the delay by the request's LoRA adapter at an endpoint.
func (c *Cost) adapterTerm(index int32, ep *types.Endpoint, r *costed) (seconds float64, what string) {
	if r.adapter == 0 {
		return 0, ""
	}
	m := ep.Metrics.MaxAdapters.Or(0)
	if m < 1 {
		return 0, "not known how many adapters fit"
	}
	s := c.table.values[index]
	return c.adapterDelay(s, r.adapter, int(min(m, maxAdapterStates)), r.output*s.step, r.query.scarce)
}

// tokensPerBlock is how many tokens of the prompt are in a block of the prefix index.
func (c *Cost) tokensPerBlock(req *types.Request, r *costed) float64 {
	return r.prompt * float64(c.prefix.index.Options().BlockBytes) / float64(max(req.Prompt.Bytes, 1))
}

// cached returns how many tokens of the prompt ep is believed to have cached.
func (c *Cost) cached(req *types.Request, r *costed, ep *types.Endpoint) float64 {
	held, _ := c.prefix.match(req, ep)
	return min(float64(held)*c.tokensPerBlock(req, r), r.prompt-1)
}

// of returns what is kept with a request, making it at the first call.
func (c *Cost) of(req *types.Request) *costed {
	if r, ok := c.key.Get(&req.Attrs); ok {
		return r
	}
	r := &costed{prompt: max(float64(req.Prompt.Tokens), 1), streamed: req.Stream}
	c.prefix.prepare(req, &r.prefix)
	c.table.mu.RLock()
	r.output = c.outputs.expect(req)
	r.adapter = c.adapterIDs.of(req.Target()) // for who books without having asked for the cost
	c.table.mu.RUnlock()
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
	hit := c.cached(req, r, ep)
	c.prefix.Picked(req, ep)
	now := c.seconds(req.Now)
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	r.at = nil
	c.disclaim(r)
	s := c.table.lookup(ep)
	if s == nil {
		if s = c.enter(ep); s == nil {
			return
		}
		c.refresh(s, ep, now)
	}
	r.at = s
	r.sent, r.begun = now, false
	r.compute = max(r.prompt-hit, 1)
	r.base = c.o.Engine.prefillTime(r.prompt, r.compute)
	r.work = r.base * s.token / c.o.Engine.Token
	s.expire(now)
	s.add(r, c.rates.Transport, c.o.Engine.Batch)
	r.late = c.late()
	r.predicted += r.late
	c.crowd.add(r.hashes, 1)
	if r.adapter != 0 {
		s.adapters.count(r.adapter, 1, 0, now)
	}
	if c.meanContext == 0 {
		c.meanContext = r.size()
	}
	c.meanContext += .01 * (r.size() - c.meanContext)
	if s.index >= 0 {
		c.own++
	}
	c.derive(s, now)
}

// FirstToken implements scheduling.Tracker.
func (c *Cost) FirstToken(req *types.Request, ep *types.Endpoint) {
	c.prefix.FirstToken(req, ep)
	r := c.of(req)
	now := c.seconds(req.Now)
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	s := r.at
	if s == nil {
		return
	}
	r.begun, r.firstAt, r.firstAfter = true, now, now-r.sent
	s.prefilled(r)
	s.carry(float64(s.requests - s.prefilling))
	if r.adapter != 0 {
		s.adapters.count(r.adapter, 0, 1, now)
	}
	c.derive(s, now)
	s.sync(now, c.rates.Transport)
	s.publish(&c.table)
	r.stepThen, r.beside, r.doneThen = s.baseStep, s.decoding, s.done
}

// Finished implements scheduling.Tracker.
func (c *Cost) Finished(req *types.Request, ep *types.Endpoint, out types.Outcome) {
	c.prefix.Finished(req, ep, out)
	r := c.of(req)
	now := c.seconds(req.Now)
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	s := r.at
	if s == nil {
		return
	}
	r.at = nil
	c.crowd.add(r.hashes, -1)
	served := out.Served()
	if served {
		s.carry(r.crowd + 1)
		c.observe(s, r, now, &out)
		c.learnRequest(req, r, &out)
	}
	s.expire(now)
	s.remove(r, now)
	if s.index >= 0 {
		c.own--
	}
	if r.adapter != 0 {
		running := int32(0)
		if r.begun {
			running = -1
		}
		s.adapters.count(r.adapter, -1, running, now)
	}
	c.derive(s, now)
	if served {
		s.sync(now, c.rates.Transport)
	} else {
		s.settle(now)
	}
	s.publish(&c.table)
	c.renew(now)
	if again := c.table.lookup(ep); again != nil && again != s {
		c.derive(again, now) // it was forgotten and came back: the ledger is the same
	}
}

// renew works out anew what depends on the time and on others. The figures of all endpoints are
// by the same rates, or some would seem faster just because nothing happened there lately;
// and what was learned of one grows old also while nothing happens there, so that another one
// is looked at each time. Caller must hold the lock.
func (c *Cost) renew(now float64) {
	if rates := c.fleet.Rates(); !rates.Near(c.rates, c.o.Engine.Step) {
		c.rates = rates
		for _, s := range c.table.values {
			if s != nil {
				c.derive(s, now)
			}
		}
		return
	}
	if c.turn++; c.turn >= len(c.table.values) {
		c.turn = 0
	}
	if s := c.table.values[c.turn]; s != nil {
		c.derive(s, now)
	}
}

// learnRequest learns what a served request says of those like it. Caller must hold
// the lock.
func (c *Cost) learnRequest(req *types.Request, r *costed, out *types.Outcome) {
	u := &out.Usage
	if n := u.CompletionTokens.Or(float64(out.Tokens)); n > 0 && n <= mostTokens {
		c.outputs.add(req, n)
	}
	if cached, ok := u.CachedTokens.Value(); ok && cached >= 0 {
		c.reuse += .01 * (min(cached/r.prompt, 1) - c.reuse)
	}
}

// Forget implements scheduling.Forgetter.
func (c *Cost) Forget(ep *types.Endpoint) {
	c.prefix.Forget(ep)
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	if s := c.table.lookup(ep); s != nil {
		c.fleet.Forget(&s.learned)
		s.learned = cost.Server{}
		c.own -= float64(s.requests)
		c.foreign -= s.foreign
		c.believed -= s.believed
	}
	c.table.remove(ep)
}

// Stats returns the size of the prefix index.
func (c *Cost) Stats() PrefixStats { return c.prefix.Stats() }

// seconds is a time since the first one that Cost has seen.
func (c *Cost) seconds(t time.Time) float64 {
	c.start.Do(func() { c.epoch = t })
	return t.Sub(c.epoch).Seconds()
}

func fromSeconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

var (
	_ scheduling.Coster          = (*Cost)(nil)
	_ scheduling.Itemizer        = (*Cost)(nil)
	_ scheduling.Tracker         = (*Cost)(nil)
	_ scheduling.Forgetter       = (*Cost)(nil)
	_ scheduling.CacheEstimator  = (*Cost)(nil)
	_ scheduling.OutputEstimator = (*Cost)(nil)
)
