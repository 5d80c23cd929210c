package plugins_test

import (
	"fmt"
	"testing"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
)

// measured returns a request as the middle of a decision sees it: with a prompt
// of 8 KiB that some of eps have cached, and of a session that one of them had.
func measured(plugin any, eps []*types.Endpoint) *types.Request {
	req := at(schedulingtest.Request(text("measured", 8<<10)))
	req.TargetModel = "adapter-a"
	if tr, ok := plugin.(scheduling.Tracker); ok {
		for i, ep := range eps {
			other := again(req)
			if i%3 > 0 {
				other = at(schedulingtest.Request(text(i, 2<<10)))
			}
			other.SessionID = fmt.Sprint(i)
			tr.Picked(other, ep)
		}
	}
	req.SessionID = fmt.Sprint(len(eps) / 2)
	return req
}

// TestAllocations: no plugin allocates in a decision. PrefixCache hashes the
// prompt at the first call for a request; testing.AllocsPerRun makes one before
// it counts.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	eps := schedulingtest.Fleet(100)
	scores, keep := make([]float64, len(eps)), make([]bool, len(eps))
	check := func(name string, run func() error) {
		t.Helper()
		n := testing.AllocsPerRun(100, func() {
			if err := run(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		})
		if n > 0 {
			t.Errorf("%s allocates %v times at %d endpoints, want 0", name, n, len(eps))
		}
	}
	for _, s := range allScorers(t) {
		scorer := s.make()
		req := measured(scorer, eps)
		check("scorer "+s.name, func() error { return scorer.Score(ctx, req, eps, scores) })
	}
	for _, f := range allFilters() {
		filter := f.make()
		for _, priority := range []int{types.PriorityCritical, types.PrioritySheddable} {
			req := measured(filter, eps)
			req.Priority = priority
			check(fmt.Sprintf("filter %s for priority %d", f.name, priority), func() error {
				for i := range keep {
					keep[i] = true
				}
				return filter.Filter(ctx, req, eps, keep)
			})
		}
	}
	for i := range scores {
		scores[i] = float64(i % 7)
	}
	for _, p := range allPickers() {
		picker := p.make()
		req := measured(picker, eps)
		check("picker "+p.name, func() error { _, err := picker.Pick(ctx, req, eps, scores); return err })
	}
}

// BenchmarkScorers is one call of Score. Compare with
//
//	go test -run - -bench Scorers -count 10 ./plugins | benchstat -
func BenchmarkScorers(b *testing.B) {
	for _, s := range allScorers(b) {
		b.Run(fmt.Sprintf("scorer=%s/endpoints=1000", s.name), func(b *testing.B) {
			eps, scorer := schedulingtest.Fleet(1000), s.make()
			req, scores := measured(scorer, eps), make([]float64, len(eps))
			b.ReportAllocs()
			for b.Loop() {
				if err := scorer.Score(ctx, req, eps, scores); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFilters is one call of Filter.
func BenchmarkFilters(b *testing.B) {
	for _, f := range allFilters() {
		b.Run(fmt.Sprintf("filter=%s/endpoints=1000", f.name), func(b *testing.B) {
			eps, filter := schedulingtest.Fleet(1000), f.make()
			req, keep := measured(filter, eps), make([]bool, len(eps))
			b.ReportAllocs()
			for b.Loop() {
				for i := range keep {
					keep[i] = true
				}
				if err := filter.Filter(ctx, req, eps, keep); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPickers is one call of Pick.
func BenchmarkPickers(b *testing.B) {
	for _, p := range allPickers() {
		b.Run(fmt.Sprintf("picker=%s/endpoints=1000", p.name), func(b *testing.B) {
			eps, picker := schedulingtest.Fleet(1000), p.make()
			req, scores := measured(picker, eps), make([]float64, len(eps))
			for i := range scores {
				scores[i] = float64(i % 7)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := picker.Pick(ctx, req, eps, scores); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPrefixCacheHash is the first call of Score for a request, in which the
// prompt is hashed.
func BenchmarkPrefixCacheHash(b *testing.B) {
	for _, kib := range []int{4, 32, 256} {
		b.Run(fmt.Sprintf("prompt=%dKiB", kib), func(b *testing.B) {
			req := schedulingtest.Request(text("long", kib<<10))
			p := mustPrefix(b, plugins.PrefixOptions{})
			eps, scores := idle(1), make([]float64, 1)
			r := new(types.Request)
			b.SetBytes(int64(kib << 10))
			b.ReportAllocs()
			for b.Loop() {
				*r = *req
				if err := p.Score(ctx, r, eps, scores); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
