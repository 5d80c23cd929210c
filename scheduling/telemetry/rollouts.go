package telemetry

import (
	"strconv"

	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/types"
)

var (
	rolloutPhases = []rollout.Phase{rollout.Loading, rollout.Stepping, rollout.Aborting, rollout.Finishing, rollout.Failed, rollout.Done}
	serverStates  = []rollout.Has{rollout.HasUnknown, rollout.HasNot, rollout.HasLoading, rollout.HasFailed, rollout.HasIt}
)

// gatherRollouts adds where rollouts are. One whose plan is refused, and was never in force, has no series.
func (m *Metrics) gatherRollouts(g page) {
	if m.o.Rollouts == nil {
		return
	}
	for _, s := range m.o.Rollouts() {
		if s.Plan.Canary == "" {
			continue
		}
		kind, name := label(s.Kind), rolloutLabel(&s)
		for _, phase := range rolloutPhases {
			g.add(&rolloutPhase, one(s.Phase == phase), rolloutPhase.with(kind, name, string(phase)))
		}
		g.add(&rolloutPaused, one(s.Paused != ""), rolloutPaused.with(kind, name))
		for _, t := range s.Targets {
			g.add(&rolloutWeight, t.Weight/100, rolloutWeight.with(kind, name, label(t.Target)))
		}
		for _, has := range serverStates {
			g.add(&rolloutServers, float64(s.Servers[has.String()]), rolloutServers.with(kind, name, has.String()))
		}
		for _, l := range s.Looks {
			g.count(&rolloutVerdicts, l.Count, kind, label(l.Metric), name, label(string(l.Result)))
		}
	}
}

// rolloutLabel is the name of a rollout's manifest, as that of a pool is, and the rule unless that is the first.
func rolloutLabel(s *rollout.Status) string {
	name := poolLabel(types.NamespacedName{Namespace: s.Namespace, Name: s.Name})
	if s.Rule > 0 {
		name += "/" + strconv.Itoa(s.Rule)
	}
	return name
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
