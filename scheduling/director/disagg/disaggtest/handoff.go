package disaggtest

import (
	"fmt"
	"slices"
	"time"
)

// handoff is the KV of a prompt on its way from one leg to the other. Its fields are guarded by c.mu.
type handoff struct {
	key             string
	p               *Engine // that prefills
	prefill, decode *leg    // nil: did not come yet; a decode leg that failed before the transfer may be followed by another
	relay           []byte  // what the decode leg must bring: NIXL, TensorRT
	ids             []uint32
	q               *request // of the prefill leg
	cached          int      // tokens that the prefiller found in its cache
	final           bool     // TensorRT: the context leg answered finally
	expires         time.Time
	changed         chan struct{} // closed at each change

	ready   bool // computed
	left    bool // the decode leg was cancelled before the KV was ready
	taken   bool // by the decode leg
	freed   bool // since the decode leg was cancelled
	expired bool
	lost    bool // with its engine
}

// handoffLocked returns the handoff of a key, a new one if need be. Caller must hold c.mu.
func (c *Cluster) handoffLocked(key string) *handoff {
	h := c.handoffs[key]
	if h == nil {
		h = &handoff{key: key, changed: make(chan struct{})}
		c.handoffs[key] = h
	}
	return h
}

func (h *handoff) tellLocked() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// computedLocked pins the KV. Caller must hold c.mu.
func (c *Cluster) computedLocked(h *handoff) {
	h.ready, h.expires = true, c.opts.Now().Add(c.opts.Lease)
	h.freed = h.left
	if c.downLocked() {
		c.excused[h.key] = true
	}
	h.tellLocked()
}

// pinnedLocked reports whether KV is kept. Caller must hold c.mu.
func (c *Cluster) pinnedLocked(h *handoff) bool {
	if !h.ready || h.taken || h.freed || h.lost || h.expired {
		return false
	}
	if h.decode == nil && c.opts.Lease > 0 && !c.opts.Now().Before(h.expires) {
		h.expired = true
	}
	return !h.expired
}

// agreeLocked compares the two legs of a request. Caller must hold c.mu.
func (l *leg) agreeLocked(h *handoff, edited ...string) {
	other := h.prefill
	if l == other {
		other = h.decode
	}
	if other == nil {
		return
	}
	if a, b := l.rec.RequestID, other.rec.RequestID; a != b {
		l.violateLocked("its X-Request-Id differs from %q of its %v leg", b, other.rec.Leg)
	}
	if a, b := l.q.rest(edited...), other.q.rest(edited...); a != b {
		l.violateLocked("its body differs from that of its %v leg in what the protocol does not edit:\n%.2000s---\n%.2000s", other.rec.Leg, a, b)
	}
}

// wait waits until done, which is called with c.mu held, for at most Options.Wait.
func (l *leg) wait(h *handoff, done func() bool) bool {
	timer := time.NewTimer(l.c.opts.Wait)
	defer timer.Stop()
	for {
		l.c.mu.Lock()
		ok, changed := done(), h.changed
		l.c.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-timer.C:
			l.c.mu.Lock()
			defer l.c.mu.Unlock()
			return done() // it may have come meanwhile, on a busy machine
		case <-l.ctx.Done():
			l.leave()
		}
	}
}

// vain notes that a leg waited in vain, if no fault is the reason.
func (l *leg) vain(h *handoff) {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	other, which := h.prefill, Prefill
	if l == h.prefill {
		other, which = h.decode, Decode
	}
	text := fmt.Sprintf("%v: its %v leg never came", l.rec, which)
	if other != nil {
		text = fmt.Sprintf("%v: its %v leg (%v) did not do its part, and nobody ended this one", l.rec, which, other.rec.Outcome)
	}
	l.c.violations = append(l.c.violations, violation{text, h.key})
}

// takeLocked moves the KV to the decode leg, if it is still there. Caller must hold c.mu.
func (l *leg) takeLocked(h *handoff) bool {
	if !l.c.pinnedLocked(h) {
		return false
	}
	h.taken, h.relay, l.rec.Transferred = true, nil, true
	if h.prefill != nil {
		h.prefill.rec.Transferred = true
	}
	h.tellLocked()
	return true
}

// partLocked is what the end of a leg does to what it has a part in. Caller must hold c.mu.
func (l *leg) partLocked() {
	for _, key := range l.keys {
		if l.rec.Faulted || l.rec.Outcome == Died {
			l.c.excused[key] = true
		}
		h := l.c.handoffs[key]
		if h == nil {
			continue
		}
		if l.rec.Leg == Decode && (h.decode == l || h.decode == nil) && !h.taken && l.c.opts.Protocol != SGLang {
			h.decode = nil
			if l.rec.Outcome == Cancelled && !l.rec.Faulted { // the decoder tells the prefiller
				h.left, h.freed = true, h.ready
			}
		}
		h.tellLocked()
		if l.c.opts.Protocol == SGLang && (h.prefill == l || h.decode == l) && h.overLocked() {
			delete(l.c.handoffs, key)
		}
	}
}

// overLocked reports whether no leg is in the room. Caller must hold c.mu.
func (h *handoff) overLocked() bool {
	return !slices.ContainsFunc([]*leg{h.prefill, h.decode}, func(l *leg) bool { return l != nil && l.rec.Outcome == Running })
}
