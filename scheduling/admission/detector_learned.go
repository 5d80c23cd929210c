package admission

import (
	"math"
	"sync"
	"time"

	"github.com/inferpick/inferpick/types"
)

// LearnedBatch takes an endpoint as full when it has as many requests as its engine runs
// at once, and learns how many that are. Where requests wait, and as many run reading
// after reading although some have ended in between, each place is taken by another as
// soon as it is free: so many places there are. When the engine's queue is empty, one more
// is tried now and then. So the queue stays empty and the batch full.
//
// It needs readings: Controller.Put or Update must be called for each. An endpoint of
// which it has learned nothing is judged by other detectors, and so is one whose batch is
// bounded by something else than a number of places. Make it with new; it is for one
// Controller.
type LearnedBatch struct {
	mu      sync.RWMutex
	batches map[*types.Load]*batch // guarded by mu, as is what is in it
}

// batch is what is known of one endpoint's.
type batch struct {
	at     time.Time     // of the last reading
	places float64       // infinite: not known
	probe  time.Duration // how long until more are tried
	next   time.Time     // when
	trying bool          // more are tried now

	running float64 // at the last reading at which something waited
	same    int     // readings in a row at which it was this, and something waited
	waited  int     // readings in a row at which something waited
}

// How sure LearnedBatch wants to be, and how soon it tries whether there are more places
// than it believes: ever later where it found the same again.
const (
	sureReadings = 4
	sameBatch    = 2 // places by which a bound may differ and still be the same
	firstProbe   = time.Second
	lastProbe    = 32 * time.Second
)

const (
	// keptPlaces is the part of the places that is kept for requests that may use all of
	// an endpoint: only these are let in once the others are taken.
	keptPlaces = 0.045
	// keptFill is how full an endpoint is then. It is the ceiling of standard requests in
	// DefaultBands: a few places are enough to let others in at once, while of a KV cache
	// or a backlog more must be kept.
	keptFill = 0.8
)

// Fill implements Detector.
func (b *LearnedBatch) Fill(q Query, ep *types.Endpoint) float64 {
	places := b.placesAt(ep)
	if math.IsInf(places, 1) {
		return math.NaN()
	}
	// One more must fit: what is kept is whole places.
	taken := (inFlight(q, ep) + 1) / (places + 1)
	const free = 1 - keptPlaces
	if taken <= free {
		return taken / free * keptFill
	}
	return keptFill + (taken-free)/keptPlaces*(1-keptFill)
}

// placesAt returns how many places an endpoint has, those included that are tried;
// infinite: it is not known.
func (b *LearnedBatch) placesAt(ep *types.Endpoint) float64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	known := b.batches[ep.Load]
	switch {
	case known == nil:
		return math.Inf(1)
	case known.trying:
		return known.places + known.more()
	}
	return known.places
}

// more is how many more places are tried: enough that one more is taken also by those for
// whom some are kept free; and many where what is believed was found only once, for then
// it may be wrong altogether.
func (b *batch) more() float64 {
	n := 2 + keptPlaces*b.places
	if b.probe == firstProbe {
		n += b.places / 16
	}
	return n
}

// Slots implements SlotDetector.
func (b *LearnedBatch) Slots(q Query, ep *types.Endpoint) float64 { return b.Fill(q, ep) }

// inFlight estimates the requests at ep: those that the server reported, others' too,
// and what the ledger, and peers, say happened since. Its own are there for certain.
func inFlight(q Query, ep *types.Endpoint) float64 {
	known := ep.Load.Known().Requests
	w, r, ok := reported(ep)
	if !ok || !q.fresh(ep) {
		return float64(known)
	}
	return max(w+r+float64(known-ep.Sent.Requests), float64(ep.Load.Requests()), 0)
}

// Reading implements ReadingLearner.
func (b *LearnedBatch) Reading(ep *types.Endpoint, since Since) {
	w, r, ok := reported(ep)
	if !ok || ep.Load == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	known := b.batches[ep.Load]
	if known == nil {
		if b.batches == nil {
			b.batches = map[*types.Load]*batch{}
		}
		known = &batch{places: math.Inf(1)}
		b.batches[ep.Load] = known
	}
	if ep.Metrics.UpdatedAt.Before(known.at) {
		return
	}
	known.at = ep.Metrics.UpdatedAt
	known.read(w, r, since, ep.Metrics.UpdatedAt)
}

func (b *batch) read(waiting, running float64, since Since, now time.Time) {
	if running > b.places { // there are more than was believed
		b.places = running
	}
	if waiting == 0 {
		b.same, b.waited = 0, 0
		if !b.trying && running >= (1-keptPlaces)*b.places-2 && !now.Before(b.next) {
			b.trying = true
		}
		return
	}
	b.waited++
	switch {
	case b.trying && b.waited > 1 && running <= b.places:
		b.full(b.places, now)
	case running < 1 || since.Finished == 0: // nothing is learned
	case running != b.running:
		b.running, b.same = running, 1
	default:
		if b.same++; b.same >= sureReadings {
			b.full(running, now)
		}
	}
}

// full notes that so many requests are all that run at once.
func (b *batch) full(running float64, now time.Time) {
	if math.Abs(running-b.places) <= sameBatch {
		b.probe = min(2*b.probe, lastProbe)
	} else {
		b.probe = firstProbe
	}
	b.places, b.next, b.trying, b.same = running, now.Add(b.probe), false, 0
}

// keep implements keeper.
func (b *LearnedBatch) keep(ep *types.Endpoint, note func(keptKind, float64, float64)) {
	if ep == nil {
		return
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if known := b.batches[ep.Load]; known != nil && !math.IsInf(known.places, 1) {
		note(keptPlacesOf, known.places, known.probe.Seconds())
	}
}

// recall implements keeper.
func (b *LearnedBatch) recall(ep *types.Endpoint, k keptKind, places, probe float64) {
	if k != keptPlacesOf {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.batches[ep.Load] != nil {
		return
	}
	if b.batches == nil {
		b.batches = map[*types.Load]*batch{}
	}
	wait := min(max(time.Duration(probe*float64(time.Second)), firstProbe), lastProbe)
	b.batches[ep.Load] = &batch{places: places, probe: wait}
}

// Forget implements ReadingLearner.
func (b *LearnedBatch) Forget(ep *types.Endpoint) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.batches, ep.Load)
}

var (
	_ ReadingLearner = (*LearnedBatch)(nil)
	_ SlotDetector   = (*LearnedBatch)(nil)
)
