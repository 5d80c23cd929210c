package prefixindex

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
)

// stripeBytes is what one round of the hash reads: four lanes of two words.
// A block is a whole number of stripes, so that a block never has a tail whose
// bytes would need a rule of their own.
const stripeBytes = 64

const (
	minBlockBytes     = stripeBytes
	maxBlockBytes     = 1 << 16
	defaultBlockBytes = 256
)

// Odd 64-bit constants from the fraction of pi, nothing up the sleeve. They
// only have to be dense in ones and different from each other.
const (
	pi0 uint64 = 0x243f6a8885a308d3
	pi1 uint64 = 0x13198a2e03707345
	pi2 uint64 = 0xa4093822299f31d1
	pi3 uint64 = 0x082efa98ec4e6c89
	pi4 uint64 = 0x452821e638d01377
	pi5 uint64 = 0xbe5466cf34e90c6d
	pi6 uint64 = 0xc0ac29b7c97c50dd
	pi7 uint64 = 0x3f84d5b5b5470917
)

// A Hasher turns a prompt into the chained hashes of its blocks:
//
//	h[i] = H(block i, h[i-1]),  h[-1] = seed
//
// so one hash stands for the whole prompt up to and including its block. The
// last partial block has no hash. Every bit of a block counts. The same bytes
// under the same seed and block size give the same hashes in every process and
// on every architecture.
//
// The prompt may come in any number of pieces; where it is cut makes no
// difference, and only the pieces of a 64-byte stripe that straddles a cut are
// copied.
//
// A Hasher is a value that allocates nothing: make one for each prompt with
// NewHasher or Index.Hasher. A copy goes on independently, which hashes two
// prompts with the same head once. It is not safe for concurrent use. The zero
// value is not usable.
//
// The hash is built, as wyhash and rapidhash are, on the 128-bit product of two
// keyed words; four independent lanes keep the multiplier busy. It is fast and
// well mixed but no cryptographic hash: who knows the seed can construct
// collisions. What he gains is a wrong estimate of his own cache hits, provided
// that tenants who do not trust each other have different seeds; see Seed.
type Hasher struct {
	keys  [8]uint64 // four factors, then what the four lanes start from
	lanes [4]uint64 // of the block under way
	chain uint64    // hash of the last finished block, or the seed
	block int       // bytes of a block
	pos   int       // bytes of the block under way that have been taken
	buf   [stripeBytes]byte
}

// NewHasher returns a Hasher for blocks of blockBytes, which is a multiple of
// 64 from 64 to 65,536; anything else is a programming error and panics. Use
// the same block size as the Index, or Index.Hasher.
func NewHasher(blockBytes int, seed uint64) Hasher {
	if err := checkBlockBytes(blockBytes); err != nil {
		panic(err)
	}
	h := Hasher{chain: seed, block: blockBytes}
	for i, c := range [8]uint64{pi0, pi1, pi2, pi3, pi4, pi5, pi6, pi7} {
		h.keys[i] = mix(seed^c, pi0+uint64(i)*pi1) | 1
	}
	return h
}

// ResumeHasher returns a Hasher that goes on where another one with the same seed was after a whole block:
// chain is the hash of that.
func ResumeHasher(blockBytes int, seed, chain uint64) Hasher {
	h := NewHasher(blockBytes, seed)
	h.chain = chain
	return h
}

func checkBlockBytes(n int) error {
	if n < minBlockBytes || n > maxBlockBytes || n%stripeBytes != 0 {
		return fmt.Errorf("prefixindex: block size %d is not a multiple of %d between %d and %d bytes",
			n, stripeBytes, minBlockBytes, maxBlockBytes)
	}
	return nil
}

// Append takes the next piece of the prompt and appends the hashes of the
// blocks that it completes to dst. It allocates only where dst lacks capacity.
// p is not kept.
func (h *Hasher) Append(dst []uint64, p []byte) []uint64 {
	if h.pos > 0 {
		dst, p = h.resume(dst, p)
	}
	if n := len(p) / h.block; n > 0 {
		dst = slices.Grow(dst, n)
		for range n {
			h.chain = h.whole(p[:h.block])
			dst = append(dst, h.chain)
			p = p[h.block:]
		}
	}
	if len(p) > 0 {
		dst, _ = h.resume(dst, p)
	}
	return dst
}

// resume feeds the block under way, at most to its end, and returns what it
// did not take.
func (h *Hasher) resume(dst []uint64, p []byte) ([]uint64, []byte) {
	if h.pos == 0 {
		copy(h.lanes[:], h.keys[4:])
	}
	for len(p) > 0 {
		off := h.pos % stripeBytes
		if off == 0 && len(p) >= stripeBytes {
			h.stripe((*[stripeBytes]byte)(p))
			h.pos += stripeBytes
			p = p[stripeBytes:]
		} else {
			n := copy(h.buf[off:], p)
			h.pos += n
			p = p[n:]
			if off+n == stripeBytes {
				h.stripe(&h.buf)
			}
		}
		if h.pos == h.block {
			h.pos = 0
			h.chain = finish(h.chain, h.lanes[0], h.lanes[1], h.lanes[2], h.lanes[3])
			return append(dst, h.chain), p
		}
	}
	return dst, nil
}

func (h *Hasher) stripe(s *[stripeBytes]byte) {
	for i := range h.lanes {
		h.lanes[i] = mix(word(s[i*16:])^h.keys[i], word(s[i*16+8:])^h.lanes[i])
	}
}

// whole hashes a block that lies in one piece. It must agree with stripe and
// resume; the lanes are spelt out so that they stay in registers.
func (h *Hasher) whole(b []byte) uint64 {
	k0, k1, k2, k3 := h.keys[0], h.keys[1], h.keys[2], h.keys[3]
	l0, l1, l2, l3 := h.keys[4], h.keys[5], h.keys[6], h.keys[7]
	for len(b) >= stripeBytes {
		s := (*[stripeBytes]byte)(b)
		l0 = mix(word(s[0:])^k0, word(s[8:])^l0)
		l1 = mix(word(s[16:])^k1, word(s[24:])^l1)
		l2 = mix(word(s[32:])^k2, word(s[40:])^l2)
		l3 = mix(word(s[48:])^k3, word(s[56:])^l3)
		b = b[stripeBytes:]
	}
	return finish(h.chain, l0, l1, l2, l3)
}

// finish joins the lanes and the hash of the block before. The chain enters
// here and not at the start of the lanes, so that the lanes of the next block
// need not wait for it.
func finish(chain, l0, l1, l2, l3 uint64) uint64 {
	return mix(mix(mix(l0, l1)^chain, mix(l2, l3)^pi2)^pi4, pi6)
}

// mix folds the 128-bit product of a and b. The bare fold, as wyhash has it,
// forgets one factor when the other is 0 or all ones; the sum on top keeps it.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return (hi ^ lo) + a + bits.RotateLeft64(b, 29)
}

func word(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// Seed makes a seed for NewHasher of what separates prompts that look the same:
// the target model, the adapter, the cache salt, the tenant. The strings are
// taken with their lengths, so Seed("ab", "c") and Seed("a", "bc") differ, and
// so does the number of strings: Seed("a") and Seed("a", "") differ.
func Seed(parts ...string) uint64 {
	s := mix(uint64(len(parts))^pi3, pi5)
	for _, p := range parts {
		s = mix(s^uint64(len(p)), pi7)
		for len(p) > 0 {
			var b [16]byte // the last piece is padded with zeros; its length is in already
			n := copy(b[:], p)
			s = mix(word(b[:8])^s, word(b[8:])^pi1)
			p = p[n:]
		}
	}
	return mix(s^pi0, pi3)
}
