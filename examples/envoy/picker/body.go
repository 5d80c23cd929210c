package picker

import "bytes"

// body is what has come of a request's body. Large pieces are kept as they came, each
// in the memory that gRPC read it into, and joined once, at the end.
type body struct {
	pieces [][]byte
	length int
	open   bool // the last piece is memory of our own, which small ones are added to
}

// smallPiece is the size below which a piece is copied: a body that dribbles in must
// not cost many times its size.
const smallPiece = 4 << 10

func (b *body) add(piece []byte) {
	b.length += len(piece)
	switch last := len(b.pieces) - 1; {
	case len(piece) == 0:
	case len(piece) >= smallPiece:
		b.pieces, b.open = append(b.pieces, piece), false
	case b.open:
		b.pieces[last] = append(b.pieces[last], piece...)
	case last < 0:
		b.pieces = append(b.pieces, piece) // often it is the only one
	default:
		b.pieces, b.open = append(b.pieces, append(make([]byte, 0, 4*smallPiece), piece...)), true
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
