package datastore_test

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/types"
)

// BenchmarkSnapshot takes snapshots while every endpoint is read five times a
// second, as scraping does. Compare two versions with
//
//	go test ./datastore -run '^$' -bench Snapshot -count 10 | tee new.txt; benchstat old.txt new.txt
func BenchmarkSnapshot(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			s := datastore.New(datastore.Options{})
			must(b, s.SetEndpoints(llama, specs(n)))
			eps := endpoints(b, s, llama)
			var (
				stop    = make(chan struct{})
				wg      sync.WaitGroup
				updates atomic.Int64
			)
			wg.Go(func() {
				const step = 5 * time.Millisecond
				tick := time.NewTicker(step)
				defer tick.Stop()
				last, due, i := time.Now(), 0.0, 0
				for {
					select {
					case <-stop:
						return
					case now := <-tick.C:
						due += now.Sub(last).Seconds() * 5 * float64(n)
						last = now
					}
					for ; due >= 1; due-- {
						s.UpdateMetrics(eps[i%n].Load, types.Metrics{Waiting: types.Known(float64(i))})
						updates.Add(1)
						i++
					}
				}
			})
			begin := time.Now()
			b.ReportAllocs()
			for b.Loop() {
				if len(s.Snapshot().Pool(llama).Endpoints()) != n {
					b.Fatal("endpoints are missing")
				}
			}
			b.ReportMetric(float64(updates.Load())/time.Since(begin).Seconds(), "updates/s")
			close(stop)
			wg.Wait()
		})
	}
}

func BenchmarkUpdateMetrics(b *testing.B) {
	s := datastore.New(datastore.Options{})
	must(b, s.SetEndpoints(llama, specs(10_000)))
	eps := endpoints(b, s, llama)
	var next atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		i := int(next.Add(5000))
		now := time.Now()
		for pb.Next() {
			s.UpdateMetrics(eps[i%len(eps)].Load, types.Metrics{UpdatedAt: now, Waiting: types.Known(1)})
			i++
		}
	})
}

// BenchmarkPublish is what one publication of readings costs its reader.
func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			s := datastore.New(datastore.Options{Coalesce: -1})
			must(b, s.SetEndpoints(llama, specs(n)))
			load := endpoints(b, s, llama)[0].Load
			b.ReportAllocs()
			for b.Loop() {
				s.UpdateMetrics(load, types.Metrics{})
				s.Snapshot()
			}
		})
	}
}

func BenchmarkResolve(b *testing.B) {
	s := datastore.New(datastore.Options{StickySessions: true})
	objs := []types.Object{pool("llama"), rewrite("w", "llama", 1, rule("x", "rewritten"))}
	for i := range 1000 {
		objs = append(objs, model(fmt.Sprint("m", i), "llama", fmt.Sprint("model-", i), 1, "a", 90, "b", 10))
	}
	must(b, s.Apply(objs...))
	rnd := types.NewRand(1)
	for _, bb := range []struct {
		name  string
		query datastore.Query
	}{
		{"model", datastore.Query{Model: "model-500", Rand: &rnd}},
		{"session", datastore.Query{Model: "model-500", SessionID: "0b9f6a9e-6f3c-4a39-8a36-3f6d2a9ad5c7"}},
		{"rewrite", datastore.Query{Model: "rewritten", Rand: &rnd}},
		{"unknown", datastore.Query{Model: "unknown", Rand: &rnd}},
	} {
		b.Run("by="+bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Snapshot().Resolve(bb.query); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSetEndpoints(b *testing.B) {
	s := datastore.New(datastore.Options{})
	list := specs(10_000)
	b.ReportAllocs()
	for b.Loop() {
		must(b, s.SetEndpoints(llama, list))
	}
}

// BenchmarkMemory reports what an endpoint with a reading and three labels takes.
func BenchmarkMemory(b *testing.B) {
	const n = 10_000
	used := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	list := specs(n)
	for i := range list {
		list[i].Labels = map[string]string{"app": "llama", "zone": "a", "pod-template-hash": "5d4f8c7b9"}
	}
	for b.Loop() {
		before := used()
		s := datastore.New(datastore.Options{})
		must(b, s.SetEndpoints(llama, list))
		for _, e := range s.Snapshot().Pool(llama).Endpoints() {
			s.UpdateMetrics(e.Load, types.Metrics{Waiting: types.Known(1)})
		}
		s.Snapshot()
		b.ReportMetric(float64(used()-before)/n, "B/endpoint")
		runtime.KeepAlive(s)
	}
}
