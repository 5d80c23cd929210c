package policies

import (
	"fmt"
	"slices"
	"strings"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/simulation"
)

// All returns every policy, always in the same order: the product's default, those
// that know nothing, those that read what engines report, those that add prefix caches, and those
// that are told what is in them, which exist in a simulation only.
func All() []simulation.Policy {
	policy := func(name string, profile func() scheduling.Profile) simulation.Policy {
		return simulation.Policy{Name: name, Profile: profile}
	}
	knowing := func(name string, profile func(CacheOracle) scheduling.Profile) simulation.Policy {
		return simulation.Policy{Name: name, Clairvoyant: func(t simulation.Truth) scheduling.Profile { return profile(t) }}
	}
	return []simulation.Policy{
		policy("default", Default),
		{Name: "default+events", Profile: Default, Sink: events},
		policy("random", Random),
		policy("round-robin", RoundRobin),
		policy("least-req", LeastRequests),
		policy("p2c", PowerOfTwo),
		policy("vllm-dp", VLLMDataParallel),
		policy("gie-0.3", GIE03),
		policy("classic-111", Classic111),
		policy("classic-223", Classic223),
		policy("classic+in-flight", ClassicInFlight),
		policy("classic+lora", ClassicLoRA),
		policy("classic+ledger", ClassicLedger),
		policy("sglang", SGLang),
		policy("aibrix", AIBrixPrefix),
		policy("dynamo", Dynamo),
		policy("chwbl", CHWBL),
		policy("llmd-sticky", LLMDSticky),
		policy("llmd-sticky-req", LLMDStickyRequests),
		policy("lmetric", LMetric),
		policy("lmetric+adapters", LMetricAdapters),
		policy("classic+in-flight-tuned", ClassicInFlightTuned),
		policy("sglang-tuned", SGLangTuned),
		policy("aibrix-tuned", AIBrixPrefixTuned),
		policy("dynamo-tuned", DynamoTuned),
		policy("llmd-sticky-tuned", LLMDStickyTuned),
		knowing("dynamo-precise", DynamoPrecise),
		knowing("llmd-precise", LLMDPrecise),
		knowing("llmd-precise-322", LLMDPrecise322),
	}
}

// known are those of All, and then those of the other lists.
func known() []simulation.Policy { return slices.Concat(All(), Apart(), Shared(), Work()) }

// Names returns the names of All, in its order, and those that only Apart, Shared or Work has.
func Names() []string {
	var names []string
	for _, p := range known() {
		if !slices.Contains(names, p.Name) {
			names = append(names, p.Name)
		}
	}
	return names
}

// ByName returns the policies of a list of names separated by commas, in the order
// of the list, of All, Apart, Shared and Work; "all" stands for All. An error names the first that is unknown, empty
// or there twice, and lists those that are known.
func ByName(list string) ([]simulation.Policy, error) {
	byName := map[string]simulation.Policy{}
	for _, p := range known() {
		byName[p.Name] = p
	}
	var chosen []simulation.Policy
	seen := map[string]bool{}
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		more := []simulation.Policy{byName[name]}
		if name == "all" {
			more = All()
		} else if _, ok := byName[name]; !ok {
			return nil, fmt.Errorf("policies: unknown policy %q, want a list of: all, %s", name, strings.Join(Names(), ", "))
		}
		for _, p := range more {
			if seen[p.Name] {
				return nil, fmt.Errorf("policies: policy %q is there twice in %q", p.Name, list)
			}
			seen[p.Name] = true
			chosen = append(chosen, p)
		}
	}
	return chosen, nil
}
