package sharing

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/internal/figures"
)

// notebook is a part with a note, which notes what it hears.
type notebook struct {
	name   string
	says   string
	panics bool

	alive int
	asked int
	heard map[int]string
	calls []string
	lost  []int
}

func (n *notebook) NoteName() string { return n.name }

func (n *notebook) AppendNote(dst []byte, _ time.Time) []byte {
	if n.asked++; n.panics {
		panic("a part of the user's")
	}
	return append(dst, n.says...)
}

func (n *notebook) HearNote(peer int, note []byte, _ time.Time) {
	if n.panics {
		panic("a part of the user's")
	}
	if n.heard == nil {
		n.heard = map[int]string{}
	}
	n.calls = append(n.calls, string(note))
	if n.heard[peer] = string(note); len(note) == 0 {
		delete(n.heard, peer)
	}
}

func (n *notebook) LosePeer(peer int)    { n.lost = append(n.lost, peer); delete(n.heard, peer) }
func (n *notebook) PeersAlive(alive int) { n.alive = alive }

// noting returns a Group with a scope of notes.
func noting(t testing.TB, o Options, books ...*notebook) *Group {
	t.Helper()
	g, err := New(o)
	require.NoError(t, err)
	var parts []any
	for _, b := range books {
		parts = append(parts, b)
	}
	require.NoError(t, g.Add(Scope{Name: "pool", Parts: parts}))
	return g
}

// tells has g tell others at a time after the start, and returns how many bytes that took.
func tells(g *Group, after time.Duration, others ...*Group) (n int) {
	g.Tell(start.Add(after), func(msg []byte) {
		n += len(msg)
		for _, o := range others {
			o.Hear("from", slices.Clone(msg), start.Add(after))
		}
	})
	return n
}

func TestNotes(t *testing.T) {
	one, two, three := &notebook{name: "n/1", says: "hello"}, &notebook{name: "n/1"}, &notebook{name: "n/1"}
	a, b := noting(t, Options{Name: "a"}, one), noting(t, Options{}, two)
	c := noting(t, Options{Without: Kinds{Notes: true}}, three)
	const tick = 50 * time.Millisecond
	tells(a, 0, a, b, c)
	require.Equal(t, []string{"hello"}, two.calls)
	require.Equal(t, 1, two.alive)
	require.Empty(t, one.calls, "a gateway does not hear itself")
	require.Empty(t, three.calls, "it is switched off")
	require.Equal(t, []Noted{{Scope: "pool", Note: "n/1", Name: "a", From: "from", Age: tick, Bytes: 5}}, b.Notes(start.Add(tick)))
	require.Equal(t, "n/1 of pool: 5 bytes from a, 50ms ago", b.Notes(start.Add(tick))[0].String())
	require.Empty(t, (*Group)(nil).Notes(start))

	// What has not changed is told again only with all that is the case.
	for i := 1; i < 20; i++ {
		tells(a, time.Duration(i)*tick, b)
	}
	require.Len(t, two.calls, 1)
	tells(a, time.Second, b)
	require.Equal(t, []string{"hello", "hello"}, two.calls)
	one.says = "bye"
	tells(a, time.Second+tick, b)
	require.Equal(t, map[int]string{1: "bye"}, two.heard)

	// It becomes nothing, which is told again for as long as a peer may not have heard of it.
	one.says = ""
	tells(a, time.Second+2*tick) // the message is lost
	require.Len(t, two.heard, 1)
	tells(a, 2*time.Second, b)
	require.Empty(t, two.heard)
	require.Empty(t, b.Notes(start))
	calls := len(two.calls)
	again := tells(a, 3*time.Second, b)
	require.Len(t, two.calls, calls, "that it is nothing is heard once")
	require.Less(t, tells(a, 30*time.Second), again, "and told no more when all have heard of it, or have forgotten it")
	one.says = "back"
	tells(a, 30*time.Second+tick, b)
	require.Equal(t, "back", two.heard[1])

	// A peer that comes late hears it within Options.Whole, and one that goes is forgotten.
	late := &notebook{name: "n/1"}
	d := noting(t, Options{}, late)
	tells(a, 30*time.Second+2*tick, d)
	require.Empty(t, late.heard)
	tells(a, 31*time.Second, d)
	require.Equal(t, "back", late.heard[1])
	tells(d, 35*time.Second)
	require.Empty(t, late.heard)
	require.Equal(t, []int{1}, late.lost)
	require.Zero(t, late.alive)
	require.Empty(t, d.Notes(start))
	require.Zero(t, d.Stats(start).Ignored)
}

// Messages may come twice, late and in another order: the newest note counts.
func TestNotesOutOfOrder(t *testing.T) {
	one, two := &notebook{name: "n"}, &notebook{name: "n"}
	a, b := noting(t, Options{}, one), noting(t, Options{}, two)
	var sent [][]byte
	for i := range 50 {
		one.says = fmt.Sprint("state ", i)
		a.Tell(start.Add(time.Duration(i)*50*time.Millisecond), func(msg []byte) { sent = append(sent, slices.Clone(msg)) })
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 3 {
		r.Shuffle(len(sent), func(i, j int) { sent[i], sent[j] = sent[j], sent[i] })
		for _, msg := range sent {
			b.Hear("from", msg, start.Add(3*time.Second))
		}
	}
	require.Equal(t, map[int]string{1: "state 49"}, two.heard)
	newest := -1
	for _, said := range two.calls {
		var n int
		fmt.Sscanf(said, "state %d", &n)
		require.Greater(t, n, newest, "an older one, or the same again")
		newest = n
	}
}

// A note that is too long is not told; peers hear that nothing is said, and people that it is so.
func TestLongNotes(t *testing.T) {
	one, two, other := &notebook{name: "n", says: "short"}, &notebook{name: "n"}, &notebook{name: "other", says: "x"}
	a, b := noting(t, Options{}, one, other), noting(t, Options{}, two)
	tells(a, 0, b)
	require.Equal(t, "short", two.heard[1])
	one.says = strings.Repeat("x", MaxNote+1)
	for i := range 40 {
		tells(a, time.Duration(i+1)*50*time.Millisecond, b)
	}
	require.Empty(t, two.heard)
	require.EqualValues(t, 1, a.Stats(start).LongNotes)
	one.says = one.says[1:]
	tells(a, 3*time.Second, b)
	require.Equal(t, one.says, two.heard[1])
	one.says = strings.Repeat("x", 1<<20)
	tells(a, 4*time.Second, b)
	require.EqualValues(t, 2, a.Stats(start).LongNotes)
	require.Positive(t, b.Stats(start).Ignored.Notes, "of the other part")
	require.Zero(t, b.Stats(start).Ignored.Broken)
}

// As many notes as do not fit into one message take several, each of which stands alone.
func TestManyNotes(t *testing.T) {
	var ones, twos []*notebook
	for i := range 20 {
		ones = append(ones, &notebook{name: fmt.Sprint("note ", i), says: strings.Repeat(string(rune('a'+i)), MaxNote-i)})
		twos = append(twos, &notebook{name: fmt.Sprint("note ", 19-i)})
	}
	key := []byte("a key of sixteen bytes or more")
	a, b := noting(t, Options{Key: key}, ones...), noting(t, Options{Key: key}, twos...)
	var sent [][]byte
	a.Tell(start, func(msg []byte) { sent = append(sent, slices.Clone(msg)) })
	require.Len(t, sent, 7, "three in each")
	slices.Reverse(sent)
	for _, msg := range sent {
		require.LessOrEqual(t, len(msg), MaxMessage)
		b.Hear("from", msg, start)
	}
	for i, one := range ones {
		require.Equal(t, one.says, twos[19-i].heard[1])
	}
}

// Part by part, names are what tells notes apart.
func TestNoteNames(t *testing.T) {
	g, err := New(Options{})
	require.NoError(t, err)
	parts := []any{&notebook{name: "one"}, &notebook{name: "two"}}
	for want, parts := range map[string][]any{
		`sharing: scope "s" has two parts with the NoteName "one"`:                           {&notebook{name: "one"}, &notebook{name: "one"}},
		`sharing: scope "s": NoteName of *sharing.notebook returns 0 bytes, want 1 to 128`:   {&notebook{}},
		`sharing: scope "s": NoteName of *sharing.notebook returns 129 bytes, want 1 to 128`: {&notebook{name: strings.Repeat("x", 129)}},
	} {
		require.EqualError(t, g.Add(Scope{Name: "s", Parts: parts}), want)
		require.EqualError(t, g.Set(Scope{Name: "s", Parts: parts}), want)
		require.ErrorContains(t, g.Keep(Scope{Name: "s", Parts: parts}), want)
	}
	require.NoError(t, g.Add(Scope{Name: "s", Parts: parts}))
	require.NoError(t, g.Add(Scope{Name: "another", Parts: parts}), "a scope has names of its own")
	require.Error(t, g.Set(Scope{Name: "s", Parts: append(parts, &notebook{name: "two"})}))
	tells(g, 0)
	require.Equal(t, 2, parts[0].(*notebook).asked, "the scope is as it was")
}

// Parts may panic, and say nothing then.
func TestNotesOfPartsThatPanic(t *testing.T) {
	one, two, fine := &notebook{name: "n", says: "x"}, &notebook{name: "n", panics: true}, &notebook{name: "fine", says: "y"}
	heard := &notebook{name: "fine"}
	a, b := noting(t, Options{}, one, fine), noting(t, Options{}, two, heard)
	tells(a, 0, b)
	require.Equal(t, "y", heard.heard[1])
	require.EqualValues(t, 1, b.Stats(start).Panics)
	two.panics = false
	tells(a, time.Second, b)
	require.Equal(t, "x", two.heard[1])
	one.panics = true
	tells(a, 2*time.Second, b)
	require.Empty(t, two.heard, "what it said may not be true any more")
	require.Positive(t, a.Stats(start).Panics)
}

// In place of a scope comes one with other parts: what is no more is told, or not repeated, and ends.
func TestNotesOfScopesThatChange(t *testing.T) {
	one, other, two := &notebook{name: "n", says: "x"}, &notebook{name: "other", says: "y"}, &notebook{name: "n"}
	heardOther := &notebook{name: "other"}
	a, b := noting(t, Options{}, one, other), noting(t, Options{}, two, heardOther)
	tells(a, 0, b)
	require.Len(t, heardOther.heard, 1)

	silent := &notebook{name: "n"}
	require.NoError(t, a.Set(Scope{Name: "pool", Parts: []any{silent}}))
	tells(a, 50*time.Millisecond, b)
	require.Empty(t, two.heard, "the part that has its name says nothing")
	require.Len(t, heardOther.heard, 1)
	for i := range 14 {
		tells(a, time.Duration(i)*time.Second, b)
		tells(b, time.Duration(i)*time.Second)
	}
	require.Empty(t, heardOther.heard, "it is not repeated")
	require.Empty(t, heardOther.lost)

	// A part of the same name that comes later hears what there is.
	silent.says = "back"
	tells(a, 14*time.Second, b)
	new := &notebook{name: "n"}
	require.NoError(t, b.Set(Scope{Name: "pool", Parts: []any{new}}))
	require.Equal(t, 1, new.alive)
	tells(a, 15*time.Second, b)
	require.Equal(t, "back", new.heard[1])
	b.Remove("pool")
	tells(a, 16*time.Second, b)
	require.Positive(t, b.Stats(start).Ignored.Elsewhere)
}

// Two runs of a gateway are two peers.
func TestNotesAfterLeaving(t *testing.T) {
	one, two := &notebook{name: "n", says: "x"}, &notebook{name: "n"}
	a, b := noting(t, Options{}, one), noting(t, Options{}, two)
	tells(a, 0, b)
	a.leave(func(msg []byte) { b.Hear("from", msg, start) })
	require.Empty(t, two.heard)
	require.Equal(t, []int{1}, two.lost)
	tells(a, time.Second, b)
	require.Equal(t, map[int]string{2: "x"}, two.heard)
}

// A note that does not change costs nothing but the call.
func TestNotesAllocateNothing(t *testing.T) {
	one := &notebook{name: "n", says: strings.Repeat("x", 1000)}
	a := noting(t, Options{}, one)
	now := start
	tick := func() {
		now = now.Add(50 * time.Millisecond)
		a.Tell(now, func([]byte) {})
	}
	for range 50 {
		tick()
	}
	if n := testing.AllocsPerRun(200, tick); n > 0 {
		t.Errorf("%v allocations a tick, want 0", n)
	}
}

// FuzzNotes: no bytes make a part hear of a note that cannot be, or of one of nobody.
func FuzzNotes(f *testing.F) {
	item := func(name, said string) []byte {
		b := figures.AppendString(nil, name)
		return append(binary.AppendUvarint(b, uint64(len(said))), said...)
	}
	f.Add(item("n", "hello"), item("n", ""))
	f.Add(append(item("n", "a"), item("other", "b")...), item("n", strings.Repeat("x", MaxNote+1)))
	f.Add([]byte{1, 'n', 0xff, 0xff}, []byte{0})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		if len(first)+len(second) > MaxMessage-200 {
			return
		}
		book := &notebook{name: "n"}
		g := noting(t, Options{}, book)
		w := &writer{origin: origin{9}, send: func(msg []byte) { g.Hear("fuzz", msg, start) }}
		for i, b := range [][]byte{first, second} {
			w.tick = uint64(i + 1)
			w.begin(kindNote, g.scopes[0].hash)
			w.end(append(w.item(len(b)), b...))
			w.flush()
		}
		for peer, said := range book.heard {
			require.Equal(t, 1, peer)
			require.NotEmpty(t, said)
			require.LessOrEqual(t, len(said), MaxNote)
		}
		require.Zero(t, g.Stats(start).Panics)
		require.LessOrEqual(t, len(g.Notes(start)), 1)
		require.Equal(t, len(book.heard), len(g.Notes(start)))
	})
}
