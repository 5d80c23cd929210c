package plugins

import (
	"github.com/inferpick/inferpick/internal/cost"
	"github.com/inferpick/inferpick/types"
)

// Picked implements scheduling.Tracker.
func (c *Cost) Picked(req *types.Request, ep *types.Endpoint) {
	r := c.of(req)
	c.prefix.Picked(req, ep)
	now := c.seconds(req.Now)
	if r.Kind == types.Denoises {
		c.diffuse(now)
	}
	r.at, r.likely = nil, nil
	c.disclaim(r)
	if r.scratch != nil { // Split was not called
		c.scratch.Put(r.scratch)
		r.scratch = nil
	}
	if r.Kind == types.Fetches {
		return // nothing is computed
	}
	s := c.lockServer(ep, now)
	if s == nil {
		return
	}
	defer s.mu.Unlock()
	r.at = s
	r.Apart = r.leg != nil && r.leg.answer == ep.Load
	c.joins(r, now)
	held := c.had(r, &r.recorded)
	if r.Encode = 0; r.Apart {
		r.leg.lacks = r.Prompt - held
	} else {
		r.Encode = c.seesMedia(r, s, &r.recorded)
		held = c.pulls(r, ep, s, held)
	}
	c.enters(s, &r.Request, r.adapter, held, now)
}

// had returns how many tokens of a prompt an endpoint had cached when the prompt was recorded there.
func (c *Cost) had(r *costed, at *recorded) cost.Tokens {
	return r.query.Cached(cost.Blocks(at.before) + c.prefix.lanes.prices.Worth(at.lower))
}

// enters enters a request at a server that has so many tokens of it cached; leaves takes it off. Caller must hold s.mu.
func (c *Cost) enters(s *costServer, r *cost.Request, adapter cost.AdapterID, held cost.Tokens, now cost.Seconds) {
	v := c.view()
	s.Add(r, held, &c.model, &v, now)
	if adapter != 0 {
		s.Adapters.Count(adapter, 1, 0, now)
	}
	if !s.gone {
		c.own.Add(1)
	}
	c.derive(s, now)
	s.publish()
	c.recheckAt(s, now)
}

// lockServer returns what is kept of ep, with its lock held, entering it if it is new; nil if
// it has gone.
func (c *Cost) lockServer(ep *types.Endpoint, now cost.Seconds) *costServer {
	for {
		cell := c.table.lookup(ep)
		if cell == nil {
			c.enterNew([]*types.Endpoint{ep})
			if cell = c.table.lookup(ep); cell == nil {
				return nil
			}
			c.takeOver(cell.server, ep, now)
		}
		s := cell.server
		s.mu.Lock()
		if !s.gone {
			return s
		}
		s.mu.Unlock() // it was forgotten meanwhile
	}
}

// joins counts a request among those in flight.
func (c *Cost) joins(r *costed, now cost.Seconds) {
	if size := float64(r.Context()); size > 0 {
		c.context.Update(func(mean float64) float64 {
			if mean == 0 {
				mean = size
			}
			return mean + cost.ContextGain*(size-mean)
		})
	}
	if r.Kind == types.Denoises {
		return // it puts off no first token
	}
	c.crowding.Lock()
	defer c.crowding.Unlock()
	c.crowd.Add(r.hashes, 1)
	c.heads.Add(r.hashes)
	c.arrivals.Add(1, now)
	c.arriving.Store(c.arrivals.PerSecond(now))
}

// FirstToken implements scheduling.Tracker.
func (c *Cost) FirstToken(req *types.Request, ep *types.Endpoint) {
	c.prefix.FirstToken(req, ep)
	r := c.of(req)
	s, now := r.at, c.seconds(req.Now)
	if s == nil || r.Kind == types.Denoises {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.First(&r.Request, now)
	if r.Apart {
		c.learnHop(&r.leg.handover, s, now)
	} else {
		c.learnTier(r, s)
	}
	c.begun(r, s, now)
}

// Answered implements scheduling.AnswerTracker: a session speaks from now on.
func (c *Cost) Answered(req *types.Request, _ *types.Endpoint, _ types.Outcome) {
	r := c.of(req)
	if s, now := r.at, c.seconds(req.Now); s != nil && r.Kind == types.Converses {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.First(&r.Request, now)
		c.begun(r, s, now)
	}
}

// begun works out what changes with a first token. Caller must hold s.mu.
func (c *Cost) begun(r *costed, s *costServer, now cost.Seconds) {
	if r.adapter != 0 {
		s.Adapters.Count(r.adapter, 0, 1, now)
	}
	c.derive(s, now)
	v := c.view()
	s.Began(&r.Request, &v, now)
	s.publish()
}

// Finished implements scheduling.Tracker.
func (c *Cost) Finished(req *types.Request, ep *types.Endpoint, out types.Outcome) {
	c.prefix.Finished(req, ep, out)
	r := c.of(req)
	s, now := r.at, c.seconds(req.Now)
	if s == nil {
		return
	}
	r.at = nil
	if r.leg != nil {
		c.arrives(&r.leg.handover)
		r.leg.answer = nil
	}
	c.crowding.Lock()
	c.crowd.Add(r.hashes, -1)
	c.crowding.Unlock()
	if out.Served() {
		c.learnRequest(req, r, &out)
	} else if r.media != nil && !r.Begun() {
		s.mu.Lock()
		c.unseeMedia(r, s)
		s.mu.Unlock()
	}
	rates, learned := c.leaves(s, &r.Request, r.adapter, &out, now)
	c.renew(rates, learned, now)
	if again := c.table.lookup(ep); again != nil && again != s.cell {
		c.deriveAnew(again.server, now) // it was forgotten and came back: the ledger is the same
	}
}

// renew works out anew the figures of all servers if the rates have changed, or else of one of them.
func (c *Cost) renew(rates cost.Rates, learned bool, now cost.Seconds) {
	if learned && float64(now) >= c.renewed.Load()+cost.RenewEvery && !rates.Near(c.rates.Load(), c.model.Engine.Step) {
		c.renewAll(rates, now)
	} else {
		c.renewOne(now)
	}
}

// leaves takes r off the server, and returns the rates that it taught, if it did.
func (c *Cost) leaves(s *costServer, r *cost.Request, adapter cost.AdapterID, out *types.Outcome, now cost.Seconds) (rates cost.Rates, learned bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := c.view()
	if out.Served() {
		s.Served(r)
		rates, learned = c.learn(s, r, out, &v, now)
	}
	begun := r.Begun()
	s.Remove(r, now)
	if !s.gone {
		c.own.Add(-1)
	}
	if adapter != 0 {
		running := int32(0)
		if begun {
			running = -1
		}
		s.Adapters.Count(adapter, -1, running, now)
	}
	c.derive(s, now)
	switch {
	case r.Kind == types.Denoises: // it was in no step
	case out.Served():
		s.StepEnded(&v, now)
	default:
		s.Settle(&c.model, now)
	}
	s.publish()
	return rates, learned
}

// learn learns from how a request went. While another one is learned from, this one is left
// out: where there are so many, one more or less tells nothing.
func (c *Cost) learn(s *costServer, r *cost.Request, out *types.Outcome, v *cost.View, now cost.Seconds) (rates cost.Rates, learned bool) {
	if c.o.FixedRates || !c.learning.TryLock() {
		return rates, false
	}
	defer c.learning.Unlock()
	c.learner.Observe(&c.model, v, s.Server, r, out, now)
	return c.publishLearned(), true
}

// publishLearned publishes what is believed of the fleet, but for the rates, which it returns:
// the figures of all servers are by the same. Caller must hold c.learning.
func (c *Cost) publishLearned() cost.Rates {
	rates, common, late := c.learner.Believed()
	c.common[0].Set(common.Step)
	c.common[1].Set(common.Token)
	c.common[2].Set(common.Left)
	c.late.Set(float64(late))
	c.publishDiffusing()
	return rates
}

// learnTier learns what it costs to read from the tier that most of what was cached came from. Caller must
// hold s.mu.
func (c *Cost) learnTier(r *costed, s *costServer) {
	from, most := types.KVGPU, r.before
	for t, n := range r.lower {
		if n > most {
			from, most = types.KVTier(t), n
		}
	}
	tokens := r.query.Cached(cost.Blocks(most))
	if r.pulled > tokens {
		from, tokens = cost.Peer, r.pulled
	}
	if from != types.KVGPU && r.Streamed {
		c.prefix.lanes.prices.Learn(from, tokens, r.Lateness(), cost.Seconds(s.Facts().Token))
	}
}

// learnRequest learns what a served request says of those like it.
func (c *Cost) learnRequest(req *types.Request, r *costed, out *types.Outcome) {
	u := &out.Usage
	c.learnMedia(req, r, u)
	tokens := cost.Tokens(u.CompletionTokens.Or(float64(out.Tokens)))
	switch {
	case r.Kind == types.Denoises:
		c.usual.AddDenoise(r.model, req.Work.Denoise)
		return
	case r.Kind == types.Pools:
		return
	case r.given > 0:
		c.usual.AddOutput(r.model, r.given, tokens)
	default:
		c.outputs.Add(r.model, r.pair, tokens)
	}
	c.learnReuse(r, u)
}

// learnReuse learns which part of a prompt was found in the cache.
func (c *Cost) learnReuse(r *costed, u *types.Usage) {
	if cached, ok := u.CachedTokens.Value(); ok && cached >= 0 {
		c.reuse.Update(func(reuse float64) float64 {
			return reuse + cost.ReuseGain*(min(cached/float64(r.Prompt), 1)-reuse)
		})
	}
}

// renewAll works out anew the figures of all servers, by other rates: by those of before, some
// would seem faster just because nothing happened there lately.
func (c *Cost) renewAll(rates cost.Rates, now cost.Seconds) {
	c.renewed.Store(float64(now))
	c.rates.Store(rates)
	for _, cell := range c.table.all() {
		if cell != nil {
			c.deriveAnew(cell.server, now)
		}
	}
}

// renewOne works out anew the figures of another server each few times: what was learned of one
// grows old also while nothing happens there.
func (c *Cost) renewOne(now cost.Seconds) {
	turn, all := c.turn.Add(1), c.table.all()
	if turn%cost.RenewTurns != 0 || len(all) == 0 {
		return
	}
	if cell := all[turn/cost.RenewTurns%uint64(len(all))]; cell != nil {
		c.deriveAnew(cell.server, now)
	}
}
