package telemetry

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/inferpick/inferpick/types"
)

// Gather returns what was counted so far, and what pools are like now: families in the order
// of their names, series in that of their labels' values. A family without series is left
// out. Metrics is a prometheus.Gatherer by it; the error is always nil. What is returned
// shares its labels with what later calls return, and must not be modified.
func (m *Metrics) Gather() ([]*dto.MetricFamily, error) {
	families := m.gather().families(m.o.Names, m.o.LegacyNames)
	slices.SortFunc(families, func(a, b *dto.MetricFamily) int { return cmp.Compare(*a.Name, *b.Name) })
	return families, nil
}

func (m *Metrics) gather() page {
	now := m.o.Now()
	g := page{}
	g.add(&info, 1, info.with(label(m.o.Version), label(m.o.Commit)))
	g.histogram(&decisionTimes, &m.decisionTime, nil)
	for _, p := range m.pairs.all() {
		m.gatherPair(g, p, now)
	}
	m.gatherAttempts(g)
	for k, n := range m.rewrites.all() {
		g.add(&rewritten, float64(n.Load()), rewritten.with(k.model, k.name, k.target))
	}
	for _, p := range m.pools.all() {
		p.gather(g)
		p.gatherAdmission(g)
	}
	m.gatherWaits(g)
	saturation := map[string]float64{} // by pool
	m.gatherPools(g, now, saturation)
	m.gatherQueues(g, saturation) // which know better
	m.gatherSharing(g, now)
	m.gatherRollouts(g)
	m.gatherAutoscale(g)
	for pool, full := range saturation {
		g.add(&flowSaturation, full, flowSaturation.with(pool))
	}
	return g
}

// gatherAttempts adds the decisions for endpoints, and forgets those that have
// gone. One at a time: a second would see what is folded together twice.
func (m *Metrics) gatherAttempts(g page) {
	m.pruning.Lock()
	defer m.pruning.Unlock()
	for _, a := range m.attempts.all() {
		g.add(&decisions, float64(a.n.Load()), a.labels)
	}
	m.prune()
}

func (m *Metrics) gatherPair(g page, p *pair, now time.Time) {
	inFlight := int64(0)
	for _, u := range p.uses.all() {
		n := u.inFlight.Load()
		inFlight += n
		g.add(&modelInFlight, float64(n), u.labels)
		g.add(&modelPrompt, float64(u.prompt.Load()), u.labels)
		g.add(&modelOutput, float64(u.output.Load()), u.labels)
		g.add(&modelCached, float64(u.cached.Load()), u.labels)
		g.add(&modelOutputRate, u.outputRate.read(now), u.labels)
	}
	g.count(&decisions, p.undecided.Load(), "", "", "", "failure", p.target)
	g.count(&decisions, p.elsewhere.Load(), "", other, "", "success", p.target)

	if len(p.uses.all()) > 0 {
		g.add(&running, float64(inFlight), running.with(p.model))
	}
	total := p.others.Load()
	g.count(&requests, total, p.model, other, p.target)
	for priority, n := range p.priorities.all() {
		total += n.Load()
		g.count(&requests, n.Load(), p.model, strconv.Itoa(priority), p.target)
	}
	if m.o.LegacyNames {
		g.count(&legacyRequests, total, p.model, p.target)
	}
	for i := range p.errors {
		g.count(&requestErrors, p.errors[i].Load(), codes[i], p.model, p.target)
	}
	for i := range p.finishes {
		g.count(&finishReasons, p.finishes[i].Load(), p.model, types.Finish(i).String(), p.target)
	}
	g.count(&sloViolations, p.lateFirst.Load(), p.model, p.target, "ttft")
	g.count(&sloViolations, p.lateFollowing.Load(), p.model, p.target, "tpot")
	for _, h := range p.histograms() {
		g.histogram(h.family, h.histogram, p.labels)
	}
}

func (p *pool) gather(g page) {
	g.add(&retries, float64(p.retries.Load()), retries.with(p.label))
	g.add(&expired, float64(p.expired.Load()), expired.with(p.label))
	for i := range p.refused {
		g.count(&refusals, p.refused[i].Load(), codes[i], p.label)
	}
	for k, n := range p.failures.all() {
		g.count(&failures, n.Load(), label(k.plugin), p.label, label(k.stage))
	}
	p.splits.gather(g, p.label)
}
