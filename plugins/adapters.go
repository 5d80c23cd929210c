package plugins

import (
	"slices"

	"github.com/inferpick/inferpick/types"
)

// hasAdapter reports whether ep is known to run the target, or to have requests waiting for it.
func hasAdapter(req *types.Request, ep *types.Endpoint, target string) bool {
	most := ep.MaxAdapters(req)
	return most == most &&
		(slices.Contains(ep.Metrics.RunningAdapters, target) || slices.Contains(ep.Metrics.WaitingAdapters, target))
}

// slotFree reports whether fewer adapters are in use than fit. One that is both
// running and waiting takes one slot.
func slotFree(req *types.Request, ep *types.Endpoint) bool {
	used := len(ep.Metrics.RunningAdapters)
	for _, a := range ep.Metrics.WaitingAdapters {
		if !slices.Contains(ep.Metrics.RunningAdapters, a) {
			used++
		}
	}
	return float64(used) < ep.MaxAdapters(req)
}

// loraTier returns the score of ep for LoRAAffinity, and why, for people.
func loraTier(req *types.Request, ep *types.Endpoint, target string) (score float64, what string) {
	most := ep.MaxAdapters(req)
	m := &ep.Metrics
	switch {
	case most != most:
		return most, "adapters unknown"
	case slices.Contains(m.RunningAdapters, target):
		return 1, "adapter running"
	case float64(len(m.RunningAdapters)+len(m.WaitingAdapters)) < most:
		return 0.8, "adapter slot free"
	case slices.Contains(m.WaitingAdapters, target):
		return 0.6, "adapter waiting"
	}
	return 0, "adapter slots full"
}
