package scheduling_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
)

// A decision from beginning to end.
func ExampleScheduler_Schedule() {
	s, err := scheduling.New(scheduling.Profile{
		Scorers: []scheduling.Weighted{{Scorer: plugins.KVCache{}, Weight: 1}},
		Picker:  plugins.MaxScore{}, Fallbacks: 1,
	})
	if err != nil {
		panic(err)
	}
	eps := []*types.Endpoint{
		schedulingtest.Endpoint("a", schedulingtest.KVUsage(0.8)),
		schedulingtest.Endpoint("b", schedulingtest.KVUsage(0.1)),
		schedulingtest.Endpoint("c", schedulingtest.KVUsage(0.5)),
	}
	d, err := s.Schedule(context.Background(), schedulingtest.Request("Hello"), eps)
	if err != nil {
		panic(err)
	}
	fmt.Println("send it to", d.Endpoint.ID, "or else to", d.Fallbacks[0].ID)
	fmt.Println("in flight there:", d.Endpoint.Load.Requests())
	d.FirstToken()
	d.Done(types.Outcome{Status: 200})
	fmt.Println("in flight there:", d.Endpoint.Load.Requests())
	// Output:
	// send it to b or else to c
	// in flight there: 1
	// in flight there: 0
}

// A scorer of one's own that looks at one endpoint at a time.
func ExampleEachScorer() {
	cheap := scheduling.EachScorer(func(_ *types.Request, ep *types.Endpoint) float64 {
		return 1 / (1 + ep.Capacity.CostPerHour)
	})
	s, _ := scheduling.New(scheduling.Profile{
		Scorers: []scheduling.Weighted{{Name: "cheap", Scorer: cheap, Weight: 1}, {Scorer: plugins.QueueDepth{}, Weight: 1}},
		Picker:  plugins.MaxScore{},
	})
	a := schedulingtest.Endpoint("a", schedulingtest.Waiting(1))
	b := schedulingtest.Endpoint("b", schedulingtest.Waiting(4))
	b.Capacity.CostPerHour = 3
	why, _ := s.Explain(context.Background(), schedulingtest.Request("Hello"), []*types.Endpoint{a, b})
	fmt.Print(why)
	// Output:
	// rank  endpoint  total  cheap x1  QueueDepth x1
	// 1     a         2.000  1.000     1.000 (1 waiting)
	// -     b         0.250  0.250     0.000 (4 waiting)
}

// A gateway with a discovery and requests of its own: what it does when its list of servers
// changes, and for each request.
func ExampleEndpointList() {
	s, err := scheduling.New(plugins.Default())
	if err != nil {
		panic(err)
	}
	list := scheduling.NewEndpointList(s)

	// Discovery says which servers there are, as often as it likes.
	_, err = list.Set([]types.Endpoint{{Address: "10.0.0.1:8000"}, {Address: "10.0.0.2:8000"}})
	if err != nil {
		panic(err) // names an address that is empty or there twice
	}
	// A scraper says what a server reported; a reading without a date is of now.
	list.Update("10.0.0.1:8000", types.Metrics{Waiting: types.Known(3), Running: types.Known(64), KVUsage: types.Known(0.8)})
	list.Update("10.0.0.2:8000", types.Metrics{Waiting: types.Known(0), Running: types.Known(5), KVUsage: types.Known(0.1)})

	// A request comes.
	req := &types.Request{Model: "llama-3", Stream: true, MaxTokens: 256, Prompt: types.TextPrompt("Why is the sky blue?")}
	d, err := s.Schedule(context.Background(), req, list.Endpoints())
	if err != nil {
		panic(err) // scheduling.ErrNoEndpoint: 503; ErrSaturated: 429
	}
	outcome := types.Outcome{Cancelled: true} // unless more is known in the end
	defer func() { d.Done(outcome) }()
	fmt.Println("send it to", d.Endpoint.Address)

	// If that fails before a byte of an answer has gone to the client:
	d.Retry(d.Fallbacks[0], types.Outcome{Err: errors.New("connection refused")})
	fmt.Println("send it to", d.Current().Address)

	// Its first token comes, and at last its end.
	d.FirstToken()
	outcome = types.Outcome{Status: 200, Usage: types.Usage{PromptTokens: types.Known(9), CompletionTokens: types.Known(30)}}
	// Output:
	// send it to 10.0.0.2:8000
	// send it to 10.0.0.1:8000
}
