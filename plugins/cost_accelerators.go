package plugins

import (
	"math"
	"strings"

	"github.com/inferpick/inferpick/internal/cost"
	"github.com/inferpick/inferpick/types"
)

// maxStart bounds the logarithms that a server starts with: factors of 7.
const maxStart = 2.

// An Accelerator is how fast a model server is likely to be on it, relative to an
// H100: Decode by its memory bandwidth, Prefill by its arithmetic, from the vendors'
// data sheets (dense BF16). It is a start: Cost learns the rest.
type Accelerator struct{ Decode, Prefill float64 }

// Accelerators are those known by a part of their name, in lower case.
func Accelerators() map[string]Accelerator {
	return map[string]Accelerator{
		"h100":   {1, 1},
		"h200":   {1.43, 1},
		"b200":   {2.39, 2.27},
		"gh200":  {1.2, 1},
		"a100":   {0.6, 0.32},
		"a10g":   {0.18, 0.07},
		"a10":    {0.18, 0.13},
		"l40s":   {0.26, 0.37},
		"l4":     {0.09, 0.12},
		"t4":     {0.1, 0.066},
		"v100":   {0.27, 0.13},
		"mi300x": {1.58, 1.32},
	}
}

// startRates are those of a server that nothing has been learned of.
func (o *CostOptions) startRates(ep *types.Endpoint) cost.Start {
	if v := ep.Capacity.Speed; v > 0 && !math.IsInf(v, 1) {
		r := min(max(-math.Log(v), -maxStart), maxStart)
		return cost.Start{Step: r}
	}
	label := strings.ToLower(ep.Labels[o.AcceleratorLabel])
	if label == "" {
		return cost.Start{}
	}
	known, longest := Accelerator{1, 1}, 0
	for name, a := range Accelerators() {
		// The longest name that fits: "l40s" has "l4" in it.
		if len(name) > longest && strings.Contains(label, name) {
			known, longest = a, len(name)
		}
	}
	return cost.Start{
		Step:  min(max(-math.Log(known.Decode), -maxStart), maxStart),
		Token: min(max(-math.Log(known.Prefill/known.Decode), -maxStart), maxStart),
	}
}
