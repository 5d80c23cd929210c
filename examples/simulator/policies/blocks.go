package policies

import (
	"encoding/binary"
	"math/bits"

	"github.com/inferpick/inferpick/types"
)

// bytesPerBlock is what stands for an engine's block of 16 tokens in a prompt.
const bytesPerBlock = 64

// blockHashes keeps the chained hashes of a request's prompt with the request:
// the one of a block stands for all bytes up to its end.
type blockHashes struct {
	size int // of a block in bytes
	key  *types.Key[*[]uint64]
}

func newBlockHashes(size int) blockHashes {
	return blockHashes{size, types.NewKey[*[]uint64]("block hashes")}
}

// of returns the hashes of the whole blocks of the prompt, seeded with the target
// model, since no engine shares a prefix between adapters.
func (b blockHashes) of(req *types.Request) []uint64 {
	if h, ok := b.key.Get(&req.Attrs); ok {
		return *h
	}
	text := promptOf(req)
	hashes := make([]uint64, 0, len(text)/b.size)
	h := chain(0, []byte(req.Target()))
	for ; len(text) >= b.size; text = text[b.size:] {
		h = chain(h, text[:b.size])
		hashes = append(hashes, h)
	}
	b.key.Set(&req.Attrs, &hashes)
	return hashes
}

// promptOf returns the bytes of the prompt: the request's own where they lie in one
// piece.
func promptOf(req *types.Request) []byte {
	data := req.PromptData()
	if s := req.Prompt.Spans; len(s) == 1 {
		return data[s[0].Start:s[0].End]
	}
	var text []byte
	for _, s := range req.Prompt.Spans {
		text = append(text, data[s.Start:s.End]...)
	}
	return text
}

// chain hashes p after what h stands for: each word is multiplied in, and the length
// ends it. It mixes well and keeps nobody out who wants collisions.
func chain(h uint64, p []byte) uint64 {
	n := uint64(len(p))
	for ; len(p) >= 8; p = p[8:] {
		h = fold(h, binary.LittleEndian.Uint64(p))
	}
	if len(p) > 0 {
		var last [8]byte
		copy(last[:], p)
		h = fold(h, binary.LittleEndian.Uint64(last[:]))
	}
	return fold(h, n)
}

func fold(h, word uint64) uint64 {
	hi, lo := bits.Mul64(h^word^0x9e3779b97f4a7c15, 0xd6e8feb86659fd93)
	return hi ^ lo ^ bits.RotateLeft64(word, 32)
}
