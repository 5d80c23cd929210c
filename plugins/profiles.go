package plugins

import "github.com/inferpick/inferpick/scheduling"

// DefaultFallbacks is the number of fallbacks of the ready-made profiles.
const DefaultFallbacks = 2

// Default returns the profile to start with: the lowest Cost, in seconds, among the endpoints that
// are healthy and not taken out by Ejection. It has no weights to tune, and works for chat, shared
// prefixes, agents, adapters and unequal servers; docs/default-policy.md has a comparison.
//
// If all endpoints fail they are all tried: a request that may fail is better than one that must.
// For the opposite set EjectionOptions.FailClosed.
//
// Each call returns a new profile that has learned nothing. Use one Scheduler per pool, since it
// learns one kind of server.
func Default() scheduling.Profile { return defaultProfile(mustCost(CostOptions{})) }

// DefaultWith is Default with options for its Cost, or an error that lists all invalid ones.
func DefaultWith(o CostOptions) (scheduling.Profile, error) {
	cost, err := NewCost(o)
	if err != nil {
		return scheduling.Profile{}, err
	}
	return defaultProfile(cost), nil
}

// SessionWorth is how many seconds of cost it is worth in the Agents profile that a server served a
// session's last request.
const SessionWorth = 0.3

// Agents is Default for agents and other clients that name their sessions: what a session will need
// again is where its last request was, and not all of that can be told by the prompt. The preference
// is as large as SessionWorth; without a session all is as with Default. It is not for sessions that
// many requests at a time have in common, such as a prompt_cache_key that a whole application uses:
// they would all go to one server until that is so much dearer.
func Agents() scheduling.Profile {
	p := Default()
	p.Scorers = append(p.Scorers, scheduling.Weighted{
		Name: "session", Scorer: must(NewSessionAffinity(SessionOptions{})), Weight: SessionWorth,
	})
	return p
}

func defaultProfile(cost *Cost) scheduling.Profile {
	filters := safetyFilters()
	last := len(filters) - 1 // Shed, which looks at the endpoints that are left
	filters = append(filters[:last:last], scheduling.Named{Name: "ejection", Filter: must(NewEjection(EjectionOptions{}))}, filters[last])
	return scheduling.Profile{
		Filters:   filters,
		Costs:     []scheduling.Costed{{Name: "cost", Coster: cost}},
		Picker:    MaxScore{},
		Fallbacks: DefaultFallbacks,
	}
}

// must is for options that are known to be valid.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Classic returns the scheduling of the Inference Extension since version 1.2: queue depth 2, KV
// cache 2, prefix cache 3, highest sum, ties at random. Requests of negative priority are shed
// while no endpoint has room. Scores equal those of the extension for the same readings, except
// that unknown or stale values do not count as 0.
//
// Each call returns a new profile with its own prefix index.
func Classic() scheduling.Profile {
	return classic(nil)
}

// ClassicWithInFlight returns Classic plus InFlightRequests with weight 4. The ledger sees a burst
// before any scrape does, and balances servers that report nothing. The weight exceeds that of the
// prefix cache, so that a prefix that all prompts share does not keep them all on one server; the
// spread of InFlightRequests lets a conversation move only to a server with several requests
// fewer.
func ClassicWithInFlight() scheduling.Profile {
	return classic([]scheduling.Weighted{{Name: "in-flight", Scorer: InFlightRequests{}, Weight: 4}})
}

func classic(more []scheduling.Weighted) scheduling.Profile {
	return scheduling.Profile{
		Filters: safetyFilters(),
		Scorers: append([]scheduling.Weighted{
			{Name: "queue", Scorer: QueueDepth{}, Weight: 2},
			{Name: "kv-cache", Scorer: KVCache{}, Weight: 2},
			{Name: "prefix-cache", Scorer: must(NewPrefixCache(PrefixOptions{})), Weight: 3},
		}, more...),
		Picker:    MaxScore{},
		Fallbacks: DefaultFallbacks,
	}
}

// safetyFilters are the filters of all ready-made profiles.
func safetyFilters() []scheduling.Named {
	return []scheduling.Named{
		{Name: "healthy", Filter: Healthy{}},
		{Name: "model-served", Filter: new(ModelServed)},
		{Name: "previous-answer", Filter: must(NewPreviousAnswer(AnswerOptions{}))},
		{Name: "fresh", Filter: Fresh{}},
		{Name: "shed", Filter: Shed{}},
	}
}

// LeastRequests returns a profile that chooses the endpoint with the fewest of this process's
// requests in flight, ties at random.
func LeastRequests() scheduling.Profile {
	return scheduling.Profile{
		Filters:   safetyFilters(),
		Scorers:   []scheduling.Weighted{{Name: "in-flight", Scorer: InFlightRequests{}, Weight: 1}},
		Picker:    MaxScore{},
		Fallbacks: DefaultFallbacks,
	}
}

// RoundRobinProfile returns a profile that chooses endpoints in turn.
func RoundRobinProfile() scheduling.Profile {
	return scheduling.Profile{Filters: safetyFilters(), Picker: new(RoundRobin), Fallbacks: DefaultFallbacks}
}

// RandomProfile returns a profile that chooses endpoints at random, as a Kubernetes Service does.
func RandomProfile() scheduling.Profile {
	return scheduling.Profile{Filters: safetyFilters(), Picker: Random{}, Fallbacks: DefaultFallbacks}
}
