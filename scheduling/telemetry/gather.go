package telemetry

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// Gather returns what was counted so far and what pools are like now, families in
// the order of their names, and labels in that of theirs. A family without series
// is left out. It has the form of prometheus.Gatherer, so that a program that has
// a registry of its own joins the two with prometheus.Gatherers. The error is nil.
func (m *Metrics) Gather() ([]*dto.MetricFamily, error) {
	now := m.o.Now()
	g := &gatherer{families: map[string]*dto.MetricFamily{}, series: map[string]*dto.Metric{}}
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
	}
	if m.o.Pools != nil {
		m.gatherPools(g, now)
	}
	return g.sorted(), nil
}

// gatherAttempts adds the decisions for endpoints, and forgets those that have
// gone. One at a time: a second would see what is folded together twice.
func (m *Metrics) gatherAttempts(g *gatherer) {
	m.pruning.Lock()
	defer m.pruning.Unlock()
	for _, a := range m.attempts.all() {
		g.add(&decisions, "", float64(a.n.Load()), a.namespace, a.name, a.port, "success", a.target)
	}
	m.prune()
}

func (m *Metrics) gatherPair(g *gatherer, p *pair, now time.Time) {
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

	p.gatherRequests(g, "inference_objective_", inFlight)
	for priority, n := range p.priorities.all() {
		g.count(&requests, "inference_objective_", n.Load(), p.model, strconv.Itoa(priority), p.target)
	}
	g.count(&requests, "inference_objective_", p.others.Load(), p.model, other, p.target)
	g.count(&sloViolations, "inference_objective_", p.lateFirst.Load(), p.model, p.target, "ttft")
	g.count(&sloViolations, "inference_objective_", p.lateFollowing.Load(), p.model, p.target, "tpot")
	g.histogram(&cachedTokens, "inference_objective_", &p.cached, p.model, p.target)
	g.histogram(&ntpots, "inference_objective_", &p.ntpot, p.model, p.target)
	g.histogram(&ttfts, "inference_objective_", &p.ttft, p.model, p.target)
	g.histogram(&tpots, "inference_objective_", &p.tpot, p.model, p.target)

	if m.o.LegacyNames {
		p.gatherRequests(g, "inference_model_", inFlight)
		total := p.others.Load()
		for _, n := range p.priorities.all() {
			total += n.Load()
		}
		g.count(&legacyRequests, "inference_model_", total, p.model, p.target)
	}
}

// gatherRequests adds what has the same labels in all versions of the names.
func (p *pair) gatherRequests(g *gatherer, prefix string, inFlight int64) {
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

func (p *pool) gather(g *gatherer) {
	g.add(&retries, "", float64(p.retries.Load()), p.label)
	g.add(&expired, "", float64(p.expired.Load()), p.label)
	for i := range p.refused {
		g.count(&refusals, "", p.refused[i].Load(), codes[i], p.label)
	}
	for k, n := range p.failures.all() {
		g.count(&failures, "", n.Load(), label(k.plugin), p.label, label(k.stage))
	}
}

// gatherer collects families. What has the same labels is added up: two names may
// have become one where they were cut.
type gatherer struct {
	families map[string]*dto.MetricFamily
	series   map[string]*dto.Metric // by family and labels
}

// count adds v to a counter, unless it is 0: a series begins with the first event.
func (g *gatherer) count(f *family, prefix string, v uint64, values ...string) {
	if v > 0 {
		g.add(f, prefix, float64(v), values...)
	}
}

// add adds v to a counter or gauge whose labels have these values.
func (g *gatherer) add(f *family, prefix string, v float64, values ...string) {
	name := prefix + f.name
	id := name + "\xff" + strings.Join(values, "\xff") // which is in no label
	s := g.series[id]
	if s == nil {
		s = g.metric(f, name, values)
		g.series[id] = s
	}
	switch {
	case f.kind == counter && s.Counter == nil:
		s.Counter = &dto.Counter{Value: new(v)}
	case f.kind == counter:
		*s.Counter.Value += v
	case s.Gauge == nil:
		s.Gauge = &dto.Gauge{Value: new(v)}
	default:
		*s.Gauge.Value += v
	}
}

// histogram adds h unless it is empty.
func (g *gatherer) histogram(f *family, prefix string, h *histogram, values ...string) {
	if out := h.export(); out != nil {
		g.metric(f, prefix+f.name, values).Histogram = out
	}
}

func (g *gatherer) metric(f *family, name string, values []string) *dto.Metric {
	mf := g.families[name]
	if mf == nil {
		mf = &dto.MetricFamily{Name: new(name), Help: new(f.help), Type: new(f.kind)}
		g.families[name] = mf
	}
	s := &dto.Metric{Label: make([]*dto.LabelPair, len(values))}
	for i, v := range values {
		s.Label[i] = &dto.LabelPair{Name: new(f.labels[i]), Value: new(v)}
	}
	mf.Metric = append(mf.Metric, s)
	return s
}

func (g *gatherer) sorted() []*dto.MetricFamily {
	out := make([]*dto.MetricFamily, 0, len(g.families))
	for _, name := range slices.Sorted(maps.Keys(g.families)) {
		mf := g.families[name]
		slices.SortFunc(mf.Metric, func(a, b *dto.Metric) int {
			return slices.CompareFunc(a.Label, b.Label, func(a, b *dto.LabelPair) int {
				return strings.Compare(a.GetValue(), b.GetValue())
			})
		})
		out = append(out, mf)
	}
	return out
}
