package admission_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inferpick/inferpick/internal/guard/guardtest"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// These tests are about functions that are the user's: what they do must not matter.

// user is all that a Controller calls. Each function calls at with its name first.
type user struct {
	at    func(in string)
	clock *fakeClock
	full  float64
}

func (u *user) Fill(admission.Query, *types.Endpoint) float64 { u.at("Detector.Fill"); return u.full }
func (u *user) Slots(admission.Query, *types.Endpoint) float64 {
	u.at("SlotDetector.Slots")
	return u.full
}
func (u *user) FirstToken(*types.Endpoint, int64, time.Duration) { u.at("Learner.FirstToken") }
func (u *user) Served(*types.Endpoint, admission.Served)         { u.at("ServiceLearner.Served") }
func (u *user) Reading(*types.Endpoint, admission.Since)         { u.at("ReadingLearner.Reading") }
func (u *user) Forget(*types.Endpoint)                           { u.at("Forgetter.Forget") }
func (u *user) UsesTarget() bool                                 { u.at("TargetDetector.UsesTarget"); return true }
func (u *user) Now() time.Time                                   { u.at("Clock.Now"); return u.clock.Now() }

func (u *user) AfterFunc(d time.Duration, f func()) func() {
	u.at("Clock.AfterFunc")
	stop := u.clock.AfterFunc(d, f)
	return func() { u.at("the stop of Clock.AfterFunc"); stop() }
}

func (u *user) match(*types.Endpoint) bool { u.at("Arrival.Match"); return true }
func (u *user) ready(error)                { u.at("the ready function of Offer") }
func (u *user) revoke(*admission.Refusal)  { u.at("the function of OnRevoke") }

func (u *user) options(failed func(error)) admission.Options {
	bands := threeBands()
	bands[2].MaxRequests = 0
	return admission.Options{
		Detector: u, Bands: bands, Revoke: true,
		Hooks: admission.Hooks{
			Queued:     func(*admission.Ticket) { u.at("Hooks.Queued") },
			Dispatched: func(*admission.Ticket, time.Duration) { u.at("Hooks.Dispatched") },
			Refused:    func(*admission.Ticket, *admission.Refusal) { u.at("Hooks.Refused") },
			Cancelled:  func(*admission.Ticket, time.Duration) { u.at("Hooks.Cancelled") },
			Finished:   func(*admission.Ticket, types.Outcome) { u.at("Hooks.Finished") },
			Revoked:    func(*admission.Ticket) { u.at("Hooks.Revoked") },
			Failed:     func(err error) { failed(err); u.at("Hooks.Failed") },
		},
		Tuning: admission.Tuning{Clock: u, MaxLanes: 2},
	}
}

var userFunctions = []string{
	"Detector.Fill", "SlotDetector.Slots", "Learner.FirstToken", "ServiceLearner.Served", "ReadingLearner.Reading", "Forgetter.Forget", "TargetDetector.UsesTarget",
	"Clock.Now", "Clock.AfterFunc", "the stop of Clock.AfterFunc", "Arrival.Match", "the ready function of Offer", "the function of OnRevoke",
	"Hooks.Queued", "Hooks.Dispatched", "Hooks.Refused", "Hooks.Cancelled", "Hooks.Finished", "Hooks.Revoked",
}

// TestUserFunctionsAreAll: there is none that these tests do not know.
func TestUserFunctionsAreAll(t *testing.T) {
	for _, name := range guardtest.Functions(t, admission.Options{}) {
		if name != "Hooks.Failed" { // TestFailedThatPanics
			require.Contains(t, userFunctions, strings.TrimPrefix(name, "Tuning."))
		}
	}
}

// history has everything happen that there is to a Controller. Each step is in a goroutine
// of its own, which the functions may end.
func (u *user) history(t *testing.T, c *admission.Controller, failed func(error)) {
	t.Helper()
	step := func(f func()) {
		t.Helper()
		done := make(chan struct{})
		go func() {
			defer close(done)
			f()
		}()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatal("a call does not return")
		}
	}
	eps := []*types.Endpoint{types.NewEndpoint("a", "10.0.0.1:8000"), types.NewEndpoint("b", "10.0.0.1:8001"), types.NewEndpoint("c", "10.0.0.1:8002")}
	offer := func(priority int, lane string) (one *admission.Ticket) {
		t.Helper()
		step(func() {
			one, _, _ = c.Offer(admission.Arrival{Request: request("r", priority, "t"), Candidates: lane, Match: u.match}, u.ready)
		})
		return one
	}
	each := func(all []*admission.Ticket, f func(*admission.Ticket)) {
		t.Helper()
		for _, one := range all {
			if one != nil {
				step(func() { f(one) })
			}
		}
	}
	step(func() { c.SetEndpoints(eps[:2]) })
	step(func() { c.Put(eps[2]) })
	u.full = 0
	var all []*admission.Ticket
	for _, lane := range []string{"", "x", "y", "z"} {
		all = append(all, offer(-100, lane))
	}
	each(all, func(one *admission.Ticket) { one.OnRevoke(u.revoke) })
	each(all, func(one *admission.Ticket) { one.Candidates(nil, eps) })
	each(all, func(one *admission.Ticket) { one.Booked(eps[0]) })
	each(all, func(one *admission.Ticket) { one.FirstToken() })
	u.full = 1
	step(func() {
		c.Put(eps[0].WithMetrics(types.Metrics{UpdatedAt: u.clock.now, Running: types.Known(1), Waiting: types.Known(1)}))
	})
	step(func() { c.Put(eps[1]); c.Put(eps[2]) })
	step(func() { c.SetEndpoints(eps) })
	each(all, func(one *admission.Ticket) { one.Candidates(nil, eps) })
	waiting := []*admission.Ticket{offer(100, ""), offer(0, "x"), offer(0, "y"), offer(-100, "z"), offer(0, "")}
	each(waiting[4:], func(one *admission.Ticket) { one.Done(types.Outcome{Cancelled: true}) })
	each(waiting[1:2], func(one *admission.Ticket) { one.SetPriority(5) })
	each(waiting, func(one *admission.Ticket) { one.Explain(); one.Charge(); one.Band() })
	step(func() {
		c.Stats()
		c.Explain(admission.Arrival{Request: request("r", 0, "u"), Candidates: "x", Match: u.match})
	})
	offer(0, "x")
	step(func() { u.clock.pass(40 * time.Second) }) // some have waited in vain
	step(func() { _ = c.Configure(u.options(failed)) })
	u.full = 0
	step(func() { c.Update(eps[0]) })
	each(waiting, func(one *admission.Ticket) { one.Booked(eps[1]); one.Booked(eps[2]) })
	step(func() { c.Remove(eps[1]) })
	each(append(all, waiting...), func(one *admission.Ticket) { one.Done(types.Outcome{}) })
	step(func() { u.clock.pass(2 * time.Hour) })
}

// TestUserFunctionsThatDoNotReturn: each function panics, or ends its goroutine, the first
// time, every time or now and then. No ticket, no lock and no place in a queue is lost.
func TestUserFunctionsThatDoNotReturn(t *testing.T) {
	for _, in := range userFunctions {
		for how, fail := range map[string]func(){
			"panics": func() { panic("of " + in) }, "panics with an error": func() { panic(errors.New("of " + in)) },
			"ends its goroutine": runtime.Goexit,
		} {
			for when, times := range map[string]func(n int) bool{
				"once": func(n int) bool { return n == 1 }, "always": func(int) bool { return true }, "now and then": func(n int) bool { return n%3 == 2 },
			} {
				t.Run(fmt.Sprintf("%s %s %s", in, how, when), func(t *testing.T) {
					if in == "Clock.AfterFunc" && when == "always" || strings.Contains(how, "goroutine") && strings.HasPrefix(in, "Clock") {
						t.Skip("real time would have to pass, or it would never")
					}
					armed, calls, heard := true, 0, 0
					u := &user{clock: newClock()}
					u.at = func(at string) {
						if at != in || !armed {
							return
						}
						if calls++; times(calls) {
							fail()
						}
					}
					failed := func(err error) {
						var p *admission.Panic
						if !errors.As(err, &p) || !strings.Contains(err.Error(), "of "+in) || len(p.Stack) == 0 {
							t.Errorf("Failed was told %v", err)
						}
						if p.In != in {
							t.Errorf("%s panicked, Failed was told %s", in, p.In)
						}
						heard++
					}
					var c *admission.Controller
					done := make(chan struct{})
					go func() {
						defer close(done)
						c, _ = admission.New(u.options(failed))
					}()
					<-done
					if c == nil {
						t.Skip("New was ended")
					}
					u.history(t, c, failed)
					if calls == 0 {
						t.Fatal("the test does not do what it is for")
					}
					if strings.HasPrefix(how, "panics") && times(calls) && heard == 0 {
						t.Error("Failed was not told")
					}

					armed = false
					ep := types.NewEndpoint("new", "10.0.0.1:8000")
					c.SetEndpoints([]*types.Endpoint{ep})
					u.clock.pass(2 * time.Hour)
					s := c.Stats()
					for _, b := range s.Bands {
						if b.Running != 0 || b.Queued != 0 {
							t.Errorf("at %d %d run, %d wait", b.Priority, b.Running, b.Queued)
						}
					}
					require.NoError(t, c.CheckInvariants(true))
					told := 0
					u.full = 1
					c.Put(ep)
					one, queued, err := c.Offer(admission.Arrival{Request: request("r", 0, "")}, func(error) { told++ })
					if err != nil || !queued {
						t.Fatal(queued, err)
					}
					u.full = 0
					c.Put(ep)
					equal(t, "told", told, 1)
					one.Booked(ep)
					one.Done(types.Outcome{})
					c.Close()
				})
			}
		}
	}
}

func TestFailedThatPanics(t *testing.T) {
	u := &user{clock: newClock()}
	u.at = func(string) { panic("always") }
	c, err := admission.New(u.options(func(error) {}))
	require.NoError(t, err)
	u.history(t, c, func(error) {})
	u.at = func(string) {}
	u.clock.pass(2 * time.Hour)
	equal(t, "waiting", c.Stats().Queued, 0)
}

// TestWhatPanicsDecides: a Fill that panics is not known, a Match that does may not.
func TestWhatPanicsDecides(t *testing.T) {
	bad := types.NewEndpoint("bad", "10.0.0.1:8000")
	good := types.NewEndpoint("good", "10.0.0.1:8001")
	c, err := admission.New(admission.Options{Detector: admission.DetectorFunc(func(_ admission.Query, ep *types.Endpoint) float64 {
		if ep == bad {
			panic("bad")
		}
		return 1
	})})
	require.NoError(t, err)
	c.SetEndpoints([]*types.Endpoint{bad})
	ask := func(a admission.Arrival) admission.Report { a.Request = request("r", 0, ""); return c.Explain(a) }
	equal(t, "alone, of which nothing is known", ask(admission.Arrival{}).Verdict, "admitted")
	c.Put(good)
	equal(t, "beside one that is full", ask(admission.Arrival{}).Verdict, "queued")
	r := ask(admission.Arrival{Candidates: "x", Match: func(ep *types.Endpoint) bool {
		if ep == good {
			panic("good")
		}
		return true
	}})
	equal(t, "candidates", r.Candidates, 1)
	equal(t, "verdict", r.Verdict, "admitted")
}

// TestUserFunctionsMayCallTheController: each function calls each method, every time.
func TestUserFunctionsMayCallTheController(t *testing.T) {
	for _, in := range userFunctions {
		t.Run(in, func(t *testing.T) {
			u := &user{clock: newClock()}
			var c *admission.Controller
			ep := types.NewEndpoint("inner", "10.0.0.1:8000")
			calls, depth := 0, 0
			full := false
			u.at = func(at string) {
				if at != in || c == nil {
					return
				}
				if calls++; depth >= 3 || calls > 2000 { // what calls itself for ever is another fault
					return
				}
				depth++
				defer func() { depth-- }()
				c.Stats()
				a := admission.Arrival{Request: request("inner", -1, "t"), Candidates: "x", Match: u.match, MaxWait: time.Second}
				c.Explain(a)
				c.Put(ep)
				c.Update(ep.WithMetrics(types.Metrics{UpdatedAt: u.clock.now.Add(time.Duration(calls))}))
				if one, _, err := c.Offer(a, u.ready); err == nil {
					one.Candidates(nil, []*types.Endpoint{ep})
					one.Explain()
					one.Charge()
					one.Alive()
					one.SetPriority(-2)
					one.OnRevoke(u.revoke)
					one.Booked(ep)
					one.FirstToken()
					one.Done(types.Outcome{})
				}
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				_, _, _ = c.Admit(ctx, a)
				if full = !full; full {
					c.SetEndpoints([]*types.Endpoint{ep})
				} else {
					c.Remove(ep)
				}
				_ = c.Configure(u.options(func(error) {}))
			}
			var err error
			if c, err = admission.New(u.options(func(err error) { t.Error(err) })); err != nil {
				t.Fatal(err)
			}
			u.history(t, c, func(err error) { t.Error(err) })
			if calls == 0 {
				t.Fatal("the test does not do what it is for")
			}
			u.at = func(string) {}
			c.SetEndpoints(nil)
			c.Put(ep)
			u.clock.pass(2 * time.Hour)
			for _, b := range c.Stats().Bands {
				if b.Running != 0 || b.Queued != 0 {
					t.Errorf("at %d %d run, %d wait", b.Priority, b.Running, b.Queued)
				}
			}
			require.NoError(t, c.CheckInvariants(true))
			c.Close()
		})
	}
}

// TestDetectorThatAlwaysTells asks for itself again each time it is asked.
func TestDetectorThatAlwaysTells(t *testing.T) {
	var c *admission.Controller
	var eps []*types.Endpoint
	for i := range 5 {
		eps = append(eps, types.NewEndpoint(fmt.Sprint(i), "10.0.0.1:8000"))
	}
	calls := 0
	c, err := admission.New(admission.Options{Detector: admission.DetectorFunc(func(_ admission.Query, ep *types.Endpoint) float64 {
		calls++
		c.Put(ep)
		c.SetEndpoints(eps)
		c.Explain(admission.Arrival{Request: request("r", 0, ""), Candidates: "x", Match: func(ep *types.Endpoint) bool {
			c.Put(ep)
			c.Explain(admission.Arrival{Request: request("r", 0, ""), Candidates: "x", Match: func(*types.Endpoint) bool { return true }})
			return true
		}})
		return 0
	})})
	require.NoError(t, err)
	c.SetEndpoints(eps)
	one, _, err := c.Offer(admission.Arrival{Request: request("r", 0, "")}, nil)
	require.NoError(t, err)
	one.Booked(eps[0])
	one.Done(types.Outcome{})
	t.Log(calls, "calls")
}

// TestHooksHearOneAtATimeAndInOrder: from many goroutines, also of what hooks do.
func TestHooksHearOneAtATimeAndInOrder(t *testing.T) {
	var heard []string // by hooks, without a lock
	note := func(what string, one *admission.Ticket) { heard = append(heard, what+" "+one.Request().ID) }
	c, err := admission.New(admission.Options{
		Detector: admission.Concurrency{Requests: 1}, Bands: []admission.Band{{Name: "all"}},
		Hooks: admission.Hooks{
			Queued:     func(one *admission.Ticket) { note("queued", one) },
			Dispatched: func(one *admission.Ticket, _ time.Duration) { note("dispatched", one) },
			Finished:   func(one *admission.Ticket, _ types.Outcome) { note("finished", one) },
		},
	})
	require.NoError(t, err)
	ep := types.NewEndpoint("e", "10.0.0.1:8000")
	c.Put(ep)
	const workers, each = 50, 20
	done := make(chan struct{})
	for w := range workers {
		go func() {
			for i := range each {
				one, _, err := c.Admit(context.Background(), admission.Arrival{Request: request(fmt.Sprintf("%d-%d", w, i), 0, "")})
				if err != nil {
					t.Error(err)
					break
				}
				ep.Load.Book(types.Booking{Requests: 1})
				one.Booked(ep)
				runtime.Gosched()
				ep.Load.Release(types.Booking{Requests: 1})
				one.Done(types.Outcome{})
			}
			done <- struct{}{}
		}()
	}
	for range workers {
		<-done
	}
	state := map[string]string{}
	for _, h := range heard {
		what, id, _ := strings.Cut(h, " ")
		if want := map[string][]string{"queued": {""}, "dispatched": {"", "queued"}, "finished": {"dispatched"}}[what]; !slices.Contains(want, state[id]) {
			t.Fatalf("request %s was %s after %q", id, what, state[id])
		}
		state[id] = what
	}
	for id, s := range state {
		if s != "finished" {
			t.Errorf("request %s was last %s", id, s)
		}
	}
	equal(t, "requests", len(state), workers*each)
}

// TestHookThatWaits: a hook may wait for its own Admit to have waited in vain.
func TestHookThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c *admission.Controller
		var inner error
		c, err := admission.New(admission.Options{
			Detector: admission.DetectorFunc(func(admission.Query, *types.Endpoint) float64 { return 1 }),
			Hooks: admission.Hooks{Queued: func(one *admission.Ticket) {
				if one.Request().ID == "outer" {
					_, _, inner = c.Admit(t.Context(), admission.Arrival{Request: request("inner", 0, ""), MaxWait: time.Second})
				}
			}},
		})
		require.NoError(t, err)
		c.Put(types.NewEndpoint("e", "10.0.0.1:8000"))
		start := time.Now()
		_, _, err = c.Admit(t.Context(), admission.Arrival{Request: request("outer", 0, ""), MaxWait: 3 * time.Second})
		var r *admission.Refusal
		if !errors.As(err, &r) || r.Reason != admission.TimedOut || !errors.As(inner, &r) || r.Reason != admission.TimedOut {
			t.Errorf("outer %v, inner %v", err, inner)
		}
		equal(t, "after", time.Since(start), 3*time.Second)
	})
}
