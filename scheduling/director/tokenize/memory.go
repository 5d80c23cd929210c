package tokenize

import "container/list"

// headBytes is the step in which beginnings of prompts are remembered.
const headBytes = 1024

// memory remembers the token ids of prompts, the most recently used ones.
type memory struct {
	room   int // token ids
	used   int
	recent list.List // of *prompt, the most recently used first
	whole  map[uint64]*list.Element
	heads  map[uint64]head // by the chained hash of a beginning
}

type prompt struct {
	key   uint64
	ids   []uint32
	heads []uint64
}

// head is a beginning of prompts: the first tokens of one of them.
type head struct {
	of     *prompt
	tokens int
}

func newMemory(room int) memory {
	return memory{room: room, whole: map[uint64]*list.Element{}, heads: map[uint64]head{}}
}

// get returns the token ids of a prompt.
func (m *memory) get(key uint64) []uint32 {
	e := m.whole[key]
	if e == nil {
		return nil
	}
	m.recent.MoveToFront(e)
	return e.Value.(*prompt).ids
}

// beginning returns the token ids of the longest beginning that is known, of those with these hashes.
func (m *memory) beginning(heads []uint64) []uint32 {
	for i := len(heads) - 1; i >= 0; i-- {
		if h, ok := m.heads[heads[i]]; ok {
			m.get(h.of.key)
			return h.of.ids[:h.tokens]
		}
	}
	return nil
}

// add remembers a prompt of so many bytes.
func (m *memory) add(key uint64, heads []uint64, bytes int, ids []uint32) {
	if m.get(key) != nil || len(ids) > m.room {
		return
	}
	p := &prompt{key, ids, heads}
	m.whole[key] = m.recent.PushFront(p)
	m.used += len(ids)
	m.enter(p, bytes)
	for m.used > m.room {
		m.drop(m.recent.Remove(m.recent.Back()).(*prompt))
	}
}

// enter enters the beginnings of a prompt. Where in its tokens one ends is known to be no later than where
// another prompt parts that begins alike; but for that, tokens are taken to be as long as on average, and a tenth
// less for safety: too few are a shorter match, too many a wrong one.
func (m *memory) enter(p *prompt, bytes int) {
	var with *prompt
	common := 0
	for i, h := range p.heads {
		tokens := int(.9 * float64(len(p.ids)) * float64((i+1)*headBytes) / float64(bytes))
		if old, ok := m.heads[h]; ok {
			if old.of != with {
				with, common = old.of, commonLength(old.of.ids, p.ids)
			}
			tokens = min(tokens, common)
		}
		m.heads[h] = head{p, tokens}
	}
}

func (m *memory) drop(p *prompt) {
	delete(m.whole, p.key)
	m.used -= len(p.ids)
	for _, h := range p.heads {
		if m.heads[h].of == p {
			delete(m.heads, h)
		}
	}
}

func commonLength(a, b []uint32) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
