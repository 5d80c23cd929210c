package plugins

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/internal/cost"
	"github.com/inferpick/inferpick/internal/list"
	"github.com/inferpick/inferpick/internal/mediaindex"
	"github.com/inferpick/inferpick/internal/prefixindex"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Cost is a Coster that estimates in seconds what a request costs at each endpoint,
// for itself and for the others there. It is what the Default profile decides by:
//
//	cost = 5·(wait + prefill + step)            time to the first token
//	     + output·(0.2·step'/(1-stalled) + load) its own output, and what that takes from others
//	     + decoding·(1.5·recompute + 0.3·long)  how long its prefill holds up those that decode
//	     + 15·(joining + behind)·prefill        and those in the same step, or behind it
//	     + adapter + kv - home
//
// wait is the rest of the step under way and the prefills that go before; their end is
// known from the tokens that come back, because all tokens of a step leave an engine
// together. prefill is the time for the tokens that the endpoint has not cached. stalled is
// the part of the time in which prefills hold up what decodes. load
// is the part of a step that grows with the sequences in it: one more sequence takes
// as much from the others together as they take from it, so the sum is least where the
// two are charged alike. recompute is prefill that another endpoint would have saved,
// divided by one more than the requests in flight that begin alike for each copy there
// would be: a beginning that many share is worth another copy, until there are enough. It counts
// less where most of the prompt is to be computed anywhere, and more the more of the time prefills
// take. CostOptions.FavorTTFT shifts the balance between first tokens and the others.
// long is what a prefill exceeds six steps by. behind is how many requests are expected to come while
// it waits for prefills before it. kv is by how much k/(1-k) grows with what the
// request adds to the part k of the KV cache in use. home draws a prompt to the endpoint that all gateways agree on,
// where there are others.
//
// Images, sounds and films of a prompt are encoded as part of its prefill, except for those that an endpoint has seen.
// What a diffusion model makes costs the time until it is done: what is before it there, and its own. Embeddings are
// prefill alone.
//
// All of it is read from what this process sent and saw: it needs no metrics, and with
// them it adds the requests of others. How long steps and prefills take is learned for
// each endpoint from the answers. The constants are in CostOptions.
//
// It is a scheduling.Splitter, too: where others compute prompts, all pairs are among what is compared.
//
// Make it with NewCost; it belongs to one Scheduler, which serves one kind of model.
// Safe for concurrent use; decisions run in parallel.
type Cost struct {
	o      CostOptions
	model  cost.Model
	prefix *PrefixCache
	key    *types.Key[*costed]
	table  endpointTable[costCell]

	// What decisions and servers read, and few change: none of it needs a lock.
	rates    cost.SharedRates // by which the figures of all servers are
	common   [3]cost.Float    // cost.Common
	late     cost.Float
	foreign  cost.Float    // cost.View.Foreign
	peers    cost.Float    // requests of other gateways, as they say
	believed cost.Float    // cost.View.Believed
	follow   cost.Float    // cost.View.Peers
	context  cost.Float    // cost.View.Context
	arriving cost.Float    // requests of this process in a second
	reuse    cost.Float    // part of prompts that engines found in their caches
	renewed  cost.Float    // when the figures of all servers were last worked out by new rates
	recheck  cost.Float    // when trust in some reading falls
	own      atomic.Int64  // requests of this process at the servers
	partly   atomic.Int64  // servers whose readings are not believed in full
	turn     atomic.Uint64 // whose figures are worked out anew next, for their age
	claims   cost.Claims   // at all servers
	outputs  cost.Outputs
	usual    cost.Usual
	media    *mediaindex.Index // who has seen which media
	// diffusing is what is believed of diffusion models; nil: nobody has asked for a picture or a film yet.
	diffusing atomic.Pointer[cost.Diffusing]
	adapters  cost.AdapterNames // List by who holds listing

	// Each is taken for itself, or within the lock of one server.
	crowding sync.Mutex
	crowd    cost.Crowd  // guarded by crowding
	heads    cost.Heads  // guarded by crowding
	arrivals cost.Fading // guarded by crowding
	seeing   sync.Mutex
	witness  cost.Witness // guarded by seeing
	learning sync.Mutex
	learner  *cost.Learner // guarded by learning
	listing  sync.Mutex
	handing  sync.Mutex
	splits   atomic.Bool              // there is somebody who computes prompts for others
	underway list.List[handover]      // guarded by handing: prompts that are handed over, the oldest first
	hops     *cost.Hops               // guarded by handing
	hop      [mostLinks + 1]sharedHop // what is believed, by class

	kept      map[string]*cost.Kept // guarded by table.mu: of endpoints by ID that were not met since Restore
	keptUntil cost.Float            // when those have gone that were not met by then
	before    before

	start   sync.Once
	epoch   time.Time
	scratch sync.Pool // of *costScratch
}

// costed is what Cost keeps with a request.
type costed struct {
	prefix
	cost.Request
	adapter     cost.AdapterID
	model, pair uint64       // by what the lengths of answers are learned: see outputs
	given       cost.Tokens  // of output, that the request itself lets expect; 0: it does not
	media       *costedMedia // nil: there are none

	question              // of who is to serve it, from Cost to Picked, for Items
	meets    bool         // some endpoint is expected to meet the SLO
	leg      *costedLeg   // of who is to compute the prompt for another; nil: it was not asked
	scratch  *costScratch // what Cost found, for Split; nil: it was not called, or is not needed

	at     *costServer // the endpoint chosen last, from Picked to Finished
	pulled cost.Tokens // that it pulls from a peer
}

// question is what is asked about a request, and what was found.
type question struct {
	query     cost.Query
	homes     cost.Homes
	special   bool      // it has terms everywhere that most requests do not have
	contended bool      // others decide at this moment
	claimed   *costCell // where it is likely to be booked; nil: it was, or is not known
	claimedIn cost.Moment
	likely    *types.Load // the same, and what it holds of the prompt
	held      cost.Blocks
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
	c := &Cost{
		o: o, model: o.model(), prefix: prefix, key: types.NewKey[*costed]("cost"),
		scratch: sync.Pool{New: func() any { return new(costScratch) }},
		media:   mediaindex.New(mediaindex.Options{Pairs: o.Media.Entries, ServerTokens: o.Media.EndpointTokens}),
	}
	rates := c.firstRates()
	c.learner = cost.NewLearner(rates)
	c.follow.Store(c.witness.Peers())
	c.hops = cost.NewHops(len(o.Links)+1, cost.Hop{Setup: cost.Seconds(o.Transfer.Setup), Token: cost.Seconds(o.Transfer.Token)})
	c.publishHops()
	c.rates.Store(rates)
	c.reuse.Store(cost.FirstReuse)
	c.renewed.Store(math.Inf(-1))
	c.keptUntil.Store(math.Inf(1))
	return c, nil
}

// firstRates are those from which learning starts.
func (c *Cost) firstRates() cost.Rates {
	return cost.Rates{Transport: c.o.Transport, Step: 1, Token: 1, Encode: 1}
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
	if req.Work.Kind == types.Fetches {
		clear(costs) // nothing is computed, nor booked: by their load, all of a burst would go to the same
		return nil
	}
	r := c.of(req)
	c.disclaim(r)
	sc := r.scratch
	if r.scratch = nil; sc == nil {
		sc = c.scratch.Get().(*costScratch)
	}
	now := c.seconds(req.Now)
	if r.Kind == types.Denoises {
		c.diffuse(now)
	}

	sc.matched = c.prefix.matchAll(r.hashes, &sc.held)
	most := c.find(eps, sc, sc.matched, now)
	if c.prefix.remembersMore(&r.prefix, req.Now) { // of endpoints that it has just met
		sc.matched = c.prefix.matchAll(r.hashes, &sc.held)
		most = c.find(eps, sc, sc.matched, now)
	}
	r.adapter = c.adapters.Of(req.Target()) // which may just have been listed
	c.ask(req, r, &r.question, eps, sc, most, now)
	seen := sc.seen
	best := c.fill(r, eps, seen, costs)
	if r.contended {
		best = breakTie(seen, costs, &req.Rand)
	}
	c.claim(&r.question, eps, seen, best)
	if req.Split {
		sc.costs = append(sc.costs[:0], costs...)
		r.scratch = sc
		return nil
	}
	c.scratch.Put(sc)
	return nil
}

// ask fills in a question about a request for eps, of whom one holds most.
func (c *Cost) ask(req *types.Request, r *costed, a *question, eps []*types.Endpoint, sc *costScratch, most cost.Blocks, now cost.Seconds) {
	seen := sc.seen
	rates, others := c.rates.Load(), c.others(now)
	a.homes, a.contended = cost.Homes{}, c.claims.At(cost.MomentOf(now)) > 0
	q := &a.query
	*q = cost.Query{
		Prompt: r.Prompt, Output: r.Output, Items: r.Items, PerBlock: r.query.PerBlock,
		Now: now, At: now + cost.Seconds(rates.Transport), Way: cost.Seconds(rates.Transport + c.late.Load()),
		Share: 1, SLO: cost.Targets{TTFT: cost.Seconds(req.SLO.TTFT.Seconds()), TPOT: cost.Seconds(req.SLO.TPOT.Seconds())},
	}
	q.EmptyStep = c.model.Engine.Step * rates.Step
	q.Arriving = c.arriving.Load() / float64(len(eps))
	if most > 0 {
		holders, half := 0, float64(most)/2
		for _, k := range sc.holders {
			if float64(seen[k].blocks) >= half {
				holders++
			}
		}
		q.Best = q.Cached(most)
		if c.o.PullLabel != "" {
			q.Peer = q.Best
		}
		q.Share = 1 / (1 + c.alike(r, most, others)/float64(holders+1))
	}
	if r.adapter != 0 {
		for k := range seen {
			if m := eps[k].Metrics.MaxAdapters.Or(0); seen[k].cell != nil && m > 0 && float64(seen[k].cell.server.Adapters.Busy()) >= m {
				q.Scarce += 1 / float64(len(eps))
			}
		}
	}
	if len(eps) > 1 && others > cost.LeastOthers && keepsCache(req) {
		// Where all others tell where prompts are, only those that are nowhere yet need a home: gateways that
		// meet one at the same time agree, and those that meet several do not all choose who is the least busy.
		told := c.prefix.tells() && c.strangers(now) < cost.FewStrangers
		if !told || q.Best < cost.Cold*q.Prompt {
			c.findHome(r, a, sc, others)
		}
		if !a.homes.Any() {
			q.Lean, q.Mine = c.o.Lean, 1-others
		}
	}
	if !a.homes.Any() {
		q.Else = 1 - float64(q.Best/q.Prompt)
	}
	a.special = r.adapter != 0 || q.SLO != (cost.Targets{}) || c.o.PriceWithoutSLO > 0 || r.media != nil || c.diffusing.Load() != nil
	if r.media != nil {
		c.askMedia(r, a, seen, &rates)
	}
}

// others is the part of the requests at the servers that others sent, peers among them.
func (c *Cost) others(now cost.Seconds) float64 {
	return c.before.most(c.part(c.foreign.Load()+c.peers.Load()), &c.before.others, now)
}

// strangers is the part of the requests at the servers that nobody told of.
func (c *Cost) strangers(now cost.Seconds) float64 {
	return c.before.most(c.part(c.foreign.Load()), &c.before.strangers, now)
}

// part is which part of the requests at the servers so many are.
func (c *Cost) part(n float64) float64 {
	if n <= 1e-6 { // what many additions have left
		return 0
	}
	return n / (float64(c.own.Load()) + c.foreign.Load() + c.peers.Load())
}

// alike is how many requests in flight are likely to have the first blocks of the prompt.
func (c *Cost) alike(r *costed, blocks cost.Blocks, others float64) float64 {
	c.crowding.Lock()
	defer c.crowding.Unlock()
	return float64(c.crowd.Share(r.hashes, int(blocks))) / (1 - min(others, cost.MostOthers))
}

// findHome finds where the prompt is at home, where as much is taken to be cached as is
// anywhere, or as is of prompts in general.
func (c *Cost) findHome(r *costed, a *question, sc *costScratch, others float64) {
	q := &a.query
	sure := cost.Sure(others)
	expected := q.Expected(c.reuse.Load(), sure)
	if expected < cost.LeastHome {
		return
	}
	sc.places = sc.places[:0]
	for k := range sc.seen {
		if cell := sc.seen[k].cell; cell != nil {
			sc.places = append(sc.places, sc.seen[k].place)
		}
	}
	share := cost.HomeShare(len(sc.places), float64(c.own.Load())+c.foreign.Load()+c.peers.Load())
	c.crowding.Lock()
	a.homes = c.heads.Homes(r.hashes, sc.places, share)
	c.crowding.Unlock()
	for k := range sc.seen {
		if cell := sc.seen[k].cell; cell != nil && a.homes.Have(sc.seen[k].place) {
			q.Best = max(q.Best, expected)
			q.Home = cost.Seconds(c.o.Home * c.model.FirstToken * cell.server.facts().Token * float64(q.Best) * sure)
			return
		}
	}
}

// fill fills in the costs, and returns where the first of the least is; -1: there is none.
func (c *Cost) fill(r *costed, eps []*types.Endpoint, seen []costSeen, costs []float64) (best int) {
	var f cost.Figures
	var p cost.Place
	var t cost.Terms
	q := &r.query
	if q.SLO != (cost.Targets{}) || c.o.PriceWithoutSLO > 0 {
		for k := range seen {
			if seen[k].cell != nil {
				q.Dearest = max(q.Dearest, eps[k].Capacity.CostPerHour)
			}
		}
	}
	homes, least, denoises := r.homes.Any(), math.Inf(1), r.Kind == types.Denoises
	pools, soon := r.Kind == types.Pools, soonest{}
	best, r.meets = -1, false
	for k := range seen {
		s := &seen[k]
		if s.cell == nil {
			costs[k] = math.NaN()
			continue
		}
		s.cell.row.Load(&f)
		p.Hit = q.Cached(s.blocks)
		if q.Peer > 0 {
			p.Hit += c.pull(q, eps[k], p.Hit, cost.Seconds(f.Token))
		}
		if p.Home = homes && r.homes.Have(s.place); r.contended || r.special || p.Home {
			c.place(r, &r.question, eps[k], s, &p)
		} else {
			p.Special = false
		}
		var v float64
		if denoises {
			v = float64(c.model.Denoise(q, &f, &p, &t))
		} else {
			v = float64(c.model.Terms(q, &f, &p, &t))
		}
		r.meets = r.meets || t.Late == 0
		if costs[k] = v; v < least {
			least, best = v, k
		}
		if pools {
			soon.add(t.Wait, k)
		}
	}
	if pools && soon.n > 1 {
		return c.holdUp(r, eps, seen, costs, &soon)
	}
	return best
}

// terms fills in what the request costs at one endpoint, and what that is made of. It returns
// what there is to say about its adapter.
func (c *Cost) terms(r *costed, a *question, ep *types.Endpoint, s *costSeen, f *cost.Figures, p *cost.Place, t *cost.Terms) (adapter string) {
	adapter = c.lookAt(r, a, ep, s, f, p)
	if r.Kind == types.Denoises {
		c.model.Denoise(&a.query, f, p, t)
	} else {
		c.model.Terms(&a.query, f, p, t)
	}
	return adapter
}

// lookAt fills in what a question is about at one endpoint.
func (c *Cost) lookAt(r *costed, a *question, ep *types.Endpoint, s *costSeen, f *cost.Figures, p *cost.Place) (adapter string) {
	s.cell.row.Load(f)
	p.Hit = a.query.Cached(s.blocks)
	p.Hit += c.pull(&a.query, ep, p.Hit, cost.Seconds(f.Token))
	return c.place(r, a, ep, s, p)
}

// place fills in what few decisions ask beside the tokens that are cached there.
func (c *Cost) place(r *costed, a *question, ep *types.Endpoint, s *costSeen, p *cost.Place) (adapter string) {
	p.Claimed, p.Encode, p.Backlog, p.Denoise = cost.Claimed{}, 0, 0, 0
	if a.contended {
		p.Claimed = c.claimedAt(s.cell, a)
	}
	p.Home = a.homes.Have(s.place)
	if p.Special = a.special || p.Home; !p.Special {
		return ""
	}
	if p.Home {
		p.Hit = max(p.Hit, a.query.Best)
	}
	p.PerHour = ep.Capacity.CostPerHour
	c.placeWork(r, s, a.query.At, p)
	p.Delay, adapter = c.adapterDelay(r, a, ep, s.cell.server)
	return adapter
}

// adapterDelay is the delay by the request's LoRA adapter at an endpoint.
func (c *Cost) adapterDelay(r *costed, a *question, ep *types.Endpoint, s *costServer) (delay cost.Seconds, what string) {
	if r.adapter == 0 {
		return 0, ""
	}
	m := ep.Metrics.MaxAdapters.Or(0)
	if m < 1 {
		return 0, "not known how many adapters fit"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.AdapterDelay(&c.model, r.adapter, m, r.Output, a.query.Scarce)
}

// of returns what is kept with a request, making it at the first call.
func (c *Cost) of(req *types.Request) *costed {
	if r, ok := c.key.Get(&req.Attrs); ok {
		return r
	}
	r := new(costed)
	c.prepare(req, r)
	c.key.Set(&req.Attrs, r)
	return r
}

// Reread implements scheduling.Rereader.
func (c *Cost) Reread(req *types.Request) {
	if r, ok := c.key.Get(&req.Attrs); ok {
		c.prepare(req, r)
	}
}

// prepare fills in what is kept with a request.
func (c *Cost) prepare(req *types.Request, r *costed) {
	c.prefix.prepare(req, &r.prefix)
	r.Prompt, r.Streamed = cost.Tokens(max(float64(req.Prompt.Tokens), 1)), req.Stream
	r.model, r.pair = prefixindex.Seed(req.Target()), prefixindex.Seed(req.Target(), req.FairnessID)
	if r.Kind = req.Work.Kind; r.Kind == types.Generates && req.Work.Output <= 0 {
		r.Output = c.outputs.Expect(r.model, r.pair, scheduling.DefaultOutputTokens)
	} else {
		c.expectWork(req, r)
	}
	if req.MaxTokens > 0 {
		r.Output = min(r.Output, cost.Tokens(req.MaxTokens))
	}
	if r.Kind != types.Pools {
		r.Output = max(r.Output, 1)
	}
	if r.Kind != types.Denoises {
		r.media = c.mediaOf(&req.Prompt, r.model)
		r.Prompt = max(r.Prompt+r.media.more(), 1)
	}
	r.adapter = c.adapters.Of(req.Target()) // for who books without having asked for the cost
	r.query.Prompt = r.Prompt
	r.query.PerBlock = r.Prompt * cost.Tokens(c.prefix.index.Options().BlockBytes) / cost.Tokens(max(req.Prompt.Bytes, 1))
}

// expectWork fills in what is expected of a request that is not like text, or says itself how much it is.
func (c *Cost) expectWork(req *types.Request, r *costed) {
	w := &req.Work
	switch w.Kind {
	case types.Pools:
		r.Items = max(float64(w.Items), 1)
		return
	case types.Denoises:
		d, guessed := c.usual.Denoise(r.model, w.Denoise)
		r.Request.Denoise, r.Guessed = c.model.Engine.Denoise(d), guessed
		return
	case types.Converses: // not to be mixed with answers to prompts
		r.model, r.pair = prefixindex.Seed(req.Target(), conversing), prefixindex.Seed(req.Target(), req.FairnessID, conversing)
	}
	if r.given = cost.Tokens(w.Output); r.given > 0 {
		r.Output = c.usual.Output(r.model, r.given)
		return
	}
	r.Output = c.outputs.Expect(r.model, r.pair, scheduling.DefaultOutputTokens)
}

const conversing = "a conversation by voice"

// ExpectedOutput implements scheduling.OutputEstimator.
func (c *Cost) ExpectedOutput(req *types.Request) int { return int(c.of(req).Output) }

// CachedTokens implements scheduling.CacheEstimator.
func (c *Cost) CachedTokens(req *types.Request, ep *types.Endpoint) int {
	r := c.of(req)
	hit := r.query.Cached(c.holds(req, r, ep))
	if r.query.Peer > 0 {
		if cell := c.table.lookup(ep); cell != nil {
			hit += c.pull(&r.query, ep, hit, cost.Seconds(cell.server.facts().Token))
		}
	}
	return int(math.Round(float64(hit)))
}

// holds is how many blocks of the prompt ep holds: what the decision saw, if it is likely to
// go there.
func (c *Cost) holds(req *types.Request, r *costed, ep *types.Endpoint) cost.Blocks {
	if r.likely != nil && r.likely == ep.Load {
		return r.held
	}
	if r.leg != nil && r.leg.likely == ep.Load {
		return r.leg.held
	}
	held, _ := c.prefix.match(req, ep)
	return cost.Blocks(held)
}

// seconds is a time since the first one that Cost has seen.
func (c *Cost) seconds(t time.Time) cost.Seconds {
	c.start.Do(func() { c.epoch = t })
	return cost.Seconds(t.Sub(c.epoch).Seconds())
}

var (
	_ scheduling.Coster           = (*Cost)(nil)
	_ scheduling.Itemizer         = (*Cost)(nil)
	_ scheduling.Tracker          = (*Cost)(nil)
	_ scheduling.Forgetter        = (*Cost)(nil)
	_ scheduling.CacheEstimator   = (*Cost)(nil)
	_ scheduling.OutputEstimator  = (*Cost)(nil)
	_ scheduling.DenoiseEstimator = (*Cost)(nil)
	_ scheduling.Splitter         = (*Cost)(nil)
	_ scheduling.SplitItemizer    = (*Cost)(nil)
	_ scheduling.PrefillEstimator = (*Cost)(nil)
	_ scheduling.PrefillTracker   = (*Cost)(nil)
)
