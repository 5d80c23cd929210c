package admission

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/types"
)

const defaultMetricsTTL = 5 * time.Second

// Detector says how full endpoints are. It is called for one endpoint each time something
// happened there, from the call that tells of it, so it must take well under a
// microsecond. No lock is held: calls come from several goroutines at a time, so that one
// that keeps something guards it, and it may call any method of the Controller, which it
// then finds as it was before what it is asked about. What it does that changes the
// endpoint again is looked at afterwards; if it never ceases to, now and then. If it
// panics, nothing is known of the endpoint. The same goes for the interfaces that it may
// have beside; what they are told of when they panic counts as told.
//
// A Detector may be used by several Controllers if it keeps nothing.
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
	// Presumed is how many requests at the endpoint count in its ledger as without a first
	// token, though they are believed to have had it: their answers are not streamed, so it
	// is not seen, and they were sent longer ago than a first token takes. Of those of other
	// gateways (types.Load.Peers) as large a part is taken to be such. Set for Fill.
	Presumed int
}

func (q Query) fresh(ep *types.Endpoint) bool { return !ep.Metrics.UpdatedAt.Before(q.StaleBefore) }

// asleep reports whether the engine says that it sleeps.
func (q Query) asleep(ep *types.Endpoint) bool {
	awake, ok := ep.Metrics.Awake.Value()
	return ok && awake == 0 && q.fresh(ep)
}

// away reports whether nothing is to be sent there, if it can be sent elsewhere.
func (q Query) away(ep *types.Endpoint) bool {
	if ep.Load != nil {
		if _, out := ep.Load.Out(q.Now); out {
			return true
		}
	}
	return q.asleep(ep)
}

// prefilling returns how many requests wait for their first token, by the ledger and by what
// peers say.
func (q Query) prefilling(known types.Booking) float64 {
	return max(float64(known.Prefilling)-float64(q.Presumed), 0)
}

// owed returns the tokens of prompts that are owed, by the ledger and by what peers say: those
// of requests of which the first token is presumed are taken to be like the others'.
func (q Query) owed(ep *types.Endpoint) float64 {
	known := ep.Load.Known()
	tokens := float64(known.PrefillTokens)
	if q.Presumed == 0 {
		return tokens
	}
	return tokens * q.prefilling(known) / max(float64(known.Prefilling), 1)
}

// reported returns how many requests wait and run by the last reading; not ok if it does not
// tell of both.
func reported(ep *types.Endpoint) (waiting, running float64, ok bool) {
	waiting, ok = ep.Metrics.Waiting.Value()
	running, ok2 := ep.Metrics.Running.Value()
	return waiting, running, ok && ok2
}

// TargetDetector is a Detector whose answer depends on Query.TTFT.
type TargetDetector interface {
	Detector
	// UsesTarget reports whether it does, as it is configured.
	UsesTarget() bool
}

// Learner is a Detector that learns from first tokens.
type Learner interface {
	// FirstToken tells that a request that was sent to ep when tokens of prompts, its
	// own included, were owed there got its first token after took.
	FirstToken(ep *types.Endpoint, tokens int64, took time.Duration)
}

// ServiceLearner is a Detector that learns from how requests are served.
type ServiceLearner interface {
	// Served tells of a first token at ep, or of the end of a request there that was served
	// as it should be, or refused because the server is busy.
	Served(ep *types.Endpoint, s Served)
}

// Served is what one request shows of the endpoint that served it.
type Served struct {
	// Ended is set at the end; else it is of the first token.
	Ended bool
	// Busy: it was not served, for the server has too much to do.
	Busy bool
	// At is the instant, and Took the time since it was booked there.
	At   time.Time
	Took time.Duration
	// With is how many requests were in flight there, its own and those of other gateways
	// (types.Load.Peers) included: when it was booked or, at the end, in the mean since if
	// that is less.
	With float64
	// Ahead is how many tokens of prompts, its own and those of other gateways included, were
	// owed there when it was booked.
	Ahead int64
	// Prompt and Output are its tokens, Output at the end; what is not known is expected.
	Prompt, Output float64
	// Denoises: of a diffusion model. Prompt then includes tokens of latents times passes.
	Denoises bool
}

// ReadingLearner is a Detector that learns from readings.
type ReadingLearner interface {
	// Reading tells of a new reading of ep, and what happened there since the one before.
	// Two of one endpoint that come at one time may be told in any order: UpdatedAt tells.
	Reading(ep *types.Endpoint, since Since)
	Forgetter
}

// Forgetter is a Detector that keeps something for each endpoint.
type Forgetter interface {
	// Forget tells that ep has gone. It is told nothing more of it.
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

// Utilization takes an endpoint as full when its queue or its KV cache is, as the
// utilization detector of the Inference Extension does, but by what this process
// knows first: what it and other gateways sent since the reading, and which of these
// requests have had a first token, are counted in, so that a burst within one scrape is
// seen, and a slot that came free is too.
//
// An endpoint without a fresh reading is judged by the ledger alone, or not at all.
type Utilization struct {
	// Queue is how many requests wait in a full endpoint, not counting those in its
	// batch. Default 5.
	Queue float64 `json:"queueDepthThreshold"`
	// KVUsage is the part of the KV cache in use in a full endpoint, 0..1. Default 0.8.
	KVUsage float64 `json:"kvCacheUtilThreshold"`
	// ReadingsOnly is for a Utilization beside which another Detector judges endpoints
	// that do not report how many requests are queued: to the ledger alone all that have
	// no first token yet are queued, those too that the server works on.
	ReadingsOnly bool `json:"readingsOnly"`
}

// Fill implements Detector.
func (u Utilization) Fill(q Query, ep *types.Endpoint) float64 {
	def(&u.Queue, 5)
	def(&u.KVUsage, 0.8)
	return fuller(u.queueAt(q, ep)/u.Queue, kvUsage(q, ep)/u.KVUsage)
}

// fuller returns the greater of two fills that may be unknown.
func fuller(a, b float64) float64 {
	if !(b <= a) && b == b {
		return b
	}
	return a
}

// queueAt estimates the requests that wait for their first token at ep: those that
// the server said were queued, and what the ledger says happened since; or, without a
// fresh reading, all that are known of.
func (u Utilization) queueAt(q Query, ep *types.Endpoint) float64 {
	reported, ok := ep.Metrics.Waiting.Value()
	switch {
	case ok && q.fresh(ep):
		return max(reported+float64(known(ep).Prefilling-ep.Sent.Prefilling), 0)
	case u.ReadingsOnly:
		return math.NaN()
	case ep.Load == nil:
		return 0
	}
	return q.prefilling(known(ep))
}

// known returns what this process and other gateways have booked at an endpoint; nothing, if
// it has no ledger.
func known(ep *types.Endpoint) types.Booking {
	if ep.Load == nil {
		return types.Booking{}
	}
	return ep.Load.Known()
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
	held := float64(known(ep).ContextTokens)
	used, ok := ep.Metrics.KVUsage.Value()
	ok = ok && q.fresh(ep)
	switch {
	case ok && !(size > 0):
		return used
	case !(size > 0):
		return math.NaN()
	case !ok:
		return held / size
	}
	return max(used+(held-float64(ep.Sent.ContextTokens))/size, 0)
}

// Concurrency takes an endpoint as full when so many requests of this process, and of those
// that share with it, are in flight there, as the concurrency detector of the Inference
// Extension does. It needs no metrics.
type Concurrency struct {
	// Requests is how many a full endpoint has. An endpoint's Capacity.MaxConcurrency
	// goes before it. Default 100.
	Requests int `json:"maxConcurrency"`
	// Tokens is how many tokens of context they hold. 0: they do not count.
	Tokens int `json:"maxTokenConcurrency"`
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
	known := ep.Load.Known()
	fill := float64(known.Requests) / float64(most)
	if c.Tokens > 0 {
		fill = max(fill, float64(known.ContextTokens)/float64(c.Tokens))
	}
	return fill
}

// LearnedBacklog is Backlog in time: the tokens of prompts that are owed may take so long
// to work off. How fast that goes is learned from first tokens; until it is known, and
// within bounds in any case, it counts tokens. Make it with new; it is for one Controller.
type LearnedBacklog struct {
	// Time is how long the prompts owed by a full endpoint take. Default 400 ms.
	Time time.Duration `json:"time"`
	// Least and Most bound the tokens that this may be. Defaults 4,096, for an endpoint
	// must not be short of work while the next request is on its way, and 16,384.
	Least int `json:"least"`
	Most  int `json:"most"`

	rate rate // the median
}

// rate is how many tokens of prompts an endpoint of Capacity.Speed 1 works off in a second, 0
// until that is known. It may be read at any time, and is changed under mu.
type rate struct {
	bits atomic.Uint64
	mu   sync.Mutex
}

func (r *rate) value() float64 { return math.Float64frombits(r.bits.Load()) }

// recall makes it what it was in another run of the program, unless it is known.
func (r *rate) recall(rate float64) { r.bits.CompareAndSwap(0, math.Float64bits(rate)) }

// learn makes the rate what f makes of it and of what was seen.
func (r *rate) learn(ep *types.Endpoint, tokens int64, took time.Duration, f func(rate, seen float64) float64) {
	if tokens < leastLearned || took <= 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := float64(tokens) / took.Seconds() / speed(ep)
	r.bits.Store(math.Float64bits(f(r.value(), seen)))
}

// keep implements keeper.
func (b *LearnedBacklog) keep(ep *types.Endpoint, note func(keptKind, float64, float64)) {
	if rate := b.rate.value(); ep == nil && rate > 0 {
		note(keptBacklogRate, rate, 0)
	}
}

// recall implements keeper.
func (b *LearnedBacklog) recall(_ *types.Endpoint, k keptKind, rate, _ float64) {
	if k == keptBacklogRate {
		b.rate.recall(rate)
	}
}

// Fill implements Detector.
func (b *LearnedBacklog) Fill(q Query, ep *types.Endpoint) float64 {
	if ep.Load == nil {
		return math.NaN()
	}
	allowed, least, most := b.Time, b.Least, b.Most
	def(&allowed, 400*time.Millisecond)
	def(&least, 4096)
	def(&most, 16_384)
	tokens := float64(most)
	if rate := b.rate.value(); rate > 0 {
		tokens = min(max(rate*speed(ep)*allowed.Seconds(), float64(least)), tokens)
	}
	return q.owed(ep) / tokens
}

// FirstToken implements Learner. The median is followed by steps up and down: some of what
// there is to learn from is wrong, for prompts that were believed to be cached, or not to
// be, or that waited for something else.
func (b *LearnedBacklog) FirstToken(ep *types.Endpoint, tokens int64, took time.Duration) {
	b.rate.learn(ep, tokens, took, func(rate, seen float64) float64 {
		switch {
		case rate == 0:
			return seen
		case seen > rate:
			return rate * (1 + learning)
		}
		return rate / (1 + learning)
	})
}

// Slots implements SlotDetector.
func (c Concurrency) Slots(q Query, ep *types.Endpoint) float64 { return c.Fill(q, ep) }

// Backlog takes an endpoint as full when so many tokens of prompts are owed there, by the
// ledger and by what peers say: more only wait for their turn, and whoever comes then waits behind them.
type Backlog struct {
	// Tokens is how many a full endpoint owes. Default 16,384, which is two of the steps
	// that engines take with their usual bound of 8,192 tokens: enough that none is short
	// of work while the next request is on its way.
	Tokens int `json:"tokens"`
}

// Fill implements Detector.
func (b Backlog) Fill(q Query, ep *types.Endpoint) float64 {
	if ep.Load == nil {
		return math.NaN()
	}
	def(&b.Tokens, 16_384)
	return q.owed(ep) / float64(b.Tokens)
}

// PredictedTTFT takes an endpoint as full when a request that is sent there would get
// its first token later than it should: the tokens of prompts that are owed there
// take longer than the target. How fast an endpoint works them off is learned from
// first tokens. Make it with new; it is for one Controller.
type PredictedTTFT struct {
	// Target is for requests that have no SLO. Default 1 s.
	Target time.Duration `json:"target"`
	// Rate is how many tokens of prompts an endpoint of Capacity.Speed 1 works off in
	// a second, until it is known better. Default 10,000.
	Rate float64 `json:"rate"`

	rate rate
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
	return q.owed(ep) / (p.known(p.rate.value()) * speed(ep)) / target.Seconds()
}

// known is the rate to go by, of that which was learned.
func (p *PredictedTTFT) known(rate float64) float64 {
	def(&rate, p.Rate)
	def(&rate, defaultRate)
	return rate
}

// keep implements keeper.
func (p *PredictedTTFT) keep(ep *types.Endpoint, note func(keptKind, float64, float64)) {
	if rate := p.rate.value(); ep == nil && rate > 0 {
		note(keptTTFTRate, rate, 0)
	}
}

// recall implements keeper.
func (p *PredictedTTFT) recall(_ *types.Endpoint, k keptKind, rate, _ float64) {
	if k == keptTTFTRate {
		p.rate.recall(rate)
	}
}

// UsesTarget implements TargetDetector.
func (p *PredictedTTFT) UsesTarget() bool { return true }

// FirstToken implements Learner.
func (p *PredictedTTFT) FirstToken(ep *types.Endpoint, tokens int64, took time.Duration) {
	p.rate.learn(ep, tokens, took, func(rate, seen float64) float64 {
		rate = p.known(rate)
		return rate + learning*(min(max(seen, rate/4), rate*4)-rate)
	})
}

// def gives a field its default.
func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
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
	_ Detector       = Backlog{}
	_ Detector       = DetectorFunc(nil)
	_ SlotDetector   = Concurrency{}
	_ Learner        = (*LearnedBacklog)(nil)
	_ Learner        = (*PredictedTTFT)(nil)
	_ TargetDetector = (*PredictedTTFT)(nil)
)
