package scalers

import (
	"fmt"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/types"
)

// Ours are those of scheduling/autoscale: what it recommends, followed at each sync, and the same through KEDA and its
// HPA, as a value with an average of 1 as its target. They are for one gateway.
func Ours() []Law {
	const target = "part of a replica's work that is asked of it"
	targets := []float64{0.6, 0.7, 0.9}
	return []Law{
		{
			Name: "inferpick", What: "scheduling/autoscale: what comes, waits and runs, in seconds of work by learned speeds",
			Target: target, Shipped: autoscale.DefaultUtilization, Targets: targets,
			make: func(target float64, _ bool, w World) simulation.Scaler { return newOurs(target, w) },
		},
		{
			Name: "inferpick by KEDA", What: "the same through KEDA's external scaler and its HPA; tuned, without a window of its own for going down",
			Target: target, Shipped: autoscale.DefaultUtilization, Targets: targets, Tunes: true,
			make: func(target float64, tuned bool, w World) simulation.Scaler {
				var up, down *Rules
				if tuned {
					up, down = &Rules{}, &Rules{Window: -1}
				}
				s := &pushed{ours: newOurs(target, w)}
				s.driven = drive(w, up, down, func(*simulation.Observation) []Metric {
					return []Metric{{Target: 1, Value: float64(s.want)}}
				})
				return s
			},
		},
	}
}

// ours asks autoscale.Desired each second, about what its Collector saw. Its user has said how many replicas there may
// be, what requests are to meet and how many run at once on a server; the rest is learned.
type ours struct {
	policy  autoscale.Policy
	history autoscale.History
	collect *autoscale.Collector
	want    int

	// What the Collector asks for, as it was last.
	endpoints []*types.Endpoint
	control   *admission.Controller
	starting  int
}

func newOurs(utilization float64, w World) *ours {
	p := autoscale.Policy{
		Min: max(w.Min, 1), Max: w.Max, ToZero: w.ToZero, TTFT: w.SLO.TTFT, TPOT: w.SLO.TPOT,
		Tuning: autoscale.Tuning{Utilization: utilization, Slots: w.Slots},
	}
	if w.ToZero {
		p.IdleAfter = 5 * time.Minute // KEDA's cooldown, which the others have
	}
	return &ours{policy: p}
}

var pool = types.NamespacedName{Namespace: types.DefaultNamespace, Name: "simulated"}

// Watch implements simulation.Watcher: the Collector hears what it would of a real gateway.
func (s *ours) Watch(_ string, p *scheduling.Profile, o *admission.Options) {
	var err error
	s.collect, err = autoscale.NewCollector(autoscale.CollectorOptions{
		Pools:      func(yield func(types.NamespacedName, []*types.Endpoint) bool) { yield(pool, s.endpoints) },
		Admissions: s.admissions,
		Speeds:     autoscale.SpeedsOf(*p),
		Starting:   func(types.NamespacedName, string) (int, bool) { return s.starting, true },
		Policy:     func(types.NamespacedName) (autoscale.Policy, bool) { return s.policy, true },
		Now:        p.Now,
	})
	if err != nil {
		panic(fmt.Sprintf("scalers: %v", err)) // of options that are written above
	}
	p.Hooks = s.collect.Hooks(pool, p.Hooks)
	if o != nil {
		o.Hooks = s.collect.AdmissionHooks(pool, *o)
	}
}

func (s *ours) admissions(yield func(types.NamespacedName, admission.Stats) bool) {
	if s.control != nil {
		yield(pool, s.control.Stats())
	}
}

// Sample implements simulation.Sampler.
func (s *ours) Sample(o *simulation.Observation) {
	if len(o.Gateways) == 0 {
		return
	}
	s.endpoints, s.control, s.starting = o.Gateways[0].Endpoints, o.Gateways[0].Admission, o.Starting
	if signals, err := s.collect.Signals(pool, ""); err == nil {
		s.want = autoscale.Desired(signals, s.policy, &s.history).Replicas
	}
}

// Scale implements simulation.Scaler.
func (s *ours) Scale(*simulation.Observation) int { return s.want }

// Wake implements simulation.Waker.
func (s *ours) Wake(o *simulation.Observation) int {
	s.Sample(o)
	return s.want
}

// pushed is what it recommends, through KEDA with a trigger of type external-push.
type pushed struct {
	*ours
	driven *driven
}

// Scale implements simulation.Scaler.
func (s *pushed) Scale(o *simulation.Observation) int { return s.driven.Scale(o) }

// Wake implements simulation.Waker: the stream says that the pool is active, and KEDA makes the first replica.
func (s *pushed) Wake(o *simulation.Observation) int {
	s.Sample(o)
	return s.driven.keda.Wake(o.Now, o.Target)
}

var (
	_ simulation.Watcher = (*ours)(nil)
	_ simulation.Sampler = (*ours)(nil)
	_ simulation.Waker   = (*ours)(nil)
	_ simulation.Waker   = (*pushed)(nil)
)
