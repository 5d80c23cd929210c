package simulation

import (
	"encoding/binary"
	"math/bits"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

// bytesPerToken is how many bytes of prompt stand for one token, as the request
// parser estimates it.
const bytesPerToken = 4

// appendText appends the bytes of the prompt: for each token four that depend on
// its segment and its place there alone, so that prompts are equal as bytes just
// as far as they are equal as content.
func appendText(dst []byte, content []Segment) []byte {
	for _, s := range content {
		id := s.ID * 0x9e3779b97f4a7c15
		for t := range s.Tokens {
			dst = binary.LittleEndian.AppendUint32(dst, uint32((id+uint64(t)*0xd1342543de82ef95)>>32))
		}
	}
	return dst
}

// appendHashes appends the chained hashes of the whole engine blocks that content
// fills.
func appendHashes(dst []uint64, content []Segment) []uint64 {
	h, room := uint64(0x243f6a8885a308d3), engine.BlockTokens
	for _, s := range content {
		for at := 0; at < s.Tokens; {
			n := min(room, s.Tokens-at)
			h = mix(h^s.ID, uint64(at)<<8|uint64(n)|1<<63)
			at += n
			if room -= n; room == 0 {
				dst, room = append(dst, h), engine.BlockTokens
			}
		}
	}
	return dst
}

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0xa4093822299f31d1, b^0x082efa98ec4e6c89)
	return hi ^ lo ^ bits.RotateLeft64(a, 23)
}

// appendOutputHashes goes on with the blocks that the output fills, which is content
// with an ID.
func appendOutputHashes(dst []uint64, j *Job, id uint64) []uint64 {
	whole := append(j.Content[:len(j.Content):len(j.Content)], Segment{id, j.Output})
	return appendHashes(dst[:0], whole)
}
