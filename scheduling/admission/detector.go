package admission

import (
	"math"
	"time"

	"github.com/inferpick/inferpick/types"
)

const defaultMetricsTTL = 5 * time.Second

// Detector says how full endpoints are. It is called with the Controller's lock held
// for one endpoint each time something happened there, so it must take well under a
// microsecond, and must not call the Controller. A Detector may be used by several
// Controllers if it keeps nothing.
type Detector interface {
	// Fill returns how full ep is: 0 is idle, 1 is full; more is allowed. NaN: nothing
	// is known, which counts as room only while nothing is known of any candidate.
	Fill(q Query, ep *types.Endpoint) float64
}

// DetectorFunc is a function that is a Detector.
type DetectorFunc func(q Query, ep *types.Endpoint) float64

// Fill implements Detector.
func (f DetectorFunc) Fill(q Query, ep *types.Endpoint) float64 { return f(q, ep) }

// Query is what a Detector is asked about.
type Query struct {
	// Now is the instant, and StaleBefore the oldest of a reading that may be used.
	Now, StaleBefore time.Time
	// TTFT is the target of the requests that ask, rounded down to a power of two of
	// milliseconds so that there are few of them; 0 if they have none. It is set only
	// for a Detector that is a TargetDetector.
	TTFT time.Duration
}

func (q Query) fresh(ep *types.Endpoint) bool { return !ep.Metrics.UpdatedAt.Before(q.StaleBefore) }

// TargetDetector is a Detector whose answer depends on Query.TTFT.
type TargetDetector interface {
	Detector
	// UsesTarget reports whether it does, as it is configured.
	UsesTarget() bool
}

// Learner is a Detector that learns from first tokens. It is called with the
// Controller's lock held.
type Learner interface {
	// FirstToken tells that a request that was sent to ep when tokens of prompts, its
	// own included, were owed there got its first token after took.
	FirstToken(ep *types.Endpoint, tokens int64, took time.Duration)
}

// ReadingLearner is a Detector that learns from readings. It is called with the
// Controller's lock held.
type ReadingLearner interface {
	// Reading tells of a new reading of ep, and what happened there since the one before.
	Reading(ep *types.Endpoint, since Since)
	// Forget tells that ep has gone.
	Forget(ep *types.Endpoint)
}

// Since is what happened at an endpoint between two readings, as far as the Controller
// knows.
type Since struct {
	// Finished is how many requests ended there.
	Finished int
}

// SlotDetector is a Detector that knows of endpoints that have a number of places: a
// request that is sent to one whose places are taken waits there, whatever else is in its
// favour. Ticket.Candidates leaves those out.
type SlotDetector interface {
	// Slots is Fill as far as places go; NaN: they are not known.
	Slots(q Query, ep *types.Endpoint) float64
}

// Default returns the detector of a Controller that is given none, for one Controller: the
// fullest of LearnedBatch, LearnedBacklog, and Utilization with a limit of 16 on the queue
// and of 0.9 on the KV cache.
func Default() Detector {
	return Max{Utilization{Queue: 16, KVUsage: 0.9}, new(LearnedBacklog), new(LearnedBatch)}
}

// Utilization takes an endpoint as full when its queue or its KV cache is, as the
// utilization detector of the Inference Extension does, but by what this process
// knows first: what it sent since the reading, and which of its requests have had a
// first token, are counted in, so that a burst within one scrape is seen, and a slot
// that came free is too.
//
// An endpoint without a fresh reading is judged by the ledger alone.
type Utilization struct {
	// Queue is how many requests wait in a full endpoint, not counting those in its
	// batch. Default 5.
	Queue float64
	// KVUsage is the part of the KV cache in use in a full endpoint, 0..1. Default 0.8.
	KVUsage float64
}

// Fill implements Detector.
func (u Utilization) Fill(q Query, ep *types.Endpoint) float64 {
	def(&u.Queue, 5)
	def(&u.KVUsage, 0.8)
	return max(queueAt(q, ep)/u.Queue, orZero(kvUsage(q, ep)/u.KVUsage))
}

func orZero(v float64) float64 {
	if v != v {
		return 0
	}
	return v
}

// queueAt estimates the requests that wait for their first token at ep: those that
// the server said were queued, and what the ledger says happened since; or, without a
// fresh reading, all of this process's own.
func queueAt(q Query, ep *types.Endpoint) float64 {
	own := 0.0
	if ep.Load != nil {
		own = float64(ep.Load.Prefilling())
	}
	reported, ok := ep.Metrics.Waiting.Value()
	if !ok || !q.fresh(ep) {
		return own
	}
	return max(reported+own-float64(ep.Sent.Prefilling), 0)
}

// kvUsage estimates the part of the KV cache in use, NaN if nothing is known: the last
// reading, and the context that was sent or released since.
func kvUsage(q Query, ep *types.Endpoint) float64 {
	size := float64(ep.Capacity.KVTokens)
	if block, ok := ep.Metrics.BlockSize.Value(); ok {
		if n, ok := ep.Metrics.NumBlocks.Value(); ok {
			size = block * n
		}
	}
	held := 0.0
	if ep.Load != nil {
		held = float64(ep.Load.ContextTokens())
	}
	used, ok := ep.Metrics.KVUsage.Value()
	if !ok || !q.fresh(ep) {
		return held / size // NaN or infinite if the size is not known
	}
	if !(size > 0) {
		return used
	}
	return max(used+(held-float64(ep.Sent.ContextTokens))/size, 0)
}

// Concurrency takes an endpoint as full when so many of this process's requests are
// in flight there, as the concurrency detector of the Inference Extension does. It
// needs no metrics.
type Concurrency struct {
	// Requests is how many a full endpoint has. An endpoint's Capacity.MaxConcurrency
	// goes before it. Default 100.
	Requests int
	// Tokens is how many tokens of context they hold. 0: they do not count.
	Tokens int
}

// Fill implements Detector.
func (c Concurrency) Fill(_ Query, ep *types.Endpoint) float64 {
	if ep.Load == nil {
		return math.NaN()
	}
	most := c.Requests
	if n := ep.Capacity.MaxConcurrency; n > 0 {
		most = n
	}
	def(&most, 100)
	fill := float64(ep.Load.Requests()) / float64(most)
	if c.Tokens > 0 {
		fill = max(fill, float64(ep.Load.ContextTokens())/float64(c.Tokens))
	}
	return fill
}

// LearnedBacklog is Backlog in time: the tokens of prompts that are owed may take so long
// to work off. How fast that goes is learned from first tokens; until it is known, and
// within bounds in any case, it counts tokens. Make it with new; it is for one Controller.
type LearnedBacklog struct {
	// Time is how long the prompts owed by a full endpoint take. Default 400 ms.
	Time time.Duration
	// Least and Most bound the tokens that this may be. Defaults 4,096, for an endpoint
	// must not be short of work while the next request is on its way, and 16,384.
	Least, Most int

	rate float64 // tokens a second of an endpoint of speed 1, the median; 0: not known
}

// Fill implements Detector.
func (b *LearnedBacklog) Fill(_ Query, ep *types.Endpoint) float64 {
	if ep.Load == nil {
		return math.NaN()
	}
	allowed, least, most := b.Time, b.Least, b.Most
	def(&allowed, 400*time.Millisecond)
	def(&least, 4096)
	def(&most, 16_384)
	tokens := float64(most)
	if b.rate > 0 {
		tokens = min(max(b.rate*speed(ep)*allowed.Seconds(), float64(least)), tokens)
	}
	return float64(ep.Load.PrefillTokens()) / tokens
}

// FirstToken implements Learner. The median is followed by steps up and down: some of what
// there is to learn from is wrong, for prompts that were believed to be cached, or not to
// be, or that waited for something else.
func (b *LearnedBacklog) FirstToken(ep *types.Endpoint, tokens int64, took time.Duration) {
	if tokens < leastLearned || took <= 0 {
		return
	}
	seen := float64(tokens) / took.Seconds() / speed(ep)
	switch {
	case b.rate == 0:
		b.rate = seen
	case seen > b.rate:
		b.rate *= 1 + learning
	default:
		b.rate /= 1 + learning
	}
}

// Slots implements SlotDetector.
func (c Concurrency) Slots(q Query, ep *types.Endpoint) float64 { return c.Fill(q, ep) }

// Backlog takes an endpoint as full when so many tokens of prompts are owed there, by the
// ledger: more only wait for their turn, and whoever comes then waits behind them.
type Backlog struct {
	// Tokens is how many a full endpoint owes. Default 16,384, which is two of the steps
	// that engines take with their usual bound of 8,192 tokens: enough that none is short
	// of work while the next request is on its way.
	Tokens int
}

// Fill implements Detector.
func (b Backlog) Fill(_ Query, ep *types.Endpoint) float64 {
	if ep.Load == nil {
		return math.NaN()
	}
	def(&b.Tokens, 16_384)
	return float64(ep.Load.PrefillTokens()) / float64(b.Tokens)
}

// Max is the fullest that any of several detectors says; what one does not know the
// others decide.
type Max []Detector

// Fill implements Detector.
func (m Max) Fill(q Query, ep *types.Endpoint) float64 {
	fill := math.NaN()
	for _, d := range m {
		if f := d.Fill(q, ep); f == f && !(f <= fill) {
			fill = f
		}
	}
	return fill
}

// Slots implements SlotDetector.
func (m Max) Slots(q Query, ep *types.Endpoint) float64 {
	fill := math.NaN()
	for _, d := range m {
		if s, ok := d.(SlotDetector); ok {
			if f := s.Slots(q, ep); f == f && !(f <= fill) {
				fill = f
			}
		}
	}
	return fill
}

// UsesTarget implements TargetDetector.
func (m Max) UsesTarget() bool {
	for _, d := range m {
		if t, ok := d.(TargetDetector); ok && t.UsesTarget() {
			return true
		}
	}
	return false
}

// FirstToken implements Learner.
func (m Max) FirstToken(ep *types.Endpoint, tokens int64, took time.Duration) {
	for _, d := range m {
		if l, ok := d.(Learner); ok {
			l.FirstToken(ep, tokens, took)
		}
	}
}

// PredictedTTFT takes an endpoint as full when a request that is sent there would get
// its first token later than it should: the tokens of prompts that are owed there
// take longer than the target. How fast an endpoint works them off is learned from
// first tokens. Make it with new; it is for one Controller.
type PredictedTTFT struct {
	// Target is for requests that have no SLO. Default 1 s.
	Target time.Duration
	// Rate is how many tokens of prompts an endpoint of Capacity.Speed 1 works off in
	// a second, until it is known better. Default 10,000.
	Rate float64

	rate float64 // learned; 0: nothing yet
}

// Bounds of what is learned from: a prompt of a few tokens says how long a
// step takes, and not how many tokens are worked off in it.
const (
	leastLearned = 1024
	learning     = 0.05
	defaultRate  = 10_000 // tokens a second, until it is known better
)

// Fill implements Detector.
func (p *PredictedTTFT) Fill(q Query, ep *types.Endpoint) float64 {
	if ep.Load == nil {
		return math.NaN()
	}
	target := q.TTFT
	def(&target, p.Target)
	def(&target, time.Second)
	return float64(ep.Load.PrefillTokens()) / (p.now() * speed(ep)) / target.Seconds()
}

func (p *PredictedTTFT) now() float64 {
	rate := p.rate
	def(&rate, p.Rate)
	def(&rate, defaultRate)
	return rate
}

// UsesTarget implements TargetDetector.
func (p *PredictedTTFT) UsesTarget() bool { return true }

// FirstToken implements Learner.
func (p *PredictedTTFT) FirstToken(ep *types.Endpoint, tokens int64, took time.Duration) {
	if tokens < leastLearned || took <= 0 {
		return
	}
	rate := p.now()
	seen := float64(tokens) / took.Seconds() / speed(ep)
	p.rate = rate + learning*(min(max(seen, rate/4), rate*4)-rate)
}

// Reading implements ReadingLearner.
func (m Max) Reading(ep *types.Endpoint, since Since) {
	for _, d := range m {
		if l, ok := d.(ReadingLearner); ok {
			l.Reading(ep, since)
		}
	}
}

// Forget implements ReadingLearner.
func (m Max) Forget(ep *types.Endpoint) {
	for _, d := range m {
		if l, ok := d.(ReadingLearner); ok {
			l.Forget(ep)
		}
	}
}

func speed(ep *types.Endpoint) float64 {
	if ep.Capacity.Speed > 0 {
		return ep.Capacity.Speed
	}
	return 1
}

var (
	_ Detector       = Utilization{}
	_ Detector       = Concurrency{}
	_ Detector       = Backlog{}
	_ Detector       = (*LearnedBacklog)(nil)
	_ Detector       = DetectorFunc(nil)
	_ TargetDetector = Max{}
	_ TargetDetector = (*PredictedTTFT)(nil)
	_ Learner        = Max{}
	_ ReadingLearner = Max{}
	_ ReadingLearner = (*LearnedBatch)(nil)
	_ SlotDetector   = Max{}
	_ SlotDetector   = Concurrency{}
	_ SlotDetector   = (*LearnedBatch)(nil)
	_ Learner        = (*LearnedBacklog)(nil)
	_ Learner        = (*PredictedTTFT)(nil)
)
