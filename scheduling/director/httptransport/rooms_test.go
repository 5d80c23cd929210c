package httptransport

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRooms(t *testing.T) {
	var l lender
	for _, tt := range []struct{ size, want int }{
		{1, 0}, {32 << 10, 0}, {32<<10 + 1, 36 << 10}, {64 << 10, 64 << 10}, {64<<10 + 1, 72 << 10},
		{140<<10 + 80, 144 << 10}, {220 << 10, 224 << 10}, {8 << 20, 8 << 20}, {8<<20 + 1, 0},
	} {
		b := l.lend(tt.size)
		if tt.want == 0 {
			require.Nil(t, b, "%d bytes", tt.size)
			continue
		}
		require.Len(t, *b, tt.want, "%d bytes", tt.size)
		l.takeBack(b)
	}
	l.takeBack(nil)
	places := map[int]int{}
	for size := leastLent; size <= mostLent; size += 1000 {
		room, place := roomOf(size)
		again, same := roomOf(room)
		require.Equal(t, []int{room, place}, []int{again, same}, "what was lent for %d goes back where it came from", size)
		require.True(t, room >= size && room < size+size/8+1, "%d bytes for %d", room, size)
		if had, ok := places[place]; ok {
			require.Equal(t, had, room)
		}
		places[place] = room
	}
	require.Len(t, places, len(l))
}

// A body is read no more once all its readers came to the end or were closed, in whatever order.
func TestOutgoing(t *testing.T) {
	var o outgoing
	require.True(t, o.idle())
	a, b := o.read([][]byte{[]byte("hello")}), o.read([][]byte{[]byte("hello")})
	all, err := io.ReadAll(a)
	require.NoError(t, err)
	require.Equal(t, "hello", string(all))
	require.False(t, o.idle(), "the other one is under way")
	n, err := b.Read(make([]byte, 2))
	require.Equal(t, []any{2, nil}, []any{n, err})
	require.NoError(t, b.Close())
	require.True(t, o.idle())
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
	require.True(t, o.idle(), "each counts once")
	_, err = b.Read(make([]byte, 2))
	require.ErrorIs(t, err, errClosed)
	_, err = a.Read(make([]byte, 2))
	require.Equal(t, io.EOF, err)
	require.True(t, bytes.Equal(all, []byte("hello")))
}
