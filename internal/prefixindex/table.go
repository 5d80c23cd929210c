package prefixindex

import "math/bits"

const (
	tableParts   = 256 // so that growing moves one part in 256 and holds the lock briefly
	minPartSlots = 8
)

// table finds a node by the hash of its first block and its parent. It is an
// open-addressed hash table with linear probing and deletion by moving back
// (Knuth, The Art of Computer Programming 3, section 6.4, algorithm R), cut in
// parts that grow and shrink alone. Chained hashes are well mixed already; the
// random odd multiplier keeps a client from choosing which slots collide. The
// parent is part of the key, so that even equal hashes at different places are
// different nodes.
type table struct {
	mult    uint64
	parts   [tableParts]tablePart
	n       int // nodes in it
	charged int // slots it would have if all parts were equally full
}

// account keeps charged, which stands for the memory of the table. What the
// parts really have together is close to it but depends on the multiplier, and
// what is evicted for want of memory must not depend on chance.
func (t *table) account() {
	if t.n*4 > t.charged*3 {
		t.charged = max(minPartSlots*tableParts, 2*t.charged)
	}
	if t.n*8 < t.charged && t.charged > minPartSlots*tableParts {
		t.charged /= 2
	}
}

type tablePart struct {
	slots []tableSlot
	n     int
	shift uint8 // 64 - log2(len(slots))
}

type tableSlot struct {
	tag  uint32 // low half of the hash: saves visiting most nodes that are not it (see package residency, which has none)
	node uint32 // 0: free
}

func (t *table) locate(hash uint64) (*tablePart, int) {
	p := hash * t.mult
	part := &t.parts[p>>56]
	return part, int(p << 8 >> part.shift)
}

// lookup returns the node that starts with hash under parent, or 0.
func (x *Index) lookup(hash uint64, parent uint32) uint32 {
	part, i := x.table.locate(hash)
	if part.n == 0 {
		return 0
	}
	for mask := len(part.slots) - 1; ; i = (i + 1) & mask {
		s := part.slots[i]
		if s.node == 0 {
			return 0
		}
		if s.tag == uint32(hash) {
			if n := x.nodes.At(s.node); n.parent == parent && n.run[0] == hash {
				return s.node
			}
		}
	}
}

// tableSet puts a node into the table under its present key.
func (x *Index) tableSet(id uint32) {
	hash := x.nodes.At(id).run[0]
	part, _ := x.table.locate(hash)
	if (part.n+1)*4 > len(part.slots)*3 {
		x.tableResize(part, max(minPartSlots, 2*len(part.slots)))
	}
	x.tablePlace(part, id)
	part.n++
	x.table.n++
	x.table.account()
}

func (x *Index) tablePlace(part *tablePart, id uint32) {
	hash := x.nodes.At(id).run[0]
	_, i := x.table.locate(hash)
	for mask := len(part.slots) - 1; part.slots[i].node != 0; {
		i = (i + 1) & mask
	}
	part.slots[i] = tableSlot{tag: uint32(hash), node: id}
}

// tableDelete takes a node out; its key must be what it was put in with.
func (x *Index) tableDelete(id uint32) {
	part, i := x.table.locate(x.nodes.At(id).run[0])
	mask := len(part.slots) - 1
	for part.slots[i].node != id {
		i = (i + 1) & mask
	}
	for j := (i + 1) & mask; part.slots[j].node != 0; j = (j + 1) & mask {
		_, home := x.table.locate(x.nodes.At(part.slots[j].node).run[0])
		if (j-home)&mask >= (j-i)&mask { // its home is not after the hole: it may move there
			part.slots[i] = part.slots[j]
			i = j
		}
	}
	part.slots[i] = tableSlot{}
	part.n--
	x.table.n--
	x.table.account()
	if part.n*8 < len(part.slots) && len(part.slots) > minPartSlots {
		x.tableResize(part, len(part.slots)/2)
	}
}

func (x *Index) tableResize(part *tablePart, slots int) {
	old := part.slots
	part.slots = make([]tableSlot, slots)
	part.shift = uint8(64 - bits.TrailingZeros(uint(slots)))
	for _, s := range old {
		if s.node != 0 {
			x.tablePlace(part, s.node)
		}
	}
}
