// Package lineage tells which prompts continue others, where clients name no conversation: a prompt that begins with a whole
// earlier prompt, and goes on, is the next turn of its conversation. It has no lock and no clock.
//
// A conversation is not told by how much prompts share. Ten thousand clients with one system prompt share nearly all of
// theirs, and none contains another's. What a turn has of the one before is all of it: what was asked, to the end.
//
// If a prompt is gone on with in two ways, by an agent that has several others work from where it is, or by a client that
// has changed what came after, that is two conversations of one program. If there are more than Fan ways, it is a beginning
// that many share, and says nothing.
package lineage

import (
	"bytes"
	"hash/maphash"

	"github.com/inferpick/inferpick/types"
)

// Bounds.
const (
	// Fan is in how many ways a prompt may be gone on with by one program.
	Fan = 32
	// MostBytes is how long a prompt may be to be looked at, and most how many places in it are, the first ones.
	MostBytes = 4 << 20
	most      = 4096
)

// ID is of a conversation or a program. 0: none.
type ID uint64

// Table remembers the last prompts. Make it with New; callers guard it.
type Table struct {
	seed maphash.Seed
	of   map[uint64]int32 // places in ring by what prompts are
	ring []entry
	next int
	keep int64 // how long, in the caller's units of time
}

// entry is an earlier prompt.
type entry struct {
	prompt   uint64 // what it is, to its end
	session  ID
	program  ID
	ways     int // in how many it was gone on with
	lastUsed int64
}

// New returns a Table that remembers so many prompts, each for so long after it was met last.
func New(prompts int, keep int64) *Table {
	return &Table{seed: maphash.MakeSeed(), of: make(map[uint64]int32, prompts), ring: make([]entry, 0, prompts), keep: keep}
}

// Prompt is a prompt that is looked at: what it is at its end, and at each place before at which an earlier one may have
// ended. It may be used again.
type Prompt struct {
	end    uint64
	places []uint64
}

// Read makes p the prompt of spans of text, which who names apart from all others: a tenant, a model, a salt. It may be
// called from any goroutine, and looks at the text once. It reports whether the prompt can be told.
func (t *Table) Read(p *Prompt, who [3]string, text []byte, spans []types.Span) bool {
	var h maphash.Hash
	h.SetSeed(t.seed)
	for _, s := range who {
		h.WriteString(s)
		h.WriteByte(0)
	}
	p.places, p.end = p.places[:0], 0
	size := 0
	for _, s := range spans {
		if s.Start < 0 || s.End > len(text) || s.Start > s.End {
			return false
		}
		if size += s.End - s.Start; size > MostBytes {
			return false
		}
		p.read(&h, text[s.Start:s.End])
	}
	p.end = h.Sum64()
	return size > 0
}

// read goes on with a piece. Messages are objects in an array, so that a prompt that is gone on with ended where an object
// does that another follows.
func (p *Prompt) read(h *maphash.Hash, text []byte) {
	for len(p.places) < most {
		i := bytes.Index(text, follows)
		if i < 0 {
			break
		}
		h.Write(text[:i+1])
		text = text[i+1:]
		p.places = append(p.places, h.Sum64())
	}
	h.Write(text)
}

var follows = []byte("},")

// Of returns the conversation and the program that a prompt is part of, and remembers it. The last earlier prompt that it
// begins with counts: if that was gone on with before, by one that this does not begin with, this is another way.
func (t *Table) Of(p *Prompt, now int64) (session, program ID) {
	if i := t.find(p.end, now); i >= 0 { // the same once more
		e := &t.ring[i]
		e.lastUsed = now
		return e.session, e.program
	}
	session = ID(p.end)
	program = session
	for k := len(p.places) - 1; k >= 0; k-- {
		i := t.find(p.places[k], now)
		if i < 0 {
			continue
		}
		e := &t.ring[i]
		e.lastUsed = now
		if e.ways++; e.ways <= Fan {
			program = e.program
		}
		if e.ways == 1 {
			session = e.session
		}
		break
	}
	t.add(entry{prompt: p.end, session: session, program: program, lastUsed: now})
	return session, program
}

func (t *Table) find(prompt uint64, now int64) int {
	i, ok := t.of[prompt]
	if !ok || now-t.ring[i].lastUsed > t.keep {
		return -1
	}
	return int(i)
}

// add remembers a prompt in the place of the one that was added first.
func (t *Table) add(e entry) {
	if i, ok := t.of[e.prompt]; ok { // its time was over
		t.ring[i] = e
		return
	}
	if len(t.ring) < cap(t.ring) {
		t.of[e.prompt] = int32(len(t.ring))
		t.ring = append(t.ring, e)
		return
	}
	delete(t.of, t.ring[t.next].prompt)
	t.of[e.prompt], t.ring[t.next] = int32(t.next), e
	t.next = (t.next + 1) % len(t.ring)
}

// Len returns how many prompts are remembered.
func (t *Table) Len() int { return len(t.of) }
