package director_test

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/scheduling/director"
)

// inPieces has a body come in pieces of so many bytes, of which the plane uses the memory again, with its length
// promised or not.
func inPieces(t testing.TB, d *director.Director, in director.Incoming, size int, promised int) *director.Exchange {
	body, buffer := in.Body, make([]byte, size)
	if promised > 0 {
		in.Header = map[string][]string{"Content-Length": {strconv.Itoa(promised)}}
	}
	x, a := d.Begin(ctx, in)
	require.Nil(t, a)
	for len(body) > 0 {
		n := copy(buffer, body)
		body = body[n:]
		require.Nil(t, x.Body(buffer[:n], len(body) == 0))
	}
	return x
}

// named is a conversation with another model.
func named(model string, body []byte) []byte {
	return bytes.Replace(body, []byte("food"), []byte(model), 1)
}

// BenchmarkExchangeBody is a long prompt that comes in pieces of 16 KiB.
func BenchmarkExchangeBody(b *testing.B) {
	d := newDirector(b, newStore(b, 4, datastore.Options{}), nil)
	for _, bb := range []struct {
		name   string
		model  string
		pieces bool
	}{{"model=same", "other", false}, {"model=another", "food", false}, {"model=another/pieces", "food", true}} {
		for _, promised := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s/promised=%v", bb.name, promised), func(b *testing.B) {
				in := director.Incoming{Path: "/v1/chat/completions", Body: named(bb.model, conversation(220<<10)), Pieces: bb.pieces}
				length := 0
				if promised {
					length = len(in.Body)
				}
				b.SetBytes(int64(len(in.Body)))
				b.ReportAllocs()
				for b.Loop() {
					x := inPieces(b, d, in, 16<<10, length)
					answer(x.Route())
					x.Close(nil)
				}
			})
		}
	}
}

// What a body costs in memory, in bytes: not much more than it has, if it is as long as it says, and never much more
// than has come of it.
func TestExchangeBodyAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	d := newDirector(t, newStore(t, 4, datastore.Options{}), nil)
	for _, tt := range []struct {
		name           string
		size, promised int // in KiB; promised below 0: too little
		keep, pieces   bool
		most           float64 // times size
	}{
		{"promised", 220, 220, false, true, 1.25},
		{"promised, and sent as a whole", 220, 220, false, false, 2.25},
		{"short", 32, 32, false, false, 3},
		{"long", 6 * 1024, 6 * 1024, false, true, 1.9},
		{"not promised", 220, 0, false, true, 3},
		{"longer than promised", 220, -1, false, true, 3},
		{"kept", 220, 220, true, true, 1.25},
	} {
		in := director.Incoming{Path: "/v1/chat/completions", Body: conversation(tt.size << 10), Pieces: tt.pieces, KeepBody: tt.keep}
		promised := len(in.Body)
		if tt.promised <= 0 {
			promised = -tt.promised * 100
		}
		step := 16 << 10
		run := func() {
			x := inPieces(t, d, in, step, promised)
			answer(x.Route())
			x.Close(nil)
		}
		if tt.keep { // of a plane whose memory it is
			step = len(in.Body)/2 + 1
			run = func() {
				x, _ := d.Begin(ctx, in)
				x.Body(in.Body[:step], false)
				x.Body(in.Body[step:], true)
				answer(x.Route())
				x.Close(nil)
			}
		}
		run()
		got := float64(bytesPerRun(10, run)-16<<10) / float64(len(in.Body))
		require.Less(t, got, tt.most, tt.name)
	}

	for _, came := range []int{1, 1000, 70_000, 300_000} {
		body := make([]byte, came)
		most := max(80<<10, 40*came) // with what it had before
		require.Less(t, bytesPerRun(10, func() {
			in := director.Incoming{Path: "/v1/chat/completions", Header: map[string][]string{"Content-Length": {"16000000"}}}
			x, a := d.Begin(ctx, in)
			require.Nil(t, a)
			for piece := range slices.Chunk(body, 16<<10) {
				require.Nil(t, x.Body(piece, false))
			}
			x.Close(nil)
		}), most, "of 16 MB that were promised, %d bytes have come", came)
	}
}
