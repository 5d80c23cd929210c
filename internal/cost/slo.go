package cost

// Targets are those of an SLO; 0: none.
type Targets struct{ TTFT, TPOT Seconds }

// missed is by which part of the targets the given times miss them; 0: they meet them.
func (o Targets) missed(ttft, tpot Seconds) (late float64) {
	if o.TTFT > 0 {
		late += max(0, float64(ttft/o.TTFT)-1)
	}
	if o.TPOT > 0 {
		late += max(0, float64(tpot/o.TPOT)-1)
	}
	return late
}

// slo changes the terms of a request that has an SLO. Among servers that meet it, its own time
// counts for less than what others lose, and the price counts. If none does, the least late is best.
func (m *Model) slo(q *Query, f *Figures, t *Terms) {
	step := Seconds(f.Step / (1 - f.Stalled))
	switch t.Late = q.SLO.missed(t.First+t.Adapter, step); {
	case t.Late > 0 && q.Meets:
		t.SLO = Seconds(sloMiss + sloLate*t.Late)
	case t.Late > 0:
		// No server meets it. To go where the tokens come least late would empty one server
		// after another of what it has cached, for a target that is missed all the same: what
		// a step takes is in the output's seconds already.
		t.SLO = Seconds(sloLate * Targets{TTFT: q.SLO.TTFT}.missed(t.First+t.Adapter, 0))
	default:
		// How much sooner it is served than it must be matters less than what others lose by it.
		t.Wait, t.Prefill = sloSpare*t.Wait, sloSpare*t.Prefill
		t.Output -= min(t.Output, (1-sloSpare)*Seconds(m.Weights.Output)*Seconds(q.Output)*step)
	}
}
