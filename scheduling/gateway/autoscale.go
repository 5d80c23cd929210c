package gateway

import (
	"cmp"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/types"
)

// Autoscale says how a Gateway recommends numbers of servers. The zero value is good.
type Autoscale struct {
	// Options are those of the Autoscaler. What a Gateway has of its own takes the place of Collector; default of Logger
	// is that of the Gateway, and of Peers, with a Transport in Options.Sharing, those with whom it shares: all of them
	// must recommend then.
	autoscale.Options
	// Signals are those of the Collector. What a Gateway has takes the place of Pools, Admissions and Policy; default of
	// Speeds is what the Profile's plugins have learned, and of Now the Profile's clock.
	Signals autoscale.CollectorOptions
}

// scale makes who recommends numbers of servers, if somebody is to.
func (g *Gateway) scale(o Options) (err error) {
	if o.Autoscale == nil {
		return nil
	}
	signals, options := o.Autoscale.Signals, o.Autoscale.Options
	signals.Pools, signals.Admissions, signals.Policy = g.Pools, g.Admissions, options.Policy
	if signals.Speeds == nil {
		signals.Speeds = autoscale.SpeedsOf(o.Profile)
	}
	if signals.Now == nil {
		signals.Now = o.Profile.Now
	}
	if g.collector, err = autoscale.NewCollector(signals); err != nil {
		return err
	}
	options.Collector, options.Logger = g.collector, cmp.Or(options.Logger, o.Logger)
	if options.Peers == nil && g.wire != nil && !o.Sharing.Without.Notes {
		peers, err := autoscale.NewNotePeers(autoscale.NotePeersOptions{})
		if err != nil {
			return err
		}
		if err := g.Sharing.Add(sharing.Scope{Name: scalingScope, Parts: peers.Parts()}); err != nil {
			return err
		}
		options.Peers = peers
	}
	g.Autoscaler, err = autoscale.New(options)
	return err
}

// scalingScope is that of what Autoscalers tell each other. No pool and no other scope has its name.
const scalingScope = "autoscale"

// scalingHooks has the Autoscaler hear of decisions: of all pools, which the same scheduler decides for.
func (g *Gateway) scalingHooks(next scheduling.Hooks) scheduling.Hooks {
	if g.collector == nil {
		return next
	}
	return g.collector.Hooks(types.NamespacedName{}, next)
}

// scalingAdmission has it hear of what waits for a pool.
func (g *Gateway) scalingAdmission(pool types.NamespacedName, o admission.Options) admission.Hooks {
	if g.collector == nil {
		return o.Hooks
	}
	return g.collector.AdmissionHooks(pool, o)
}

// scalingRefused has it hear of requests that found no server.
func (g *Gateway) scalingRefused(req *types.Request, pool types.NamespacedName, err *director.Error) {
	if g.collector != nil {
		g.collector.Refused(req, pool, err.Code, err.Status)
	}
}
