// Package mediaindex remembers which pictures, sounds and films servers have seen of late, so that their encoders'
// output may still be there: whatever is before them in a prompt.
//
// A server keeps so many tokens of media, those that were used last; and there is a bound on all that is remembered, of
// which what was used the longest ago goes first.
package mediaindex

import (
	"sync"

	"github.com/inferpick/inferpick/internal/list"
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
	byKey   map[uint64]*pair // the first pair of each medium
	servers []*server        // by slot; nil: free
	slots   slots.Set
	all     list.List[pair] // those used the longest ago first
	n       int             // of these
}

// pair is a medium that a server has seen.
type pair struct {
	key    uint64
	at     *server
	tokens int
	other  *pair // the next pair of the same medium

	inAll, inServer list.Node[pair]
}

// server is what is remembered of one.
type server struct {
	slot   int
	pairs  list.List[pair] // those used the longest ago first
	tokens int
}

// New returns an empty Index.
func New(o Options) *Index { return &Index{o: o, byKey: map[uint64]*pair{}} }

// Add enters a server, and returns its slot: a small number, that of a server that was removed if there is one.
func (x *Index) Add() (slot int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := x.slots.Take()
	for int(n) >= len(x.servers) {
		x.servers = append(x.servers, nil)
	}
	x.servers[n] = &server{slot: int(n)}
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
	for s.pairs.Head != nil {
		x.drop(s.pairs.Head.Of)
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
		for p := x.byKey[key]; p != nil; p = p.other {
			room[p.at.slot] |= 1 << i
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
	p := x.find(slot, key)
	if had = p != nil; had {
		x.unlink(p)
	} else {
		p = &pair{key: key, at: s, tokens: max(tokens, 1), other: x.byKey[key]}
		x.byKey[key] = p
	}
	x.link(p)
	for s.tokens > x.o.ServerTokens && s.pairs.Head.Of != p {
		x.drop(s.pairs.Head.Of)
	}
	for x.n > x.o.Pairs {
		x.drop(x.all.Head.Of)
	}
	return had
}

// Forget takes back that a server has seen a medium.
func (x *Index) Forget(slot int, key uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if p := x.find(slot, key); p != nil {
		x.drop(p)
	}
}

// Len returns how many pairs there are.
func (x *Index) Len() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.n
}

// find returns the pair of a server and a medium; nil: there is none.
func (x *Index) find(slot int, key uint64) *pair {
	p := x.byKey[key]
	for p != nil && p.at.slot != slot {
		p = p.other
	}
	return p
}

// link makes a pair the one that was used last, of all and of its server.
func (x *Index) link(p *pair) {
	x.all.Push(p, &p.inAll)
	p.at.pairs.Push(p, &p.inServer)
	p.at.tokens += p.tokens
	x.n++
}

// unlink takes a pair out of the orders.
func (x *Index) unlink(p *pair) {
	x.all.Remove(&p.inAll)
	p.at.pairs.Remove(&p.inServer)
	p.at.tokens -= p.tokens
	x.n--
}

// drop forgets a pair.
func (x *Index) drop(p *pair) {
	x.unlink(p)
	switch first := x.byKey[p.key]; {
	case first != p:
		for first.other != p {
			first = first.other
		}
		first.other = p.other
	case p.other != nil:
		x.byKey[p.key] = p.other
	default:
		delete(x.byKey, p.key)
	}
}
