package scheduling_test

import (
	"context"
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
