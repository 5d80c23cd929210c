package admission_test

import (
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, fairness := range []admission.Fairness{admission.VirtualTokens, admission.PrefixLocality, admission.FirstCome} {
		for _, order := range []admission.Order{admission.FIFO, admission.EarliestDeadline, admission.LeastAttained} {
			t.Run(fairness.String()+"/"+order.String(), func(t *testing.T) {
				for _, budgets := range [][]admission.Budget{nil, {{Tenant: "*", RequestsPerMinute: 1e9}}} {
					full := false
					var let *admission.Ticket
					c, err := admission.New(admission.Options{
						Fairness: fairness, Bands: threeBands(), Budgets: budgets,
						Detector: admission.DetectorFunc(func(admission.Query, *types.Endpoint) float64 {
							if full {
								return 1
							}
							return 0
						}),
						Hooks:  admission.Hooks{Dispatched: func(t *admission.Ticket, _ time.Duration) { let = t }},
						Tuning: admission.Tuning{Order: order},
					})
					require.NoError(t, err)
					ep := types.NewEndpoint("e", "10.0.0.1:8000")
					c.Put(ep)
					ready := func(error) {}
					a := admission.Arrival{Request: request("r", 0, "t"), Candidates: "all", Match: func(*types.Endpoint) bool { return true }}
					a.Request.Body = make([]byte, 100)
					a.Request.Prompt.Spans = []types.Span{{Start: 10, End: 90}}
					finish := func() {
						let.Booked(ep)
						let.FirstToken()
						let.Done(types.Outcome{})
					}
					// A Ticket is one. What a request takes of budgets is another.
					if got := testing.AllocsPerRun(1000, func() {
						if _, queued, err := c.Offer(a, ready); err != nil || queued {
							t.Fatal(queued, err)
						}
						finish()
					}); got > 2 {
						t.Errorf("with %d budgets a request that passes at once allocates %v times, want at most 2", len(budgets), got)
					}
					full = true
					c.Put(ep)
					if _, _, err := c.Offer(a, ready); err != nil { // one waits all the time
						t.Fatal(err)
					}
					if got := testing.AllocsPerRun(1000, func() {
						if _, queued, err := c.Offer(a, ready); err != nil || !queued {
							t.Fatal(queued, err)
						}
						full = false
						c.Put(ep)
						full = true
						finish()
					}); got > 2 {
						t.Errorf("with %d budgets a request that waits allocates %v times, want at most 2", len(budgets), got)
					}
					if got := testing.AllocsPerRun(1000, func() {
						c.Put(ep)
						c.Update(ep)
					}); got != 0 {
						t.Errorf("a reading allocates %v times", got)
					}
					c.Close()
				}
			})
		}
	}
}
