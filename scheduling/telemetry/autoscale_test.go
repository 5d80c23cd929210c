package telemetry_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/scheduling/telemetry"
)

// oneScaled recommends something for one pool.
func oneScaled(yield func(autoscale.Recommendation, autoscale.Signals, []autoscale.Signals) bool) {
	s := autoscale.NewSignals(pool, "", time.Unix(1e9, 0))
	s.Backlog, s.ArrivalWork, s.OldestWait, s.QueuedTokens = 2.5, 1.5, 3*time.Second, 4000
	r := autoscale.Recommendation{Replicas: 4, Terms: []autoscale.Term{{Name: autoscale.TermDemand, Replicas: 3.5}, {Name: autoscale.TermKV, Replicas: autoscale.Unknown()}}}
	models := []autoscale.Signals{}
	for i, name := range []string{"chat", "invented", "too"} {
		m := autoscale.NewSignals(pool, name, s.At)
		m.Queued, m.QueuedTokens, m.OldestWait, m.Arrivals, m.ArrivalWork = int64(i+1), 1000, time.Duration(i)*time.Second, 2, .5
		models = append(models, m)
	}
	yield(r, s, models)
}

func TestAutoscale(t *testing.T) {
	page := exposition(t, everything(t).Metrics)
	for _, want := range []string{
		`inferpick_pool_desired_replicas{pool="%s"} 4`,
		`inferpick_autoscale_term_replicas{pool="%s",term="demand"} 3.5`,
		`inferpick_pool_backlog_seconds{pool="%s"} 2.5`,
		`inferpick_pool_arrival_work{pool="%s"} 1.5`,
		`inferpick_pool_oldest_wait_seconds{pool="%s"} 3`,
		`inferpick_pool_queued_tokens{pool="%s"} 4000`,
		`inferpick_model_queued_requests{model_name="chat",pool="%s"} 1`,
		`inferpick_model_queued_requests{model_name="other",pool="%s"} 5`,
		`inferpick_model_queued_tokens{model_name="other",pool="%s"} 2000`,
		`inferpick_model_oldest_wait_seconds{model_name="other",pool="%s"} 2`,
		`inferpick_model_arrivals_per_second{model_name="other",pool="%s"} 4`,
		`inferpick_model_arrival_work{model_name="other",pool="%s"} 1`,
	} {
		require.Contains(t, page, fmt.Sprintf(want, pool.Name)+"\n")
	}
	require.NotContains(t, page, "invented", "clients make up names")
	require.Equal(t, 1, strings.Count(page, "\ninferpick_autoscale_term_replicas{"), "what is not known is not 0")
}

func TestAutoscaleOff(t *testing.T) {
	require.NotContains(t, exposition(t, newFixture(t, telemetry.Options{}, scheduling.Profile{}).Metrics), "desired")
}
