package telemetry

import "strconv"

// gatherAdmission adds what the hooks of admission control counted.
func (p *pool) gatherAdmission(g page) {
	for _, a := range p.gates.all() {
		a.gather(g, p.label)
	}
	p.gateOthers.gather(g, p.label)
}

func (a *admitted) gather(g page, pool string) {
	priority := a.priority
	if priority == "" {
		priority = other
	}
	g.count(&admissionQueued, a.queued.Load(), pool, priority)
	g.count(&admissionDispatched, a.dispatched.Load(), pool, priority)
	g.count(&admissionCancelled, a.cancelled.Load(), pool, priority)
	g.count(&admissionRevoked, a.revoked.Load(), pool, priority)
	for i := range a.refused {
		g.count(&admissionRefused, a.refused[i].Load(), pool, priority, reasons[i])
	}
	if v := a.tokens.load(); v > 0 {
		g.add(&admissionTokens, v, admissionTokens.with(pool, priority))
	}
}

// gatherWaits adds the times that requests waited. A priority belongs to a pool.
func (m *Metrics) gatherWaits(g page) {
	labels := map[*admitted][2]string{}
	for _, p := range m.pools.all() {
		for _, a := range p.gates.all() {
			labels[a] = [2]string{p.label, a.priority}
		}
		labels[&p.gateOthers] = [2]string{p.label, other}
	}
	for k, h := range m.waits.all() {
		of := labels[k.at]
		g.histogram(&queueDurations, h, queueDurations.with(k.tenant, of[0], k.pair.model, k.became.String(), of[1], k.pair.target))
	}
}

// gatherQueues adds what the admission controls are like now, and returns how full they
// say that their pools are, where that is known.
func (m *Metrics) gatherQueues(g page) (saturation map[string]float64) {
	if m.o.Admissions == nil {
		return nil
	}
	saturation = map[string]float64{}
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
	for pool, full := range saturation {
		g.add(&flowSaturation, full, flowSaturation.with(pool))
	}
	return saturation
}
