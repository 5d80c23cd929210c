package residency

import (
	"cmp"
	"math/bits"
	"slices"
)

// set is who holds a block, and in which tiers: one holder, or the number of a list of them. 0: nobody.
type set uint32

// tiers is a set of types.KVTier.
type tiers uint8

const (
	tierBits       = 4
	allTiers tiers = 1<<tierBits - 1
	isList   set   = 1 << 31

	fewHolders = 4 // room of a list that is kept when the list is not used any more
)

func (t tiers) fastest() uint8 { return uint8(bits.TrailingZeros8(uint8(t))) }

// member is one holder with the tiers.
func member(holder uint32, t tiers) set { return set(holder)<<tierBits | set(t) }

func (s set) holder() uint32 { return uint32(s >> tierBits) }
func (s set) tiers() tiers   { return tiers(s) & allTiers }

// holders keeps the lists of blocks with more than one holder.
type holders struct {
	lists [][]set // by number, each in the order of the holders
	free  []uint32
	room  int // of all lists
}

func place(list []set, holder uint32) (int, bool) {
	return slices.BinarySearchFunc(list, holder, func(m set, h uint32) int { return cmp.Compare(m.holder(), h) })
}

// add adds a tier, and reports whether the holder is new.
func (h *holders) add(s *set, holder uint32, t tiers) bool {
	switch {
	case *s == 0:
		*s = member(holder, t)
		return true
	case *s&isList == 0 && s.holder() == holder:
		*s |= set(t)
		return false
	case *s&isList == 0:
		*s = h.list(*s)
	}
	list := h.lists[*s&^isList]
	i, there := place(list, holder)
	if there {
		list[i] |= set(t)
		return false
	}
	h.room -= cap(list)
	list = slices.Insert(list, i, member(holder, t))
	h.room += cap(list)
	h.lists[*s&^isList] = list
	return true
}

// list makes a list of one.
func (h *holders) list(m set) set {
	var n uint32
	if k := len(h.free); k > 0 {
		n, h.free = h.free[k-1], h.free[:k-1]
	} else {
		n = uint32(len(h.lists))
		h.lists = append(h.lists, nil)
	}
	if h.lists[n] == nil {
		h.lists[n] = make([]set, 0, 2)
		h.room += 2
	}
	h.lists[n] = append(h.lists[n], m)
	return isList | set(n)
}

// remove takes away tiers, and reports whether the holder has none any more, and had some.
func (h *holders) remove(s *set, holder uint32, t tiers) bool {
	if *s&isList == 0 {
		if *s == 0 || s.holder() != holder {
			return false
		}
		if *s &^= set(t); s.tiers() == 0 {
			*s = 0
			return true
		}
		return false
	}
	n := *s &^ isList
	list := h.lists[n]
	i, there := place(list, holder)
	if !there {
		return false
	}
	if list[i] &^= set(t); list[i].tiers() != 0 {
		return false
	}
	list = slices.Delete(list, i, i+1)
	h.lists[n] = list
	if len(list) == 1 {
		*s = list[0]
		h.lists[n] = list[:0]
		if cap(list) > fewHolders {
			h.room -= cap(list)
			h.lists[n] = nil
		}
		h.free = append(h.free, uint32(n))
	}
	return true
}

// find returns the tiers in which one of those asked for holds it.
func (h *holders) find(s set, of []uint32) (t tiers) {
	if s == 0 {
		return 0
	}
	for _, holder := range of {
		if s&isList == 0 {
			if s.holder() == holder {
				t |= s.tiers()
			}
			continue
		}
		list := h.lists[s&^isList]
		if i, there := place(list, holder); there {
			t |= list[i].tiers()
		}
	}
	return t
}

// each calls f for every holder.
func (h *holders) each(s set, f func(holder uint32)) {
	switch {
	case s == 0:
	case s&isList == 0:
		f(s.holder())
	default:
		for _, m := range h.lists[s&^isList] {
			f(m.holder())
		}
	}
}

func (h *holders) bytes() int64 {
	return int64(h.room)*4 + int64(cap(h.lists))*24 + int64(cap(h.free))*4
}
