package jsonscan

import (
	"unicode/utf16"
	"unicode/utf8"
)

// Unquote appends to dst the value of a JSON string, given the bytes between
// its quotes, which a Scanner must have accepted. Like encoding/json it puts
// U+FFFD for what is not UTF-8 and for halves of surrogate pairs.
func Unquote(dst, raw []byte) []byte {
	for i := 0; i < len(raw); {
		c := raw[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRune(raw[i:])
			dst = utf8.AppendRune(dst, r)
			i += n
			continue
		}
		if c != '\\' || i+1 >= len(raw) {
			dst = append(dst, c)
			i++
			continue
		}
		c = raw[i+1]
		if c != 'u' {
			dst = append(dst, unescape(c))
			i += 2
			continue
		}
		r := hex4(raw[i:])
		i += 6
		if utf16.IsSurrogate(r) {
			// The second half is used up only if both make a pair; otherwise it
			// stands for itself.
			if pair := utf16.DecodeRune(r, hex4(raw[min(i, len(raw)):])); pair != utf8.RuneError {
				r = pair
				i += 6
			} else {
				r = utf8.RuneError
			}
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}

func unescape(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}

// hex4 returns the code unit of the \u escape that b starts with, or less than 0.
func hex4(b []byte) rune {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return -1
	}
	return rune(hexes[b[2]])<<12 | rune(hexes[b[3]])<<8 | rune(hexes[b[4]])<<4 | rune(hexes[b[5]])
}

// hexes are the values of hexadecimal digits, and -1 for other bytes.
var hexes = func() (values [256]int8) {
	for i := range values {
		values[i] = -1
	}
	for _, digits := range []string{"0123456789abcdef", "0123456789ABCDEF"} {
		for v, c := range digits {
			values[c] = int8(v)
		}
	}
	return values
}()

// AppendQuote appends s to dst as a JSON string with its quotes. Only what must
// be escaped is: quotes, backslashes, and below 0x20. What is not UTF-8 becomes
// U+FFFD.
func AppendQuote(dst []byte, s string) []byte {
	const hexDigits = "0123456789abcdef"
	dst = append(dst, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '\n':
			dst = append(dst, '\\', 'n')
		case r == '\r':
			dst = append(dst, '\\', 'r')
		case r == '\t':
			dst = append(dst, '\\', 't')
		case r < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[r>>4], hexDigits[r&15])
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}
