package admission_test

import (
	"errors"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// TestForgottenTicketsEnd: wholly, as if Done had been called.
func TestForgottenTicketsEnd(t *testing.T) {
	const ttl = time.Minute
	for _, tt := range []struct {
		name  string
		use   func(r *rig, c *call)
		after time.Duration // it is ended, and not before
	}{
		{"never booked", func(*rig, *call) {}, admission.DefaultGrantTTL},
		{"booked", func(r *rig, c *call) { c.Booked(r.eps[0]) }, ttl},
		{"booked late", func(r *rig, c *call) { r.clock.pass(9 * time.Second); c.Booked(r.eps[0]) }, ttl + 9*time.Second},
		{"booked again", func(r *rig, c *call) { c.Booked(r.eps[0]); r.clock.pass(30 * time.Second); c.Booked(r.eps[1]) }, ttl + 30*time.Second},
		{"had a first token", func(r *rig, c *call) { c.Booked(r.eps[0]); c.FirstToken() }, 2 * ttl},
		{"was alive", func(r *rig, c *call) { c.Booked(r.eps[0]); r.clock.pass(30 * time.Second); c.Alive() }, 2 * ttl},
		{"was alive for an hour", func(r *rig, c *call) {
			c.Booked(r.eps[0])
			for range 120 {
				r.clock.pass(30 * time.Second)
				c.Alive()
				r.c.Stats()
			}
		}, 61 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, 2, admission.Options{Tenants: map[string]admission.Tenant{"t": {}}, Tuning: admission.Tuning{TicketTTL: ttl}})
			var ended []error
			o := r.with(admission.Options{Tuning: admission.Tuning{TicketTTL: ttl}})
			o.Hooks.Finished = func(_ *admission.Ticket, out types.Outcome) { ended = append(ended, out.Err) }
			require.NoError(t, r.c.Configure(o))
			start := r.clock.now
			lost := r.offer(request("lost", 0, "t"))
			tt.use(r, lost)
			r.clock.pass(start.Add(tt.after).Sub(r.clock.now))
			equal(t, "running", r.c.Stats().Bands[0].Running, 1)
			// Nothing else happens.
			r.clock.pass(ttl + 1)
			s := r.c.Stats()
			equal(t, "running", s.Bands[0].Running, 0)
			if len(ended) != 1 || !errors.Is(ended[0], admission.ErrForgotten) {
				t.Errorf("ended as %v", ended)
			}
			lost.Booked(r.eps[0])
			lost.FirstToken()
			lost.Done(types.Outcome{})
			equal(t, "ended", len(ended), 1)
			r.check()
		})
	}
}

// TestForgottenTicketLetsOthersIn: what it was thought to take is free again.
func TestForgottenTicketLetsOthersIn(t *testing.T) {
	r := newRig(t, 1, admission.Options{})
	r.offer(request("lost", 0, ""))
	r.fill(0, 1)
	c := r.offer(request("r", 0, ""))
	r.fill(0, 0)
	equal(t, "waits", c.Waiting(), true)
	r.clock.pass(admission.DefaultGrantTTL + 1)
	r.c.Stats()
	equal(t, "waits", c.Waiting(), false)
}

func TestDefaultTicketTTL(t *testing.T) {
	r := newRig(t, 1, admission.Options{})
	c := r.offer(request("r", 0, ""))
	c.Booked(r.eps[0])
	r.clock.pass(admission.DefaultTicketTTL)
	equal(t, "running", r.c.Stats().Bands[0].Running, 1)
	r.clock.pass(1)
	equal(t, "running", r.c.Stats().Bands[0].Running, 0)
}
