package admission_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

func TestQueueBounds(t *testing.T) {
	bands := func(edit func(high, low *admission.Band)) []admission.Band {
		b := []admission.Band{{Name: "high", Priority: 10}, {Name: "low", Priority: 0}}
		edit(&b[0], &b[1])
		return b
	}
	body := func(n int) *types.Request {
		req := request("r", 0, "t")
		req.Body = make([]byte, n)
		return req
	}
	for _, tt := range []struct {
		name   string
		o      admission.Options
		first  []*types.Request // wait
		last   *types.Request   // does not
		detail string
	}{
		{"requests in all", admission.Options{MaxRequests: 2}, []*types.Request{body(1), body(1)}, body(1), "2 requests of 2 bytes wait"},
		{"requests of a band", admission.Options{Bands: bands(func(_, low *admission.Band) { low.MaxRequests = 1 })}, []*types.Request{body(1)}, body(1), "1 requests of 1 bytes wait at priority 0, of at most 1"},
		{"bytes in all", admission.Options{Tuning: admission.Tuning{MaxBytes: 10}}, []*types.Request{body(4), body(6)}, body(1), "2 requests of 10 bytes wait"},
		{"bytes of a band", admission.Options{Bands: bands(func(_, low *admission.Band) { low.MaxBytes = 10 })}, []*types.Request{body(9)}, body(2), "1 requests of 9 bytes wait at priority 0"},
		{"a body larger than the queue", admission.Options{Tuning: admission.Tuning{MaxBytes: 10}}, nil, body(11), "its body of 11 bytes is larger than the queue"},
		{"a body larger than the band's", admission.Options{Bands: bands(func(_, low *admission.Band) { low.MaxBytes = 10 })}, nil, body(11), "its body of 11 bytes is larger than the queue"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, 1, tt.o)
			r.fill(0, 1)
			for _, req := range tt.first {
				if c := r.offer(req); !c.queued {
					t.Fatalf("does not wait: %v", c.err)
				}
			}
			c := r.offer(tt.last)
			if c.refusal == nil || c.refusal.Reason != admission.QueueFull || !strings.Contains(c.refusal.Detail, tt.detail) {
				t.Fatalf("got %+v, want %s: %s", c.refusal, admission.QueueFull, tt.detail)
			}
			equal(t, "waiting", r.c.Stats().Queued, len(tt.first))
			r.check()
			for len(r.drain()) > 0 {
			}
			r.fill(0, 1)
			if c := r.offer(body(1)); !c.queued {
				t.Errorf("the queue is empty, and %v", c.err)
			}
		})
	}
}

func TestDisplacement(t *testing.T) {
	for _, tt := range []struct {
		name    string
		o       admission.Options
		waiting []string // as priority/tenant
		comes   string
		loses   int // index in waiting; -1: what comes
	}{
		{"a critical one takes the place of the last of the lowest", admission.Options{MaxRequests: 3},
			[]string{"0/a", "5/a", "0/a"}, "100/b", 2},
		{"and of a standard one if there is none lower", admission.Options{MaxRequests: 2},
			[]string{"100/a", "5/a"}, "100/a", 1},
		{"of none as high as itself", admission.Options{MaxRequests: 2},
			[]string{"100/a", "100/b"}, "100/c", -1},
		{"of no higher one", admission.Options{MaxRequests: 2},
			[]string{"101/a", "102/a"}, "100/c", -1},
		{"a standard one displaces nobody of a lower priority", admission.Options{MaxRequests: 2},
			[]string{"0/a", "0/a"}, "5/a", -1},
		{"a tenant with many loses its last to one with few", admission.Options{MaxRequests: 4},
			[]string{"0/a", "0/b", "0/a", "0/a"}, "0/c", 3},
		{"and to one that has some less", admission.Options{MaxRequests: 4},
			[]string{"0/a", "0/b", "0/a", "0/a"}, "0/b", 3},
		{"but not to one that would have as many then", admission.Options{MaxRequests: 3},
			[]string{"0/a", "0/b", "0/a"}, "0/b", -1},
		{"nor to itself", admission.Options{MaxRequests: 3},
			[]string{"0/a", "0/a", "0/a"}, "0/a", -1},
		{"in the bound of a band too", admission.Options{Bands: []admission.Band{{Name: "all", MaxRequests: 3}}},
			[]string{"0/a", "0/a", "0/a"}, "0/b", 2},
		{"where there are no tenants nobody loses", admission.Options{MaxRequests: 3, Fairness: admission.FirstCome},
			[]string{"0/a", "0/a", "0/a"}, "0/b", -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, 1, tt.o)
			r.fill(0, 1)
			parse := func(s string) *types.Request {
				var p int
				var tenant string
				if _, err := fmt.Sscanf(strings.Replace(s, "/", " ", 1), "%d %s", &p, &tenant); err != nil {
					t.Fatal(err)
				}
				return request(s, p, tenant)
			}
			var calls []*call
			for _, s := range tt.waiting {
				c := r.offer(parse(s))
				if !c.queued {
					t.Fatalf("%s does not wait: %v", s, c.err)
				}
				calls = append(calls, c)
			}
			last := r.offer(parse(tt.comes))
			for i, c := range calls {
				if lost := c.err != nil; lost != (i == tt.loses) {
					t.Errorf("number %d, %s: %v", i, tt.waiting[i], c.err)
				} else if lost && (c.refusal.Reason != admission.Displaced || c.told != 1) {
					t.Errorf("number %d was told %d times of %v", i, c.told, c.refusal.Reason)
				}
			}
			if refused := last.err != nil; refused != (tt.loses < 0) {
				t.Errorf("what came: %v", last.err)
			} else if refused {
				equal(t, "reason", last.refusal.Reason, admission.QueueFull)
			}
			r.check()
		})
	}
}

func TestRevoke(t *testing.T) {
	r := newRig(t, 1, admission.Options{Revoke: true, Bands: []admission.Band{
		{Name: "critical", Priority: 100, Displace: true}, {Name: "standard", Priority: 0}, {Name: "low", Priority: -1},
	}})
	var asked []string
	run := func(id string, priority int) *call {
		t.Helper()
		c := r.offer(request(id, priority, ""))
		if !c.admitted() {
			t.Fatalf("%s: %v", id, c.err)
		}
		c.OnRevoke(func(f *admission.Refusal) {
			asked = append(asked, id)
			equal(t, "reason", f.Reason, admission.Revoked)
			r.c.Stats() // called without the lock
		})
		c.Booked(r.eps[0])
		c.Booked(r.eps[0])
		return c
	}
	a, b, c := run("a", -1), run("b", -1), run("c", -5)
	s := run("standard", 0)
	notSaid := r.offer(request("cannot be ended", -1, ""))
	notSaid.Booked(r.eps[0])
	r.fill(0, 1)

	want := func(what string, ids ...string) {
		t.Helper()
		if !slices.Equal(asked, ids) {
			t.Errorf("after %s: asked to end %v, want %v", what, asked, ids)
		}
	}
	r.offer(request("x", 0, ""))
	want("a band comes that displaces nobody")
	r.offer(request("x", 100, ""))
	want("one of critical", "c")
	r.offer(request("x", 100, ""))
	want("two", "c", "b")
	a.Done(types.Outcome{})
	r.offer(request("x", 100, ""))
	want("three, and one has ended", "c", "b")
	equal(t, "verdict of one that runs", b.Explain().Verdict, "admitted")
	equal(t, "refused", r.c.Stats().Bands[len(r.c.Stats().Bands)-1].Refused[admission.Revoked], 1)
	r.check()
	for _, one := range []*call{b, c, s, notSaid} {
		one.Done(types.Outcome{Cancelled: true})
	}
	for range 3 {
		b.OnRevoke(func(*admission.Refusal) { t.Error("asked again") })
	}
	r.offer(request("x", 100, ""))
	want("all have ended", "c", "b")
	r.check()
}

// TestOnlyLowerOnesAreRevoked: a band that displaces takes no place of its own or above.
func TestOnlyLowerOnesAreRevoked(t *testing.T) {
	r := newRig(t, 1, admission.Options{Revoke: true, Bands: []admission.Band{{Name: "all", Displace: true}}})
	for _, p := range []int{-5, -1} {
		c := r.offer(request("runs", p, ""))
		c.OnRevoke(func(*admission.Refusal) { t.Errorf("priority %d is asked to end for one of -5", p) })
		c.Booked(r.eps[0])
	}
	r.fill(0, 1)
	r.offer(request("r", -5, ""))
	r.check()
}

// TestRevokeIsAnOption: by the options that hold when a request comes that would need the
// place of one that runs, and where the place would be of use to it.
func TestRevokeIsAnOption(t *testing.T) {
	for _, tt := range []struct {
		name          string
		before, after bool
		elsewhere     bool // the one that comes may not go where the other runs
		want          int
	}{
		{"off", false, false, false, 0},
		{"on", true, true, false, 1},
		{"switched on", false, true, false, 0}, // it was not noted whether it could be
		{"switched off", true, false, false, 0},
		{"of no use", true, true, true, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, 2, admission.Options{Revoke: tt.before})
			asked := 0
			c := r.offer(request("low", -100, ""))
			c.OnRevoke(func(*admission.Refusal) { asked++ })
			c.Booked(r.eps[0])
			require.NoError(t, r.c.Configure(r.with(admission.Options{Revoke: tt.after})))
			r.fill(0, 1)
			r.fill(1, 1)
			a := admission.Arrival{Request: request("high", 100, "")}
			if tt.elsewhere {
				a = only("second", r.eps[1])
				a.Request = request("high", 100, "")
			}
			r.offerAs(a)
			equal(t, "asked", asked, tt.want)
			r.check()
		})
	}
}

// TestInventedIdsAreBounded sends ever new tenants, priorities and sets of candidates.
func TestInventedIdsAreBounded(t *testing.T) {
	const bands, flows, lanes = 5, 10, 3
	for _, fairness := range []admission.Fairness{admission.VirtualTokens, admission.PrefixLocality, admission.FirstCome} {
		t.Run(fairness.String(), func(t *testing.T) {
			r := newRig(t, 1, admission.Options{MaxRequests: 1000, Fairness: fairness,
				Bands:  []admission.Band{{Name: "high", Priority: 100}, {Name: "low", Priority: 0}},
				Tuning: admission.Tuning{MaxBands: bands, MaxFlows: flows, MaxLanes: lanes},
			})
			r.fill(0, 1)
			var calls []*call
			check := func() {
				t.Helper()
				s := r.c.Stats()
				if n := len(s.Bands); n > bands+2 { // and one for those of more in each Band
					t.Fatalf("%d bands, want at most %d", n, bands+2)
				}
				for _, b := range s.Bands {
					if b.Tenants > flows+1 { // and the one that has no name
						t.Fatalf("%d tenants of priority %d, want at most %d", b.Tenants, b.Priority, flows+1)
					}
				}
			}
			for i := range 3000 {
				p := (i*7919)%4001 - 2000
				a := admission.Arrival{Request: request("r", p, fmt.Sprintf("t%d", i)), Candidates: fmt.Sprintf("c%d", i), Match: func(*types.Endpoint) bool { return true }}
				c := r.offerAs(a)
				if c.queued {
					calls = append(calls, c)
					if got := c.Priority(); got > p {
						t.Fatalf("priority %d was raised to %d", p, got)
					}
				}
				if i%3 == 0 && len(calls) > 10 {
					calls[0].Done(types.Outcome{})
					calls = calls[1:]
				}
				if i%100 == 0 {
					check()
					r.check()
				}
			}
			for i := 1; i < 1000; i++ { // and what is only asked about
				r.c.Explain(admission.Arrival{Request: request("r", i, fmt.Sprintf("e%d", i)), Candidates: fmt.Sprintf("e%d", i), Match: func(*types.Endpoint) bool { return true }})
			}
			check()
			r.check()
			for len(r.drain()) > 0 {
			}
			equal(t, "waiting", r.c.Stats().Queued, 0)
			r.check()
		})
	}
}

// TestTrapPriorityIsNotRaisedByTheBound: where all bands are taken, who sends priority -5
// must not come to wait with 0, before -4.
func TestTrapPriorityIsNotRaisedByTheBound(t *testing.T) {
	r := newRig(t, 1, admission.Options{Bands: []admission.Band{{Name: "high", Priority: 100}, {Name: "low", Priority: 0}}, Tuning: admission.Tuning{MaxBands: 2}})
	r.fill(0, 1)
	for _, one := range []struct{ priority, here int }{{-4, -4}, {-3, -3}, {-5, math.MinInt}, {99, math.MinInt}, {105, 100}} {
		c := r.offer(request(fmt.Sprint(one.priority), one.priority, ""))
		require.True(t, c.queued)
		equal(t, fmt.Sprintf("what priority %d is here", one.priority), c.Priority(), one.here)
	}
	if got, want := r.drain(), []string{"105", "-3", "-4", "-5", "99"}; !slices.Equal(got, want) {
		t.Errorf("let in %v, want %v", got, want)
	}
}

func TestTenantsAreForgotten(t *testing.T) {
	const idle = time.Minute
	r := newRig(t, 1, admission.Options{Tuning: admission.Tuning{FlowIdle: idle}})
	for i := range 500 {
		r.run(r.offer(request("r", 0, fmt.Sprintf("t%d", i))))
	}
	tenants := func() int { return r.c.Stats().Bands[0].Tenants }
	if n := tenants(); n > 500 {
		t.Errorf("%d tenants are known", n)
	}
	r.clock.pass(2 * idle)
	for i := range 500 {
		r.run(r.offer(request("r", 0, fmt.Sprintf("u%d", i))))
		r.clock.pass(idle)
	}
	if n := tenants(); n > 3 {
		t.Errorf("%d tenants are known, all but the last idle for longer than %v", n, idle)
	}
	r.check()
}

func TestUnknownTenantsShareOneFlow(t *testing.T) {
	r := newRig(t, 1, admission.Options{Tenants: map[string]admission.Tenant{"gold": {Weight: 4}, "iron": {}}, Tuning: admission.Tuning{Credit: -1, OutputTokens: 1}})
	r.fill(0, 1)
	for i := range 300 {
		r.offer(request("invented", 0, fmt.Sprintf("invented-%d", i)))
		r.offer(request("none", 0, ""))
		r.offer(request("gold", 0, "gold"))
		r.offer(request("iron", 0, "iron"))
		r.offer(request("gold", 0, "gold"))
		r.offer(request("gold", 0, "gold"))
	}
	equal(t, "tenants", r.c.Stats().Bands[0].Tenants, 3)
	n := map[string]int{}
	for _, id := range r.drain()[:600] {
		n[id]++
	}
	for id, want := range map[string]int{"gold": 400, "iron": 100, "invented": 50, "none": 50} {
		if d := n[id] - want; d < -2 || d > 2 {
			t.Errorf("of 600 %d were of %s, want %d", n[id], id, want)
		}
	}
	equal(t, "tenant in a report", r.c.Explain(admission.Arrival{Request: request("r", 0, "somebody")}).Tenant, "")
	r.check()
}

func TestDeadlineDoesNotOverflow(t *testing.T) {
	r := newRig(t, 1, admission.Options{Bands: []admission.Band{{Name: "all", MaxWait: math.MaxInt64}}})
	r.fill(0, 1)
	c := r.offer(request("r", 0, ""))
	soon := r.offerAs(admission.Arrival{Request: request("r", 0, ""), MaxWait: time.Second})
	r.clock.pass(time.Hour)
	if !c.queued || !c.Waiting() {
		t.Errorf("does not wait for as long as it may: %v", c.err)
	}
	if soon.refusal == nil || soon.refusal.Waited != time.Second {
		t.Errorf("one that waits for a second got %+v", soon.refusal)
	}
	r.check()
}
