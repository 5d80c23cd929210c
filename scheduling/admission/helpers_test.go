package admission_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// fills is a Detector that says what it is told to.
type fills map[*types.Load]float64

func (f fills) Fill(_ admission.Query, ep *types.Endpoint) float64 { return f[ep.Load] }

// rig is a Controller with endpoints whose fills are set by hand, and a log of its hooks.
type rig struct {
	t     *testing.T
	c     *admission.Controller
	clock *fakeClock
	fills fills
	eps   []*types.Endpoint
	log   []string            // of hooks: what happened to the request with the ID
	let   []*admission.Ticket // in, as hooks heard
}

// threeBands are like the default ones, with ceilings of their own.
func threeBands() []admission.Band {
	return []admission.Band{
		{Name: "critical", Priority: 100, Ceiling: 1, MaxWait: time.Minute, Displace: true},
		{Name: "standard", Priority: 0, Ceiling: 0.8, MaxWait: 30 * time.Second},
		{Name: "sheddable", Priority: -100, Ceiling: 0.6, MaxRequests: -1},
	}
}

func newRig(t *testing.T, endpoints int, o admission.Options) *rig {
	t.Helper()
	r := &rig{t: t, clock: newClock(), fills: fills{}}
	for i := range endpoints {
		r.eps = append(r.eps, types.NewEndpoint(fmt.Sprintf("e%d", i), "10.0.0.1:8000"))
	}
	c, err := admission.New(r.with(o))
	require.NoError(t, err)
	r.c = c
	c.SetEndpoints(r.eps)
	return r
}

// with fills in what a rig needs.
func (r *rig) with(o admission.Options) admission.Options {
	if o.Detector == nil {
		o.Detector = r.fills
	}
	if o.Bands == nil {
		o.Bands = threeBands()
	}
	if o.Clock == nil {
		o.Clock = r.clock
	}
	note := func(what string, t *admission.Ticket) { r.log = append(r.log, what+" "+t.Request().ID) }
	o.Hooks = admission.Hooks{
		Queued: func(t *admission.Ticket) { note("queued", t) },
		Dispatched: func(t *admission.Ticket, _ time.Duration) {
			note("dispatched", t)
			r.let = append(r.let, t)
		},
		Refused:   func(t *admission.Ticket, f *admission.Refusal) { note(string(f.Reason), t) },
		Cancelled: func(t *admission.Ticket, _ time.Duration) { note("cancelled", t) },
		Finished:  func(t *admission.Ticket, _ types.Outcome) { note("finished", t) },
		Revoked:   func(t *admission.Ticket) { note("asked to end", t) },
	}
	return o
}

// heard returns what hooks heard since the last call.
func (r *rig) heard() []string {
	log := r.log
	r.log = nil
	return log
}

// fill sets how full an endpoint is, and tells.
func (r *rig) fill(i int, full float64) {
	r.fills[r.eps[i].Load] = full
	r.c.Put(r.eps[i])
}

// call is a request that was offered.
type call struct {
	*admission.Ticket
	queued  bool
	err     error // at once or later
	told    int
	refusal *admission.Refusal
}

func request(id string, priority int, tenant string) *types.Request {
	return &types.Request{ID: id, Priority: priority, FairnessID: tenant, Prompt: types.Prompt{Tokens: 100}}
}

func (r *rig) offer(req *types.Request) *call { return r.offerAs(admission.Arrival{Request: req}) }

func (r *rig) offerAs(a admission.Arrival) *call {
	got := &call{}
	note := func(err error) {
		got.err = err
		if err != nil && !errors.As(err, &got.refusal) {
			r.t.Errorf("request %s: %v is no Refusal", a.Request.ID, err)
		}
	}
	var err error
	got.Ticket, got.queued, err = r.c.Offer(a, func(err error) {
		got.told++
		note(err)
	})
	if err != nil {
		note(err)
	}
	return got
}

// admitted reports whether it was let in.
func (c *call) admitted() bool { return c.Ticket != nil && c.err == nil && !c.Waiting() }

// run books and ends a request that was let in.
func (r *rig) run(c *call) {
	c.Booked(r.eps[0])
	c.Done(types.Outcome{})
}

func (r *rig) check() {
	r.t.Helper()
	if err := r.c.CheckInvariants(true); err != nil {
		r.t.Error(err)
	}
}

// drain lets everything that waits in, one after the other, and returns the requests' IDs.
func (r *rig) drain() (order []string) {
	r.let = nil
	r.fill(0, 0)
	for len(r.let) > 0 {
		t := r.let[0]
		r.let = r.let[1:]
		order = append(order, t.Request().ID)
		t.Booked(r.eps[0])
		t.Done(types.Outcome{})
	}
	return order
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// oneGoroutine skips a long test with the race detector, which sees nothing in it.
func oneGoroutine(t *testing.T) {
	t.Helper()
	if raceEnabled {
		t.Skip("it is one goroutine, and long")
	}
}
