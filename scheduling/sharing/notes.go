package sharing

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/inferpick/inferpick/internal/figures"
)

// This file is what parts tell each other in a form of their own. A note is told when it has changed, and with all
// that is the case, so that what was lost is made up for. One that is no more is told as an empty one, for as long as
// a peer may not have heard of it; who hears a note no more takes it for empty, too.

// MaxNote is the size of the longest note, in bytes: a few of them, and what else is told, make one message.
const MaxNote = 16 << 10

// mostNoteName bounds the name of a note, in bytes.
const mostNoteName = 128

// note is a part of a scope that has a note.
type note struct {
	name string
	part NotePart

	said    []byte    // what this gateway said last
	next    []byte    // memory for what it says next
	long    bool      // that was too long
	stopped time.Time // when it became nothing
	heard   []heardNote
}

// heardNote is the note of a peer, without what is in it.
type heardNote struct {
	peer *peer
	tick uint64    // of the message that had it last
	at   time.Time // when that came
	size int
}

// notesOf returns the notes of the parts of a scope. The error says which cannot be told. Caller must hold Group.turn.
func (g *Group) notesOf(scope string, parts []NotePart) (all []*note, err error) {
	for _, part := range parts {
		n := &note{part: part}
		g.call(func() { n.name = part.NoteName() })
		switch {
		case n.name == "" || len(n.name) > mostNoteName:
			return nil, fmt.Errorf("sharing: scope %q: NoteName of %T returns %d bytes, want 1 to %d",
				scope, part, len(n.name), mostNoteName)
		case slices.ContainsFunc(all, func(o *note) bool { return o.name == n.name }):
			return nil, fmt.Errorf("sharing: scope %q has two parts with the NoteName %q", scope, n.name)
		}
		all = append(all, n)
	}
	return all, nil
}

// follow takes over what was told and heard of the notes of the scope before this one.
func (s *scope) follow(old *scope) {
	for _, n := range s.notes {
		if was := old.noteOf([]byte(n.name)); was != nil {
			n.said, n.stopped = was.said, was.stopped
			if sameParts([]any{was.part}, []any{n.part}) {
				n.heard = was.heard
			}
		}
	}
}

func (s *scope) noteOf(name []byte) *note {
	for _, n := range s.notes {
		if n.name == string(name) {
			return n
		}
	}
	return nil
}

func (g *Group) tellNotes(w *writer, s *scope, whole bool, now time.Time) {
	w.begin(kindNote, s.hash)
	for _, n := range s.notes {
		if !g.asks(n, whole, now) {
			continue
		}
		b := figures.AppendString(w.item(2*binary.MaxVarintLen16+len(n.name)+len(n.said)), n.name)
		w.end(append(binary.AppendUvarint(b, uint64(len(n.said))), n.said...))
	}
}

// asks asks a part for its note, and reports whether n.said is to be told.
func (g *Group) asks(n *note, whole bool, now time.Time) (tell bool) {
	next := n.next[:0]
	asked := false
	g.call(func() {
		next = n.part.AppendNote(next, now)
		asked = true
	})
	if !asked {
		next = next[:0] // what it said may not be true any more
	}
	if long := len(next) > MaxNote; long != n.long {
		n.long = long
		if long {
			g.count(func(c *groupCounts) { c.longNotes++ })
			g.log(fmt.Sprintf("note %q is too long, and not told", n.name), "", "bytes", len(next), "most", MaxNote)
		}
	}
	if n.long {
		next = nil
	}
	changed := !bytes.Equal(next, n.said)
	n.said, n.next = next, n.said
	switch {
	case changed:
		n.stopped = now // it counts only if it says nothing
		return true
	case len(n.said) == 0: // peers may not have heard of it
		return whole && !n.stopped.IsZero() && now.Sub(n.stopped) <= unsaid*g.o.TTL
	}
	return whole
}

func (g *Group) hearNotes(from *peer, tick uint64, s *scope, r reader, now time.Time) error {
	for r.More() {
		name := r.Bytes(int(r.Count("length of the name of a note", mostNoteName)))
		said := r.Bytes(int(r.Count("length of a note", MaxNote)))
		if r.Err() != nil {
			break
		}
		n := s.noteOf(name)
		if n == nil {
			g.count(func(c *groupCounts) { c.notes++ })
			continue
		}
		if n.hears(from, tick, len(said), now) {
			g.call(func() { n.part.HearNote(from.number, said, now) })
		}
	}
	return r.Err()
}

// hears notes that a note came, and reports whether it is newer than what was heard before, and says something new.
func (n *note) hears(from *peer, tick uint64, size int, now time.Time) bool {
	i := slices.IndexFunc(n.heard, func(h heardNote) bool { return h.peer == from })
	if i < 0 {
		n.heard = append(n.heard, heardNote{from, tick, now, size})
		return size > 0
	}
	h := &n.heard[i]
	if tick <= h.tick {
		return false
	}
	was := h.size
	*h = heardNote{from, tick, now, size}
	return size > 0 || was > 0
}

// expireNotes takes notes for empty that their peers, who still speak, say no more.
func (g *Group) expireNotes(s *scope, now time.Time) {
	for _, n := range s.notes {
		n.heard = slices.DeleteFunc(n.heard, func(h heardNote) bool {
			if now.Sub(h.at) <= unsaid*g.o.TTL {
				return false
			}
			if h.size > 0 {
				g.call(func() { n.part.HearNote(h.peer.number, nil, now) })
			}
			return true
		})
	}
}

// loseNotes forgets the notes of a peer that has gone.
func (g *Group) loseNotes(s *scope, gone *peer) {
	for _, n := range s.notes {
		n.heard = slices.DeleteFunc(n.heard, func(h heardNote) bool { return h.peer == gone })
		g.call(func() { n.part.LosePeer(gone.number) })
	}
}

// Noted says that there is a note of a peer.
type Noted struct {
	// Scope and Note name it.
	Scope, Note string
	// Name and From are whose it is, as in PeerStats.
	Name, From string
	// Age is how long ago it was said last.
	Age   time.Duration
	Bytes int
}

// String returns it in a few words.
func (n Noted) String() string {
	age := n.Age.Round(time.Millisecond)
	return fmt.Sprintf("%s of %s: %d bytes from %s, %v ago", n.Note, n.Scope, n.Bytes, n.Name, age)
}

// Notes returns which notes of peers there are at now, by scope, note and peer; what is in them is for the parts to
// say. It must not be called by a part. A nil Group has none.
func (g *Group) Notes(now time.Time) (all []Noted) {
	if g == nil {
		return nil
	}
	g.turn.Lock()
	defer g.turn.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.scopes {
		for _, n := range s.notes {
			for _, h := range n.heard {
				if h.size > 0 {
					all = append(all, Noted{s.Name, n.name, cmp.Or(h.peer.name, h.peer.from), h.peer.from, now.Sub(h.at), h.size})
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b Noted) int {
		return cmp.Or(strings.Compare(a.Scope, b.Scope), strings.Compare(a.Note, b.Note),
			strings.Compare(a.Name, b.Name), strings.Compare(a.From, b.From), cmp.Compare(a.Age, b.Age))
	})
	return all
}
