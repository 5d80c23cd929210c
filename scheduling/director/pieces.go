package director

import (
	"bytes"
	"slices"
)

// This file is what of a body is sent: as a whole, or in pieces, without a copy.

// Pieces returns what to send, in order: Body, if there is one, or else with Incoming.Pieces what it would be. Long
// pieces are parts of Incoming.Body; all must not be changed, and may be read until the Route is done. None is empty; of an
// empty body there are none. It may be called again, for another attempt.
func (r *Route) Pieces() [][]byte {
	if len(r.Body) > 0 {
		return [][]byte{r.Body}
	}
	return slices.Clone(r.pieces) // net.Buffers, for one, clears what it has written
}

// Length returns how many bytes Pieces have, and so what is sent in place of Content-Length.
func (r *Route) Length() int {
	n := len(r.Body)
	if n == 0 {
		for _, piece := range r.pieces {
			n += len(piece)
		}
	}
	return n
}

// load says what is sent.
func (r *Route) load(in *Incoming) {
	model, session := r.renamed(), r.Request.EngineSession
	if !in.Pieces || in.size > 0 || model == "" && session == "" {
		r.Body = r.parsed.Splice(in.Body, model, session)
		return
	}
	r.Body, r.pieces = nil, r.parsed.Pieces(in.Body, model, session)
	if len(r.pieces) == 1 {
		r.Body, r.pieces = r.pieces[0], nil
	}
}

// renamed returns the name in place of the model's, if it is another.
func (r *Route) renamed() string {
	if target := r.Request.Target(); target != r.Request.Model {
		return target
	}
	return ""
}

// joined returns Body, made of pieces if it was not needed before.
func (r *Route) joined() []byte {
	if r.pieces != nil {
		r.Body, r.pieces = bytes.Join(r.pieces, nil), nil
	}
	return r.Body
}
