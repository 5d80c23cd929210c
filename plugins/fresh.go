package plugins

import (
	"context"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Fresh is a Filter that strikes out endpoints whose last reading is older than
// the profile's MetricsTTL: as a rule the server is dead or hangs. An endpoint
// that was never read passes (it is new, or its engine has no metrics), and if
// every endpoint is stale all pass: then it is the scraping that is broken.
type Fresh struct{}

// Filter implements scheduling.Filter.
func (Fresh) Filter(_ context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error {
	stale := 0
	for i, ep := range eps {
		if wentStale(req, ep) {
			keep[i] = false
			stale++
		}
	}
	if stale == len(eps) {
		keepAll(keep)
	}
	return nil
}

// Screen implements scheduling.Screener.
func (Fresh) Screen(req *types.Request, o *scheduling.Overview) bool {
	return o.OldestReading.IsZero() || !o.OldestReading.Before(req.StaleBefore)
}

// Describe implements scheduling.Describer.
func (Fresh) Describe(req *types.Request, ep *types.Endpoint) string {
	if wentStale(req, ep) {
		return "last reading " + req.Now.Sub(ep.Metrics.UpdatedAt).Round(time.Millisecond).String() + " old"
	}
	return ""
}

func wentStale(req *types.Request, ep *types.Endpoint) bool {
	return ep.Metrics.UpdatedAt.Before(req.StaleBefore) && !ep.Metrics.UpdatedAt.IsZero()
}

func keepAll(keep []bool) {
	for i := range keep {
		keep[i] = true
	}
}

var (
	_ scheduling.Filter    = Fresh{}
	_ scheduling.Screener  = Fresh{}
	_ scheduling.Describer = Fresh{}
)
