package promtext

import (
	"bytes"
	"math"
	"strconv"
)

// powersOfTen are exact as float64, as all powers up to 10^22 are.
var powersOfTen = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

// parseValue reads a sample value as expfmt does: what strconv.ParseFloat takes,
// but for hexadecimal numbers and underscores.
func parseValue(b []byte) (v float64, ok bool) {
	if v, ok := parseDecimal(b); ok {
		return v, true
	}
	if bytes.ContainsAny(b, "pP_") {
		return 0, false
	}
	v, err := strconv.ParseFloat(string(b), 64)
	return v, err == nil
}

// parseDecimal reads numbers such as 17, -3 and 0.25, of at most 15 digits. Both
// the digits as an integer and the power of ten are then exact in a float64, and
// one division rounds correctly (Clinger, "How to read floating point numbers
// accurately", PLDI 1990).
func parseDecimal(b []byte) (v float64, ok bool) {
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 16 {
		return 0, false
	}
	var digits uint64
	n, point := 0, -1
	for _, c := range b {
		switch {
		case '0' <= c && c <= '9':
			digits = digits*10 + uint64(c-'0')
			n++
		case c == '.' && point < 0:
			point = n
		default:
			return 0, false
		}
	}
	if n == 0 || n > 15 {
		return 0, false
	}
	v = float64(digits)
	if point >= 0 {
		v /= powersOfTen[n-point]
	}
	if negative {
		v = -v
	}
	return v, true
}

// parseTimestamp reads a timestamp as milliseconds. Whole numbers are
// milliseconds, unless the page is OpenMetrics; with a fraction or an exponent,
// which only OpenMetrics has, they are seconds anyway.
func parseTimestamp(b []byte, openMetrics bool) (ms int64, ok bool) {
	if !openMetrics {
		if ms, err := strconv.ParseInt(string(b), 10, 64); err == nil {
			return ms, true
		}
		if !bytes.ContainsAny(b, ".eE") {
			return 0, false
		}
	}
	seconds, ok := parseValue(b)
	if t := math.Round(seconds * 1000); ok && t >= -1<<63 && t < 1<<63 {
		return int64(t), true
	}
	return 0, false
}
