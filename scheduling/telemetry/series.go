package telemetry

import (
	"math"
	"strings"
	"sync/atomic"

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
	priorities table[int, *atomic.Uint64] // requests
	others     atomic.Uint64              // those of priorities that are too many
	uses       table[*pool, *use]

	errors                   [len(codes)]atomic.Uint64
	lateFirst, lateFollowing atomic.Uint64 // beyond the SLO's TTFT, TPOT

	duration, ttft, tpot, ntpot histogram
	requestSize, responseSize   histogram
	input, output, cached       histogram

	undecided atomic.Uint64 // decisions that failed
	elsewhere atomic.Uint64 // those for endpoints that are too many
}

func newPair(name pairName) (pairName, *pair) {
	name = pairName{strings.Clone(name.model), strings.Clone(name.target)} // they may lie in a request's body
	return name, &pair{
		pairName: name,
		duration: newHistogram(durationBuckets), ttft: newHistogram(durationBuckets),
		tpot: newHistogram(tpotBuckets), ntpot: newHistogram(ntpotBuckets),
		requestSize: newHistogram(sizeBuckets), responseSize: newHistogram(sizeBuckets),
		input: newHistogram(tokenBuckets), output: newHistogram(tokenBuckets), cached: newHistogram(tokenBuckets),
	}
}

// pair returns what is counted of the model and target of req, and of the pair
// "other" if there are too many.
func (m *Metrics) pair(req *types.Request) *pair {
	name := pairName{label(req.Model), label(req.Target())}
	p, ok := m.pairs.get(name)
	if !ok {
		p, ok = m.pairs.add(name, m.o.MaxModels+1, newPair) // and one "other"
	}
	if !ok {
		return m.other
	}
	return p
}

func (p *pair) request(priority int) {
	n, ok := p.priorities.get(priority)
	if !ok {
		n, ok = p.priorities.add(priority, maxPriorities, newCounter[int])
	}
	if !ok {
		n = &p.others
	}
	n.Add(1)
}

func newCounter[K any](k K) (K, *atomic.Uint64) { return k, new(atomic.Uint64) }

// use is what is counted of a pair in one pool.
type use struct {
	pair *pair

	inFlight               atomic.Int64
	prompt, output, cached atomic.Uint64 // tokens that servers reported
	outputRate             rate
}

func (p *pair) use(in *pool) *use {
	u, ok := p.uses.get(in)
	if !ok {
		// There are as many as the program has pools.
		u, _ = p.uses.add(in, math.MaxInt, func(in *pool) (*pool, *use) { return in, &use{pair: p} })
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
			return name, &pool{label: poolLabel(name)}
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
	n                             atomic.Uint64
	namespace, name, port, target string
}

// decided counts a decision for ep.
func (m *Metrics) decided(p *pair, ep *types.Endpoint) {
	key := attemptKey{ep.Load, p}
	a, ok := m.attempts.get(key)
	if !ok {
		a, ok = m.attempts.add(key, m.o.MaxEndpoints, func(key attemptKey) (attemptKey, *attempt) {
			namespace, name, port := endpointLabels(ep)
			return key, &attempt{namespace: namespace, name: name, port: port, target: p.target}
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
	gone := func(k attemptKey) bool { return k.load != nil && k.load.Retired() }
	found := false
	for k := range m.attempts.all() {
		found = found || gone(k)
	}
	if !found {
		return
	}
	type series struct {
		pair                  *pair
		namespace, name, port string
	}
	m.attempts.edit(func(all map[attemptKey]*attempt) bool {
		here := map[series]*attempt{}
		for k, a := range all {
			if !gone(k) {
				here[series{k.pair, a.namespace, a.name, a.port}] = a
			}
		}
		for k, a := range all {
			if !gone(k) {
				continue
			}
			if b := here[series{k.pair, a.namespace, a.name, a.port}]; b != nil {
				b.n.Add(a.n.Load())
			}
			delete(all, k)
		}
		return true
	})
}

// rewrite is a decision of an InferenceModelRewrite, as values of labels.
type rewrite struct{ name, model, target string }

// Rewritten counts a decision of the InferenceModelRewrite of that name: requests
// for model go to target.
func (m *Metrics) Rewritten(name, model, target string) {
	k := rewrite{label(name), label(model), label(target)}
	n, ok := m.rewrites.get(k)
	if !ok {
		n, ok = m.rewrites.add(k, m.o.MaxModels, func(k rewrite) (rewrite, *atomic.Uint64) {
			return rewrite{strings.Clone(k.name), strings.Clone(k.model), strings.Clone(k.target)}, new(atomic.Uint64)
		})
	}
	if !ok {
		n, _ = m.rewrites.add(rewrite{other, other, other}, math.MaxInt, newCounter[rewrite])
	}
	n.Add(1)
}
