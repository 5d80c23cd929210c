package rollout

import (
	"slices"
	"sync"
	"time"
)

// This file makes a Controller one among several: it is a sharing.NotePart.

// noteEvery is how long a note is told again before another one is made.
const noteEvery = 250 * time.Millisecond

// lastNote is the note that was made last.
type lastNote struct {
	mu   sync.Mutex
	at   time.Time
	note []byte
}

// NoteName names what the notes are about: see sharing.NotePart.
func (c *Controller) NoteName() string { return "rollouts" }

// AppendNote appends what other gateways are to know of the rollouts of this one: what it has seen, what it has in
// flight, and where the rollouts are.
func (c *Controller) AppendNote(dst []byte, now time.Time) []byte {
	last := &c.note
	last.mu.Lock()
	defer last.mu.Unlock()
	if since := now.Sub(last.at); last.note == nil || since < 0 || since >= noteEvery {
		last.note, last.at = c.peers.tell(last.note[:0], now, c.notes()), now
	}
	return append(dst, last.note...)
}

// HearNote takes over what another gateway has said. What is wrong with it is told to Options.Logger.
func (c *Controller) HearNote(peer int, text []byte, _ time.Time) {
	if err := c.peers.hear(peer, text); err != nil {
		c.o.Logger.Warn(err.Error(), "peer", peer)
	}
}

// LosePeer is told that a gateway has gone. What it has seen of the step that is in force goes on counting.
func (c *Controller) LosePeer(peer int) { c.peers.lose(peer) }

// notes returns what there is to say of each rollout.
func (c *Controller) notes() []note {
	c.mu.Lock()
	all := make([]*rollout, 0, len(c.rollouts))
	for _, r := range c.rollouts {
		all = append(all, r)
	}
	c.mu.Unlock()
	slices.SortFunc(all, func(a, b *rollout) int { return compareObjects(a.object, b.object) })
	notes := make([]note, 0, len(all))
	for _, r := range all {
		notes = append(notes, r.note())
	}
	return notes
}

// note returns what there is to say of the rollout.
func (r *rollout) note() note {
	n := note{key: r.key, plan: r.hash}
	if t := r.c.traffic.Load(); t != nil {
		n.stable, n.canary = t.inFlight(r.plan.Stable), t.inFlight(r.plan.Canary)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n.leads = r.machine != nil || !r.claim.IsZero()
	if r.known {
		n.state = r.state.Encode()
	}
	window := r.window
	if r.machine != nil {
		window = r.machine.Window()
	}
	if window != nil && r.state.Phase != Done && r.state.Phase != Failed {
		n.window, _ = window.AppendBinary(nil) // it has no error
	}
	return n
}

// inFlight returns how many requests a target has at this gateway.
func (t *traffic) inFlight(name string) int {
	if one := t.targets[name]; one != nil {
		return int(one.inFlight.n.Load())
	}
	return 0
}

// leads reports whether this gateway is the one that judges, and what is wrong with who should know.
func (c *Controller) leads(now time.Time) (leads bool, trouble string) {
	if c.o.Leader == nil {
		return c.peers.least(now), ""
	}
	err := recovered(func() error {
		leads = c.o.Leader()
		return nil
	})
	if err != nil {
		return false, "Options.Leader failed: " + err.Error()
	}
	return leads, ""
}

// leader names the gateway that leads, as far as is known.
func (c *Controller) leader(now time.Time) string {
	if c.o.Leader != nil {
		return "the gateway that leads"
	}
	return c.peers.leader(now)
}
