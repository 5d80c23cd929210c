package telemetry

import "strconv"

// gatherAdmission adds what the hooks of admission control counted.
func (p *pool) gatherAdmission(g page) {
	for _, a := range p.gates.all() {
		a.gather(g)
	}
	p.gateOthers.gather(g)
}

func (a *admitted) gather(g page) {
	g.count(&admissionQueued, a.queued.Load(), a.pool, a.priority)
	g.count(&admissionDispatched, a.dispatched.Load(), a.pool, a.priority)
	g.count(&admissionCancelled, a.cancelled.Load(), a.pool, a.priority)
	g.count(&admissionRevoked, a.revoked.Load(), a.pool, a.priority)
	for i := range a.refused {
		g.count(&admissionRefused, a.refused[i].Load(), a.pool, a.priority, reasons[i])
	}
	if v := a.tokens.load(); v > 0 {
		g.add(&admissionTokens, v, admissionTokens.with(a.pool, a.priority))
	}
}

// gatherWaits adds the times that requests waited.
func (m *Metrics) gatherWaits(g page) {
	for k, h := range m.waits.all() {
		g.histogram(&queueDurations, h, queueDurations.with(k.tenant, k.at.pool, k.pair.model, string(k.became), k.at.priority, k.pair.target))
	}
}

// gatherQueues adds what the admission controls are like now, and to saturation how full
// they say that their pools are, where that is known.
func (m *Metrics) gatherQueues(g page, saturation map[string]float64) {
	if m.o.Admissions == nil {
		return
	}
	for name, s := range m.o.Admissions {
		pool := poolLabel(name)
		if s.Saturation == s.Saturation && s.Endpoints > 0 {
			saturation[pool] = s.Saturation
		}
		g.add(&admissionWaiting, float64(s.Queued), admissionWaiting.with(pool))
		for _, b := range s.Bands {
			priority := strconv.Itoa(b.Priority)
			g.add(&queueSize, float64(b.Queued), queueSize.with(pool, priority))
			g.add(&queueBytes, float64(b.Bytes), queueBytes.with(pool, priority))
			g.add(&queueOldest, b.Oldest.Seconds(), queueOldest.with(pool, priority))
			g.add(&admissionRunning, float64(b.Running), admissionRunning.with(pool, priority))
			g.add(&admissionTenants, float64(b.Tenants), admissionTenants.with(pool, priority))
			g.add(&admissionRoom, float64(b.Room), admissionRoom.with(pool, priority))
		}
	}
}
