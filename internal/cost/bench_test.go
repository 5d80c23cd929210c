package cost

import (
	"math"
	"testing"

	"github.com/inferpick/inferpick/types"
)

// BenchmarkTerms is what a decision does for each server: its row is read, and its terms are
// worked out.
func BenchmarkTerms(b *testing.B) {
	const servers = 1000
	rnd := types.NewRand(1)
	rows := make([]Row, servers)
	for i := range rows {
		rows[i].Store(&Figures{
			StepEnds: Seconds(100 + .02*rnd.Float64()), Pending: .01 * float32(rnd.Float64()), Step: .02, Token: 1e-4,
			Decoding: float32(rnd.IntN(64)), OutputCost: .1, PerContext: 1e-7, KV: .7 * float32(rnd.Float64()), PerKV: 1. / 200_000, Mine: 1,
		})
	}
	m := Model{
		Weights: Weights{FirstToken: 5, Output: .2, Recompute: 1.5, LongPrefill: .3, LongSteps: 6, KVPressure: .1},
		Engine:  Engine{Step: .02, Token: 1e-4, Attention: 1e-5, Batch: 8192},
	}
	q := Query{Prompt: 2000, Output: 256, PerBlock: 16, Now: 100, At: 100.001, Way: .001, Share: 1, Mine: 1}
	var f Figures
	var p Place
	var t Terms
	for b.Loop() {
		least := math.Inf(1)
		for i := range rows {
			rows[i].Load(&f)
			if v := float64(m.Terms(&q, &f, &p, &t)); v < least {
				least = v
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/servers, "ns/server")
}
