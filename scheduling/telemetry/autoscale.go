package telemetry

import "github.com/inferpick/inferpick/scheduling/autoscale"

// gatherAutoscale adds what was recommended, and the signals that it was made of.
func (m *Metrics) gatherAutoscale(g page) {
	if m.o.Autoscale == nil {
		return
	}
	known := map[string]bool{other: true} // models that have series
	for name := range m.pairs.all() {
		known[name.model] = true
	}
	m.o.Autoscale(func(r autoscale.Recommendation, s autoscale.Signals, models []autoscale.Signals) bool {
		pool := poolLabel(s.Pool)
		g.add(&desiredReplicas, float64(r.Replicas), desiredReplicas.with(pool))
		for _, t := range r.Terms {
			g.figure(&termReplicas, t.Replicas, pool, t.Name)
		}
		g.figure(&poolBacklog, s.Backlog, pool)
		g.figure(&poolWork, s.ArrivalWork, pool)
		g.add(&poolOldest, s.OldestWait.Seconds(), poolOldest.with(pool))
		g.add(&poolTokens, float64(s.QueuedTokens), poolTokens.with(pool))
		g.models(pool, models, known)
		return true
	})
}

// figure adds a gauge if it is known.
func (p page) figure(f *family, v autoscale.Figure, values ...string) {
	if v.Known() {
		p.add(f, float64(v), f.with(values...))
	}
}

// models adds the signals of models: of those that have no series of their own, together.
func (p page) models(pool string, models []autoscale.Signals, known map[string]bool) {
	type sums struct{ queued, tokens, oldest, arrivals, work float64 }
	by := map[string]sums{}
	for _, s := range models {
		name := label(s.Model)
		if !known[name] {
			name = other
		}
		all := by[name]
		all.queued += float64(s.Queued)
		all.tokens += float64(s.QueuedTokens)
		all.oldest = max(all.oldest, s.OldestWait.Seconds())
		all.arrivals += s.Arrivals.Or(0)
		all.work += s.ArrivalWork.Or(0)
		by[name] = all
	}
	for name, s := range by {
		p.add(&modelQueued, s.queued, modelQueued.with(name, pool))
		p.add(&modelTokens, s.tokens, modelTokens.with(name, pool))
		p.add(&modelOldest, s.oldest, modelOldest.with(name, pool))
		p.add(&modelArrivals, s.arrivals, modelArrivals.with(name, pool))
		p.add(&modelWork, s.work, modelWork.with(name, pool))
	}
}
