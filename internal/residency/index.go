package residency

import (
	"math/rand/v2"
	"slices"
	"sync"
	"unsafe"

	"github.com/inferpick/inferpick/internal/slab"
	"github.com/inferpick/inferpick/types"
)

// Options bound an Index. All must be positive.
type Options struct {
	BlockBytes  int // size of a block of prompt
	MaxBlocks   int // blocks of one rank; what is stored beyond is ignored
	MaxIdle     int // blocks that are remembered although nobody holds them
	MaxSessions int // requests that are waited for to be bound

	// Seed is that of the hashes of prompts that are given as token ids, by adapter and salt. Nil: no
	// prompts are.
	Seed func(adapter, salt string) uint64
}

// Index keeps who holds what. Safe for concurrent use; emit is called with its lock held.
type Index struct {
	o Options

	mu       sync.Mutex
	blocks   slab.Slab[block]
	byHash   table
	texts    slab.Slab[text]
	byText   table
	holders  holders
	ranks    []*Rank             // by number; nil: free, or being swept
	members  map[uint32][]uint32 // numbers of ranks by endpoint
	free     []uint32
	idle     queue // bound blocks that nobody holds, without those before them
	held     int   // blocks that somebody holds
	sessions map[string]*session
	ended    []string          // names of those whose prompt is known
	batch    uint64            // number of the one that was applied last
	views    uint8             // tiers that were ever told of; the first always
	salts    map[uint32]string // by first block, of prompts whose tokens were told
	count    Stats

	ids   []uint32 // scratch
	path  []uint64
	bytes []byte
}

// block is a block of an engine's cache.
type block struct {
	hash     uint64
	parent   uint32 // the one before it; root: none; 0: not known
	text     uint32 // the last block of a prompt that is complete with it; 0: none
	holders  set
	children uint32 // how many name it as their parent, and flags below them
}

const (
	root = ^uint32(0) // parent of a first block

	bound    = 1 << 0 // text is known, if only to be none
	anchored = 1 << 1 // and known exactly, since prompts part here
	queued   = 1 << 2 // is in Index.idle
	exact    = 1 << 3 // bound by its tokens, as all before it are
	child    = 1 << 4 // one of block.children
)

func (b *block) is(flag uint32) bool { return b.children&flag != 0 }
func (b *block) parents() bool       { return b.children >= child }

// text is a block of prompts, as the prefix index names it.
type text struct {
	hash   uint64
	parent uint32 // 0: none
	depth  uint32 // how many blocks there are up to its end
	refs   uint32 // blocks and texts that name it
}

// Rank is one engine: one rank of an endpoint.
type Rank struct {
	endpoint uint32
	number   uint32 // as a holder
	blocks   int
	size     int // tokens a block
}

// Change is what is known anew of an endpoint: of a prompt, it holds Path[:Held] and nothing beyond.
type Change struct {
	Endpoint uint32
	Tier     types.KVTier // or a faster one
	Path     []uint64     // valid during the call only
	Held     int
	Cleared  bool // it holds nothing at all; the rest is unset
}

// Stats counts.
type Stats struct {
	Blocks   int    // known blocks, held or not
	Held     int    // summed over ranks
	Bound    int    // known blocks of which the text is known
	Bytes    int64  // memory
	Sessions int    // requests that are waited for
	Refused  uint64 // blocks beyond MaxBlocks, since New
	Unknown  uint64 // blocks of which only the hash was told, which was not known
	Conflict uint64 // blocks that were told with another parent than before, or with other tokens
	Unrooted uint64 // requests whose first block is not known
	Binds    uint64 // requests that were bound
}

// New returns an empty Index.
func New(o Options) *Index {
	x := &Index{o: o, sessions: map[string]*session{}, members: map[uint32][]uint32{}, views: 1, salts: map[uint32]string{}}
	x.byHash = table{mult: rand.Uint64() | 1, hash: func(id uint32) uint64 { return x.blocks.At(id).hash }}
	x.byText = table{mult: rand.Uint64() | 1, hash: func(id uint32) uint64 { return x.texts.At(id).hash }}
	x.ranks = make([]*Rank, 1)
	return x
}

// Add adds a rank, which holds nothing, of an endpoint that the caller numbers.
func (x *Index) Add(endpoint uint32) *Rank {
	x.mu.Lock()
	defer x.mu.Unlock()
	r := &Rank{endpoint: endpoint}
	x.enroll(r)
	return r
}

func (x *Index) enroll(r *Rank) {
	if n := len(x.free); n > 0 {
		r.number, x.free = x.free[n-1], x.free[:n-1]
	} else {
		r.number = uint32(len(x.ranks))
		x.ranks = append(x.ranks, nil)
	}
	r.blocks = 0
	x.ranks[r.number] = r
	x.members[r.endpoint] = append(x.members[r.endpoint], r.number)
}

// leave makes r no holder any more, and returns the number that is to be swept.
func (x *Index) leave(r *Rank) (old uint32) {
	old, r.number = r.number, 0
	x.ranks[old] = nil
	left := slices.DeleteFunc(x.members[r.endpoint], func(n uint32) bool { return n == old })
	if x.members[r.endpoint] = left; len(left) == 0 {
		delete(x.members, r.endpoint)
	}
	return old
}

// Drop forgets all that r holds, for good.
func (x *Index) Drop(r *Rank) {
	x.mu.Lock()
	if r.number == 0 {
		x.mu.Unlock()
		return
	}
	old := x.leave(r)
	x.mu.Unlock()
	x.sweep(old)
}

// Reset forgets all that r holds.
func (x *Index) Reset(r *Rank) {
	x.mu.Lock()
	if r.number == 0 {
		x.mu.Unlock()
		return
	}
	old := x.leave(r)
	x.enroll(r)
	x.mu.Unlock()
	x.sweep(old)
}

// sweep takes a holder who is no more out of all blocks. It holds the lock for short times only.
func (x *Index) sweep(holder uint32) {
	var left []uint64 // hashes, since with one block others may be forgotten
	x.inParts(func(ids []uint32) {
		left = left[:0]
		for _, id := range ids {
			if x.drop(id, holder, allTiers) {
				left = append(left, x.blocks.At(id).hash)
			}
		}
		for _, hash := range left {
			x.settle(x.byHash.lookup(hash))
		}
	})
	x.mu.Lock()
	x.free = append(x.free, holder)
	x.mu.Unlock()
}

// inParts calls f with all blocks, some of them at a time, with the lock held for each call alone.
func (x *Index) inParts(f func(ids []uint32)) {
	var ids []uint32
	for c, more := 0, true; more; c++ {
		x.mu.Lock()
		ids = x.blocks.AppendIDs(ids[:0], c)
		f(ids)
		more = c+1 < x.blocks.Chunks()
		x.mu.Unlock()
	}
}

// Retell tells what an endpoint holds of prompts, for somebody who did not listen before. It holds the
// lock for short times only; what changes meanwhile is told as always.
func (x *Index) Retell(endpoint uint32, emit func(Change)) {
	x.mu.Lock()
	known := x.count.Bound > 0
	x.mu.Unlock()
	if !known {
		return // as when a process has just started
	}
	tier := func(id uint32) uint8 { // beyond all if it is not held
		return x.holders.find(x.blocks.At(id).holders, x.members[endpoint]).fastest()
	}
	inner := map[uint32]bool{} // blocks with one behind them that says as much of them
	x.inParts(func(ids []uint32) {
		for _, id := range ids {
			b := x.blocks.At(id)
			if b.parent != 0 && b.parent != root && tier(id) <= tier(b.parent) && x.extends(b.text, x.blocks.At(b.parent).text) {
				inner[b.parent] = true
			}
		}
	})
	x.inParts(func(ids []uint32) {
		for _, id := range ids {
			if !inner[id] && x.blocks.At(id).text != 0 && tier(id) < types.KVTiers {
				x.confirm(endpoint, id, emit)
			}
		}
	})
}

// extends reports whether one text begins with another one, which is not empty.
func (x *Index) extends(at, start uint32) bool {
	for at != start && at != 0 {
		at = x.texts.At(at).parent
	}
	return at != 0
}

// Apply takes over what r told, in order, and tells what that changes.
func (x *Index) Apply(r *Rank, events []types.KVEvent, emit func(Change)) {
	x.mu.Lock()
	x.batch++
	var dead []uint32
	for i := range events {
		switch ev := &events[i]; {
		case ev.Kind == types.KVCleared && r.number != 0:
			dead = append(dead, x.clear(r, emit))
		case !ev.Full || r.number == 0: // counts for nothing, or r was dropped
		case ev.Kind == types.KVStored:
			x.stored(r, ev, emit)
		case ev.Kind == types.KVRemoved:
			if x.removed(r, ev, emit) && x.blocks.Len()-x.held > x.o.MaxIdle+x.count.Held {
				x.count.Refused += uint64(r.blocks)
				dead = append(dead, x.clear(r, emit))
			}
		}
	}
	x.mu.Unlock()
	for _, holder := range dead {
		x.sweep(holder)
	}
}

// clear makes r hold nothing, and returns the number that is to be swept.
func (x *Index) clear(r *Rank, emit func(Change)) (old uint32) {
	old = x.leave(r)
	x.enroll(r)
	emit(Change{Endpoint: r.endpoint, Cleared: true})
	return old
}

// key is the hash of a block within its group.
func key(ev *types.KVEvent, hash uint64) uint64 {
	return hash ^ uint64(ev.Group)*0x9e3779b97f4a7c15
}

func (x *Index) stored(r *Rank, ev *types.KVEvent, emit func(Change)) {
	before := root
	if ev.HasParent {
		if before = x.byHash.lookup(key(ev, ev.Parent)); before == 0 && ev.BlockSize > 0 && len(ev.Hashes) > 0 {
			before = x.newBlock(key(ev, ev.Parent)) // to be joined when it is told of
		}
	} else if ev.BlockSize == 0 {
		before = 0
	}
	if ev.BlockSize > 0 {
		r.size = ev.BlockSize
	}
	x.views |= 1 << ev.Tier
	first := before
	x.ids = x.ids[:0]
	for _, hash := range ev.Hashes {
		id := x.byHash.lookup(key(ev, hash))
		switch {
		case id == 0 && ev.BlockSize == 0:
			x.count.Unknown++
			before = 0
			continue
		case r.blocks >= x.o.MaxBlocks:
			x.count.Refused++
			continue
		case id == 0:
			id = x.newBlock(key(ev, hash))
		}
		x.link(id, before)
		x.hold(id, r, 1<<ev.Tier)
		x.ids = append(x.ids, id)
		before = id
	}
	x.settle(first)
	if len(x.ids) == 0 {
		return
	}
	if at := x.bindTokens(ev, first); at < len(x.ids) && x.blocks.At(x.ids[at]).holders&isList != 0 {
		x.announce(x.ids, at, nil, emit)
	}
	x.deepest(r.endpoint, x.ids, emit)
	x.heard(r, ev, x.blocks.At(x.ids[len(x.ids)-1]).hash, len(x.ids), emit)
}

// hold makes r hold a block in a tier.
func (x *Index) hold(id uint32, r *Rank, t tiers) {
	b := x.blocks.At(id)
	if b.holders == 0 {
		x.held++
	}
	if x.holders.add(&b.holders, r.number, t) {
		r.blocks++
		x.count.Held++
	}
}

// drop makes a holder not hold a block in some tiers, and reports whether it held it in no other.
func (x *Index) drop(id, holder uint32, t tiers) bool {
	b := x.blocks.At(id)
	if !x.holders.remove(&b.holders, holder, t) {
		return false
	}
	x.count.Held--
	if b.holders == 0 {
		x.held--
	}
	return true
}

// deepest tells of the last of ids that is the end of a block of a prompt, and returns the slowest
// tier that is read for it.
func (x *Index) deepest(endpoint uint32, ids []uint32, emit func(Change)) (slowest uint8, ok bool) {
	for i := len(ids) - 1; i >= 0; i-- {
		if x.blocks.At(ids[i]).text != 0 {
			return x.confirm(endpoint, ids[i], emit)
		}
	}
	return 0, false
}

// confirm tells that the endpoint holds what ends with a block, if it holds all before it.
func (x *Index) confirm(endpoint, id uint32, emit func(Change)) (slowest uint8, ok bool) {
	end, ranks := x.blocks.At(id), x.members[endpoint]
	for at := id; at != root; {
		if at == 0 {
			return 0, false
		}
		b := x.blocks.At(at)
		t := x.holders.find(b.holders, ranks)
		if t == 0 {
			return 0, false
		}
		slowest = max(slowest, t.fastest())
		at = b.parent
	}
	path := x.pathOf(end.text)
	for view := slowest; view < types.KVTiers; view++ {
		if x.views>>view&1 != 0 {
			emit(Change{Endpoint: endpoint, Tier: types.KVTier(view), Path: path, Held: len(path)})
		}
	}
	return slowest, true
}

// pathOf is the prompt up to the end of a block. It is valid until the next call.
func (x *Index) pathOf(at uint32) []uint64 {
	n := int(x.texts.At(at).depth)
	if cap(x.path) < n {
		x.path = make([]uint64, n+n/2)
	}
	x.path = x.path[:n]
	for ; at != 0; at = x.texts.At(at).parent {
		n--
		x.path[n] = x.texts.At(at).hash
	}
	return x.path
}

// removed takes blocks from r. It reports whether one has to be remembered for the sake of those behind
// it. An engine that drops beginnings of prompts and keeps the ends, which nobody can use, must not
// make that any number.
func (x *Index) removed(r *Rank, ev *types.KVEvent, emit func(Change)) (hole bool) {
	x.ids = x.ids[:0]
	ranks := x.members[r.endpoint]
	for _, hash := range ev.Hashes {
		id := x.byHash.lookup(key(ev, hash))
		if id == 0 {
			continue
		}
		b := x.blocks.At(id)
		if x.drop(id, r.number, 1<<ev.Tier) {
			r.blocks--
		}
		if b.text != 0 && !x.within(b, ranks, uint8(ev.Tier)) {
			x.ids = append(x.ids, id) // also if it was not known to be held: it may have been predicted
		}
	}
	for _, id := range x.ids {
		x.lost(r.endpoint, id, ranks, emit)
	}
	for _, hash := range ev.Hashes { // by hash: with one block, others may be forgotten
		id := x.byHash.lookup(key(ev, hash))
		hole = hole || id != 0 && x.blocks.At(id).holders == 0 && x.blocks.At(id).parents()
		x.settle(id)
	}
	return hole
}

// lost tells that the endpoint does not hold what needs a block, in the tiers in which it does not.
func (x *Index) lost(endpoint, id uint32, ranks []uint32, emit func(Change)) {
	b := x.blocks.At(id)
	for view := uint8(0); view < types.KVTiers; view++ {
		if x.views>>view&1 == 0 || x.within(b, ranks, view) {
			continue
		}
		if keep, told := x.kept(b.parent, ranks, view); !told && keep < x.depth(id) {
			emit(Change{Endpoint: endpoint, Tier: types.KVTier(view), Path: x.pathOf(b.text), Held: keep})
		}
	}
}

// kept is how many blocks of text are complete with the last block up to id that is held, or told if
// it are fewer than with id: that was told when id was lost.
func (x *Index) kept(id uint32, ranks []uint32, tier uint8) (keep int, told bool) {
	if id == root || id == 0 {
		return 0, false
	}
	depth := x.depth(id)
	for ; id != root && id != 0; id = x.blocks.At(id).parent {
		if x.depth(id) < depth {
			return 0, true
		}
		if x.within(x.blocks.At(id), ranks, tier) {
			return depth, false
		}
	}
	return 0, depth > 0
}

// within reports whether one of ranks holds a block in a tier, or in a faster one.
func (x *Index) within(b *block, ranks []uint32, tier uint8) bool {
	t := x.holders.find(b.holders, ranks)
	return t != 0 && t.fastest() <= tier
}

func (x *Index) newBlock(hash uint64) uint32 {
	id := x.blocks.Alloc()
	x.blocks.At(id).hash = hash
	x.byHash.insert(id)
	return id
}

// link makes before the parent of a block, unless it has one.
func (x *Index) link(id, before uint32) {
	b := x.blocks.At(id)
	if before == 0 || before == id || b.parent == before {
		return
	}
	if b.parent != 0 {
		x.count.Conflict++
		return
	}
	if b.parents() && before != root { // it may be an ancestor of what comes before it, if somebody lies
		for at := before; at != 0 && at != root; at = x.blocks.At(at).parent {
			if at == id {
				x.count.Conflict++
				return
			}
		}
	}
	b.parent = before
	if before != root {
		x.blocks.At(before).children += child
	}
}

// settle forgets a block that is not needed any more, and those before it. One that is bound, with
// those before it, is not needed when there are too many that nobody holds, and it is the oldest.
func (x *Index) settle(id uint32) {
	id = x.forgetUnbound(id)
	if id == 0 {
		return
	}
	x.blocks.At(id).children |= queued
	x.idle.push(id)
	for x.blocks.Len()-x.held > x.o.MaxIdle && x.idle.len() > 0 {
		id := x.idle.pop()
		x.blocks.At(id).children &^= queued
		for x.unneeded(id) {
			id = x.forget(id)
		}
	}
}

// forgetUnbound forgets a block and those before it, up to one that is needed or bound. It returns
// that if it is bound and not needed, or else 0.
func (x *Index) forgetUnbound(id uint32) uint32 {
	for x.unneeded(id) {
		if x.blocks.At(id).is(bound) {
			return id
		}
		id = x.forget(id)
	}
	return 0
}

// unneeded reports whether nobody holds a block, or names it.
func (x *Index) unneeded(id uint32) bool {
	if id == 0 || id == root {
		return false
	}
	b := x.blocks.At(id)
	return b.holders == 0 && !b.parents() && !b.is(queued)
}

// forget forgets a block that nobody holds or names, and returns the one before it.
func (x *Index) forget(id uint32) (before uint32) {
	b := x.blocks.At(id)
	before = b.parent
	if before != 0 && before != root {
		x.blocks.At(before).children -= child
	}
	if b.is(bound) {
		x.count.Bound--
	}
	x.unref(b.text)
	delete(x.salts, id)
	x.byHash.remove(id)
	x.blocks.Release(id)
	return before
}

// unref drops one reference to a text.
func (x *Index) unref(at uint32) {
	for at != 0 {
		t := x.texts.At(at)
		if t.refs--; t.refs > 0 {
			return
		}
		parent := t.parent
		x.byText.remove(at)
		x.texts.Release(at)
		at = parent
	}
}

// Stats returns the counts.
func (x *Index) Stats() Stats {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.count
	s.Blocks, s.Sessions = x.blocks.Len(), len(x.sessions)
	s.Bytes = x.blocks.Bytes() + x.byHash.bytes() + x.texts.Bytes() + x.byText.bytes() + x.holders.bytes() +
		x.idle.bytes() + int64(cap(x.ids))*4 + int64(cap(x.path))*8 + int64(unsafe.Sizeof(*x))
	return s
}
