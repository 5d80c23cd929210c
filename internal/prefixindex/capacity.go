package prefixindex

const (
	// MaxCapacity bounds capacities in blocks: it keeps counts in 32 bits on every platform.
	MaxCapacity = 1 << 30

	// One prediction that was too long weighs as much as twenty that held, so the learned capacity
	// settles where about 1 in 20 is too long: a block wrongly assumed costs a prefill, a block
	// wrongly forgotten only the chance of a hit.
	shrinkFactor = 0.99
	growFactor   = 1.0005
	// minLearned bounds how far the capacity can shrink, so that an engine that never reports cached
	// tokens is not ignored entirely.
	minLearned = 1.0 / 32
)

// SetCapacity sets how many blocks of Options.BlockBytes the endpoint's cache holds, 0 or less for
// Options.DefaultCapacity. For an engine's own blocks, which have another size, use
// SetCapacityTokens. Blocks beyond the capacity are evicted, least recently used first. A new value
// discards what Observe has learned; setting the same value again is free.
func (x *Index) SetCapacity(e Endpoint, blocks int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	ep := x.endpointLocked(e)
	if ep == nil {
		return
	}
	if blocks <= 0 {
		blocks = x.opts.DefaultCapacity
	}
	blocks = min(blocks, MaxCapacity)
	if blocks == ep.set {
		return
	}
	ep.set, ep.learned = blocks, 1
	if blocks == ep.keptSet {
		ep.learned = ep.kept
	}
	x.shrinkLocked(e.slot, ep.capacity())
}

// Learned returns the capacity as it was set, and the part of it that is believed in by what Observe has learned.
// Both are 0 if e was removed.
func (x *Index) Learned(e Endpoint) (set int, learned float64) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	ep := x.endpointLocked(e)
	if ep == nil {
		return 0, 0
	}
	return ep.set, ep.learned
}

// Relearn takes over what Learned has returned of e in an index of before: at once, or when the capacity is set to the
// same. learned is 1/32 to 1.
func (x *Index) Relearn(e Endpoint, set int, learned float64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	ep := x.endpointLocked(e)
	if ep == nil {
		return
	}
	ep.keptSet, ep.kept = set, min(max(learned, minLearned), 1)
	if set == ep.set {
		ep.learned = ep.kept
		x.shrinkLocked(e.slot, ep.capacity())
	}
}

// SetCapacityTokens is SetCapacity in tokens, which are an engine's number of blocks times its tokens
// per block. 0 or less: unknown.
func (x *Index) SetCapacityTokens(e Endpoint, tokens int) {
	blocks := 0
	if tokens > 0 {
		blocks = x.opts.blocks(tokens)
	}
	x.SetCapacity(e, blocks)
}

// Observe corrects the capacity after a response. predicted is how many leading blocks of the prompt
// the index assumed the endpoint to hold when the request was sent, actual how many it held, by the
// cached tokens in the usage. If it held fewer, the engine has evicted more than the index knows, and
// the capacity shrinks by 1 %; otherwise it grows by 0.05 %. It stays between 1/32 of the value set
// and that value. If both are 0 nothing changes. To correct the prompt's own entries use Truncate.
func (x *Index) Observe(e Endpoint, predicted, actual int) {
	if predicted <= 0 && actual <= 0 {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	ep := x.endpointLocked(e)
	if ep == nil {
		return
	}
	if predicted > actual {
		ep.learned = max(ep.learned*shrinkFactor, minLearned)
		x.shrinkLocked(e.slot, ep.capacity())
		return
	}
	ep.learned = min(ep.learned*growFactor, 1)
}

// capacity returns the current capacity in blocks.
func (ep *endpoint) capacity() int {
	return max(1, int(float64(ep.set)*ep.learned))
}
