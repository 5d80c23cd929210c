package plugins

import (
	"fmt"
	"math"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

const (
	// sloMiss is added for each endpoint that misses the SLO where another meets it.
	sloMiss = 1e3
	// sloLate is what being late by as much as the target costs.
	sloLate = 1e3
)

// costWithSLO fills in the costs of a request with an SLO. costs holds the tokens that
// are cached. Among endpoints that meet it, only what others lose counts, and the price.
// If none does, the least late is best.
func (c *Cost) costWithSLO(r *costed, eps []*types.Endpoint, index []int32, costs []float64) {
	q := &r.query
	for k, i := range index {
		if i < 0 {
			continue
		}
		q.dearest = max(q.dearest, eps[k].Capacity.CostPerHour)
		q.meets = q.meets || c.whole(i, eps[k], r, costs[k]).late == 0
	}
	for k, i := range index {
		if i < 0 {
			costs[k] = math.NaN()
			continue
		}
		w := c.whole(i, eps[k], r, costs[k])
		costs[k] = w.sum()
	}
}

// lateness is by which part of the targets the given seconds miss them; 0: they meet them.
func lateness(slo types.SLO, ttft, tpot float64) (late float64) {
	if want := slo.TTFT.Seconds(); want > 0 {
		late += max(0, ttft/want-1)
	}
	if want := slo.TPOT.Seconds(); want > 0 {
		late += max(0, tpot/want-1)
	}
	return late
}

// wholeCost is all that the cost at an endpoint is made of.
type wholeCost struct {
	costTerms
	delay         float64 // by the adapter, not weighted
	what          string  // about the adapter
	late          float64
	adapter, home float64
	slo, price    float64
}

func (w *wholeCost) sum() float64 {
	return w.wait + w.prefill + w.output + w.disturb + w.kv + w.adapter + w.home + w.slo + w.price
}

// whole is the cost with everything that estimate leaves out.
func (c *Cost) whole(index int32, ep *types.Endpoint, r *costed, hit float64) (w wholeCost) {
	q, f := &r.query, &c.table.figures[index]
	c.estimate(f, r, hit, c.claimsAt(index, r), &w.costTerms)
	w.delay, w.what = c.adapterTerm(index, ep, r)
	w.adapter = c.o.FirstToken * w.delay
	if index == q.home {
		w.home = -q.worth
	}
	if q.slo == (types.SLO{}) {
		return w
	}
	switch w.late = lateness(q.slo, w.first+w.delay, float64(f.step)); {
	case w.late > 0 && q.meets:
		w.slo = sloMiss + sloLate*w.late
	case w.late > 0:
		// No endpoint meets it. To go where the tokens come least late would empty one
		// endpoint after another of what it has cached, for a target that is missed all the
		// same: what a step takes is in the output's seconds already.
		w.slo = sloLate * lateness(types.SLO{TTFT: q.slo.TTFT}, w.first+w.delay, 0)
	default:
		// How much sooner it is served than it must be is of no use to anybody.
		w.wait, w.prefill = 0, 0
		w.output -= min(w.output, c.o.Output*r.output*float64(f.step))
		if q.dearest > 0 {
			w.price = c.o.Price * ep.Capacity.CostPerHour / q.dearest
		}
	}
	return w
}

// Items implements scheduling.Itemizer.
func (c *Cost) Items(req *types.Request, ep *types.Endpoint) []scheduling.CostItem {
	r := c.of(req)
	c.disclaim(r)
	hit := c.cached(req, r, ep)
	c.table.mu.RLock()
	defer c.table.mu.RUnlock()
	i, q := c.table.endpointIndex.lookup(ep), &r.query
	if i < 0 {
		return nil
	}
	cached := fmt.Sprintf("%.0f of %.0f tokens cached", hit, r.prompt)
	if i == q.home {
		hit = max(hit, q.best)
		cached += fmt.Sprintf(", %.0f expected", hit)
	}
	s, w := c.table.values[i], c.whole(i, ep, r, hit)
	kv := "size of the KV cache unknown"
	if s.kvTokens > 0 {
		kv = fmt.Sprintf("%.0f %% of the KV cache in use", 100*s.kv)
	}
	items := []scheduling.CostItem{
		{Name: "wait", Seconds: w.wait, Detail: fmt.Sprintf("first token in %s, %d before it", forPeople(w.first+w.delay), s.prefilling)},
		{Name: "prefill", Seconds: w.prefill, Detail: cached},
		{Name: "output", Seconds: w.output, Detail: fmt.Sprintf("%.0f tokens expected, a step takes %s", r.output, forPeople(s.step))},
		{Name: "disturb", Seconds: w.disturb, Detail: fmt.Sprintf("%.0f decoding", s.decoding)},
		{Name: "kv", Seconds: w.kv, Detail: kv},
	}
	if r.adapter != 0 {
		items = append(items, scheduling.CostItem{Name: "adapter", Seconds: w.adapter, Detail: w.what})
	}
	if q.home >= 0 {
		it := scheduling.CostItem{Name: "home", Seconds: w.home}
		if i == q.home {
			it.Detail = "the prompt's home"
		}
		items = append(items, it)
	}
	if q.slo != (types.SLO{}) {
		it := scheduling.CostItem{Name: "slo", Seconds: w.slo, Detail: "met"}
		if w.late > 0 {
			it.Detail = fmt.Sprintf("missed by %.0f %%", 100*w.late)
		}
		items = append(items, it)
		if c.o.Price > 0 {
			items = append(items, scheduling.CostItem{Name: "price", Seconds: w.price, Detail: fmt.Sprintf("%g per hour", ep.Capacity.CostPerHour)})
		}
	}
	return items
}

// forPeople prints a time.
func forPeople(seconds float64) string {
	if seconds < 1 {
		return fmt.Sprintf("%.3g ms", 1000*seconds)
	}
	return fmt.Sprintf("%.3g s", seconds)
}
