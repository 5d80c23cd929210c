package media

import "bytes"

// What reading one file may cost.
const (
	maxWork   = 32 << 10 // bytes that are looked at, each read counted as readCost more
	readCost  = 256
	maxTail   = 20 << 10 // bytes at the end of an Ogg file in which its last page is looked for
	maxRead   = 64       // bytes of one read
	maxText   = 64 << 10 // of base64 with escapes
	maxHead   = 256      // of a data URL, before its data
	maxRewind = 4        // how often text with escapes is walked from its start
)

// source gives bytes of a file at any place, of which only those are decoded that are asked for.
type source struct {
	data []byte // the file, or its base64
	size int    // of the file; of text with escapes at most so much
	text bool
	// budget is what reading it may yet cost.
	budget int

	// Text with escapes can only be walked: this is where, in bytes of it and in digits of base64.
	escaped     bool
	pos, digits int
	rewound     int

	buf [maxRead + 2]byte
}

// Payload returns the base64 in a data URL, or all of a text that is no data URL. It is false for a data URL in another
// encoding.
func Payload(text []byte) (data []byte, ok bool) {
	if len(text) < 5 || !bytes.EqualFold(text[:5], []byte("data:")) {
		return text, true
	}
	comma := bytes.IndexByte(text[:min(len(text), maxHead)], ',')
	const encoding = ";base64"
	if comma < len(encoding) || !bytes.EqualFold(text[comma-len(encoding):comma], []byte(encoding)) {
		return nil, false
	}
	return text[comma+1:], true
}

func newText(data []byte) source {
	for range 2 {
		data = bytes.TrimSuffix(data, []byte("="))
	}
	s := source{data: data, text: true, budget: maxWork, size: len(data)/4*3 + len(data)%4*3/4}
	head := data[:min(len(data), maxText)]
	if bytes.IndexByte(head, '\\') >= 0 {
		s.escaped, s.data = true, head
	}
	return s
}

// read returns n bytes at off, at most maxRead, until the next read; nil if they are not all there, or enough was read.
func (s *source) read(off, n int) []byte {
	s.budget -= n + readCost
	if off < 0 || n <= 0 || n > maxRead || off > s.size-n || s.budget < 0 {
		return nil
	}
	if !s.text {
		return s.data[off : off+n]
	}
	first, skip := off/3*4, off%3
	want := skip + n
	pos := first
	if s.escaped {
		if !s.walk(first) {
			return nil
		}
		pos = s.pos
	}
	acc, bits, got := uint32(0), 0, 0
	for got < want {
		digit, next := s.digit(pos)
		if next == 0 {
			return nil
		}
		pos = next
		if digit < 0 {
			continue
		}
		acc = acc<<6 | uint32(digit)
		if bits += 6; bits >= 8 {
			bits -= 8
			s.buf[got] = byte(acc >> bits)
			got++
		}
	}
	return s.buf[skip:want]
}

// walk goes to a digit of a text with escapes.
func (s *source) walk(digits int) bool {
	if s.digits > digits {
		if s.rewound++; s.rewound > maxRewind {
			return false
		}
		s.pos, s.digits = 0, 0
	}
	for s.digits < digits {
		digit, next := s.digit(s.pos)
		if next == 0 {
			return false
		}
		s.pos = next
		if digit >= 0 {
			s.digits++
		}
	}
	return true
}

// digit returns the value of the digit at pos, less than 0 of white space in a text with escapes, and where the next one is: 0
// at the end, or where no digit is.
func (s *source) digit(pos int) (value int8, next int) {
	if pos >= len(s.data) {
		return 0, 0
	}
	c := s.data[pos]
	if v := digits[c]; v >= 0 {
		return v, pos + 1
	}
	if !s.escaped || c != '\\' || pos+1 >= len(s.data) {
		return 0, 0
	}
	next = pos + 2
	switch c = s.data[pos+1]; c {
	case 'n', 'r', 't': // the lines of MIME
		return -1, next
	case '/':
	case 'u':
		if pos+6 > len(s.data) {
			return 0, 0
		}
		next, c = pos+6, 0
		for i, h := range s.data[pos+2 : pos+6] {
			switch {
			case h >= '0' && h <= '9':
				h -= '0'
			case h|0x20 >= 'a' && h|0x20 <= 'f':
				h = h | 0x20 - 'a' + 10
			default:
				return 0, 0
			}
			if i < 2 && h != 0 {
				return 0, 0
			}
			c = c<<4 | h
		}
	default:
		return 0, 0
	}
	if v := digits[c]; v >= 0 {
		return v, next
	}
	return 0, 0
}

// digits are the values of the digits of base64 in both alphabets, and -1 for other bytes.
var digits = func() (values [256]int8) {
	for i := range values {
		values[i] = -1
	}
	for _, alphabet := range []string{
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
	} {
		for v, c := range []byte(alphabet) {
			values[c] = int8(v)
		}
	}
	return values
}()
