package admission_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

func TestConfigureWithWhatWaits(t *testing.T) {
	t.Run("ceilings", func(t *testing.T) {
		r := newRig(t, 1, admission.Options{})
		r.fill(0, 0.9)
		c := r.offer(request("r", 0, ""))
		bands := threeBands()
		bands[1].Ceiling = 0.95
		configure(t, r, admission.Options{Bands: bands})
		if !c.queued || !c.admitted() {
			t.Errorf("not let in by a higher ceiling: %v", c.err)
		}
	})
	t.Run("detector", func(t *testing.T) {
		r := newRig(t, 1, admission.Options{})
		r.fill(0, 1)
		c := r.offer(request("r", 0, ""))
		configure(t, r, admission.Options{Detector: admission.DetectorFunc(func(admission.Query, *types.Endpoint) float64 { return 0 })})
		if !c.admitted() {
			t.Errorf("not let in by another detector: %v", c.err)
		}
	})
	t.Run("order", func(t *testing.T) {
		r := newRig(t, 1, admission.Options{})
		r.fill(0, 1)
		for i, wait := range []time.Duration{20, 10, 30, 5} {
			r.offerAs(admission.Arrival{Request: request(fmt.Sprint(i), 0, "t"), MaxWait: wait * time.Second})
		}
		configure(t, r, admission.Options{Tuning: admission.Tuning{Order: admission.EarliestDeadline}})
		r.check()
		if got := r.drain(); !slices.Equal(got, []string{"3", "1", "0", "2"}) {
			t.Errorf("let in %v", got)
		}
		r.fill(0, 1)
		for i, wait := range []time.Duration{20, 10, 30, 5} {
			r.offerAs(admission.Arrival{Request: request(fmt.Sprint(i), 0, "t"), MaxWait: wait * time.Second})
		}
		configure(t, r, admission.Options{Fairness: admission.PrefixLocality})
		r.check()
		if got := r.drain(); !slices.Equal(got, []string{"0", "1", "2", "3"}) {
			t.Errorf("let in %v", got)
		}
	})
	t.Run("weights", func(t *testing.T) {
		r := newRig(t, 1, admission.Options{Tenants: map[string]admission.Tenant{"a": {}, "b": {}}, Tuning: admission.Tuning{Credit: -1}})
		r.fill(0, 1)
		for range 40 {
			r.offer(request("a", 0, "a"))
			r.offer(request("b", 0, "b"))
		}
		configure(t, r, admission.Options{Tenants: map[string]admission.Tenant{"a": {Weight: 3}, "b": {}}, Tuning: admission.Tuning{Credit: -1}})
		a := 0
		for _, id := range r.drain()[:40] {
			if id == "a" {
				a++
			}
		}
		if a < 29 || a > 31 {
			t.Errorf("of 40 that waited %d were of the tenant with three times the weight, want 30", a)
		}
	})
	t.Run("bands", func(t *testing.T) {
		r := newRig(t, 1, admission.Options{})
		r.fill(0, 1)
		c := r.offer(request("r", 50, ""))
		configure(t, r, admission.Options{Bands: []admission.Band{{Name: "first", Priority: 50, Ceiling: 2}, {Name: "second", Ceiling: 1}}})
		equal(t, "band", c.Band(), "first")
		if !c.admitted() {
			t.Errorf("not let in: %v", c.err)
		}
	})
	t.Run("what waits stays where nothing waits any more", func(t *testing.T) {
		r := newRig(t, 1, admission.Options{})
		r.fill(0, 1)
		c := r.offer(request("r", 0, ""))
		configure(t, r, admission.Options{MaxRequests: 1, Bands: []admission.Band{{Name: "all", MaxRequests: -1, MaxWait: time.Second}}})
		r.clock.pass(29 * time.Second)
		if !c.Waiting() {
			t.Errorf("lost its place or its deadline: %v", c.err)
		}
		if n := r.offer(request("r", 0, "")); n.refusal == nil || n.refusal.Reason != admission.Saturated {
			t.Errorf("what comes is not judged by the new options: %v", n.err)
		}
		r.clock.pass(time.Second)
		if c.refusal == nil || c.refusal.Reason != admission.TimedOut {
			t.Errorf("got %v after its deadline", c.err)
		}
	})
	t.Run("an error changes nothing", func(t *testing.T) {
		r := newRig(t, 1, admission.Options{})
		r.fill(0, 0.9)
		c := r.offer(request("r", 0, ""))
		if err := r.c.Configure(admission.Options{MaxRequests: -1}); err == nil {
			t.Fatal("no error")
		}
		if !c.Waiting() || r.c.Stats().Bands[0].Name != "standard" {
			t.Error("something is changed")
		}
		r.check()
	})
}

func configure(t *testing.T, r *rig, o admission.Options) {
	t.Helper()
	require.NoError(t, r.c.Configure(r.with(o)))
	r.check()
}

func TestOptionsErrors(t *testing.T) {
	band := func(edit func(*admission.Band)) admission.Options {
		b := threeBands()
		edit(&b[1])
		return admission.Options{Bands: b}
	}
	nan := func() float64 { z := 0.0; return z / z }()
	budget := func(b admission.Budget) admission.Options {
		b.Tenant, b.Model = "acme", "*"
		return admission.Options{Budgets: []admission.Budget{b}}
	}
	for _, tt := range []struct {
		o    admission.Options
		want []string // parts of the message
	}{
		{admission.Options{MaxRequests: -1}, []string{"maxRequests is -1"}},
		{admission.Options{Tuning: admission.Tuning{MaxBytes: -1}}, []string{"maxBytes is -1"}},
		{admission.Options{Tuning: admission.Tuning{MaxBands: -1}}, []string{"maxBands is -1"}},
		{admission.Options{Tuning: admission.Tuning{MaxLanes: -2}}, []string{"maxLanes is -2"}},
		{admission.Options{Tuning: admission.Tuning{MaxFlows: -3}}, []string{"maxFlows is -3"}},
		{admission.Options{Tuning: admission.Tuning{OutputTokens: -3}}, []string{"outputTokens is -3"}},
		{admission.Options{Tuning: admission.Tuning{FlowIdle: -time.Second}}, []string{"flowIdle is -1s"}},
		{admission.Options{Tuning: admission.Tuning{MaxRetryAfter: -time.Second}}, []string{"maxRetryAfter is -1s"}},
		{admission.Options{Tuning: admission.Tuning{MetricsTTL: -time.Second}}, []string{"metricsTTL is -1s"}},
		{admission.Options{WaitForEndpoints: -time.Second}, []string{"waitForEndpoints is -1s"}},
		{admission.Options{Tuning: admission.Tuning{InputWeight: -1}}, []string{"inputWeight is -1"}},
		{admission.Options{Tuning: admission.Tuning{OutputWeight: nan}}, []string{"outputWeight is NaN"}},
		{admission.Options{Tuning: admission.Tuning{Quantum: -1}}, []string{"quantum is -1"}},
		{admission.Options{Tuning: admission.Tuning{Credit: nan}}, []string{"credit is NaN"}},
		{admission.Options{Fairness: 9}, []string{"fairness is", "virtual-tokens"}},
		{admission.Options{Tuning: admission.Tuning{Order: 9}}, []string{"order is", "earliest-deadline"}},
		{band(func(b *admission.Band) { b.Name = "" }), []string{"bands[1].name is required"}},
		{band(func(b *admission.Band) { b.Name = "critical" }), []string{"bands[1]", `name is "critical", as that of another band`}},
		{band(func(b *admission.Band) { b.Priority = 100 }), []string{"bands[1]", "priority is 100", `"critical"`}},
		{band(func(b *admission.Band) { b.Ceiling = -1 }), []string{"bands[1]", "ceiling is -1"}},
		{band(func(b *admission.Band) { b.Ceiling = nan }), []string{"bands[1]", "ceiling is NaN"}},
		{band(func(b *admission.Band) { b.Ceiling = 2 }), []string{"bands[1]", "ceiling is 2", "above the 1", `"critical"`}},
		{band(func(b *admission.Band) { b.ModestCeiling = 0.1 }), []string{"bands[1]", "modestCeiling is 0.1", "0.8"}},
		{band(func(b *admission.Band) { b.ModestCeiling = 3 }), []string{"bands[1]", "modestCeiling is 3", `"critical"`}},
		{band(func(b *admission.Band) { b.ModestCeiling = nan }), []string{"bands[1]", "modestCeiling is NaN"}},
		{band(func(b *admission.Band) { b.MaxRequests = -2 }), []string{"bands[1]", "maxRequests is -2"}},
		{band(func(b *admission.Band) { b.MaxBytes = -2 }), []string{"bands[1]", "maxBytes is -2"}},
		{band(func(b *admission.Band) { b.MaxWait = -2 }), []string{"bands[1]", "maxWait is -2ns"}},
		{band(func(b *admission.Band) { b.Floor = 0.6 }), []string{"bands[1]", "floor is 0.6"}},
		{band(func(b *admission.Band) { b.Floor, b.MaxRequests = 0.1, -1 }), []string{"bands[1]", "floor is 0.1", "maxRequests is -1"}},
		{admission.Options{Bands: []admission.Band{{Name: "a", Priority: 2, Floor: 0.5}, {Name: "b", Priority: 1, Floor: 0.5}}}, []string{"bands", "floors", "add up to 1"}},
		{admission.Options{Tenants: map[string]admission.Tenant{"acme": {Weight: 2000}}}, []string{`tenants["acme"]`, "weight is 2000"}},
		{admission.Options{Tenants: map[string]admission.Tenant{"acme": {Weight: -1}}}, []string{`tenants["acme"]`, "weight is -1"}},
		{admission.Options{Tenants: map[string]admission.Tenant{"acme": {Weight: nan}}}, []string{`tenants["acme"]`, "weight is NaN"}},
		{budget(admission.Budget{}), []string{"budgets[0]", "neither"}},
		{budget(admission.Budget{RequestsPerMinute: -1}), []string{"budgets[0]", "requestsPerMinute is -1"}},
		{budget(admission.Budget{TokensPerMinute: nan}), []string{"budgets[0]", "tokensPerMinute is NaN"}},
		{budget(admission.Budget{TokensPerMinute: 1, Burst: 0.001}), []string{"budgets[0]", "burst is 0.001"}},
		{admission.Options{Budgets: []admission.Budget{{Tenant: "a", RequestsPerMinute: 1}, {Tenant: "a", TokensPerMinute: 1}}}, []string{"budgets[1]", `tenant "a"`, "another"}},
		{admission.Options{Budgets: make([]admission.Budget, 1001)}, []string{"1001 entries"}},
		{admission.Options{MaxRequests: -1, Bands: band(func(b *admission.Band) { b.MaxWait = -2 }).Bands, Tuning: admission.Tuning{MaxBytes: -1}}, []string{"maxRequests", "maxBytes", "bands[1].maxWait"}},
	} {
		err := tt.o.Validate()
		if err == nil {
			t.Errorf("no error, want one of %q", tt.want)
			continue
		}
		for _, one := range err.(interface{ Unwrap() []error }).Unwrap() {
			if !strings.HasPrefix(one.Error(), "admission: ") {
				t.Errorf("%q does not say whose it is", one)
			}
		}
		for _, part := range tt.want {
			require.Contains(t, err.Error(), part)
		}
		if _, err := admission.New(tt.o); err == nil {
			t.Errorf("New takes what Validate does not: %q", tt.want)
		}
	}
}

func TestOptionsAreGoodAsTheyAre(t *testing.T) {
	require.NoError(t, (admission.Options{}).Validate(), "the zero value")
	require.NoError(t, (admission.Options{Bands: admission.DefaultBands()}).Validate(), "the default bands")
	c, err := admission.New(admission.Options{})
	require.NoError(t, err)
	// What the caller gave stays his.
	bands := threeBands()
	slices.Reverse(bands)
	tenants := map[string]admission.Tenant{"a": {}}
	budgets := []admission.Budget{{RequestsPerMinute: 5}}
	require.NoError(t, c.Configure(admission.Options{Bands: bands, Tenants: tenants, Budgets: budgets}))
	equal(t, "the caller's bands", bands[0].Name, "sheddable")
	equal(t, "their priority", bands[0].Priority, -100)
	equal(t, "the caller's tenants", tenants["a"].Weight, 0)
	equal(t, "the caller's budgets", budgets[0].Burst, 0)

	for f, want := range map[admission.Fairness]string{admission.VirtualTokens: "virtual-tokens", admission.PrefixLocality: "prefix-locality", admission.FirstCome: "first-come", 77: "invalid"} {
		equal(t, "name", f.String(), want)
	}
	for o, want := range map[admission.Order]string{admission.FIFO: "fifo", admission.EarliestDeadline: "earliest-deadline", 77: "invalid"} {
		equal(t, "name", o.String(), want)
	}
}
