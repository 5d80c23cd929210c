package plugins

import (
	"context"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Fresh is a Filter that removes endpoints whose last reading is older than the profile's
// MetricsTTL, which usually means that the server is dead or hangs. Endpoints that were never read
// pass, since they may be new or have no metrics. If every endpoint is stale all pass, since it is
// probably the scraping that is broken.
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
