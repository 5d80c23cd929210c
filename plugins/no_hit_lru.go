package plugins

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/types"
)

// DefaultLRUSize is the default of NoHitOptions.LRUSize.
const DefaultLRUSize = 1024

// NoHitOptions configure NoHitLRU. The zero value works.
type NoHitOptions struct {
	// LRUSize is the number of endpoints that are remembered. Default DefaultLRUSize.
	LRUSize int `json:"lruSize,omitempty"`
	// Prefix names the plugin whose prefix index is used, in a declaration. Default: the first
	// one that has an index.
	Prefix string `json:"prefixPluginName,omitempty"`
}

// NoHitLRU is a Scorer that spreads prompts of which nothing is cached anywhere, so that caches
// grow evenly: from 1 to 0, endpoints that never had such a prompt in random order, and then those
// that had one, longest ago first. For all other prompts scores are 0.5. It is llm-d's
// no-hit-lru-scorer.
//
// Create it with NewNoHitLRU. It may be used by several Schedulers.
type NoHitLRU struct {
	prefixReader
	pickedOnly
	size int
	key  *types.Key[bool] // whether a request's prompt was new when it was scored

	mu sync.Mutex
	// guarded by mu: the endpoints that had a new prompt, longest ago first
	order []*types.Load
	rank  map[*types.Load]int // in order
}

// NewNoHitLRU returns a NoHitLRU that uses cache, or an error that names the invalid option. With a
// nil cache every prompt is new. NoHitLRU does not update the cache: make it a Scorer or a Tracker
// of the same profile.
func NewNoHitLRU(o NoHitOptions, cache *PrefixCache) (*NoHitLRU, error) {
	c := check.Checks{Package: "plugins"}
	check.Positive(&c, "lruSize", &o.LRUSize, DefaultLRUSize)
	if err := c.Err(); err != nil {
		return nil, err
	}
	return &NoHitLRU{prefixReader: prefixReader{name: o.Prefix, cache: cache}, size: o.LRUSize, key: types.NewKey[bool]("no-hit-lru"), rank: map[*types.Load]int{}}, nil
}

// Score implements scheduling.Scorer.
func (s *NoHitLRU) Score(_ context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
	isNew := s.isNew(req)
	s.key.Set(&req.Attrs, isNew)
	if !isNew {
		for i := range scores {
			scores[i] = .5
		}
		return nil
	}
	if len(eps) == 1 {
		scores[0] = 1
		return nil
	}
	r := newRanking(len(eps))
	defer r.free()
	s.mu.Lock()
	for i, ep := range eps {
		if rank, ok := s.rank[ep.Load]; ok {
			r.values[i] = float64(rank)
		} else {
			r.order = append(r.order, i)
		}
	}
	s.mu.Unlock()
	never := float64(len(r.order))
	for i := range r.values {
		r.values[i] += never
	}
	for _, i := range r.order {
		r.values[i] = 0 // equal
	}
	r.sort(req, eps, false)
	for rank, i := range r.order {
		r.values[i] = float64(rank)
	}
	for i, rank := range r.values {
		scores[i] = max(0, 1-rank/float64(len(eps)-1))
	}
	return nil
}

// isNew reports whether no endpoint has any of the request's prompt cached.
func (s *NoHitLRU) isNew(req *types.Request) bool { return s.cache == nil || !s.cache.known(req) }

// Picked implements scheduling.Tracker.
func (s *NoHitLRU) Picked(req *types.Request, ep *types.Endpoint) {
	// The cache may have been updated already, and then nothing is new.
	if isNew, _ := s.key.Get(&req.Attrs); !isNew || ep.Load == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(ep.Load)
	if ep.Load.Retired() {
		return
	}
	if len(s.order) == s.size {
		s.remove(s.order[0])
	}
	s.rank[ep.Load] = len(s.order)
	s.order = append(s.order, ep.Load)
}

// remove removes an endpoint. Caller must hold s.mu.
func (s *NoHitLRU) remove(at *types.Load) {
	i, ok := s.rank[at]
	if !ok {
		return
	}
	delete(s.rank, at)
	s.order = slices.Delete(s.order, i, i+1)
	for ; i < len(s.order); i++ {
		s.rank[s.order[i]] = i
	}
}

// Forget implements scheduling.Forgetter.
func (s *NoHitLRU) Forget(ep *types.Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(ep.Load)
}

// Describe implements scheduling.Describer.
func (s *NoHitLRU) Describe(req *types.Request, ep *types.Endpoint) string {
	if !s.isNew(req) {
		return "prompt cached somewhere"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if rank, ok := s.rank[ep.Load]; ok {
		return fmt.Sprintf("new prompt before %d others", len(s.order)-1-rank)
	}
	return "never had a new prompt"
}
