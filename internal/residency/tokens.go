package residency

import (
	"encoding/binary"

	"github.com/inferpick/inferpick/internal/prefixindex"
	"github.com/inferpick/inferpick/types"
)

// tokenBytes is what a token takes in a prompt that is given as token ids: see types.TokenPrompt.
const tokenBytes = 4

// bindTokens binds the blocks of an event, x.ids, to the text that their token ids are, if what comes
// before them is known to be text in the same way. It returns the first that it bound; len(x.ids): none.
//
// A block of the engine must be one block of text. With larger ones, prompts that part within one would have
// text in common that their blocks have not, and one that is dropped would take it from the others; with
// smaller ones, the tokens since the last end of a block of text would have to be kept.
func (x *Index) bindTokens(ev *types.KVEvent, before uint32) (first int) {
	first = len(x.ids)
	if x.o.Seed == nil || len(ev.Tokens) == 0 || len(x.ids) < len(ev.Hashes) || ev.BlockSize*tokenBytes != x.o.BlockBytes {
		return first
	}
	seed, chain, at, ok := x.textBefore(ev, before)
	if !ok {
		return first
	}
	h := prefixindex.ResumeHasher(x.o.BlockBytes, seed, chain)
	var hashes [1]uint64
	for i := 0; (i+1)*ev.BlockSize <= len(ev.Tokens) && i < len(x.ids); i++ {
		if x.blocks.At(x.ids[i]).parent != before {
			break // it was told otherwise before
		}
		x.bytes = x.bytes[:0]
		for _, token := range ev.Tokens[i*ev.BlockSize : (i+1)*ev.BlockSize] {
			x.bytes = binary.LittleEndian.AppendUint32(x.bytes, token)
		}
		h.Append(hashes[:0], x.bytes)
		at = x.textAfter(at, hashes[0])
		if b := x.blocks.At(x.ids[i]); b.is(exact) && b.text != at {
			x.count.Conflict++ // the last word counts: it is of who holds it now
		}
		if x.assign(x.ids[i], at) && i < first {
			first = i
		}
		x.blocks.At(x.ids[i]).children |= exact
		before = x.ids[i]
	}
	return first
}

// textBefore returns the text before an event's first block: its last block and the hash of that, or the
// seed at the start of a prompt.
func (x *Index) textBefore(ev *types.KVEvent, before uint32) (seed, chain uint64, at uint32, ok bool) {
	if before == root {
		seed = x.o.Seed(ev.Adapter, ev.Salt)
		if ev.Salt != "" {
			x.salts[x.ids[0]] = ev.Salt
		}
		return seed, seed, 0, true
	}
	b := x.blocks.At(before)
	if !b.is(exact) {
		return 0, 0, 0, false
	}
	return x.o.Seed(ev.Adapter, x.saltOf(before)), x.texts.At(b.text).hash, b.text, true
}

// saltOf is the salt of the prompt that a block belongs to.
func (x *Index) saltOf(id uint32) string {
	if len(x.salts) == 0 {
		return ""
	}
	for x.blocks.At(id).parent != root && x.blocks.At(id).parent != 0 {
		id = x.blocks.At(id).parent
	}
	return x.salts[id]
}
