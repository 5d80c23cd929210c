package telemetry

import (
	"time"

	"github.com/inferpick/inferpick/types"
)

// gatherSharing adds who the peers are, and what was told and heard.
func (m *Metrics) gatherSharing(g page, now time.Time) {
	if m.o.Sharing == nil {
		return
	}
	s := m.o.Sharing(now)
	g.add(&peers, float64(s.Alive()), nil)
	type one struct {
		age  time.Duration
		held types.Booking
	}
	named := map[string]one{} // peers may have the same name
	for _, p := range s.Peers {
		if !p.Alive {
			continue
		}
		name := label(p.Name)
		had, ok := named[name]
		if !ok || p.Age < had.age {
			had.age = p.Age
		}
		had.held = had.held.Plus(p.Held)
		named[name] = had
	}
	for name, p := range named {
		g.add(&peerAge, p.age.Seconds(), peerAge.with(name))
		g.add(&peerRequests, float64(p.held.Requests), peerRequests.with(name))
	}
	g.count(&sharingMessages, s.Told.Messages, "told")
	g.count(&sharingMessages, s.Heard.Messages, "heard")
	g.count(&sharingBytes, s.Told.Bytes, "told")
	g.count(&sharingBytes, s.Heard.Bytes, "heard")
	for reason, n := range map[string]uint64{
		"old": s.Ignored.Old, "flooded": s.Ignored.Flooded, "broken": s.Ignored.Broken, "version": s.Ignored.Versions,
		"unsigned": s.Ignored.Unsigned, "refused": s.Ignored.Refused, "elsewhere": s.Ignored.Elsewhere, "note": s.Ignored.Notes, "unknown": s.Ignored.Unknown,
	} {
		g.count(&sharingIgnored, n, reason)
	}
	g.count(&sharingFailures, s.Failed, "send")
	g.count(&sharingFailures, s.Panics, "panic")
	g.count(&sharingFailures, s.LongNotes, "note")
}
