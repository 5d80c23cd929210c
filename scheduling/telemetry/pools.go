package telemetry

import (
	"math"
	"time"

	"github.com/inferpick/inferpick/types"
)

// gatherPools adds what the pools are like at now, and to saturation how full they are.
func (m *Metrics) gatherPools(g page, now time.Time, saturation map[string]float64) {
	if m.o.Pools == nil {
		return
	}
	seen := &types.Request{Now: now, StaleBefore: now.Add(-m.o.MetricsTTL)}
	room := m.o.MaxEndpoints // for series that name an endpoint
	for name, eps := range m.o.Pools {
		pool := poolLabel(name)
		saturation[pool] = m.gatherPool(g, pool, eps, seen, &room)
	}
}

// gatherPool returns the mean of how full the ready endpoints are: an endpoint of which
// nothing is known counts as full, and so does a pool with none.
func (m *Metrics) gatherPool(g page, name string, eps []*types.Endpoint, seen *types.Request, room *int) (filled float64) {
	var kv, queue, running, full mean // of the ready ones
	var queued, batched mean          // of all
	var states [types.Unhealthy + 1]int
	var inFlight, owed, denoise int64
	for _, ep := range eps {
		if int(ep.State) < len(states) {
			states[ep.State]++
		}
		if ep.Load != nil {
			inFlight += ep.Load.Requests()
			owed += ep.Load.PrefillTokens()
			denoise += ep.Load.DenoiseTokens()
		}
		waiting := ep.Waiting(seen)
		queued.add(waiting)
		batched.add(ep.Running(seen))
		m.gatherQueue(g, name, ep, waiting, room)
		if ep.State != types.Ready {
			continue
		}
		kv.add(ep.KVUsage(seen))
		queue.add(waiting)
		running.add(ep.Running(seen))
		s := m.saturation(ep, seen)
		full.add(s)
		if s != s {
			s = 1
		}
		filled += s
	}
	kv.export(g, &averageKV, name)
	queue.export(g, &averageQueue, name)
	running.export(g, &averageRunning, name)
	full.export(g, &poolSaturation, name)
	if queued.n > 0 || len(eps) == 0 {
		g.add(&poolQueued, queued.sum, poolQueued.with(name))
	}
	if batched.n > 0 || len(eps) == 0 {
		g.add(&poolRunning, batched.sum, poolRunning.with(name))
	}
	g.add(&poolInFlight, float64(inFlight), poolInFlight.with(name))
	g.add(&poolOwed, float64(owed), poolOwed.with(name))
	g.add(&poolDenoise, float64(denoise), poolDenoise.with(name))
	g.add(&readyPods, float64(states[types.Ready]), readyPods.with(name))
	for s, n := range states {
		g.add(&poolEndpoints, float64(n), poolEndpoints.with(name, types.State(s).String()))
	}
	if states[types.Ready] == 0 {
		return 1
	}
	return filled / float64(states[types.Ready])
}

func (m *Metrics) gatherQueue(g page, pool string, ep *types.Endpoint, waiting float64, room *int) {
	if waiting != waiting {
		return
	}
	name := other
	if *room > 0 {
		*room--
		_, name, _ = endpointLabels(ep)
	}
	g.add(&podQueue, waiting, podQueue.with(name, pool))
}

// saturation returns how full ep is, 1 or more being full: the larger of what its
// queue and its KV cache say, as the utilization detector of the Inference
// Extension has it. NaN if neither is known.
func (m *Metrics) saturation(ep *types.Endpoint, seen *types.Request) float64 {
	queue, kv := ep.Waiting(seen)/m.o.QueueThreshold, ep.KVUsage(seen)/m.o.KVThreshold
	switch {
	case math.IsNaN(queue):
		return kv
	case math.IsNaN(kv):
		return queue
	}
	return max(queue, kv)
}

// mean is that of the figures that are known.
type mean struct {
	sum float64
	n   int
}

// add takes v in, unless it is unknown, which is NaN.
func (m *mean) add(v float64) {
	if v == v {
		m.sum += v
		m.n++
	}
}

// export adds the mean to g. One of which nothing is known is left out.
func (m *mean) export(g page, f *family, pool string) {
	if m.n > 0 {
		g.add(f, m.sum/float64(m.n), f.with(pool))
	}
}
