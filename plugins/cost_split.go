package plugins

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/inferpick/inferpick/internal/cost"
	"github.com/inferpick/inferpick/internal/list"
	"github.com/inferpick/inferpick/internal/prefixindex"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// This file is Cost as a scheduling.Splitter. All ways to serve a request have a cost in weighted seconds: at one
// endpoint as Cost has it, and, where another could compute the prompt, with all that the prefill takes from those
// that decode there; at two, what the prompt costs at the one, the hand-over, and what the answer costs at the
// other. The hand-over depends on who they are only by their distance, of which there are few classes. So the best
// pair of all is found from the best of each class, without looking at all pairs.

// costedLeg is what Cost keeps with a request about who computes its prompt for another.
type costedLeg struct {
	question // of who is to do it
	recorded
	cost.Request

	at     *costServer // who does it, from PrefillPicked to PrefillFinished
	answer *types.Load // for whom; nil: for nobody any more
	handover
}

// handover is the prompt of a request on its way from one endpoint to another.
type handover struct {
	between [2]*costCell // these
	class   int          // of how far they are apart
	lacks   cost.Tokens  // that are handed over
	others  cost.Tokens  // of others, that were on their way from or to either when it began
	began   cost.Seconds // when the prompt was there
	moving  bool         // it has begun, and not ended

	// Guarded by Cost.handing.
	listed list.Node[handover] // among those that are on their way
	warned cost.Seconds        // the age at which it taught that it takes long; 0: it has not
}

// splitMargin is how many weighted seconds a pair must be better than one endpoint: so that little does not change
// the decision from one request to the next.
const splitMargin = .01

// Split implements scheduling.Splitter.
func (c *Cost) Split(ctx context.Context, req *types.Request, eps, prefill []*types.Endpoint, must bool, by []int32, gains []float64) error {
	r := c.of(req)
	if r.scratch == nil || len(r.scratch.costs) != len(eps) {
		if err := c.Cost(ctx, req, eps, gains); err != nil {
			return err
		}
	}
	sc := r.scratch
	if r.scratch = nil; sc == nil {
		return nil // requests of which Split is not set are not split
	}
	defer c.scratch.Put(sc)
	if !keepsCache(req) {
		return nil // there is nothing to hand over
	}
	if sc.second == nil {
		sc.second = new(costScratch)
	}
	c.withdraw(&r.question) // its own claim is not one of others
	c.learnOverdue(c.seconds(req.Now))
	c.askPrefill(req, r, prefill, sc)
	c.fillPrefill(r, prefill, sc)
	best := c.pair(r, eps, sc, must, by, gains)
	c.claim(&r.question, eps, sc.seen, best)
	if best >= 0 && by[best] >= 0 {
		c.claim(&r.leg.question, prefill, sc.second.seen, int(by[best]))
	}
	return nil
}

// askPrefill fills in r.leg.question about who computes the prompt.
func (c *Cost) askPrefill(req *types.Request, r *costed, prefill []*types.Endpoint, sc *costScratch) {
	if r.leg == nil {
		r.leg = new(costedLeg)
	}
	l, now := r.leg, c.seconds(req.Now)
	most := c.find(prefill, sc.second, sc.matched, now)
	if c.prefix.remembersMore(&r.prefix, req.Now) {
		sc.matched = c.prefix.matchAll(r.hashes, &sc.held)
		most = c.find(prefill, sc.second, sc.matched, now)
	}
	c.ask(req, r, &l.question, prefill, sc.second, most, now)
	q := &l.query
	q.Output, q.Lean = 1, 0
	q.Best, q.Else, q.Share = q.Prompt-1, 0, 1 // another could always do it: see cost.Model.Elsewhere
	q.SLO.TPOT = 0
	if q.SLO.TTFT > 0 { // the hand-over takes a part of it, which is about that of those the farthest apart
		q.SLO.TTFT = max(q.SLO.TTFT-c.hopOf(len(c.o.Links)).Takes(q.Prompt), 1e-3)
	}
}

// fillPrefill finds the best endpoints to compute the prompt, in each group of those that can reach each other.
func (c *Cost) fillPrefill(r *costed, prefill []*types.Endpoint, sc *costScratch) {
	var f cost.Figures
	var p cost.Place
	var t cost.Terms
	l, seen, hops := r.leg, sc.second.seen, c.allHops()
	sc.best.Reset(len(prefill) * (len(c.o.Links) + 1))
	plain := c.plain(&l.question)
	for k := range seen {
		s := &seen[k]
		if s.cell == nil {
			continue
		}
		if plain {
			s.cell.row.Load(&f)
			p.Hit = l.query.Cached(s.blocks)
		} else {
			c.lookAt(r, &l.question, prefill[k], s, &f, &p)
		}
		v := c.model.PrefillFor(&l.query, &f, &p, &t)
		if kin := s.cell.kin.Load(); kin != nil {
			moving := cost.Seconds(c.model.FirstToken * s.cell.moving.Load())
			for class, group := range kin.groups[:len(c.o.Links)+1] {
				if group != 0 {
					sc.best.Add(group, int32(k), v+moving*hops[class].Token)
				}
			}
		}
	}
}

// plain reports whether of a question no more matters at any endpoint than its figures and what it has cached.
func (c *Cost) plain(a *question) bool {
	return !a.contended && !a.special && !a.homes.Any() && c.o.PullLabel == ""
}

// pair compares for each of eps the best that could compute the prompt for it with itself, and returns which of eps
// has the least cost then; -1: there is none.
func (c *Cost) pair(r *costed, eps []*types.Endpoint, sc *costScratch, must bool, by []int32, gains []float64) (best int) {
	var f cost.Figures
	var p cost.Place
	var t cost.Terms
	hops := c.allHops()
	answer := r.query
	answer.SLO.TTFT = 0 // that is a matter of who computes the prompt
	plain := c.plain(&r.question)
	least := math.Inf(1)
	best = -1
	for i := range sc.seen {
		s := &sc.seen[i]
		gains[i] = 0
		if s.cell == nil {
			continue
		}
		if plain {
			s.cell.row.Load(&f)
			p.Hit = r.query.Cached(s.blocks)
		} else {
			c.lookAt(r, &r.question, eps[i], s, &f, &p)
			p.Hit = min(p.Hit, r.query.Cached(s.blocks)) // what it is only expected to hold is handed over
			p.Home = false
		}
		alone := sc.costs[i]
		apart, helper := c.helper(sc, s.cell, &hops, r.Prompt-p.Hit)
		apart += c.model.Answer(&answer, &f, &p, &t)
		elsewhere := c.model.Elsewhere(&r.query, &f, p.Hit)
		total := alone + float64(elsewhere)
		if helper >= 0 && (must || eps[i].Roles.Has(types.RoleNotAlone) || float64(apart)+splitMargin < total) {
			by[i], total = helper, float64(apart)
		}
		if gains[i] = alone - total; total < least {
			least, best = total, i
		}
	}
	return best
}

// helper returns who is best to compute the prompt for the endpoint of a cell, which lacks so many tokens of it, and
// what that costs, the hand-over included; -1: nobody.
func (c *Cost) helper(sc *costScratch, cell *costCell, hops *[mostLinks + 1]cost.Hop, lacks cost.Tokens) (least cost.Seconds, at int32) {
	at = -1
	kin, moving := cell.kin.Load(), cost.Tokens(cell.moving.Load())
	if kin == nil {
		return 0, at
	}
	for class, group := range kin.groups[:len(c.o.Links)+1] {
		if group == 0 {
			continue
		}
		places, costs := sc.best.Find(group)
		n := 0
		if places[0] >= 0 && sc.second.seen[places[0]].cell == cell {
			n = 1 // it need not help itself
		}
		if places[n] < 0 {
			continue
		}
		v := costs[n] + cost.Seconds(c.model.FirstToken)*hops[class].Takes(lacks+moving)
		if at < 0 || v < least {
			least, at = v, places[n]
		}
	}
	return least, at
}

// PrefillTime implements scheduling.PrefillEstimator.
func (c *Cost) PrefillTime(req *types.Request, ep *types.Endpoint) time.Duration {
	r := c.of(req)
	cell := c.table.lookup(ep)
	if cell == nil {
		return 0
	}
	facts := cell.server.facts()
	compute := r.Prompt - r.query.Cached(c.holds(req, r, ep))
	takes := c.model.Engine.Prefill(facts.Token, r.Prompt, compute)
	if r.media != nil {
		rates := c.rates.Load()
		takes += r.media.left(cell, c.bytesOf(c.holds(req, r, ep))) * cost.Seconds(facts.Token*rates.Encode/(rates.Token*c.model.Engine.Token))
	}
	return time.Duration(float64(takes) * float64(time.Second))
}

// PrefillPicked implements scheduling.PrefillTracker.
func (c *Cost) PrefillPicked(req *types.Request, prefill, answer *types.Endpoint) {
	r := c.of(req)
	if r.leg == nil { // another Splitter decides
		r.leg = new(costedLeg)
		r.leg.query.PerBlock, r.leg.query.Prompt = r.query.PerBlock, r.Prompt
	}
	l := r.leg
	r.prefix.leg = &l.recorded
	c.prefix.PrefillPicked(req, prefill, answer)
	c.arrives(&l.handover)
	l.at, l.answer, l.likely = nil, answer.Load, nil
	c.withdraw(&l.question)
	now := c.seconds(req.Now)
	s := c.lockServer(prefill, now)
	if s == nil {
		return
	}
	defer s.mu.Unlock()
	other := c.table.lookup(answer)
	l.at, l.between, l.class = s, [2]*costCell{s.cell, other}, c.classOf(s.cell, other)
	l.Request = cost.Request{Prompt: r.Prompt, Output: 1, Streamed: true} // it ends when PrefillFinished says so
	l.Encode = c.seesMedia(r, s, &l.recorded)
	c.enters(s, &l.Request, r.adapter, c.had(r, &l.recorded), now)
}

// PrefillFinished implements scheduling.PrefillTracker.
func (c *Cost) PrefillFinished(req *types.Request, prefill *types.Endpoint, out types.Outcome) {
	c.prefix.PrefillFinished(req, prefill, out)
	r := c.of(req)
	l, now := r.leg, c.seconds(req.Now)
	if l == nil || l.at == nil {
		return
	}
	s := l.at
	l.at = nil
	if out.Served() {
		if l.answer != nil && !r.Begun() {
			c.departs(&l.handover, now)
		}
		c.learnReuse(r, &out.Usage)
	} else {
		l.answer = nil
	}
	rates, learned := c.leaves(s, &l.Request, r.adapter, &out, now)
	c.renew(rates, learned, now)
}

// departs notes that the prompt is there, and begins to be handed over: unless it waits for memory where it is to
// go, which is no matter of the way.
func (c *Cost) departs(h *handover, now cost.Seconds) {
	if to := h.between[1]; to != nil {
		if f := to.server.facts(); f.KVKnown && f.KV > fullKV {
			return
		}
	}
	h.began, h.moving, h.others, h.warned = now, true, 0, 0
	for _, cell := range h.between {
		if cell != nil {
			h.others += cost.Tokens(cell.moving.Add(float64(h.lacks))) - h.lacks
		}
	}
	c.handing.Lock()
	defer c.handing.Unlock()
	c.underway.Push(h, &h.listed)
}

// arrives notes that it was handed over, or will not be any more, and reports whether it was on its way.
func (c *Cost) arrives(h *handover) (was bool) {
	if was = h.moving; !was {
		return false
	}
	h.moving = false
	for _, cell := range h.between {
		if cell != nil {
			cell.moving.Add(-float64(h.lacks))
		}
	}
	c.handing.Lock()
	defer c.handing.Unlock()
	if h.listed.Of != nil {
		c.underway.Remove(&h.listed)
	}
	return true
}

// learnHop learns from the first token of an answer how long it took to hand the prompt over. Endpoints share what
// they can send and receive among all prompts that are on their way, so that it took as long as all of them. Caller
// must hold s.mu, that of the server which answers.
func (c *Cost) learnHop(h *handover, s *costServer, now cost.Seconds) {
	if !c.arrives(h) || c.o.FixedRates {
		return // who knows when the prompt was there
	}
	c.handing.Lock()
	defer c.handing.Unlock()
	c.hops.Learn(h.class, h.lacks+h.others, now-h.began-cost.AnswerWait(s.Facts().Step))
	c.publishHops()
}

// learnOverdue learns from the prompt that has been on its way the longest, if it should have been there long ago: over
// a slow link the first one that tells comes when many have been sent after it. It teaches again when it is twice as
// old.
func (c *Cost) learnOverdue(now cost.Seconds) {
	c.handing.Lock()
	defer c.handing.Unlock()
	if c.underway.Head == nil || c.o.FixedRates {
		return
	}
	h := c.underway.Head.Of
	if age := now - h.began; age > max(overdue*c.hops.Of(h.class).Takes(h.lacks+h.others), 2*h.warned) {
		h.warned = age
		c.hops.Learn(h.class, h.lacks+h.others, age)
		c.publishHops()
	}
}

// fullKV is the part of a KV cache in use from which on prompts are taken to wait for memory.
const fullKV = .9

// overdue is how many times longer than expected a prompt is on its way when that teaches something.
const overdue = 2

// sharedHop is a cost.Hop that is read without a lock.
type sharedHop struct{ setup, token cost.Float }

// publishHops publishes what is believed of hand-overs. Caller must hold c.handing, or be the only one.
func (c *Cost) publishHops() {
	for class := range len(c.o.Links) + 1 {
		hop := c.hops.Of(class)
		c.hop[class].setup.Store(float64(hop.Setup))
		c.hop[class].token.Store(float64(hop.Token))
	}
}

// allHops returns what is believed of all classes.
func (c *Cost) allHops() (hops [mostLinks + 1]cost.Hop) {
	for class := range len(c.o.Links) + 1 {
		hops[class] = c.hopOf(class)
	}
	return hops
}

func (c *Cost) hopOf(class int) cost.Hop {
	h := &c.hop[class]
	return cost.Hop{Setup: cost.Seconds(h.setup.Load()), Token: cost.Seconds(h.token.Load())}
}

// kinship says with whom an endpoint can serve a request together, and how near they are: two that have the same
// group at a place are as near as that one of CostOptions.Links says, or the last one, that all have who can reach
// each other at all. 0: it is not known.
type kinship struct{ groups [mostLinks + 1]uint64 }

// kinOf returns that of an endpoint.
func (o *CostOptions) kinOf(ep *types.Endpoint) *kinship {
	var room [8]string
	values := room[:0]
	for _, label := range o.PairLabels {
		values = append(values, ep.Labels[label])
	}
	var kin kinship
	n := len(values)
	for i, label := range o.Links {
		if v := ep.Labels[label]; v != "" {
			kin.groups[i] = max(prefixindex.Seed(append(values[:n], label, v)...), 1)
		}
	}
	kin.groups[len(o.Links)] = max(prefixindex.Seed(append(values[:n], "")...), 1)
	return &kin
}

// setKin publishes with whom ep, of which s is, can serve a request, from when there is anybody who computes prompts
// for others. Caller must hold s.mu.
func (c *Cost) setKin(s *costServer, ep *types.Endpoint) {
	if !c.splits.Load() {
		return
	}
	kin := c.o.kinOf(ep)
	if old := s.cell.kin.Load(); old == nil || *old != *kin {
		s.cell.kin.Store(kin)
	}
}

// helps notes that there is somebody who computes prompts for others. Caller must hold no lock of a server.
func (c *Cost) helps() {
	if c.splits.Swap(true) {
		return
	}
	for _, cell := range c.table.all() {
		if cell != nil {
			cell.server.mu.Lock()
			if ep := cell.server.reading; ep != nil {
				c.setKin(cell.server, ep)
			}
			cell.server.mu.Unlock()
		}
	}
}

// classOf returns the class of how far two endpoints are apart.
func (c *Cost) classOf(a, b *costCell) int {
	last := len(c.o.Links)
	if a == nil || b == nil {
		return last
	}
	one, other := a.kin.Load(), b.kin.Load()
	if one == nil || other == nil {
		return last
	}
	for class, group := range one.groups[:last] {
		if group != 0 && group == other.groups[class] {
			return class
		}
	}
	return last
}

// PrefillItems implements scheduling.SplitItemizer.
func (c *Cost) PrefillItems(req *types.Request, prefill *types.Endpoint) []scheduling.CostItem {
	r := c.of(req)
	cell := c.table.lookup(prefill)
	if r.leg == nil || cell == nil {
		return nil
	}
	c.disclaim(r)
	held, _ := c.prefix.match(req, prefill)
	seen := costSeen{cell: cell, place: cell.place, blocks: cost.Blocks(held)}
	var f cost.Figures
	var p cost.Place
	var t cost.Terms
	l := r.leg
	adapter := c.lookAt(r, &l.question, prefill, &seen, &f, &p)
	c.model.PrefillFor(&l.query, &f, &p, &t)
	first := cost.Seconds(c.model.FirstToken)
	return nonZero(
		item("wait", first*t.Wait, fmt.Sprintf("%d before it", cell.server.facts().Prefilling)),
		item("prefill", first*(t.Prefill-t.Encode), fmt.Sprintf("%.0f of %.0f tokens cached", p.Hit, r.Prompt)),
		item("encode", first*t.Encode, r.describeMedia(&req.Prompt, cell, c.bytesOf(seen.blocks))),
		item("output", t.Output, "its one token"),
		item("disturb", t.Disturb, fmt.Sprintf("%.0f decoding", f.Decoding)),
		item("join", t.Join, fmt.Sprintf("%.0f other first tokens in its step%s", f.JoinedAt(l.query.At)+p.Claimed.Requests, behind(l.query.Behind(&f, t.Wait)))),
		item("kv", t.KV, ""), item("adapter", first*t.Adapter, adapter), item("home", t.Home, "the prompt's home"), item("slo", t.SLO, ""), item("price", t.Price, ""),
	)
}

// AnswerItems implements scheduling.SplitItemizer.
func (c *Cost) AnswerItems(req *types.Request, ep, prefill *types.Endpoint) []scheduling.CostItem {
	r := c.of(req)
	cell := c.table.lookup(ep)
	if cell == nil {
		return nil
	}
	c.disclaim(r)
	held, _ := c.prefix.match(req, ep)
	seen := costSeen{cell: cell, place: cell.place, blocks: cost.Blocks(held)}
	var f cost.Figures
	var p cost.Place
	var t cost.Terms
	adapter := c.lookAt(r, &r.question, ep, &seen, &f, &p)
	p.Hit, p.Home = min(p.Hit, r.query.Cached(seen.blocks)), false
	answer := r.query
	answer.SLO.TTFT = 0
	c.model.Answer(&answer, &f, &p, &t)
	lacks := r.Prompt - p.Hit
	other := c.table.lookup(prefill)
	hop, before := c.hopOf(c.classOf(cell, other)), cost.Tokens(cell.moving.Load())
	if other != nil {
		before += cost.Tokens(other.moving.Load())
	}
	first := cost.Seconds(c.model.FirstToken)
	return nonZero(
		item("transfer", first*hop.Takes(lacks+before), fmt.Sprintf("%.0f tokens in %s, with %.0f of others", lacks, forPeople(hop.Takes(lacks+before)), before)),
		item("step", first*t.Wait, fmt.Sprintf("%s each", forPeople(cost.Seconds(f.Step)))),
		item("answer", t.Output, fmt.Sprintf("%.0f tokens expected", r.Output)),
		item("kv there", t.KV, ""), item("adapter there", first*t.Adapter, adapter), item("slo there", t.SLO, ""), item("price there", t.Price, ""),
	)
}

// nonZero returns the items that cost anything.
func nonZero(items ...scheduling.CostItem) (some []scheduling.CostItem) {
	for _, it := range items {
		if it.Seconds != 0 {
			some = append(some, it)
		}
	}
	return some
}
