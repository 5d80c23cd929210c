package anchors

import (
	"fmt"

	"github.com/inferpick/inferpick/examples/simulator/policies"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/simulation"
)

// Names of policies, as package policies has them.
const (
	treeName    = "gie-0.3"
	randomName  = "random"
	leastName   = "least-req"
	preciseName = "llmd-precise-322"
	stickyName  = "llmd-sticky"
)

// arms are the policies of the published comparisons.
type arms struct {
	tree, random, least, load, precise, sticky simulation.Policy
}

func findPolicies() (arms, error) {
	a := arms{load: simulation.Policy{Name: "load", Profile: load}}
	for _, want := range []struct {
		name string
		into *simulation.Policy
	}{{treeName, &a.tree}, {randomName, &a.random}, {leastName, &a.least}, {preciseName, &a.precise}, {stickyName, &a.sticky}} {
		found, err := policies.ByName(want.name)
		if err != nil {
			return arms{}, fmt.Errorf("anchors: %w", err)
		}
		*want.into = found[0]
	}
	return a, nil
}

// load is the ladders' "load-scheduling": queue and KV cache, with equal weights.
func load() scheduling.Profile {
	return scheduling.Profile{
		Scorers: []scheduling.Weighted{
			{Name: "queue", Scorer: plugins.QueueDepth{}, Weight: 1},
			{Name: "kv-cache", Scorer: plugins.KVCache{}, Weight: 1},
		},
		Picker: plugins.MaxScore{},
	}
}
