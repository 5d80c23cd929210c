package prefixindex

import (
	"math/bits"
	"unsafe"
)

const chunkLen = 256

// slab allocates items by number, from 1. It grows by chunks that never move, so that pointers to items
// stay valid until the item is freed, and frees chunks that become empty. Compared with pointers,
// 4-byte numbers halve the size of links and leave the garbage collector nothing to follow.
type slab[T any] struct {
	chunks []*[chunkLen]T
	meta   []chunkMeta
	avail  []uint32 // chunks that may have room, the last is tried first
	spare  []uint32 // numbers of chunks that were given back
	live   int      // items in use
	held   int      // chunks in memory
}

type chunkMeta struct {
	free  [chunkLen / 64]uint64 // bit set: item is free
	used  uint16
	avail bool // is in slab.avail
}

// at returns the item with the number id, which must be in use.
func (s *slab[T]) at(id uint32) *T {
	return &s.chunks[id/chunkLen][id%chunkLen]
}

// alloc returns the number of a zero item.
func (s *slab[T]) alloc() uint32 {
	c := s.roomy()
	m := &s.meta[c]
	for i, w := range m.free {
		if w == 0 {
			continue
		}
		bit := bits.TrailingZeros64(w)
		m.free[i] &^= 1 << bit
		m.used++
		s.live++
		return c*chunkLen + uint32(i*64+bit)
	}
	panic("prefixindex: chunk with room has none")
}

// roomy returns a chunk that has room.
func (s *slab[T]) roomy() uint32 {
	for len(s.avail) > 0 {
		c := s.avail[len(s.avail)-1]
		if s.chunks[c] != nil && s.meta[c].used < chunkLen {
			return c
		}
		s.meta[c].avail = false
		s.avail = s.avail[:len(s.avail)-1]
	}
	if len(s.chunks) == 0 { // chunk 0 does not exist, hence no item 0
		s.chunks = append(s.chunks, nil)
		s.meta = append(s.meta, chunkMeta{})
	}
	var c uint32
	if n := len(s.spare); n > 0 {
		c = s.spare[n-1]
		s.spare = s.spare[:n-1]
	} else {
		c = uint32(len(s.chunks))
		s.chunks = append(s.chunks, nil)
		s.meta = append(s.meta, chunkMeta{})
	}
	s.chunks[c] = new([chunkLen]T)
	s.held++
	m := &s.meta[c]
	for i := range m.free {
		m.free[i] = ^uint64(0)
	}
	m.avail = true
	s.avail = append(s.avail, c)
	return c
}

// release frees an item.
func (s *slab[T]) release(id uint32) {
	var zero T
	*s.at(id) = zero
	c, i := id/chunkLen, id%chunkLen
	m := &s.meta[c]
	m.free[i/64] |= 1 << (i % 64)
	m.used--
	s.live--
	if m.used == 0 {
		s.chunks[c] = nil
		s.held--
		s.spare = append(s.spare, c)
		return
	}
	if !m.avail {
		m.avail = true
		s.avail = append(s.avail, c)
	}
}

// bytes returns the memory that the slab occupies.
func (s *slab[T]) bytes() int64 {
	var item T
	return int64(s.held)*chunkLen*int64(unsafe.Sizeof(item)) +
		int64(cap(s.chunks))*8 + int64(cap(s.meta))*int64(unsafe.Sizeof(chunkMeta{})) +
		int64(cap(s.avail)+cap(s.spare))*4
}
