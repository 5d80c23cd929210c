package scheduling_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
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

// BenchmarkScheduleParallel is BenchmarkSchedule/endpoints=100 from all cores.
func BenchmarkScheduleParallel(b *testing.B) {
	s := mustNew(b, plugins.Default())
	eps := servers(100)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		req := *chat(32<<10, "ships")
		for pb.Next() {
			r := req
			d, err := s.Schedule(ctx, &r, eps)
			if err != nil {
				b.Fatal(err)
			}
			d.FirstToken()
			d.Done(types.Outcome{})
		}
	})
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
		if err != nil {
			t.Fatal(err)
		}
		d.FirstToken()
		d.Done(types.Outcome{})
	}
	run()
	if n := testing.AllocsPerRun(200, run); n > 2 {
		t.Errorf("Schedule + FirstToken + Done allocate %v times, want at most 2", n)
	}
}
