package policies

import (
	"context"
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// history is what a router without KV events believes that each endpoint holds: the
// prompts that it sent there. Unlike plugins.PrefixCache it does not know how large
// the caches are and does not hear what was found there, which is how the routers
// whose rules it serves work. It is a scheduling.Tracker and CacheEstimator, and a
// Scorer of the part matched.
type history struct {
	bounds
	blocks blockHashes

	mu sync.Mutex
	// guarded by mu
	servers map[*types.Load]*recent
	order   []*recent // of the servers, in the order in which they were met
	held    int       // blocks, summed over the servers
}

// bounds is what a history forgets. A zero field is no bound.
type bounds struct {
	perEach int           // blocks of one endpoint, beyond which the least recent go
	inAll   int           // the same for the sum over the endpoints
	ttl     time.Duration // after which a block is forgotten
}

func newHistory(b bounds) *history {
	return &history{bounds: b, blocks: newBlockHashes(bytesPerBlock), servers: map[*types.Load]*recent{}}
}

// Matched returns how many leading blocks of the prompt ep is believed to hold, and
// how many whole blocks there are.
func (h *history) Matched(req *types.Request, ep *types.Endpoint) (held, total int) {
	hashes := h.blocks.of(req)
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.servers[ep.Load]
	if r == nil {
		return 0, len(hashes)
	}
	// A block is used whenever one behind it is, so what is held and fresh is a
	// prefix.
	return sort.Search(len(hashes), func(i int) bool {
		n, ok := r.at[hashes[i]]
		return !ok || h.stale(r.nodes[n].used, req.Now)
	}), len(hashes)
}

// Rate is the part of the prompt that is matched at ep, 0..1.
func (h *history) Rate(req *types.Request, ep *types.Endpoint) float64 {
	held, _ := h.Matched(req, ep)
	if held == 0 {
		return 0
	}
	return float64(held*h.blocks.size) / float64(req.Prompt.Bytes)
}

// Held returns how many blocks ep is believed to hold.
func (h *history) Held(ep *types.Endpoint) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.servers[ep.Load]; r != nil {
		return len(r.at)
	}
	return 0
}

// CachedTokens implements scheduling.CacheEstimator.
func (h *history) CachedTokens(req *types.Request, ep *types.Endpoint) int {
	held, _ := h.Matched(req, ep)
	if req.Prompt.Bytes == 0 {
		return 0
	}
	return req.Prompt.Tokens * held * h.blocks.size / req.Prompt.Bytes
}

// Score implements scheduling.Scorer.
func (h *history) Score(_ context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
	for i, ep := range eps {
		scores[i] = h.Rate(req, ep)
	}
	return nil
}

// Describe implements scheduling.Describer.
func (h *history) Describe(req *types.Request, ep *types.Endpoint) string {
	held, total := h.Matched(req, ep)
	return fmt.Sprintf("%d of %d blocks sent there before", held, total)
}

// Picked implements scheduling.Tracker.
func (h *history) Picked(req *types.Request, ep *types.Endpoint) {
	if ep.Load == nil {
		return
	}
	hashes := h.blocks.of(req)
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.servers[ep.Load]
	if r == nil {
		if ep.Load.Retired() {
			return
		}
		r = newRecent()
		h.servers[ep.Load] = r
		h.order = append(h.order, r)
	}
	before := len(r.at)
	for i := len(hashes) - 1; i >= 0; i-- { // the beginning last, so that it goes last
		r.use(hashes[i], req.Now)
	}
	h.held += len(r.at) - before
	h.evictLocked(r, req.Now)
}

// evictLocked drops what is too old or too much, after r has grown. Caller must
// hold h.mu.
func (h *history) evictLocked(r *recent, now time.Time) {
	for len(r.at) > 0 && (h.stale(r.oldest(), now) || h.perEach > 0 && len(r.at) > h.perEach) {
		r.drop()
		h.held--
	}
	for h.inAll > 0 && h.held > h.inAll {
		var last *recent
		for _, r := range h.order {
			if len(r.at) > 0 && (last == nil || r.oldest().Before(last.oldest())) {
				last = r
			}
		}
		last.drop()
		h.held--
	}
}

func (h *history) stale(used, now time.Time) bool {
	return h.ttl > 0 && now.Sub(used) > h.ttl
}

// FirstToken implements scheduling.Tracker.
func (h *history) FirstToken(*types.Request, *types.Endpoint) {}

// Finished implements scheduling.Tracker.
func (h *history) Finished(*types.Request, *types.Endpoint, types.Outcome) {}

// Forget implements scheduling.Forgetter.
func (h *history) Forget(ep *types.Endpoint) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.servers[ep.Load]
	if r == nil {
		return
	}
	delete(h.servers, ep.Load)
	h.held -= len(r.at)
	for i := range h.order {
		if h.order[i] == r {
			h.order = append(h.order[:i], h.order[i+1:]...)
			break
		}
	}
}

// recent is a set of hashes in the order of their last use: a map and a doubly
// linked list through a slice, whose element 0 is the ends of the list.
type recent struct {
	at    map[uint64]int32
	nodes []node
	free  []int32
}

type node struct {
	hash       uint64
	used       time.Time
	newer, old int32
}

func newRecent() *recent {
	return &recent{at: map[uint64]int32{}, nodes: make([]node, 1)}
}

// use makes hash the most recent.
func (r *recent) use(hash uint64, now time.Time) {
	i, ok := r.at[hash]
	switch {
	case ok:
		r.unlink(i)
	case len(r.free) > 0:
		i = r.free[len(r.free)-1]
		r.free = r.free[:len(r.free)-1]
	default:
		i = int32(len(r.nodes))
		r.nodes = append(r.nodes, node{})
	}
	r.at[hash] = i
	newest := r.nodes[0].old
	r.nodes[i] = node{hash, now, 0, newest}
	r.nodes[newest].newer = i
	r.nodes[0].old = i
}

// oldest returns when the least recent was used. There must be one.
func (r *recent) oldest() time.Time { return r.nodes[r.nodes[0].newer].used }

// drop takes the least recent out. There must be one.
func (r *recent) drop() {
	i := r.nodes[0].newer
	r.unlink(i)
	delete(r.at, r.nodes[i].hash)
	r.free = append(r.free, i)
}

func (r *recent) unlink(i int32) {
	n := r.nodes[i]
	r.nodes[n.newer].old = n.old
	r.nodes[n.old].newer = n.newer
}

var (
	_ scheduling.Scorer         = (*history)(nil)
	_ scheduling.Describer      = (*history)(nil)
	_ scheduling.Tracker        = (*history)(nil)
	_ scheduling.Forgetter      = (*history)(nil)
	_ scheduling.CacheEstimator = (*history)(nil)
)
