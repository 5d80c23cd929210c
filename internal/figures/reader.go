// Package figures reads and writes figures in binary, one after another: fixed numbers big-endian, counts as uvarints,
// names with their length. A Reader believes nothing: it checks the range of each figure.
package figures

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// ErrCut is the error of what ends too early.
var ErrCut = errors.New("is cut off")

// Reader reads figures. After the first error it reads zeros. Make it with NewReader; the zero Reader has nothing to
// read.
type Reader struct {
	b   []byte
	err error
}

// NewReader returns a Reader of b, which it neither changes nor copies.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Err returns the first error.
func (r *Reader) Err() error { return r.err }

// Fail makes err the first error, if there was none.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

// Failf is Fail with an error that is made of a format.
func (r *Reader) Failf(format string, args ...any) { r.Fail(fmt.Errorf(format, args...)) }

// More reports whether there is more to read.
func (r *Reader) More() bool { return len(r.b) > 0 }

// Len returns how many bytes are left.
func (r *Reader) Len() int { return len(r.b) }

// End returns the first error; that something is left is one.
func (r *Reader) End() error {
	if r.More() {
		r.Failf("has %d bytes too many", len(r.b))
	}
	return r.err
}

// Bytes reads n bytes, which belong to what is read.
func (r *Reader) Bytes(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.Fail(ErrCut)
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

// Byte reads one byte.
func (r *Reader) Byte() byte {
	if b := r.Bytes(1); b != nil {
		return b[0]
	}
	return 0
}

// Uint16 reads 2 bytes.
func (r *Reader) Uint16() uint16 {
	if b := r.Bytes(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// Uint32 reads 4 bytes.
func (r *Reader) Uint32() uint32 {
	if b := r.Bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// Uint64 reads 8 bytes.
func (r *Reader) Uint64() uint64 {
	if b := r.Bytes(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// Count reads a uvarint; more than most is an error.
func (r *Reader) Count(what string, most uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	switch {
	case n == 0:
		r.Fail(ErrCut)
		return 0
	case n < 0 || v > most:
		r.Failf("has %d as the %s, want at most %d", v, what, most)
		return 0
	}
	r.b = r.b[n:]
	return v
}

// Items reads how many items follow, each of at least size bytes.
func (r *Reader) Items(what string, most uint64, size int) int {
	n := r.Count(what, most)
	if n > uint64(len(r.b)/size) {
		r.Fail(ErrCut)
		return 0
	}
	return int(n)
}

// Float reads a number from least to most; another one, and no number, is an error.
func (r *Reader) Float(what string, least, most float64) float64 {
	b := r.Bytes(8)
	if b == nil {
		return 0
	}
	v := math.Float64frombits(binary.BigEndian.Uint64(b))
	if !(v >= least && v <= most) {
		r.Failf("has %g as the %s, want %g to %g", v, what, least, most)
		return 0
	}
	return v
}

// String reads a name of at most most bytes.
func (r *Reader) String(what string, most uint64) string {
	return string(r.Bytes(int(r.Count("length of the "+what, most))))
}

// AppendFloat appends a number for Reader.Float.
func AppendFloat(dst []byte, v float64) []byte {
	return binary.BigEndian.AppendUint64(dst, math.Float64bits(v))
}

// AppendString appends a name for Reader.String.
func AppendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}
