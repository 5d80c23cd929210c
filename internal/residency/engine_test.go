package residency

import (
	"container/list"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/inferpick/inferpick/internal/prefixindex"
	"github.com/inferpick/inferpick/types"
)

const (
	blockBytes = 256
	blockSize  = 16 // tokens
)

// tokens cuts text as a tokenizer would: words of prose are a token each, symbols of code too.
func tokens(text string) (ends []int) {
	for i := 0; i < len(text); {
		n := 1
		for i+n < len(text) && n < 12 && text[i+n] != ' ' && text[i] >= 'a' && text[i] <= 'z' && text[i+n] >= 'a' {
			n++
		}
		i += n
		ends = append(ends, i)
	}
	return ends
}

// prose and code are texts of quite different lengths per token.
func prose(r *rand.Rand, n int) string {
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, " %s", strings.Repeat(string(rune('a'+r.IntN(26))), 3+r.IntN(5)))
	}
	return b.String()[:n]
}

func code(r *rand.Rand, n int) string {
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "%c[%d]=%d;\n", 'a'+rune(r.IntN(26)), r.IntN(10), r.IntN(100))
	}
	return b.String()[:n]
}

// engine is a server that caches blocks of tokens, drops the least recently used, tails first, and
// tells all of it.
type engine struct {
	seed     uint64
	room     int
	held     map[uint64]*list.Element
	order    list.List // of hashes, the most recent first
	template int       // tokens before each prompt
	known    hashed    // the last text
}

type hashed struct {
	text   string
	hashes []uint64
	count  int
	ends   []int
}

func newEngine(seed uint64, room int) *engine {
	return &engine{seed: seed, room: room, held: map[uint64]*list.Element{}, template: 7}
}

// hashes returns the hashes of the whole blocks of a text, how many tokens it has, and where each block
// ends.
func (e *engine) hashes(text string) (hashes []uint64, count int, ends []int) {
	if text == e.known.text {
		return e.known.hashes, e.known.count, e.known.ends
	}
	defer func() { e.known = hashed{text, hashes, count, ends} }()
	h := fnv.New64a()
	fmt.Fprint(h, e.seed)
	start, n := 0, e.template
	for _, end := range tokens(text) {
		h.Write([]byte(text[start:end]))
		h.Write([]byte{0})
		start = end
		if n++; n%blockSize == 0 {
			hashes, ends = append(hashes, h.Sum64()), append(ends, end)
		}
	}
	return hashes, n, ends
}

// serve serves a request and returns how many tokens of it were cached, how many there are, and events.
func (e *engine) serve(prompt, answer, session string) (cached, count int, events []types.KVEvent) {
	_, count, _ = e.hashes(prompt)
	hashes, _, _ := e.hashes(prompt + answer)
	for cached < len(hashes) && cached < count/blockSize && e.has(hashes[cached]) {
		cached++
	}
	var stored []uint64
	for i := len(hashes) - 1; i >= 0; i-- {
		if el := e.held[hashes[i]]; el != nil {
			e.order.MoveToFront(el)
			continue
		}
		stored = append(stored, hashes[i])
		e.held[hashes[i]] = e.order.PushFront(hashes[i])
	}
	slices.Reverse(stored)
	first := len(hashes) - len(stored)
	for len(stored) > 0 { // in chunks, as the prefill goes, then one by one, as the answer does
		n := 1
		if first < count/blockSize {
			n = min(count/blockSize-first, 32)
		}
		ev := types.KVEvent{Kind: types.KVStored, Hashes: stored[:n], BlockSize: blockSize, SessionID: session, Full: true}
		if first > 0 {
			ev.HasParent, ev.Parent = true, hashes[first-1]
		}
		events = append(events, ev)
		stored, first = stored[n:], first+n
	}
	for len(e.held) > e.room {
		victim := e.order.Remove(e.order.Back()).(uint64)
		delete(e.held, victim)
		events = append(events, types.KVEvent{Kind: types.KVRemoved, Hashes: []uint64{victim}, Full: true})
	}
	return cached * blockSize, count, events
}

func (e *engine) has(h uint64) bool { _, ok := e.held[h]; return ok }

// cached is how many tokens of a prompt it has, and how many bytes these are.
func (e *engine) cached(prompt string) (tokens, bytes int) {
	hashes, _, ends := e.hashes(prompt)
	n := 0
	for n < len(hashes) && e.has(hashes[n]) {
		bytes = ends[n]
		n++
	}
	return n * blockSize, bytes
}

// textHashes are the blocks of a prompt as the prefix index names them.
func textHashes(text string) []uint64 {
	h := prefixindex.NewHasher(blockBytes, 1)
	return h.Append(nil, []byte(text))
}

// view is what changes say that endpoints hold, the slow way.
type view struct {
	held  map[uint32]map[uint64]bool
	known map[uint64]bool
	below map[uint64][]uint64 // blocks of text that follow
}

func newView() *view {
	return &view{map[uint32]map[uint64]bool{}, map[uint64]bool{}, map[uint64][]uint64{}}
}

func (v *view) apply(c Change) {
	if c.Tier != types.KVGPU {
		return
	}
	if c.Cleared || v.held[c.Endpoint] == nil {
		v.held[c.Endpoint] = map[uint64]bool{}
	}
	held := v.held[c.Endpoint]
	for i, h := range c.Path {
		if i > 0 && !v.known[h] {
			v.below[c.Path[i-1]] = append(v.below[c.Path[i-1]], h)
		}
		v.known[h] = true
		if i < c.Held {
			held[h] = true
		}
	}
	if c.Held < len(c.Path) {
		v.truncate(held, c.Path[c.Held])
	}
}

// truncate takes out a block and what follows it, of which nothing is held if it is not.
func (v *view) truncate(held map[uint64]bool, h uint64) {
	if held[h] {
		delete(held, h)
		for _, after := range v.below[h] {
			v.truncate(held, after)
		}
	}
}

// matched is how many leading blocks of a text an endpoint holds.
func (v *view) matched(endpoint uint32, hashes []uint64) (n int) {
	for n < len(hashes) && v.held[endpoint][hashes[n]] {
		n++
	}
	return n
}
