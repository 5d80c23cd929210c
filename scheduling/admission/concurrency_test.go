package admission_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// TestConcurrency has hundreds of goroutines do everything that there is to one Controller.
func TestConcurrency(t *testing.T) {
	const workers = 300
	each := 60
	if testing.Short() {
		each = 15
	}
	goroutines := runtime.NumGoroutine()
	var eps []*types.Endpoint
	for i := range 8 {
		eps = append(eps, types.NewEndpoint(fmt.Sprintf("e%d", i), "10.0.0.1:8000"))
	}
	var dispatched, refused, cancelled, finished, queued atomic.Int64
	options := func(n int) admission.Options {
		bands := threeBands()
		bands[1].Floor = float64(n%3) * 0.1
		bands[2].MaxRequests = -(n % 2)
		return admission.Options{
			Bands: bands, Detector: admission.Max{admission.Concurrency{Requests: 2 + n%4}, admission.Backlog{Tokens: 1000}, new(admission.LearnedBatch), new(admission.PredictedTTFT)},
			Fairness:         admission.Fairness(n % 3),
			MaxRequests:      100,
			WaitForEndpoints: time.Duration(n%2) * 100 * time.Millisecond, Revoke: true,
			Budgets: []admission.Budget{{Tenant: "*", RequestsPerMinute: 1e6, TokensPerMinute: 1e9}, {Tenant: "t1", TokensPerMinute: 1e9}},
			Hooks: admission.Hooks{
				Queued: func(t *admission.Ticket) { queued.Add(1); t.Band() },
				Dispatched: func(t *admission.Ticket, _ time.Duration) {
					dispatched.Add(1)
					if t.Priority() > t.Request().Priority && t.Request().Priority != -1000 {
						panic("raised")
					}
				},
				Refused:   func(*admission.Ticket, *admission.Refusal) { refused.Add(1) },
				Cancelled: func(*admission.Ticket, time.Duration) { cancelled.Add(1) },
				Finished:  func(*admission.Ticket, types.Outcome) { finished.Add(1) },
			},
			Tuning: admission.Tuning{Order: admission.Order(n % 2), Credit: 100, Quantum: 500, MaxBytes: 1 << 20, MaxBands: 5, MaxFlows: 10, MaxLanes: 4, FlowIdle: time.Millisecond},
		}
	}
	c, err := admission.New(options(0))
	require.NoError(t, err)
	c.SetEndpoints(eps)

	var wg sync.WaitGroup
	var in, told, asked, late atomic.Int64 // requests that were let in; callbacks; contexts that ended
	for w := range workers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 3))
			for i := range each {
				// A priority of -1000 is changed while it waits.
				req := &types.Request{
					Priority: pick(rng, 100, 0, 0, 0, 5, -100, rng.IntN(1000)-500, -1000), FairnessID: fmt.Sprintf("t%d", rng.IntN(20)),
					Model: "m", Prompt: types.Prompt{Tokens: rng.IntN(300)}, Body: make([]byte, rng.IntN(100)),
				}
				if rng.IntN(4) == 0 {
					req.SLO.TTFT = time.Duration(rng.IntN(1000)) * time.Millisecond
				}
				a := admission.Arrival{Request: req, MaxWait: time.Duration(rng.IntN(20)) * time.Millisecond}
				if n := rng.IntN(12); n < 6 {
					a.Candidates = fmt.Sprint(n)
					a.Match = func(ep *types.Endpoint) bool { return ep.ID >= fmt.Sprintf("e%d", n) }
				}
				var ticket *admission.Ticket
				switch rng.IntN(3) {
				case 0:
					ready := make(chan error, 1)
					one, wait, err := c.Offer(a, func(err error) { told.Add(1); ready <- err })
					if err != nil {
						continue
					}
					if req.Priority == -1000 {
						one.SetPriority(pick(rng, 100, 0, 7))
					}
					one.Band()
					one.Priority()
					one.Explain()
					if wait && rng.IntN(3) == 0 {
						one.Done(types.Outcome{Cancelled: true}) // it may have been let in meanwhile
						continue
					}
					if wait && <-ready != nil {
						continue
					}
					ticket = one
				default:
					ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rng.IntN(20_000))*time.Microsecond)
					one, _, err := c.Admit(ctx, a)
					cancel()
					if err != nil {
						if errors.Is(err, context.DeadlineExceeded) {
							late.Add(1) // perhaps before it was heard of
						}
						continue
					}
					ticket = one
				}
				in.Add(1)
				ticket.OnRevoke(func(*admission.Refusal) { asked.Add(1) })
				left := ticket.Candidates(nil, eps)
				ep := left[rng.IntN(len(left))]
				booking := types.Booking{Requests: 1, Prefilling: 1, PrefillTokens: int64(req.Prompt.Tokens), ContextTokens: int64(req.Prompt.Tokens)}
				ep.Load.Book(booking)
				ticket.Booked(ep)
				if i%4 == 0 {
					runtime.Gosched()
				}
				ticket.FirstToken()
				ep.Load.Release(booking)
				ticket.Done(types.Outcome{Usage: types.Usage{CompletionTokens: types.Known(float64(rng.IntN(100)))}})
			}
		})
	}
	stop := make(chan struct{})
	var others sync.WaitGroup
	background := func(f func(n int)) {
		others.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
					f(n)
					time.Sleep(100 * time.Microsecond)
				}
			}
		})
	}
	background(func(n int) {
		reading := eps[n%8].WithMetrics(types.Metrics{Waiting: types.Known(float64(n % 3)), Running: types.Known(float64(n % 5)), UpdatedAt: time.Now()})
		c.Put(reading)
		c.Update(reading)
	})
	background(func(n int) {
		switch n % 3 {
		case 0:
			c.Remove(eps[n%8])
		case 1:
			c.SetEndpoints(eps[n%8:])
		default:
			c.SetEndpoints(eps)
		}
	})
	background(func(n int) {
		if err := c.Configure(options(n)); err != nil {
			t.Error(err)
		}
	})
	background(func(n int) {
		c.Stats()
		c.Explain(admission.Arrival{Request: request("r", n%200-100, fmt.Sprintf("e%d", n%30))})
		if err := c.CheckInvariants(false); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	close(stop)
	others.Wait()

	s := c.Stats()
	equal(t, "waiting", s.Queued, 0)
	equal(t, "bytes", s.Bytes, 0)
	for _, b := range s.Bands {
		equal(t, fmt.Sprintf("running at %d", b.Priority), b.Running, 0)
		equal(t, fmt.Sprintf("waiting at %d", b.Priority), b.Queued, 0)
	}
	equal(t, "let in and ended", finished.Load(), dispatched.Load())
	if n := refused.Load() + cancelled.Load() + dispatched.Load(); n > int64(workers*each) || n+late.Load() < int64(workers*each) {
		t.Errorf("%d of %d requests were let in, refused or given up", n, workers*each)
	}
	if in.Load() > dispatched.Load() || told.Load() > queued.Load() {
		t.Errorf("%d went on of %d let in, %d were told of %d that waited", in.Load(), dispatched.Load(), told.Load(), queued.Load())
	}
	for _, n := range []*atomic.Int64{&in, &refused, &cancelled, &queued} {
		if n.Load() == 0 {
			t.Error("the test does not do what it is for")
		}
	}
	require.NoError(t, c.CheckInvariants(false))
	c.Close()
	for range 100 {
		if runtime.NumGoroutine() <= goroutines {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines, %d at first", n, goroutines)
	}
}

var memoryRequests = flag.Int("memory.requests", 1_000_000, "how many requests TestMemoryIsFlat lets through")

// TestMemoryIsFlat lets millions of requests through, each of another tenant and of one of
// very many priorities and sets of candidates, and looks at the heap.
func TestMemoryIsFlat(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("takes some seconds")
	}
	all, first := *memoryRequests, *memoryRequests/5
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // the heap is small, and the garbage is much
	full := true
	var let *admission.Ticket
	c, err := admission.New(admission.Options{
		Bands: []admission.Band{{Name: "high", Priority: 100, Ceiling: 1}, {Name: "low", Ceiling: 1}},
		Detector: admission.DetectorFunc(func(admission.Query, *types.Endpoint) float64 {
			if full {
				return 1
			}
			return 0
		}),
		Hooks:  admission.Hooks{Dispatched: func(t *admission.Ticket, _ time.Duration) { let = t }},
		Tuning: admission.Tuning{MaxFlows: 40, MaxBands: 8, MaxLanes: 4, FlowIdle: time.Second, Clock: newClock()},
	})
	require.NoError(t, err)
	ep := types.NewEndpoint("e", "10.0.0.1:8000")
	c.Put(ep)
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	match := func(*types.Endpoint) bool { return true }
	name := make([]byte, 0, 32)
	var at uint64
	for i := range all {
		name = fmt.Appendf(name[:0], "tenant-%d", i)
		a := admission.Arrival{Request: &types.Request{FairnessID: string(name), Priority: i % 3001, Prompt: types.Prompt{Tokens: i % 100}}}
		if i%64 == 0 {
			a.Candidates, a.Match = string(name[3:]), match
		}
		ticket, queued, err := c.Offer(a, func(error) {})
		if err != nil || !queued {
			t.Fatal(queued, err)
		}
		if i%16 == 0 {
			ticket.Done(types.Outcome{})
		} else {
			full = false
			c.Put(ep)
			full = true
			let.Booked(ep)
			let.Done(types.Outcome{})
		}
		if i == first {
			at = heap()
		}
	}
	s := c.Stats()
	if s.Queued != 0 || len(s.Bands) > 10 {
		t.Errorf("%d wait, %d bands", s.Queued, len(s.Bands))
	}
	end := heap()
	t.Logf("heap of %d KiB after %d requests, %d KiB after %d", at>>10, first, end>>10, all)
	if end > at+at/10+64<<10 {
		t.Errorf("heap of %d KiB after %d requests, %d KiB after %d", at>>10, first, end>>10, all)
	}
	require.NoError(t, c.CheckInvariants(true))
	runtime.KeepAlive(c)
}
