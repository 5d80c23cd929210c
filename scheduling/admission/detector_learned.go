package admission

import (
	"math"
	"time"

	"github.com/inferpick/inferpick/types"
)

// LearnedBatch takes an endpoint as full when it has as many requests as fit into its
// batch, and learns how many that are: as many as ran while one that had been there for
// a whole scrape period still waited. While it waits for none and the batch is full, one
// more is tried now and then. So the engine's own queue stays empty, and its batch full,
// whatever bounds it: a limit on sequences, the KV cache or the tokens of a step.
//
// It needs readings: Controller.Update must be called for each. An endpoint of which it
// has learned nothing is judged by the other detectors. Make it with new; it is for one
// Controller.
type LearnedBatch struct {
	batches map[*types.Load]*batch
}

// batch is what is known of one endpoint's.
type batch struct {
	limit  float64
	fullAt time.Time // when it was last seen to be full
	grewAt time.Time
	probe  time.Duration // until one more is tried
}

// How soon LearnedBatch tries whether there is room for more than it believes. A bound
// that was found again and again, such as one on sequences, is tried ever less often;
// one that moves, such as the KV cache, again at once.
const (
	firstProbe = time.Second
	lastProbe  = 32 * time.Second
	sameBatch  = 2 // requests by which a bound may differ and still be the same
)

// Fill implements Detector.
func (b *LearnedBatch) Fill(q Query, ep *types.Endpoint) float64 {
	known, ok := b.batches[ep.Load]
	if !ok {
		return math.NaN()
	}
	// One more must fit: the slot that is kept for a higher band is a whole one.
	return (inFlight(q, ep) + 1) / (known.limit + 1)
}

// inFlight estimates the requests at ep: those that the server reported, others' too,
// and what the ledger says happened since.
func inFlight(q Query, ep *types.Endpoint) float64 {
	own := float64(ep.Load.Requests())
	w, ok := ep.Metrics.Waiting.Value()
	r, ok2 := ep.Metrics.Running.Value()
	if !ok || !ok2 || !q.fresh(ep) {
		return own
	}
	return max(w+r+own-float64(ep.Sent.Requests), own, 0)
}

// Reading implements ReadingLearner.
func (b *LearnedBatch) Reading(ep *types.Endpoint, since Since) {
	w, ok := ep.Metrics.Waiting.Value()
	r, ok2 := ep.Metrics.Running.Value()
	if !ok || !ok2 || ep.Load == nil {
		return
	}
	now := ep.Metrics.UpdatedAt
	known := b.batches[ep.Load]
	switch {
	// A step ended since the last reading, and of those that waited before some still do.
	case w > float64(since.Sent) && since.Tokens > 0 && r >= 1:
		if b.batches == nil {
			b.batches = map[*types.Load]*batch{}
		}
		probe := firstProbe
		if known != nil && math.Abs(known.limit-r) <= sameBatch {
			probe = min(2*known.probe, lastProbe)
		}
		b.batches[ep.Load] = &batch{r, now, now, probe}
	case known == nil || w > 0 || r < known.limit-1 || now.Sub(known.grewAt) < known.probe:
	case now.Sub(known.fullAt) > 4*known.probe:
		known.limit, known.grewAt, known.probe = known.limit+max(1, known.limit/64), now, firstProbe/16
	default:
		known.limit, known.grewAt = known.limit+1, now
	}
}

// Forget implements ReadingLearner.
func (b *LearnedBatch) Forget(ep *types.Endpoint) { delete(b.batches, ep.Load) }
