package scheduling_test

import (
	"fmt"
	"runtime"
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
// prompts of 8 KiB, of which each core has some of its own, also while servers are read. With
// schedulers=each every core has a Scheduler and servers of its own, which share nothing: as
// much as the machine can do. Compare
//
//	go test -run - -bench ScheduleParallel -cpu 1,2 -count 10 ./scheduling | benchstat -col .config -
func BenchmarkScheduleParallel(b *testing.B) {
	for _, n := range []int{100, 1000} {
		for _, readings := range []int{0, 20_000} {
			b.Run(fmt.Sprintf("endpoints=%d/readings=%d/schedulers=one", n, readings), func(b *testing.B) {
				w := newFleetOf(b, n)
				stop := make(chan struct{})
				var reader sync.WaitGroup
				reader.Go(func() { readServers(&w.eps, readings, stop) })
				decideInParallel(b, func(int) *fleetOf { return w })
				close(stop)
				reader.Wait()
			})
		}
		b.Run(fmt.Sprintf("endpoints=%d/readings=0/schedulers=each", n), func(b *testing.B) {
			fleets := make([]*fleetOf, runtime.GOMAXPROCS(0))
			for i := range fleets {
				fleets[i] = newFleetOf(b, n)
			}
			decideInParallel(b, func(core int) *fleetOf { return fleets[core%len(fleets)] })
		})
	}
}

// fleetOf is a Scheduler and its servers.
type fleetOf struct {
	*scheduling.Scheduler
	eps atomic.Pointer[[]*types.Endpoint]
}

// newFleetOf returns one whose clock is ten times as fast as it should be: decisions take
// microseconds and answers part of a second, and all that is learned is learned from both.
func newFleetOf(b *testing.B, n int) *fleetOf {
	p, began := plugins.Default(), time.Now()
	p.Now = func() time.Time { return began.Add(10 * time.Since(began)) }
	w := &fleetOf{Scheduler: mustNew(b, p)}
	eps := servers(n)
	w.eps.Store(&eps)
	return w
}

// decideInParallel decides on each core, by the Scheduler that the core is given.
func decideInParallel(b *testing.B, fleet func(core int) *fleetOf) {
	var cores atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		core := int(cores.Add(1))
		var prompts [16]*types.Request
		for i := range prompts {
			prompts[i] = chat(8<<10, fmt.Sprint("core ", core, " topic ", i))
		}
		p := plane{fleetOf: fleet(core)}
		for i := 0; pb.Next(); i++ {
			if err := p.next(prompts[i%len(prompts)]); err != nil {
				b.Error(err)
				return
			}
		}
		p.end()
	})
}

// plane has as many requests under way as a core of a busy gateway has.
type plane struct {
	*fleetOf
	n        int
	requests [4000]types.Request
	open     [4000]*scheduling.Decision
}

// next sends a request; and one that was sent before has its first token, and one its end.
func (p *plane) next(req *types.Request) error {
	at := p.n % len(p.open)
	if d := p.open[at]; d != nil {
		d.Done(types.Outcome{Status: 200, Usage: types.Usage{CompletionTokens: types.Known(100)}})
	}
	if d := p.open[(p.n+len(p.open)*29/30)%len(p.open)]; d != nil {
		d.FirstToken()
	}
	p.requests[at] = *req
	d, err := p.Schedule(ctx, &p.requests[at], *p.eps.Load())
	p.open[at] = d
	p.n++
	return err
}

func (p *plane) end() {
	for _, d := range p.open {
		if d != nil {
			d.Done(types.Outcome{Cancelled: true})
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
