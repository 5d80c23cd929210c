package admission_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
)

// BenchmarkQueue is one request in and one out of a queue in which 100,000 of 5,000
// tenants wait: enqueue, and the dispatch that a released place causes.
func BenchmarkQueue(b *testing.B) {
	for _, fairness := range []admission.Fairness{admission.VirtualTokens, admission.PrefixLocality, admission.FirstCome} {
		for _, order := range []admission.Order{admission.FIFO, admission.EarliestDeadline} {
			b.Run(fmt.Sprintf("queued=100000/tenants=5000/fairness=%v/order=%v", fairness, order), func(b *testing.B) {
				ep := types.NewEndpoint("e", "10.0.0.1:8000")
				full := true
				var out *admission.Ticket
				c, err := admission.New(admission.Options{
					Hooks:    admission.Hooks{Dispatched: func(t *admission.Ticket, _ time.Duration) { out = t }},
					Fairness: fairness, Order: order, MaxRequests: 200_000,
					Detector: admission.DetectorFunc(func(admission.Query, *types.Endpoint) float64 {
						if full {
							return 1
						}
						return 0
					}),
				})
				if err != nil {
					b.Fatal(err)
				}
				c.SetEndpoints([]*types.Endpoint{ep})
				reqs := make([]types.Request, 200_000)
				body := make([]byte, 1024)
				for i := range reqs {
					reqs[i] = types.Request{FairnessID: fmt.Sprintf("tenant-%d", i*7919%5000), Body: body,
						Prompt: types.Prompt{Tokens: 100 + i%400, Spans: []types.Span{{Start: i % 100, End: 1024}}}}
				}
				offer := func(i int) {
					if _, _, err := c.Offer(admission.Arrival{Request: &reqs[i%len(reqs)]}, func(error) {}); err != nil {
						b.Fatal(err)
					}
				}
				for i := range 100_000 {
					offer(i)
				}
				b.ReportAllocs()
				i := 100_000
				for b.Loop() {
					offer(i)
					i++
					full = false
					c.Put(ep) // a place is free: the next one is let in
					full = true
					out.Booked(ep)
					out.Done(types.Outcome{})
				}
				b.StopTimer()
				if n := c.Stats().Queued; n != 100_000 {
					b.Fatalf("%d wait", n)
				}
				c.Close()
			})
		}
	}
}
