package prefixindex

import "slices"

// Bounds of operations that only save memory, growing a leaf in place and joining a node with its only
// child, so that no Record holds the lock for long.
const (
	fewHolders = 8  // of a node for which it is done
	maxJoins   = 16 // in one Record
)

// node is a run of consecutive blocks without a branch. It takes 64 bytes, one cache line.
type node struct {
	run      []uint64 // chained hashes; at least one
	holders  []holder // by slot; at least one, at least one of them holds all
	parent   uint32   // 0: the run starts a prompt
	children uint32   // how many
	childXor uint32   // of the children's numbers: with one child, that child
	full     uint32   // how many holders hold the whole run
}

// holder records that an endpoint holds the first blocks of a run.
type holder struct {
	slot  uint32
	held  uint32 // 1 to len(run)
	entry uint32 // in the endpoint's list
}

// find returns the position of the holder with the slot, or the one for it, and whether there is one.
func (n *node) find(slot uint32) (int, bool) {
	lo, hi := 0, len(n.holders)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if n.holders[mid].slot < slot {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(n.holders) && n.holders[lo].slot == slot
}

// common returns the length of the common prefix of a and b, whose first elements are equal. Chained
// hashes that are equal at one position are equal at all earlier ones, so it tries the end first and
// bisects the rest.
func common(a, b []uint64) int {
	k := min(len(a), len(b))
	if a[k-1] == b[k-1] {
		return k
	}
	lo, hi := 1, k-1 // a[lo-1] == b[lo-1], a[hi] != b[hi]
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if a[mid] == b[mid] {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// setRun and setHolders store a slice and account for its memory.
func (x *Index) setRun(n *node, run []uint64) {
	x.loose += runBytes(run) - runBytes(n.run)
	x.blocks += len(run) - len(n.run)
	n.run = run
}

func (x *Index) setHolders(n *node, hs []holder) {
	x.loose += holderBytes(hs) - holderBytes(n.holders)
	n.holders = hs
}

func runBytes(run []uint64) int64 { return int64(cap(run)) * 8 }

// holderBytes rounds up to the allocator's smallest step.
func holderBytes(hs []holder) int64 { return (int64(cap(hs))*12 + 7) &^ 7 }

// clone copies a slice. The capacity of the copy is what the allocator really provided.
func clone[T any](s []T) []T { return append([]T(nil), s...) }

// newNode creates a node without holders or children under parent.
func (x *Index) newNode(run []uint64, parent uint32) uint32 {
	id := x.nodes.Alloc()
	n := x.nodes.At(id)
	x.setRun(n, clone(run))
	n.parent = parent
	if parent != 0 {
		p := x.nodes.At(parent)
		p.children++
		p.childXor ^= id
	}
	x.tableSet(id)
	return id
}

// removeNode frees a node that nobody holds, and that therefore has no children.
func (x *Index) removeNode(id uint32) {
	x.tableDelete(id)
	n := x.nodes.At(id)
	parent := n.parent
	x.setRun(n, nil)
	x.setHolders(n, nil)
	x.nodes.Release(id)
	if parent == 0 {
		return
	}
	p := x.nodes.At(parent)
	p.children--
	p.childXor ^= id
	if p.children == 1 && !x.keepNodes {
		x.join(parent)
	}
}

// hold makes an endpoint hold at least the first held blocks of a node and
// returns its entry there. The entry has yet to be touched.
func (x *Index) hold(slot, id, held uint32) uint32 {
	n, ep := x.nodes.At(id), &x.eps[slot]
	i, ok := n.find(slot)
	before := uint32(0)
	if ok {
		before = n.holders[i].held
		if before >= held {
			return n.holders[i].entry
		}
		n.holders[i].held = held
	} else {
		en := x.entries.Alloc()
		x.entries.At(en).node = id
		x.pushFront(ep, en)
		x.setHolders(n, slices.Insert(n.holders, i, holder{slot: slot, held: held, entry: en}))
		if !ep.inHeap {
			ep.inHeap = true
			x.stale.push(staleItem{tick: x.tick, slot: slot})
		}
	}
	if int(held) == len(n.run) {
		n.full++
	}
	ep.used += int(held - before)
	x.held += int(held - before)
	return n.holders[i].entry
}

// drop lets an endpoint hold only the first held blocks of an entry's node, 0
// for none. The endpoint must hold nothing below that node.
func (x *Index) drop(slot, en, held uint32) {
	id := x.entries.At(en).node
	n, ep := x.nodes.At(id), &x.eps[slot]
	i, _ := n.find(slot)
	before := n.holders[i].held
	ep.used -= int(before - held)
	x.held -= int(before - held)
	if int(before) == len(n.run) {
		n.full--
	}
	if held > 0 {
		n.holders[i].held = held
	} else {
		x.unlink(ep, en)
		x.entries.Release(en)
		if len(n.holders) == 1 {
			x.removeNode(id)
			return
		}
		x.setHolders(n, slices.Delete(n.holders, i, i+1))
		x.fitHolders(n)
	}
	if n.full == 0 {
		x.trim(n)
	}
}

// fitHolders shrinks a list of holders that is mostly empty.
func (x *Index) fitHolders(n *node) {
	if cap(n.holders) > fewHolders && len(n.holders)*4 <= cap(n.holders) {
		x.setHolders(n, clone(n.holders))
	}
}

// trim drops the blocks at the end of a run that nobody holds. Such a node has no children, since an
// endpoint that holds a child holds all of its parent. Memory is freed by halves, so that a run that
// shrinks block by block is copied only a logarithmic number of times.
func (x *Index) trim(n *node) {
	longest := uint32(0)
	for _, h := range n.holders {
		if h.held > longest {
			longest, n.full = h.held, 0
		}
		if h.held == longest {
			n.full++
		}
	}
	run := n.run[:longest]
	if 2*len(run) <= cap(run) {
		run = clone(run)
	}
	x.setRun(n, run)
}

// extend appends blocks to the run of a node without children. Its full count
// is 0 until the endpoint that has them is entered by hold.
func (x *Index) extend(n *node, more []uint64) {
	run := n.run
	if cap(run)-len(run) >= len(more) {
		run = append(run, more...)
	} else {
		run = slices.Concat(run, more) // no doubling: memory matters more than the copy
	}
	x.setRun(n, run)
	n.full = 0
}

// split cuts the run of a node after k blocks and returns the new node with the first part. The old node
// keeps the second part and its children, which therefore need not be found. Endpoints that hold more
// than k blocks get a second entry, just more recent than the one they have.
func (x *Index) split(id uint32, k int) uint32 {
	upper := x.nodes.Alloc()
	u, n := x.nodes.At(upper), x.nodes.At(id)
	x.tableDelete(id)
	if p := n.parent; p != 0 {
		x.nodes.At(p).childXor ^= id ^ upper
	}
	u.parent, u.children, u.childXor = n.parent, 1, id
	n.parent = upper
	x.setRun(u, clone(n.run[:k]))
	x.setRun(n, clone(n.run[k:]))
	x.tableSet(upper)
	x.tableSet(id)

	x.setHolders(u, clone(n.holders))
	lower := n.holders[:0]
	for i := range u.holders {
		h := &u.holders[i]
		if int(h.held) >= k {
			u.full++
		}
		if int(h.held) <= k {
			x.entries.At(h.entry).node = upper
			continue
		}
		en := x.entries.Alloc()
		e := x.entries.At(en)
		e.node, e.tick = upper, x.entries.At(h.entry).tick
		x.insertBefore(&x.eps[h.slot], en, h.entry)
		lower = append(lower, holder{slot: h.slot, held: h.held - uint32(k), entry: h.entry})
		h.held, h.entry = uint32(k), en
	}
	x.setHolders(n, lower)
	x.fitHolders(n)
	return upper
}

// join undoes a split: it prepends the run of a node to that of its only child, if every endpoint used
// both at the same tick, so that one entry for both loses nothing. The child stays, with its entries.
// join reports whether it did so.
func (x *Index) join(id uint32) bool {
	p := x.nodes.At(id)
	child := p.childXor
	c := x.nodes.At(child)
	if len(p.holders) > fewHolders {
		return false
	}
	for _, h := range c.holders {
		i, _ := p.find(h.slot)
		if x.entries.At(p.holders[i].entry).tick != x.entries.At(h.entry).tick {
			return false
		}
	}
	x.tableDelete(child)
	x.tableDelete(id)
	if p.parent != 0 {
		x.nodes.At(p.parent).childXor ^= id ^ child
	}
	c.parent = p.parent
	joined := clone(p.holders)
	for i := range joined {
		h := &joined[i]
		j, ok := c.find(h.slot)
		if !ok {
			x.entries.At(h.entry).node = child
			continue
		}
		x.unlink(&x.eps[h.slot], h.entry)
		x.entries.Release(h.entry)
		h.held += c.holders[j].held
		h.entry = c.holders[j].entry
	}
	x.setHolders(c, joined)
	x.setRun(c, slices.Concat(p.run, c.run))
	x.tableSet(child)
	x.setRun(p, nil)
	x.setHolders(p, nil)
	x.nodes.Release(id)
	return true
}
