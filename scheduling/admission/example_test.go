package admission_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
)

// One server that runs one request at a time, and three requests.
func Example() {
	c, err := admission.New(admission.Options{
		Detector: admission.Concurrency{Requests: 1},
		Bands: []admission.Band{
			{Name: "critical", Priority: types.PriorityCritical, MaxWait: time.Minute},
			{Name: "standard", Priority: types.PriorityStandard, MaxWait: 10 * time.Second},
			{Name: "sheddable", Priority: types.PrioritySheddable, MaxRequests: -1},
		},
	})
	if err != nil {
		panic(err)
	}
	defer c.Close()
	server := types.NewEndpoint("server", "10.0.0.1:8000")
	c.SetEndpoints([]*types.Endpoint{server})

	// A Scheduler books what it decides; here it is done by hand.
	send := func(t *admission.Ticket) (end func()) {
		booking := types.Booking{Requests: 1}
		server.Load.Book(booking)
		t.Booked(server)
		return func() {
			server.Load.Release(booking)
			t.Done(types.Outcome{})
		}
	}

	ctx := context.Background()
	first, _, err := c.Admit(ctx, admission.Arrival{Request: &types.Request{ID: "first"}})
	fmt.Println("first:", err)
	endFirst := send(first)

	// Its place is taken now: who does not wait is refused …
	_, _, err = c.Admit(ctx, admission.Arrival{Request: &types.Request{ID: "low", Priority: -100}})
	var refusal *admission.Refusal
	if errors.As(err, &refusal) {
		fmt.Println("low:", refusal.Reason, "retry after", refusal.RetryAfter)
	}

	// … and others wait until it is free.
	done := make(chan struct{})
	go func() {
		defer close(done)
		second, _, err := c.Admit(ctx, admission.Arrival{Request: &types.Request{ID: "second"}})
		fmt.Println("second:", err)
		send(second)()
	}()
	for c.Stats().Queued == 0 {
		time.Sleep(time.Millisecond)
	}
	endFirst()
	<-done
	fmt.Println("waiting:", c.Stats().Queued)

	// Output:
	// first: <nil>
	// low: saturated retry after 1s
	// second: <nil>
	// waiting: 0
}

// A Detector may go by anything that is known of an endpoint: here, by adapters that a
// server has loaded, as its label says.
func ExampleDetectorFunc() {
	slots := map[string]float64{"small": 1, "large": 4}
	detector := admission.DetectorFunc(func(_ admission.Query, ep *types.Endpoint) float64 {
		return float64(ep.Load.Requests()) / slots[ep.Labels["size"]]
	})
	// What it does not know the others decide.
	c, err := admission.New(admission.Options{Detector: admission.Max{detector, admission.Backlog{Tokens: 10_000}}})
	if err != nil {
		panic(err)
	}
	ep := types.NewEndpoint("server", "10.0.0.1:8000")
	ep.Labels = map[string]string{"size": "large"}
	c.Put(ep)
	for range 3 {
		ep.Load.Book(types.Booking{Requests: 1, PrefillTokens: 1000})
		c.Put(ep)
		fmt.Println(c.Stats().Saturation)
	}
	ep.Load.Book(types.Booking{PrefillTokens: 6000})
	c.Put(ep)
	fmt.Println(c.Stats().Saturation)

	// Output:
	// 0.25
	// 0.5
	// 0.75
	// 0.8999999994412065
}

func ExampleController_Explain() {
	c, err := admission.New(admission.Options{
		Detector: admission.Concurrency{Requests: 2},
		Bands:    []admission.Band{{Name: "standard", Ceiling: 0.8}, {Name: "sheddable", Priority: -1, Ceiling: 0.5, MaxRequests: -1}},
	})
	if err != nil {
		panic(err)
	}
	ep := types.NewEndpoint("server", "10.0.0.1:8000")
	c.Put(ep)
	what := func(priority int) {
		r := c.Explain(admission.Arrival{Request: &types.Request{Priority: priority, FairnessID: "acme"}})
		fmt.Println(r)
	}
	what(0)
	ep.Load.Book(types.Booking{Requests: 1})
	c.Put(ep)
	what(0)
	what(-1)

	// Output:
	// admitted: priority 0 (standard), tenant "acme"; 1 of 1 endpoints are less than 0.8 full, in the mean they are 0.00 full
	// admitted: priority 0 (standard), tenant "acme"; 1 of 1 endpoints are less than 0.8 full, in the mean they are 0.50 full
	// refused: priority -1 (sheddable), tenant "acme"; 0 of 1 endpoints are less than 0.5 full, in the mean they are 0.50 full; none of 1 endpoints is less than 0.5 full
}
