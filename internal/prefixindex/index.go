package prefixindex

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/inferpick/inferpick/internal/slab"
)

// Index estimates which endpoints hold how much of a prompt in their caches. It is safe for concurrent
// use: lookups run in parallel, changes one at a time. Create it with New. See the package comment for
// how it works.
type Index struct {
	opts  Options // as completed; never changes
	slots atomic.Int64

	mu sync.RWMutex

	// The tree, guarded by mu.
	nodes   slab.Slab[node]
	entries slab.Slab[entry]
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

	walking sync.Mutex // held by AppendAnchors
	walkAt  uint32     // the entry that it looks at next, 0: none; guarded by mu, and by walking for reading
}

// endpoint is the state of one slot.
type endpoint struct {
	head, tail uint32  // most and least recent entry; 0: none
	gen        uint32  // of the Endpoint that owns the slot
	live       bool    // false: removed
	inHeap     bool    // is in Index.stale
	used       int     // blocks held
	set        int     // capacity in blocks as told
	learned    float64 // part of it believed in, in [minLearned, 1]
	keptSet    int     // if set is this, kept is what learned begins with; 0: none is
	kept       float64
}

// Endpoint identifies an endpoint of an Index. Methods called with the zero Endpoint or with one that
// was removed do and find nothing, even if its slot has been reused: late calls for a removed endpoint
// never affect its successor.
type Endpoint struct {
	slot, gen uint32
}

// Slot returns the endpoint's index in the result of Match. Slots are small numbers and are reused
// after Remove.
func (e Endpoint) Slot() int { return int(e.slot) }

// New returns an empty index, or an error that lists all invalid options.
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

// Hasher returns a Hasher with the block size of the index. For seed see Seed.
func (x *Index) Hasher(seed uint64) Hasher { return NewHasher(x.opts.BlockBytes, seed) }

// Add adds a new endpoint, which holds nothing.
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
	ep.live, ep.set, ep.learned, ep.keptSet = true, x.opts.DefaultCapacity, 1, 0
	x.enforceBytesLocked()
	return Endpoint{slot: slot, gen: ep.gen}
}

// Remove removes an endpoint. Its slot may be reused.
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

// Reset removes everything an endpoint holds, for example because it restarted, but keeps its
// capacity.
func (x *Index) Reset(e Endpoint) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.endpointLocked(e) != nil {
		x.clearLocked(e.slot)
	}
}

func (x *Index) clearLocked(slot uint32) {
	for x.eps[slot].tail != 0 {
		x.dropTail(slot, MaxCapacity)
	}
}

// endpointLocked returns the state of e, or nil if it was removed. Caller must hold x.mu, at least for
// reading.
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

// Slots returns the length that out needs in Match: one more than the largest slot so far.
func (x *Index) Slots() int { return int(x.slots.Load()) }

// Match sets out[slot] to the number of leading blocks of the prompt that each endpoint holds, and
// returns how many endpoints hold any. All of out is written. Endpoints with slots beyond out are
// omitted; use Slots for its length. Match does not allocate and does not count as use.
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
	matched := x.nodes.At(id).within(len(out))
	for depth := 0; ; {
		n := x.nodes.At(id)
		m := common(n.run, hashes[depth:])
		next := uint32(0)
		if m == len(n.run) && depth+m < len(hashes) {
			next = x.lookup(hashes[depth+m], id)
		}
		// The holders of the next node hold this one too. If there are as many, they are the
		// same, and the next node has the larger number for all of them.
		if next == 0 || len(x.nodes.At(next).holders) != len(n.holders) {
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

// report writes the depth that each holder reaches in this node, of which m blocks matched.
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
		n := x.nodes.At(id)
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

// Record records that e now holds all blocks of the prompt, as its most recently used ones, and
// returns how many of them are new there. Blocks beyond the endpoint's capacity are evicted, least
// recently used first and the tail of a chain before its head. Blocks of the prompt beyond
// Options.MaxPromptBlocks or the capacity are ignored. If nothing is new, nothing is allocated.
func (x *Index) Record(e Endpoint, hashes []uint64) int {
	_, added := x.record(e, hashes)
	return added
}

// RecordOver is Record, but returns how many leading blocks of the prompt e held before, as MatchOne
// does.
func (x *Index) RecordOver(e Endpoint, hashes []uint64) int {
	all, added := x.record(e, hashes)
	return all - added
}

// record records as many blocks of the prompt as e can hold, and returns their number and how many are
// new.
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

// step finds or creates the node under parent with which rest continues, and returns how many blocks
// of rest are in it. Afterwards the endpoint can hold exactly those blocks and touch nothing beyond.
func (x *Index) step(slot uint32, rest []uint64, parent uint32) (id uint32, held int) {
	id = x.lookup(rest[0], parent)
	if id == 0 {
		return x.newNode(rest, parent), len(rest)
	}
	n := x.nodes.At(id)
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
		// The endpoint holds more of the run, which was not used now.
	}
	return x.split(id, m), m
}

// touchPath makes the entries of x.path, which go from the root down, the endpoint's most recent ones,
// deepest first, so that the root ends up in front. It joins nodes that need not be separate because
// they had the same age even before this Record; without that condition, two prompts of which one is a
// prefix of the other would be split and joined in turn.
func (x *Index) touchPath(ep *endpoint) {
	last := len(x.path) - 1
	if last < 0 {
		return
	}
	joins, below := 0, x.path[last]
	for i := last - 1; i >= 0; i-- {
		id := x.entries.At(x.path[i]).node
		if joins < maxJoins && x.nodes.At(id).children == 1 && x.join(id) {
			joins++ // the entry of the upper one is gone
			continue
		}
		x.touch(ep, below)
		below = x.path[i]
	}
	x.touch(ep, below)
}

// Truncate records that e does not hold the prompt beyond its first keep blocks, because the request
// never got there or the engine reported fewer cached tokens. It also drops everything else that e was
// believed to hold below the block after keep, since an engine cannot use it. It returns the number of
// blocks dropped. Once the engine has served the prompt, call Record.
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
		n := x.nodes.At(id)
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

// cutLocked makes an endpoint hold only the first keep blocks of n and nothing below. It finds what is
// below in one pass over the endpoint's list, from n's entry towards less recent ones, where all
// descendants are, each after its parent. That is bounded by what the endpoint holds, while a node may
// have any number of children. Caller must hold x.mu.
func (x *Index) cutLocked(slot uint32, h holder, n *node, keep uint32) {
	if n.children == 0 || int(h.held) < len(n.run) {
		x.drop(slot, h.entry, keep)
		return
	}
	x.path = x.path[:0]
	first := x.entries.At(h.entry)
	first.mark = true
	for id := first.next; id != 0; {
		en := x.entries.At(id)
		if parent := x.nodes.At(en.node).parent; parent != 0 {
			p := x.nodes.At(parent)
			i, _ := p.find(slot)
			if x.entries.At(p.holders[i].entry).mark {
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
		x.nodes.Bytes() + x.entries.Bytes() +
		int64(x.table.charged)*int64(unsafe.Sizeof(tableSlot{})) + x.loose +
		int64(cap(x.eps))*int64(unsafe.Sizeof(endpoint{})) +
		int64(cap(x.stale.heap))*int64(unsafe.Sizeof(staleItem{})) +
		int64(cap(x.vacant)+cap(x.path))*4
}

// Stats describes the size of an Index.
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

// Stats returns the current counts.
func (x *Index) Stats() Stats {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return Stats{
		Bytes: x.bytes(), MaxBytes: x.opts.MaxBytes,
		Nodes: x.nodes.Len(), Entries: x.entries.Len(),
		Blocks: x.blocks, Held: x.held,
		Endpoints: len(x.eps) - len(x.vacant), Slots: len(x.eps),
		Evicted: x.evicted,
	}
}

// Usage returns how many blocks e is believed to hold, and its capacity. Both are 0 if e was removed.
func (x *Index) Usage(e Endpoint) (held, capacity int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	ep := x.endpointLocked(e)
	if ep == nil {
		return 0, 0
	}
	return ep.used, ep.capacity()
}
