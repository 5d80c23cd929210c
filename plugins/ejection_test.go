package plugins_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
)

func mustEjection(t testing.TB, o plugins.EjectionOptions) *plugins.Ejection {
	t.Helper()
	f, err := plugins.NewEjection(o)
	require.NoError(t, err)
	return f
}

// What an endpoint can do to a request.
var (
	served    = types.Outcome{Status: 200}
	broken    = types.Outcome{Status: 500}
	unreached = types.Outcome{Err: errors.New("connection refused")}
	cutOff    = types.Outcome{Status: 200, Err: errors.New("cut off")}
	late      = types.Outcome{Err: fmt.Errorf("no answer: %w", context.DeadlineExceeded)}
	expired   = types.Outcome{Err: fmt.Errorf("booking: %w", scheduling.ErrExpired)}
	movedOn   = types.Outcome{Retried: true}
	gone      = types.Outcome{Cancelled: true, Err: errors.New("client reset")}
)

// ward is three endpoints, a, b and c, behind an Ejection, with a clock.
type ward struct {
	t   testing.TB
	f   *plugins.Ejection
	eps []*types.Endpoint
	now time.Duration // since epoch
}

func newWard(t testing.TB, o plugins.EjectionOptions) *ward {
	w := &ward{t: t, f: mustEjection(t, o), eps: made(options{}, options{}, options{})}
	for i, ep := range w.eps {
		ep.Slot = uint32(i)
	}
	return w
}

func (w *ward) request() *types.Request { return turn("", w.now) }

// visit is a request in flight.
type visit struct {
	w   *ward
	req *types.Request
	ep  *types.Endpoint
}

// send books a request at the endpoint of that index.
func (w *ward) send(i int) visit {
	v := visit{w, w.request(), w.eps[i]}
	w.f.Picked(v.req, v.ep)
	return v
}

func (v visit) token() visit {
	v.req.Now = epoch.Add(v.w.now)
	v.w.f.FirstToken(v.req, v.ep)
	return v
}

func (v visit) end(out types.Outcome) {
	v.req.Now = epoch.Add(v.w.now)
	v.w.f.Finished(v.req, v.ep, out)
}

// sends n requests, one after the other, that all end like this.
func (w *ward) sends(i, n int, out types.Outcome) {
	for range n {
		w.send(i).end(out)
	}
}

// sleep lets time pass.
func (w *ward) sleep(d time.Duration) { w.now += d }

// kept returns who is a candidate now.
func (w *ward) kept() string {
	w.t.Helper()
	return strings.Join(schedulingtest.Filter(w.t, w.f, w.request(), w.eps...), " ")
}

func (w *ward) wantKept(want, when string) {
	w.t.Helper()
	if got := w.kept(); got != want {
		w.t.Errorf("%s: Filter keeps %q, want %q", when, got, want)
	}
}

func (w *ward) wantSays(i int, want string) {
	w.t.Helper()
	if got := w.f.Describe(w.request(), w.eps[i]); got != want {
		w.t.Errorf("Describe(%s) = %q, want %q", w.eps[i].ID, got, want)
	}
}

// wantEjected checks that a is ejected now and for just so long, and leaves the clock
// at the beginning of its probation.
func (w *ward) wantEjected(d time.Duration, when string) {
	w.t.Helper()
	w.wantKept("b c", when)
	w.sleep(d - 1)
	w.wantKept("b c", when+", to the end of "+d.String())
	w.sleep(1)
	w.wantKept("a b c", when+", after "+d.String())
}

func TestEjection(t *testing.T) {
	const all, without = "a b c", "b c"
	tests := []struct {
		name string
		o    plugins.EjectionOptions
		do   func(*ward)
		want string
	}{
		{"new", plugins.EjectionOptions{}, func(*ward) {}, all},
		{"two failures", plugins.EjectionOptions{}, func(w *ward) { w.sends(0, 2, broken) }, all},
		{"three failures", plugins.EjectionOptions{}, func(w *ward) { w.sends(0, 3, broken) }, without},
		{"own number of failures", plugins.EjectionOptions{Failures: 1}, func(w *ward) { w.sends(0, 1, broken) }, without},
		{"failures of others", plugins.EjectionOptions{}, func(w *ward) {
			w.sends(0, 2, broken)
			w.sends(1, 2, broken)
			w.sends(2, 2, broken)
		}, all},
		{"a success between", plugins.EjectionOptions{}, func(w *ward) {
			w.sends(0, 2, broken)
			w.sends(0, 1, served)
			w.sends(0, 2, broken)
		}, all},
		{"of which nothing is known", plugins.EjectionOptions{}, func(w *ward) {
			w.sends(0, 2, broken)
			w.sends(0, 1, types.Outcome{})
			w.sends(0, 2, broken)
		}, all},
		{"a first token between", plugins.EjectionOptions{}, func(w *ward) {
			w.sends(0, 2, broken)
			w.send(0).token()
			w.sends(0, 2, broken)
		}, all},
		{"a success elsewhere", plugins.EjectionOptions{}, func(w *ward) {
			w.sends(0, 2, broken)
			w.sends(1, 1, served)
			w.sends(0, 1, broken)
		}, without},
		{"a bad request is no success", plugins.EjectionOptions{}, func(w *ward) {
			w.sends(0, 2, broken)
			w.sends(0, 5, types.Outcome{Status: 404})
			w.sends(0, 1, broken)
		}, without},
		{"a bad request is no failure", plugins.EjectionOptions{}, func(w *ward) {
			for status := 400; status < 500; status++ {
				if status != 429 {
					w.sends(0, 1, types.Outcome{Status: status})
					w.sends(0, 1, types.Outcome{Status: status, Err: io.ErrUnexpectedEOF})
					w.sends(0, 1, types.Outcome{Status: status, Retried: true})
				}
			}
		}, all},
		{"a client that went away is neither", plugins.EjectionOptions{}, func(w *ward) {
			w.sends(0, 2, broken)
			w.sends(0, 9, gone)
		}, all},
		{"nor does it excuse", plugins.EjectionOptions{}, func(w *ward) {
			w.sends(0, 2, broken)
			w.sends(0, 9, gone)
			w.sends(0, 1, broken)
		}, without},
		{"an expired booking is neither", plugins.EjectionOptions{}, func(w *ward) {
			w.sends(0, 2, broken)
			w.sends(0, 9, expired)
		}, all},

		{"no connection", plugins.EjectionOptions{}, func(w *ward) { w.sends(0, 1, unreached) }, without},
		{"retried elsewhere", plugins.EjectionOptions{}, func(w *ward) { w.sends(0, 1, movedOn) }, without},
		{"an error of a server that answered", plugins.EjectionOptions{}, func(w *ward) { w.sends(0, 2, cutOff) }, all},
		{"three of them", plugins.EjectionOptions{}, func(w *ward) { w.sends(0, 3, cutOff) }, without},
		{"an error after a first token is no lack of an answer", plugins.EjectionOptions{}, func(w *ward) {
			w.send(0).token().end(unreached)
		}, all},
		{"a deadline does not eject", plugins.EjectionOptions{}, func(w *ward) { w.sends(0, 9, late) }, all},
		{"nor does it excuse a failure", plugins.EjectionOptions{}, func(w *ward) {
			w.sends(0, 2, broken)
			w.sends(0, 9, late)
			w.sends(0, 1, broken)
		}, without},
		{"a deadline in the body of an error", plugins.EjectionOptions{}, func(w *ward) {
			w.sends(0, 3, types.Outcome{Status: 500, Err: late.Err})
		}, without},
		{"a deadline in the middle of a response is not", plugins.EjectionOptions{}, func(w *ward) {
			for range 9 {
				w.send(0).token().end(late)
			}
		}, all},

		{"every response breaks off", plugins.EjectionOptions{}, func(w *ward) {
			for range 3 {
				w.send(0).token().end(cutOff)
			}
		}, without},
		{"every second one does", plugins.EjectionOptions{}, func(w *ward) {
			for range 9 {
				w.send(0).token().end(cutOff)
				w.send(0).token().end(served)
			}
		}, all},
		{"every one does, with others beside it", plugins.EjectionOptions{}, func(w *ward) {
			w.send(0).token().end(cutOff)
			one, two := w.send(0).token(), w.send(0).token()
			one.end(cutOff)
			two.end(cutOff)
		}, without},
		{"a whole response ends what a first token did not", plugins.EjectionOptions{}, func(w *ward) {
			w.sends(0, 2, broken)
			w.send(0).token().end(served)
			w.send(0).token().end(cutOff)
		}, all},
		{"many break off at once", plugins.EjectionOptions{}, func(w *ward) {
			var vs []visit
			for range 3 {
				vs = append(vs, w.send(0).token())
			}
			for _, v := range vs {
				v.end(cutOff)
			}
		}, without},

		{"on one reading of an endpoint, asked of another", plugins.EjectionOptions{}, func(w *ward) {
			w.sends(0, 1, unreached)
			w.eps[0] = w.eps[0].WithMetrics(types.Metrics{})
		}, without},
		{"another endpoint under the same name", plugins.EjectionOptions{}, func(w *ward) {
			w.sends(0, 1, unreached)
			w.eps[0] = schedulingtest.Endpoint("a")
		}, all},
		{"no ledger, no identity", plugins.EjectionOptions{}, func(w *ward) {
			w.eps[0] = &types.Endpoint{ID: "a"}
			w.sends(0, 9, unreached)
		}, all},
		{"forgotten", plugins.EjectionOptions{}, func(w *ward) {
			w.sends(0, 1, unreached)
			w.f.Forget(w.eps[0])
		}, all},
		{"forgotten in the middle of a row", plugins.EjectionOptions{}, func(w *ward) {
			w.sends(0, 2, broken)
			w.f.Forget(w.eps[0])
			w.sends(0, 2, broken)
		}, all},
		{"another one forgotten", plugins.EjectionOptions{}, func(w *ward) {
			w.sends(0, 1, unreached)
			w.f.Forget(w.eps[1])
		}, without},
		{"ended after it had gone", plugins.EjectionOptions{}, func(w *ward) {
			v := w.send(0)
			w.eps[0].Load.Retire()
			w.f.Forget(w.eps[0])
			v.end(unreached)
		}, all},

		{"all but one", plugins.EjectionOptions{}, func(w *ward) {
			w.sends(0, 1, unreached)
			w.sends(1, 1, unreached)
		}, "c"},
		{"all: none is struck out", plugins.EjectionOptions{}, func(w *ward) {
			for i := range 3 {
				w.sends(i, 1, unreached)
			}
		}, all},
		{"all, closed", plugins.EjectionOptions{FailClosed: true}, func(w *ward) {
			for i := range 3 {
				w.sends(i, 1, unreached)
			}
		}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWard(t, tt.o)
			tt.do(w)
			w.wantKept(tt.want, "at the end")
		})
	}
}

// TestEjectionGrows: each ejection in a row is twice as long, up to Max, and time
// without trouble takes the doublings back.
func TestEjectionGrows(t *testing.T) {
	w := newWard(t, plugins.EjectionOptions{Base: time.Second, Max: 5 * time.Second})
	w.sends(2, 1, broken) // while one has failed, successes of all are looked at
	for i, want := range []time.Duration{1, 2, 4, 5, 5, 5} {
		w.sends(0, 1, unreached)
		w.wantEjected(want*time.Second, fmt.Sprintf("ejection %d", i+1))
	}
	// It serves, but not for as long as it was ejected the last time.
	w.sends(0, 1, served)
	w.sleep(5*time.Second - 1)
	w.sends(0, 1, served)
	w.sends(0, 1, unreached)
	w.wantEjected(5*time.Second, "after too short a time")
	// One doubling less.
	w.sends(0, 1, served)
	w.sleep(5 * time.Second)
	w.sends(0, 1, served)
	w.sends(0, 1, unreached)
	w.wantEjected(4*time.Second, "after as long a time")
	// Three are taken back: this one's and two more.
	w.sends(0, 1, served)
	w.sleep(12 * time.Second)
	w.sends(0, 1, unreached)
	w.wantEjected(time.Second, "after three times as long")
	w.sends(0, 1, served)
	w.sleep(24 * time.Hour)
	w.sends(0, 1, unreached)
	w.wantEjected(time.Second, "after a day")
	// The clock counts from the first response that was whole.
	w.sleep(24 * time.Hour)
	w.send(0).token()
	w.sleep(24 * time.Hour)
	w.sends(0, 1, unreached)
	w.wantEjected(2*time.Second, "after a day without a response")
}

// TestEjectionProbation: one request at a time, until one says how it is.
func TestEjectionProbation(t *testing.T) {
	const all, without = "a b c", "b c"
	tests := []struct {
		name string
		do   func(*ward) // from the beginning of a's probation
		want string
		says string
	}{
		{"nothing sent", func(*ward) {}, all, "on probation"},
		{"one in flight", func(w *ward) { w.send(0) }, without, "on probation, with a request in flight"},
		{"for long", func(w *ward) {
			w.send(0)
			w.sleep(time.Hour)
		}, without, "on probation, with a request in flight"},
		{"requests elsewhere", func(w *ward) {
			w.send(1)
			w.sends(2, 1, served)
		}, all, "on probation"},
		{"served", func(w *ward) { w.sends(0, 1, served) }, all, ""},
		{"a full member", func(w *ward) {
			w.sends(0, 1, served)
			w.send(0)
			w.send(0)
			w.sends(0, 2, broken)
		}, all, ""},
		{"a first token", func(w *ward) {
			w.send(0).token()
			w.send(0)
		}, all, ""},
		{"a first token, and the end later", func(w *ward) {
			v := w.send(0).token()
			w.sends(0, 1, served)
			v.end(cutOff)
		}, all, ""},
		{"a first token, but it breaks off", func(w *ward) { w.send(0).token().end(cutOff) }, without, "ejected for 2s more after 3 failures"},
		{"failed", func(w *ward) { w.sends(0, 1, broken) }, without, "ejected for 2s more after a failure on probation"},
		{"not reached", func(w *ward) { w.sends(0, 1, unreached) }, without, "ejected for 2s more after a request without an answer"},
		{"a bad request says nothing", func(w *ward) { w.sends(0, 1, types.Outcome{Status: 400}) }, all, "on probation"},
		{"cancelled", func(w *ward) { w.sends(0, 1, gone) }, all, "on probation"},
		{"expired", func(w *ward) { w.sends(0, 1, expired) }, all, "on probation"},
		{"one of two ended without saying anything", func(w *ward) {
			w.send(0)
			w.sends(0, 1, gone)
		}, without, "on probation, with a request in flight"},
		{"forgotten", func(w *ward) {
			w.send(0)
			w.f.Forget(w.eps[0])
		}, all, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWard(t, plugins.EjectionOptions{})
			w.sends(0, 1, unreached)
			w.sleep(time.Second)
			tt.do(w)
			w.wantKept(tt.want, "at the end")
			w.wantSays(0, tt.says)
		})
	}
}

func TestEjectionDescribe(t *testing.T) {
	w := newWard(t, plugins.EjectionOptions{Base: 4 * time.Second})
	w.wantSays(0, "")
	w.sends(0, 2, broken)
	w.wantSays(0, "")
	w.sends(0, 1, broken)
	w.sleep(800 * time.Millisecond)
	w.wantSays(0, "ejected for 3.2s more after 3 failures")
	w.wantSays(1, "")
	w.sleep(4 * time.Second)
	w.wantSays(0, "on probation")

	w = newWard(t, plugins.EjectionOptions{Failures: 1})
	w.sends(1, 1, broken)
	w.wantSays(1, "ejected for 1s more after 1 failure")
}

// TestTrapBurstOfFailuresEjectsOnce: fifty connections that break together are one
// event; so are those of them that are noticed only later.
func TestTrapBurstOfFailuresEjectsOnce(t *testing.T) {
	for _, out := range []types.Outcome{broken, unreached, movedOn, cutOff} {
		w := newWard(t, plugins.EjectionOptions{})
		var burst []visit
		for range 50 {
			burst = append(burst, w.send(0))
		}
		for _, v := range burst[:20] {
			v.end(out)
		}
		w.sleep(time.Second - 1)
		for _, v := range burst[20:30] {
			v.end(out)
		}
		w.wantEjected(1, fmt.Sprintf("%+v: near the end of the ejection", out))
		for _, v := range burst[30:40] {
			v.end(out)
		}
		w.wantKept("a b c", "after failures of before, on probation")
		probe := w.send(0)
		for _, v := range burst[40:45] {
			v.end(out)
		}
		w.wantKept("b c", "with a request in flight, which others do not end")
		probe.end(served)
		for _, v := range burst[45:] {
			v.end(out)
		}
		w.wantKept("a b c", "after failures of before, when it serves again")
		// The next ejection is the second, not the fiftieth.
		w.sends(0, 1, unreached)
		w.wantEjected(2*time.Second, "ejected again")
	}
}

// TestTrapOldRequestsReadmit: a server that shuts down takes no new requests and
// finishes what it has. That is no reason to send it more.
func TestTrapOldRequestsReadmit(t *testing.T) {
	w := newWard(t, plugins.EjectionOptions{})
	old := []visit{w.send(0), w.send(0).token(), w.send(0)}
	w.sends(0, 1, unreached)
	old[0].token()
	old[0].end(served)
	old[1].end(served)
	w.wantKept("b c", "after old requests were served")
	w.sleep(time.Second)
	w.send(0)
	old[2].end(served)
	w.wantKept("b c", "after an old request was served during the probation")
}

// TestEjectionEndsEarly: a request that came there while it was ejected, because all
// were or because it was a fallback, shows that it serves again.
func TestEjectionEndsEarly(t *testing.T) {
	w := newWard(t, plugins.EjectionOptions{Base: 10 * time.Second})
	for i := range 3 {
		w.sends(i, 1, unreached)
	}
	w.wantKept("a b c", "all ejected")
	w.sleep(6 * time.Second)
	w.sends(0, 5, unreached)
	w.wantSays(0, "ejected for 4s more after a request without an answer")
	w.sends(1, 1, served)
	w.wantKept("b", "when one serves")
	w.sends(0, 9, broken)
	w.sleep(4 * time.Second)
	w.wantKept("a b c", "failures during an ejection do not extend it")
	// What was sent then and is still in flight is the one request of the probation.
	w = newWard(t, plugins.EjectionOptions{})
	w.sends(0, 1, unreached)
	v := w.send(0)
	w.sleep(time.Second)
	w.wantKept("b c", "with a request of before the probation")
	other := w.send(0) // it was named as a fallback before
	v.end(unreached)
	w.wantEjected(2*time.Second, "after its failure")
	other.end(unreached)
	w.wantKept("a b c", "after the failure of the other")
}

// TestTrapEjectingTheLast: what a gateway sees when every server failed.
func TestTrapEjectingTheLast(t *testing.T) {
	for _, closed := range []bool{false, true} {
		p := plugins.LeastRequests()
		p.Filters = append(p.Filters, scheduling.Named{Name: "ejection", Filter: mustEjection(t, plugins.EjectionOptions{FailClosed: closed})})
		s, eps := mustNew(t, seeded(p)), idle(4)
		for range eps {
			mustSchedule(t, s, schedulingtest.Request("hello"), eps).Done(unreached)
		}
		d, err := s.Schedule(ctx, schedulingtest.Request("hello"), eps)
		var none *scheduling.NoEndpointError
		switch {
		case !closed && err != nil:
			t.Errorf("Schedule when all are ejected: %v, want one of them", err)
		case closed && (!errors.As(err, &none) || none.Filter != "ejection" || none.Candidates != 4):
			t.Errorf("FailClosed: Schedule = %v, %v, want a NoEndpointError of the filter", d, err)
		}
	}
}

// TestEjectionThroughScheduler: a first choice that does not answer, and its trial.
func TestEjectionThroughScheduler(t *testing.T) {
	now := epoch
	f := mustEjection(t, plugins.EjectionOptions{})
	p := scheduling.Profile{
		Filters: []scheduling.Named{{Name: "ejection", Filter: f}}, Picker: plugins.MaxScore{},
		Scorers:   []scheduling.Weighted{{Scorer: plugins.InFlightRequests{}, Weight: 1}},
		Fallbacks: 1, Seed: 1, Now: func() time.Time { return now },
	}
	s, eps := mustNew(t, p), idle(3)
	ask := func() *scheduling.Decision { return mustSchedule(t, s, schedulingtest.Request("hello"), eps) }
	d := ask()
	dead := d.Endpoint
	d.Retry(d.Fallbacks[0], types.Outcome{Err: io.ErrUnexpectedEOF})
	d.FirstToken()
	d.Done(served)
	explain := func() string {
		ex, err := s.Explain(ctx, schedulingtest.Request("hello"), eps)
		require.NoError(t, err)
		for _, c := range ex.Candidates {
			if c.Endpoint == dead {
				return c.FilteredBy + ": " + c.FilterDetail
			}
		}
		return ""
	}
	if got, want := explain(), "ejection: ejected for 1s more after a request without an answer"; got != want {
		t.Errorf("Explain: %q, want %q", got, want)
	}
	for range 20 {
		if d := ask(); d.Endpoint == dead || d.Fallbacks[0] == dead {
			t.Fatalf("%s was chosen while it is ejected", dead.ID)
		}
	}
	now = now.Add(time.Second)
	for range 20 { // explaining takes no part in it
		if got := explain(); got != ": " {
			t.Fatalf("Explain on probation: %q", got)
		}
	}
	probe := ask() // the two others have 20 requests
	for range 20 {
		if d := ask(); probe.Endpoint != dead || d.Endpoint == dead {
			t.Fatalf("on probation the first request goes to %s and a later one to %s, want only the first at %s", probe.Endpoint.ID, d.Endpoint.ID, dead.ID)
		}
	}
	if got, want := explain(), "ejection: on probation, with a request in flight"; got != want {
		t.Errorf("Explain: %q, want %q", got, want)
	}
	probe.FirstToken()
	if d := ask(); d.Endpoint != dead {
		t.Errorf("after its first token the next request goes to %s, want %s", d.Endpoint.ID, dead.ID)
	}
}

func TestEjectionAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	eps := schedulingtest.Fleet(1000)
	keep := make([]bool, len(eps))
	f := mustEjection(t, plugins.EjectionOptions{})
	req := at(schedulingtest.Request("hello"))
	life := func(ep *types.Endpoint, out types.Outcome) {
		f.Picked(req, ep)
		f.FirstToken(req, ep)
		f.Finished(req, ep, out)
	}
	check := func(when string, run func()) {
		t.Helper()
		if n := testing.AllocsPerRun(100, run); n > 0 {
			t.Errorf("%s: %v allocations, want 0", when, n)
		}
	}
	filter := func() { _ = f.Filter(ctx, req, eps, keep) }
	check("Filter in health", filter)
	check("a request in health", func() { life(eps[3], served) })
	for i := range 10 {
		f.Picked(req, eps[i])
		f.Finished(req, eps[i], unreached)
	}
	check("Filter with some ejected", filter)
	check("a request with some ejected", func() { life(eps[30], served) })
	check("a request to one that is ejected", func() { life(eps[0], types.Outcome{Cancelled: true}) })
}

func TestEjectionEjected(t *testing.T) {
	w := newWard(t, plugins.EjectionOptions{})
	want := func(n int, when string) {
		t.Helper()
		if got := w.f.Ejected(); got != n {
			t.Errorf("%s: Ejected = %d, want %d", when, got, n)
		}
	}
	w.sends(0, 2, broken)
	want(0, "after two failures")
	for i := range 3 {
		w.sends(i, 1, unreached)
	}
	want(3, "all ejected")
	w.sleep(time.Second)
	want(3, "all on probation")
	w.sends(0, 1, unreached)
	want(3, "one ejected again")
	w.sends(1, 1, served)
	want(2, "one serves")
	for _, ep := range w.eps {
		w.f.Forget(ep)
	}
	want(0, "all forgotten")
}

func TestEjectionOptions(t *testing.T) {
	type o = plugins.EjectionOptions
	for _, tt := range []struct {
		o    o
		text string
	}{
		{o{Failures: -1}, "failures is -1, want 1 to 1000"},
		{o{Failures: plugins.LimitEjectionFailures + 1}, "failures is 1001"},
		{o{Base: -1}, "base is -1ns"},
		{o{Base: plugins.LimitEjectionMax + 1}, "base is 24h0m0.000000001s"},
		{o{Max: -time.Second}, "max is -1s"},
		{o{Max: plugins.LimitEjectionMax + 1}, "max is 24h"},
		{o{Base: 2 * time.Second, Max: time.Second}, "max is 1s, want at least base, which is 2s"},
	} {
		if f, err := plugins.NewEjection(tt.o); f != nil || err == nil || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("NewEjection(%+v): %v, want an error with %q", tt.o, err, tt.text)
		}
	}
	for _, tt := range []struct {
		o    o
		want []time.Duration // of ejections in a row
	}{
		{o{}, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second, time.Minute, time.Minute}},
		{o{Base: 2 * time.Minute}, []time.Duration{2 * time.Minute, 2 * time.Minute}},
		{o{Max: 10 * time.Millisecond}, []time.Duration{10 * time.Millisecond, 10 * time.Millisecond}},
		{o{Base: plugins.LimitEjectionMax, Max: plugins.LimitEjectionMax}, []time.Duration{24 * time.Hour, 24 * time.Hour}},
	} {
		w := newWard(t, tt.o)
		for i, d := range tt.want {
			w.sends(0, 1, unreached)
			w.wantEjected(d, fmt.Sprintf("%+v: ejection %d", tt.o, i+1))
		}
	}
}

// TestEjectionScreens: nobody is filtered while nobody is struck out, or could be.
func TestEjectionScreens(t *testing.T) {
	w := newWard(t, plugins.EjectionOptions{})
	screens := func(want bool, when string) {
		t.Helper()
		require.Equal(t, want, w.f.Screen(w.request(), nil), when)
	}
	screens(true, "nobody has failed")
	w.sends(0, 1, unreached)
	screens(false, "one is ejected")
	w.sleep(time.Hour)
	screens(false, "one is on probation")
	w.sends(0, 1, served)
	screens(true, "all serve")
	w.sends(1, 1, busyFor(503, 0))
	screens(false, "one is spared")
	w.f.Forget(w.eps[1])
	screens(true, "it has gone")
}

// TestEjectionDeclared: by the name of its type, with every parameter.
func TestEjectionDeclared(t *testing.T) {
	profiles, err := plugins.NewRegistry().Load([]byte(declare(
		`{"type": "ejection-filter", "parameters": {"failures": 2, "base": "1500ms", "max": "2s", "spare": "20ms", "maxSpare": "3s", "failClosed": true}}, {"type": "random-picker"}`,
		`{"name": "p", "plugins": [{"pluginRef": "ejection-filter"}, {"pluginRef": "random-picker"}]}`)))
	require.NoError(t, err)
	w := newWard(t, plugins.EjectionOptions{})
	w.f = profiles["p"].Filters[0].Filter.(*plugins.Ejection)
	w.sends(0, 2, broken)
	w.wantEjected(1500*time.Millisecond, "the first")
	w.sends(0, 1, broken)
	w.wantEjected(2*time.Second, "the second")
	for i := range 3 {
		w.sends(i, 1, unreached)
	}
	w.wantKept("", "all ejected")
}

// TestEjectionConcurrency runs everything at once, and then checks that nothing is
// left out of step: every endpoint is a candidate again when it has served. Run it
// with -race.
func TestEjectionConcurrency(t *testing.T) {
	f, eps := mustEjection(t, plugins.EjectionOptions{Failures: 2}), idle(4)
	outs := []types.Outcome{served, broken, unreached, movedOn, gone, expired, cutOff, served, late}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			keep := make([]bool, len(eps))
			for i := range 600 {
				req, ep := turn("", time.Duration(i)*100*time.Millisecond), eps[(g+i)%len(eps)]
				_ = f.Filter(ctx, req, eps, keep)
				f.Picked(req, ep)
				f.Describe(req, ep)
				if i%3 == 0 {
					f.FirstToken(req, ep)
				}
				f.Finished(req, ep, outs[(i+g)%len(outs)])
				if i%50 == 0 {
					f.Forget(ep)
				}
			}
		})
	}
	wg.Wait()
	w := &ward{t: t, f: f, eps: eps, now: time.Hour}
	for i := range eps {
		w.sends(i, 1, served)
		w.send(i)
		w.wantSays(i, "")
	}
	w.wantKept("ep-0 ep-1 ep-2 ep-3", "when all have served")
	require.Equal(t, 0, f.Ejected(), "Ejected when all have served")
	w.sends(2, 1, unreached)
	w.wantKept("ep-0 ep-1 ep-3", "when one has failed")
}

// TestEjectionSimulated: a server dies under load and comes back twelve seconds later,
// with no metrics to tell. The policy sends to whoever has the least to do, which is
// the server that refuses everything.
func TestEjectionSimulated(t *testing.T) {
	oneGoroutine(t)
	run := func(name string, filters ...scheduling.Named) *simulation.Report {
		return schedulingtest.Simulate(t, simulation.Config{
			Fleet:    simulation.Uniform(4, engine.Config{}),
			Workload: simulation.ShareGPT{Rate: 20},
			Policy: simulation.Policy{Name: name, Profile: func() scheduling.Profile {
				p := plugins.LeastRequests()
				p.Filters, p.Fallbacks = filters, 0
				return p
			}},
			Duration: 40 * time.Second, Seed: 1, Scrape: simulation.Scrape{Period: -1},
			Faults: []simulation.Fault{
				{At: 10 * time.Second, Kind: simulation.Die, Index: 0},
				{At: 22 * time.Second, Kind: simulation.Restart, Index: 0},
			},
		})
	}
	without := run("without")
	with := run("with", scheduling.Named{Filter: mustEjection(t, plugins.EjectionOptions{})})
	t.Logf("failed: %d without, %d with; jobs at the one that died: %d and %d", without.Failed, with.Failed, without.Replicas[0].Jobs, with.Replicas[0].Jobs)
	if without.Failed < 200 || with.Failed*5 > without.Failed {
		t.Errorf("%d jobs fail without the filter and %d with it, want a fifth at most", without.Failed, with.Failed)
	}
	// A quarter of 20 jobs a second: 50 before it died, 90 after it came back.
	if n := with.Replicas[0].Jobs; n < 100 {
		t.Errorf("the server that came back has served %d jobs in all, want it to be a full member again", n)
	}
}

// BenchmarkEjection is one call of Filter at 10,000 endpoints.
func BenchmarkEjection(b *testing.B) {
	eps := idle(10_000)
	keep := make([]bool, len(eps))
	for _, ejected := range []int{0, 1, 1000} {
		b.Run(fmt.Sprintf("ejected=%d", ejected), func(b *testing.B) {
			f := mustEjection(b, plugins.EjectionOptions{})
			req := turn("", 0)
			for i := range ejected {
				f.Picked(req, eps[7*i])
				f.Finished(req, eps[7*i], unreached)
			}
			b.ReportAllocs()
			for b.Loop() {
				_ = f.Filter(ctx, req, eps, keep)
			}
		})
	}
}
