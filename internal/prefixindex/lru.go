package prefixindex

// entry records that an endpoint holds the beginning of a node's run, and when it was last used. The
// entries of an endpoint form a doubly linked list, most recent first. All blocks of an entry were used
// at the same tick.
type entry struct {
	tick uint64 // of the Record that used it last
	node uint32
	prev uint32 // towards the more recent; 0: none
	next uint32 // towards the less recent; 0: none
	mark bool   // scratch of Truncate
}

func (x *Index) pushFront(ep *endpoint, id uint32) {
	en := x.entries.At(id)
	en.prev, en.next = 0, ep.head
	if ep.head != 0 {
		x.entries.At(ep.head).prev = id
	} else {
		ep.tail = id
	}
	ep.head = id
}

// insertBefore links id in as the next more recent to at.
func (x *Index) insertBefore(ep *endpoint, id, at uint32) {
	x.walksOn(at, id)
	en, old := x.entries.At(id), x.entries.At(at)
	en.prev, en.next = old.prev, at
	if old.prev != 0 {
		x.entries.At(old.prev).next = id
	} else {
		ep.head = id
	}
	old.prev = id
}

func (x *Index) unlink(ep *endpoint, id uint32) {
	en := x.entries.At(id)
	x.walksOn(id, en.next)
	if en.prev != 0 {
		x.entries.At(en.prev).next = en.next
	} else {
		ep.head = en.next
	}
	if en.next != 0 {
		x.entries.At(en.next).prev = en.prev
	} else {
		ep.tail = en.prev
	}
}

// touch makes an entry the most recent of its endpoint.
func (x *Index) touch(ep *endpoint, id uint32) {
	x.entries.At(id).tick = x.tick
	if ep.head == id {
		return
	}
	x.unlink(ep, id)
	x.pushFront(ep, id)
}

// shrinkLocked drops the least recently used blocks of an endpoint until it
// holds at most limit. Caller must hold x.mu.
func (x *Index) shrinkLocked(slot uint32, limit int) {
	for x.eps[slot].used > limit {
		x.evicted += uint64(x.dropTail(slot, x.eps[slot].used-limit))
	}
}

// dropTail drops up to limit blocks of the endpoint's least recent entry and returns how many. For the
// endpoint that entry is a leaf, since everything above it is more recent; so no chain loses its head
// before its tail.
func (x *Index) dropTail(slot uint32, limit int) int {
	id := x.eps[slot].tail
	n := x.nodes.At(x.entries.At(id).node)
	i, _ := n.find(slot)
	held := int(n.holders[i].held)
	k := min(held, limit)
	x.drop(slot, id, uint32(held-k))
	return k
}

// enforceBytesLocked evicts the least recently used entries of all endpoints until the index is within
// its memory bound. Caller must hold x.mu.
func (x *Index) enforceBytesLocked() {
	for x.bytes() > x.opts.MaxBytes {
		slot, ok := x.stalestLocked()
		if !ok {
			return
		}
		x.evicted += uint64(x.dropTail(slot, MaxCapacity))
	}
}

// stalest is a heap of endpoints by the tick of their least recent entry. Its ticks are lower bounds,
// corrected only at the top: the least recent entry of an endpoint only becomes more recent, so that
// most calls of Record have nothing to do here.
type stalest struct {
	heap []staleItem
}

type staleItem struct {
	tick uint64
	slot uint32
}

func (s *stalest) push(it staleItem) {
	s.heap = append(s.heap, it)
	for i := len(s.heap) - 1; i > 0; {
		up := (i - 1) / 2
		if s.heap[up].tick <= s.heap[i].tick {
			return
		}
		s.heap[up], s.heap[i] = s.heap[i], s.heap[up]
		i = up
	}
}

func (s *stalest) pop() {
	last := len(s.heap) - 1
	s.heap[0] = s.heap[last]
	s.heap = s.heap[:last]
	s.sink()
}

// sink moves the top down to its place.
func (s *stalest) sink() {
	for i := 0; ; {
		c := 2*i + 1
		if c >= len(s.heap) {
			return
		}
		if c+1 < len(s.heap) && s.heap[c+1].tick < s.heap[c].tick {
			c++
		}
		if s.heap[i].tick <= s.heap[c].tick {
			return
		}
		s.heap[i], s.heap[c] = s.heap[c], s.heap[i]
		i = c
	}
}

// stalestLocked returns the endpoint with the least recent entry of all. Caller must hold x.mu.
func (x *Index) stalestLocked() (slot uint32, ok bool) {
	for len(x.stale.heap) > 0 {
		top := &x.stale.heap[0]
		ep := &x.eps[top.slot]
		if ep.tail == 0 {
			ep.inHeap = false
			x.stale.pop()
			continue
		}
		if t := x.entries.At(ep.tail).tick; t != top.tick {
			top.tick = t
			x.stale.sink()
			continue
		}
		return top.slot, true
	}
	return 0, false
}
