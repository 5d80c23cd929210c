package telemetry

import (
	"math"
	"strings"
	"sync/atomic"

	dto "github.com/prometheus/client_model/go"

	"github.com/inferpick/inferpick/types"
)

// Bounds of what the wiring and manifests give, which no client can reach.
const (
	maxPriorities = 32  // of a pair
	maxPlugins    = 256 // of a pool
)

// pairName is a model and its target, as values of labels.
type pairName struct{ model, target string }

// pair is what is counted of one model and one target, of all pools.
type pair struct {
	pairName
	m          *Metrics
	labels     []*dto.LabelPair           // of what is told apart by both names alone
	values     int                        // bytes that the names take in a page
	priorities table[int, *atomic.Uint64] // requests
	others     atomic.Uint64              // those of priorities that are too many
	uses       table[*pool, *use]

	errors                   [len(codes)]atomic.Uint64
	finishes                 [types.FinishOther + 1]atomic.Uint64 // but for FinishUnknown
	lateFirst, lateFollowing atomic.Uint64                        // beyond the SLO's TTFT, TPOT

	duration, ttft, tpot, ntpot histogram
	requestSize, responseSize   histogram
	input, output, cached       histogram

	undecided atomic.Uint64 // decisions that failed
	elsewhere atomic.Uint64 // those for endpoints that are too many
}

// pairHistogram is one of the histograms of a pair.
type pairHistogram struct {
	*histogram
	buckets *buckets
	family  *family
}

func (p *pair) histograms() []pairHistogram {
	return []pairHistogram{
		{&p.duration, durationBuckets, &durations}, {&p.ttft, durationBuckets, &ttfts},
		{&p.tpot, tpotBuckets, &tpots}, {&p.ntpot, ntpotBuckets, &ntpots},
		{&p.requestSize, sizeBuckets, &requestSizes}, {&p.responseSize, sizeBuckets, &responseSizes},
		{&p.input, tokenBuckets, &inputTokens}, {&p.output, tokenBuckets, &outputTokens}, {&p.cached, tokenBuckets, &cachedTokens},
	}
}

func (m *Metrics) newPair(name pairName) (pairName, *pair) {
	name = pairName{strings.Clone(name.model), strings.Clone(name.target)} // they may lie in a request's body
	p := &pair{pairName: name, m: m, values: name.size(), labels: durations.with(name.model, name.target)}
	var others []pairHistogram
	if m.other != nil {
		others = m.other.histograms()
	}
	for i, h := range p.histograms() {
		*h.histogram = newHistogram(h.buckets)
		h.bytes = h.buckets.size(h.family.size(p.values))
		if m.o.LegacyNames && h.family.legacy != "" {
			h.bytes += h.buckets.size(h.family.sizeAs(h.family.legacy, p.values))
		}
		if others == nil {
			m.room.spend(h.bytes)
			continue
		}
		h.room, h.instead = &m.room, others[i].histogram
	}
	return name, p
}

func (n pairName) size() int { return escaped(n.model) + escaped(n.target) }

// size returns the most that a series of requests takes in a page, under one name or two.
func (m *Metrics) size(f *family, values int) int64 {
	n := f.size(values)
	if m.o.LegacyNames && f.legacy != "" {
		n += f.sizeAs(f.legacy, values)
	}
	return n
}

// pairSize returns the most that a pair takes in a page beside its histograms and what
// takes its own room: errors, priorities and further pools.
func (m *Metrics) pairSize(name pairName) int64 {
	n := name.size()
	return m.size(&running, n) + legacyRequests.size(n) + requests.size(n+len(other)) +
		2*sloViolations.size(n+len("ttft")) + 2*decisions.size(n+len(other)+len("success"))
}

// useSize returns the most that a pair takes in a page for one pool.
func (m *Metrics) useSize(name pairName, in *pool) int64 {
	n := name.size() + escaped(in.label)
	total := int64(0)
	for _, f := range [...]*family{&modelInFlight, &modelPrompt, &modelOutput, &modelCached, &modelOutputRate} {
		total += f.size(n)
	}
	return total
}

// pair returns what is counted of the model and target of req, and of the pair
// "other" if there are too many.
func (m *Metrics) pair(req *types.Request) *pair {
	name := pairName{label(req.Model), label(req.Target())}
	p, ok := m.pairs.get(name)
	if !ok && len(m.pairs.all()) <= m.o.MaxModels { // and one "other"
		p, ok = m.pairs.addWithin(&m.room, m.pairSize(name), 0, name, m.o.MaxModels+1, m.newPair)
	}
	if !ok {
		return m.other
	}
	return p
}

func (p *pair) request(priority int) {
	n, ok := p.priorities.get(priority)
	if !ok {
		const digits = 20
		n, ok = p.priorities.addWithin(&p.m.room, requests.size(p.values+digits), 0, priority, maxPriorities, newCounter[int])
	}
	if !ok {
		n = &p.others
	}
	n.Add(1)
}

// failed counts a request that was refused or did not end well: of the pair "other", if
// there is no room for another code of this one.
func (p *pair) failed(c code) {
	if p.errors[c].Load() == 0 && !p.m.room.take(p.m.size(&requestErrors, p.values+len(codes[c])), 0) {
		p = p.m.other
	}
	p.errors[c].Add(1)
}

// ended counts how a model ended an answer, likewise.
func (p *pair) ended(f types.Finish) {
	if f == types.FinishUnknown || int(f) >= len(p.finishes) {
		return
	}
	if p.finishes[f].Load() == 0 && !p.m.room.take(finishReasons.size(p.values+len(f.String())), 0) {
		p = p.m.other
	}
	p.finishes[f].Add(1)
}

func newCounter[K any](k K) (K, *atomic.Uint64) { return k, new(atomic.Uint64) }

// use is what is counted of a pair in one pool.
type use struct {
	pair   *pair
	labels []*dto.LabelPair

	inFlight               atomic.Int64
	prompt, output, cached atomic.Uint64 // tokens that servers reported
	outputRate             rate
}

// use returns what is counted of p in a pool, or of the pair "other" if there is no room.
func (p *pair) use(in *pool) *use {
	u, ok := p.uses.get(in)
	if ok {
		return u
	}
	// There are as many as the program has pools.
	bytes := p.m.useSize(p.pairName, in)
	add := func(in *pool) (*pool, *use) {
		return in, &use{pair: p, labels: modelInFlight.with(p.model, in.label, p.target)}
	}
	if p == p.m.other {
		p.m.room.spend(bytes)
		u, _ = p.uses.add(in, math.MaxInt, add)
		return u
	}
	if u, ok = p.uses.addWithin(&p.m.room, bytes, 0, in, math.MaxInt, add); !ok {
		return p.m.other.use(in)
	}
	return u
}

// pool is what is counted of a pool, of all models.
type pool struct {
	label    string
	retries  atomic.Uint64
	expired  atomic.Uint64
	refused  [len(codes)]atomic.Uint64
	failures table[pluginName, *atomic.Uint64]
	splits   splits

	gates      table[int, *admitted] // by priority
	gateOthers admitted              // of priorities that are too many
}

// pluginName says which plugin failed where.
type pluginName struct{ stage, plugin string }

func (m *Metrics) pool(name types.NamespacedName) *pool {
	p, ok := m.pools.get(name)
	if !ok {
		// A pool's name comes from the wiring or from a manifest.
		p, _ = m.pools.add(name, math.MaxInt, func(name types.NamespacedName) (types.NamespacedName, *pool) {
			p := &pool{label: poolLabel(name)}
			p.splits.duration = newHistogram(durationBuckets)
			p.gateOthers.pool, p.gateOthers.priority = p.label, other
			return name, p
		})
	}
	return p
}

func (p *pool) failed(stage, plugin string) {
	name := pluginName{stage, plugin}
	n, ok := p.failures.get(name)
	if !ok {
		n, ok = p.failures.add(name, maxPlugins, newCounter[pluginName])
	}
	if !ok {
		n, _ = p.failures.add(pluginName{other, other}, maxPlugins+1, newCounter[pluginName])
	}
	n.Add(1)
}

// attemptKey is an endpoint that a pair was sent to.
type attemptKey struct {
	load *types.Load
	pair *pair
}

// attempt counts decisions for an endpoint.
type attempt struct {
	n      atomic.Uint64
	of     attempted
	labels []*dto.LabelPair
	bytes  int64 // of a page
}

// attempted is a series of decisions: endpoints that come back have the same name.
type attempted struct {
	pair                  *pair
	namespace, name, port string
}

// decided counts a decision for ep.
func (m *Metrics) decided(p *pair, ep *types.Endpoint) {
	key := attemptKey{ep.Load, p}
	a, ok := m.attempts.get(key)
	if !ok && len(m.attempts.all()) < m.o.MaxEndpoints {
		namespace, name, port := endpointLabels(ep)
		bytes := decisions.size(escaped(namespace) + escaped(name) + escaped(port) + escaped(p.target) + len("success"))
		a, ok = m.attempts.addWithin(&m.room, bytes, 0, key, m.o.MaxEndpoints, func(key attemptKey) (attemptKey, *attempt) {
			return key, &attempt{of: attempted{p, namespace, name, port}, bytes: bytes, labels: decisions.with(namespace, name, port, "success", p.target)}
		})
	}
	if !ok {
		p.elsewhere.Add(1)
		return
	}
	a.n.Add(1)
}

// prune takes out the endpoints that have gone, so that others have room. An
// endpoint that came back with the same name goes on from where it was. Caller
// must hold m.pruning.
func (m *Metrics) prune() {
	gone := map[attemptKey]*attempt{}
	for k, a := range m.attempts.all() {
		if k.load != nil && k.load.Retired() {
			gone[k] = a
		}
	}
	if len(gone) == 0 {
		return
	}
	m.attempts.edit(func(all map[attemptKey]*attempt) {
		here := map[attempted]*attempt{}
		for k, a := range all {
			if gone[k] == nil {
				here[a.of] = a
			}
		}
		for k, a := range gone {
			delete(all, k)
			if b := here[a.of]; b != nil {
				b.n.Add(a.n.Load())
			}
			m.room.spend(-a.bytes)
		}
	})
}

// rewrite is a decision of an InferenceModelRewrite, as values of labels.
type rewrite struct{ name, model, target string }

// Rewritten counts a decision of the InferenceModelRewrite of that name: requests
// for model go to target.
func (m *Metrics) Rewritten(name, model, target string) {
	k := rewrite{label(name), label(model), label(target)}
	n, ok := m.rewrites.get(k)
	if !ok && len(m.rewrites.all()) < m.o.MaxModels {
		bytes := rewritten.size(escaped(k.name) + escaped(k.model) + escaped(k.target))
		n, ok = m.rewrites.addWithin(&m.room, bytes, 0, k, m.o.MaxModels, func(k rewrite) (rewrite, *atomic.Uint64) {
			return rewrite{strings.Clone(k.name), strings.Clone(k.model), strings.Clone(k.target)}, new(atomic.Uint64)
		})
	}
	if !ok {
		n, _ = m.rewrites.add(rewrite{other, other, other}, math.MaxInt, newCounter[rewrite])
	}
	n.Add(1)
}
