package plugins

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/prefixindex"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// PrefixOptions configure PrefixCache. The zero value is good.
type PrefixOptions struct {
	// BlockBytes is the grain of the comparison in bytes of prompt, a multiple of
	// 64. Default 256, about 64 tokens. Nothing shorter than a block matches.
	BlockBytes int `json:"blockBytes,omitempty"`
	// MaxBytes bounds the memory of the index; beyond it, what was longest unused
	// is forgotten. At least 1 MiB. Default 256 MiB.
	MaxBytes int64 `json:"maxBytes,omitempty"`
	// MaxPromptBlocks bounds how much of one prompt is compared. Default 8192.
	MaxPromptBlocks int `json:"maxPromptBlocks,omitempty"`
	// CapacityBlocks is how many blocks of prompt a server is believed to hold
	// whose cache geometry is not known from its metrics or Capacity. Default 7812,
	// that is 500,000 tokens.
	CapacityBlocks int `json:"capacityBlocks,omitempty"`
	// BytesPerToken converts the cache geometry, which is in tokens. Default 4.
	BytesPerToken float64 `json:"bytesPerToken,omitempty"`
	// IsolateTenants keeps requests of different fairness ids from matching each
	// other's prefixes. By default they do match, as in the engine's own cache: else a
	// system prompt that all use would be computed for each of them on some server of its
	// own. With it, no tenant can learn from where its request goes what another has
	// asked; that the engine's cache tells nothing either, give tenants a cache_salt each.
	IsolateTenants bool `json:"isolateTenants,omitempty"`
}

// index returns o as the index takes it.
func (o PrefixOptions) index() prefixindex.Options {
	return prefixindex.Options{
		BlockBytes:      o.BlockBytes,
		MaxBytes:        o.MaxBytes,
		MaxPromptBlocks: o.MaxPromptBlocks,
		DefaultCapacity: o.CapacityBlocks,
		BytesPerToken:   o.BytesPerToken,
	}
}

// PrefixCache is a Scorer that prefers servers that hold the beginning of the
// prompt in their KV cache: matched blocks / all whole blocks of the prompt, and
// 0 for a prompt shorter than a block. It is the Inference Extension's
// prefix-cache-scorer, over an index of what this process sent where.
//
// The index takes a prompt to be cached where a request went, drops what a server
// must have evicted by the size of its cache, corrects the size by the cached
// tokens that responses report, and forgets a server that goes or restarts.
// Prompts match only under the same target model and cache salt, as in the engine, and of
// whichever tenant they are, unless IsolateTenants.
//
// Make it with NewPrefixCache. Safe for use by several Schedulers, which then
// share what they know.
type PrefixCache struct {
	index   *prefixindex.Index
	isolate bool
	key     *types.Key[*prefix]

	servers endpointTable[cachedServer]
	matches sync.Pool // of *[]uint32, for Score
}

// cachedServer is what is known of one endpoint.
type cachedServer struct {
	handle     prefixindex.Endpoint
	prefilling atomic.Int64 // prompts recorded of which no first token was seen yet
	tokens     atomic.Int64 // the cache size last told to the index
}

// prefix is what the plugin keeps with a request.
type prefix struct {
	hashes []uint64
	room   [160]uint64 // so that a prompt of up to 40 KiB takes one allocation

	// Of the endpoint chosen last, from Picked to Finished.
	server *cachedServer
	before int  // blocks that it held when it was chosen
	early  bool // some of these may have been under way only, not computed
	first  bool // the first token was seen: the prompt has been computed there
}

// NewPrefixCache returns a PrefixCache, or an error that names the option that is
// out of range.
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

// mustPrefixCache is NewPrefixCache for options that are known to be valid.
func mustPrefixCache(o PrefixOptions) *PrefixCache {
	p, err := NewPrefixCache(o)
	if err != nil {
		panic(err)
	}
	return p
}

// PrefixStats says how large the index of a PrefixCache is.
type PrefixStats struct {
	Bytes     int64  // memory in use, by the index's own account
	MaxBytes  int64  // the bound
	Blocks    int    // different blocks of prompt
	Held      int    // blocks summed over the endpoints that hold them
	Endpoints int    // endpoints that are known
	Evicted   uint64 // blocks dropped so far for want of capacity or memory
}

// Stats returns the present size.
func (p *PrefixCache) Stats() PrefixStats {
	s := p.index.Stats()
	return PrefixStats{s.Bytes, s.MaxBytes, s.Blocks, s.Held, s.Endpoints, s.Evicted}
}

// Score implements scheduling.Scorer.
func (p *PrefixCache) Score(_ context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
	clear(scores)
	buf := p.matches.Get().(*[]uint32)
	defer p.matches.Put(buf)
	hashes := p.prefixOf(req).hashes
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

// matchAll returns how many leading blocks each endpoint holds, by slot of the index,
// in the memory of buf; nil if none holds any.
func (p *PrefixCache) matchAll(hashes []uint64, buf *[]uint32) []uint32 {
	if len(hashes) == 0 {
		return nil
	}
	if n := p.index.Slots(); cap(*buf) < n {
		*buf = make([]uint32, n+n/4)
	} else {
		*buf = (*buf)[:n]
	}
	if p.index.Match(hashes, *buf) == 0 {
		return nil
	}
	return *buf
}

// Describe implements scheduling.Describer.
func (p *PrefixCache) Describe(req *types.Request, ep *types.Endpoint) string {
	held, total := p.match(req, ep)
	return fmt.Sprintf("%d of %d blocks cached", held, total)
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

// match returns how many of the prompt's blocks ep holds, and how many there are.
func (p *PrefixCache) match(req *types.Request, ep *types.Endpoint) (held, total int) {
	hashes := p.prefixOf(req).hashes
	if len(hashes) == 0 {
		return 0, 0
	}
	s := p.servers.lookup(ep)
	if s == nil {
		return 0, len(hashes)
	}
	return p.index.MatchOne(s.handle, hashes), len(hashes)
}

// Picked implements scheduling.Tracker: the prompt is taken to be cached there
// from now on, so that a burst of requests with the same beginning goes together.
func (p *PrefixCache) Picked(req *types.Request, ep *types.Endpoint) {
	pr := p.prefixOf(req)
	pr.server, pr.before, pr.first = nil, 0, false
	if len(pr.hashes) == 0 || ep.Load == nil {
		return
	}
	s := p.serverOf(ep)
	if s == nil {
		return
	}
	pr.server = s
	pr.early = s.prefilling.Add(1) > 1
	pr.before = p.index.RecordOver(s.handle, pr.hashes)
}

// FirstToken implements scheduling.Tracker.
func (p *PrefixCache) FirstToken(req *types.Request, _ *types.Endpoint) {
	pr := p.prefixOf(req)
	if pr.server != nil && !pr.first {
		pr.first = true
		pr.server.prefilling.Add(-1)
	}
}

// Finished implements scheduling.Tracker: what the request did not compute is
// taken back, and the cached tokens that the response reports correct the size
// that the server's cache is believed to have.
func (p *PrefixCache) Finished(req *types.Request, _ *types.Endpoint, out types.Outcome) {
	pr := p.prefixOf(req)
	s := pr.server
	if s == nil {
		return
	}
	pr.server = nil
	if !pr.first {
		s.prefilling.Add(-1)
		if out.Failed() || out.Status >= 400 || out.Retried || out.Cancelled { // 4xx: the engine did not take it
			p.index.Truncate(s.handle, pr.hashes, pr.before)
			return
		}
	}
	cached, ok := out.Usage.CachedTokens.Value()
	tokens := out.Usage.PromptTokens.Or(0)
	if !ok || tokens <= 0 {
		return
	}
	// The engine counts tokens of its own blocks and of its chat template, and
	// always computes the last token anew: a small shortfall is no error.
	actual := int(min(max(cached/tokens, 0), 1) * float64(req.Prompt.Bytes) / float64(p.index.Options().BlockBytes))
	if slack := 1 + pr.before/8; actual+slack >= pr.before {
		actual = max(actual, pr.before)
	}
	if actual < pr.before && pr.early {
		return // not evicted, perhaps, but not computed yet when this one came
	}
	p.index.Observe(s.handle, pr.before, actual)
}

// Forget implements scheduling.Forgetter.
func (p *PrefixCache) Forget(ep *types.Endpoint) {
	p.servers.mu.Lock()
	defer p.servers.mu.Unlock()
	if s := p.servers.remove(ep); s != nil {
		p.index.Remove(s.handle)
	}
}

// prefixOf returns the hashes of the request's prompt, computed at the first call.
func (p *PrefixCache) prefixOf(req *types.Request) *prefix {
	if pr, ok := p.key.Get(&req.Attrs); ok {
		return pr
	}
	return p.prepare(req, new(prefix))
}

// prepare fills in pr and keeps it with the request.
func (p *PrefixCache) prepare(req *types.Request, pr *prefix) *prefix {
	tenant := ""
	if p.isolate {
		tenant = req.FairnessID
	}
	h := p.index.Hasher(prefixindex.Seed(req.Target(), req.CacheSalt, tenant))
	pr.hashes = pr.room[:0]
	if n := req.Prompt.Bytes / p.index.Options().BlockBytes; n > len(pr.room) {
		pr.hashes = make([]uint64, 0, n)
	}
	data := req.PromptData()
	for _, s := range req.Prompt.Spans {
		pr.hashes = h.Append(pr.hashes, data[s.Start:s.End])
	}
	if most := p.index.Options().MaxPromptBlocks; len(pr.hashes) > most {
		pr.hashes = pr.hashes[:most]
	}
	p.key.Set(&req.Attrs, pr)
	return pr
}

// serverOf returns what is known of ep, entering it if it is new, and tells the
// index the size of its cache if that has changed. It returns nil for an endpoint
// that has gone.
func (p *PrefixCache) serverOf(ep *types.Endpoint) *cachedServer {
	tokens := cacheTokens(ep)
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

// enter enters those of eps that are new and have not gone.
func (p *PrefixCache) enter(eps []*types.Endpoint) {
	p.servers.mu.Lock()
	defer p.servers.mu.Unlock()
	p.servers.enterAll(eps, func(_ *types.Endpoint, s *cachedServer) { s.handle = p.index.Add() })
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

var (
	_ scheduling.Scorer         = (*PrefixCache)(nil)
	_ scheduling.Describer      = (*PrefixCache)(nil)
	_ scheduling.Tracker        = (*PrefixCache)(nil)
	_ scheduling.Forgetter      = (*PrefixCache)(nil)
	_ scheduling.CacheEstimator = (*PrefixCache)(nil)
)
