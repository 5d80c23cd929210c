package prefixindex

import (
	"math/bits"
	"slices"
)

// This file is which blocks of a prompt are anchors: the few by which others are told what an endpoint holds.
// Chained hashes make one of them say as much as all before it. They are 4 blocks apart, so that a turn of a
// conversation is told from what all conversations begin with, and farther apart the deeper they are: about 32
// between a depth and twice that.

// IsAnchor reports whether the block at a depth, counted from 1, is an anchor.
func IsAnchor(depth int) bool {
	return depth > 0 && (depth < 3 || depth%anchorStep(depth) == 0)
}

func anchorStep(depth int) int { return max(4, 1<<bits.Len(uint(depth))>>6) }

// mostAnchored is the depth of the deepest anchor: 16 MiB of prompt in blocks of 256 bytes.
const mostAnchored = 1 << 16

// anchors are the depths of all of them.
var anchors = func() (d []int) {
	for depth := 1; depth <= mostAnchored; depth++ {
		if IsAnchor(depth) {
			d = append(d, depth)
		}
	}
	return d
}()

// Anchors returns the depths of the anchors among the first blocks of a prompt, the shallowest first. They are not
// to be changed.
func Anchors(blocks int) []int {
	n, found := slices.BinarySearch(anchors, blocks)
	if found {
		n++
	}
	return anchors[:n]
}

// walkPage is how much is looked at, in anchors and nodes, before AppendAnchors lets changes through.
const walkPage = 256

// AppendAnchors appends the hashes of the anchors of what e holds, at most so many: what was used last first, and of
// a prompt its beginning first. It is for who wants to know all at leisure: changes go on meanwhile, so that what is
// used during the call may be missing, and what is evicted may be there, or there twice.
func (x *Index) AppendAnchors(dst []uint64, e Endpoint, most int) []uint64 {
	x.walking.Lock()
	defer x.walking.Unlock()
	most += len(dst)
	for more := x.beginWalk(e); more; {
		dst, more = x.walk(dst, e, most)
	}
	return dst
}

// beginWalk goes to what e has used last. As all that only the walk changes, it is guarded by mu for reading.
func (x *Index) beginWalk(e Endpoint) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	ep := x.endpointLocked(e)
	if ep == nil {
		return false
	}
	x.walkAt = ep.head
	return true
}

// walk appends the anchors of the next entries of e, and reports whether there are more.
func (x *Index) walk(dst []uint64, e Endpoint, most int) ([]uint64, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	ends := map[uint32]int{}
	for work := 0; work < walkPage; work++ {
		if x.walkAt == 0 || len(dst) >= most {
			x.walkAt = 0
			return dst, false
		}
		en := x.entries.At(x.walkAt)
		n := x.nodes.At(en.node)
		start, steps := x.endOf(n.parent, ends)
		if n.children > 0 {
			ends[en.node] = start + len(n.run)
		}
		i, _ := n.find(e.slot)
		before, held := len(dst), start+int(n.holders[i].held)
		for _, d := range Anchors(held)[len(Anchors(start)):] {
			if len(dst) < most {
				dst = append(dst, n.run[d-start-1])
			}
		}
		work += steps + len(dst) - before
		x.walkAt = en.next
	}
	return dst, true
}

// endOf returns the depth of the last block of a node, and how many nodes it looked at. ends are those that are known.
func (x *Index) endOf(id uint32, ends map[uint32]int) (depth, steps int) {
	for at := id; at != 0; steps++ {
		if end, known := ends[at]; known {
			depth += end
			break
		}
		n := x.nodes.At(at)
		depth += len(n.run)
		at = n.parent
	}
	if steps > 1 {
		ends[id] = depth
	}
	return depth, steps
}

// walksOn keeps the walk in the list while an entry is taken out of it.
func (x *Index) walksOn(id, next uint32) {
	if x.walkAt == id {
		x.walkAt = next
	}
}
