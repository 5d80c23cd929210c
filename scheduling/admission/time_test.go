package admission_test

import (
	"context"
	"errors"
	"testing"
	"time"
	"unsafe"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// steppedClock is the real one, but for the wall clock, which is off by what somebody set it
// to: the monotonic reading goes on.
type steppedClock struct {
	off func() time.Duration
}

func (c steppedClock) Now() time.Time {
	now := time.Now()
	stepped := now.Add(c.off())
	// A Time is its wall clock, its monotonic reading and a place; Add moves both.
	type parts struct {
		wall uint64
		ext  int64
		loc  *time.Location
	}
	(*parts)(unsafe.Pointer(&stepped)).ext = (*parts)(unsafe.Pointer(&now)).ext
	return stepped
}

func (steppedClock) AfterFunc(d time.Duration, f func()) func() {
	t := time.AfterFunc(d, f)
	return func() { t.Stop() }
}

func TestTrapClockIsSet(t *testing.T) {
	for name, by := range map[string]time.Duration{"an hour forward": time.Hour, "an hour back": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const wait = 300 * time.Millisecond
			start := time.Now()
			clock := steppedClock{func() time.Duration {
				if time.Since(start) > wait/3 {
					return by
				}
				return 0
			}}
			if d := clock.Now().Sub(start); d > wait {
				t.Fatalf("the test's clock is %v off", d)
			}
			ended := 0
			c, err := admission.New(admission.Options{
				Detector: admission.Concurrency{Requests: 1},
				Budgets:  []admission.Budget{{RequestsPerMinute: 3, Burst: 1}},
				Hooks:    admission.Hooks{Finished: func(*admission.Ticket, types.Outcome) { ended++ }},
				Tuning:   admission.Tuning{Clock: clock},
			})
			require.NoError(t, err)
			ep := types.NewEndpoint("e", "10.0.0.1:8000")
			c.Put(ep)
			first, _, err := c.Admit(context.Background(), admission.Arrival{Request: request("r", 0, "")})
			require.NoError(t, err)
			ep.Load.Book(types.Booking{Requests: 1})
			first.Booked(ep)
			lost, _, err := c.Admit(context.Background(), admission.Arrival{Request: request("r", 100, ""), MaxWait: wait})
			var refused *admission.Refusal
			if lost != nil || !errors.As(err, &refused) || refused.Reason != admission.TimedOut || refused.Waited < wait || refused.Waited > 10*wait {
				t.Errorf("one that waits while the clock is set: %v after %v", err, refused.Waited)
			}
			equal(t, "ended as forgotten", ended, 0)
			one, _, err := c.Offer(admission.Arrival{Request: request("r", 0, ""), MaxWait: time.Minute}, nil)
			require.NoError(t, err)
			if r := one.Explain(); r.Waited > time.Second || r.Left < 20*time.Second || r.Left > 30*time.Second {
				t.Errorf("has waited %v, may wait %v", r.Waited, r.Left)
			}
			_, _, _ = c.Offer(admission.Arrival{Request: request("r", 0, "")}, nil)
			_, _, err = c.Offer(admission.Arrival{Request: request("r", 0, "")}, nil)
			if !errors.As(err, &refused) || refused.Reason != admission.Requests {
				t.Errorf("over the budget, which is not filled by setting a clock: %v", err)
			}
			c.Close()
		})
	}
}

// TestAnotherClock: instants go on where another Clock begins elsewhere.
func TestAnotherClock(t *testing.T) {
	r := newRig(t, 1, admission.Options{})
	r.fill(0, 1)
	c := r.offer(request("r", 0, ""))
	r.clock.pass(10 * time.Second)
	other := newClock()
	other.now = other.now.Add(-1000 * time.Hour)
	require.NoError(t, r.c.Configure(r.with(admission.Options{Tuning: admission.Tuning{Clock: other}})))
	r.clock.pass(time.Hour)
	other.pass(20*time.Second - 1)
	equal(t, "waits", c.Waiting(), true)
	other.pass(1)
	equal(t, "waits", c.Waiting(), false)
	equal(t, "waited", c.refusal.Waited, 30*time.Second)
}
