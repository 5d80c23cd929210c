package admission_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
)

func TestExplainWhatWaits(t *testing.T) {
	r := newRig(t, 2, admission.Options{Tuning: admission.Tuning{Credit: -1, OutputTokens: 50}}) // each costs 200
	// Two a second were let in of late.
	for range 100 {
		r.clock.pass(500 * time.Millisecond)
		r.run(r.offer(request("x", 100, "")))
	}
	r.run(r.offer(request("x", 0, "b")))
	r.fill(0, 1)
	r.fill(1, 0.9)
	var c *call
	for i, s := range []string{"a", "a", "b", "a", "b", "b"} {
		got := r.offer(request(fmt.Sprint(i), 0, s))
		if i == 3 {
			c = got
		}
	}
	r.offer(request("high", 99, ""))
	r.offer(request("high", 5, "a"))
	r.offer(request("low", -50, "a"))
	r.clock.pass(2 * time.Second)
	got := c.Explain()
	expected := got.Expected
	got.Expected = 0
	// Of its own tenant two are before it; the others' tenant has been served as much:
	// of its requests each goes before one of these.
	want := admission.Report{
		Verdict: "queued", Detail: "none of 2 endpoints is less than 0.8 full",
		Band: "standard", Priority: 0, Tenant: "a", Ceiling: 0.8, Candidates: 2, Room: 0, Saturation: got.Saturation,
		Higher: 2, OtherTenants: got.OtherTenants, OwnTenant: 2, Counter: got.Counter, Least: got.Least,
		Waited: 2 * time.Second, Left: 28 * time.Second,
	}
	equal(t, "report", got, want)
	equal(t, "before", got.Before(), 4+got.OtherTenants)
	if got.OtherTenants < 2 || got.OtherTenants > 3 {
		t.Errorf("%d of another tenant are before it, want 2 or 3", got.OtherTenants)
	}
	if math.Abs(got.Saturation-0.95) > 0.001 {
		t.Errorf("%v full in the mean, want 0.95", got.Saturation)
	}
	if d := expected - time.Duration(float64(got.Before()+1)/2*float64(time.Second)); d.Abs() > time.Second {
		t.Errorf("%d are before it and two a second are let in: expected %v", got.Before(), expected)
	}
	if got.Least > got.Counter {
		t.Errorf("its tenant was served %v, and the one that is next %v", got.Counter, got.Least)
	}
	r.check()
	order := r.drain()
	at := 0
	for order[at] != "3" {
		at++
	}
	if d := at - got.Before(); d < -1 || d > 1 {
		t.Errorf("%d went before it, said were %d: %v", at, got.Before(), order)
	}
	after := c.Explain()
	equal(t, "verdict", after.Verdict, "admitted")
	equal(t, "before", after.Before(), 0)
}

func TestExplainWhatWouldBecome(t *testing.T) {
	req := func(priority int) admission.Arrival { return admission.Arrival{Request: request("r", priority, "t")} }
	for _, tt := range []struct {
		name     string
		arrival  admission.Arrival
		before   func(*rig)
		verdict  string
		reason   admission.Reason
		detail   string
		before_  int
		endpoint int
	}{
		{name: "there is room", arrival: req(0), verdict: "admitted", endpoint: 2},
		{name: "there is none", arrival: req(0), before: func(r *rig) { r.fill(0, 1); r.fill(1, 1) }, verdict: "queued", detail: "none of 2 endpoints is less than 0.8 full", endpoint: 2},
		{name: "and it does not wait", arrival: req(-100), before: func(r *rig) { r.fill(0, 1); r.fill(1, 1) }, verdict: "refused", reason: admission.Saturated, detail: "none of 2 endpoints is less than 0.6 full", endpoint: 2},
		{name: "others wait", arrival: req(0), before: func(r *rig) {
			r.fill(0, 1)
			r.fill(1, 1)
			r.offer(request("x", 0, "t"))
			r.offer(request("x", 100, "t"))
		}, verdict: "queued", detail: "none of 2 endpoints is less than 0.8 full", before_: 2, endpoint: 2},
		{name: "there is room that is somebody else's", arrival: req(0), before: func(r *rig) {
			r.fill(0, 1)
			r.fill(1, 1)
			r.offer(request("x", 0, "u"))
			r.offer(request("x", 0, "u"))
			r.fill(0, 0) // one is let in, and not booked yet
		}, verdict: "queued", detail: "1 requests of its priority or a higher one wait for 2 endpoints", before_: 1, endpoint: 2},
		{name: "no endpoint", arrival: req(0), before: func(r *rig) { r.c.SetEndpoints(nil) }, verdict: "refused", reason: admission.NoEndpoint, detail: "no endpoint could serve it"},
		{name: "closed", arrival: req(0), before: func(r *rig) { r.c.Close() }, verdict: "refused", reason: admission.Closed, detail: "the gateway is shutting down", endpoint: 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, 2, admission.Options{Tuning: admission.Tuning{Credit: -1}})
			if tt.before != nil {
				tt.before(r)
			}
			stats := r.c.Stats()
			counters := r.c.Counters(0)
			r.heard()
			for range 3 { // asking changes nothing
				got := r.c.Explain(tt.arrival)
				equal(t, "verdict", got.Verdict, tt.verdict)
				equal(t, "reason", got.Reason, tt.reason)
				equal(t, "detail", got.Detail, tt.detail)
				equal(t, "before", got.Before(), tt.before_)
				equal(t, "candidates", got.Candidates, tt.endpoint)
			}
			now := r.c.Stats()
			equal(t, "waiting", now.Queued, stats.Queued)
			for tenant, n := range counters {
				equal(t, "counter of "+tenant, r.c.Counters(0)[tenant], n)
			}
			if log := r.heard(); len(log) != 0 {
				t.Errorf("hooks heard %v", log)
			}
			r.check()
		})
	}
}

func TestExplainWhatWasRefused(t *testing.T) {
	r := newRig(t, 1, admission.Options{})
	r.fill(0, 1)
	c := r.offerAs(admission.Arrival{Request: request("r", 0, "t"), MaxWait: time.Second})
	r.clock.pass(time.Second)
	got := c.Explain()
	if got.Verdict != "refused" || got.Reason != admission.TimedOut || got.Detail != "it waited for 1s" {
		t.Errorf("got %v", got)
	}
	gone := r.offer(request("r", 0, "t"))
	gone.Done(types.Outcome{Cancelled: true})
	if got := gone.Explain(); got.Verdict == "queued" {
		t.Errorf("one that was given up: %v", got)
	}
}

func TestReportString(t *testing.T) {
	for _, tt := range []struct {
		r    admission.Report
		want string
	}{
		{
			admission.Report{Verdict: "admitted", Band: "standard", Ceiling: 0.8, Candidates: 3, Room: 2, Saturation: math.NaN()},
			`admitted: priority 0 (standard), tenant ""; 2 of 3 endpoints are less than 0.8 full`,
		},
		{
			admission.Report{Verdict: "refused", Band: "sheddable", Priority: -100, Tenant: "t", Ceiling: 0.5, Candidates: 3, Saturation: 0.987, Detail: "why"},
			`refused: priority -100 (sheddable), tenant "t"; 0 of 3 endpoints are less than 0.5 full, in the mean they are 0.99 full; why`,
		},
		{
			admission.Report{
				Verdict: "queued", Band: "standard", Tenant: "t", Ceiling: 0.8, Candidates: 3, Saturation: 1, Detail: "why",
				Higher: 1, OtherTenants: 2, OwnTenant: 3, Counter: 10.4, Least: 5.6, Waited: 1500 * time.Millisecond, Left: 20 * time.Second, Expected: 3 * time.Second,
			},
			`queued: priority 0 (standard), tenant "t"; 0 of 3 endpoints are less than 0.8 full, in the mean they are 1.00 full; why` + "\n" +
				`before it: 1 of higher priority, 2 of other tenants, 3 of its own; its tenant has had 5 weighted tokens more than the one that is next; waited 1.5s, may wait 20s more, expected 3s`,
		},
	} {
		equal(t, "report", tt.r.String(), tt.want)
	}
}

func TestStats(t *testing.T) {
	r := newRig(t, 2, admission.Options{Tuning: admission.Tuning{OutputTokens: 50}})
	s := r.c.Stats()
	if s.Endpoints != 2 || s.Saturation != 0 || s.Queued != 0 || len(s.Bands) != 0 || s.Rate != 0 {
		t.Errorf("at first: %+v", s)
	}
	for range 50 {
		r.clock.pass(200 * time.Millisecond)
		r.run(r.offer(request("r", 0, "t")))
	}
	run := r.offer(request("r", 0, "t"))
	run.Booked(r.eps[0])
	r.fill(0, 3) // counts as full in the mean
	r.fill(1, 0.9)
	req := request("r", 0, "u")
	req.Body = make([]byte, 77)
	w := r.offer(req)
	r.clock.pass(time.Second)
	r.offer(request("r", 0, "t"))
	r.offer(request("r", -100, "t"))
	r.offer(request("r", 0, "t")).Done(types.Outcome{Cancelled: true})
	s = r.c.Stats()
	if math.Abs(s.Saturation-0.95) > 0.001 || s.Queued != 2 || s.Bytes != 77 || s.Oldest != time.Second || len(s.Bands) != 2 {
		t.Errorf("got %+v", s)
	}
	if s.Rate < 4 || s.Rate > 6 {
		t.Errorf("%v a second, want 5", s.Rate)
	}
	b := s.Bands[0]
	equal(t, "band", fmt.Sprint(b), fmt.Sprint(admission.BandStats{
		Name: "standard", Priority: 0, Ceiling: 0.8, Room: 0, Queued: 2, Bytes: 77, Oldest: time.Second, Running: 1, Tenants: 2,
		BandCounts: admission.BandCounts{Dispatched: 51, Cancelled: 1, Tokens: 51 * 200},
	}))
	equal(t, "refused", s.Bands[1].Refused[admission.Saturated], 1)
	s.Bands[1].Refused[admission.Saturated] = 99 // the caller's to change
	equal(t, "refused", r.c.Stats().Bands[1].Refused[admission.Saturated], 1)
	r.c.Remove(r.eps[0])
	r.c.Remove(r.eps[1])
	if s := r.c.Stats(); s.Endpoints != 0 || !math.IsNaN(s.Saturation) {
		t.Errorf("without endpoints: %+v", s)
	}
	if w.refusal == nil {
		t.Error("waits for endpoints that are gone")
	}
}

func TestReasons(t *testing.T) {
	seen := map[admission.Reason]bool{}
	for _, r := range admission.Reasons() {
		if seen[r] || r == "" {
			t.Errorf("%q is there twice, or empty", r)
		}
		seen[r] = true
		equal(t, string(r)+" is unavailable", r.Unavailable(), r == admission.NoEndpoint || r == admission.Closed)
	}
}
