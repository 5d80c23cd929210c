package residency

import "slices"

// Retell tells all that is known of what an endpoint holds, to whom did not listen when it was told. It holds
// the lock for short times only.
func (x *Index) Retell(endpoint uint32, emit func(Change)) {
	for _, id := range x.ends(endpoint) {
		x.mu.Lock()
		x.deepest(endpoint, x.upFrom(id), emit)
		x.mu.Unlock()
	}
}

// ends are the blocks that an endpoint holds without one after them.
func (x *Index) ends(endpoint uint32) (ends []uint32) {
	var ids []uint32
	inner := map[uint32]bool{}
	for c, more := 0, true; more; c++ {
		x.mu.Lock()
		ids = x.blocks.AppendIDs(ids[:0], c)
		for _, id := range ids {
			if b := x.blocks.At(id); x.holders.find(b.holders, x.members[endpoint]) != 0 {
				ends = append(ends, id)
				inner[b.parent] = true
			}
		}
		more = c+1 < x.blocks.Chunks()
		x.mu.Unlock()
	}
	n := 0
	for _, id := range ends {
		if !inner[id] {
			ends[n] = id
			n++
		}
	}
	return ends[:n]
}

// upFrom are the blocks up to one, as far as they are known.
func (x *Index) upFrom(id uint32) []uint32 {
	x.ids = x.ids[:0]
	for ; id != 0 && id != root; id = x.blocks.At(id).parent {
		x.ids = append(x.ids, id)
	}
	slices.Reverse(x.ids)
	return x.ids
}
