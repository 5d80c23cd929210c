package residency

import "math/bits"

const (
	tableParts = 256 // so that growing moves one part in 256 and holds the lock briefly
	leastPart  = 8
)

// table finds items by their hash: open addressing with linear probing and deletion by moving back
// (Knuth, The Art of Computer Programming 3, section 6.4, algorithm R), cut in parts that grow alone.
// It holds numbers only, of items that know their hashes. The random odd multiplier keeps whoever
// chooses hashes from choosing which collide.
//
// The table of package prefixindex is of the same kind, and is another one on purpose: there a lookup must be
// fast, so slots have a part of the hash, without which those that find nothing take two to three times as long
// among 500,000 nodes; here a block must be small, and that would take a sixth more for each.
type table struct {
	hash  func(id uint32) uint64
	mult  uint64
	parts [tableParts]part
}

type part struct {
	ids []uint32 // 0: free
	n   int
}

func (t *table) locate(hash uint64) (*part, int) {
	p := hash * t.mult
	part := &t.parts[p>>56]
	high, _ := bits.Mul64(p<<8, uint64(len(part.ids)))
	return part, int(high)
}

// lookup returns the item with a hash, or 0.
func (t *table) lookup(hash uint64) uint32 {
	p, i := t.locate(hash)
	for p.n > 0 && p.ids[i] != 0 {
		if t.hash(p.ids[i]) == hash {
			return p.ids[i]
		}
		if i++; i == len(p.ids) {
			i = 0
		}
	}
	return 0
}

// insert puts in an item whose hash is not there.
func (t *table) insert(id uint32) {
	p, _ := t.locate(t.hash(id))
	if (p.n+1)*4 > len(p.ids)*3 {
		t.resize(p, max(leastPart, len(p.ids)*3/2))
	}
	t.place(p, id)
	p.n++
}

func (t *table) place(p *part, id uint32) {
	_, i := t.locate(t.hash(id))
	for p.ids[i] != 0 {
		if i++; i == len(p.ids) {
			i = 0
		}
	}
	p.ids[i] = id
}

// remove takes out an item that is there.
func (t *table) remove(id uint32) {
	p, i := t.locate(t.hash(id))
	n := len(p.ids)
	for p.ids[i] != id {
		i = (i + 1) % n
	}
	for j := (i + 1) % n; p.ids[j] != 0; j = (j + 1) % n {
		_, home := t.locate(t.hash(p.ids[j]))
		if (j-home+n)%n >= (j-i+n)%n { // its home is not after the hole: it may move there
			p.ids[i] = p.ids[j]
			i = j
		}
	}
	p.ids[i] = 0
	p.n--
	if p.n*4 < len(p.ids) && len(p.ids) > leastPart {
		t.resize(p, max(leastPart, p.n*2))
	}
}

func (t *table) resize(p *part, n int) {
	old := p.ids
	p.ids = make([]uint32, n)
	for _, id := range old {
		if id != 0 {
			t.place(p, id)
		}
	}
}

// bytes returns the memory of the table.
func (t *table) bytes() (n int64) {
	for i := range t.parts {
		n += int64(cap(t.parts[i].ids)) * 4
	}
	return n
}
