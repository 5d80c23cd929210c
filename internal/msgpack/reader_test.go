package msgpack_test

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/internal/msgpack"
)

func reader(data string) *msgpack.Reader {
	var r msgpack.Reader
	r.Reset([]byte(data))
	return &r
}

func TestValues(t *testing.T) {
	for data, want := range map[string]uint64{
		"\x00": 0, "\x7f": 127, "\xff": math.MaxUint64, "\xe0": uint64(math.MaxUint64 - 31),
		"\xcc\xff": 255, "\xcd\x01\x00": 256, "\xce\x80\x00\x00\x00": 1 << 31, "\xcf\xff\xff\xff\xff\xff\xff\xff\xfe": math.MaxUint64 - 1,
		"\xd0\x80": uint64(math.MaxUint64 - 127), "\xd1\xff\xff": math.MaxUint64, "\xd2\x00\x00\x00\x01": 1, "\xd3\x80\x00\x00\x00\x00\x00\x00\x00": 1 << 63,
	} {
		r := reader(data)
		require.Equal(t, msgpack.Int, r.Kind())
		require.Equal(t, want, r.Uint64(), "%x", data)
		require.NoError(t, r.Err())
		require.Equal(t, len(data), r.Offset())
	}
	require.Equal(t, int64(-128), reader("\xd0\x80").Int())
	require.InDelta(t, 1.5, reader("\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00").Float(), 0)
	require.InDelta(t, 1.5, reader("\xca\x3f\xc0\x00\x00").Float(), 0)
	require.InDelta(t, -1, reader("\xff").Float(), 0)
	require.Equal(t, "ab", string(reader("\xa2ab").Bytes()))
	require.Equal(t, "ab", string(reader("\xd9\x02ab").Bytes()))
	require.Equal(t, "ab", string(reader("\xc4\x02ab").Bytes()))
	require.Equal(t, 2, reader("\xde\x00\x02\x01\x01\x02\x02").Map())
	require.Equal(t, 1, reader("\xdd\x00\x00\x00\x01\xc0").Array())
	require.Equal(t, uint64(0x0203040506070809), msgpack.BigEndian([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9}))
	require.Equal(t, uint64(0x0102), msgpack.BigEndian([]byte{1, 2}))
}

func TestSkip(t *testing.T) {
	for _, data := range []string{
		"\xc0", "\xc2", "\x05", "\xcd\x01\x02", "\xa3abc", "\xda\x00\x01a", "\xc5\x00\x02ab", "\x92\x01\x93\x01\x02\xa1a", "\x82\x01\x02\xa1a\x91\xc0",
		"\xd4\x01a", "\xd8\x010123456789abcdef", "\xc7\x03\x01abc", "\xdc\x00\x03\x01\x02\x03", "\xcb01234567",
		strings.Repeat("\x91", 100_000) + "\xc0",
	} {
		r := reader(data + "\x2a")
		r.Skip()
		require.NoError(t, r.Err(), "%.20x", data)
		require.Equal(t, uint64(42), r.Uint64(), "%.20x", data)
	}
}

func TestErrors(t *testing.T) {
	skip := func(r *msgpack.Reader) { r.Skip() }
	for _, c := range []struct {
		data string
		read func(*msgpack.Reader)
		want string
	}{
		{"", skip, "msgpack: at byte 0 of 0: the message ends too early"},
		{"\xc1", skip, "msgpack: at byte 0 of 1: byte 0xc1 begins no value"},
		{"\x92\x01", skip, "msgpack: at byte 0 of 2: the message ends too early"},
		{"\xdd\xff\xff\xff\xff\x01", skip, "msgpack: at byte 0 of 6: the message ends too early"},
		{"\xc6\xff\xff\xff\xff\x01", skip, "msgpack: at byte 0 of 6: the message ends too early"},
		{"\xcd\x01", skip, "msgpack: at byte 0 of 2: the message ends too early"},
		{"\x91\x91\xa5ab", skip, "msgpack: at byte 2 of 5: the message ends too early"},
		{"\xdc\x01", func(r *msgpack.Reader) { r.Array() }, "msgpack: at byte 0 of 2: the message ends too early"},
		{"\x81\x01", func(r *msgpack.Reader) { r.Map() }, "msgpack: at byte 0 of 2: the message ends too early"},
		{"\xc0", func(r *msgpack.Reader) { r.Array() }, "msgpack: at byte 0 of 1: a value is of type nil, want array"},
		{"\x01", func(r *msgpack.Reader) { r.Bytes() }, "msgpack: at byte 0 of 1: a value is of type int, want string"},
		{"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", func(r *msgpack.Reader) { r.Int() }, "msgpack: at byte 0 of 9: integer 18446744073709551615 is out of range, want one that fits 64 bits with a sign"},
	} {
		r := reader(c.data)
		c.read(r)
		require.EqualError(t, r.Err(), c.want, "%x", c.data)
		r.Skip()
		require.Zero(t, r.Uint64())
		require.Equal(t, msgpack.Invalid, r.Kind())
		require.EqualError(t, r.Err(), c.want, "the first error stays")
	}
}

// FuzzReader: whatever is read, nothing panics, nothing is read beyond the end, and walking over
// all values ends where skipping does.
func FuzzReader(f *testing.F) {
	for _, seed := range []string{"\x93\x01\xa1a\xc0", "\x82\x01\x02\xa1a\x91\xc0", "\xc7\x03\x01abc", "\xdd\xff\xff\xff\xff", "\xcf\xff\xff\xff\xff\xff\xff\xff\xff"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var skipped, walked msgpack.Reader
		skipped.Reset(data)
		skipped.Skip()
		walked.Reset(data)
		walk(&walked)
		require.Equal(t, skipped.Err() == nil, walked.Err() == nil, "skipped %v, walked %v", skipped.Err(), walked.Err())
		require.LessOrEqual(t, skipped.Offset(), len(data))
		if skipped.Err() == nil {
			require.Equal(t, skipped.Offset(), walked.Offset())
		}
	})
}

// walk reads a value element by element.
func walk(r *msgpack.Reader) {
	for left := 1; left > 0 && r.Err() == nil; left-- {
		switch r.Kind() {
		case msgpack.Array:
			left += r.Array()
		case msgpack.Map:
			left += 2 * r.Map()
		case msgpack.Int:
			r.Uint64()
		case msgpack.Float:
			r.Float()
		case msgpack.String, msgpack.Binary:
			r.Bytes()
		default:
			r.Skip()
		}
	}
}
