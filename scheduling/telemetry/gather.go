package telemetry

import (
	"strconv"
	"time"
)

// What the names of metrics of requests begin with, now and in version 0.3 of the
// Inference Extension.
const (
	prefix       = "inference_objective_"
	legacyPrefix = "inference_model_"
)

// gather returns what was counted so far and what pools are like now.
func (m *Metrics) gather() *page {
	now := m.o.Now()
	g := newPage()
	g.add(&info, "", 1, label(m.o.Version), label(m.o.Commit))
	g.histogram(&decisionTimes, "", &m.decisionTime)
	for _, p := range m.pairs.all() {
		m.gatherPair(g, p, now)
	}
	m.gatherAttempts(g)
	for k, n := range m.rewrites.all() {
		g.add(&rewritten, "", float64(n.Load()), k.model, k.name, k.target)
	}
	for _, p := range m.pools.all() {
		p.gather(g)
		p.gatherAdmission(g)
	}
	m.gatherWaits(g)
	saturation := m.gatherQueues(g)
	if m.o.Pools != nil {
		m.gatherPools(g, now, saturation)
	}
	m.o.Names.rename(g)
	return g
}

// gatherAttempts adds the decisions for endpoints, and forgets those that have
// gone. One at a time: a second would see what is folded together twice.
func (m *Metrics) gatherAttempts(g *page) {
	m.pruning.Lock()
	defer m.pruning.Unlock()
	for _, a := range m.attempts.all() {
		g.add(&decisions, "", float64(a.n.Load()), a.namespace, a.name, a.port, "success", a.target)
	}
	m.prune()
}

func (m *Metrics) gatherPair(g *page, p *pair, now time.Time) {
	inFlight := int64(0)
	for in, u := range p.uses.all() {
		n := u.inFlight.Load()
		inFlight += n
		g.add(&modelInFlight, "", float64(n), p.model, in.label, p.target)
		g.add(&modelPrompt, "", float64(u.prompt.Load()), p.model, in.label, p.target)
		g.add(&modelOutput, "", float64(u.output.Load()), p.model, in.label, p.target)
		g.add(&modelCached, "", float64(u.cached.Load()), p.model, in.label, p.target)
		g.add(&modelOutputRate, "", u.outputRate.read(now), p.model, in.label, p.target)
	}
	g.count(&decisions, "", p.undecided.Load(), "", "", "", "failure", p.target)
	g.count(&decisions, "", p.elsewhere.Load(), "", other, "", "success", p.target)

	p.gatherRequests(g, prefix, inFlight)
	for priority, n := range p.priorities.all() {
		g.count(&requests, prefix, n.Load(), p.model, strconv.Itoa(priority), p.target)
	}
	g.count(&requests, prefix, p.others.Load(), p.model, other, p.target)
	g.count(&sloViolations, prefix, p.lateFirst.Load(), p.model, p.target, "ttft")
	g.count(&sloViolations, prefix, p.lateFollowing.Load(), p.model, p.target, "tpot")
	g.histogram(&cachedTokens, prefix, &p.cached, p.model, p.target)
	g.histogram(&ntpots, prefix, &p.ntpot, p.model, p.target)
	g.histogram(&ttfts, prefix, &p.ttft, p.model, p.target)
	g.histogram(&tpots, prefix, &p.tpot, p.model, p.target)

	if m.o.LegacyNames {
		p.gatherRequests(g, legacyPrefix, inFlight)
		total := p.others.Load()
		for _, n := range p.priorities.all() {
			total += n.Load()
		}
		g.count(&legacyRequests, legacyPrefix, total, p.model, p.target)
	}
}

// gatherRequests adds what has the same labels in all versions of the names.
func (p *pair) gatherRequests(g *page, prefix string, inFlight int64) {
	for i := range p.errors {
		g.count(&requestErrors, prefix, p.errors[i].Load(), codes[i], p.model, p.target)
	}
	if len(p.uses.all()) > 0 {
		g.add(&running, prefix, float64(inFlight), p.model)
	}
	g.histogram(&durations, prefix, &p.duration, p.model, p.target)
	g.histogram(&requestSizes, prefix, &p.requestSize, p.model, p.target)
	g.histogram(&responseSizes, prefix, &p.responseSize, p.model, p.target)
	g.histogram(&inputTokens, prefix, &p.input, p.model, p.target)
	g.histogram(&outputTokens, prefix, &p.output, p.model, p.target)
}

func (p *pool) gather(g *page) {
	g.add(&retries, "", float64(p.retries.Load()), p.label)
	g.add(&expired, "", float64(p.expired.Load()), p.label)
	for i := range p.refused {
		g.count(&refusals, "", p.refused[i].Load(), codes[i], p.label)
	}
	for k, n := range p.failures.all() {
		g.count(&failures, "", n.Load(), label(k.plugin), p.label, label(k.stage))
	}
}
