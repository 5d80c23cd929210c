package plugins

import (
	"context"
	"fmt"
	"slices"

	"github.com/inferpick/inferpick/internal/cost"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Items implements scheduling.Itemizer.
func (c *Cost) Items(req *types.Request, ep *types.Endpoint) []scheduling.CostItem {
	if req.Work.Kind == types.Fetches {
		return nil
	}
	r, q := c.of(req), &c.of(req).query
	c.disclaim(r)
	cell := c.table.lookup(ep)
	if cell == nil {
		return nil
	}
	held, _ := c.prefix.match(req, ep)
	seen := costSeen{cell: cell, place: cell.place, blocks: cost.Blocks(held)}
	var f cost.Figures
	var p cost.Place
	var t cost.Terms
	adapter := c.terms(r, &r.question, ep, &seen, &f, &p, &t)
	if r.Kind == types.Denoises {
		return c.moreItems(c.denoiseItems(req, &seen, &p, &t), ep, r, q, &t, adapter, false)
	}
	facts := cell.server.facts()

	cached := fmt.Sprintf("%.0f of %.0f tokens cached", q.Cached(seen.blocks), r.Prompt)
	if p.Home {
		cached += fmt.Sprintf(", %.0f expected", p.Hit)
	}
	cached += c.describePull(q, ep, q.Cached(seen.blocks), cost.Seconds(facts.Token)) + c.prefix.source(req, ep)
	if r.Kind == types.Pools {
		cached = fmt.Sprintf("%s of %.0f tokens in all", several(int(r.Items), "input"), r.Prompt)
	}
	kv := "size of the KV cache unknown"
	if facts.KVKnown {
		kv = fmt.Sprintf("%.0f %% of the KV cache in use", 100*facts.KV)
	}
	first := cost.Seconds(c.model.FirstToken)
	items := []scheduling.CostItem{
		item("wait", first*t.Wait, fmt.Sprintf("first token in %s, %d before it%s", forPeople(t.First+t.Adapter), facts.Prefilling, backlog(&p))),
		item("prefill", first*(t.Prefill-t.Encode), cached),
		item("output", t.Output, fmt.Sprintf("%.0f tokens expected, a step takes %s", r.Output, forPeople(facts.Step))),
		item("disturb", t.Disturb, fmt.Sprintf("%.0f decoding", facts.Decoding)),
		item("join", t.Join, fmt.Sprintf("%.0f other first tokens in its step%s", f.JoinedAt(q.At)+p.Claimed.Requests, behind(q.Behind(&f, t.Wait)))),
		item("kv", t.KV, kv),
	}
	if r.media != nil {
		items = slices.Insert(items, 2, item("encode", first*t.Encode, r.media.describe(&req.Prompt, cell, c.bytesOf(seen.blocks))))
	}
	if r.Kind == types.Pools { // neither output, nor anything that stays
		held, _ := q.HoldsUp(t.Wait, t.Prefill)
		items[slices.IndexFunc(items, func(it scheduling.CostItem) bool { return it.Name == "join" })].Detail =
			fmt.Sprintf("%.0f expected before another endpoint is free", held)
		items = slices.DeleteFunc(items, func(it scheduling.CostItem) bool { return it.Name == "output" || it.Name == "kv" })
	}
	return c.moreItems(items, ep, r, q, &t, adapter, p.Home)
}

// moreItems adds those of what few requests have.
func (c *Cost) moreItems(items []scheduling.CostItem, ep *types.Endpoint, r *costed, q *cost.Query, t *cost.Terms, adapter string, atHome bool) []scheduling.CostItem {
	if r.adapter != 0 {
		items = append(items, item("adapter", cost.Seconds(c.model.FirstToken)*t.Adapter, adapter))
	}
	if r.homes.Any() {
		what := ""
		if atHome {
			what = "the prompt's home"
		}
		items = append(items, item("home", t.Home, what))
	}
	slo := q.SLO != (cost.Targets{})
	if slo {
		what := "met"
		if t.Late > 0 {
			what = fmt.Sprintf("missed by %.0f %%", 100*t.Late)
		}
		items = append(items, item("slo", t.SLO, what))
	}
	if slo && c.o.Price > 0 || !slo && c.o.PriceWithoutSLO > 0 {
		items = append(items, item("price", t.Price, fmt.Sprintf("%g per hour", ep.Capacity.CostPerHour)))
	}
	return items
}

func item(name string, seconds cost.Seconds, detail string) scheduling.CostItem {
	return scheduling.CostItem{Name: name, Seconds: float64(seconds), Detail: detail}
}

// behind says how many requests are expected behind one that waits, if that is not few.
func behind(requests float64) string {
	if requests < .5 {
		return ""
	}
	return fmt.Sprintf(", %.0f expected while it waits", requests)
}

// forPeople prints a time.
func forPeople(t cost.Seconds) string {
	if t < 1 {
		return fmt.Sprintf("%.3g ms", 1000*float64(t))
	}
	return fmt.Sprintf("%.3g s", float64(t))
}

// meets reports whether some endpoint is believed to meet the request's SLO.
func (c *Cost) meets(ctx context.Context, req *types.Request, eps []*types.Endpoint) (bool, error) {
	r := newRanking(len(eps))
	defer r.free()
	err := c.Cost(ctx, req, eps, r.values)
	return c.of(req).meets, err
}

// CostStats is what a Cost has learned so far, and how large its prefix index is.
type CostStats struct {
	PrefixStats
	Rates FleetRates
}

// FleetRates are what Cost has learned of all endpoints together: by which factors they take
// longer than CostOptions.Engine.
type FleetRates struct {
	Transport float64 // seconds from here to an engine and back
	Late      float64 // seconds that a first token takes longer than the sum of its parts, in the median
	Step      float64 // factor of a step
	Growth    float64 // factor by which a step of an empty engine grows with each sequence in it, beyond CostOptions.Engine
	Token     float64 // factor of a prompt token
	Encode    float64 // factor of encoding an image, a sound or a film
	Denoise   float64 // factor of a pass of a diffusion model
}

// EndpointRates are what Cost believes of one endpoint.
type EndpointRates struct {
	Step  float64 // factor by which its steps take longer than those of the others
	Token float64 // the same of its prompt tokens
	// StepSeconds is how long a step takes that decodes what is there now, TokenSeconds how
	// long a prompt token.
	StepSeconds, TokenSeconds float64
	// Denoise is the factor by which it takes longer than the others to denoise. 0: nobody has asked for an image or a
	// film yet.
	Denoise float64
}

// Stats returns what was learned of all endpoints together, and the size of the prefix index.
func (c *Cost) Stats() CostStats {
	r, denoise := c.rates.Load(), 1.
	if d := c.diffusing.Load(); d != nil {
		denoise = d.Rates.Step
	}
	return CostStats{c.prefix.Stats(), FleetRates{
		Transport: r.Transport, Late: c.late.Load(), Step: r.Step, Growth: r.Growth * cost.GrowthUnit, Token: r.Token,
		Encode: r.Encode, Denoise: denoise,
	}}
}

// Rates returns what is believed of one endpoint, and whether it is known at all.
func (c *Cost) Rates(ep *types.Endpoint) (EndpointRates, bool) {
	cell := c.table.lookup(ep)
	if cell == nil {
		return EndpointRates{}, false
	}
	f := cell.server.facts()
	rates := EndpointRates{Step: f.StepFactor, Token: f.TokenFactor, StepSeconds: float64(f.Step), TokenSeconds: f.Token}
	if b := cell.backlog.Load(); b != nil {
		rates.Denoise = b.Slower
	}
	return rates, true
}

// Speed returns how fast an endpoint is believed to be, and whether enough was seen to say so. It implements
// autoscale.Speeds.
func (c *Cost) Speed(ep *types.Endpoint) (types.Speed, bool) {
	cell := c.table.lookup(ep)
	if cell == nil || !c.confident() {
		return types.Speed{}, false
	}
	v := c.view()
	token, step, sequence := cell.server.speed(&c.model, &v)
	s := types.Speed{Token: token, Step: step, Sequence: sequence}
	return s, s.Known()
}

// confident reports whether the rates are more than what was believed at first.
func (c *Cost) confident() bool {
	if c.o.FixedRates {
		return true
	}
	c.learning.Lock()
	defer c.learning.Unlock()
	return c.learner.Confident()
}
