package plugins

import "github.com/inferpick/inferpick/scheduling"

// DefaultFallbacks is how many fallbacks the ready-made profiles name.
const DefaultFallbacks = 2

// Default returns the profile to start with: the least cost in seconds, by Cost, among
// the endpoints that serve, of which Ejection keeps those that fail this process's own
// requests away for a while. It needs no weights, and holds on chat, shared prefixes,
// agents, adapters and unequal servers alike; docs/default-policy.md has the comparison.
//
// Where all endpoints fail they are all tried: a request that may fail is better than
// one that must. Set FailClosed of Ejection for the opposite.
//
// Each call returns a new profile that has learned nothing. Give each pool its own
// Scheduler: what is learned is of one kind of server.
func Default() scheduling.Profile { return defaultProfile(mustCost(CostOptions{})) }

// DefaultWith is Default with a Cost of these options. An error names the one that is out
// of range.
func DefaultWith(o CostOptions) (scheduling.Profile, error) {
	cost, err := NewCost(o)
	if err != nil {
		return scheduling.Profile{}, err
	}
	return defaultProfile(cost), nil
}

func defaultProfile(cost *Cost) scheduling.Profile {
	filters := safetyFilters()
	last := len(filters) - 1 // the one that sheds asks whether those that are left have room
	filters = append(filters[:last:last], scheduling.Named{Name: "ejection", Filter: mustEjection(EjectionOptions{})}, filters[last])
	return scheduling.Profile{
		Filters:   filters,
		Costs:     []scheduling.Costed{{Name: "cost", Coster: cost}},
		Picker:    MaxScore{},
		Fallbacks: DefaultFallbacks,
	}
}

// mustEjection is NewEjection for options that are known to be valid.
func mustEjection(o EjectionOptions) *Ejection {
	e, err := NewEjection(o)
	if err != nil {
		panic(err)
	}
	return e
}

// Classic returns the scheduling of the Inference Extension since its version
// 1.2: queue depth 2, KV cache 2, prefix cache 3, the highest sum wins, ties at
// random; and requests of negative priority are shed while no endpoint has room.
// The scores are the same as that implementation's on the same readings; what is
// unknown or stale is not taken for 0.
//
// Each call returns a new profile with a prefix index of its own.
func Classic() scheduling.Profile {
	return classic(nil)
}

// ClassicWithInFlight returns Classic plus this process's own requests in flight
// with weight 4: the ledger sees a burst that no scrape has seen yet, and
// balances servers that report nothing. The weight is above the prefix cache's,
// so that a beginning that all prompts share cannot hold all of them on the one
// server that has it; the spread of InFlightRequests sees to it that a
// conversation leaves its server only for one with several requests fewer.
func ClassicWithInFlight() scheduling.Profile {
	return classic([]scheduling.Weighted{{Name: "in-flight", Scorer: InFlightRequests{}, Weight: 4}})
}

func classic(more []scheduling.Weighted) scheduling.Profile {
	return scheduling.Profile{
		Filters: safetyFilters(),
		Scorers: append([]scheduling.Weighted{
			{Name: "queue", Scorer: QueueDepth{}, Weight: 2},
			{Name: "kv-cache", Scorer: KVCache{}, Weight: 2},
			{Name: "prefix-cache", Scorer: mustPrefixCache(PrefixOptions{}), Weight: 3},
		}, more...),
		Picker:    MaxScore{},
		Fallbacks: DefaultFallbacks,
	}
}

// safetyFilters are those that every ready-made profile begins with.
func safetyFilters() []scheduling.Named {
	return []scheduling.Named{
		{Name: "healthy", Filter: Healthy{}},
		{Name: "model-served", Filter: new(ModelServed)},
		{Name: "previous-answer", Filter: mustPreviousAnswer(AnswerOptions{})},
		{Name: "fresh", Filter: Fresh{}},
		{Name: "shed", Filter: Shed{}},
	}
}

// LeastRequests returns the profile that sends each request to the endpoint with
// the fewest of this process's requests in flight, ties at random.
func LeastRequests() scheduling.Profile {
	return scheduling.Profile{
		Filters:   safetyFilters(),
		Scorers:   []scheduling.Weighted{{Name: "in-flight", Scorer: InFlightRequests{}, Weight: 1}},
		Picker:    MaxScore{},
		Fallbacks: DefaultFallbacks,
	}
}

// RoundRobinProfile returns the profile that takes endpoints in turn.
func RoundRobinProfile() scheduling.Profile {
	return scheduling.Profile{Filters: safetyFilters(), Picker: new(RoundRobin), Fallbacks: DefaultFallbacks}
}

// RandomProfile returns the profile that takes any endpoint, which is what a
// Kubernetes Service does.
func RandomProfile() scheduling.Profile {
	return scheduling.Profile{Filters: safetyFilters(), Picker: Random{}, Fallbacks: DefaultFallbacks}
}
