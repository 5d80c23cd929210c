package director

import "bytes"

// body is what has come of a request's body.
type body struct {
	keep   bool // pieces are whoever's they came from no longer: large ones need not be copied
	room   int  // how much memory to begin with, where pieces are copied
	pieces [][]byte
	length int64
	open   bool // the last piece is memory of our own, to which others are added
}

// smallPiece is the size below which a piece is copied in any case: a body that dribbles in
// must not cost many times its size.
const smallPiece = 4 << 10

// add takes the next piece. One that is the whole body is never copied.
func (b *body) add(piece []byte, last bool) {
	b.length += int64(len(piece))
	switch {
	case len(piece) == 0:
	case b.keep && len(piece) >= smallPiece, last && len(b.pieces) == 0:
		b.pieces, b.open = append(b.pieces, piece), false
	case b.open:
		end := len(b.pieces) - 1
		b.pieces[end] = append(b.pieces[end], piece...)
	default:
		b.pieces, b.open = append(b.pieces, append(make([]byte, 0, b.room), piece...)), true
	}
}

// take returns the whole body, and keeps nothing of it.
func (b *body) take() []byte {
	pieces := b.pieces
	*b = body{}
	if len(pieces) == 1 {
		return pieces[0]
	}
	return bytes.Join(pieces, nil) // not cleared before it is filled
}
