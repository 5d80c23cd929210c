package plugins

import (
	"context"
	"fmt"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// DecisionTree returns a profile with the filter tree of the Inference Extension 0.3 and a random
// choice among the survivors:
//
//	Critical:  waiting < 128 somewhere?
//	           yes: those → LoRA affinity → least queue → least KV
//	           no:  least queue → LoRA affinity → least KV
//	others:    waiting <= 5 and KV <= 0.8 somewhere?
//	           yes: those → least queue → LoRA affinity → least KV
//	           no:  Sheddable: ErrSaturated
//	                Standard: as Critical, but ErrSaturated if no queue is below 128
//
// It deviates from 0.3 in three points: the last line, because 0.3 documents Standard as more
// important than Sheddable but treats both alike; "least" drops endpoints whose value is unknown
// if another's is known, where 0.3 took them for idle; and LoRA affinity reads the adapters in
// use, which may be none.
func DecisionTree() scheduling.Profile {
	return scheduling.Profile{
		Filters: []scheduling.Named{
			{Name: "healthy", Filter: Healthy{}},
			{Name: "model-served", Filter: new(ModelServed)},
			{Name: "previous-answer", Filter: must(NewPreviousAnswer(AnswerOptions{}))},
			{Name: "fresh", Filter: Fresh{}},
			{Name: "decision-tree", Filter: decisionTree()},
		},
		Picker:    Random{},
		Fallbacks: DefaultFallbacks,
	}
}

func decisionTree() *Tree {
	least := func(first, second, third scheduling.Filter) *Tree {
		last := &Tree{Rule: third}
		mid := &Tree{Rule: second, OnSuccess: last, OnFailure: last}
		return &Tree{Rule: first, OnSuccess: mid, OnFailure: mid}
	}
	spread := func() *Tree { return least(LeastQueue{}, LoRASoftAffinity{}, LeastKV{}) }
	lowQueue := func(onFailure *Tree) *Tree {
		return &Tree{
			Rule:      LowQueue{},
			OnSuccess: least(LoRASoftAffinity{}, LeastQueue{}, LeastKV{}),
			OnFailure: onFailure,
		}
	}
	shed := &Tree{Rule: scheduling.FilterFunc(func(_ context.Context, req *types.Request, eps []*types.Endpoint, _ []bool) error {
		return fmt.Errorf("%w: priority %d is shed while none of %d endpoints has room", scheduling.ErrSaturated, req.Priority, len(eps))
	})}
	return &Tree{
		Rule:      whenPriority(func(p int) bool { return p >= types.PriorityCritical }),
		OnSuccess: lowQueue(spread()),
		OnFailure: &Tree{
			Rule:      HasCapacity{},
			OnSuccess: spread(),
			OnFailure: &Tree{
				Rule:      whenPriority(func(p int) bool { return p >= types.PriorityStandard }),
				OnSuccess: lowQueue(shed),
				OnFailure: shed,
			},
		},
	}
}

// whenPriority is a branch of a Tree: it keeps all endpoints for some priorities, and none for
// others.
func whenPriority(is func(int) bool) scheduling.Filter {
	return scheduling.FilterFunc(func(_ context.Context, req *types.Request, _ []*types.Endpoint, keep []bool) error {
		if !is(req.Priority) {
			clear(keep)
		}
		return nil
	})
}
