package scheduling_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// servers returns n endpoints that were all read just now, in different states.
func servers(n int) []*types.Endpoint {
	rnd := types.NewRand(uint64(n))
	eps := make([]*types.Endpoint, n)
	for i := range eps {
		eps[i] = schedulingtest.Endpoint(fmt.Sprintf("ep-%d", i),
			schedulingtest.Waiting(float64(rnd.IntN(4))),
			schedulingtest.Running(float64(rnd.IntN(64))),
			schedulingtest.KVUsage(rnd.Float64()*.7))
		eps[i].Slot = uint32(i)
	}
	return eps
}

// chat returns a request with a prompt of n bytes that is nowhere cached yet.
func chat(n int, topic string) *types.Request {
	return schedulingtest.Request(strings.Repeat("Tell me about "+topic+". ", n/8)[:n])
}

// BenchmarkSchedule is Schedule + Done with the default profile, for a prompt of
// 32 KiB that one endpoint has cached, hashing included. Compare with
//
//	go test -run - -bench Schedule -count 10 ./scheduling | benchstat -
func BenchmarkSchedule(b *testing.B) { benchmarkSchedule(b, plugins.Default) }

// BenchmarkScheduleClassic is the same with weighted scores.
func BenchmarkScheduleClassic(b *testing.B) { benchmarkSchedule(b, plugins.ClassicWithInFlight) }

func benchmarkSchedule(b *testing.B, profile func() scheduling.Profile) {
	for _, n := range []int{10, 100, 1000, 10000} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			p := profile()
			p.Seed = 1
			s := mustNew(b, p)
			eps := servers(n)
			req := *chat(32<<10, "ships")
			for i := range 8 { // other prompts, elsewhere
				other := chat(32<<10, fmt.Sprint("topic ", i))
				d, err := s.Schedule(ctx, other, eps)
				if err != nil {
					b.Fatal(err)
				}
				d.Done(types.Outcome{})
			}
			r := new(types.Request)
			b.ReportAllocs()
			for b.Loop() {
				*r = req // nothing is left of the last decision
				d, err := s.Schedule(ctx, r, eps)
				if err != nil {
					b.Fatal(err)
				}
				d.Done(types.Outcome{})
			}
		})
	}
}

// BenchmarkScheduleParallel is one Scheduler on all cores: Schedule, FirstToken and Done of
// prompts of 8 KiB, of which each core has some of its own, also while servers are read. Compare
//
//	go test -run - -bench ScheduleParallel -cpu 1,2 -count 10 ./scheduling | benchstat -col .config -
func BenchmarkScheduleParallel(b *testing.B) {
	for _, n := range []int{100, 1000} {
		for _, readings := range []int{0, 20_000} {
			b.Run(fmt.Sprintf("endpoints=%d/readings=%d", n, readings), func(b *testing.B) {
				s := mustNew(b, plugins.Default())
				var eps atomic.Pointer[[]*types.Endpoint]
				first := servers(n)
				eps.Store(&first)
				stop := make(chan struct{})
				var reader sync.WaitGroup
				reader.Go(func() { readServers(&eps, readings, stop) })
				var cores atomic.Int64
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					core := cores.Add(1)
					var reqs [16]*types.Request
					for i := range reqs {
						reqs[i] = chat(8<<10, fmt.Sprint("core ", core, " topic ", i))
					}
					r := new(types.Request)
					for i := 0; pb.Next(); i++ {
						*r = *reqs[i%len(reqs)]
						d, err := s.Schedule(ctx, r, *eps.Load())
						if err != nil {
							b.Error(err)
							return
						}
						// As long as answers take: times of microseconds would teach the cost
						// something else with each of them.
						if err := d.FirstTokenAt(d.At.Add(30 * time.Millisecond)); err != nil {
							b.Error(err)
							return
						}
						if err := d.DoneAt(types.Outcome{Status: 200, Usage: types.Usage{CompletionTokens: types.Known(100)}}, d.At.Add(900*time.Millisecond)); err != nil {
							b.Error(err)
							return
						}
					}
				})
				close(stop)
				reader.Wait()
			})
		}
	}
}

// readServers publishes so many new readings a second, of one server after the other, until
// stop is closed.
func readServers(eps *atomic.Pointer[[]*types.Endpoint], perSecond int, stop <-chan struct{}) {
	if perSecond == 0 {
		return
	}
	const batch = 20
	tick := time.NewTicker(time.Second * batch / time.Duration(perSecond))
	defer tick.Stop()
	for i := 0; ; {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		next := slices.Clone(*eps.Load())
		for range batch {
			m := next[i%len(next)].Metrics
			m.UpdatedAt = time.Now()
			next[i%len(next)] = next[i%len(next)].WithMetrics(m)
			i++
		}
		eps.Store(&next)
	}
}

// BenchmarkExplain is the dry run with every term kept.
func BenchmarkExplain(b *testing.B) {
	s := mustNew(b, plugins.Default())
	eps := servers(100)
	req := *chat(32<<10, "ships")
	b.ReportAllocs()
	for b.Loop() {
		r := req
		if _, err := s.Explain(ctx, &r, eps); err != nil {
			b.Fatal(err)
		}
	}
}

func TestScheduleAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	s := mustNew(t, plugins.Default())
	eps := servers(100)
	req := *chat(32<<10, "ships")
	r := new(types.Request)
	run := func() {
		*r = req
		d, err := s.Schedule(ctx, r, eps)
		require.NoError(t, err)
		d.FirstToken()
		d.Done(types.Outcome{})
	}
	run()
	if n := testing.AllocsPerRun(200, run); n > 2 {
		t.Errorf("Schedule + FirstToken + Done allocate %v times, want at most 2", n)
	}
}
