// Package mediaindex remembers which pictures, sounds and films servers have seen of late, so that their encoders'
// output may still be there: whatever is before them in a prompt.
//
// A server keeps so many tokens of media, those that were used last; and there is a bound on all that is remembered, of
// which what was used the longest ago goes first.
package mediaindex

import (
	"sync"

	"github.com/inferpick/inferpick/internal/slab"
	"github.com/inferpick/inferpick/internal/slots"
)

// Options bound an Index. All must be positive.
type Options struct {
	Pairs        int // of a medium and a server that has seen it, in all
	ServerTokens int // of media that one server keeps
}

// MaxMedia is how many media of a request are told apart.
const MaxMedia = 64

// Index remembers who has seen what. Safe for concurrent use. Make it with New.
type Index struct {
	o Options

	mu sync.Mutex
	// guarded by mu
	pairs   slab.Slab[pair]
	byKey   map[uint64]uint32 // the first pair of each medium
	servers []*server         // by slot; nil: free
	slots   slots.Set
	oldest  uint32 // pair, in the order in which they were used; 0: there is none
	newest  uint32
	n       int
}

// pair is a medium that a server has seen, by number; 0: none.
type pair struct {
	key          uint64
	slot         uint32
	tokens       uint32
	other        uint32 // the next pair of the same medium
	older, newer uint32 // of all
	prev, next   uint32 // of the same server, next is newer
}

// server is what is remembered of one.
type server struct {
	oldest, newest uint32
	tokens         int
}

// New returns an empty Index.
func New(o Options) *Index { return &Index{o: o, byKey: map[uint64]uint32{}} }

// Add enters a server, and returns its slot: a small number, that of a server that was removed if there is one.
func (x *Index) Add() (slot int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := x.slots.Take()
	for int(n) >= len(x.servers) {
		x.servers = append(x.servers, nil)
	}
	x.servers[n] = &server{}
	return int(n)
}

// Remove forgets a server.
func (x *Index) Remove(slot int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.serverAt(slot)
	if s == nil {
		return
	}
	for s.oldest != 0 {
		x.drop(s.oldest)
	}
	x.servers[slot] = nil
	x.slots.Give(uint32(slot))
}

func (x *Index) serverAt(slot int) *server {
	if uint(slot) >= uint(len(x.servers)) {
		return nil
	}
	return x.servers[slot]
}

// Seen returns which of the media each server has seen, by slot: bit i of a word is that of keys[i], of which a key of
// 0 is never seen and those beyond MaxMedia are passed over. The result is room, or as large as it must be.
func (x *Index) Seen(keys []uint64, room []uint64) []uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	if cap(room) < len(x.servers) {
		room = make([]uint64, len(x.servers))
	}
	room = room[:len(x.servers)]
	clear(room)
	for i, key := range keys[:min(len(keys), MaxMedia)] {
		for id := x.byKey[key]; id != 0; {
			p := x.pairs.At(id)
			room[p.slot] |= 1 << i
			id = p.other
		}
	}
	return room
}

// Sees notes that a server will have seen a medium of so many tokens, and reports whether it had. A key of 0, one that
// is larger than a server keeps, and a server that was removed are passed over.
func (x *Index) Sees(slot int, key uint64, tokens int) (had bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.serverAt(slot)
	if s == nil || key == 0 || tokens > x.o.ServerTokens {
		return false
	}
	id := x.find(slot, key)
	if had = id != 0; had {
		x.unlink(id)
	} else {
		id = x.pairs.Alloc()
		*x.pairs.At(id) = pair{key: key, slot: uint32(slot), tokens: uint32(max(tokens, 1)), other: x.byKey[key]}
		x.byKey[key] = id
		x.n++
	}
	x.link(id)
	for s.tokens > x.o.ServerTokens && s.oldest != id {
		x.drop(s.oldest)
	}
	for x.n > x.o.Pairs {
		x.drop(x.oldest)
	}
	return had
}

// Forget takes back that a server has seen a medium.
func (x *Index) Forget(slot int, key uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if id := x.find(slot, key); id != 0 {
		x.drop(id)
	}
}

// Len returns how many pairs there are.
func (x *Index) Len() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.n
}

// find returns the pair of a server and a medium; 0: there is none.
func (x *Index) find(slot int, key uint64) uint32 {
	id := x.byKey[key]
	for id != 0 && x.pairs.At(id).slot != uint32(slot) {
		id = x.pairs.At(id).other
	}
	return id
}

// link makes a pair the newest, of all and of its server.
func (x *Index) link(id uint32) {
	p := x.pairs.At(id)
	s := x.servers[p.slot]
	p.older, p.prev = x.newest, s.newest
	if x.newest != 0 {
		x.pairs.At(x.newest).newer = id
	} else {
		x.oldest = id
	}
	if s.newest != 0 {
		x.pairs.At(s.newest).next = id
	} else {
		s.oldest = id
	}
	x.newest, s.newest = id, id
	s.tokens += int(p.tokens)
}

// unlink takes a pair out of the orders.
func (x *Index) unlink(id uint32) {
	p := x.pairs.At(id)
	s := x.servers[p.slot]
	if p.older != 0 {
		x.pairs.At(p.older).newer = p.newer
	} else {
		x.oldest = p.newer
	}
	if p.newer != 0 {
		x.pairs.At(p.newer).older = p.older
	} else {
		x.newest = p.older
	}
	if p.prev != 0 {
		x.pairs.At(p.prev).next = p.next
	} else {
		s.oldest = p.next
	}
	if p.next != 0 {
		x.pairs.At(p.next).prev = p.prev
	} else {
		s.newest = p.prev
	}
	p.older, p.newer, p.prev, p.next = 0, 0, 0, 0
	s.tokens -= int(p.tokens)
}

// drop forgets a pair.
func (x *Index) drop(id uint32) {
	x.unlink(id)
	p := x.pairs.At(id)
	if first := x.byKey[p.key]; first != id {
		at := x.pairs.At(first)
		for at.other != id {
			at = x.pairs.At(at.other)
		}
		at.other = p.other
	} else if p.other != 0 {
		x.byKey[p.key] = p.other
	} else {
		delete(x.byKey, p.key)
	}
	x.pairs.Release(id)
	x.n--
}
