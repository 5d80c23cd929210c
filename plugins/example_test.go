package plugins_test

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// server returns an endpoint as it was last read: so many requests waiting, so
// much of the KV cache in use. A gateway gets its endpoints from a datastore.
func server(id string, waiting, usage float64) *types.Endpoint {
	ep := types.NewEndpoint(id, id+":8000")
	ep.Metrics = types.Metrics{
		UpdatedAt: time.Now(),
		Waiting:   types.Known(waiting),
		KVUsage:   types.Known(usage),
	}
	return ep
}

// chat returns a request with the given prompt. A gateway gets it from
// openai.Parse.
func chat(prompt string) *types.Request {
	return &types.Request{
		Model:  "llama",
		Body:   []byte(prompt),
		Prompt: types.Prompt{Spans: []types.Span{{Start: 0, End: len(prompt)}}, Bytes: len(prompt), Tokens: len(prompt) / 4},
	}
}

func ExampleClassic() {
	scheduler, err := scheduling.New(plugins.Classic())
	if err != nil {
		panic(err)
	}
	endpoints := []*types.Endpoint{
		server("busy", 4, 0.9),
		server("calm", 1, 0.2),
		server("full", 9, 1.0),
	}

	decision, err := scheduler.Schedule(context.Background(), chat("Why is the sky blue?"), endpoints)
	if err != nil {
		panic(err) // scheduling.ErrSaturated: answer 429; scheduling.ErrNoEndpoint: 503
	}
	fmt.Println("send to", decision.Endpoint.Address)
	for _, ep := range decision.Fallbacks {
		fmt.Println("or to", ep.Address)
	}

	// When the data plane has the response:
	decision.FirstToken()
	decision.Done(types.Outcome{Status: 200})
	// Output:
	// send to calm:8000
	// or to busy:8000
	// or to full:8000
}

func ExampleDecisionTree() {
	scheduler, err := scheduling.New(plugins.DecisionTree())
	if err != nil {
		panic(err)
	}
	endpoints := []*types.Endpoint{server("a", 20, 0.5), server("b", 30, 0.5)}
	for _, priority := range []int{types.PriorityCritical, types.PriorityStandard, types.PrioritySheddable} {
		req := chat("Why is the sky blue?")
		req.Priority = priority
		decision, err := scheduler.Schedule(context.Background(), req, endpoints)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println("send to", decision.Endpoint.ID)
		decision.Done(types.Outcome{Status: 200})
	}
	// Output:
	// send to a
	// send to a
	// scheduling: filter "decision-tree": scheduling: the pool is saturated: priority -100 is shed while none of 2 endpoints has room
}

func ExampleRegistry_Load() {
	profiles, err := plugins.NewRegistry().Load([]byte(`{
		"plugins": [
			{"type": "healthy-filter"},
			{"type": "shed-filter", "parameters": {"maxQueue": 8}},
			{"type": "queue-scorer", "name": "queue"},
			{"type": "kv-cache-utilization-scorer", "name": "kv"},
			{"type": "max-score-picker"}
		],
		"schedulingProfiles": [{
			"name": "default",
			"fallbacks": 1,
			"metricsTTL": "2s",
			"plugins": [
				{"pluginRef": "healthy-filter"},
				{"pluginRef": "shed-filter"},
				{"pluginRef": "queue", "weight": 2},
				{"pluginRef": "kv"},
				{"pluginRef": "max-score-picker"}
			]
		}]
	}`))
	if err != nil {
		panic(err)
	}
	scheduler, err := scheduling.New(profiles["default"])
	if err != nil {
		panic(err)
	}
	endpoints := []*types.Endpoint{server("a", 4, 0.25), server("b", 0, 0.75), server("c", 2, 0.5)}
	explanation, err := scheduler.Explain(context.Background(), chat("Why is the sky blue?"), endpoints)
	if err != nil {
		panic(err)
	}
	fmt.Print(explanation)
	// Output:
	// rank  endpoint  total  queue x2           kv x1
	// -     a         0.750  0.000 (4 waiting)  0.750 (KV 25 %)
	// 1     b         2.250  2.000 (0 waiting)  0.250 (KV 75 %)
	// 2     c         1.500  1.000 (2 waiting)  0.500 (KV 50 %)
}

// zoneScorer prefers the endpoints of one zone.
type zoneScorer struct {
	Zone string `json:"zone"`
}

func (s zoneScorer) Score(_ context.Context, _ *types.Request, eps []*types.Endpoint, scores []float64) error {
	for i, ep := range eps {
		scores[i] = 0
		if ep.Labels["zone"] == s.Zone {
			scores[i] = 1
		}
	}
	return nil
}

func ExampleRegistry_Register() {
	registry := plugins.NewRegistry()
	registry.Register("zone-scorer", func(parameters json.RawMessage) (any, error) {
		s := zoneScorer{Zone: "west"} // the default
		if err := plugins.Parameters(parameters, &s); err != nil {
			return nil, err
		}
		return s, nil
	})
	profiles, err := registry.Load([]byte(`{
		"plugins": [
			{"type": "zone-scorer", "parameters": {"zone": "east"}},
			{"type": "max-score-picker"}
		],
		"schedulingProfiles": [
			{"name": "near", "plugins": [{"pluginRef": "zone-scorer"}, {"pluginRef": "max-score-picker"}]}
		]
	}`))
	if err != nil {
		panic(err)
	}
	scheduler, err := scheduling.New(profiles["near"])
	if err != nil {
		panic(err)
	}
	west, east := server("w", 0, 0), server("e", 0, 0)
	west.Labels, east.Labels = map[string]string{"zone": "west"}, map[string]string{"zone": "east"}
	decision, err := scheduler.Schedule(context.Background(), chat("Why is the sky blue?"), []*types.Endpoint{west, east})
	if err != nil {
		panic(err)
	}
	defer decision.Done(types.Outcome{Status: 200})
	fmt.Println(decision.Endpoint.ID)
	// Output: e
}
