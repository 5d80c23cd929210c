package director_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// oneEach are options by which an endpoint is full with one request.
func oneEach() *admission.Options {
	return &admission.Options{Detector: admission.Concurrency{Requests: 1}}
}

// gated returns a director with admission control by options, and checks in the end that
// nothing is left under way.
func gated(t *testing.T, store *datastore.Store, options func() *admission.Options, change func(*director.Options)) *director.Director {
	t.Helper()
	d := newDirector(t, store, func(o *director.Options) {
		o.Admission = func(types.NamespacedName) *admission.Options { return options() }
		if change != nil {
			change(o)
		}
	})
	t.Cleanup(func() {
		for name, c := range d.Admissions() {
			s := c.Stats()
			if s.Queued != 0 {
				t.Errorf("pool %v: %d requests wait in the end", name, s.Queued)
			}
			for _, b := range s.Bands {
				if b.Running != 0 {
					t.Errorf("pool %v: %d requests of priority %d run in the end", name, b.Running, b.Priority)
				}
			}
		}
		for _, p := range store.Snapshot().Pools() {
			zeroLedgers(t, p.Endpoints())
		}
	})
	return d
}

// standard is a request of priority 0 to the pool.
func standard(header ...string) director.Incoming {
	in := incoming("other", header...)
	in.Pool = pool
	return in
}

func control(t testing.TB, d *director.Director, name types.NamespacedName) *admission.Controller {
	t.Helper()
	c, err := d.Admission(name)
	if err != nil || c == nil {
		t.Fatalf("Admission(%v) = %v, %v", name, c, err)
	}
	return c
}

// routed is what came of a Route that somebody else waits for.
type routed struct {
	route *director.Route
	err   error
}

// start routes a request in a goroutine of its own.
func start(ctx context.Context, d *director.Director, in director.Incoming) <-chan routed {
	done := make(chan routed, 1)
	go func() {
		r, err := d.Route(ctx, in)
		done <- routed{r, err}
	}()
	return done
}

const patience = 10 * time.Second

// wait returns what comes of a request.
func wait(t testing.TB, done <-chan routed) routed {
	t.Helper()
	select {
	case r := <-done:
		return r
	case <-time.After(patience):
		t.Fatal("the request still waits")
		panic("unreachable")
	}
}

// letIn is wait for one that is let in.
func letIn(t testing.TB, done <-chan routed) *director.Route {
	t.Helper()
	r := wait(t, done)
	require.NoError(t, r.err, "Route")
	return r.route
}

// refusedWith is wait for one that is refused.
func refusedWith(t testing.TB, done <-chan routed, status int, code string) *director.Error {
	t.Helper()
	r := wait(t, done)
	return isError(t, r.err, status, code)
}

func isError(t testing.TB, err error, status int, code string) *director.Error {
	t.Helper()
	var e *director.Error
	if !errors.As(err, &e) || e.Status != status || e.Code != code {
		t.Fatalf("Route: %v, want status %d, code %s", err, status, code)
	}
	if got := e.Header()[director.HeaderReason]; len(got) != 1 || got[0] != code {
		t.Errorf("header %s is %q, want %q", director.HeaderReason, got, code)
	}
	return e
}

// until waits for something to become so.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(end) {
			t.Fatalf("still not so: %s", what)
		}
	}
}

// queued waits until so many requests wait.
func queued(t testing.TB, c *admission.Controller, n int) {
	t.Helper()
	until(t, fmt.Sprintf("%d requests wait", n), func() bool { return c.Stats().Queued == n })
}

func stillWaits(t testing.TB, done <-chan routed) {
	t.Helper()
	select {
	case r := <-done:
		t.Fatalf("Route = %v, %v, want it to wait", r.route, r.err)
	case <-time.After(2 * time.Millisecond):
	}
}

func mustRoute(t testing.TB, d *director.Director, in director.Incoming) *director.Route {
	t.Helper()
	r, err := d.Route(ctx, in)
	require.NoError(t, err)
	return r
}

func TestAdmissionSheddableIsRefused(t *testing.T) {
	var told *director.Error
	store := newStore(t, 2, datastore.Options{})
	d := gated(t, store, oneEach, func(o *director.Options) {
		o.OnRefused = func(_ *types.Request, _ types.NamespacedName, err *director.Error) { told = err }
	})
	a, b := mustRoute(t, d, incoming("bulk")), mustRoute(t, d, incoming("bulk"))
	if a.Endpoint().ID == b.Endpoint().ID {
		t.Errorf("both are at %s, which has one place", a.Endpoint().ID)
	}
	_, err := d.Route(ctx, incoming("bulk"))
	e := isError(t, err, 429, director.CodeSaturated)
	if h := e.Header(); len(h["Retry-After"]) != 1 || h["Retry-After"][0] == "0" || e.RetryAfter < time.Second {
		t.Errorf("headers %v, RetryAfter %v, want a second at least", h, e.RetryAfter)
	}
	if body := string(e.Body()); !strings.Contains(body, `"saturated"`) || !strings.Contains(body, "bulk") || strings.Contains(body, "endpoints") {
		t.Errorf("body %s", body)
	}
	var refusal *admission.Refusal
	if told != e || !errors.As(err, &refusal) || refusal.Reason != admission.Saturated {
		t.Errorf("told of %v; the cause is %v", told, refusal)
	}
	answer(a)
	answer(mustRoute(t, d, incoming("bulk")))
	b.Done(nil)
}

func TestAdmissionWaitsForAPlace(t *testing.T) {
	d := gated(t, newStore(t, 1, datastore.Options{}), oneEach, nil)
	c := control(t, d, pool)
	first := mustRoute(t, d, standard())
	if first.Waited != 0 {
		t.Errorf("the first waited for %v", first.Waited)
	}
	second := start(ctx, d, standard())
	queued(t, c, 1)
	third := start(ctx, d, standard())
	queued(t, c, 2)
	stillWaits(t, second)
	answer(first)
	r := letIn(t, second)
	if r.Waited <= 0 || r.Endpoint() == nil || !r.Request.Admitted {
		t.Errorf("the second waited for %v, at %v", r.Waited, r.Endpoint())
	}
	stillWaits(t, third)
	r.Done(nil)
	letIn(t, third).Done(context.Canceled)
}

func TestAdmissionCriticalGoesFirst(t *testing.T) {
	d := gated(t, newStore(t, 1, datastore.Options{}), oneEach, nil)
	c := control(t, d, pool)
	first := mustRoute(t, d, standard())
	low := start(ctx, d, standard())
	queued(t, c, 1)
	mid := start(ctx, d, standard(director.HeaderObjective, "fast")) // priority 7
	queued(t, c, 2)
	high := start(ctx, d, incoming("food"))
	queued(t, c, 3)
	answer(first)
	for _, next := range []<-chan routed{high, mid, low} {
		answer(letIn(t, next))
	}
}

func TestAdmissionMaxWait(t *testing.T) {
	bands := func(wait time.Duration) func() *admission.Options {
		return func() *admission.Options {
			o := oneEach()
			o.Bands = []admission.Band{{Name: "all", MaxWait: wait}}
			return o
		}
	}
	t.Run("shortens", func(t *testing.T) {
		d := gated(t, newStore(t, 1, datastore.Options{}), bands(time.Hour), nil)
		first := mustRoute(t, d, standard())
		e := refusedWith(t, start(ctx, d, standard(director.HeaderMaxWait, "15")), 429, "queue_timeout")
		if e.RetryAfter < time.Second || !strings.Contains(e.Message, "as long as the request could wait") {
			t.Errorf("%+v", e)
		}
		answer(first)
	})
	t.Run("does not lengthen", func(t *testing.T) {
		d := gated(t, newStore(t, 1, datastore.Options{}), bands(15*time.Millisecond), nil)
		first := mustRoute(t, d, standard())
		refusedWith(t, start(ctx, d, standard(director.HeaderMaxWait, "3600000")), 429, "queue_timeout")
		refusedWith(t, start(ctx, d, standard()), 429, "queue_timeout")
		answer(first)
	})
	t.Run("malformed", func(t *testing.T) {
		d := gated(t, newStore(t, 1, datastore.Options{}), oneEach, nil)
		for _, value := range []string{"soon", "-1", "0", "NaN", "1e300", "5s"} {
			_, err := d.Route(ctx, standard(director.HeaderMaxWait, value))
			if e := isError(t, err, 400, director.CodeBadHeader); e.Param != director.HeaderMaxWait || !strings.Contains(e.Message, value) {
				t.Errorf("%+v", e)
			}
			if _, _, err := d.ExplainAdmission(standard(director.HeaderMaxWait, value)); err == nil {
				t.Errorf("ExplainAdmission takes %q", value)
			}
		}
	})
}

func TestAdmissionNoEndpoint(t *testing.T) {
	d := gated(t, newStore(t, 0, datastore.Options{}), oneEach, nil)
	_, err := d.Route(ctx, standard())
	if e := isError(t, err, 503, director.CodeNoEndpoint); e.RetryAfter != 0 {
		t.Errorf("RetryAfter is %v, which nobody knows", e.RetryAfter)
	}
}

func TestAdmissionWaitForEndpoints(t *testing.T) {
	scaleFromZero := func() *admission.Options {
		o := oneEach()
		o.WaitForEndpoints = time.Hour
		return o
	}
	store := newStore(t, 0, datastore.Options{})
	d := gated(t, store, scaleFromZero, nil)
	c := control(t, d, pool)
	a, b := start(ctx, d, incoming("bulk")), start(ctx, d, standard())
	queued(t, c, 2)
	stillWaits(t, a)
	require.NoError(t, store.UpsertEndpoint(pool, datastore.EndpointSpec{ID: "new", Address: "10.0.0.1:8000"}))
	r := letIn(t, b)
	if r.Endpoint().ID != "new" || r.Waited <= 0 {
		t.Errorf("at %v after %v", r.Endpoint(), r.Waited)
	}
	answer(r)
	// The other is next, unless it was refused meanwhile, for its band does not wait for room.
	if a := wait(t, a); a.err == nil {
		answer(a.route)
	} else {
		isError(t, a.err, 429, director.CodeSaturated)
	}

	// The other end: none comes.
	_ = store.RemoveEndpoint(pool, "new")
	refusedWith(t, start(ctx, d, standard(director.HeaderMaxWait, "10")), 503, director.CodeNoEndpoint)
}

// A pool that goes while requests wait for it, and one of its name that comes later.
func TestAdmissionPoolRemoved(t *testing.T) {
	store := newStore(t, 1, datastore.Options{})
	d := gated(t, store, oneEach, nil)
	c := control(t, d, pool)
	first := mustRoute(t, d, standard())
	second := start(ctx, d, standard())
	queued(t, c, 1)
	store.Delete("InferencePool", pool)
	if store.Snapshot().Pool(pool) != nil {
		require.NoError(t, store.SetEndpoints(pool, nil))
	}
	refusedWith(t, second, 503, director.CodeNoEndpoint)
	answer(first)
	require.NoError(t, store.SetEndpoints(pool, []datastore.EndpointSpec{{ID: "again", Address: "10.0.0.9:8000"}}))
	r := mustRoute(t, d, standard())
	if r.Endpoint().ID != "again" {
		t.Errorf("at %v", r.Endpoint())
	}
	answer(r)
}

func TestAdmissionClientGone(t *testing.T) {
	d := gated(t, newStore(t, 1, datastore.Options{}), oneEach, nil)
	c := control(t, d, pool)
	first := mustRoute(t, d, standard())
	gone, cancel := context.WithCancel(ctx)
	second := start(gone, d, standard())
	queued(t, c, 1)
	third := start(ctx, d, standard())
	queued(t, c, 2)
	cancel()
	refusedWith(t, second, director.StatusClientClosed, director.CodeCancelled)
	queued(t, c, 1)
	if _, err := d.Route(gone, standard()); director.AsError(err).Status != director.StatusClientClosed {
		t.Errorf("Route with a context that is done: %v", err)
	}
	late, cancelLate := context.WithTimeout(ctx, 5*time.Millisecond)
	defer cancelLate()
	if e := wait(t, start(late, d, standard())); director.AsError(e.err).Status != 504 {
		t.Errorf("Route with a context that runs out: %v", e.err)
	}
	answer(first)
	answer(letIn(t, third))
}

// Who gives up at the moment it is let in gives its place back.
func TestAdmissionClientGoneRace(t *testing.T) {
	d := gated(t, newStore(t, 1, datastore.Options{}), oneEach, nil)
	for i := range 200 {
		first := mustRoute(t, d, standard())
		gone, cancel := context.WithCancel(ctx)
		second := start(gone, d, standard())
		if i%2 == 0 {
			queued(t, control(t, d, pool), 1)
		}
		go cancel()
		answer(first)
		if r := wait(t, second); r.err == nil {
			r.route.Done(context.Canceled)
		}
	}
}

func TestAdmissionSubset(t *testing.T) {
	store := newStore(t, 3, datastore.Options{})
	d := gated(t, store, oneEach, nil)
	c := control(t, d, pool)
	only := func(addresses ...string) director.Incoming {
		in := standard()
		in.HasSubset, in.Subset = true, addresses
		return in
	}
	const one, two, three = "10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"
	a := mustRoute(t, d, only(one))
	waits := start(ctx, d, only(one))
	queued(t, c, 1)
	b := mustRoute(t, d, only(two, one)) // two has a place
	if a.Endpoint().Address != one || b.Endpoint().Address != two {
		t.Errorf("at %v and %v", a.Endpoint(), b.Endpoint())
	}
	all := mustRoute(t, d, standard())
	if all.Endpoint().Address != three {
		t.Errorf("at %v, want the one that has a place", all.Endpoint())
	}
	// Now all are full: who may go anywhere waits too, and does not hold up the subset.
	anywhere := start(ctx, d, standard())
	queued(t, c, 2)
	answer(all)
	r := letIn(t, anywhere)
	stillWaits(t, waits)
	answer(a)
	if s := letIn(t, waits); s.Endpoint().Address != one {
		t.Errorf("at %v, which is not in the subset", s.Endpoint())
	} else {
		answer(s)
	}
	answer(r)
	answer(b)

	for _, subset := range [][]string{nil, {"10.9.9.9:1"}} {
		_, err := d.Route(ctx, only(subset...))
		isError(t, err, 503, director.CodeNoEndpoint)
	}
}

// Filters that say beforehand whom they keep restrict the endpoints whose room counts.
func TestAdmissionConstrainedByLabels(t *testing.T) {
	store := newStore(t, 0, datastore.Options{})
	for i, zone := range []string{"a", "a", "b"} {
		require.NoError(t, store.UpsertEndpoint(pool, datastore.EndpointSpec{ID: fmt.Sprint(i), Address: fmt.Sprintf("10.0.0.%d:8000", i+1), Labels: map[string]string{"zone": zone}}))
	}
	d := gated(t, store, oneEach, func(o *director.Options) {
		o.Scheduler = mustScheduler(t, scheduling.Named{Name: "labels", Filter: plugins.Labels{Match: map[string]string{"zone": "b"}}})
	})
	r := mustRoute(t, d, standard())
	if r.Endpoint().ID != "2" {
		t.Errorf("at %v, want the one of zone b", r.Endpoint())
	}
	_, err := d.Route(ctx, incoming("bulk"))
	isError(t, err, 429, director.CodeSaturated) // although zone a is idle
	report, on, err := d.ExplainAdmission(standard())
	if err != nil || !on || report.Candidates != 1 || report.Room != 0 || report.Verdict != "queued" {
		t.Errorf("ExplainAdmission = %v, %v, %v", report, on, err)
	}
	second := start(ctx, d, standard())
	queued(t, control(t, d, pool), 1)
	answer(r)
	answer(letIn(t, second))
}

// places takes only endpoint 2 for full, and knows a place only at endpoint 0.
type places struct{}

func (places) Fill(_ admission.Query, ep *types.Endpoint) float64 {
	if ep.ID == "2" {
		return 1
	}
	return 0
}

func (places) Slots(_ admission.Query, ep *types.Endpoint) float64 {
	if ep.ID == "0" {
		return 0
	}
	return 1
}

// That an endpoint has a place which the filters strike out must not leave the request
// without any: between a request's being let in and its booking others may take the places
// that it may have.
func TestAdmissionPlacesThatFiltersStrikeOut(t *testing.T) {
	store := newStore(t, 0, datastore.Options{})
	for i, zone := range []string{"a", "b", "b"} {
		require.NoError(t, store.UpsertEndpoint(pool, datastore.EndpointSpec{ID: fmt.Sprint(i), Address: fmt.Sprintf("10.0.0.%d:8000", i+1), Labels: map[string]string{"zone": zone}}))
	}
	d := gated(t, store, func() *admission.Options { return &admission.Options{Detector: places{}} }, func(o *director.Options) {
		o.Scheduler = mustScheduler(t, scheduling.Named{Name: "labels", Filter: plugins.Labels{Match: map[string]string{"zone": "b"}}})
	})
	r := mustRoute(t, d, standard())
	if r.Endpoint().ID == "0" {
		t.Errorf("at %v, which is not in zone b", r.Endpoint())
	}
	answer(r)
}

func TestAdmissionConstrainedByAdapters(t *testing.T) {
	store := newStore(t, 3, datastore.Options{})
	load := func(i int, adapters ...string) {
		store.UpdateMetrics(endpoints(store)[i].Load, types.Metrics{UpdatedAt: time.Now(), Waiting: types.Known(0), Running: types.Known(0), KVUsage: types.Known(0),
			RunningAdapters: adapters, MaxAdapters: types.Known(4)})
	}
	load(1, "food-v1")
	d := gated(t, store, oneEach, func(o *director.Options) {
		o.Scheduler = mustScheduler(t, scheduling.Named{Name: "adapter", Filter: plugins.AdapterPresent{}})
	})
	r := mustRoute(t, d, incoming("food"))
	if r.Endpoint().ID != "ep-1" {
		t.Errorf("at %v, want the one that has the adapter", r.Endpoint())
	}
	second := start(ctx, d, incoming("food"))
	queued(t, control(t, d, pool), 1)
	anywhere := standard() // no endpoint has its adapter: any will do
	anywhere.HasSubset, anywhere.Subset = true, []string{endpoints(store)[0].Address}
	other := mustRoute(t, d, anywhere)
	load(2, "food-v1") // another endpoint has it now, and room
	if r := letIn(t, second); r.Endpoint().ID != "ep-2" {
		t.Errorf("at %v, want the one that has the adapter now", r.Endpoint())
	} else {
		answer(r)
	}
	answer(r)
	answer(other)
}

func mustScheduler(t testing.TB, filters ...scheduling.Named) *scheduling.Scheduler {
	t.Helper()
	s, err := scheduling.New(scheduling.Profile{Filters: filters, Picker: plugins.MaxScore{}, Fallbacks: 2,
		Scorers: []scheduling.Weighted{{Name: "in flight", Scorer: plugins.InFlightRequests{}, Weight: 1}}})
	require.NoError(t, err)
	return s
}

// What was let in is not shed by the profile.
func TestAdmissionGoesBeforeShed(t *testing.T) {
	store := newStore(t, 1, datastore.Options{})
	setMetrics(store, 500, 1) // far beyond what Shed stands
	plain := newDirector(t, store, nil)
	_, err := plain.Route(ctx, incoming("bulk"))
	isError(t, err, 429, director.CodeSaturated)

	d := gated(t, store, oneEach, nil) // which does not look at readings
	r := mustRoute(t, d, incoming("bulk"))
	require.True(t, r.Request.Admitted, "Admitted is not set")
	answer(r)
}

// A fresh reading that tells of room lets in who waits.
func TestAdmissionReadings(t *testing.T) {
	store := newStore(t, 1, datastore.Options{})
	setMetrics(store, 50, .1)
	d := gated(t, store, func() *admission.Options { return &admission.Options{Detector: admission.Utilization{}} }, nil)
	r := start(ctx, d, standard())
	queued(t, control(t, d, pool), 1)
	setMetrics(store, 20, .1)
	stillWaits(t, r)
	setMetrics(store, 0, .1)
	answer(letIn(t, r))
	// And the state counts.
	store.SetState(endpoints(store)[0].Load, types.Draining)
	_, err := d.Route(ctx, standard())
	isError(t, err, 503, director.CodeNoEndpoint)
	store.SetState(endpoints(store)[0].Load, types.Ready)
	answer(mustRoute(t, d, standard()))
}

func TestSetAdmission(t *testing.T) {
	store := newStore(t, 1, datastore.Options{})
	d := newDirector(t, store, nil)
	if c, err := d.Admission(pool); c != nil || err != nil {
		t.Errorf("without Options.Admission there is %v, %v", c, err)
	}
	if _, on, err := d.ExplainAdmission(standard()); on || err != nil {
		t.Errorf("ExplainAdmission = %v, %v", on, err)
	}
	before := mustRoute(t, d, standard()) // it has no ticket, and its end is no matter
	limit := func(n int) func(types.NamespacedName) *admission.Options {
		return func(types.NamespacedName) *admission.Options {
			return &admission.Options{Detector: admission.Concurrency{Requests: n}}
		}
	}
	set := func(options func(types.NamespacedName) *admission.Options) {
		t.Helper()
		require.NoError(t, d.SetAdmission(options))
	}
	set(limit(1))
	c := control(t, d, pool)
	second := start(ctx, d, standard()) // the ledger has what was sent before
	queued(t, c, 1)
	third := start(ctx, d, standard())
	queued(t, c, 2)

	// New options count for what waits.
	set(limit(2))
	if d2 := control(t, d, pool); d2 != c {
		t.Error("another Controller after SetAdmission: what waited is lost")
	}
	queued(t, c, 1)

	// An error leaves all as it was.
	err := d.SetAdmission(func(types.NamespacedName) *admission.Options { return &admission.Options{MaxRequests: -1} })
	if err == nil || !strings.Contains(err.Error(), "director: pool default/pool: ") || !strings.Contains(err.Error(), "maxRequests is -1") {
		t.Errorf("SetAdmission: %v", err)
	}
	if control(t, d, pool) != c || c.Stats().Queued != 1 {
		t.Error("an error has changed something")
	}

	// Off: whatever waits is let in.
	fourth, fifth := start(ctx, d, standard()), start(ctx, d, standard())
	queued(t, c, 3)
	set(nil)
	for _, r := range []<-chan routed{second, third, fourth, fifth} {
		answer(letIn(t, r))
	}
	answer(before)
	for _, b := range c.Stats().Bands {
		if b.Running != 0 {
			t.Errorf("%d run in the end", b.Running)
		}
	}
	if c, err := d.Admission(pool); c != nil || err != nil {
		t.Errorf("after SetAdmission(nil) there is %v, %v", c, err)
	}
	answer(mustRoute(t, d, standard()))

	// And on again, for some pools only.
	set(func(name types.NamespacedName) *admission.Options { return nil })
	if c, err := d.Admission(pool); c != nil || err != nil {
		t.Errorf("a pool without options has %v, %v", c, err)
	}
	set(limit(1))
	a := mustRoute(t, d, incoming("bulk"))
	_, err = d.Route(ctx, incoming("bulk"))
	isError(t, err, 429, director.CodeSaturated)
	answer(a)
	zeroLedgers(t, endpoints(store))
}

// Those that wait for a first endpoint do not wait for ever when nobody tells them of it
// any more.
func TestSetAdmissionOffWithoutEndpoints(t *testing.T) {
	d := gated(t, newStore(t, 0, datastore.Options{}), func() *admission.Options { return &admission.Options{WaitForEndpoints: time.Hour} }, nil)
	r := start(ctx, d, standard())
	queued(t, control(t, d, pool), 1)
	require.NoError(t, d.SetAdmission(nil))
	refusedWith(t, r, 503, director.CodeNoEndpoint)
}

func TestNewRefusesAdmission(t *testing.T) {
	store := newStore(t, 1, datastore.Options{})
	_, err := director.New(director.Options{Store: store, Scheduler: mustScheduler(t), Admission: func(types.NamespacedName) *admission.Options {
		return &admission.Options{Bands: []admission.Band{{}}}
	}})
	require.ErrorContains(t, err, "director: pool default/pool: admission: ")
	// A pool that comes later has wrong ones.
	d := newDirector(t, datastore.New(datastore.Options{}), func(o *director.Options) {
		o.Admission = func(types.NamespacedName) *admission.Options { return &admission.Options{MaxRequests: -1} }
	})
	if c, err := d.Admission(pool); err == nil || c != nil {
		t.Errorf("Admission = %v, %v", c, err)
	}
	store = newStore(t, 1, datastore.Options{})
	var wrong atomic.Bool
	d = newDirector(t, store, func(o *director.Options) {
		o.Admission = func(types.NamespacedName) *admission.Options {
			if wrong.Load() {
				return &admission.Options{MaxRequests: -1}
			}
			return oneEach()
		}
	})
	wrong.Store(true)
	_, err = d.Route(ctx, standard())
	if e := isError(t, err, 500, director.CodeInternal); !strings.Contains(err.Error(), "maxRequests") || strings.Contains(e.Message, "maxRequests") {
		t.Errorf("%v, and for the client %s", err, e.Message)
	}
	_, _, err = d.ExplainAdmission(standard())
	isError(t, err, 500, director.CodeInternal)
	zeroLedgers(t, endpoints(store))
}

func TestAdmissionClose(t *testing.T) {
	d := gated(t, newStore(t, 1, datastore.Options{}), oneEach, nil)
	first := mustRoute(t, d, standard())
	second := start(ctx, d, standard())
	queued(t, control(t, d, pool), 1)
	d.Close()
	if e := refusedWith(t, second, 503, "shutting_down"); !strings.Contains(e.Message, "shutting down") || e.RetryAfter != 0 {
		t.Errorf("%+v", e)
	}
	answer(first) // stays valid
	_, err := d.Route(ctx, standard())
	isError(t, err, 503, "shutting_down")
}

func TestAdmissionExplain(t *testing.T) {
	d := gated(t, newStore(t, 1, datastore.Options{}), oneEach, nil)
	c := control(t, d, pool)
	in := standard(director.HeaderFairness, "me")
	in.Explain = true
	first := mustRoute(t, d, in)
	if a := first.Admission; a == nil || a.Verdict != "admitted" || a.Tenant != "me" || a.Candidates != 1 || a.Room != 1 || first.Waited != 0 || first.Explanation == nil {
		t.Errorf("Admission = %v, Waited %v", first.Admission, first.Waited)
	}
	report, on, err := d.ExplainAdmission(in)
	if err != nil || !on || report.Verdict != "queued" || report.Room != 0 || report.Before() != 0 {
		t.Errorf("ExplainAdmission = %v, %v, %v", report, on, err)
	}
	if c.Stats().Queued != 0 {
		t.Error("ExplainAdmission has left a request in the queue")
	}
	report, _, err = d.ExplainAdmission(incoming("bulk"))
	if err != nil || report.Verdict != "refused" || report.Reason != admission.Saturated {
		t.Errorf("ExplainAdmission = %v, %v", report, err)
	}
	if _, _, err := d.ExplainAdmission(director.Incoming{Path: "/v1/chat/completions", Body: []byte("{")}); director.AsError(err).Status != 400 {
		t.Errorf("ExplainAdmission of rubbish: %v", err)
	}
	second := start(ctx, d, in)
	queued(t, c, 1)
	third := start(ctx, d, in)
	queued(t, c, 2)
	answer(first)
	r := letIn(t, second)
	if a := r.Admission; a == nil || a.Verdict != "queued" || r.Waited <= 0 {
		t.Errorf("Admission = %v, Waited %v", r.Admission, r.Waited)
	}
	answer(r)
	r = letIn(t, third)
	if a := r.Admission; a == nil || a.Before() != 1 {
		t.Errorf("Admission = %v, want one before it", r.Admission)
	}
	answer(r)
	plain := mustRoute(t, d, standard())
	if plain.Admission != nil {
		t.Error("Admission is set although nobody asked")
	}
	answer(plain)
}

// A request that goes on to another endpoint takes its place there, and leaves that which
// it had.
func TestAdmissionNextMovesTheTicket(t *testing.T) {
	for _, how := range []string{"Next", "Served"} {
		t.Run(how, func(t *testing.T) {
			store := newStore(t, 2, datastore.Options{})
			d := gated(t, store, oneEach, func(o *director.Options) { o.Scheduler = mustScheduler(t) })
			in := standard()
			first := mustRoute(t, d, in)
			from := first.Endpoint()
			only := standard()
			only.HasSubset, only.Subset = true, []string{from.Address}
			waits := start(ctx, d, only)
			queued(t, control(t, d, pool), 1)
			var to *types.Endpoint
			if how == "Next" {
				to = first.Next()
			} else {
				for _, ep := range endpoints(store) {
					if ep.ID != from.ID && first.Served(ep.Address) {
						to = ep
					}
				}
			}
			if to == nil || to.ID == from.ID {
				t.Fatalf("it went from %v to %v", from, to)
			}
			second := letIn(t, waits)
			if second.Endpoint().ID != from.ID {
				t.Errorf("at %v, want %v, which was left", second.Endpoint(), from)
			}
			_, err := d.Route(ctx, incoming("bulk"))
			isError(t, err, 429, director.CodeSaturated)
			answer(second)
			answer(first)
		})
	}
}

// picker fails in one way or another when it is told to.
type picker struct{ how atomic.Int32 }

func (p *picker) Filter(context.Context, *types.Request, []*types.Endpoint, []bool) error {
	switch p.how.Load() {
	case 1:
		return errors.New("out of order")
	case 2:
		panic("out of order")
	}
	return nil
}

func TestAdmissionScheduleFails(t *testing.T) {
	p := new(picker)
	d := gated(t, newStore(t, 1, datastore.Options{}), oneEach, func(o *director.Options) {
		o.Scheduler = mustScheduler(t, scheduling.Named{Name: "picker", Filter: p})
	})
	first := mustRoute(t, d, standard())
	second := start(ctx, d, standard())
	queued(t, control(t, d, pool), 1)
	third := start(ctx, d, standard())
	queued(t, control(t, d, pool), 2)
	p.how.Store(1)
	answer(first) // the second is let in, and fails; so does the third
	refusedWith(t, second, 500, director.CodeInternal)
	refusedWith(t, third, 500, director.CodeInternal)
	p.how.Store(2)
	refusedWith(t, start(ctx, d, standard()), 500, director.CodeInternal)
	p.how.Store(0)
	answer(mustRoute(t, d, standard()))
}

func TestAdmissionTwoPools(t *testing.T) {
	store := newStore(t, 1, datastore.Options{})
	other := types.NamespacedName{Namespace: "default", Name: "other"}
	require.NoError(t, store.SetEndpoints(other, []datastore.EndpointSpec{{ID: "o", Address: "10.1.0.1:8000"}}))
	var made sync.Map
	d := gated(t, store, oneEach, func(o *director.Options) {
		o.Admission = func(name types.NamespacedName) *admission.Options {
			made.Store(name, true)
			return oneEach()
		}
	})
	there := standard()
	there.Pool = other
	a := mustRoute(t, d, standard())
	waits := start(ctx, d, standard())
	queued(t, control(t, d, pool), 1)
	b := mustRoute(t, d, there) // the other pool has room
	if b.Endpoint().ID != "o" || control(t, d, other).Stats().Queued != 0 {
		t.Errorf("at %v", b.Endpoint())
	}
	answer(b)
	stillWaits(t, waits)
	answer(a)
	answer(letIn(t, waits))
	var names []string
	for name := range d.Admissions() {
		names = append(names, name.Name)
	}
	if strings.Join(names, " ") != "other pool" {
		t.Errorf("Admissions: %v", names)
	}
	for range d.Admissions() {
		break
	}
	for _, name := range []types.NamespacedName{pool, other} {
		if _, ok := made.Load(name); !ok {
			t.Errorf("no options were asked for %v", name)
		}
	}
}

// What has to be paid for every request.
func TestAdmissionAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	cost := func(admit func(types.NamespacedName) *admission.Options) float64 {
		d := newDirector(t, newStore(t, 100, datastore.Options{}), func(o *director.Options) { o.Admission = admit })
		in := director.Incoming{Path: "/v1/chat/completions", Body: conversation(32 << 10)}
		run := func() {
			route, err := d.Route(ctx, in)
			require.NoError(t, err)
			answer(route)
		}
		run()
		return testing.AllocsPerRun(200, run)
	}
	without := cost(nil)
	with := cost(func(types.NamespacedName) *admission.Options { return new(admission.Options) })
	if with > without+2 {
		t.Errorf("Route + Done allocate %v times with admission control, %v without, want at most 2 more", with, without)
	}
}

// BenchmarkRouteAdmitted is BenchmarkRoute with admission control.
func BenchmarkRouteAdmitted(b *testing.B) {
	b.Run("endpoints=100/body=32KiB", func(b *testing.B) {
		d := newDirector(b, newStore(b, 100, datastore.Options{}), func(o *director.Options) {
			o.Admission = func(types.NamespacedName) *admission.Options { return new(admission.Options) }
		})
		in := director.Incoming{Path: "/v1/chat/completions", Body: conversation(32 << 10)}
		b.SetBytes(int64(len(in.Body)))
		b.ReportAllocs()
		for b.Loop() {
			route, err := d.Route(ctx, in)
			if err != nil {
				b.Fatal(err)
			}
			answer(route)
		}
	})
}

// Requests of all kinds at once, while endpoints come and go, readings arrive and options
// change: in the end nothing is under way.
func TestAdmissionManyAtOnce(t *testing.T) {
	store := newStore(t, 4, datastore.Options{})
	d := gated(t, store, oneEach, nil)
	stop := make(chan struct{})
	var changes, clients sync.WaitGroup
	changes.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Microsecond):
			}
			eps := endpoints(store)
			store.UpdateMetrics(eps[i%len(eps)].Load, types.Metrics{UpdatedAt: time.Now(), Waiting: types.Known(float64(i % 3)), Running: types.Known(1)})
			switch i % 10 {
			case 3:
				store.RemoveEndpoint(pool, "ep-3")
			case 6:
				_ = store.UpsertEndpoint(pool, datastore.EndpointSpec{ID: "ep-3", Address: "10.0.0.4:8000"})
			case 8:
				if err := d.SetAdmission(func(types.NamespacedName) *admission.Options {
					return &admission.Options{Detector: admission.Max{admission.Concurrency{Requests: 1 + i%3}, new(admission.LearnedBatch)}, Fairness: admission.Fairness(i / 10 % 3), Revoke: true, Tuning: admission.Tuning{Order: admission.Order(i / 10 % 2)}}
				}); err != nil {
					t.Error(err)
				}
			case 9:
				for _, c := range d.Admissions() {
					_ = c.Stats()
				}
			}
		}
	})
	for k := range 8 {
		clients.Go(func() {
			for i := range 100 {
				in := standard(director.HeaderFairness, fmt.Sprint("t", i%3))
				switch (i + k) % 4 {
				case 0:
					in = incoming("food")
				case 1:
					in = incoming("bulk")
				case 2:
					in.HasSubset, in.Subset = true, []string{"10.0.0.1:8000", "10.0.0.4"}
				}
				gone, cancel := context.WithTimeout(ctx, patience)
				if i%7 == 0 {
					time.AfterFunc(300*time.Microsecond, cancel)
				}
				r, err := d.Route(gone, in)
				if err != nil {
					switch e := director.AsError(err); e.Code {
					case director.CodeSaturated, director.CodeCancelled, director.CodeNoEndpoint:
					default:
						t.Errorf("Route: %v", err)
					}
					cancel()
					continue
				}
				var revoked atomic.Bool
				r.OnRevoke(func(why *director.Error) { revoked.Store(true); r.Done(why) })
				if i%5 == 0 {
					r.Next()
				}
				time.Sleep(100 * time.Microsecond)
				answer(r)
				cancel()
			}
		})
	}
	clients.Wait()
	close(stop)
	changes.Wait()
}

// A running request of negative priority makes room for a critical one.
func TestAdmissionRevoke(t *testing.T) {
	var outcome types.Outcome
	store := newStore(t, 1, datastore.Options{})
	profile := plugins.Default()
	profile.Hooks.Finished = func(e scheduling.Event) {
		if e.Request.Model == "bulk" {
			outcome = e.Outcome
		}
	}
	s, err := scheduling.New(profile)
	require.NoError(t, err)
	d := gated(t, store, func() *admission.Options {
		o := oneEach()
		o.Revoke = true
		return o
	}, func(o *director.Options) { o.Scheduler = s })
	victim := mustRoute(t, d, incoming("bulk"))
	told := make(chan *director.Error, 2)
	victim.OnRevoke(func(e *director.Error) {
		told <- e
		victim.Done(e)
	})
	victim.Response(200, "text/event-stream")
	r := letIn(t, start(ctx, d, incoming("food")))
	e := <-told
	if e.Status != 429 || e.Code != "revoked" || e.RetryAfter < time.Second || !strings.Contains(e.Message, "higher priority") || !strings.Contains(string(e.Body()), `"revoked"`) {
		t.Errorf("revoked with %+v", e)
	}
	if outcome.Err != nil || !outcome.Cancelled || outcome.Status != 200 {
		t.Errorf("Outcome = %+v, which blames the endpoint", outcome)
	}
	victim.Data([]byte("data: {}\n\n")) // what the server had sent
	victim.End()
	victim.Done(nil)
	answer(r)
	if len(told) != 0 {
		t.Error("revoked twice")
	}
}

// Without admission control OnRevoke does nothing.
func TestOnRevokeWithoutAdmission(t *testing.T) {
	d := newDirector(t, newStore(t, 1, datastore.Options{}), nil)
	r := mustRoute(t, d, standard())
	r.OnRevoke(func(*director.Error) { t.Error("revoked") })
	answer(r)
}

// Where nothing is known of any endpoint, requests are let in.
func TestAdmissionUnknownIsNotFull(t *testing.T) {
	store := newStore(t, 1, datastore.Options{})
	d := gated(t, store, func() *admission.Options {
		return &admission.Options{Detector: admission.DetectorFunc(func(admission.Query, *types.Endpoint) float64 { return math.NaN() })}
	}, nil)
	a, b := mustRoute(t, d, incoming("bulk")), mustRoute(t, d, incoming("bulk"))
	answer(a)
	answer(b)
}
