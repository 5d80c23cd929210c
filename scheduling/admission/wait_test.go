package admission_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// These tests run with the real clock, in a bubble in which its time is exact: a bubble
// whose goroutines do not all end fails its test.

// pool is a Controller with the real clock.
type pool struct {
	t     *testing.T
	c     *admission.Controller
	ep    *types.Endpoint
	mu    sync.Mutex
	full  float64
	start time.Time
}

func newPool(t *testing.T, o admission.Options) *pool {
	t.Helper()
	p := &pool{t: t, ep: types.NewEndpoint("e", "10.0.0.1:8000"), full: 1, start: time.Now()}
	o.Detector = admission.DetectorFunc(func(admission.Query, *types.Endpoint) float64 {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.full
	})
	if o.Bands == nil {
		o.Bands = threeBands()
	}
	c, err := admission.New(o)
	require.NoError(t, err)
	p.c = c
	c.Put(p.ep)
	return p
}

func (p *pool) fill(full float64) {
	p.mu.Lock()
	p.full = full
	p.mu.Unlock()
	p.c.Put(p.ep)
}

// result is what became of an Admit.
type result struct {
	ticket *admission.Ticket
	waited time.Duration
	err    error
	at     time.Duration // since the pool was made
}

// admit calls Admit in a goroutine of its own.
func (p *pool) admit(ctx context.Context, a admission.Arrival) <-chan result {
	ch := make(chan result, 1)
	go func() {
		ticket, waited, err := p.c.Admit(ctx, a)
		ch <- result{ticket, waited, err, time.Since(p.start)}
	}()
	synctest.Wait()
	return ch
}

func (p *pool) refused(got result, why admission.Reason, after time.Duration) {
	p.t.Helper()
	var f *admission.Refusal
	if !errors.As(got.err, &f) || f.Reason != why || got.ticket != nil || f.Waited != after || got.waited != after {
		p.t.Errorf("got %v, %v, want %s after %v", got.err, got.waited, why, after)
	}
}

func TestRequestsWaitUntilTheirDeadline(t *testing.T) {
	for _, tt := range []struct {
		name     string
		priority int
		maxWait  time.Duration
		slo      time.Duration
		want     time.Duration
	}{
		{"as long as the band may", 0, 0, 0, 30 * time.Second},
		{"another band", 100, 0, 0, time.Minute},
		{"as long as the request says", 0, 3 * time.Second, 0, 3 * time.Second},
		{"a nanosecond", 0, 1, 0, 1},
		{"which can only be shorter", 0, time.Hour, 0, 30 * time.Second},
		{"until the first token is late", 0, 0, 2 * time.Second, 2 * time.Second},
		{"which is no longer than the band may either", 0, 0, time.Hour, 30 * time.Second},
		{"what the request says goes before its SLO", 0, 5 * time.Second, 2 * time.Second, 5 * time.Second},
		{"what is below 0 says nothing", 0, -1, -1, 30 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPool(t, admission.Options{})
				req := request("r", tt.priority, "t")
				req.SLO.TTFT = tt.slo
				ch := p.admit(t.Context(), admission.Arrival{Request: req, MaxWait: tt.maxWait})
				time.Sleep(tt.want - 1)
				synctest.Wait()
				select {
				case got := <-ch:
					t.Fatalf("did not wait: %v after %v", got.err, got.at)
				default:
				}
				got := <-ch
				p.refused(got, admission.TimedOut, tt.want)
				equal(t, "after", got.at, tt.want)
				equal(t, "waiting", p.c.Stats().Queued, 0)
			})
		})
	}
}

// TestSLOLeavesTimeForTheFirstToken: who waits for as long as the first token may take gets
// it late.
func TestSLOLeavesTimeForTheFirstToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, admission.Options{})
		p.fill(0)
		for range 500 {
			ticket, _, err := p.c.Admit(t.Context(), admission.Arrival{Request: request("r", 0, "t")})
			require.NoError(t, err)
			ticket.Booked(p.ep)
			time.Sleep(400 * time.Millisecond)
			ticket.FirstToken()
			ticket.Done(types.Outcome{})
		}
		p.fill(1)
		for _, tt := range []struct{ slo, want time.Duration }{
			{2 * time.Second, 1600 * time.Millisecond},
			{500 * time.Millisecond, 250 * time.Millisecond}, // at least half of it
		} {
			req := request("r", 0, "t")
			req.SLO.TTFT = tt.slo
			_, waited, err := p.c.Admit(t.Context(), admission.Arrival{Request: req})
			if err == nil || (waited-tt.want).Abs() > 10*time.Millisecond {
				t.Errorf("with a target of %v: %v after %v, want refused after %v", tt.slo, err, waited, tt.want)
			}
		}
	})
}

func TestAdmitReturnsWhenItsContextIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, admission.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		ch := p.admit(ctx, admission.Arrival{Request: request("r", 0, "t")})
		other := p.admit(t.Context(), admission.Arrival{Request: request("r", 0, "t")})
		time.Sleep(time.Second)
		cancel()
		got := <-ch
		if !errors.Is(got.err, context.Canceled) || got.ticket != nil || got.at != time.Second {
			t.Errorf("got %v after %v", got.err, got.at)
		}
		s := p.c.Stats()
		equal(t, "waiting", s.Queued, 1)
		equal(t, "cancelled", s.Bands[0].Cancelled, 1)

		// One that is done already does not even wait.
		if ticket, waited, err := p.c.Admit(ctx, admission.Arrival{Request: request("r", 0, "t")}); ticket != nil || waited != 0 || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, %v, %v", ticket, waited, err)
		}
		equal(t, "dispatched", p.c.Stats().Bands[0].Dispatched, 0)

		p.fill(0)
		if got := <-other; got.err != nil || got.waited != time.Second {
			t.Errorf("the other: %v after %v", got.err, got.waited)
		} else {
			got.ticket.Done(types.Outcome{})
		}
	})
}

// TestAdmitBetweenRoomAndContext: a request that is let in at the moment in which it is
// given up holds nothing.
func TestAdmitBetweenRoomAndContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, admission.Options{})
		for range 100 {
			ctx, cancel := context.WithCancel(t.Context())
			ch := p.admit(ctx, admission.Arrival{Request: request("r", 0, "t")})
			go cancel()
			go p.fill(0)
			if got := <-ch; got.err == nil {
				got.ticket.Done(types.Outcome{})
			}
			cancel()
			p.fill(1)
			synctest.Wait()
			s := p.c.Stats()
			if s.Queued != 0 || s.Bands[0].Running != 0 {
				t.Fatalf("%d wait, %d run", s.Queued, s.Bands[0].Running)
			}
			p.fill(1)
		}
		require.NoError(t, p.c.CheckInvariants(false))
	})
}

func TestWaitForEndpoints(t *testing.T) {
	arrive := func(p *pool, priority int) <-chan result {
		return p.admit(p.t.Context(), admission.Arrival{Request: request("r", priority, "t")})
	}
	const bound = 5 * time.Second
	run := func(name string, wait time.Duration, f func(*testing.T, *pool)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPool(t, admission.Options{WaitForEndpoints: wait})
				p.c.Remove(p.ep)
				p.full = 0
				f(t, p)
			})
		})
	}
	run("refused where that is not asked for", 0, func(t *testing.T, p *pool) {
		got := <-arrive(p, 0)
		p.refused(got, admission.NoEndpoint, 0)
		if f := new(admission.Refusal); errors.As(got.err, &f) && (!f.Reason.Unavailable() || f.RetryAfter != 0) {
			t.Errorf("refused for %q, to come again after %v", f.Reason, f.RetryAfter)
		}
	})
	run("let in when one comes", bound, func(t *testing.T, p *pool) {
		ch, low := arrive(p, 0), arrive(p, -100)
		time.Sleep(2 * time.Second)
		p.c.Put(p.ep)
		got := <-ch
		if got.err != nil || got.waited != 2*time.Second {
			t.Fatalf("got %v after %v", got.err, got.waited)
		}
		got.ticket.Booked(p.ep)
		got.ticket.Done(types.Outcome{})
		if got := <-low; got.err != nil {
			t.Errorf("the lower band: %v", got.err)
		} else {
			got.ticket.Done(types.Outcome{})
		}
	})
	run("refused after the bound", bound, func(t *testing.T, p *pool) {
		p.refused(<-arrive(p, 0), admission.NoEndpoint, bound)
	})
	run("bands and targets are for servers that run", 5*time.Minute, func(t *testing.T, p *pool) {
		slow := request("r", 0, "t")
		slow.SLO.TTFT = time.Second
		got := <-p.admit(t.Context(), admission.Arrival{Request: slow})
		p.refused(got, admission.NoEndpoint, 5*time.Minute)
		if f := new(admission.Refusal); errors.As(got.err, &f) && f.RetryAfter != admission.DefaultMaxRetry {
			t.Errorf("to come again after %v, want the most that clients are told", f.RetryAfter)
		}
		short := admission.Arrival{Request: request("r", 100, "t"), MaxWait: time.Second}
		p.refused(<-p.admit(t.Context(), short), admission.NoEndpoint, time.Second)
	})
	run("a full queue is no fault of who comes", bound, func(t *testing.T, p *pool) {
		require.NoError(t, p.c.Configure(admission.Options{WaitForEndpoints: bound, MaxRequests: 1}))
		first := arrive(p, 0)
		synctest.Wait()
		p.refused(<-arrive(p, 0), admission.NoEndpoint, 0)
		p.refused(<-first, admission.NoEndpoint, bound)
	})
	run("a band that does not wait is refused when one comes that is full", bound, func(t *testing.T, p *pool) {
		low, ch := arrive(p, -100), arrive(p, 0)
		p.full = 1
		p.c.Put(p.ep)
		p.refused(<-low, admission.Saturated, 0)
		p.refused(<-ch, admission.TimedOut, bound)
	})
	run("what waits for candidates that are not there", bound, func(t *testing.T, p *pool) {
		p.c.Put(p.ep)
		none := admission.Arrival{Request: request("r", 0, "t"), Candidates: "none", Match: func(*types.Endpoint) bool { return false }}
		p.refused(<-p.admit(t.Context(), none), admission.NoEndpoint, bound)
	})
	run("one that drains is no endpoint", bound, func(t *testing.T, p *pool) {
		ep := *p.ep
		ep.State = types.Draining
		p.c.Put(&ep)
		ch := arrive(p, 0)
		ep2 := ep
		ep2.State = types.Ready
		p.c.Update(&ep2)
		if got := <-ch; got.err != nil {
			t.Errorf("one that is ready again: %v", got.err)
		} else {
			got.ticket.Done(types.Outcome{})
		}
	})
	for how, gone := range map[string]func(*pool){
		"Remove":       func(p *pool) { p.c.Remove(p.ep) },
		"SetEndpoints": func(p *pool) { p.c.SetEndpoints(nil) },
		"Put":          func(p *pool) { ep := *p.ep; ep.State = types.Draining; p.c.Put(&ep) },
		"Update":       func(p *pool) { ep := *p.ep; ep.State = types.Draining; p.c.Update(&ep) },
	} {
		run("what waits is refused when the last goes, by "+how, 0, func(t *testing.T, p *pool) {
			p.full = 1
			p.c.Put(p.ep)
			ch := arrive(p, 0)
			time.Sleep(time.Second)
			gone(p)
			p.refused(<-ch, admission.NoEndpoint, time.Second)
		})
	}
}

func TestCloseRefusesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, admission.Options{})
		p.fill(0)
		running, _, err := p.c.Admit(t.Context(), admission.Arrival{Request: request("r", 0, "t")})
		require.NoError(t, err)
		p.fill(1)
		var all []<-chan result
		for _, priority := range []int{0, 100, 5} {
			all = append(all, p.admit(t.Context(), admission.Arrival{Request: request("r", priority, "t")}))
		}
		time.Sleep(time.Second)
		p.c.Close()
		for _, ch := range all {
			p.refused(<-ch, admission.Closed, time.Second)
		}
		p.refused(<-p.admit(t.Context(), admission.Arrival{Request: request("r", 100, "t")}), admission.Closed, 0)
		equal(t, "explained", p.c.Explain(admission.Arrival{Request: request("r", 100, "t")}).Reason, admission.Closed)
		p.c.Close()
		running.Booked(p.ep)
		running.Done(types.Outcome{})
		p.fill(0)
		s := p.c.Stats()
		equal(t, "waiting", s.Queued, 0)
		for _, b := range s.Bands {
			equal(t, "running", b.Running, 0)
		}
		time.Sleep(time.Hour) // a timer that was left would go off
		require.NoError(t, p.c.CheckInvariants(true))
	})
}

// TestOneTimerServesAll: deadlines come and go in any order, and each is kept.
func TestOneTimerServesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, admission.Options{})
		var all []<-chan result
		var want []time.Duration
		for _, wait := range []time.Duration{9, 3, 27, 1, 8, 2, 2, 30, 5} {
			all = append(all, p.admit(t.Context(), admission.Arrival{Request: request("r", 0, "t"), MaxWait: wait * time.Second}))
			want = append(want, wait*time.Second)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		first := p.admit(ctx, admission.Arrival{Request: request("r", 0, "t"), MaxWait: 600 * time.Millisecond})
		if got := <-first; !errors.Is(got.err, context.DeadlineExceeded) {
			t.Errorf("got %v", got.err)
		}
		for i, ch := range all {
			p.refused(<-ch, admission.TimedOut, want[i])
		}
	})
}
