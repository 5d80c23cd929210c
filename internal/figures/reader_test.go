package figures_test

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/internal/figures"
)

func TestReader(t *testing.T) {
	b := figures.AppendString(nil, "name")
	b = binary.AppendUvarint(b, 300)
	b = figures.AppendFloat(b, -1.5)
	b = binary.BigEndian.AppendUint64(b, 7)
	b = binary.BigEndian.AppendUint32(b, 6)
	b = binary.BigEndian.AppendUint16(b, 5)
	b = append(b, 4)
	b = binary.AppendUvarint(b, 2)
	b = append(b, "abcd"...)
	r := figures.NewReader(b)
	require.Equal(t, "name", r.String("name", 4))
	require.EqualValues(t, 300, r.Count("count", 300))
	require.Equal(t, -1.5, r.Float("float", -2, -1))
	require.EqualValues(t, 7, r.Uint64())
	require.EqualValues(t, 6, r.Uint32())
	require.EqualValues(t, 5, r.Uint16())
	require.EqualValues(t, 4, r.Byte())
	require.Equal(t, 2, r.Items("items", 2, 2))
	require.Equal(t, 4, r.Len())
	require.ErrorContains(t, r.End(), "has 4 bytes too many")
	require.ErrorContains(t, r.Err(), "has 4 bytes too many")
}

func TestReaderErrors(t *testing.T) {
	float := func(v float64) []byte { return figures.AppendFloat(nil, v) }
	for _, c := range []struct {
		name string
		in   []byte
		read func(*figures.Reader)
		want string
	}{
		{"NaN", float(math.NaN()), func(r *figures.Reader) { r.Float("rate", 0, 1) }, "has NaN as the rate, want 0 to 1"},
		{"Inf", float(math.Inf(1)), func(r *figures.Reader) { r.Float("rate", 0, 1) }, "has +Inf as the rate"},
		{"too small", float(-1), func(r *figures.Reader) { r.Float("rate", 0, 1) }, "has -1 as the rate"},
		{"too large", binary.AppendUvarint(nil, 9), func(r *figures.Reader) { r.Count("number", 8) }, "has 9 as the number, want at most 8"},
		{"endless", []byte{255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1}, func(r *figures.Reader) { r.Count("number", math.MaxUint64) }, "as the number"},
		{"cut count", []byte{128}, func(r *figures.Reader) { r.Count("number", 8) }, "is cut off"},
		{"cut float", make([]byte, 7), func(r *figures.Reader) { r.Float("rate", 0, 1) }, "is cut off"},
		{"cut name", []byte{5, 'a'}, func(r *figures.Reader) { _ = r.String("name", 8) }, "is cut off"},
		{"long name", []byte{9, 'a'}, func(r *figures.Reader) { _ = r.String("name", 8) }, "has 9 as the length of the name"},
		{"more items than bytes", []byte{9, 1, 2, 3}, func(r *figures.Reader) { r.Items("items", 100, 2) }, "is cut off"},
		{"own error first", nil, func(r *figures.Reader) { r.Failf("no %d", 1); r.Uint64() }, "no 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := figures.NewReader(c.in)
			c.read(r)
			require.ErrorContains(t, r.Err(), c.want)
			require.False(t, r.More())
			require.Zero(t, r.Uint64())
			require.ErrorContains(t, r.End(), c.want)
		})
	}
}
