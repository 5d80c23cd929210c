package policies

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// sent remembers what this gateway sent to each endpoint since its last reading,
// which no reading can show yet. It is a scheduling.Tracker.
type sent struct {
	// cache tells how many tokens of a prompt an endpoint holds; nil: none. It is a
	// plugin of the same profile, asked before it learns of the request.
	cache scheduling.CacheEstimator

	mu sync.Mutex
	// guarded by mu: sends in the order of time, those before the last reading dropped
	to map[*types.Load][]send
}

type send struct {
	at     time.Time
	tokens int // uncached
}

func newSent(cache scheduling.CacheEstimator) *sent {
	return &sent{cache: cache, to: map[*types.Load][]send{}}
}

// since returns the requests and the uncached tokens sent to ep after its reading.
func (s *sent) since(ep *types.Endpoint) (requests, tokens int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.to[ep.Load] {
		if one.at.After(ep.Metrics.UpdatedAt) {
			requests++
			tokens += one.tokens
		}
	}
	return requests, tokens
}

// Picked implements scheduling.Tracker.
func (s *sent) Picked(req *types.Request, ep *types.Endpoint) {
	if ep.Load == nil {
		return
	}
	one := send{at: req.Now, tokens: req.Prompt.Tokens}
	if s.cache != nil {
		one.tokens = max(one.tokens-s.cache.CachedTokens(req, ep), 0)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if ep.Load.Retired() {
		return
	}
	left := slices.DeleteFunc(s.to[ep.Load], func(one send) bool { return !one.at.After(ep.Metrics.UpdatedAt) })
	if len(left) == maxUnread {
		left = slices.Delete(left, 0, 1)
	}
	s.to[ep.Load] = append(left, one)
}

// maxUnread bounds what is remembered of an endpoint that is never read.
const maxUnread = 4096

// FirstToken implements scheduling.Tracker.
func (s *sent) FirstToken(*types.Request, *types.Endpoint) {}

// Finished implements scheduling.Tracker. What has ended before it was seen is
// taken for waiting until the next reading.
func (s *sent) Finished(*types.Request, *types.Endpoint, types.Outcome) {}

// Forget implements scheduling.Forgetter.
func (s *sent) Forget(ep *types.Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.to, ep.Load)
}

// corrected is a scorer that sees readings brought up to date: requests sent since
// are waiting, and their uncached tokens are in the KV cache.
type corrected struct {
	scorer scheduling.Scorer
	sent   *sent
}

// Score implements scheduling.Scorer.
func (c corrected) Score(ctx context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
	now := make([]*types.Endpoint, len(eps))
	for i, ep := range eps {
		now[i] = c.correct(ep)
	}
	return c.scorer.Score(ctx, req, now, scores)
}

// Describe implements scheduling.Describer.
func (c corrected) Describe(req *types.Request, ep *types.Endpoint) string {
	if d, ok := c.scorer.(scheduling.Describer); ok {
		return d.Describe(req, c.correct(ep))
	}
	return ""
}

// correct returns ep with its reading brought up to date. What was not reported
// stays unknown.
func (c corrected) correct(ep *types.Endpoint) *types.Endpoint {
	requests, tokens := c.sent.since(ep)
	m := ep.Metrics
	if w, ok := m.Waiting.Value(); ok {
		m.Waiting = types.Known(w + float64(requests))
	}
	size, blocks := m.BlockSize.Or(0), m.NumBlocks.Or(0)
	if k, ok := m.KVUsage.Value(); ok && size*blocks > 0 {
		m.KVUsage = types.Known(min(k+float64(tokens)/(size*blocks), 1))
	}
	return ep.WithMetrics(m)
}

var (
	_ scheduling.Tracker   = (*sent)(nil)
	_ scheduling.Forgetter = (*sent)(nil)
	_ scheduling.Scorer    = corrected{}
	_ scheduling.Describer = corrected{}
)
