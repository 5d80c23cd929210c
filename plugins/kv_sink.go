package plugins

import (
	"cmp"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/internal/prefixindex"
	"github.com/inferpick/inferpick/internal/residency"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// KVOptions bound what a KVSink remembers. The zero value works.
type KVOptions struct {
	// MaxBlocks is how many of the engine's blocks are known of each rank; what it stores beyond is
	// ignored, and counted. Default 1,048,576, 16 million tokens in blocks of 16.
	MaxBlocks int
	// MaxIdle is how many blocks are remembered that no server holds any more, so that they are known
	// when they are computed again. Default 262,144.
	MaxIdle int
	// MaxSessions is how many requests may wait at once for events about them. Default 8,192.
	MaxSessions int
	// Model is the name by which requests ask the engines for their model without an adapter
	// (Request.Target). It is for gateways that give prompts as token ids (types.TokenPrompt,
	// director.Options.Tokenize) and listen with kvevents.Options.Tokens: which part of a prompt a
	// block is, its tokens say then, and nothing need be learned. PrefixOptions.BlockBytes must be
	// 4 times the engine's block in tokens: 64 for blocks of 16. Default: token ids say nothing.
	Model string
	// Now is the clock, by which explanations say how old what is told is. Default time.Now.
	Now func() time.Time
}

// KVSink takes what engines say that they hold in their KV caches, and corrects the index of a
// PrefixCache or Cost by it. It is a Sink of package datastore/kvevents, but anything may call it that
// knows what engines hold.
//
// Engines name blocks by hashes of tokens. Which part of a prompt a block is, is learned from requests
// whose Request.EngineSession comes back in the events that they cause, once their response tells how
// many tokens the prompt had, or events show where the answer begins. Where engines hash alike, as vLLM does by default from 0.33 on, that
// is known of all servers then, also for what others have sent them. What cannot be bound changes
// nothing: the index predicts, as without events.
//
// Get it from PrefixCache.KVSink or Cost.KVSink. Calls about one endpoint must not overlap, as
// those of a Subscriber do not; otherwise it is safe for concurrent use, and no call waits for a decision,
// or a decision for a call, longer than it takes to change the index in one place.
type KVSink struct {
	cache  *PrefixCache
	index  *residency.Index
	now    func() time.Time
	tokens bool // KVOptions.Model is set

	mu     sync.RWMutex // taken last
	byID   map[string]*toldServer
	number []*toldServer // nil: free
	free   []uint32
}

// toldServer is an endpoint that a KVSink was told of, or that PrefixCache knows.
type toldServer struct {
	number uint32
	cached atomic.Pointer[cachedServer] // nil: not met by a decision yet, or it has gone
	joined atomic.Bool                  // a decision has met it, or one that had its name before
	at     atomic.Int64                 // when something was told last, Unix nanoseconds

	mu    sync.Mutex
	ranks map[int]*toldRank // guarded by mu
}

type toldRank struct {
	*residency.Rank
	state types.KVState
}

// KVSink returns what engines' events are to be told to; the same one at every call, with the options
// of the first. The error lists all options that are out of range.
func (p *PrefixCache) KVSink(o KVOptions) (*KVSink, error) {
	c := check.Checks{Package: "plugins"}
	check.Default(&c, "maxBlocks", &o.MaxBlocks, 1<<20, 1, math.MaxInt32)
	check.Default(&c, "maxIdle", &o.MaxIdle, 1<<18, 1, math.MaxInt32)
	check.Default(&c, "maxSessions", &o.MaxSessions, 1<<13, 1, math.MaxInt32)
	if err := c.Err(); err != nil {
		return nil, err
	}
	p.servers.mu.Lock()
	defer p.servers.mu.Unlock()
	if k := p.told.Load(); k != nil {
		return k, nil
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	index := residency.Options{
		BlockBytes: p.index.Options().BlockBytes, MaxBlocks: o.MaxBlocks, MaxIdle: o.MaxIdle, MaxSessions: o.MaxSessions,
	}
	if o.Model != "" {
		index.Seed = func(adapter, salt string) uint64 { return prefixindex.Seed(cmp.Or(adapter, o.Model), salt, "") }
	}
	k := &KVSink{cache: p, now: o.Now, tokens: o.Model != "", byID: map[string]*toldServer{}, index: residency.New(index)}
	for _, s := range p.servers.all() {
		if s != nil {
			k.met(s)
		}
	}
	p.told.Store(k)
	return k, nil
}

// KVSink returns what engines' events are to be told to: see PrefixCache.KVSink.
func (c *Cost) KVSink(o KVOptions) (*KVSink, error) { return c.prefix.KVSink(o) }

// KVSinkOf returns the KVSink of the first plugin of a profile that has a prefix index, or an error if
// there is none. Its clock is by default that of the profile.
func KVSinkOf(p scheduling.Profile, o KVOptions) (*KVSink, error) {
	if o.Now == nil {
		o.Now = p.Now
	}
	for _, w := range p.Costs {
		if c, ok := w.Coster.(*Cost); ok {
			return c.KVSink(o)
		}
	}
	for _, w := range p.Scorers {
		if s, ok := w.Scorer.(*PrefixCache); ok {
			return s.KVSink(o)
		}
	}
	return nil, fmt.Errorf("plugins: KVSinkOf: the profile has no prefix index, want a Cost or a PrefixCache")
}

// Apply takes over a batch of events of one rank of an endpoint, in order. The batch is not kept.
func (k *KVSink) Apply(endpoint string, rank int, batch []types.KVEvent) {
	s := k.server(endpoint)
	s.at.Store(k.now().UnixNano())
	k.index.Apply(k.rank(s, rank).Rank, batch, k.change)
}

// Reset forgets what was told of a rank, and what is predicted of its endpoint.
func (k *KVSink) Reset(endpoint string, rank int) {
	s := k.server(endpoint)
	k.index.Reset(k.rank(s, rank).Rank)
	if cached := s.cached.Load(); cached != nil {
		k.cache.reset(cached)
	}
}

// State says how far what was told of a rank can be believed. It is for people to see: what is not
// believed any more goes the way of predictions, by Reset or by age.
func (k *KVSink) State(endpoint string, rank int, state types.KVState) {
	s := k.server(endpoint)
	r := k.rank(s, rank)
	s.mu.Lock()
	defer s.mu.Unlock()
	r.state = state
}

// Remove forgets what was told of an endpoint. What is predicted of it stays.
func (k *KVSink) Remove(endpoint string) {
	k.mu.Lock()
	s := k.byID[endpoint]
	delete(k.byID, endpoint)
	if s != nil {
		k.number[s.number] = nil
	}
	k.mu.Unlock()
	if s == nil {
		return
	}
	s.mu.Lock()
	ranks := s.ranks
	s.ranks = nil
	s.mu.Unlock()
	for _, r := range ranks {
		k.index.Drop(r.Rank)
	}
	k.mu.Lock()
	k.free = append(k.free, s.number)
	k.mu.Unlock()
	if cached := s.cached.Load(); cached != nil {
		cached.told.CompareAndSwap(s, nil)
	}
}

// server returns the state of an endpoint, which it enters if it is new.
func (k *KVSink) server(endpoint string) *toldServer {
	k.mu.RLock()
	s := k.byID[endpoint]
	k.mu.RUnlock()
	if s != nil {
		return s
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if s := k.byID[endpoint]; s != nil {
		return s
	}
	s = &toldServer{ranks: map[int]*toldRank{}}
	if n := len(k.free); n > 0 {
		s.number, k.free = k.free[n-1], k.free[:n-1]
	} else {
		s.number = uint32(len(k.number))
		k.number = append(k.number, nil)
	}
	k.byID[endpoint], k.number[s.number] = s, s
	for _, cached := range k.cache.servers.all() { // it may have been removed, and publish again
		if cached != nil && cached.id == endpoint {
			s.join(cached)
		}
	}
	return s
}

// join joins what is told of an endpoint to what decisions know of it.
func (s *toldServer) join(cached *cachedServer) {
	s.joined.Store(true)
	s.cached.Store(cached)
	cached.told.Store(s)
}

func (k *KVSink) rank(s *toldServer, rank int) *toldRank {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.ranks[rank]
	if r == nil {
		r = &toldRank{Rank: k.index.Add(s.number)}
		if s.ranks != nil { // else it was removed meanwhile
			s.ranks[rank] = r
		}
	}
	return r
}

// met is told of an endpoint that a decision has met. What was told of it before is told once more, beside
// the decision. That is not done again if the endpoint leaves and comes back: it may be another server,
// of which nothing was told yet.
func (k *KVSink) met(cached *cachedServer) {
	s := k.server(cached.id)
	again := s.at.Load() != 0 && !s.joined.Load()
	s.join(cached)
	if again {
		go func() { _ = guard.Call("", func() { k.index.Retell(s.number, k.change) }) }()
	}
}

// change takes over what is known anew.
func (k *KVSink) change(c residency.Change) {
	k.mu.RLock()
	s := k.number[c.Endpoint]
	k.mu.RUnlock()
	if s == nil {
		return
	}
	cached := s.cached.Load()
	if cached == nil {
		return
	}
	if c.Cleared {
		k.cache.reset(cached)
		return
	}
	index := k.cache.index
	held := k.cache.lanes.of(index, cached, c.Tier)
	if c.Held > 0 {
		index.Record(held, c.Path[:c.Held])
	}
	if c.Held < len(c.Path) {
		index.Truncate(held, c.Path, c.Held)
	}
}

// expect waits for what is told of a request.
func (k *KVSink) expect(session string, cached *cachedServer) {
	if s := cached.told.Load(); s != nil {
		k.index.Expect(session, s.number)
	}
}

// ended binds what is told of a request to its prompt. How many tokens that has the response says, or, if
// it does not or the client did not wait for that, the events of an answer that came that far.
func (k *KVSink) ended(req *types.Request, hashes []uint64, out *types.Outcome) {
	if out.Failed() || out.Status >= 400 || out.Retried || out.Unsent {
		k.index.Forget(req.EngineSession)
		return
	}
	k.index.Bind(req.EngineSession, residency.Prompt{
		Hashes: hashes, Bytes: req.Prompt.Bytes, Tokens: int(min(max(out.Usage.PromptTokens.Or(0), 0), math.MaxInt32)),
	}, k.change)
}

// KVStats is what a KVSink knows.
type KVStats struct {
	Blocks   int    // engines' blocks, each counted once
	Held     int    // the same, counted once for each rank that holds them
	Bound    int    // blocks of which it is known which part of a prompt they are
	Bytes    int64  // memory
	Binds    uint64 // requests that were bound
	Unrooted uint64 // requests that were not, since not all of their prompt was told of
	Refused  uint64 // blocks beyond KVOptions.MaxBlocks
	Conflict uint64 // blocks that were told with different ones before them, or with other tokens
}

// Stats returns the current counts.
func (k *KVSink) Stats() KVStats {
	s := k.index.Stats()
	return KVStats{s.Blocks, s.Held, s.Bound, s.Bytes, s.Binds, s.Unrooted, s.Refused, s.Conflict}
}

// describe says by whose word something is known of an endpoint, and how old that is.
func (k *KVSink) describe(cached *cachedServer, now time.Time) string {
	s := cached.told.Load()
	if s == nil || s.at.Load() == 0 {
		return "predicted"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	states := map[types.KVState]int{}
	for _, r := range s.ranks {
		states[r.state]++
	}
	var parts []string
	for state := types.KVUnsynced; state <= types.KVLate; state++ {
		if n := states[state]; n == len(s.ranks) {
			parts = append(parts, state.String())
		} else if n > 0 {
			parts = append(parts, fmt.Sprintf("%d ranks %s", n, state))
		}
	}
	age := now.Sub(time.Unix(0, s.at.Load()))
	return fmt.Sprintf("told by events %s ago, %s", age.Round(time.Millisecond), strings.Join(parts, ", "))
}
