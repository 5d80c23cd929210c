package engine

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Errors of Submit, wrapped with what was wrong. Branch on them with errors.Is.
var (
	// ErrInvalid: the request makes no sense, or the ID is in use.
	ErrInvalid = errors.New("engine: invalid request")
	// ErrTooLong: prompt and output together never fit into the KV cache.
	ErrTooLong = errors.New("engine: request larger than the KV cache")
)

// Config says what to model. The zero value is Llama-3.1-8B on one H100 with
// the scheduler's defaults on such a machine.
type Config struct {
	// Calibration is the model and the machine. Default: Llama31H100.
	Calibration Calibration
	// Blocks is the KV cache in blocks of BlockTokens tokens. Default: what the
	// Calibration says.
	Blocks int
	// MaxSeqs is the most sequences in one step. Default 1024.
	MaxSeqs int
	// MaxBatchedTokens is the most tokens in one step. Default 8192.
	MaxBatchedTokens int
	// MaxLoRAs is the number of adapter slots: the most adapters in one step.
	// Default 4.
	MaxLoRAs int
	// MaxHostLoRAs is the number of adapters kept in host memory. Default: three
	// times MaxLoRAs; at least MaxLoRAs.
	MaxHostLoRAs int
	// EncoderCache is the room for outputs of the encoder, in tokens: a medium that is there costs
	// nothing. EncoderBudget is the most tokens that it encodes in one step. A medium with more than
	// either is refused. Default 16,384 each.
	EncoderCache, EncoderBudget int
	// NoPrefixCache turns automatic prefix caching off.
	NoPrefixCache bool
	// WholePromptMustFit admits a sequence only if there is room for all of its
	// prompt, not only for the first chunk. Newer engines can do so.
	WholePromptMustFit bool
	// KVLease is for how long the blocks of a request with Pin are kept after its last
	// token, unless Hold or Release come before. Default 30 s.
	KVLease time.Duration
	// Quiet leaves out the events of tokens that are neither the first nor the last
	// of their request, for a caller that does not pass tokens on. Nothing else
	// changes: steps, times and metrics are the same.
	Quiet bool
	// Changes asks for Step.Changes. Nothing else changes.
	Changes bool
	// Noise makes the durations of steps random. Default: none.
	Noise Noise
}

// complete fills the defaults in and checks what the caller set.
func (c *Config) complete() error {
	if c.Calibration == (Calibration{}) {
		c.Calibration = Llama31H100()
	}
	c.Calibration.Speed = cmp.Or(c.Calibration.Speed, 1)
	if !(c.Calibration.Speed > 0) {
		return fmt.Errorf("engine: Calibration.Speed is %v: want 0 or more", c.Calibration.Speed)
	}
	c.Blocks = cmp.Or(c.Blocks, c.Calibration.Blocks)
	c.MaxSeqs = cmp.Or(c.MaxSeqs, 1024)
	c.MaxBatchedTokens = cmp.Or(c.MaxBatchedTokens, 8192)
	c.MaxLoRAs = cmp.Or(c.MaxLoRAs, 4)
	c.MaxHostLoRAs = cmp.Or(c.MaxHostLoRAs, 3*c.MaxLoRAs)
	c.EncoderCache = cmp.Or(c.EncoderCache, 16_384)
	c.EncoderBudget = cmp.Or(c.EncoderBudget, 16_384)
	for _, field := range []struct {
		name         string
		value, least int
	}{
		{"Blocks", c.Blocks, 1},
		{"MaxSeqs", c.MaxSeqs, 1},
		{"MaxBatchedTokens", c.MaxBatchedTokens, 1},
		{"MaxLoRAs", c.MaxLoRAs, 1},
		{"MaxHostLoRAs", c.MaxHostLoRAs, c.MaxLoRAs},
		{"EncoderCache", c.EncoderCache, 1},
		{"EncoderBudget", c.EncoderBudget, 1},
	} {
		if field.value < field.least {
			return fmt.Errorf("engine: %s is %d: want at least %d", field.name, field.value, field.least)
		}
	}
	if c.KVLease = cmp.Or(c.KVLease, 30*time.Second); c.KVLease < 0 {
		return fmt.Errorf("engine: KVLease is %v: want more than 0", c.KVLease)
	}
	return c.Noise.check()
}

// Request is what an engine is asked to compute.
type Request struct {
	// ID is the caller's name for the request, unique among those that have not ended or
	// are pinned.
	ID uint64
	// Prompt is the number of tokens in the prompt, at least 1.
	Prompt int
	// Output is the number of tokens to produce, at least 1; 0 if it Pools.
	Output int
	// Pools says that the prompt is computed, and that is all: embeddings, rerank, score. One event,
	// the first and the last, tells that it is.
	Pools bool
	// Items is how many inputs the prompt of a request that Pools consists of, all of about the same
	// length: none attends to another, and none keeps blocks when it is computed, or can be found in
	// the prefix cache. Default 1.
	Items int
	// Media are what an encoder has to turn into tokens before those of the prompt that they are can
	// be computed, in their order there. The engine keeps the slice until the request ends.
	Media []Medium
	// Hashes identify the content of the sequence block by block: Hashes[i]
	// stands for all tokens up to the end of block i, so equal hashes mean equal
	// prefixes. Blocks beyond the list, and the last, partial one, are never
	// shared. Give hashes for the output too if a later prompt will contain it.
	// The engine keeps the slice until the request ends and does not write to it.
	Hashes []uint64
	// Adapter is the LoRA adapter; 0 is the base model.
	Adapter uint32

	// Pin keeps the request's blocks when it has ended, for another engine to fetch:
	// with an Output of 1 it is the prefill leg of disaggregated serving. The blocks are
	// in use until Release or until Config.KVLease is over.
	Pin bool
	// Remote says that the keys and values of the prompt come from another engine: the
	// decode leg. Once there is room for the whole prompt the request takes its blocks,
	// is named in Step.Admitted, and takes no part in the batch until Received. Then it
	// has but the last token of its prompt to compute, and produces all of its Output. If it
	// is preempted, its prompt is computed here.
	Remote bool
}

// Kind says what an [Event] is.
type Kind uint8

const (
	// Token: one more token left the engine.
	Token Kind = iota
	// Preempted: the sequence lost its KV cache and went back to the head of the
	// queue. What it produced stays produced.
	Preempted
)

// Event is something that happened to one request in one step.
type Event struct {
	ID        uint64
	Kind      Kind
	First     bool // the first token of the request
	Last      bool // the last one: the request has ended
	Generated int  // tokens produced so far
	Cached    int  // prompt tokens found in the prefix cache at the first admission
}

// Admission is a request with Remote that has taken its blocks.
type Admission struct {
	ID     uint64
	Cached int // prompt tokens that the prefix cache had here
	Lacks  int // those to be transferred: the rest, at least 1
}

// Step is what one call of [Engine.Step] did.
type Step struct {
	// Duration of the step. All events happen at its end.
	Duration time.Duration
	// Events in a deterministic order: preemptions, then tokens in the order of
	// admission. Valid until the next call of Step.
	Events []Event
	// Admitted are the requests with Remote that took their blocks at the beginning of the
	// step, for the caller to transfer what they lack, and tell with Received. Valid until
	// the next call of Step.
	Admitted []Admission
	// Changes of the prefix cache, in order, if Config.Changes asks for them. Valid
	// until the next call of Step.
	Changes []Change
	// Sequences and Tokens are the size of the batch.
	Sequences, Tokens int
}

// Change is one block that the prefix cache has stored, or dropped to make room.
type Change struct {
	// Key stands for all tokens up to the end of the block, and for the adapter under
	// which they were computed. It is never 0.
	Key uint64
	// Before is the Key of the block before it, 0 for the first of a prompt, and ID
	// the request that stored it. Both are 0 if it was dropped.
	Before, ID uint64
	Dropped    bool
}

// Metrics are what the engine publishes at the end of a step.
type Metrics struct {
	At      time.Duration // when they were published
	Running int           // sequences in the batch
	// Waiting is the sequences in the queue, without those submitted since the step began, and the Items
	// that are not computed of those that Pool, but for one each.
	Waiting int

	// Receiving is the requests with Remote that have their blocks and are not in the batch
	// yet: in neither Running nor Waiting. (vLLM counts them among the waiting.)
	Receiving int

	Blocks       int // KV cache, in blocks
	FreeBlocks   int // blocks nobody refers to, cached content or not
	PinnedBlocks int // blocks that ended requests with Pin refer to, alone or with others

	// RunningAdapters and WaitingAdapters are sorted ids. Valid until the next
	// call of Step; not to be written to.
	RunningAdapters, WaitingAdapters []uint32

	// Counters since the start.
	Steps            uint64
	QueriedTokens    uint64 // prompt tokens looked up in the prefix cache, once per request
	HitTokens        uint64 // those found
	PromptTokens     uint64 // prompt tokens of requests whose prefill is complete
	GeneratedTokens  uint64
	Preemptions      uint64
	Finished         uint64 // requests that produced all of their output
	Cancelled        uint64
	ReceivedTokens   uint64 // prompt tokens that came from other engines
	EncodedTokens    uint64 // tokens of media that the encoder made
	EncoderHitTokens uint64 // those that its cache had
	LeasesEnded      uint64 // requests with Pin whose blocks nobody held or released in time
}

// KVUsage returns the share of the KV cache in use, 0 to 1. Blocks that hold
// cached content nobody refers to count as free.
func (m *Metrics) KVUsage() float64 {
	if m.Blocks == 0 {
		return 0
	}
	return float64(m.Blocks-m.FreeBlocks) / float64(m.Blocks)
}

// Engine is one simulated engine. Not for use from several goroutines.
type Engine struct {
	cfg      Config
	pool     pool
	adapters adapters
	noise    noise
	encoder  encoder

	byID    map[uint64]*sequence
	inbox   []*sequence
	waiting queue
	ready   queue
	running []*sequence // in the order of admission
	leased  queue       // the pinned, in the order in which their leases end

	receiving int // sequences in that state
	kept      int // sequences pinned or held
	batches   int // sequences with Items

	end       time.Duration // of the last step
	events    []Event
	admitted  []Admission
	last      batch // of the last step, for Check
	spare     []*sequence
	submitted uint64

	counters  Metrics    // only its counters are used
	published [2]Metrics // the newer one is published[newer]
	newer     int
}

// New returns an idle engine with an empty cache.
func New(cfg Config) (*Engine, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	e := &Engine{
		cfg:      cfg,
		pool:     newPool(cfg.Blocks, cfg.Changes),
		adapters: newAdapters(cfg.MaxLoRAs, cfg.MaxHostLoRAs),
		noise:    newNoise(cfg.Noise),
		encoder:  encoder{size: cfg.EncoderCache, byKey: make(map[uint64]*encoded)},
		byID:     make(map[uint64]*sequence),
	}
	e.published[0] = Metrics{Blocks: cfg.Blocks, FreeBlocks: cfg.Blocks}
	e.published[1] = e.published[0]
	return e, nil
}

// Config returns the configuration with its defaults filled in.
func (e *Engine) Config() Config { return e.cfg }

// Submit hands a request to the engine. The next Step sees it.
func (e *Engine) Submit(r Request) error {
	switch {
	case r.Pools && (r.Prompt < 1 || r.Output != 0 || r.Pin || r.Remote || r.Items < 0 || r.Items > r.Prompt):
		return fmt.Errorf("%w: %d items with %d tokens, %d output tokens: want no more items than tokens, at least 1, no output and no other engine", ErrInvalid, r.Items, r.Prompt, r.Output)
	case !r.Pools && (r.Prompt < 1 || r.Output < 1):
		return fmt.Errorf("%w: %d prompt and %d output tokens: want at least 1 of each", ErrInvalid, r.Prompt, r.Output)
	case !r.Pools && r.Items != 0:
		return fmt.Errorf("%w: %d items in a request that does not pool", ErrInvalid, r.Items)
	}
	if _, ok := e.byID[r.ID]; ok {
		return fmt.Errorf("%w: ID %d is in use", ErrInvalid, r.ID)
	}
	if err := e.checkMedia(&r); err != nil {
		return err
	}
	need := blocksFor(r.Prompt + max(r.Output, 1) - 1) // the last token is never fed back
	if r.Items > 1 {
		need = blocksFor(min(r.Prompt, e.cfg.MaxBatchedTokens))
		r.Hashes = nil
	}
	if need > e.cfg.Blocks {
		return fmt.Errorf("%w: %d prompt and %d output tokens need %d blocks of %d", ErrTooLong, r.Prompt, r.Output, need, e.cfg.Blocks)
	}
	s := e.newSequence()
	s.Request = r
	s.state = arriving
	s.adapter = e.adapters.get(r.Adapter)
	s.cached = -1
	e.byID[r.ID] = s
	if s.apart() {
		e.batches++
	}
	e.inbox = append(e.inbox, s)
	e.submitted++
	return nil
}

// Cancel ends a request before its time and reports whether there was one. One that
// is pinned is released. One that was being received gives its blocks up at once: the
// caller ends the transfer.
func (e *Engine) Cancel(id uint64) bool {
	s := e.byID[id]
	if s == nil {
		return false
	}
	switch s.state {
	case arriving:
		e.inbox = slices.DeleteFunc(e.inbox, func(x *sequence) bool { return x == s })
	case waiting:
		e.unqueue(s)
	case receiving:
		e.receiving--
		e.adapters.wait(s.adapter, -1)
		e.free(s)
	case ready:
		e.ready.remove(s)
		e.adapters.wait(s.adapter, -1)
		e.free(s)
	case pinned, held:
		return e.Release(id)
	case running:
		e.running = slices.DeleteFunc(e.running, func(x *sequence) bool { return x == s })
		e.evict(s)
	}
	e.counters.Cancelled++
	e.drop(s)
	return true
}

// Step schedules and carries out one step that begins at time now, and returns
// what it did. It reports false, and takes no time, if there is nothing to compute;
// requests that wait for memory, in an engine whose memory is pinned or being received
// into, then need another Step after Release, Received, Cancel or the end of a lease.
// Requests can be admitted and preempted, and cached blocks dropped, in a step
// that computes nothing. A now before the end of the step before counts as that end.
func (e *Engine) Step(now time.Duration) (Step, bool) {
	now = max(now, e.end)
	e.endLeases(now)
	for _, s := range e.inbox {
		e.enqueue(s, e.waiting.pushBack)
	}
	e.inbox = e.inbox[:0]
	e.events, e.admitted, e.pool.changes = e.events[:0], e.admitted[:0], e.pool.changes[:0]
	if len(e.running) == 0 && e.waiting.len == 0 && e.ready.len == 0 {
		e.publish(now)
		return Step{}, false
	}

	e.counters.Steps++
	b := batch{budget: e.cfg.MaxBatchedTokens}
	if preempted := e.scheduleRunning(&b); !preempted || b.sequences == 0 {
		e.scheduleReady(&b)
		e.scheduleWaiting(&b)
	}
	if b.sequences == 0 { // others hold the memory, from where no preemption gets it
		e.counters.Steps--
		e.last = b
		e.publish(now)
		return Step{Events: e.events, Admitted: e.admitted, Changes: e.pool.changes}, false
	}
	b.adapters = e.adapters.active
	d := e.noise.apply(e.cfg.Calibration.stepTime(&b))

	e.last = b
	e.end = now + d
	e.commit()
	e.publish(e.end)
	return Step{Duration: d, Events: e.events, Admitted: e.admitted, Changes: e.pool.changes, Sequences: b.sequences, Tokens: b.tokens}, true
}

// Metrics returns what the engine had published by time now: the figures of
// the last step, or those before it while that step is under way.
func (e *Engine) Metrics(now time.Duration) Metrics {
	if m := e.published[e.newer]; m.At <= now {
		return m
	}
	return e.published[1-e.newer]
}

// Cached returns how many leading blocks of hashes the prefix cache holds for
// the adapter. No real engine tells; it is for tests and for policies that are
// allowed to know everything.
func (e *Engine) Cached(hashes []uint64, adapter uint32) int {
	for i, h := range hashes {
		if _, ok := e.pool.cached[blockKey(h, adapter)]; !ok {
			return i
		}
	}
	return len(hashes)
}

// publish makes the current figures visible from time at on.
func (e *Engine) publish(at time.Duration) {
	before := &e.published[e.newer]
	e.newer = 1 - e.newer
	m := &e.published[e.newer]
	runningIDs, waitingIDs := m.RunningAdapters, m.WaitingAdapters

	*m = e.counters
	m.At = at
	m.Running, m.Waiting = len(e.running), e.waiting.len+e.itemsLeft()
	m.Receiving = e.receiving + e.ready.len
	m.Blocks, m.FreeBlocks, m.PinnedBlocks = e.pool.total(), e.pool.free, e.pool.pinned
	if !e.adapters.changed {
		m.RunningAdapters = append(runningIDs[:0], before.RunningAdapters...)
		m.WaitingAdapters = append(waitingIDs[:0], before.WaitingAdapters...)
		return
	}
	m.RunningAdapters = e.adapters.appendIDs(runningIDs[:0], func(a *adapter) bool { return a.running > 0 })
	m.WaitingAdapters = e.adapters.appendIDs(waitingIDs[:0], func(a *adapter) bool { return a.waiting > 0 })
	e.adapters.changed = false
}

// newSequence returns a blank sequence, one that has ended if there is any.
func (e *Engine) newSequence() *sequence {
	n := len(e.spare)
	if n == 0 {
		return new(sequence)
	}
	s := e.spare[n-1]
	e.spare = e.spare[:n-1]
	*s = sequence{blocks: s.blocks[:0]}
	return s
}

// drop forgets a sequence that has ended.
func (e *Engine) drop(s *sequence) {
	delete(e.byID, s.ID)
	if s.apart() {
		e.batches--
	}
	s.Hashes, s.Media = nil, nil
	s.adapter = nil
	e.spare = append(e.spare, s)
}
