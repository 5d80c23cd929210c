package prefixindex

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Index tells which endpoints hold how much of a prompt in their cache. It is
// safe for concurrent use: questions run in parallel, changes one at a time. See
// the package comment for how it works. Make it with New.
type Index struct {
	opts  Options // as completed; never changes
	slots atomic.Int64

	mu sync.RWMutex

	// The tree, guarded by mu.
	nodes   slab[node]
	entries slab[entry]
	table   table

	// The endpoints by slot, guarded by mu.
	eps    []endpoint
	vacant []uint32 // slots free for use
	stale  stalest

	// Counts, guarded by mu.
	tick    uint64 // number of the last Record
	held    int    // blocks held, summed over endpoints
	blocks  int    // different blocks stored
	loose   int64  // bytes of runs and holder lists
	evicted uint64

	// Scratch of the writer, guarded by mu.
	path      []uint32
	keepNodes bool // do not join nodes now: somebody keeps entries in path
}

// endpoint is what the index knows of one slot.
type endpoint struct {
	head, tail uint32  // most and least recent entry; 0: none
	gen        uint32  // of the Endpoint that owns the slot
	live       bool    // false: removed
	inHeap     bool    // is in Index.stale
	used       int     // blocks held
	set        int     // capacity in blocks as told
	learned    float64 // part of it believed in, in [minLearned, 1]
}

// Endpoint names an endpoint of an Index. It is a small value to be kept and
// copied. A method called with an Endpoint that has been removed, or with the
// zero Endpoint, does nothing and finds nothing, even when another endpoint has
// got its slot by then: what comes late for an endpoint that has gone never counts
// for its successor.
type Endpoint struct {
	slot, gen uint32
}

// Slot returns where Match reports on the endpoint. Slots are small numbers
// and are used again after Remove.
func (e Endpoint) Slot() int { return int(e.slot) }

// New returns an empty index, or an error that names the option out of range.
func New(o Options) (*Index, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	x := &Index{opts: o}
	x.table.mult = rand.Uint64() | 1 // decides where things lie, never what is answered
	for i := range x.table.parts {
		x.table.parts[i].shift = 63
	}
	return x, nil
}

// Options returns the options with their defaults filled in.
func (x *Index) Options() Options { return x.opts }

// Hasher returns a Hasher for the block size of the index. Seed it with what
// separates prompts: see Seed.
func (x *Index) Hasher(seed uint64) Hasher { return NewHasher(x.opts.BlockBytes, seed) }

// Add enters a new endpoint, which holds nothing.
func (x *Index) Add() Endpoint {
	x.mu.Lock()
	defer x.mu.Unlock()
	var slot uint32
	if n := len(x.vacant); n > 0 {
		slot = x.vacant[n-1]
		x.vacant = x.vacant[:n-1]
	} else {
		slot = uint32(len(x.eps))
		x.eps = append(x.eps, endpoint{})
		x.slots.Store(int64(len(x.eps)))
	}
	ep := &x.eps[slot]
	ep.gen++
	ep.live, ep.set, ep.learned = true, x.opts.DefaultCapacity, 1
	x.enforceBytesLocked()
	return Endpoint{slot: slot, gen: ep.gen}
}

// Remove forgets an endpoint and all it holds. Its slot may be given to another
// from then on.
func (x *Index) Remove(e Endpoint) {
	x.mu.Lock()
	defer x.mu.Unlock()
	ep := x.endpointLocked(e)
	if ep == nil {
		return
	}
	x.clearLocked(e.slot)
	ep.live = false
	x.vacant = append(x.vacant, e.slot)
}

// Reset forgets what an endpoint holds, for example because it has restarted.
// Its capacity and what was learned of it stay.
func (x *Index) Reset(e Endpoint) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.endpointLocked(e) != nil {
		x.clearLocked(e.slot)
	}
}

func (x *Index) clearLocked(slot uint32) {
	for x.eps[slot].tail != 0 {
		x.dropTail(slot, maxCapacity)
	}
}

// endpointLocked returns what is known of e, nil if it has gone. Caller must
// hold x.mu, at least for reading.
func (x *Index) endpointLocked(e Endpoint) *endpoint {
	if int(e.slot) >= len(x.eps) {
		return nil
	}
	ep := &x.eps[e.slot]
	if !ep.live || ep.gen != e.gen {
		return nil
	}
	return ep
}

// Slots returns how long the out of Match has to be: one more than the largest
// slot there has been. It never falls.
func (x *Index) Slots() int { return int(x.slots.Load()) }

// Match sets out[slot], for every endpoint, to the number of leading blocks of
// the prompt that the endpoint holds, and returns how many endpoints hold any.
// All of out is written. Endpoints whose slot is beyond out are left out; size
// it with Slots, and one added since is missed until the next call. Match
// allocates nothing and does not count as use.
func (x *Index) Match(hashes []uint64, out []uint32) int {
	clear(out)
	x.mu.RLock()
	defer x.mu.RUnlock()
	if len(hashes) == 0 {
		return 0
	}
	id := x.lookup(hashes[0], 0)
	if id == 0 {
		return 0
	}
	matched := x.nodes.at(id).within(len(out))
	for depth := 0; ; {
		n := x.nodes.at(id)
		m := common(n.run, hashes[depth:])
		next := uint32(0)
		if m == len(n.run) && depth+m < len(hashes) {
			next = x.lookup(hashes[depth+m], id)
		}
		// Who holds the next node holds this one. If they are as many, they are
		// the same, and the next node has the better figure for all of them.
		if next == 0 || len(x.nodes.at(next).holders) != len(n.holders) {
			n.report(out, uint32(depth), uint32(m))
		}
		if next == 0 {
			return matched
		}
		id, depth = next, depth+m
	}
}

// within returns how many holders have a slot below limit.
func (n *node) within(limit int) int {
	if last := n.holders[len(n.holders)-1]; int(last.slot) < limit {
		return len(n.holders)
	}
	i, _ := n.find(uint32(limit))
	return i
}

// report writes for each holder the depth it reaches with this node, of which m
// blocks matched.
func (n *node) report(out []uint32, depth, m uint32) {
	for i := range n.holders {
		h := &n.holders[i]
		if int(h.slot) >= len(out) {
			return // sorted: so are the rest
		}
		out[h.slot] = depth + min(h.held, m)
	}
}

// MatchOne returns the number of leading blocks of the prompt that e holds.
func (x *Index) MatchOne(e Endpoint, hashes []uint64) int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.endpointLocked(e) == nil {
		return 0
	}
	depth, parent := 0, uint32(0)
	for depth < len(hashes) {
		id := x.lookup(hashes[depth], parent)
		if id == 0 {
			break
		}
		n := x.nodes.at(id)
		i, ok := n.find(e.slot)
		if !ok {
			break
		}
		m := min(common(n.run, hashes[depth:]), int(n.holders[i].held))
		depth += m
		if m < len(n.run) {
			break
		}
		parent = id
	}
	return depth
}

// Record enters that e now holds all blocks of the prompt, which thereby are its
// most recently used, and returns how many it was not known to hold. What the
// endpoint then holds beyond its capacity is dropped, least recently used
// first, of a chain the tail first. Blocks of the prompt beyond
// Options.MaxPromptBlocks or the capacity are ignored. When nothing is new,
// nothing is allocated.
func (x *Index) Record(e Endpoint, hashes []uint64) int {
	_, added := x.record(e, hashes)
	return added
}

// RecordOver is Record, and returns how many leading blocks of the prompt e was known to hold
// before: what MatchOne would have said.
func (x *Index) RecordOver(e Endpoint, hashes []uint64) int {
	all, added := x.record(e, hashes)
	return all - added
}

// record enters that e holds all of the prompt that it can, and returns how much that is, and
// how much of it is new.
func (x *Index) record(e Endpoint, hashes []uint64) (all, added int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	ep := x.endpointLocked(e)
	if ep == nil {
		return 0, 0
	}
	hashes = hashes[:min(len(hashes), x.opts.MaxPromptBlocks, ep.capacity())]
	before := ep.used
	x.tick++
	x.path = x.path[:0]
	for depth, parent := 0, uint32(0); depth < len(hashes); {
		id, n := x.step(e.slot, hashes[depth:], parent)
		x.path = append(x.path, x.hold(e.slot, id, uint32(n)))
		depth, parent = depth+n, id
	}
	x.touchPath(ep)
	added = ep.used - before
	x.shrinkLocked(e.slot, ep.capacity())
	x.enforceBytesLocked()
	return len(hashes), added
}

// step finds, or makes, the node under parent that rest goes on with, and
// returns how many blocks of rest lie in it. It leaves the tree so that the
// endpoint can hold exactly those blocks and touch nothing beyond.
func (x *Index) step(slot uint32, rest []uint64, parent uint32) (id uint32, held int) {
	id = x.lookup(rest[0], parent)
	if id == 0 {
		return x.newNode(rest, parent), len(rest)
	}
	n := x.nodes.at(id)
	m := common(n.run, rest)
	if m == len(n.run) {
		if m < len(rest) && n.children == 0 && len(n.holders) <= fewHolders {
			x.extend(n, rest[m:])
			m = len(rest)
		}
		return id, m
	}
	if m == len(rest) {
		if i, ok := n.find(slot); !ok || int(n.holders[i].held) <= m {
			return id, m
		}
		// The endpoint holds more of the run, and that was not used now.
	}
	return x.split(id, m), m
}

// touchPath makes the entries of x.path, which go from the root down, the most
// recent of the endpoint, deepest first, so that the root ends up in front. On
// the way it joins nodes that no longer need to be apart: they had the same age
// before this Record already. Without that condition, two prompts of which one
// begins the other would be split and joined in turn.
func (x *Index) touchPath(ep *endpoint) {
	last := len(x.path) - 1
	if last < 0 {
		return
	}
	joins, below := 0, x.path[last]
	for i := last - 1; i >= 0; i-- {
		id := x.entries.at(x.path[i]).node
		if joins < maxJoins && x.nodes.at(id).children == 1 && x.join(id) {
			joins++ // the entry of the upper one is gone
			continue
		}
		x.touch(ep, below)
		below = x.path[i]
	}
	x.touch(ep, below)
}

// Truncate enters that e does not hold the prompt beyond its first keep blocks:
// because the request never got there, or because the engine reported fewer
// cached tokens. Whatever else e was believed to hold that begins with the
// block after keep goes too, for it cannot be there without it. It returns how
// many blocks were dropped. After an engine has served the prompt it holds it
// again: call Record then.
func (x *Index) Truncate(e Endpoint, hashes []uint64, keep int) int {
	keep = max(keep, 0)
	x.mu.Lock()
	defer x.mu.Unlock()
	ep := x.endpointLocked(e)
	if ep == nil {
		return 0
	}
	before := ep.used
	for depth, parent := 0, uint32(0); keep < len(hashes); {
		id := x.lookup(hashes[depth], parent)
		if id == 0 {
			break
		}
		n := x.nodes.at(id)
		i, ok := n.find(e.slot)
		if !ok {
			break
		}
		m := min(common(n.run, hashes[depth:]), int(n.holders[i].held))
		if keep < depth+m {
			x.cutLocked(e.slot, n.holders[i], n, uint32(keep-depth))
			break
		}
		if m < len(n.run) {
			break
		}
		depth, parent = depth+m, id
	}
	return before - ep.used
}

// cutLocked lets an endpoint hold only the first keep blocks of n and nothing
// below. What it holds below is found by passing once over its list, from n's
// entry towards the less recent, where all descendants are and each comes after
// its parent: that is bounded by what the endpoint holds, while a node may have
// any number of children. Caller must hold x.mu.
func (x *Index) cutLocked(slot uint32, h holder, n *node, keep uint32) {
	if n.children == 0 || int(h.held) < len(n.run) {
		x.drop(slot, h.entry, keep)
		return
	}
	x.path = x.path[:0]
	first := x.entries.at(h.entry)
	first.mark = true
	for id := first.next; id != 0; {
		en := x.entries.at(id)
		if parent := x.nodes.at(en.node).parent; parent != 0 {
			p := x.nodes.at(parent)
			i, _ := p.find(slot)
			if x.entries.at(p.holders[i].entry).mark {
				en.mark = true
				x.path = append(x.path, id)
			}
		}
		id = en.next
	}
	first.mark = false
	x.keepNodes = true
	for i := len(x.path) - 1; i >= 0; i-- {
		x.drop(slot, x.path[i], 0)
	}
	x.keepNodes = false
	x.drop(slot, h.entry, keep)
}

// bytes returns the memory of the index. Caller must hold x.mu.
func (x *Index) bytes() int64 {
	return int64(unsafe.Sizeof(*x)) +
		x.nodes.bytes() + x.entries.bytes() +
		int64(x.table.charged)*int64(unsafe.Sizeof(tableSlot{})) + x.loose +
		int64(cap(x.eps))*int64(unsafe.Sizeof(endpoint{})) +
		int64(cap(x.stale.heap))*int64(unsafe.Sizeof(staleItem{})) +
		int64(cap(x.vacant)+cap(x.path))*4
}

// Stats is a reading of an Index.
type Stats struct {
	Bytes     int64  // memory, with all overheads
	MaxBytes  int64  // its bound
	Nodes     int    // runs of blocks without a branch
	Entries   int    // pairs of endpoint and node
	Blocks    int    // different blocks known
	Held      int    // blocks held, summed over the endpoints
	Endpoints int    // endpoints there are
	Slots     int    // how long the out of Match has to be
	Evicted   uint64 // blocks dropped for want of capacity or memory, since New
}

// Stats returns the present counts.
func (x *Index) Stats() Stats {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return Stats{
		Bytes: x.bytes(), MaxBytes: x.opts.MaxBytes,
		Nodes: x.nodes.live, Entries: x.entries.live,
		Blocks: x.blocks, Held: x.held,
		Endpoints: len(x.eps) - len(x.vacant), Slots: len(x.eps),
		Evicted: x.evicted,
	}
}

// Usage returns how many blocks e is believed to hold and how many it may.
// Both are 0 for an endpoint that has been removed.
func (x *Index) Usage(e Endpoint) (held, capacity int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	ep := x.endpointLocked(e)
	if ep == nil {
		return 0, 0
	}
	return ep.used, ep.capacity()
}
