// Package slab allocates items that name each other by number.
package slab

import (
	"fmt"
	"math/bits"
	"unsafe"
)

const chunkLen = 256

// Slab allocates items by number, from 1. It grows by chunks that never move, so that pointers to items
// stay valid until the item is freed, and frees chunks that become empty. Compared with pointers,
// 4-byte numbers halve the size of links and leave the garbage collector nothing to follow. The zero
// value is empty. Callers lock it themselves.
type Slab[T any] struct {
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
	avail bool // is in Slab.avail
}

// At returns the item with the number id, which must be in use.
func (s *Slab[T]) At(id uint32) *T {
	return &s.chunks[id/chunkLen][id%chunkLen]
}

// Alloc returns the number of a zero item.
func (s *Slab[T]) Alloc() uint32 {
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
	panic("slab: chunk with room has none")
}

// roomy returns a chunk that has room.
func (s *Slab[T]) roomy() uint32 {
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

// Release frees an item.
func (s *Slab[T]) Release(id uint32) {
	var zero T
	*s.At(id) = zero
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

// Bytes returns the memory that the slab occupies.
func (s *Slab[T]) Bytes() int64 {
	var item T
	return int64(s.held)*chunkLen*int64(unsafe.Sizeof(item)) +
		int64(cap(s.chunks))*8 + int64(cap(s.meta))*int64(unsafe.Sizeof(chunkMeta{})) +
		int64(cap(s.avail)+cap(s.spare))*4
}

// Len returns the number of items in use.
func (s *Slab[T]) Len() int { return s.live }

// Chunks returns the number of chunks that there may be, some of them empty.
func (s *Slab[T]) Chunks() int { return len(s.chunks) }

// AppendIDs appends the numbers of the items in use in chunk c.
func (s *Slab[T]) AppendIDs(ids []uint32, c int) []uint32 {
	if c >= len(s.chunks) || s.chunks[c] == nil {
		return ids
	}
	for i := range uint32(chunkLen) {
		if s.meta[c].free[i/64]>>(i%64)&1 == 0 {
			ids = append(ids, uint32(c)*chunkLen+i)
		}
	}
	return ids
}

// Each calls f for every item in use, until it returns an error, which it returns.
func (s *Slab[T]) Each(f func(id uint32, item *T) error) error {
	var ids []uint32
	for c := range s.chunks {
		ids = s.AppendIDs(ids[:0], c)
		for _, id := range ids {
			if err := f(id, s.At(id)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Check returns an error if the count of chunks is wrong. It is for tests.
func (s *Slab[T]) Check() error {
	n := 0
	for _, c := range s.chunks {
		if c != nil {
			n++
		}
	}
	if n != s.held {
		return fmt.Errorf("slab: %d chunks counted as %d", n, s.held)
	}
	return nil
}
