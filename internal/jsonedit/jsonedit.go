// Package jsonedit changes members of a JSON object and leaves every other byte as it was.
//
// A body is neither decoded nor encoded: big integers, the order of keys, white space,
// escapes and duplicates of other keys survive. Of a key that occurs more than once the last
// one counts, as in Python and encoding/json; a key that is written with escapes is the same
// key. Only the object's own members are looked at, not those of objects in it.
package jsonedit

import (
	"github.com/inferpick/inferpick/internal/jsonscan"
)

// Edit is what becomes of the members with a key: one member with Value, which must be JSON,
// or none if Value is nil.
type Edit struct {
	Key   string
	Value []byte
}

// Object returns the object in body with edits made, whose keys must differ. Where there was
// a member with the key the value takes its place, and others with the same key go; otherwise
// the member is put at the end. body is left alone. It is an error, of jsonscan, if body is no
// JSON object.
func Object(body []byte, edits ...Edit) ([]byte, error) {
	room := len(body)
	for _, e := range edits {
		room += len(e.Key) + len(e.Value) + len(`"":,`)
	}
	w := writer{body: body, out: make([]byte, 0, room), edits: edits, made: make([]bool, len(edits))}
	s := jsonscan.New(body, jsonscan.MaxDepth)
	s.SkipMark()
	if kind, _ := s.Peek(); kind != jsonscan.Object {
		return nil, wrongKind(&s, body, "an object", kind)
	}
	s.Enter()
	w.upTo(s.Pos())
	for s.Key() {
		key, start := keyOf(&s, body), s.Token.Start-1
		from, end := s.Skip()
		if !s.OK() {
			break
		}
		w.member(key, start, from, end)
	}
	if err := s.End(); err != nil {
		return nil, err
	}
	w.rest()
	return w.out, nil
}

// Find returns the values of the last members with the keys, as they stand in body; nil for
// those that are absent. It is an error, of jsonscan, if body is no JSON object.
func Find(body []byte, keys ...string) ([][]byte, error) {
	values := make([][]byte, len(keys))
	err := Each(body, func(key, value []byte) {
		for i, k := range keys {
			if string(key) == k {
				values[i] = value
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return values, nil
}

// Each calls f for the members of the object in body, in their order, with the key as it reads
// without escapes and the value as it stands. After an error, what f has seen is worth
// nothing.
func Each(body []byte, f func(key, value []byte)) error {
	s := jsonscan.New(body, jsonscan.MaxDepth)
	s.SkipMark()
	if kind, _ := s.Peek(); kind != jsonscan.Object {
		return wrongKind(&s, body, "an object", kind)
	}
	for s.Enter(); s.Key(); {
		key := keyOf(&s, body)
		if start, end := s.Skip(); s.OK() {
			f(key, body[start:end])
		}
	}
	return s.End()
}

// Elements calls f for the elements of the array in body, in their order, as they stand.
func Elements(body []byte, f func(value []byte)) error {
	s := jsonscan.New(body, jsonscan.MaxDepth)
	if kind, _ := s.Peek(); kind != jsonscan.Array {
		return wrongKind(&s, body, "an array", kind)
	}
	for s.Enter(); s.Elem(); {
		if start, end := s.Skip(); s.OK() {
			f(body[start:end])
		}
	}
	return s.End()
}

// KindOf returns the kind of a value that Find, Each or Elements gave; Invalid of nil.
func KindOf(value []byte) jsonscan.Kind {
	if len(value) == 0 {
		return jsonscan.Invalid
	}
	s := jsonscan.New(value, jsonscan.MaxDepth)
	kind, _ := s.Peek()
	return kind
}

// Absent reports whether a value that Find gave is absent or null.
func Absent(value []byte) bool {
	kind := KindOf(value)
	return kind == jsonscan.Invalid || kind == jsonscan.Null
}

// Text returns the string that a value is, "" if it is none.
func Text(value []byte) string {
	if KindOf(value) != jsonscan.String {
		return ""
	}
	return string(jsonscan.Unquote(nil, value[1:len(value)-1]))
}

// Quote returns s as a JSON string.
func Quote(s string) []byte { return jsonscan.AppendQuote(nil, s) }

// writer copies an object member by member.
type writer struct {
	body, out []byte
	edits     []Edit
	done      int    // of body
	any       bool   // there is a member in out
	made      []bool // by the index of the edit: the value is in out
}

// upTo copies what is between the members.
func (w *writer) upTo(end int) {
	w.out = append(w.out, w.body[w.done:end]...)
	w.done = end
}

// member copies the member from start to end, whose value starts at from, or what becomes of
// it.
func (w *writer) member(key []byte, start, from, end int) {
	i := w.find(key)
	keep := i < 0 || w.edits[i].Value != nil && !w.made[i]
	w.gap(start, keep)
	switch {
	case i < 0:
		w.upTo(end)
	case keep:
		w.upTo(from)
		w.out = append(w.out, w.edits[i].Value...)
		w.made[i] = true
	}
	w.done = end
}

// gap copies what is before a member: a comma is needed only between two that are kept.
func (w *writer) gap(start int, keep bool) {
	comma := keep && w.any
	for _, c := range w.body[w.done:start] {
		if c != ',' || comma {
			w.out = append(w.out, c)
		}
	}
	w.done = start
	w.any = w.any || keep
}

// rest adds the members that were not there, and copies what is left of body.
func (w *writer) rest() {
	end := len(w.body)
	for w.body[end-1] != '}' {
		end--
	}
	w.upTo(end - 1)
	for i, e := range w.edits {
		if e.Value == nil || w.made[i] {
			continue
		}
		if w.any {
			w.out = append(w.out, ',')
		}
		w.out = append(jsonscan.AppendQuote(w.out, e.Key), ':')
		w.out = append(w.out, e.Value...)
		w.any = true
	}
	w.upTo(len(w.body))
}

func (w *writer) find(key []byte) int {
	for i := range w.edits {
		if string(key) == w.edits[i].Key {
			return i
		}
	}
	return -1
}

// maxKey is longer than any key that is looked for.
const maxKey = 64

// keyOf returns the key that s has read, without escapes.
func keyOf(s *jsonscan.Scanner, body []byte) []byte {
	raw := body[s.Token.Start:s.Token.End]
	if !s.Token.Escaped || len(raw) > 6*maxKey {
		return raw
	}
	return jsonscan.Unquote(make([]byte, 0, len(raw)), raw)
}

// wrongKind returns what is wrong with a value that is not of the kind that is wanted: that
// it is no JSON, or what it is.
func wrongKind(s *jsonscan.Scanner, body []byte, want string, kind jsonscan.Kind) error {
	at := s.Pos()
	s.Skip()
	if err := s.End(); err != nil {
		return err
	}
	line, column := jsonscan.Position(body, at)
	return &jsonscan.Error{Offset: at, Line: line, Column: column, Msg: "expected " + want + ", not " + kind.String()}
}
