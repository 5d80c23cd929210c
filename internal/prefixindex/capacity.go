package prefixindex

const (
	// maxCapacity keeps counts of blocks in 32 bits on every platform.
	maxCapacity = 1 << 30

	// How the learned capacity moves. One prediction too many weighs as much as
	// twenty that held, so it settles where about 1 in 20 is too long: a block
	// believed and absent costs a prefill, a block forgotten costs only the
	// chance of a hit.
	shrinkFactor = 0.99
	growFactor   = 1.0005
	// minLearned bounds how far observations can take the capacity down, so that an
	// engine that never reports cached tokens is not forgotten entirely.
	minLearned = 1.0 / 32
)

// SetCapacity says how many blocks of Options.BlockBytes the endpoint's cache
// can hold; mind the unit: an engine's own blocks are of another size, for
// which there is SetCapacityTokens. Zero or less: Options.DefaultCapacity. What
// is held beyond is dropped, least recently used first. A value that differs
// from the last discards what Observe has learned; the same value again is
// free. It does nothing for an endpoint that has been removed.
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
	blocks = min(blocks, maxCapacity)
	if blocks == ep.set {
		return
	}
	ep.set, ep.learned = blocks, 1
	x.shrinkLocked(e.slot, ep.capacity())
}

// SetCapacityTokens is SetCapacity for a cache whose size is known in tokens,
// which is the engine's number of blocks times its tokens per block. Zero or
// less: unknown.
func (x *Index) SetCapacityTokens(e Endpoint, tokens int) {
	blocks := 0
	if tokens > 0 {
		blocks = x.opts.blocks(tokens)
	}
	x.SetCapacity(e, blocks)
}

// Observe corrects the capacity by what a response told: predicted is how many
// leading blocks of the prompt the index believed the endpoint to hold when
// the request went there, actual how many it had (cached tokens of the usage,
// in blocks). An endpoint that had less than predicted has evicted what the
// index still believes in, so its capacity shrinks by 1 %; otherwise it grows
// by 0.05 %, never beyond what was set and never below 1/32 of it. Nothing
// predicted and nothing found teaches nothing. The capacity is what is
// corrected here, not the prompt's own entries: for those see Truncate.
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

// capacity returns the number of blocks the endpoint may hold now.
func (ep *endpoint) capacity() int {
	return max(1, int(float64(ep.set)*ep.learned))
}
