package policies

import (
	"sort"
	"sync"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// dynamoTTL is for how long Dynamo's router without KV events believes in its own
// decisions.
const dynamoTTL = 120 * time.Second

// dynamoPrefill is what a block of prefill counts against an active one.
const dynamoPrefill = 1

// tokensPerBlock is an engine's KV cache block.
const tokensPerBlock = 16

// Dynamo is the cost of NVIDIA Dynamo's KV router (main of 2026) with its
// defaults, prefill load scale 1 and temperature 0, in its approximate mode, without
// KV events. The least of
//
//	(pending uncached tokens + own uncached tokens) / 16 + active blocks
//
// where pending tokens are released at the first token, and active blocks are the
// different blocks of the prompts in flight there, this one's included, released
// at the finish. What is cached is what was sent there in the last 120 s.
//
// Deviation: no blocks are added as output grows, which is an option there.
func Dynamo() scheduling.Profile { return dynamoWith(dynamoPrefill) }

func dynamoWith(prefill float64) scheduling.Profile {
	sentThere := newHistory(bounds{ttl: dynamoTTL})
	return dynamo(prefill, sentThere, sentThere.blocks, sentThere)
}

// DynamoPrecise is Dynamo with the exact contents of the caches, for which its
// router listens to KV events.
func DynamoPrecise(oracle CacheOracle) scheduling.Profile {
	return dynamo(dynamoPrefill, exact{oracle}, newBlockHashes(bytesPerBlock))
}

func dynamo(prefill float64, cache scheduling.CacheEstimator, blocks blockHashes, trackers ...scheduling.Tracker) scheduling.Profile {
	active := newActive(blocks)
	s := dynamoCost{cache, lowest{"blocks", func(req *types.Request, ep *types.Endpoint) float64 {
		return prefill*(prefilling(ep)+uncached(cache, req, ep))/tokensPerBlock + float64(active.With(req, ep))
	}}}
	return rule("dynamo", s, append(trackers, active)...)
}

// dynamoCost is the scorer and tells the ledger what is cached.
type dynamoCost struct {
	scheduling.CacheEstimator
	lowest
}

// active counts the different blocks of the prompts in flight at each endpoint. It
// is a scheduling.Tracker.
type active struct {
	blocks blockHashes
	key    *types.Key[*booked]

	mu sync.Mutex
	// guarded by mu, with what the values point to
	servers map[*types.Load]*inUse
}

// inUse is the blocks in use at one endpoint.
type inUse struct {
	count map[uint64]int // requests that use the block
	parts int            // blocks that are filled in part, which nobody shares
}

// booked is what a request in flight uses.
type booked struct{ at *inUse }

func newActive(blocks blockHashes) *active {
	return &active{blocks: blocks, key: types.NewKey[*booked]("active blocks"), servers: map[*types.Load]*inUse{}}
}

// With returns the blocks that are in use at ep with req there.
func (a *active) With(req *types.Request, ep *types.Endpoint) int {
	hashes, parts := a.of(req)
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.servers[ep.Load]
	if u == nil {
		return len(hashes) + parts
	}
	// Who uses a block uses all before it.
	shared := sort.Search(len(hashes), func(i int) bool { return u.count[hashes[i]] == 0 })
	return len(u.count) + u.parts + len(hashes) - shared + parts
}

func (a *active) of(req *types.Request) (hashes []uint64, parts int) {
	hashes = a.blocks.of(req)
	if len(hashes)*a.blocks.size < req.Prompt.Bytes {
		parts = 1
	}
	return hashes, parts
}

// Picked implements scheduling.Tracker.
func (a *active) Picked(req *types.Request, ep *types.Endpoint) {
	if ep.Load == nil {
		return
	}
	hashes, parts := a.of(req)
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.servers[ep.Load]
	if u == nil {
		u = &inUse{count: map[uint64]int{}}
		if !ep.Load.Retired() {
			a.servers[ep.Load] = u
		}
	}
	for _, h := range hashes {
		u.count[h]++
	}
	u.parts += parts
	a.key.Set(&req.Attrs, &booked{u})
}

// FirstToken implements scheduling.Tracker.
func (a *active) FirstToken(*types.Request, *types.Endpoint) {}

// Finished implements scheduling.Tracker.
func (a *active) Finished(req *types.Request, _ *types.Endpoint, _ types.Outcome) {
	b, ok := a.key.Get(&req.Attrs)
	if !ok || b.at == nil {
		return
	}
	hashes, parts := a.of(req)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range hashes {
		if b.at.count[h]--; b.at.count[h] == 0 {
			delete(b.at.count, h)
		}
	}
	b.at.parts -= parts
	b.at = nil
}

// Forget implements scheduling.Forgetter. Requests still in flight release what
// they booked of the old account.
func (a *active) Forget(ep *types.Endpoint) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.servers, ep.Load)
}

var (
	_ scheduling.Scorer         = dynamoCost{}
	_ scheduling.CacheEstimator = dynamoCost{}
	_ scheduling.Tracker        = (*active)(nil)
	_ scheduling.Forgetter      = (*active)(nil)
)
