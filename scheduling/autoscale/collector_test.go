package autoscale_test

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/types"
)

// What comes, runs and ends, of a pool and of its models.
func TestCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, autoscale.CollectorOptions{Speeds: known(speed)}, nil)
		s := r.signals("")
		require.Equal(t, 2, s.Ready)
		require.Equal(t, -1, s.Starting)
		require.Negative(t, s.Idle)
		require.False(t, s.KVUsed.Known())
		require.Zero(t, s.ArrivalWork)

		var open []*scheduling.Decision
		for i := range 600 { // two a second, for longer than is remembered
			model := []string{"big", "small"}[i%2]
			d, err := r.send(t.Context(), request(model, []int{4000, 400}[i%2]))
			require.NoError(t, err)
			time.Sleep(500 * time.Millisecond)
			d.FirstToken()
			if i < 590 {
				time.Sleep(0)
				d.Done(answered(100))
			} else {
				open = append(open, d)
			}
		}
		s = r.signals("")
		require.InEpsilon(t, 2, float64(s.Arrivals), .02)
		require.InEpsilon(t, 4400, float64(s.ArrivalTokens), .02)
		require.InEpsilon(t, 4400, float64(s.ArrivalCompute), .02)
		require.InEpsilon(t, 200, float64(s.ArrivalOutput), .02)
		want := 4400*speed.Token + 200*speed.Sequence
		require.InEpsilon(t, want, float64(s.ArrivalWork), .02)
		require.InEpsilon(t, want, float64(s.RecentWork), .1)
		require.Greater(t, s.RecentNoise, s.WorkNoise)
		require.EqualValues(t, 10, s.Running)
		require.Zero(t, s.Backlog)
		require.Zero(t, s.Idle)
		big, small := r.signals("big"), r.signals("small")
		require.EqualValues(t, 5, big.Running)
		require.InEpsilon(t, 4000, float64(big.ArrivalTokens), .02)
		require.InEpsilon(t, 400, float64(small.ArrivalTokens), .02)
		require.InDelta(t, .5, float64(big.TTFT.P90), .05)
		require.EqualValues(t, 1, big.TTFT.Met)
		require.EqualValues(t, 2, big.TTFT.Target)
		for _, d := range open {
			d.Done(types.Outcome{Cancelled: true})
		}
		time.Sleep(10 * time.Minute)
		s = r.signals("")
		require.Zero(t, s.Running)
		require.Equal(t, 10*time.Minute, s.Idle)
		require.Less(t, float64(s.ArrivalWork), 1e-4)
		require.Zero(t, s.TTFT.N)

		none := r.signals("unheard of")
		require.Zero(t, none.Arrivals)
		require.Equal(t, "unheard of", none.Model)
		_, err := r.collector.Signals(types.NamespacedName{Name: "other"}, "")
		require.ErrorIs(t, err, autoscale.ErrUnknownPool)
		require.ErrorContains(t, err, "other")
	})
}

// The standard error of what comes is what it varies by.
func TestNoise(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("it takes many requests")
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, autoscale.CollectorOptions{Speeds: known(speed)}, nil)
		rng := types.NewRand(1)
		var works []float64
		noise, mean := 0., 0.
		for i := range 40_000 { // 5 a second
			time.Sleep(time.Duration(-math.Log(1-rng.Float64()) * float64(200*time.Millisecond)))
			d, err := r.send(t.Context(), request("m", 10+rng.IntN(4000)))
			require.NoError(t, err)
			d.Done(answered(1))
			if i > 2000 && i%50 == 0 {
				s := r.signals("")
				works = append(works, float64(s.RecentWork))
				noise += float64(s.RecentNoise)
				mean += float64(s.RecentWork)
			}
		}
		n := float64(len(works))
		mean, noise = mean/n, noise/n
		spread := 0.
		for _, w := range works {
			spread += (w - mean) * (w - mean)
		}
		require.InEpsilon(t, math.Sqrt(spread/n), noise, .1)
	})
}

// What waits for admission: requests, tokens and how long, by model; and who was refused has come, too.
func TestQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := 1.
		var mu sync.Mutex
		gate := &admission.Options{Detector: admission.DetectorFunc(func(admission.Query, *types.Endpoint) float64 {
			mu.Lock()
			defer mu.Unlock()
			return full
		})}
		r := newRig(t, 1, autoscale.CollectorOptions{Speeds: known(speed)}, gate)
		defer r.admission.Close()
		ends := make(chan *scheduling.Decision, 3)
		for i := range 3 {
			go func() {
				d, err := r.send(t.Context(), request([]string{"a", "b"}[i%2], 1000*(i+1)))
				if err != nil {
					d = nil
				}
				ends <- d
			}()
			synctest.Wait()
			time.Sleep(time.Second)
		}
		s, a := r.signals(""), r.signals("a")
		require.EqualValues(t, 3, s.Queued)
		require.EqualValues(t, 6000, s.QueuedTokens)
		require.Equal(t, 3*time.Second, s.OldestWait)
		require.InEpsilon(t, 6000*speed.Token, float64(s.Backlog), 1e-9)
		require.EqualValues(t, 2, a.Queued)
		require.EqualValues(t, 4000, a.QueuedTokens)
		require.Equal(t, 3*time.Second, a.OldestWait)
		require.Equal(t, 2*time.Second, r.signals("b").OldestWait)
		require.Greater(t, float64(s.ArrivalWork), 0., "they have come")
		require.Zero(t, s.Idle)

		low := request("a", 100)
		low.Priority = -100
		_, err := r.send(t.Context(), low)
		require.Error(t, err)
		require.Greater(t, float64(r.signals("a").Refused), 0.)
		before := float64(r.signals("").Arrivals)

		mu.Lock()
		full = 0
		mu.Unlock()
		r.admission.Put(r.endpoints()[0])
		for range 3 {
			d := <-ends
			require.NotNil(t, d)
			time.Sleep(time.Millisecond)
			d.FirstToken()
			d.Done(answered(10))
		}
		s = r.signals("")
		require.Zero(t, s.Queued)
		require.Zero(t, s.QueuedTokens)
		require.InEpsilon(t, before, float64(s.Arrivals), .01, "none has come twice")
		require.Zero(t, float64(s.TTFT.Met)-1./3, "two have waited for longer than they should: %v", s.TTFT)

		mu.Lock()
		full = 1
		mu.Unlock()
		r.admission.Put(r.endpoints()[0])
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			_, _ = r.send(ctx, request("a", 1000))
			ends <- nil
		}()
		synctest.Wait()
		require.EqualValues(t, 1, r.signals("").Queued)
		cancel()
		<-ends
		require.Zero(t, r.signals("").Queued, "its client went away")
		require.Zero(t, r.signals("a").QueuedTokens)
	})
}

// Without admission control a refusal for want of a server is told by Refused, and counts once.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0, autoscale.CollectorOptions{Speeds: known(speed)}, nil)
		for range 60 {
			r.collector.Refused(request("m", 100), pool, "no_endpoint", 503)
			r.collector.Refused(request("m", 100), pool, "model_not_found", 404)
			r.collector.Refused(request("m", 100), types.NamespacedName{}, "no_endpoint", 503)
			time.Sleep(time.Second)
		}
		s := r.signals("m")
		require.InEpsilon(t, 1, float64(s.Arrivals), .02)
		require.Equal(t, s.Arrivals, s.Refused)
	})
	t.Run("hooks of one pool tell, too", func(t *testing.T) {
		r := newRig(t, 0, autoscale.CollectorOptions{}, nil)
		h := r.collector.Hooks(pool, scheduling.Hooks{})
		h.Rejected(request("m", 100), fmt.Errorf("nobody: %w", scheduling.ErrNoEndpoint))
		require.Greater(t, float64(r.signals("").Refused), 0.)
		h.Rejected(request("m", 100), context.Canceled)
		before := r.signals("").Refused
		r.collector.Refused(request("m", 100), pool, "no_endpoint", 503)
		h.Rejected(request("m", 100), scheduling.ErrNoEndpoint)
		require.InEpsilon(t, 2*float64(before), float64(r.signals("").Refused), .01, "not twice")
	})
}

// Models that clients make up do not fill memory, and what is beyond counts in the pool.
func TestModelsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, autoscale.CollectorOptions{MaxModels: 3}, nil)
		for i := range 10 {
			d, err := r.send(t.Context(), request(fmt.Sprint("m", i), 100))
			require.NoError(t, err)
			d.Done(answered(1))
		}
		require.Len(t, r.collector.All(), 4)
		require.Greater(t, float64(r.signals("").Arrivals), 3*float64(r.signals("m1").Arrivals))
		_, err := r.collector.Signals(pool, "m9")
		require.ErrorIs(t, err, autoscale.ErrTooManyModels, "what came for it is not nothing")
		a, err := autoscale.New(autoscale.Options{Collector: r.collector})
		require.NoError(t, err)
		_, err = a.Signals(t.Context(), pool, "m9")
		require.ErrorIs(t, err, autoscale.ErrTooManyModels)
		time.Sleep(time.Hour)
		d, err := r.send(t.Context(), request("new", 100))
		require.NoError(t, err)
		require.Greater(t, float64(r.signals("new").Arrivals), 0., "one that nobody asks for gives its place")
		d.Done(answered(1))
		require.Len(t, r.collector.All(), 4)
	})
}

// Servers by kind, and those that do not serve.
func TestVariantsAreTold(t *testing.T) {
	r := newRig(t, 0, autoscale.CollectorOptions{
		Speeds: known(speed), VariantLabel: "gpu",
		Starting: func(_ types.NamespacedName, variant string) (int, bool) {
			n, ok := map[string]int{"": 3, "h100": 2}[variant]
			return n, ok
		},
	}, nil)
	var eps []*types.Endpoint
	for i, gpu := range []string{"h100", "l4", "l4", "h100"} {
		ep := types.NewEndpoint(fmt.Sprint("e", i), fmt.Sprintf("10.0.0.%d:8000", i+1))
		ep.Labels = map[string]string{"gpu": gpu}
		ep.Capacity = types.Capacity{CostPerHour: map[string]float64{"h100": 4, "l4": 1}[gpu], MaxConcurrency: 64, KVTokens: 1000 * (i + 1)}
		if i == 3 {
			ep.State = types.Draining
		}
		eps = append(eps, ep)
	}
	r.set(eps...)
	s := r.signals("")
	require.Equal(t, 3, s.Ready)
	require.Equal(t, 3, s.Starting)
	require.EqualValues(t, 64, s.Slots)
	require.EqualValues(t, 2000, s.KVTokens)
	require.Equal(t, []autoscale.Variant{
		{Name: "h100", Ready: 1, Starting: 2, CostPerHour: 4, Speed: speed},
		{Name: "l4", Ready: 2, Starting: -1, CostPerHour: 1, Speed: speed},
	}, s.Variants)
}

// Where nobody knows how fast servers are it is learned from requests.
func TestSpeedsAreLearned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, autoscale.CollectorOptions{}, nil)
		truth := types.Speed{Token: 1e-4, Step: .02, Sequence: 5e-4}
		require.False(t, r.signals("").Speed.Known())
		rng := types.NewRand(7)
		for range 100 {
			n := 1 + rng.IntN(20)
			var open []*scheduling.Decision
			for range n {
				d, err := r.send(t.Context(), request("m", 500+rng.IntN(2000)))
				require.NoError(t, err)
				time.Sleep(time.Duration((truth.Step + truth.Token*float64(d.Request.Prompt.Tokens)) * 1e9))
				d.FirstToken()
				open = append(open, d)
			}
			for _, d := range open { // of all, the last came to n
				every := truth.Step + truth.Sequence*float64(n)
				if d == open[n-1] {
					time.Sleep(time.Duration(every * 49 * 1e9))
					d.Done(answered(50))
				} else {
					d.Done(types.Outcome{Cancelled: true})
				}
			}
		}
		got := r.signals("").Speed
		require.InEpsilon(t, truth.Token, got.Token, .1)
		require.InEpsilon(t, truth.Step, got.Step, .1)
		require.InEpsilon(t, truth.Sequence, got.Sequence, .2)
	})
}

func TestHooksDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for name, speeds := range map[string]autoscale.Speeds{"known": known(speed), "learned": nil} {
		r := newRig(t, 1, autoscale.CollectorOptions{Speeds: speeds}, nil)
		h := r.collector.Hooks(types.NamespacedName{}, scheduling.Hooks{})
		e := scheduling.Event{Request: request("m", 100), Endpoint: r.eps[0], Booked: types.Booking{PrefillTokens: 50}, Outcome: answered(10)}
		if n := testing.AllocsPerRun(1000, func() {
			h.Scheduled(e)
			h.FirstToken(e)
			h.Finished(e)
		}); n > .1 { // memory of a request comes from a pool, which the collector of garbage empties
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}

// What many goroutines do at once adds up, and leaves nothing behind.
func TestCollectorAtOnce(t *testing.T) {
	gate := &admission.Options{Detector: admission.Concurrency{Requests: 2}, WaitForEndpoints: time.Minute}
	r := newRig(t, 3, autoscale.CollectorOptions{MaxModels: 3}, gate)
	defer r.admission.Close()
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 100 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+i%3)*time.Millisecond)
				d, err := r.send(ctx, request(fmt.Sprint("m", (g+i)%5), 100))
				if err == nil {
					d.FirstToken()
					d.Done(answered(i))
				}
				cancel()
				if i%10 == 0 {
					r.collector.All()
				}
				if i%25 == 0 {
					eps := r.endpoints()
					r.set(append(eps[1:len(eps):len(eps)], types.NewEndpoint(fmt.Sprint("new", g, i), "10.1.0.1:8000"))...)
				}
			}
		})
	}
	all.Wait()
	for _, s := range r.collector.All() {
		require.Zero(t, s.Queued, "%v", s)
		require.Zero(t, s.QueuedTokens, "%v", s)
		require.Zero(t, s.Running, "%v", s)
	}
	require.Zero(t, r.collector.Waits(pool))
}

// BenchmarkHooks is what the hooks add to the life of a request, for one of 10 models.
func BenchmarkHooks(b *testing.B) {
	r := newRig(b, 100, autoscale.CollectorOptions{Speeds: known(speed)}, nil)
	r.collector.All()
	h := r.collector.Hooks(types.NamespacedName{}, scheduling.Hooks{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		e := scheduling.Event{Request: request("m", 100), Endpoint: r.eps[0], Booked: types.Booking{PrefillTokens: 50}, Outcome: answered(10)}
		for pb.Next() {
			h.Scheduled(e)
			h.FirstToken(e)
			h.Finished(e)
		}
	})
}

// BenchmarkSignals is one look at pools of as many endpoints, with 100 models.
func BenchmarkSignals(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			r := newRig(b, n, autoscale.CollectorOptions{Speeds: known(speed)}, nil)
			h := r.collector.Hooks(types.NamespacedName{}, scheduling.Hooks{})
			for i := range 100 {
				e := scheduling.Event{Request: request(fmt.Sprint("m", i), 100), Endpoint: r.eps[0]}
				h.Scheduled(e)
				h.Finished(e)
			}
			b.ReportAllocs()
			for b.Loop() {
				r.collector.All()
			}
		})
	}
}
