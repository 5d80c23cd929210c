package engine

// BlockTokens is the number of tokens in one block of KV cache.
const BlockTokens = 16

// blocksFor returns the blocks that hold n tokens.
func blocksFor(n int) int { return (n + BlockTokens - 1) / BlockTokens }

// block is one block of KV cache. A block nobody refers to is on the free
// list, and keeps its key, and with it its content, until it is taken.
type block struct {
	key        uint64 // what it holds, as found in pool.cached; 0: nothing to find
	refs       int32
	pins       int32 // those of refs that are of pinned sequences
	prev, next int32 // neighbours on the free list, while refs == 0
}

// pool is the KV cache of one engine.
//
// The free list runs from the block to be reused first to the one to be reused
// last. Index len(blocks)-1 is its sentinel, so no operation has a special case
// for the ends.
type pool struct {
	blocks []block
	free   int
	pinned int              // blocks with pins
	cached map[uint64]int32 // key to the block that holds it

	tells   bool // of what is cached and dropped, in changes
	changes []Change
}

func newPool(n int, tells bool) pool {
	p := pool{tells: tells, blocks: make([]block, n+1), free: n, cached: make(map[uint64]int32)}
	for i := range p.blocks {
		p.blocks[i].prev = int32(i) - 1
		p.blocks[i].next = int32(i) + 1
	}
	p.blocks[0].prev = int32(n)
	p.blocks[n].next = 0
	return p
}

func (p *pool) total() int      { return len(p.blocks) - 1 }
func (p *pool) sentinel() int32 { return int32(len(p.blocks) - 1) }

// take hands out the block that was unused for longest and forgets what it
// held. Caller must have seen that p.free > 0.
func (p *pool) take() int32 {
	i := p.blocks[p.sentinel()].next
	p.unlink(i)
	b := &p.blocks[i]
	if b.key != 0 {
		delete(p.cached, b.key)
		if p.tells {
			p.changes = append(p.changes, Change{Key: b.key, Dropped: true})
		}
		b.key = 0
	}
	b.refs = 1
	return i
}

// retain adds a reference to a block that holds something.
func (p *pool) retain(i int32) {
	b := &p.blocks[i]
	if b.refs == 0 {
		p.unlink(i)
	}
	b.refs++
}

// release drops a reference. The last one puts the block at the far end of
// the free list.
func (p *pool) release(i int32) {
	b := &p.blocks[i]
	b.refs--
	if b.refs > 0 {
		return
	}
	s := p.sentinel()
	last := p.blocks[s].prev
	b.prev, b.next = last, s
	p.blocks[last].next = i
	p.blocks[s].prev = i
	p.free++
}

// pin marks one of a block's references as that of a pinned sequence.
func (p *pool) pin(i int32) {
	b := &p.blocks[i]
	if b.pins++; b.pins == 1 {
		p.pinned++
	}
}

// unpin takes the mark back. The reference stays.
func (p *pool) unpin(i int32) {
	b := &p.blocks[i]
	if b.pins--; b.pins == 0 {
		p.pinned--
	}
}

// name makes block i findable under key, behind the block with the key before in
// request id. Where two blocks hold the same, the first stays the one that is found.
func (p *pool) name(i int32, key, before, id uint64) {
	if _, ok := p.cached[key]; ok {
		return
	}
	p.blocks[i].key = key
	p.cached[key] = i
	if p.tells {
		p.changes = append(p.changes, Change{Key: key, Before: before, ID: id})
	}
}

func (p *pool) unlink(i int32) {
	b := &p.blocks[i]
	p.blocks[b.prev].next = b.next
	p.blocks[b.next].prev = b.prev
	p.free--
}

// blockKey joins the hash of a block's content with the adapter it was computed
// under: the same text gives other keys and values there. It is never 0.
func blockKey(hash uint64, adapter uint32) uint64 {
	if adapter != 0 {
		// Mixed well, so that adapters do not cancel out in the XOR.
		hash ^= finalize(uint64(adapter) * 0x9e3779b97f4a7c15)
	}
	return max(hash, 1)
}
