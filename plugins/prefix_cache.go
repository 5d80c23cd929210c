package plugins

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/prefixindex"
	"github.com/inferpick/inferpick/types"
)

// PrefixOptions configure PrefixCache. The zero value works.
type PrefixOptions struct {
	// BlockBytes is the granularity of matches in bytes of prompt, a multiple of 64 up to 65,536.
	// Shorter prefixes do not match. Default 256, about 64 tokens.
	BlockBytes int `json:"blockBytes,omitempty"`
	// MaxBytes bounds the memory of the index; beyond it the least recently used entries are
	// evicted. At least 1 MiB. Default 256 MiB.
	MaxBytes int64 `json:"maxBytes,omitempty"`
	// MaxPromptBlocks bounds how much of a prompt is compared. Default 8192.
	MaxPromptBlocks int `json:"maxPromptBlocks,omitempty"`
	// CapacityBlocks is the assumed cache size, in blocks, of servers for which neither metrics
	// nor Capacity tell it. Default: the equivalent of 500,000 tokens, 7812 with other defaults.
	CapacityBlocks int `json:"capacityBlocks,omitempty"`
	// BytesPerToken converts cache sizes from tokens, above 0 and at most 64. Default 4.
	BytesPerToken float64 `json:"bytesPerToken,omitempty"`
	// IsolateTenants prevents matches between requests with different fairness IDs. By default
	// they match, as in the engine's own cache; otherwise a common system prompt would be
	// computed once for each tenant, on different servers. With it, tenants cannot infer from
	// routing what others have asked. To isolate the engine's cache as well, give each tenant a
	// cache_salt.
	IsolateTenants bool `json:"isolateTenants,omitempty"`
}

func (o PrefixOptions) index() prefixindex.Options {
	return prefixindex.Options{
		BlockBytes:      o.BlockBytes,
		MaxBytes:        o.MaxBytes,
		MaxPromptBlocks: o.MaxPromptBlocks,
		DefaultCapacity: o.CapacityBlocks,
		BytesPerToken:   o.BytesPerToken,
	}
}

// PrefixCache is a Scorer that prefers servers that have a prefix of the prompt in their KV cache:
// matched blocks / whole blocks of the prompt, and 0 for a prompt shorter than a block. It is the
// Inference Extension's prefix-cache-scorer, based on an index of what this process sent where.
//
// The index assumes that a prompt is cached where its request went, drops what a server must have
// evicted given the size of its cache, corrects that size by the cached tokens that responses
// report, and forgets servers that are removed or restart. Prompts match only if target model and
// cache salt are equal, as in the engine, and with IsolateTenants the tenant too.
//
// Create it with NewPrefixCache. It may be used by several Schedulers, which then share the index.
type PrefixCache struct {
	index   *prefixindex.Index
	isolate bool
	key     *types.Key[*prefix]

	servers endpointTable[cachedServer]
	matches sync.Pool // of *[]uint32, for Score

	peers prefixPeers
	past  atomic.Pointer[past]   // what one before this one knew; nil: nothing, or nothing any more
	told  atomic.Pointer[KVSink] // nil: nobody tells what engines hold
	lanes lanes
}

// cachedServer is the state of one endpoint.
type cachedServer struct {
	id         string
	handle     prefixindex.Endpoint
	lanes      [types.KVTiers]prefixindex.Endpoint // guarded by PrefixCache.lanes.mu
	told       atomic.Pointer[toldServer]
	prefilling atomic.Int64 // recorded prompts without a first token
	tokens     atomic.Int64 // cache size, as last set in the index
}

// prefix is the state of a request.
type prefix struct {
	hashes []uint64
	round  uint32      // in which the past was asked: see PrefixCache.remember
	room   [160]uint64 // so that a prompt of up to 40 KiB takes one allocation

	recorded           // at the endpoint chosen last, from Picked to Finished
	leg      *recorded // at the one that computes the prompt for it; nil: there was none
}

// recorded is what was recorded of a prompt at one endpoint.
type recorded struct {
	server *cachedServer      // nil: nothing
	before int                // blocks that it held when it was chosen
	lower  [types.KVTiers]int // and beyond these in each lower tier
	early  bool               // some of these may have been still in prefill
	first  bool               // the first token was seen, so the prompt has been computed
}

// NewPrefixCache returns a PrefixCache, or an error that lists all invalid options.
func NewPrefixCache(o PrefixOptions) (*PrefixCache, error) {
	index, err := prefixindex.New(o.index())
	if err != nil {
		c := check.Checks{Package: "plugins"}
		c.Add("", err)
		return nil, c.Err()
	}
	return &PrefixCache{
		index:   index,
		isolate: o.IsolateTenants,
		key:     types.NewKey[*prefix]("prefix-cache"),
		matches: sync.Pool{New: func() any {
			return new([]uint32)
		}},
	}, nil
}

// PrefixStats is the size of the index of a PrefixCache.
type PrefixStats struct {
	Bytes     int64  // memory in use, as the index accounts for it
	MaxBytes  int64  // PrefixOptions.MaxBytes
	Blocks    int    // distinct blocks
	Held      int    // blocks, counted once per endpoint that holds them
	Endpoints int    // endpoints in the index
	Evicted   uint64 // blocks evicted so far
}

// Stats returns the current size.
func (p *PrefixCache) Stats() PrefixStats {
	s := p.index.Stats()
	return PrefixStats{s.Bytes, s.MaxBytes, s.Blocks, s.Held, s.Endpoints, s.Evicted}
}

// Score implements scheduling.Scorer.
func (p *PrefixCache) Score(_ context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
	clear(scores)
	buf := p.matches.Get().(*[]uint32)
	defer p.matches.Put(buf)
	p.meet(eps, req.Now)
	pr := p.prefixOf(req)
	p.remembersMore(pr, req.Now) // if it was looked at before
	hashes := pr.hashes
	held := p.matchAll(hashes, buf)
	if held == nil {
		return nil
	}
	total := float64(len(hashes))
	servers := p.servers.view.Load()
	for i, ep := range eps {
		if s := servers.lookup(ep); s != nil && s.handle.Slot() < len(held) {
			if h := held[s.handle.Slot()]; h > 0 {
				scores[i] = float64(h) / total
			}
		}
	}
	return nil
}

// matchAll returns in buf how many leading blocks each endpoint holds, by slot of the index, or nil
// if none holds any.
func (p *PrefixCache) matchAll(hashes []uint64, buf *[]uint32) []uint32 {
	if len(hashes) == 0 {
		return nil
	}
	if n := p.index.Slots(); cap(*buf) < n {
		*buf = make([]uint32, n+n/4)
	} else {
		*buf = (*buf)[:n]
	}
	matched := p.index.Match(hashes, *buf) > 0
	if p.lanes.raise(*buf) || matched {
		return *buf
	}
	return nil
}

// Describe implements scheduling.Describer.
func (p *PrefixCache) Describe(req *types.Request, ep *types.Endpoint) string {
	held, total := p.match(req, ep)
	return fmt.Sprintf("%d of %d blocks cached", held, total) + p.source(req, ep)
}

// CachedTokens implements scheduling.CacheEstimator.
func (p *PrefixCache) CachedTokens(req *types.Request, ep *types.Endpoint) int {
	held, _ := p.match(req, ep)
	if req.Prompt.Bytes == 0 {
		return 0
	}
	matched := int64(held) * int64(p.index.Options().BlockBytes)
	return int(int64(req.Prompt.Tokens) * matched / int64(req.Prompt.Bytes))
}

// match returns how many leading blocks of the prompt ep holds, and how many there are.
func (p *PrefixCache) match(req *types.Request, ep *types.Endpoint) (held, total int) {
	hashes := p.prefixOf(req).hashes
	if len(hashes) == 0 {
		return 0, 0
	}
	s := p.servers.lookup(ep)
	if s == nil {
		return 0, len(hashes)
	}
	held = p.index.MatchOne(s.handle, hashes)
	return held + int(p.lanes.prices.Worth(p.lanes.beyond(p.index, s, hashes, held))), len(hashes)
}

// source says by whose word ep holds what it is said to hold, for people; nothing if it is a prediction
// as all are.
func (p *PrefixCache) source(req *types.Request, ep *types.Endpoint) string {
	k, s := p.told.Load(), p.servers.lookup(ep)
	if k == nil || s == nil {
		return ""
	}
	hashes := p.prefixOf(req).hashes
	lower := p.lanes.beyond(p.index, s, hashes, p.index.MatchOne(s.handle, hashes))
	return describeTiers(lower) + ", " + k.describe(s, req.Now)
}

// Picked implements scheduling.Tracker. The prompt counts as cached from now on, so that a burst of
// requests with the same prefix stays together.
func (p *PrefixCache) Picked(req *types.Request, ep *types.Endpoint) {
	pr := p.prefixOf(req)
	p.record(req, pr.hashes, &pr.recorded, ep)
}

// record records a prompt at ep in r.
func (p *PrefixCache) record(req *types.Request, hashes []uint64, r *recorded, ep *types.Endpoint) {
	*r = recorded{}
	if len(hashes) == 0 || ep.Load == nil {
		return
	}
	s := p.serverOf(ep)
	if s == nil {
		return
	}
	r.server = s
	r.early = s.prefilling.Add(1) > 1
	r.before = p.index.RecordOver(s.handle, hashes)
	r.lower = p.lanes.beyond(p.index, s, hashes, r.before)
	if o := p.peers.out.Load(); o != nil {
		o.note(s, hashes, r.before)
	}
	if k := p.told.Load(); k != nil && req.EngineSession != "" {
		k.expect(req.EngineSession, s)
	}
}

// FirstToken implements scheduling.Tracker.
func (p *PrefixCache) FirstToken(req *types.Request, _ *types.Endpoint) {
	p.prefixOf(req).computed()
}

// computed notes that the prompt was.
func (r *recorded) computed() {
	if r.server != nil && !r.first {
		r.first = true
		r.server.prefilling.Add(-1)
	}
}

// Finished implements scheduling.Tracker. It takes back what was not computed, and corrects the
// assumed cache size by the cached tokens that the response reports.
func (p *PrefixCache) Finished(req *types.Request, _ *types.Endpoint, out types.Outcome) {
	pr := p.prefixOf(req)
	if k := p.told.Load(); k != nil && req.EngineSession != "" && pr.server != nil {
		k.ended(req, pr.hashes, &out)
	}
	p.finish(req, pr.hashes, &pr.recorded, &out)
}

// finish is Finished at the endpoint of r.
func (p *PrefixCache) finish(req *types.Request, hashes []uint64, r *recorded, out *types.Outcome) {
	s := r.server
	if s == nil {
		return
	}
	r.server = nil
	if !r.first {
		s.prefilling.Add(-1)
		if out.Failed() || out.Status >= 400 || out.Retried || out.Cancelled { // 4xx: the engine did not take it
			p.index.Truncate(s.handle, hashes, r.before)
			return
		}
	}
	cached, ok := out.Usage.CachedTokens.Value()
	tokens := out.Usage.PromptTokens.Or(0)
	if !ok || tokens <= 0 {
		return
	}
	// The engine counts in its own blocks, includes the chat template, and always recomputes the
	// last token: a small shortfall is not an error.
	actual := int(min(max(cached/tokens, 0), 1) * float64(req.Prompt.Bytes) / float64(p.index.Options().BlockBytes))
	if slack := 1 + r.before/8; actual+slack >= r.before {
		actual = max(actual, r.before)
	}
	if actual < r.before && r.early {
		return // perhaps not evicted, but not yet computed when this request came
	}
	p.index.Observe(s.handle, r.before, actual)
}

// PrefillPicked implements scheduling.PrefillTracker: who computes the prompt holds it, too.
func (p *PrefixCache) PrefillPicked(req *types.Request, prefill, _ *types.Endpoint) {
	pr := p.prefixOf(req)
	if pr.leg == nil {
		pr.leg = new(recorded)
	}
	p.record(req, pr.hashes, pr.leg, prefill)
}

// PrefillFinished implements scheduling.PrefillTracker.
func (p *PrefixCache) PrefillFinished(req *types.Request, _ *types.Endpoint, out types.Outcome) {
	if pr := p.prefixOf(req); pr.leg != nil {
		p.finish(req, pr.hashes, pr.leg, &out)
	}
}

// Forget implements scheduling.Forgetter.
func (p *PrefixCache) Forget(ep *types.Endpoint) {
	p.servers.mu.Lock()
	defer p.servers.mu.Unlock()
	if s := p.servers.remove(ep); s != nil {
		p.index.Remove(s.handle)
		if in := p.peers.in.Load(); in != nil {
			in.forgets(s)
		}
		if o := p.past.Load(); o != nil {
			o.forgets(s)
		}
		p.lanes.remove(p.index, s)
		if t := s.told.Load(); t != nil {
			t.cached.CompareAndSwap(s, nil)
		}
	}
}

// reset forgets what is known and predicted of a server.
func (p *PrefixCache) reset(s *cachedServer) {
	if o := p.past.Load(); o != nil {
		o.forgets(s)
	}
	p.index.Reset(s.handle)
	p.lanes.reset(p.index, s)
}

// prefixOf returns the state of the request, with the hashes computed at the first call.
func (p *PrefixCache) prefixOf(req *types.Request) *prefix {
	if pr, ok := p.key.Get(&req.Attrs); ok {
		return pr
	}
	return p.prepare(req, new(prefix))
}

// Reread implements scheduling.Rereader.
func (p *PrefixCache) Reread(req *types.Request) {
	if pr, ok := p.key.Get(&req.Attrs); ok {
		p.prepare(req, pr)
	}
}

// prepare fills in pr and attaches it to the request.
func (p *PrefixCache) prepare(req *types.Request, pr *prefix) *prefix {
	tenant := ""
	if p.isolate {
		tenant = req.FairnessID
	}
	h := p.index.Hasher(prefixindex.Seed(req.Target(), req.CacheSalt, tenant))
	again := pr.hashes != nil // who was given them may still have them
	pr.hashes = pr.room[:0]
	if !keepsCache(req) {
		p.key.Set(&req.Attrs, pr)
		return pr
	}
	if n := req.Prompt.Bytes / p.index.Options().BlockBytes; again || n > len(pr.room) {
		pr.hashes = make([]uint64, 0, n)
	}
	data := req.PromptData()
	for _, s := range req.Prompt.Spans {
		pr.hashes = h.Append(pr.hashes, data[s.Start:s.End])
	}
	if most := p.index.Options().MaxPromptBlocks; len(pr.hashes) > most {
		pr.hashes = pr.hashes[:most]
	}
	p.settle(pr.hashes, req.Now)
	pr.round = p.remember(pr.hashes, req.Now)
	p.key.Set(&req.Attrs, pr)
	return pr
}

// keepsCache reports whether a request leaves anything in the KV cache of who serves it.
func keepsCache(req *types.Request) bool {
	return req.Work.Kind != types.Pools && req.Work.Kind != types.Denoises
}

// serverOf returns the state of ep, which it adds if it is new, and sets the size of its cache in
// the index if that has changed. It returns nil if ep was removed.
func (p *PrefixCache) serverOf(ep *types.Endpoint) *cachedServer {
	tokens := cacheTokens(ep)
	if k := p.told.Load(); k != nil && k.tokens {
		tokens += tokens / 4 // it tells what it drops: what seems too much is about to go
	}
	s := p.servers.lookup(ep)
	if s != nil && s.tokens.Load() == int64(tokens) {
		return s
	}
	p.enter([]*types.Endpoint{ep})
	if s = p.servers.lookup(ep); s != nil && s.tokens.Swap(int64(tokens)) != int64(tokens) {
		p.index.SetCapacityTokens(s.handle, tokens)
	}
	return s
}

// meet enters endpoints that somebody may tell of although nothing was sent there.
func (p *PrefixCache) meet(eps []*types.Endpoint, now time.Time) {
	if p.told.Load() == nil && p.peers.in.Load() == nil && !p.past.Load().awaits(now) {
		return
	}
	view := p.servers.view.Load()
	for _, ep := range eps {
		if view.lookup(ep) == nil {
			p.enter(eps)
			return
		}
	}
}

// enter adds those of eps that are new and not removed.
func (p *PrefixCache) enter(eps []*types.Endpoint) {
	p.servers.mu.Lock()
	defer p.servers.mu.Unlock()
	p.servers.enterAll(eps, func(ep *types.Endpoint, s *cachedServer) {
		s.id, s.handle = ep.ID, p.index.Add()
		if in := p.peers.in.Load(); in != nil {
			in.met(s)
		}
		if o := p.past.Load(); o != nil {
			o.meets(p.index, s)
		}
		if k := p.told.Load(); k != nil {
			k.met(s)
		}
	})
}

// cacheTokens returns the size of an endpoint's KV cache, 0 if it is unknown.
func cacheTokens(ep *types.Endpoint) int {
	size, ok1 := ep.Metrics.BlockSize.Value()
	blocks, ok2 := ep.Metrics.NumBlocks.Value()
	if ok1 && ok2 && size*blocks > 0 {
		return int(min(size*blocks, math.MaxInt32))
	}
	return ep.Capacity.KVTokens
}
