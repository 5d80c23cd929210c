package rollout_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/inferpick/inferpick/datastore/rollout"
)

func TestScratch(t *testing.T) {
	for _, base := range []float64{0, .005, .02, .05} {
		for _, first := range []float64{2, 30} {
			begin := time.Now()
			failed, done := map[string]int{}, 0
			requests := 0
			const runs = 150
			for seed := range uint64(runs) {
				p := plan(first, 60, 100)
				r := newRig(p)
				_ = seed
				tr := newTraffic(seed, 200, target{errors: base, cached: .5})
				requests += tr.run(r, 3000)
				switch r.phase() {
				case rollout.Done:
					done++
				default:
					failed[r.m.State().Reason]++
					if r.phase() != rollout.Failed && r.phase() != rollout.Aborting {
						fmt.Println(seed, r.m.State(), r.m.Verdicts())
					}
				}
			}
			fmt.Println(base, first, done, len(failed), failed, requests/runs, time.Since(begin))
		}
	}
}
