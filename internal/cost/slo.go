package cost

import "math"

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

// slo adds what it is worth that a request meets its SLO, and that those there go on meeting it: they
// are taken to have the same. Where a step is far below the target, or far above, one more request
// changes nothing for them; at the brink it makes several miss it. So servers are filled up to the
// brink and not beyond it, and what is too much for all goes to few of them.
func (m *Model) slo(q *Query, f *Figures, t *Terms) {
	first, step := t.First+t.Adapter, Seconds(f.Step/(1-f.Stalled))
	t.Late = q.SLO.missed(first, step)
	meets, others := 1., 0.
	if q.SLO.TTFT > 0 {
		meets = likely(float64(first/q.SLO.TTFT), ttftDoubt)
	}
	if q.SLO.TPOT > 0 {
		likely := likely(float64(step/q.SLO.TPOT), tpotDoubt)
		meets *= likely
		// Of a step, what the requests there make it longer: one more of n adds the n-th part of it for n.
		grown := max(float64(f.Step)-q.EmptyStep, 0) / (1 - float64(f.Stalled))
		others = grown / float64(q.SLO.TPOT) * likely * (1 - likely) / tpotDoubt
	}
	t.SLO = Seconds(sloWorth * (1 - meets + others))
}

// likely is how likely a time meets its target, of which it is expected to be such a part.
func likely(part, doubt float64) float64 { return 1 / (1 + math.Exp((part-1)/doubt)) }
