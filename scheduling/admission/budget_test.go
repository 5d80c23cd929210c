package admission_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

func TestBudgets(t *testing.T) {
	const step = time.Second
	type arrival struct {
		after         time.Duration
		tenant, model string
		prompt        int
		want          admission.Reason // empty: let in
		retry         time.Duration
	}
	for _, tt := range []struct {
		name    string
		budgets []admission.Budget
		o       admission.Options
		arrive  []arrival
	}{
		{"requests of all", []admission.Budget{{RequestsPerMinute: 3}}, admission.Options{}, []arrival{
			{0, "a", "m", 1, "", 0}, {0, "b", "n", 1, "", 0}, {0, "", "", 1, "", 0},
			{0, "c", "m", 1, admission.Requests, 21 * step}, // one comes in 20 s: a second more is sure to be enough
			{19 * step, "c", "m", 1, admission.Requests, 2 * step},
			{2 * step, "c", "m", 1, "", 0},
			{0, "c", "m", 1, admission.Requests, 20 * step}, // a second of the next is there
		}},
		{"of a tenant", []admission.Budget{{Tenant: "a", RequestsPerMinute: 1}}, admission.Options{}, []arrival{
			{0, "a", "m", 1, "", 0}, {0, "a", "n", 1, admission.Requests, 61 * step}, {0, "b", "m", 1, "", 0}, {0, "", "m", 1, "", 0},
		}},
		{"of a model", []admission.Budget{{Model: "m", RequestsPerMinute: 1}}, admission.Options{}, []arrival{
			{0, "a", "m", 1, "", 0}, {0, "b", "m", 1, admission.Requests, 61 * step}, {0, "b", "n", 1, "", 0},
		}},
		{"of a tenant with a model", []admission.Budget{{Tenant: "a", Model: "m", RequestsPerMinute: 1}}, admission.Options{}, []arrival{
			{0, "a", "m", 1, "", 0}, {0, "a", "m", 1, admission.Requests, 61 * step}, {0, "a", "n", 1, "", 0}, {0, "b", "m", 1, "", 0},
		}},
		{"of each tenant", []admission.Budget{{Tenant: "*", RequestsPerMinute: 1}}, admission.Options{}, []arrival{
			{0, "a", "m", 1, "", 0}, {0, "b", "m", 1, "", 0}, {0, "a", "n", 1, admission.Requests, 61 * step}, {0, "", "n", 1, "", 0},
		}},
		{"of each tenant with each model", []admission.Budget{{Tenant: "*", Model: "*", RequestsPerMinute: 1}}, admission.Options{}, []arrival{
			{0, "a", "m", 1, "", 0}, {0, "a", "n", 1, "", 0}, {0, "b", "m", 1, "", 0}, {0, "a", "n", 1, admission.Requests, 61 * step},
		}},
		{"of tenants that nobody knows together", []admission.Budget{{Tenant: "*", RequestsPerMinute: 2}}, admission.Options{Tenants: map[string]admission.Tenant{"a": {}}}, []arrival{
			{0, "x", "m", 1, "", 0}, {0, "y", "m", 1, "", 0}, {0, "z", "n", 1, admission.Requests, 31 * step}, {0, "a", "n", 1, "", 0},
		}},
		{"tokens", []admission.Budget{{TokensPerMinute: 600}}, admission.Options{Tuning: admission.Tuning{OutputTokens: 50}}, []arrival{
			{0, "a", "m", 250, "", 0}, {0, "a", "m", 249, "", 0}, {0, "a", "m", 1, admission.Tokens, 6 * step}, // 1 is left of the 51 that it wants
			{5 * step, "a", "m", 1, "", 0},
		}},
		{"a request larger than the whole budget passes when that is full", []admission.Budget{{TokensPerMinute: 60}}, admission.Options{Tuning: admission.Tuning{OutputTokens: 1}}, []arrival{
			{0, "a", "m", 119, "", 0}, {0, "a", "m", 119, admission.Tokens, 121 * step}, {119 * step, "a", "m", 119, admission.Tokens, 2 * step}, {2 * step, "a", "m", 119, "", 0},
		}},
		{"burst", []admission.Budget{{RequestsPerMinute: 1, Burst: 3}}, admission.Options{}, []arrival{
			{0, "a", "m", 1, "", 0}, {0, "a", "m", 1, "", 0}, {0, "a", "m", 1, "", 0}, {0, "a", "m", 1, admission.Requests, 61 * step},
			{time.Hour, "a", "m", 1, "", 0}, {0, "a", "m", 1, "", 0}, {0, "a", "m", 1, "", 0}, {0, "a", "m", 1, admission.Requests, 61 * step},
		}},
		{"the one that takes the longest says when", []admission.Budget{{RequestsPerMinute: 60, Burst: 1.0 / 60}, {Tenant: "a", TokensPerMinute: 60}}, admission.Options{Tuning: admission.Tuning{OutputTokens: 1}}, []arrival{
			{0, "a", "m", 59, "", 0}, {0, "a", "m", 29, admission.Tokens, 31 * step}, {0, "b", "m", 29, admission.Requests, 2 * step},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.Budgets = tt.budgets
			r := newRig(t, 1, tt.o)
			for i, a := range tt.arrive {
				r.clock.pass(a.after)
				req := request("r", 0, a.tenant)
				req.Model, req.Prompt.Tokens = a.model, a.prompt
				c := r.offer(req)
				var why admission.Reason
				var retry time.Duration
				if c.refusal != nil {
					why, retry = c.refusal.Reason, c.refusal.RetryAfter
					require.Contains(t, c.refusal.Detail, "per minute")
				}
				if why != a.want || retry != a.retry {
					t.Errorf("number %d: %q %v, want %q %v", i, why, retry, a.want, a.retry)
				}
				if c.Ticket != nil { // it takes what was expected
					r.run(c)
				}
			}
			r.check()
		})
	}
}

// TestRetryAfterOfBudgetsIsEnough comes again exactly then, and a second earlier.
func TestRetryAfterOfBudgetsIsEnough(t *testing.T) {
	for _, b := range []admission.Budget{
		{RequestsPerMinute: 7}, {RequestsPerMinute: 0.3}, {TokensPerMinute: 977}, {TokensPerMinute: 31, Burst: 3}, {RequestsPerMinute: 91, TokensPerMinute: 1234.5, Burst: 0.1},
	} {
		r := newRig(t, 1, admission.Options{Budgets: []admission.Budget{b}, Tuning: admission.Tuning{OutputTokens: 13}})
		for range 200 {
			c := r.offer(request("r", 0, "t"))
			if c.err == nil {
				r.run(c)
				continue
			}
			wait := c.refusal.RetryAfter
			if wait < time.Second || wait%time.Second != 0 {
				t.Fatalf("%v: come again after %v, want whole seconds", b, wait)
			}
			if wait > time.Second {
				r.clock.pass(wait - time.Second - time.Millisecond)
				if c := r.offer(request("r", 0, "t")); c.err == nil {
					t.Fatalf("%v: let in more than a second before the %v that were said", b, wait)
				}
				r.clock.pass(time.Second + time.Millisecond)
			} else {
				r.clock.pass(wait)
			}
			if c := r.offer(request("r", 0, "t")); c.err != nil {
				t.Fatalf("%v: came again after %v: %v", b, wait, c.err)
			} else {
				r.run(c)
			}
		}
	}
}

// TestBudgetsPayForWhatIsServed: what is refused, or given up while it waits, takes
// nothing, and what ends takes what it took.
func TestBudgetsPayForWhatIsServed(t *testing.T) {
	newRig := func(t *testing.T) *rig {
		return newRig(t, 1, admission.Options{MaxRequests: 1, Budgets: []admission.Budget{{RequestsPerMinute: 10, TokensPerMinute: 400, Burst: 1}}, Tuning: admission.Tuning{OutputTokens: 100}})
	}
	left := func(t *testing.T, r *rig, tokens int) {
		t.Helper()
		r.fill(0, 0)
		req := request("r", 0, "t")
		req.Prompt.Tokens, req.MaxTokens = tokens, 1
		req.Prompt.Tokens--
		req2 := *req
		req2.Prompt.Tokens++
		if c := r.offer(&req2); c.err == nil || c.refusal.Reason != admission.Tokens {
			t.Errorf("more than %d tokens are left: %v", tokens, c.err)
		}
		if c := r.offer(req); c.err != nil {
			t.Errorf("less than %d tokens are left: %v", tokens, c.err)
		}
		r.check()
	}
	usage := func(in, out float64) types.Outcome {
		return types.Outcome{Usage: types.Usage{PromptTokens: types.Known(in), CompletionTokens: types.Known(out)}}
	}
	t.Run("let in", func(t *testing.T) {
		r := newRig(t)
		r.offer(request("r", 0, "t"))
		left(t, r, 200)
	})
	t.Run("ended with less", func(t *testing.T) {
		r := newRig(t)
		r.offer(request("r", 0, "t")).Done(usage(100, 50))
		left(t, r, 250)
	})
	t.Run("ended with more", func(t *testing.T) {
		r := newRig(t)
		r.offer(request("r", 0, "t")).Done(usage(120, 110))
		left(t, r, 170)
	})
	t.Run("never got to a server", func(t *testing.T) {
		r := newRig(t)
		r.offer(request("r", 0, "t")).Done(types.Outcome{Cancelled: true})
		r.offer(request("r", 0, "t"))
		left(t, r, 200)
	})
	t.Run("given up", func(t *testing.T) {
		r := newRig(t)
		r.offer(request("r", 0, "t"))
		r.fill(0, 1)
		r.offer(request("r", 0, "t")).Done(types.Outcome{Cancelled: true})
		left(t, r, 200)
	})
	t.Run("timed out", func(t *testing.T) {
		r := newRig(t)
		r.offer(request("r", 0, "t"))
		r.fill(0, 1)
		r.offerAs(admission.Arrival{Request: request("r", 0, "t"), MaxWait: time.Nanosecond})
		r.clock.pass(time.Nanosecond)
		left(t, r, 200)
	})
	t.Run("refused", func(t *testing.T) {
		r := newRig(t)
		r.offer(request("r", 0, "t"))
		r.fill(0, 1)
		for range 20 {
			r.offer(request("r", -100, "t"))
		}
		left(t, r, 200)
	})
	t.Run("refused by another budget", func(t *testing.T) {
		r := newRig(t)
		configure(t, r, admission.Options{Budgets: []admission.Budget{{RequestsPerMinute: 10, TokensPerMinute: 400}, {Tenant: "other", RequestsPerMinute: 0.001, Burst: 0.01}}, Tuning: admission.Tuning{OutputTokens: 100}})
		r.offer(request("r", 0, "other")).Done(usage(0, 0))
		for range 20 {
			if c := r.offer(request("r", 0, "other")); c.err == nil {
				t.Fatal("let in")
			}
		}
		r.offer(request("r", 0, "t"))
		left(t, r, 200)
	})
}

func TestBudgetsChange(t *testing.T) {
	r := newRig(t, 1, admission.Options{Budgets: []admission.Budget{{Tenant: "*", TokensPerMinute: 1e6}}, Tuning: admission.Tuning{OutputTokens: 1}})
	let := func(n int, want admission.Reason) {
		t.Helper()
		for i := range n {
			if c := r.offer(request("r", 0, "t")); c.err != nil {
				t.Fatalf("number %d of %d: %v", i, n, c.err)
			} else {
				r.run(c)
			}
		}
		if c := r.offer(request("r", 0, "t")); want == "" != (c.err == nil) || c.err != nil && c.refusal.Reason != want {
			t.Fatalf("one more than %d: %v, want %q", n, c.err, want)
		}
	}
	let(1000, "")
	// Requests that nobody counted are not held against the tenant.
	configure(t, r, admission.Options{Budgets: []admission.Budget{{Tenant: "other", RequestsPerMinute: 1}, {Tenant: "*", RequestsPerMinute: 5, TokensPerMinute: 1e6}}, Tuning: admission.Tuning{OutputTokens: 1}})
	let(5, admission.Requests)
	// What was used is used, whatever the order of the list.
	configure(t, r, admission.Options{Budgets: []admission.Budget{{Tenant: "*", RequestsPerMinute: 5}}, Tuning: admission.Tuning{OutputTokens: 1}})
	let(0, admission.Requests)
	configure(t, r, admission.Options{Budgets: []admission.Budget{{Tenant: "*", RequestsPerMinute: 1}}, Tuning: admission.Tuning{OutputTokens: 1}})
	let(0, admission.Requests)
	configure(t, r, admission.Options{Tuning: admission.Tuning{OutputTokens: 1}})
	let(100, "")
}

// TestMetersAreBounded: a budget for each tenant keeps account of so many and no more.
func TestMetersAreBounded(t *testing.T) {
	n := 50_000
	if raceEnabled || testing.Short() {
		n = 25_000
	}
	r := newRig(t, 1, admission.Options{Budgets: []admission.Budget{{Tenant: "*", Model: "*", RequestsPerMinute: 1}}, Tuning: admission.Tuning{MaxFlows: 100_000}})
	for i := range n {
		req := request("r", 0, "t")
		req.Model = fmt.Sprintf("m%d", i)
		c := r.offer(req)
		require.NoError(t, c.err)
		c.Booked(r.eps[0])
		c.Done(types.Outcome{})
	}
	r.check() // how many there are, too
	req := request("r", 0, "t")
	req.Model = fmt.Sprintf("m%d", n-1)
	if c := r.offer(req); c.err == nil {
		t.Error("the last one is forgotten")
	}
}
