package director

import (
	"bytes"
	"slices"
)

// body is what has come of a request's body.
type body struct {
	keep     bool  // pieces are whoever's they came from no longer: large ones need not be copied
	promised int64 // how long it is to be; 0: nobody says
	pieces   [][]byte
	length   int64
	open     bool // the last piece is memory of our own, to which others are added
}

// smallPiece is the size below which a piece is copied in any case: a body that dribbles in
// must not cost many times its size.
const smallPiece = 4 << 10

// firstRoom is how much memory a body gets on its mere promise, and promiseFactor how many times as much as has
// come.
const (
	firstRoom     = 64 << 10
	promiseFactor = 16
)

// add takes the next piece. One that is the whole body is never copied.
func (b *body) add(piece []byte, last bool) {
	b.length += int64(len(piece))
	switch {
	case len(piece) == 0:
	case b.keep && len(piece) >= smallPiece, last && len(b.pieces) == 0:
		b.pieces, b.open = append(b.pieces, piece), false
	case b.open:
		end := len(b.pieces) - 1
		b.pieces[end] = append(b.grow(b.pieces[end], len(piece)), piece...)
	default:
		b.pieces, b.open = append(b.pieces, append(b.grow(nil, len(piece)), piece...)), true
	}
}

// grow returns own with room for n bytes more: for the whole body, if what has come of it makes that likely, or else
// for twice as much as there is.
func (b *body) grow(own []byte, n int) []byte {
	need := len(own) + n
	if need <= cap(own) {
		return own
	}
	room := max(need, 2*len(own))
	if !b.keep && b.promised >= int64(need) { // then own is all that has come
		room = int(min(b.promised, max(firstRoom, promiseFactor*int64(need))))
	}
	return append(make([]byte, 0, room), own...)
}

// take returns the whole body, and keeps nothing of it.
func (b *body) take() []byte {
	pieces := b.pieces
	*b = body{}
	if len(pieces) == 1 {
		return slices.Clip(pieces[0])
	}
	return bytes.Join(pieces, nil) // not cleared before it is filled
}
