package main

import (
	"math"
	"testing"
	"time"
)

func TestTally(t *testing.T) {
	start := time.Unix(1000, 0)
	var y tally
	for i := 1; i <= 100; i++ {
		y.add(outcomeDone, sample{ttft: float64(i), tpot: 10, e2e: 1000, prompt: 100, cached: float64(i)}, start)
	}
	y.add(outcomeRefused, sample{}, start)
	y.add(outcomeFailed, sample{}, start)
	y.add(outcomeCancelled, sample{}, start)
	y.add(outcomeDone, sample{ttft: 1000, prompt: 1}, start.Add(time.Minute))

	all := y.total()
	if all.Requests != 103 || all.Shed != 1 || all.Failed != 1 {
		t.Errorf("total = %+v", all)
	}
	for _, tt := range []struct {
		name string
		got  *float64
		want float64
	}{
		{"p50", all.TTFT50, 51}, {"p90", all.TTFT90, 91}, {"p99", all.TTFT99, 100}, {"mean", all.TTFTMean, 6050. / 101},
		{"tpot", all.TPOT90, 10}, {"hits", all.HitShare, 5050. / 10001},
	} {
		if tt.got == nil || math.Abs(*tt.got-tt.want) > tt.want/100 {
			t.Errorf("%s = %v, want %v within 1 %%", tt.name, known("%g", tt.got, 1), tt.want)
		}
	}

	if now := y.now(start.Add(windowLength)); now.Requests != 101 || *now.TTFT50 != 51 {
		t.Errorf("now = %d requests, p50 %v, want 101 and 51", now.Requests, *now.TTFT50)
	}
	if now := y.now(start.Add(windowLength + 1)); now.Requests != 1 || *now.TTFT50 != 1000 || now.TPOT50 != nil {
		t.Errorf("now = %+v, want the last one alone", now)
	}
	if now := new(tally).now(start); now.TTFT50 != nil || now.HitShare != nil {
		t.Errorf("now of nothing = %+v, want nothing known", now)
	}
}
