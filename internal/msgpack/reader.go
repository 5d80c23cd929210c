// Package msgpack reads MessagePack without building values: a Reader walks over a message, and
// what is not asked for is skipped. Nothing is allocated but errors.
package msgpack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Kind is the type of a value.
type Kind uint8

// The types of values. Signed and unsigned integers are one.
const (
	Invalid Kind = iota
	Nil
	Bool
	Int
	Float
	String
	Binary
	Array
	Map
	Extension
)

// String returns the name of the type.
func (k Kind) String() string {
	names := [...]string{"invalid", "nil", "bool", "int", "float", "string", "binary", "array", "map", "extension"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// ErrTruncated is the error of a message that ends too early, or has a length in it that is more
// than what is left.
var ErrTruncated = errors.New("the message ends too early")

// Reader reads the values of a message one after another. After the first error all methods
// return zero values and do nothing. The zero Reader reads an empty message.
type Reader struct {
	data []byte
	pos  int
	err  error
}

// Reset makes r read data from its start. Data is neither changed nor copied.
func (r *Reader) Reset(data []byte) { *r = Reader{data: data} }

// Err returns the first error, with the offset of the value that caused it.
func (r *Reader) Err() error { return r.err }

// Offset returns how many bytes have been read.
func (r *Reader) Offset() int { return r.pos }

// Kind returns the type of the next value, Invalid at the end of the message and after an error.
func (r *Reader) Kind() Kind {
	if r.err != nil || r.pos >= len(r.data) {
		return Invalid
	}
	return formats[r.data[r.pos]].kind
}

// Array reads the head of an array and returns the number of its elements, which are to be read
// or skipped next. There are never more of them than bytes left.
func (r *Reader) Array() int { return r.container(Array, 1) }

// Map reads the head of a map and returns the number of its pairs of a key and a value.
func (r *Reader) Map() int { return r.container(Map, 2) }

func (r *Reader) container(want Kind, values int) int {
	h, ok := r.head(want)
	if !ok {
		return 0
	}
	if h.length > (len(r.data)-h.body)/values {
		r.fail(ErrTruncated)
		return 0
	}
	r.pos = h.body
	return h.length
}

// Uint64 reads an integer. A negative one is taken modulo 2^64.
func (r *Reader) Uint64() uint64 {
	h, ok := r.head(Int)
	if !ok {
		return 0
	}
	f := r.data[r.pos]
	payload := r.data[h.body : h.body+h.length]
	r.pos = h.body + h.length
	switch {
	case h.length == 0:
		return uint64(int64(int8(f))) // both kinds of fixint
	case f >= 0xd0: // signed
		return signed(payload)
	}
	return BigEndian(payload)
}

func signed(b []byte) uint64 {
	v := BigEndian(b)
	shift := 64 - 8*len(b)
	return uint64(int64(v<<shift) >> shift)
}

// BigEndian returns the last 8 bytes of b as a big-endian number, or all of them if b is shorter.
func BigEndian(b []byte) uint64 {
	if len(b) >= 8 {
		return binary.BigEndian.Uint64(b[len(b)-8:])
	}
	var v uint64
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}

// Int reads an integer that fits an int64.
func (r *Reader) Int() int64 {
	big := r.pos < len(r.data) && r.data[r.pos] == 0xcf
	start := r.pos
	v := r.Uint64()
	if big && int64(v) < 0 {
		r.pos = start
		r.fail(fmt.Errorf("integer %d is out of range, want one that fits 64 bits with a sign", v))
		return 0
	}
	return int64(v)
}

// Float reads a number, be it a float or an integer.
func (r *Reader) Float() float64 {
	if r.Kind() == Int {
		return float64(r.Int())
	}
	h, ok := r.head(Float)
	if !ok {
		return 0
	}
	bits := BigEndian(r.data[h.body : h.body+h.length])
	r.pos = h.body + h.length
	if h.length == 4 {
		return float64(math.Float32frombits(uint32(bits)))
	}
	return math.Float64frombits(bits)
}

// Bytes reads a string or binary value. What it returns is a part of the message.
func (r *Reader) Bytes() []byte {
	want := String
	if r.Kind() == Binary {
		want = Binary
	}
	h, ok := r.head(want)
	if !ok {
		return nil
	}
	r.pos = h.body + h.length
	return r.data[h.body:r.pos:r.pos]
}

// Skip passes over the next value and all that is in it. However deep values are nested, it
// takes neither memory nor stack for that.
func (r *Reader) Skip() { r.SkipN(1) }

// SkipN passes over n values.
func (r *Reader) SkipN(n int) {
	if r.err != nil {
		return
	}
	data, pos := r.data, r.pos
	for ; n > 0; n-- {
		if pos < len(data) {
			if size := int(plain[data[pos]]); size > 0 && size <= len(data)-pos { // so most tokens of a prompt
				pos += size
				continue
			}
		}
		r.pos = pos
		h, ok := r.head(Invalid)
		if !ok {
			return
		}
		pos = h.body
		switch formats[data[r.pos]].kind {
		case Array:
			n += h.length
		case Map:
			n += 2 * h.length
		default:
			pos += h.length
		}
		if n-1 > len(data)-pos {
			r.fail(ErrTruncated)
			return
		}
	}
	r.pos = pos
}

// head is where a value's body begins, and its length: bytes, or elements.
type head struct{ body, length int }

// head reads the head of the next value without passing it. It is an error if the value is of
// another type than want, Invalid for any, or if its bytes are not all there.
func (r *Reader) head(want Kind) (head, bool) {
	if r.err != nil {
		return head{}, false
	}
	if r.pos >= len(r.data) {
		r.fail(ErrTruncated)
		return head{}, false
	}
	f := &formats[r.data[r.pos]]
	if f.kind == Invalid {
		r.fail(errors.New("byte 0xc1 begins no value"))
		return head{}, false
	}
	if want != Invalid && f.kind != want {
		r.fail(fmt.Errorf("a value is of type %v, want %v", f.kind, want))
		return head{}, false
	}
	h := head{body: r.pos + 1 + int(f.lengthBytes), length: int(f.length)}
	if h.body > len(r.data) {
		r.fail(ErrTruncated)
		return head{}, false
	}
	if f.lengthBytes > 0 {
		n := BigEndian(r.data[r.pos+1:h.body]) + uint64(f.length)
		if n > uint64(len(r.data)) {
			r.fail(ErrTruncated)
			return head{}, false
		}
		h.length = int(n)
	}
	if f.kind != Array && f.kind != Map && h.length > len(r.data)-h.body {
		r.fail(ErrTruncated)
		return head{}, false
	}
	return h, true
}

func (r *Reader) fail(err error) {
	if r.err == nil {
		r.err = fmt.Errorf("msgpack: at byte %d of %d: %w", r.pos, len(r.data), err)
	}
}
