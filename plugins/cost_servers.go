package plugins

import (
	"math"

	"github.com/inferpick/inferpick/internal/cost"
	"github.com/inferpick/inferpick/internal/prefixindex"
	"github.com/inferpick/inferpick/types"
)

// catchUp enters endpoints that are new and takes over readings that are.
func (c *Cost) catchUp(eps []*types.Endpoint, now cost.Seconds) {
	c.lookAgain(now)
	c.dropKept(now)
	c.enterNew(eps)
	for _, ep := range eps {
		if cell := c.table.lookup(ep); cell != nil && cell.reading.Load() != ep {
			c.takeOver(cell.server, ep, now)
		}
	}
	// What is taken to be where nothing is known depends on all the others.
	if c.foreign.Load() > 0 && c.partly.Load() > 0 {
		for _, cell := range c.table.all() {
			if cell != nil && cell.partly.Load() {
				c.deriveAnew(cell.server, now)
			}
		}
	}
}

// lookAgain looks at readings that have grown old enough to be trusted less.
func (c *Cost) lookAgain(now cost.Seconds) {
	due := false
	c.recheck.Update(func(at float64) float64 {
		if due = float64(now) >= at; due {
			return math.Inf(1)
		}
		return at
	})
	if !due {
		return
	}
	for _, cell := range c.table.all() {
		if cell != nil && cell.reading.Load() != nil {
			s := cell.server
			s.mu.Lock()
			c.refresh(s, now)
			s.mu.Unlock()
		}
	}
}

// enterNew enters those that are not in the table and have not gone.
func (c *Cost) enterNew(eps []*types.Endpoint) {
	view := c.table.view.Load()
	for _, ep := range eps {
		if view.lookup(ep) == nil {
			c.prefix.enter(eps)
			c.table.mu.Lock()
			defer c.table.mu.Unlock()
			c.table.enterAll(eps, c.fresh)
			return
		}
	}
}

// fresh makes the entry of an endpoint that was not met before.
func (c *Cost) fresh(ep *types.Endpoint, cell *costCell) {
	cell.row.Handle = -1
	if cached := c.prefix.serverOf(ep); cached != nil {
		cell.row.Handle = int32(cached.handle.Slot())
	}
	cell.place = prefixindex.Seed(ep.Address)
	cell.server = &costServer{cell: cell, Server: cost.NewServer(c.o.startRates(ep))}
	c.resume(ep.ID, cell.server.Server)
}

// takeOver takes over a reading. Who decides at the same time may have a newer one already.
func (c *Cost) takeOver(s *costServer, ep *types.Endpoint, now cost.Seconds) {
	if ep.Roles.Has(types.RolePrefill) {
		c.helps()
	}
	if rates, learned := c.takeReading(s, ep, now); learned && !rates.Near(c.rates.Load(), c.model.Engine.Step) {
		c.renewAll(rates, now)
	}
}

// takeReading is takeOver for one server. It returns the rates that the reading taught, if it did.
func (c *Cost) takeReading(s *costServer, ep *types.Endpoint, now cost.Seconds) (rates cost.Rates, learned bool) {
	m := &ep.Metrics
	var room [2][8]cost.AdapterID
	waiting, running := room[0][:0], room[1][:0]
	reports := m.MaxAdapters.IsKnown()
	if reports {
		waiting, running = c.list(waiting, m.WaitingAdapters), c.list(running, m.RunningAdapters)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone || s.reading == ep || s.reading != nil && m.UpdatedAt.Before(s.reading.Metrics.UpdatedAt) {
		return rates, false
	}
	s.reading = ep
	c.setKin(s, ep)
	c.compare(s.Read(c.reading(ep)))
	if reports {
		s.Adapters.Report(waiting, running)
	}
	rates, learned = c.told(s, m.PrefillRate.Or(0), now)
	c.refresh(s, now)
	return rates, learned
}

// told learns from a rate of prefill that a server tells, 0 if it does not, as often as rates may change.
// Caller must hold s.mu.
func (c *Cost) told(s *costServer, rate float64, now cost.Seconds) (rates cost.Rates, learned bool) {
	if rate <= 0 || rate == s.rate || c.o.FixedRates || float64(now) < c.renewed.Load()+cost.RenewEvery || !c.learning.TryLock() {
		return rates, false
	}
	defer c.learning.Unlock()
	s.rate = rate
	c.learner.Told(&c.model, s.Server, rate, now)
	return c.publishLearned(), true
}

// refresh derives and publishes what follows from a reading, and notes when its age will matter
// next. Caller must hold s.mu.
func (c *Cost) refresh(s *costServer, now cost.Seconds) {
	c.derive(s, now)
	s.publish()
	c.recheckAt(s, now)
}

// recheckAt notes when s is to be looked at again. Caller must hold s.mu.
func (c *Cost) recheckAt(s *costServer, now cost.Seconds) {
	if at := float64(s.Recheck(now)); at < c.recheck.Load() {
		c.recheck.Update(func(v float64) float64 { return min(v, at) })
	}
}

// reading returns what counts of a reading.
func (c *Cost) reading(ep *types.Endpoint) cost.Reading {
	m := &ep.Metrics
	return cost.Reading{
		At: m.UpdatedAt.Sub(c.epoch), Read: !m.UpdatedAt.IsZero(),
		Counts: m.Waiting.IsKnown() || m.Running.IsKnown(), There: m.Waiting.Or(0) + m.Running.Or(0),
		Sent: float64(ep.Sent.Requests), Told: float64(ep.Told.Requests), KVUsage: m.KVUsage, KVTokens: float64(cacheTokens(ep)),
	}
}

// list appends the IDs of adapters that an engine has listed.
func (c *Cost) list(ids []cost.AdapterID, names []string) []cost.AdapterID {
	for _, name := range names {
		c.listing.Lock()
		id, forgot := c.adapters.List(name)
		c.listing.Unlock()
		if forgot {
			for _, cell := range c.table.all() {
				if cell != nil {
					cell.server.mu.Lock()
					cell.server.Adapters.Forget(id)
					cell.server.mu.Unlock()
				}
			}
		}
		ids = append(ids, id)
	}
	return ids
}

// view returns what the servers have in common now.
func (c *Cost) view() cost.View {
	return cost.View{
		Rates:  c.rates.Load(),
		Common: cost.Common{Step: c.common[0].Load(), Token: c.common[1].Load(), Left: c.common[2].Load()},
		Late:   cost.Seconds(c.late.Load()), Foreign: c.foreign.Load(), Believed: c.believed.Load(), Peers: c.follow.Load(), Context: cost.Tokens(c.context.Load()),
		Diffusion: c.diffusing.Load(),
	}
}

// derive works out what follows from what s has, after anything has changed. Caller must hold
// s.mu, and publish.
func (c *Cost) derive(s *costServer, now cost.Seconds) {
	foreign, believed := s.Trusted(now)
	if !s.gone {
		c.foreign.Add(foreign)
		c.believed.Add(believed)
		_, trust := s.Trust()
		c.setPartly(s, trust < 1)
	}
	ledger := 0.
	if s.reading != nil {
		ledger = float64(s.reading.Load.Requests())
		c.hearPeers(s)
	}
	v := c.view()
	s.Derive(&c.model, &v, ledger, now)
}

// setPartly notes whether the reading of s is not believed in full. Caller must hold s.mu.
func (c *Cost) setPartly(s *costServer, partly bool) {
	if s.cell.partly.Load() == partly {
		return
	}
	s.cell.partly.Store(partly)
	if partly {
		c.partly.Add(1)
	} else {
		c.partly.Add(-1)
	}
}

// deriveAnew derives what depends on the time and on other servers.
func (c *Cost) deriveAnew(s *costServer, now cost.Seconds) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.derive(s, now)
	s.publish()
}

// Forget implements scheduling.Forgetter.
func (c *Cost) Forget(ep *types.Endpoint) {
	c.prefix.Forget(ep)
	c.table.mu.Lock()
	cell := c.table.remove(ep)
	c.table.mu.Unlock()
	if cell == nil {
		return
	}
	s := cell.server
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
	c.forgetMedia(s)
	c.learning.Lock()
	c.learner.Forget(s.Server)
	c.publishLearned()
	c.learning.Unlock()
	n, _ := s.Requests()
	c.own.Add(-int64(n))
	foreign, believed := s.Trust()
	c.foreign.Add(-foreign)
	c.believed.Add(-believed)
	c.peers.Add(s.SetPeers(cost.Peers{}))
	c.setPartly(s, false)
}
