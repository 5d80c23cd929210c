package hearsay

import (
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
)

// Book is what was once known: by hashes, who holds what. Nothing is added to it, and nothing is lost of it. It is
// read in rounds, in each of which a hash is taken once. Make it with NewBook. Safe for concurrent use.
type Book struct {
	mult  uint64
	shift uint
	slots []leaf
	who   []uint32 // those of one hash are together
}

// leaf is what is known of one hash.
type leaf struct {
	hash    uint64        // 0: there is none
	from, n uint32        // of Book.who
	taken   atomic.Uint32 // the round in which it was taken last; 0: in none
}

// NewBook returns a Book of what is held by each of some. 0 stands for nothing.
func NewBook(held [][]uint64) *Book {
	words := 0
	for _, hashes := range held {
		words += len(hashes)
	}
	size := 2 << bits.Len(uint(words))
	b := &Book{shift: uint(64 - bits.TrailingZeros(uint(size))), slots: make([]leaf, size), who: make([]uint32, words)}
	b.mult = rand.Uint64() | 1 // decides where things lie, never what is answered: who makes hashes up cannot crowd them
	for _, hashes := range held {
		for _, h := range hashes {
			if h == 0 {
				continue
			}
			at := b.find(h)
			at.hash = h
			at.n++
		}
	}
	from := uint32(0)
	for i := range b.slots {
		b.slots[i].from = from
		from += b.slots[i].n
		b.slots[i].n = 0
	}
	for who, hashes := range held {
		for _, h := range hashes {
			if h == 0 {
				continue
			}
			at := b.find(h)
			b.who[at.from+at.n] = uint32(who)
			at.n++
		}
	}
	return b
}

// find returns the slot of a hash, or the free one where it would be. Half of them are free.
func (b *Book) find(hash uint64) *leaf {
	for i := hash * b.mult >> b.shift; ; i++ {
		if at := &b.slots[i&uint64(len(b.slots)-1)]; at.hash == hash || at.hash == 0 {
			return at
		}
	}
}

// Look reports whether a hash is in the book, and whether it was not taken in a round, counted from 1, or a later one.
func (b *Book) Look(hash uint64, round uint32) (known, fresh bool) {
	at := b.find(hash)
	return at.n > 0, at.n > 0 && at.taken.Load() < round
}

// Take returns who holds what a hash stands for, as places in what NewBook was given, if that was not taken in a round
// or a later one. It is not to be changed.
func (b *Book) Take(hash uint64, round uint32) []uint32 {
	at := b.find(hash)
	for {
		last := at.taken.Load()
		if at.n == 0 || last >= round {
			return nil
		}
		if at.taken.CompareAndSwap(last, round) {
			return b.who[at.from : at.from+at.n]
		}
	}
}
