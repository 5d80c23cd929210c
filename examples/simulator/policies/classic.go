package policies

import (
	"context"
	"fmt"
	"slices"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/types"
)

// GIE03 is the decision tree of the Gateway API Inference Extension 0.3 on its
// path for critical requests, which is how its published benchmark ran:
//
//	any server with fewer than 128 waiting?
//	yes: those → LoRA affinity (with the adapter, with chance 0.999; else a free slot) → least queue → least KV
//	no:  least queue → LoRA affinity → least KV
//
// where "least" keeps all up to min + (max-min)/n, and one of the survivors is
// taken at random. It is the tree of plugins.DecisionTree, on readings of any age,
// as there.
func GIE03() scheduling.Profile {
	tree := plugins.DecisionTree().Filters
	i := slices.IndexFunc(tree, func(f scheduling.Named) bool { return f.Name == "decision-tree" })
	p := unscored(plugins.Random{})
	p.Filters = append(p.Filters, scheduling.Named{Name: "decision-tree", Filter: critical{tree[i].Filter}})
	p.MetricsTTL = asOldAsItIs
	return p
}

// critical is a filter that sees every request as critical.
type critical struct{ filter scheduling.Filter }

// Filter implements scheduling.Filter.
func (c critical) Filter(ctx context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error {
	as := *req
	as.Priority = types.PriorityCritical
	err := c.filter.Filter(ctx, &as, eps, keep)
	req.Rand = as.Rand // what was drawn is not drawn again
	return err
}

// Classic223 is plugins.Classic, the default of the Gateway API Inference Extension
// 1.2 to 1.5: the highest of
//
//	2·(maxQ-q)/(maxQ-minQ) + 2·(1-kv) + 3·matched/total
//
// without its shedding.
func Classic223() scheduling.Profile { return ejecting(unshed(plugins.Classic())) }

// Classic111 is Classic223 with each weight 1, the default of the Gateway API
// Inference Extension 1.0 and 1.1.
func Classic111() scheduling.Profile {
	p := Classic223()
	for i := range p.Scorers {
		p.Scorers[i].Weight = 1
	}
	return p
}

// ClassicInFlight is plugins.ClassicWithInFlight without its shedding: Classic223
// plus 4·in-flight, the requests of this gateway.
func ClassicInFlight() scheduling.Profile { return ejecting(unshed(plugins.ClassicWithInFlight())) }

// ClassicLoRA is Classic223 plus 3·LoRA affinity (1 adapter active, 0.8 slot free,
// 0.6 waiting, else 0), the extension's lora-affinity-scorer, which none of its
// defaults since 1.0 includes.
func ClassicLoRA() scheduling.Profile {
	p := Classic223()
	p.Scorers = append(p.Scorers, scheduling.Weighted{Name: "lora-affinity", Scorer: plugins.LoRAAffinity{}, Weight: 3})
	return p
}

// ClassicLedger is Classic223 on queue and KV readings corrected by what this
// gateway sent after them: each request counts as waiting, its uncached tokens as
// KV in use. It is a diagnosis, of how much late readings cost, and no one's
// product.
func ClassicLedger() scheduling.Profile {
	p := Classic223()
	prefix := p.Scorers[scorer(p, "prefix-cache")].Scorer.(*plugins.PrefixCache)
	s := newSent(nil)
	for _, name := range []string{"queue", "kv-cache"} {
		w := &p.Scorers[scorer(p, name)]
		w.Scorer = corrected{w.Scorer, s}
	}
	// The index learns of a request in its own Picked. The ledger has to ask it
	// before, so the two are told together, in this order.
	p.Scorers[scorer(p, "prefix-cache")].Scorer = askedFirst{prefix, s}
	s.cache = prefix
	return p
}

// askedFirst is a prefix index and a ledger that asks it, as one plugin.
type askedFirst struct {
	*plugins.PrefixCache
	sent *sent
}

// Picked implements scheduling.Tracker.
func (a askedFirst) Picked(req *types.Request, ep *types.Endpoint) {
	a.sent.Picked(req, ep)
	a.PrefixCache.Picked(req, ep)
}

// Forget implements scheduling.Forgetter.
func (a askedFirst) Forget(ep *types.Endpoint) {
	a.sent.Forget(ep)
	a.PrefixCache.Forget(ep)
}

// unshed returns p without the filter that refuses requests.
func unshed(p scheduling.Profile) scheduling.Profile {
	p.Filters = slices.DeleteFunc(slices.Clone(p.Filters), func(f scheduling.Named) bool {
		_, sheds := f.Filter.(plugins.Shed)
		return sheds
	})
	return p
}

// scorer returns the index of the scorer of that name. It panics if there is none:
// then the profile it is looked for in was changed.
func scorer(p scheduling.Profile, name string) int {
	i := slices.IndexFunc(p.Scorers, func(w scheduling.Weighted) bool { return w.Name == name })
	if i < 0 {
		panic(fmt.Sprintf("policies: a profile of package plugins lacks its scorer %q", name))
	}
	return i
}

var (
	_ scheduling.Filter         = critical{}
	_ scheduling.Tracker        = askedFirst{}
	_ scheduling.CacheEstimator = askedFirst{}
)

// Default is plugins.Default without its shedding.
func Default() scheduling.Profile { return unshed(plugins.Default()) }

// events makes the prefix index of a profile take KV events.
func events(p scheduling.Profile) (simulation.KVSink, error) {
	return plugins.KVSinkOf(p, plugins.KVOptions{})
}
