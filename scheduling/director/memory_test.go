package director_test

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// BenchmarkMemory reports what a gateway with 10,000 endpoints takes: the heap
// before any request ("idle"), at its largest while 50,000 different prompts of
// 32 KiB are routed and every endpoint is read anew ten times ("peak", garbage
// included), and after that ("steady"); and the part of the prefix index.
func BenchmarkMemory(b *testing.B) {
	const n, prompts = 10_000, 50_000
	b.Run(fmt.Sprintf("endpoints=%d/prompts=%d", n, prompts), func(b *testing.B) {
		for b.Loop() {
			var stats runtime.MemStats
			heap := func(collect bool) float64 {
				if collect {
					runtime.GC()
				}
				runtime.ReadMemStats(&stats)
				return float64(stats.HeapAlloc) / (1 << 20)
			}
			base := heap(true)
			store := newStore(b, n, datastore.Options{})
			index, err := plugins.NewPrefixCache(plugins.PrefixOptions{})
			if err != nil {
				b.Fatal(err)
			}
			p := plugins.Default()
			for i := range p.Scorers {
				if p.Scorers[i].Name == "prefix-cache" {
					p.Scorers[i].Scorer = index
				}
			}
			s, err := scheduling.New(p)
			if err != nil {
				b.Fatal(err)
			}
			d := newDirector(b, store, func(o *director.Options) { o.Scheduler = s })
			idle := heap(true) - base

			body, peak := conversation(32<<10), 0.0
			for i := range prompts {
				own := bytes.Replace(body, []byte("It was"), fmt.Appendf(nil, "%06d", i), 1)
				route, err := d.Route(ctx, director.Incoming{Path: "/v1/chat/completions", Body: own})
				if err != nil {
					b.Fatal(err)
				}
				answer(route)
				if i%(prompts/10) == 0 {
					for _, ep := range endpoints(store) {
						store.UpdateMetrics(ep.Load, types.Metrics{UpdatedAt: time.Now(), Waiting: types.Known(0), KVUsage: types.Known(0.1)})
					}
				}
				if i%1000 == 0 {
					peak = max(peak, heap(false)-base)
				}
			}
			b.ReportMetric(idle, "idle-MiB")
			b.ReportMetric(peak, "peak-MiB")
			b.ReportMetric(heap(true)-base, "steady-MiB")
			b.ReportMetric(float64(index.Stats().Bytes)/(1<<20), "index-MiB")
			b.ReportMetric(float64(index.Stats().Held), "index-blocks")
			runtime.KeepAlive(store)
		}
	})
}
