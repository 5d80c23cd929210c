package telemetry_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/scheduling/telemetry"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// gate is an admission control of the pool "llama" with one endpoint, whose hooks count.
type gate struct {
	*admission.Controller
	t       testing.TB
	metrics *telemetry.Metrics
	clock   *gateClock
	ep      *types.Endpoint
}

// gateClock is stopped but for pass.
type gateClock struct {
	now    time.Time
	timers []gateTimer
}

type gateTimer struct {
	at time.Time
	f  *func()
}

func (c *gateClock) Now() time.Time { return c.now }

func (c *gateClock) AfterFunc(d time.Duration, f func()) func() {
	c.timers = append(c.timers, gateTimer{c.now.Add(d), &f})
	return func() { f = nil }
}

func (c *gateClock) pass(d time.Duration) {
	c.now = c.now.Add(d)
	due := c.timers
	c.timers = nil
	for _, t := range due {
		if t.at.After(c.now) {
			c.timers = append(c.timers, t)
		} else if f := *t.f; f != nil {
			f()
		}
	}
}

// newGate returns a gate that lets two requests of whatever kind in at one time.
func newGate(t testing.TB, to telemetry.Options, o admission.Options) *gate {
	t.Helper()
	g := &gate{t: t, clock: &gateClock{now: time.Unix(1_700_000_000, 0)}, ep: endpoint("default/pod-0")}
	to.Now = g.clock.Now
	to.Admissions = func(yield func(types.NamespacedName, admission.Stats) bool) { yield(pool, g.Stats()) }
	g.metrics = newMetrics(t, to)
	if o.Detector == nil {
		o.Detector = admission.Concurrency{Requests: 2}
	}
	o.Clock = g.clock
	o.Hooks = g.metrics.AdmissionHooks(pool, o)
	var err error
	if g.Controller, err = admission.New(o); err != nil {
		t.Fatal(err)
	}
	g.SetEndpoints([]*types.Endpoint{g.ep})
	return g
}

func tenantRequest(model, tenant string, priority int) *types.Request {
	req := request(model, "")
	req.FairnessID, req.Priority = tenant, priority
	return req
}

// offer is a request that does not block.
func (g *gate) offer(req *types.Request) (*admission.Ticket, error) {
	g.t.Helper()
	t, _, err := g.Offer(admission.Arrival{Request: req}, func(error) {})
	return t, err
}

// run lets a request in that must have room, and books it.
func (g *gate) run(req *types.Request) (end func()) {
	g.t.Helper()
	t, err := g.offer(req)
	if err != nil || t.Waiting() {
		g.t.Fatalf("no room: %v", err)
	}
	return g.book(t)
}

// book books a request that was let in.
func (g *gate) book(t *admission.Ticket) (end func()) {
	cost := types.Booking{Requests: 1, Prefilling: 1, PrefillTokens: 10, ContextTokens: 10}
	g.ep.Load.Book(cost)
	t.Booked(g.ep)
	return func() {
		g.ep.Load.Release(cost)
		t.Done(served)
	}
}

func (g *gate) want(series string) {
	g.t.Helper()
	check(g.t, scrape(g.t, g.metrics), series)
}

func TestAdmission(t *testing.T) {
	var heard []string
	g := newGate(t, telemetry.Options{}, admission.Options{
		Tenants: map[string]admission.Tenant{"acme": {}},
		Hooks: admission.Hooks{
			Queued:     func(*admission.Ticket) { heard = append(heard, "queued") },
			Dispatched: func(*admission.Ticket, time.Duration) { heard = append(heard, "dispatched") },
			Refused:    func(*admission.Ticket, *admission.Refusal) { heard = append(heard, "refused") },
			Cancelled:  func(*admission.Ticket, time.Duration) { heard = append(heard, "cancelled") },
			Finished:   func(*admission.Ticket, types.Outcome) { heard = append(heard, "finished") },
		},
	})
	g.want(`
		0 inferpick_admission_queued_requests{pool="llama"}
		0 inference_extension_flow_control_pool_saturation{inference_pool="llama"}
	`)
	end := g.run(tenantRequest("chat", "acme", types.PriorityCritical))
	g.run(tenantRequest("chat", "somebody", types.PriorityStandard))
	waits, err := g.offer(tenantRequest("chat", "somebody", types.PriorityStandard))
	if err != nil || !waits.Waiting() {
		t.Fatalf("Offer: %v", err)
	}
	g.clock.pass(500 * time.Millisecond)
	gone, _ := g.offer(tenantRequest("chat", "", types.PriorityStandard))
	if _, err := g.offer(tenantRequest("chat", "acme", types.PrioritySheddable)); err == nil {
		t.Fatal("a sheddable request is not refused")
	}
	g.clock.pass(1500 * time.Millisecond)
	g.want(`
		2 inferpick_admission_queued_requests{pool="llama"}
		2 inference_extension_flow_control_queue_size{inference_pool="llama",priority="0"}
		32 inference_extension_flow_control_queue_bytes{inference_pool="llama",priority="0"}
		0 inference_extension_flow_control_queue_size{inference_pool="llama",priority="100"}
		2 inferpick_admission_queue_oldest_seconds{pool="llama",priority="0"}
		0 inferpick_admission_queue_oldest_seconds{pool="llama",priority="100"}
		1 inferpick_admission_running_requests{pool="llama",priority="0"}
		1 inferpick_admission_running_requests{pool="llama",priority="100"}
		1 inferpick_admission_tenants{pool="llama",priority="0"}
		0 inferpick_admission_endpoints_with_room{pool="llama",priority="0"}
		1 inference_extension_flow_control_pool_saturation{inference_pool="llama"}
	`)
	gone.Done(types.Outcome{Cancelled: true})
	end()
	require.False(t, waits.Waiting(), "a place is free and nobody takes it")
	g.book(waits)()
	duration := func(tenant, outcome, priority, part string) string {
		return `inference_extension_flow_control_request_queue_duration_seconds_` + part + `{fairness_id="` + tenant +
			`",inference_pool="llama",model_name="chat",outcome="` + outcome + `",priority="` + priority + `",target_model_name="chat"}`
	}
	g.want(`
		1 ` + duration("acme", "Dispatched", "100", "count") + `
		0 ` + duration("acme", "Dispatched", "100", "sum") + `
		2 ` + duration("other", "Dispatched", "0", "count") + `
		2 ` + duration("other", "Dispatched", "0", "sum") + `
		1.5 ` + duration("", "EvictedContextCancelled", "0", "sum") + `
		1 ` + duration("acme", "RejectedCapacity", "-100", "count") + `
		0 inferpick_admission_queued_requests{pool="llama"}
		2 inferpick_admission_queued_total{pool="llama",priority="0"}
		2 inferpick_admission_dispatched_total{pool="llama",priority="0"}
		1 inferpick_admission_dispatched_total{pool="llama",priority="100"}
		1 inferpick_admission_cancelled_total{pool="llama",priority="0"}
		1 inferpick_admission_refused_total{pool="llama",priority="-100",reason="saturated"}
		- inferpick_admission_refused_total{pool="llama",priority="0",reason="saturated"}
		1042 inferpick_admission_weighted_tokens_total{pool="llama",priority="0"}
		1042 inferpick_admission_weighted_tokens_total{pool="llama",priority="100"}
		- inferpick_admission_revoked_total{pool="llama",priority="0"}
	`) // 1000 tokens of the prompt, twice 21 of the output
	if got, want := strings.Join(heard, " "), "dispatched dispatched queued queued refused cancelled finished dispatched finished"; got != want {
		t.Errorf("the next hooks heard %s, want %s", got, want)
	}
}

// What becomes of a refused request is told in the words of the Inference Extension, and
// why in ours.
func TestAdmissionRefusals(t *testing.T) {
	g := newGate(t, telemetry.Options{}, admission.Options{})
	h := g.metrics.AdmissionHooks(pool, admission.Options{})
	ticket, err := g.offer(tenantRequest("chat", "", 0))
	require.NoError(t, err)
	for _, r := range append(admission.Reasons(), "unheard of") {
		h.Refused(ticket, &admission.Refusal{Reason: r})
		h.Refused(ticket, &admission.Refusal{Reason: r, Waited: time.Second})
	}
	h.Revoked(ticket)
	outcome := func(name string) string {
		return `inference_extension_flow_control_request_queue_duration_seconds_count{fairness_id="",inference_pool="llama",model_name="chat",outcome="` +
			name + `",priority="0",target_model_name="chat"}`
	}
	g.want(`
		2 ` + outcome("RejectedCapacity") + `
		6 ` + outcome("RejectedOther") + `
		2 ` + outcome("EvictedTTL") + `
		10 ` + outcome("EvictedOther") + `
		1 inferpick_admission_revoked_total{pool="llama",priority="0"}
		4 inferpick_admission_refused_total{pool="llama",priority="0",reason="other"}
	`) // a revoked request is refused no more: its hook is another
	for _, r := range admission.Reasons() {
		if r != admission.Revoked {
			g.want(`2 inferpick_admission_refused_total{pool="llama",priority="0",reason="` + string(r) + `"}`)
		}
	}
	// The reasons are codes of the refusals that a director tells of, too.
	for _, r := range admission.Reasons() {
		g.metrics.Refused(request("chat", ""), pool, string(r), 429)
		g.want(`1 inferpick_refused_requests_total{error_code="` + string(r) + `",pool="llama"}`)
	}
}

// Ids of tenants, names of models and priorities make no more series than they may.
func TestTrapClientsMakeSeriesOfQueues(t *testing.T) {
	const most = 20
	g := newGate(t, telemetry.Options{MaxQueueSeries: most, MaxModels: 30}, admission.Options{Tenants: map[string]admission.Tenant{"a": {}, "b": {}, "other": {}},
		Detector: admission.DetectorFunc(func(admission.Query, *types.Endpoint) float64 { return 0 }),
		Tuning:   admission.Tuning{MaxBands: 1000},
	})
	for i := range 2000 {
		tenant := fmt.Sprint("tenant-", i)
		if i%3 == 0 {
			tenant = []string{"a", "b", "other", ""}[i/3%4]
		}
		ticket, err := g.offer(tenantRequest(fmt.Sprint("model-", i%100), tenant, i%50))
		require.NoError(t, err)
		ticket.Done(served)
	}
	count, sum := map[string]int{}, map[string]float64{}
	for _, f := range parse(t, exposition(t, g.metrics)) {
		for _, s := range f.series {
			count[s.of]++
			sum[s.of] += s.value
			for _, l := range s.labels {
				if l[0] == "fairness_id" && !strings.Contains("a b other", l[1]) {
					t.Fatalf("series of the tenant %q", l[1])
				}
			}
		}
	}
	waits := "inference_extension_flow_control_request_queue_duration_seconds_count"
	if n, all := count[waits], sum[waits]; n > most+33 || all != 2000 {
		t.Errorf("%d series of %v requests, want at most %d and 2000", n, all, most+33)
	}
	for _, name := range []string{"inferpick_admission_dispatched_total", "inferpick_admission_weighted_tokens_total"} {
		if n := count[name]; n != 33 {
			t.Errorf("%d series of %s, want 32 and one of others", n, name)
		}
	}
	if all := sum["inferpick_admission_dispatched_total"]; all != 2000 {
		t.Errorf("%v requests were counted, want 2000", all)
	}
}

// How full a pool is its admission control says, if it knows; else the readings do.
func TestAdmissionSaturation(t *testing.T) {
	for _, tt := range []struct {
		fill float64
		eps  int
		want string
	}{{0.25, 1, "0.25"}, {math.NaN(), 1, "0.4"}, {0.25, 0, "1"}} {
		var c *admission.Controller
		m := newMetrics(t, telemetry.Options{
			Now: func() time.Time { return time.Unix(1_700_000_000, 0) },
			Pools: func(yield func(types.NamespacedName, []*types.Endpoint) bool) {
				_ = yield(pool, []*types.Endpoint{endpoint("a", schedulingtest.Waiting(2))}[:tt.eps]) && yield(types.NamespacedName{Name: "b"}, []*types.Endpoint{endpoint("b", schedulingtest.Waiting(1))})
			},
			Admissions: func(yield func(types.NamespacedName, admission.Stats) bool) { yield(pool, c.Stats()) },
		})
		c, err := admission.New(admission.Options{Detector: admission.DetectorFunc(func(admission.Query, *types.Endpoint) float64 { return tt.fill })})
		require.NoError(t, err)
		c.SetEndpoints([]*types.Endpoint{endpoint("a")}[:tt.eps])
		check(t, scrape(t, m), tt.want+` inference_extension_flow_control_pool_saturation{inference_pool="llama"}
			0.2 inference_extension_flow_control_pool_saturation{inference_pool="b"}`)
	}
}

// A pool's hooks go on with the same series after its options have changed.
func TestAdmissionHooksAgain(t *testing.T) {
	g := newGate(t, telemetry.Options{}, admission.Options{})
	g.run(tenantRequest("chat", "late", 0))
	o := admission.Options{Tenants: map[string]admission.Tenant{"late": {}}, Detector: admission.Concurrency{}, Tuning: admission.Tuning{Clock: g.clock}}
	o.Hooks = g.metrics.AdmissionHooks(pool, o)
	require.NoError(t, g.Configure(o))
	g.run(tenantRequest("chat", "late", 0))
	of := func(tenant string) string {
		return `inference_extension_flow_control_request_queue_duration_seconds_count{fairness_id="` + tenant +
			`",inference_pool="llama",model_name="chat",outcome="Dispatched",priority="0",target_model_name="chat"}`
	}
	g.want("1 " + of("other") + "\n1 " + of("late") + `
		2 inferpick_admission_dispatched_total{pool="llama",priority="0"}`)
}

// admissionLife is the hooks' part of one request that waited.
func admissionLife(h admission.Hooks, t *admission.Ticket) {
	h.Queued(t)
	h.Dispatched(t, 20*time.Millisecond)
	h.Finished(t, served)
}

func TestAdmissionHooksDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	g := newGate(t, telemetry.Options{MaxQueueSeries: 1}, admission.Options{Tenants: map[string]admission.Tenant{"acme": {}}})
	h := g.metrics.AdmissionHooks(pool, admission.Options{})
	for _, tenant := range []string{"acme", "somebody"} {
		ticket, err := g.offer(tenantRequest("chat", tenant, 0))
		require.NoError(t, err)
		refusal := &admission.Refusal{Reason: admission.QueueFull}
		if n := testing.AllocsPerRun(100, func() {
			admissionLife(h, ticket)
			h.Refused(ticket, refusal)
			h.Cancelled(ticket, time.Second)
		}); n != 0 {
			t.Errorf("tenant %s: %v allocations, want 0", tenant, n)
		}
	}
}

// BenchmarkAdmissionHooks is what the hooks add to the life of a request that waited, and
// Offer, Booked and Done of one that did not, without the hooks and with them.
func BenchmarkAdmissionHooks(b *testing.B) {
	b.Run("life", func(b *testing.B) {
		g := newGate(b, telemetry.Options{}, admission.Options{})
		h := g.metrics.AdmissionHooks(pool, admission.Options{})
		ticket, err := g.offer(tenantRequest("a-model-with-a-name", "a-tenant-with-a-name", 0))
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			admissionLife(h, ticket)
		}
	})
	for _, hooks := range []bool{false, true} {
		b.Run(fmt.Sprintf("offer/hooks=%v", hooks), func(b *testing.B) {
			g := newGate(b, telemetry.Options{}, admission.Options{})
			if !hooks {
				if err := g.Configure(admission.Options{Detector: admission.Concurrency{Requests: 2}, Tuning: admission.Tuning{Clock: g.clock}}); err != nil {
					b.Fatal(err)
				}
			}
			req := tenantRequest("a-model-with-a-name", "a-tenant-with-a-name", 0)
			b.ReportAllocs()
			for b.Loop() {
				ticket, err := g.offer(req)
				if err != nil {
					b.Fatal(err)
				}
				ticket.Booked(g.ep)
				ticket.Done(served)
			}
		})
	}
}
