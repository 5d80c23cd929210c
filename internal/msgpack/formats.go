package msgpack

// format is what the first byte of a value says about it.
type format struct {
	kind        Kind
	lengthBytes uint8 // that follow and hold the length
	length      uint8 // else the length itself; with lengthBytes, what is to be added
}

// formats are those of all first bytes, as https://github.com/msgpack/msgpack/blob/master/spec.md
// has them.
var formats = func() (t [256]format) {
	for b := range 0x80 {
		t[b] = format{kind: Int} // positive fixint
	}
	for b := range 16 {
		t[0x80+b] = format{kind: Map, length: uint8(b)}
		t[0x90+b] = format{kind: Array, length: uint8(b)}
	}
	for b := range 32 {
		t[0xa0+b] = format{kind: String, length: uint8(b)}
		t[0xe0+b] = format{kind: Int} // negative fixint
	}
	t[0xc0] = format{kind: Nil}
	t[0xc2], t[0xc3] = format{kind: Bool}, format{kind: Bool}
	for i, size := range []uint8{1, 2, 4} {
		t[0xc4+i] = format{kind: Binary, lengthBytes: size}
		t[0xc7+i] = format{kind: Extension, lengthBytes: size, length: 1} // a byte for its type
		t[0xd9+i] = format{kind: String, lengthBytes: size}
	}
	t[0xca], t[0xcb] = format{kind: Float, length: 4}, format{kind: Float, length: 8}
	for i, size := range []uint8{1, 2, 4, 8} {
		t[0xcc+i] = format{kind: Int, length: size}
		t[0xd0+i] = format{kind: Int, length: size}
	}
	for i, size := range []uint8{1, 2, 4, 8, 16} {
		t[0xd4+i] = format{kind: Extension, length: 1 + size}
	}
	t[0xdc], t[0xdd] = format{kind: Array, lengthBytes: 2}, format{kind: Array, lengthBytes: 4}
	t[0xde], t[0xdf] = format{kind: Map, lengthBytes: 2}, format{kind: Map, lengthBytes: 4}
	return t
}()

// plain is the size of values whose first byte tells it and that have none inside; 0 for others.
var plain = func() (t [256]uint8) {
	for b, f := range formats {
		if f.kind != Invalid && f.kind != Array && f.kind != Map && f.lengthBytes == 0 {
			t[b] = 1 + f.length
		}
	}
	return t
}()
