package autoscale_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/types"
)

func TestSmoke(t *testing.T) {
	h := new(autoscale.History)
	at := time.Unix(1e9, 0)
	for i := range 600 {
		s := autoscale.NewSignals(types.NamespacedName{Name: "p"}, "", at.Add(time.Duration(i)*time.Second))
		s.Ready, s.Speed, s.Idle = 4, types.Speed{Token: 5e-5, Step: .007, Sequence: 4e-5}, 0
		w := 2.
		if i > 100 {
			w = 10
		}
		s.ArrivalWork, s.RecentWork, s.WorkNoise, s.RecentNoise, s.Backlog = autoscale.Figure(w), autoscale.Figure(w), .1, .25, 1
		if i > 100 && i < 160 {
			s.ArrivalWork = autoscale.Figure(2 + 8*float64(i-100)/60)
		}
		if i > 220 {
			s.Ready = 15
		}
		r := autoscale.Desired(s, autoscale.Policy{}, h)
		if i%10 == 1 {
			fmt.Println(i, r.Replicas, r.Term, r.Reason, r.Terms[0].Replicas, r.Terms[1].Replicas)
		}
	}
}
