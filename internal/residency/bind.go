package residency

import (
	"slices"

	"github.com/inferpick/inferpick/types"
)

// Prompt is what is known of a request whose blocks are to be bound.
type Prompt struct {
	Hashes []uint64 // of its whole blocks, chained; kept
	Bytes  int
	Tokens int // as the engine counted them; 0: not known, so that events are to tell it
}

// session is a request by the name that its engine repeats.
type session struct {
	endpoint uint32
	last     uint64 // the last block that was told of it
	told     bool
	size     int // tokens a block
	prompt   Prompt
	decode   decode
}

// decode finds where an answer begins, if nobody says how long the prompt was. An engine tells of what a
// step has completed: of many blocks while it computes the prompt, or of its last few, and then, each time
// that the answer has filled one, of one block alone. So the prompt ends within the block in which a row of
// these begins. One that is told of at its end, as SGLang's, shows nothing.
type decode struct {
	batch uint64 // number of the batch that told last
	grown int    // blocks that it told of
	row   int    // batches in a row that told of one block each, up to that one
	from  uint64 // the block before the first of them; 0: none
}

const decoding = 2 // batches in a row

// tells takes an event of so many blocks.
func (d *decode) tells(batch, before uint64, blocks int, follows bool) {
	if d.row >= decoding {
		return
	}
	if batch != d.batch {
		d.batch, d.grown = batch, 0
	}
	switch d.grown += blocks; {
	case d.grown > 1 || !follows:
		d.row = 0
	case d.row == 0:
		d.row, d.from = 1, before
	default:
		d.row++
	}
}

// tokens returns how many tokens the prompt has of which p and the answer are the blocks, 0 if that is
// not known.
func (x *Index) tokens(p []uint32, s *session) int {
	if s.decode.row < decoding {
		return 0
	}
	whole := 0
	for s.decode.from != 0 && (whole == 0 || x.blocks.At(p[whole-1]).hash != s.decode.from) {
		if whole++; whole > len(p) {
			return 0
		}
	}
	return whole*s.size + s.size/2
}

// Expect waits for what an endpoint tells of a request, until Forget or Bind. Beyond MaxSessions
// nothing happens.
func (x *Index) Expect(name string, endpoint uint32) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.sessions) < x.o.MaxSessions {
		x.sessions[name] = &session{endpoint: endpoint}
	}
}

// Forget ends the waiting: the request was not served.
func (x *Index) Forget(name string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.sessions, name)
}

// Bind binds what was told of a request to its prompt, and what will be told of it for as long as
// there is room for those that have ended.
func (x *Index) Bind(name string, p Prompt, emit func(Change)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.sessions[name]
	if s == nil {
		return
	}
	if len(p.Hashes) == 0 {
		delete(x.sessions, name)
		return
	}
	s.prompt = p
	if s.told {
		x.bind(s, emit)
	}
	x.ended = append(x.ended, name)
	if len(x.ended) > x.o.MaxSessions/2 {
		delete(x.sessions, x.ended[0])
		x.ended = x.ended[1:]
	}
}

// heard notes which block a request has reached, with an event of so many blocks.
func (x *Index) heard(r *Rank, ev *types.KVEvent, last uint64, blocks int, emit func(Change)) {
	if ev.SessionID == "" || ev.BlockSize == 0 {
		return
	}
	s := x.sessions[ev.SessionID]
	if s == nil || s.endpoint != r.endpoint {
		return
	}
	before := uint64(0)
	if ev.HasParent {
		before = key(ev, ev.Parent)
	}
	s.decode.tells(x.batch, before, blocks, !s.told || before == s.last)
	s.told, s.last, s.size = true, last, ev.BlockSize
	if len(s.prompt.Hashes) > 0 {
		x.bind(s, emit)
	}
}

// bind binds the blocks of a request's prompt, and tells what that makes known of who holds them.
func (x *Index) bind(s *session, emit func(Change)) {
	id := x.byHash.lookup(s.last)
	if id == 0 {
		return // evicted already
	}
	p := x.prefix(id)
	if p == nil {
		x.count.Unrooted++
		return
	}
	if x.blocks.At(p[0]).is(exact) {
		return // by tokens, which leave nothing to be learned
	}
	if s.prompt.Tokens <= 0 {
		if s.prompt.Tokens = x.tokens(p, s); s.prompt.Tokens == 0 {
			return
		}
	}
	// The block in which the prompt ends and the answer begins is whole once there is an answer, and all of
	// the prompt is found again by whoever goes on with it.
	p = p[:min(len(p), s.prompt.Tokens/s.size+1)]
	changed := x.match(p, s)
	x.count.Binds++
	if changed < len(p) {
		x.announce(p, changed, s, emit)
	}
}

// prefix returns the blocks up to one, from the first, or nil if that is not known.
func (x *Index) prefix(id uint32) []uint32 {
	x.ids = x.ids[:0]
	for ; id != root; id = x.blocks.At(id).parent {
		if id == 0 {
			return nil
		}
		x.ids = append(x.ids, id)
	}
	for i, j := 0, len(x.ids)-1; i < j; i, j = i+1, j-1 {
		x.ids[i], x.ids[j] = x.ids[j], x.ids[i]
	}
	return x.ids
}

// anchor is a place in a prompt that is known in both worlds.
type anchor struct {
	blocks int // whole blocks of the engine before it
	bytes  int
	tokens int
}

// middle is where the prompt parts from others, of which it has so many blocks in common: within the
// next ones of both worlds.
func (s *session) middle(blocks, texts, blockBytes int) anchor {
	return anchor{blocks, min(texts*blockBytes+blockBytes/2, s.prompt.Bytes), min(blocks*s.size+s.size/2, s.prompt.Tokens)}
}

// match binds the blocks of a prompt, and returns the first that it changed.
func (x *Index) match(p []uint32, s *session) (changed int) {
	known := 0 // blocks that are bound
	for known < len(p) && x.blocks.At(p[known]).is(bound) {
		known++
	}
	common := 0 // blocks of text that others have as well
	for common < len(s.prompt.Hashes) && x.byText.lookup(s.prompt.Hashes[common]) != 0 {
		common++
	}
	from := x.lastAnchor(p[:known], s)
	changed = known
	if x.parts(p, known, common, s) {
		parts := s.middle(known, common, x.o.BlockBytes)
		if x.depth(p[known-1]) != common {
			changed = min(changed, x.lay(p, from, parts, common, s), x.reach(p[:known], common, s))
		}
		x.blocks.At(p[known-1]).children |= anchored
		from = parts
	} else if n := x.shorten(p[:known], common, s); n < changed {
		changed = n
	}
	if known < len(p) {
		from.blocks = known
		changed = min(changed, x.lay(p, from, anchor{len(p), s.prompt.Bytes, s.prompt.Tokens}, len(s.prompt.Hashes), s))
	}
	return changed
}

// parts reports whether the prompt parts from others behind the blocks that are known and the text that is
// common. That both speak of the same place is taken for sure if it is where it would be expected, within
// a factor of two: engines that hash differently share text, but no blocks.
func (x *Index) parts(p []uint32, known, common int, s *session) bool {
	if known == 0 || common == 0 || known == len(p) && common == len(s.prompt.Hashes) {
		return false
	}
	bytes := float64(common * x.o.BlockBytes)
	expected := float64(known*s.size) * float64(s.prompt.Bytes) / float64(s.prompt.Tokens)
	slack := float64(2 * x.o.BlockBytes)
	return bytes > expected/2-slack && bytes < expected*2+slack
}

// reach binds the last block before prompts part to all of the text that they have in common, if blocks
// of the engine are longer than those of text, and returns the first that it changed. The end of that text
// is complete only with the next block then, of which each prompt has its own: that one of those is
// dropped must not take it from the others.
func (x *Index) reach(p []uint32, common int, s *session) (changed int) {
	last := len(p) - 1
	if s.size*s.prompt.Bytes > x.o.BlockBytes*s.prompt.Tokens && x.set(p[last], s.prompt.Hashes[:common]) {
		return last
	}
	return len(p)
}

// lastAnchor is the last known place of the prompt in blocks that are bound.
func (x *Index) lastAnchor(p []uint32, s *session) (a anchor) {
	for i := len(p) - 1; i >= 0; i-- {
		b := x.blocks.At(p[i])
		if !b.is(anchored) {
			continue
		}
		if d := x.depth(p[i]); d <= len(s.prompt.Hashes) && (d == 0 || s.prompt.Hashes[d-1] == x.texts.At(b.text).hash) {
			return s.middle(i+1, d, x.o.BlockBytes)
		}
	}
	return anchor{}
}

// depth is how many blocks of text are complete with a block.
func (x *Index) depth(id uint32) int {
	if t := x.blocks.At(id).text; t != 0 {
		return int(x.texts.At(t).depth)
	}
	return 0
}

// lay binds the blocks between two places to no more than most blocks of text, and returns the first that
// it changed.
func (x *Index) lay(p []uint32, from, to anchor, most int, s *session) (changed int) {
	changed = to.blocks
	perToken := float64(to.bytes-from.bytes) / float64(max(to.tokens-from.tokens, 1))
	for i := from.blocks; i < to.blocks; i++ {
		bytes := float64(from.bytes) + float64((i+1)*s.size-from.tokens)*perToken
		n := min(max(int(bytes)/x.o.BlockBytes, 0), most)
		if x.set(p[i], s.prompt.Hashes[:n]) {
			changed = min(changed, i)
		}
	}
	return changed
}

// shorten cuts bindings to text that the prompt does not have: its blocks say less than was thought.
// Where nothing is in common, as between tenants that are kept apart, the first prompt keeps them.
func (x *Index) shorten(p []uint32, common int, s *session) (changed int) {
	changed = len(p)
	if common == 0 {
		return changed
	}
	for i := len(p) - 1; i >= 0 && x.depth(p[i]) > common; i-- {
		x.set(p[i], s.prompt.Hashes[:common])
		changed = i
	}
	return changed
}

// set binds a block to the end of a text, and reports whether that is a change.
func (x *Index) set(id uint32, hashes []uint64) bool { return x.assign(id, x.textOf(hashes)) }

// assign binds a block to the end of a text, and reports whether that is a change.
func (x *Index) assign(id, at uint32) bool {
	b := x.blocks.At(id)
	if b.is(bound) && b.text == at {
		return false
	}
	if !b.is(bound) {
		x.count.Bound++
	}
	if at != 0 {
		x.texts.At(at).refs++
	}
	x.unref(b.text)
	b.text = at
	b.children |= bound
	return true
}

// textOf returns the last block of a text, which it enters if it is new. It has no reference yet.
func (x *Index) textOf(hashes []uint64) (at uint32) {
	known := len(hashes)
	for ; known > 0; known-- {
		if at = x.byText.lookup(hashes[known-1]); at != 0 {
			break
		}
	}
	for _, hash := range hashes[known:] {
		at = x.textAfter(at, hash)
	}
	return at
}

// textAfter returns the block of text with a hash, which comes after another one, and which it enters if it
// is new. It has no reference yet.
func (x *Index) textAfter(before uint32, hash uint64) uint32 {
	if at := x.byText.lookup(hash); at != 0 {
		return at
	}
	at := x.texts.Alloc()
	*x.texts.At(at) = text{hash: hash, parent: before, depth: 1}
	if before != 0 {
		x.texts.At(before).refs++
		x.texts.At(at).depth += x.texts.At(before).depth
	}
	x.byText.insert(at)
	return at
}

// announce tells who holds how much of a prompt of which the blocks from changed on were bound anew; by
// the request s, or nil.
func (x *Index) announce(p []uint32, changed int, s *session, emit func(Change)) {
	var seen []uint32 // endpoints
	x.holders.each(x.blocks.At(p[changed]).holders, func(holder uint32) {
		if r := x.ranks[holder]; r != nil && !slices.Contains(seen, r.endpoint) {
			seen = append(seen, r.endpoint)
		}
	})
	for _, endpoint := range seen {
		last, ranks := changed, x.members[endpoint]
		for last+1 < len(p) && x.holders.find(x.blocks.At(p[last+1]).holders, ranks) != 0 {
			last++
		}
		slowest, ok := x.deepest(endpoint, p[:last+1], emit)
		if s == nil || endpoint != s.endpoint {
			continue
		}
		if d := x.depth(p[last]); ok && slowest == 0 && d < len(s.prompt.Hashes) {
			emit(Change{Endpoint: endpoint, Path: s.prompt.Hashes, Held: d}) // no more than it says
		}
	}
}
