package jsonscan

import (
	"encoding/binary"
	"math/bits"
)

// Strings are most of a body, so they are read in two ways. The careful one goes from one
// byte that cannot stand as it is to the next, eight bytes at once. The other takes blocks of
// text that is written as most text is, however many line ends and quotes are in it, without
// a branch that depends on where they are.
const (
	blockBytes = 32
	// nearBytes is how far a string is read carefully before a block is tried: most are
	// shorter, and where one block has been tried in vain others would be.
	nearBytes = 2 * blockBytes
)

// skipString returns the offset after the closing quote of the string whose first byte is at
// i, after its quote. escaped says that it has escapes; one of more than nearBytes may have some
// also if it does not.
func (s *Scanner) skipString(i int) (end int, escaped bool) {
	d := s.data
	for near := i + nearBytes; i < len(d); {
		if i >= near { // so that no backslash is before it
			i = skipBlocks(d, i)
			near = i + nearBytes
			continue
		}
		if len(d)-i >= 8 {
			mark := special(binary.LittleEndian.Uint64(d[i:]))
			if mark == 0 {
				i += 8
				continue
			}
			i += bits.TrailingZeros64(mark) >> 3
		}
		switch c := d[i]; {
		case c == '"':
			return i + 1, escaped
		case c == '\\':
			escaped = true
			if i+1 == len(d) {
				return s.fail(i+1, "unexpected end in a string"), true
			}
			switch escapes[d[i+1]] {
			case common:
				i += 2
				continue
			case short:
				i += 2
			case long:
				if i = s.skipLong(i); i < 0 {
					return -1, true
				}
			default:
				return s.fail(i, "invalid escape in a string"), true
			}
			near = i + nearBytes
		case c < ' ':
			return s.fail(i, "control character in a string"), escaped
		default:
			i++
		}
	}
	return s.fail(len(d), "unexpected end in a string"), escaped
}

// skipLong returns the offset after the \u escape at i, and after others that follow it: text
// in another script may be written in nothing else.
func (s *Scanner) skipLong(i int) int {
	for {
		if len(s.data)-i < 6 {
			return s.fail(len(s.data), "unexpected end in a string")
		}
		if hex4(s.data[i:]) < 0 {
			return s.fail(i, "invalid \\u escape in a string")
		}
		i += 6
		if next := s.data[i:]; len(next) < 2 || next[0] != '\\' || next[1] != 'u' {
			return i
		}
	}
}

// escape is what a byte makes with a backslash before it.
type escape uint8

const (
	invalid escape = iota
	long           // of four more digits
	short
	common // a short one that skipBlocks passes
)

var escapes = [256]escape{
	'"': common, 'n': common, 't': common,
	'\\': short, '/': short, 'b': short, 'f': short, 'r': short,
	'u': long,
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// special marks, in their highest bits, the bytes of a word that cannot stand in a string as
// they are: the quote, the backslash, and below 0x20. Each of the three terms is the test of
// a word for a byte less than n (Anderson, "Bit Twiddling Hacks"; Lamport 1975), with n = 1
// after an xor for the first two. None of the bytes has its highest bit set, which an xor
// with them leaves as it is, so that one mask does for all. A borrow may mark bytes above
// the first true one by mistake, never below it: the lowest mark is exact.
func special(x uint64) uint64 {
	return (((x ^ ones*'"') - ones) | ((x ^ ones*'\\') - ones) | (x - ones*' ')) &^ x & highs
}

// skipBlocks returns where the first block at or after i starts that is not common text: it
// ends the string, or has control characters, or escapes that are not common. It is the
// offset before where an escape lies across. No escape lies across i.
func skipBlocks(d []byte, i int) int {
	const most = 64 << 10 / blockBytes // at once, for assembly is not preempted
	for passed := most; passed == most; {
		passed = commonBlocks(d, i, min((len(d)-i)/blockBytes, most))
		i += passed * blockBytes
	}
	if d[i-1] == '\\' {
		i--
	}
	return i
}

// commonWords returns how many of the n blocks at i are common text, up to the first that may
// not be.
func commonWords(d []byte, i, n int) int {
	for k := range n {
		b := (*[1 + blockBytes]byte)(d[i-1+k*blockBytes:])
		if (uncommon(b, 0)|uncommon(b, 8)|uncommon(b, 16)|uncommon(b, 24))&highs != 0 {
			return k
		}
	}
	return n
}

// uncommon marks, in their highest bits, the bytes of the word after b[at] that are not common
// text: with a backslash before them all but ", n and t, else the quote and what is below
// 0x20. The tests are those of special, or their negation, -(v-ones)-1 = ^v+ones. What a borrow
// marks by mistake is the byte after a true mark if it has the next value, and so on. So a mark
// of n or t by mistake hides nothing, for there is no backslash before it; and one of a
// backslash is after \], which is marked as uncommon itself, as is any second backslash.
func uncommon(b *[1 + blockBytes]byte, at int) uint64 {
	before, x := binary.LittleEndian.Uint64(b[at:]), binary.LittleEndian.Uint64(b[at+1:])
	escaped := ((before ^ ones*'\\') - ones) &^ before
	quote := ((x ^ ones*'"') - ones) &^ x
	neither := ((x^^uint64(ones*'n'))+ones)&((x^^uint64(ones*'t'))+ones) | x // n nor t
	return (escaped^quote)&neither | (x-ones*' ')&^x
}
