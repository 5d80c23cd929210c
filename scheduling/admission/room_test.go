package admission_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// These tests let servers of which little is known serve requests in simulated time, with
// the default Detector, and look at how many each has at a time.

// farm is servers, and a Controller that lets requests in to them.
type farm struct {
	t       *testing.T
	c       *admission.Controller
	servers []*simulated
	eps     []*types.Endpoint
	mu      sync.Mutex
	refused int
	took    []time.Duration // from arrival to end
	wg      sync.WaitGroup
}

// simulated is a server.
type simulated struct {
	ep     *types.Endpoint
	places chan struct{}                         // nil: any number at once
	work   func(n int, job job) [2]time.Duration // to the first token and from there to the end, with so many at work
	busy   int                                   // refuses those that are more
	mu     sync.Mutex
	now    int // at work
	sent   int
	most   int // sent and not ended, at most

	refused int
}

type job struct{ prompt, output int }

func newFarm(t *testing.T, servers ...*simulated) *farm {
	f := &farm{t: t, servers: servers}
	c, err := admission.New(admission.Options{})
	require.NoError(t, err)
	f.c = c
	for i, s := range servers {
		s.ep = types.NewEndpoint(fmt.Sprint(i), "10.0.0.1:8000")
		f.eps = append(f.eps, s.ep)
	}
	c.SetEndpoints(f.eps)
	return f
}

// send sends a request: to the server with the fewest of those that have a place.
func (f *farm) send(j job, stream bool) {
	f.wg.Go(func() {
		start := time.Now()
		req := &types.Request{Prompt: types.Prompt{Tokens: j.prompt}, Stream: stream}
		ticket, waited, err := f.c.Admit(f.t.Context(), admission.Arrival{Request: req, MaxWait: 5 * time.Minute})
		if waited > 30*time.Second {
			f.t.Errorf("one waited for %v", waited)
		}
		if err != nil {
			f.mu.Lock()
			f.refused++
			f.mu.Unlock()
			return
		}
		have := ticket.Candidates(nil, f.eps)
		f.mu.Lock()
		ep := slices.MinFunc(have, func(a, b *types.Endpoint) int { return int(a.Load.Requests() - b.Load.Requests()) })
		book := types.Booking{Requests: 1, Prefilling: 1, PrefillTokens: int64(j.prompt), ContextTokens: int64(j.prompt + j.output)}
		ep.Load.Book(book)
		f.mu.Unlock()
		ticket.Booked(ep)
		out := f.servers[slices.Index(f.eps, ep)].serve(j, stream, func() {
			first := types.Booking{Prefilling: 1, PrefillTokens: int64(j.prompt)}
			ep.Load.Release(first)
			book.Prefilling, book.PrefillTokens = 0, 0
			ticket.FirstToken()
		})
		ep.Load.Release(book)
		ticket.Done(out)
		f.mu.Lock()
		f.took = append(f.took, time.Since(start))
		f.mu.Unlock()
	})
}

func (s *simulated) serve(j job, stream bool, first func()) types.Outcome {
	s.mu.Lock()
	s.sent++
	s.most = max(s.most, s.sent)
	if s.busy > 0 && s.sent > s.busy {
		s.sent--
		s.refused++
		s.mu.Unlock()
		return types.Outcome{Status: 429}
	}
	s.mu.Unlock()
	if s.places != nil {
		s.places <- struct{}{}
	}
	s.mu.Lock()
	s.now++
	d := s.work(s.now, j)
	s.mu.Unlock()
	time.Sleep(d[0])
	if stream {
		first()
	}
	time.Sleep(d[1])
	s.mu.Lock()
	s.now--
	s.sent--
	s.mu.Unlock()
	if s.places != nil {
		<-s.places
	}
	return types.Outcome{Status: 200, Usage: types.Usage{CompletionTokens: types.Known(float64(j.output))}}
}

// burst sends many at once, and returns how long it took until all had ended.
func (f *farm) burst(n int, j job, stream bool) time.Duration {
	start := time.Now()
	for range n {
		f.send(j, stream)
	}
	f.wg.Wait()
	return time.Since(start)
}

func constant(first, rest time.Duration) func(int, job) [2]time.Duration {
	return func(int, job) [2]time.Duration { return [2]time.Duration{first, rest} }
}

// TestTrapUnknownServerTakesOneAtATime: a server that reports nothing and answers any number
// at once gets many at once.
func TestTrapUnknownServerTakesOneAtATime(t *testing.T) {
	for _, tt := range []struct {
		name   string
		n      int
		work   func(int, job) [2]time.Duration
		job    job
		stream bool
		want   time.Duration // at most
	}{
		{"32 unstreamed", 32, constant(200*time.Millisecond, 0), job{20, 20}, false, 400 * time.Millisecond},
		{"32 streamed", 32, constant(50*time.Millisecond, 150*time.Millisecond), job{20, 20}, true, 400 * time.Millisecond},
		{"32 streamed in one piece", 32, constant(200*time.Millisecond, 0), job{20, 20}, true, 400 * time.Millisecond},
		{"100 unstreamed", 100, constant(200*time.Millisecond, 0), job{20, 20}, false, 600 * time.Millisecond},
		{"100 long streams", 100, constant(200*time.Millisecond, time.Minute), job{20, 2000}, true, 62 * time.Second},
		{"40 slow answers", 40, constant(0, 20*time.Second), job{20, 500}, false, 20 * time.Second},
		{"40 slow answers to prompts", 40, constant(100*time.Millisecond, 20*time.Second), job{1000, 500}, false, 23 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFarm(t, &simulated{work: tt.work})
				if took := f.burst(tt.n, tt.job, tt.stream); took > tt.want || f.refused > 0 {
					t.Errorf("it took %v, want at most %v; %d were refused", took, tt.want, f.refused)
				}
				f.c.Close()
			})
		})
	}
}

// TestUnknownServersAreUsedWell: requests come at a rate of their own for minutes; nothing
// starves, and a server with a number of places does not get far more than that.
func TestUnknownServersAreUsedWell(t *testing.T) {
	engine := func(n int, j job) [2]time.Duration { // a step takes longer the more it serves
		step := 15*time.Millisecond + time.Duration(n)*150*time.Microsecond
		return [2]time.Duration{20*time.Millisecond + time.Duration(j.prompt)*100*time.Microsecond, time.Duration(j.output) * step}
	}
	jobs := func(rng *rand.Rand) job { return job{50 + rng.IntN(400), 5 + rng.IntN(156)} }
	long := func(rng *rand.Rand) job {
		return job{50 + rng.IntN(400), int(min(80*math.Exp(rng.NormFloat64()), 2000))}
	}
	for _, tt := range []struct {
		name   string
		places []int   // of the servers; 0: any number
		rate   float64 // requests a second
		jobs   func(*rand.Rand) job
		stream func(*rand.Rand) bool
		most   []int         // requests that a server may have at a time
		p50    time.Duration // at most
	}{
		{"unstreamed, half of what they can do", []int{8, 8}, 5, jobs, no, []int{17, 17}, 3 * time.Second},
		{"streamed, half of what they can do", []int{8, 8}, 5, jobs, yes, []int{17, 17}, 3 * time.Second},
		{"mixed, lengths that differ much", []int{8, 8}, 3, long, either, []int{24, 24}, 5 * time.Second},
		{"any number, lengths that differ much", []int{0}, 20, long, either, []int{1000}, 4 * time.Second},
		{"any number, many at a time", []int{0, 0}, 100, jobs, no, []int{1000, 1000}, 8 * time.Second},
		{"few places beside many", []int{4, 0}, 20, jobs, no, []int{20, 1000}, 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var servers []*simulated
				for _, n := range tt.places {
					s := &simulated{work: engine}
					if n > 0 {
						s.places = make(chan struct{}, n)
					}
					servers = append(servers, s)
				}
				f := newFarm(t, servers...)
				rng := rand.New(rand.NewPCG(1, 2))
				const warm, all = 60, 240 // seconds
				for at := 0.0; at < all; {
					d := rng.ExpFloat64() / tt.rate
					if at < warm && at+d >= warm {
						for _, s := range servers {
							s.mu.Lock()
							s.most = 0
							s.mu.Unlock()
						}
					}
					at += d
					time.Sleep(time.Duration(d * float64(time.Second)))
					f.send(tt.jobs(rng), tt.stream(rng))
				}
				f.wg.Wait()
				f.c.Close()
				slices.Sort(f.took)
				p50 := f.took[len(f.took)/2]
				var most []int
				for i, s := range servers {
					most = append(most, s.most)
					if s.most > tt.most[i] {
						t.Errorf("server %d had %d at a time, want at most %d", i, s.most, tt.most[i])
					}
				}
				t.Logf("p50 %v p90 %v, at most %v at a time", p50, f.took[len(f.took)*9/10], most)
				if p50 > tt.p50 || f.refused > 0 {
					t.Errorf("p50 %v, want at most %v; %d were refused", p50, tt.p50, f.refused)
				}
			})
		})
	}
}

// TestUnknownServersInOverload: more comes than they can do, from the beginning on, so that
// nobody has seen them with room.
func TestUnknownServersInOverload(t *testing.T) {
	for name, stream := range map[string]func(*rand.Rand) bool{"unstreamed": no, "streamed": yes, "mixed": either} {
		for kind, s := range map[string]func() *simulated{
			"waits": func() *simulated { return &simulated{places: make(chan struct{}, 8)} },
			"busy":  func() *simulated { return &simulated{busy: 8} },
		} {
			t.Run(name+", a server that is full "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					one, two := s(), s()
					one.work, two.work = constant(100*time.Millisecond, 900*time.Millisecond), constant(100*time.Millisecond, 900*time.Millisecond)
					f := newFarm(t, one, two)
					rng := rand.New(rand.NewPCG(1, 2))
					const seconds = 300
					start := time.Now()
					time.AfterFunc(time.Minute, func() {
						for _, s := range f.servers {
							s.mu.Lock()
							s.most = 0
							s.mu.Unlock()
						}
					})
					for time.Since(start) < seconds*time.Second {
						time.Sleep(time.Duration(rng.ExpFloat64() / 32 * float64(time.Second))) // twice the capacity
						f.send(job{100, 50}, stream(rng))
					}
					f.wg.Wait()
					f.c.Close()
					served := len(f.took) - one.refused - two.refused
					t.Logf("served %d, refused here %d, by them %d; at most %d, %d at a time", served, f.refused, one.refused+two.refused, one.most, two.most)
					if served < seconds*16*9/10 {
						t.Errorf("served %d, want nearly %d", served, seconds*16)
					}
					if n := max(one.most, two.most); n > 3*8 {
						t.Errorf("one had %d at a time, of 8 that it can do", n)
					}
					if n := one.refused + two.refused; n > served/5 {
						t.Errorf("%d were sent to servers that are busy, %d are served", n, served)
					}
				})
			})
		}
	}
}

// TestUnknownServerBecomesSlow, for a reason of its own: it is not starved for it.
func TestUnknownServerBecomesSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &simulated{work: constant(10*time.Millisecond, 90*time.Millisecond)}
		f := newFarm(t, s)
		for range 2000 {
			f.send(job{100, 50}, false)
			time.Sleep(10 * time.Millisecond)
		}
		f.wg.Wait()
		s.mu.Lock()
		s.work = constant(100*time.Millisecond, 1900*time.Millisecond)
		s.mu.Unlock()
		f.took = nil
		for range 6000 { // 40 at a time
			f.send(job{100, 50}, false)
			time.Sleep(50 * time.Millisecond)
		}
		f.wg.Wait()
		f.c.Close()
		late := f.took[len(f.took)/2:]
		slices.Sort(late)
		if p90 := late[len(late)*9/10]; p90 > 3*time.Second || f.refused > 100 {
			t.Errorf("p90 %v of what takes 2 s; %d were refused", p90, f.refused)
		}
	})
}

// TestAnswersThatAreNotStreamed do not count as prompts that are owed for as long as they
// take, where the server reports what it does either.
func TestAnswersThatAreNotStreamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &simulated{work: constant(100*time.Millisecond, 10*time.Second)}
		f := newFarm(t, s)
		stop := make(chan struct{})
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(100 * time.Millisecond):
					s.mu.Lock()
					ep := s.ep.WithMetrics(types.Metrics{Waiting: types.Known(0), Running: types.Known(float64(s.now)), KVUsage: types.Known(0.1), UpdatedAt: time.Now()})
					s.mu.Unlock()
					f.c.Put(ep)
				}
			}
		}()
		took := f.burst(64, job{1000, 500}, false)
		close(stop)
		f.c.Close()
		if took > 14*time.Second || f.refused > 0 {
			t.Errorf("64 at once took %v, %d were refused", took, f.refused)
		}
	})
}

func yes(*rand.Rand) bool        { return true }
func no(*rand.Rand) bool         { return false }
func either(rng *rand.Rand) bool { return rng.IntN(2) == 0 }
