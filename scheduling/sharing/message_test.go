package sharing

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/types"
)

// What is written is read again, however many messages it takes, each of which stands alone.
func TestMessages(t *testing.T) {
	for _, key := range []string{"", "a key of sixteen bytes or more"} {
		w := &writer{origin: origin{1, 2, 3}, tick: 77}
		if key != "" {
			w.mac = hmac.New(sha256.New, []byte(key))
		}
		var sent [][]byte
		w.send = func(msg []byte) { sent = append(sent, slices.Clone(msg)) }
		w.begin(kindEjection, 5) // nothing in it
		w.begin(kindLoad, 6)
		const n = 9000
		for i := range n {
			w.end(appendLoad(w.item(loadSize), uint64(i), types.Booking{Requests: int64(i), ContextTokens: 1 << 33}))
		}
		w.begin(kindBinding, 7)
		w.end(append(w.item(4), "abcd"...))
		w.flush()
		require.Greater(t, len(sent), 2)

		slices.Reverse(sent)
		seen, other := map[uint64]bool{}, ""
		for _, msg := range sent {
			require.LessOrEqual(t, len(msg), MaxMessage)
			m, err := readMessage(msg, w.mac)
			require.NoError(t, err)
			require.Equal(t, w.origin, m.origin)
			require.EqualValues(t, 77, m.tick)
			require.NoError(t, m.each(func(k kind, scope uint64, r reader) error {
				if k != kindLoad {
					require.Equal(t, [2]uint64{uint64(kindBinding), 7}, [2]uint64{uint64(k), scope})
					other = string(r.Bytes(r.Len()))
					return nil
				}
				require.EqualValues(t, 6, scope)
				for r.More() {
					k, b := r.load()
					require.Equal(t, types.Booking{Requests: int64(k), ContextTokens: 1 << 33}, b)
					require.False(t, seen[k])
					seen[k] = true
				}
				return r.Err()
			}))
		}
		require.Len(t, seen, n)
		require.Equal(t, "abcd", other)
	}
}

func TestBadMessages(t *testing.T) {
	mac := hmac.New(sha256.New, []byte("a key of sixteen bytes or more"))
	valid := append([]byte(magic), make([]byte, 24)...)
	for name, tt := range map[string]struct {
		msg  []byte
		err  string
		sign bool
	}{
		"empty":    {nil, "is none of this package's", false},
		"short":    {valid[:27], "is none of this package's", false},
		"foreign":  {[]byte("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"), "is none of this package's", false},
		"version":  {append([]byte("ipk\x02"), valid[4:]...), "has another version", false},
		"long":     {make([]byte, MaxMessage+1), "has 65537 bytes, want at most 65536", false},
		"unsigned": {valid, "is not signed by the key", true},
		"forged":   {append(valid[:28:28], make([]byte, 32)...), "is not signed by the key", true},
	} {
		m := mac
		if !tt.sign {
			m = nil
		}
		_, err := readMessage(tt.msg, m)
		require.EqualError(t, err, tt.err, name)
	}
	m, err := readMessage(append(valid[:28:28], byte(kindLoad), 0, 0, 0, 0, 0, 0, 0, 1, 0, 9, 1), nil)
	require.NoError(t, err)
	require.ErrorIs(t, m.each(func(kind, uint64, reader) error { return nil }), errCut)
}

// No bytes make reading panic, take long, or make a part hear of what cannot be.
func FuzzHear(f *testing.F) {
	some := types.NewEndpoint("one", "10.0.0.1:80")
	some.Load.Book(types.Booking{Requests: 3, Prefilling: 1, PrefillTokens: 500, ContextTokens: 900, Denoise: 1 << 20})
	a, part := groupOf(f, Options{}, some)
	part.placed = []types.Placement{{Endpoint: "one", Anchors: []uint64{1, 2, 3}}}
	part.ejected = []types.Ejected{{Endpoint: "one", Number: 4, Refused: true, Left: time.Second}}
	part.bound = []types.Binding{{Key: 9, Endpoint: "one", Age: time.Second}}
	part.accounts = []types.Account{{Key: 8, Requests: 1, Tokens: 100, RequestsLeft: math.NaN(), TokensLeft: 5}}
	a.Tell(start, func(msg []byte) { f.Add(slices.Clone(msg)) })
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, msg []byte) {
		ep := types.NewEndpoint("one", "10.0.0.1:80")
		g, part := groupOf(t, Options{}, ep)
		g.Hear("fuzz", msg, start)
		b := ep.Load.Peers()
		require.True(t, b.Requests >= 0 && b.Requests <= mostRequests && b.Prefilling >= 0 && b.Prefilling <= b.Requests, b)
		require.True(t, b.PrefillTokens >= 0 && b.PrefillTokens <= mostTokens && b.ContextTokens >= 0 && b.ContextTokens <= mostTokens, b)
		require.True(t, b.Denoise >= 0 && b.Denoise <= mostDenoise, b)
		for _, a := range part.heardAccounts {
			require.False(t, math.IsNaN(a.Tokens) || math.IsInf(a.Requests, 0))
		}
		for _, e := range part.heardEjected {
			require.True(t, e.Endpoint == "one" && e.Left >= 0)
		}
		require.True(t, part.lost == 0 || part.lost == 2, "it can only leave")
	})
}

// Sections of kinds that are not known yet are passed over.
func TestKindsToCome(t *testing.T) {
	ep := types.NewEndpoint("one", "10.0.0.1:80")
	g, _ := groupOf(t, Options{}, ep)
	w := &writer{origin: origin{9}, tick: 1, send: func(msg []byte) { g.Hear("", msg, start) }}
	w.begin(kinds+5, 0)
	w.end(binary.BigEndian.AppendUint64(w.item(8), 1))
	w.begin(kindLoad, g.scopes[0].hash)
	w.end(appendLoad(w.item(loadSize), keyOf(ep), types.Booking{Requests: 2}))
	w.flush()
	require.EqualValues(t, 2, ep.Load.Peers().Requests)
}

// What diffusion models have to do is told beside the rest: whichever is read first, and with peers that do not tell
// of it, of which there is nothing then.
func TestDenoiseIsToldBeside(t *testing.T) {
	ep := types.NewEndpoint("one", "10.0.0.1:80")
	g, _ := groupOf(t, Options{}, ep)
	tell := func(tick uint64, k kind, b types.Booking) {
		w := &writer{origin: origin{9}, tick: tick, send: func(msg []byte) { g.Hear("", msg, start) }}
		w.begin(k, g.scopes[0].hash)
		if k == kindLoad {
			w.end(appendLoad(w.item(loadSize), keyOf(ep), b))
		} else {
			w.end(appendDenoise(w.item(denoiseSize), keyOf(ep), b))
		}
		w.flush()
	}
	b := types.Booking{Requests: 2, Denoise: 7000}
	tell(1, kindDenoise, b)
	require.Zero(t, ep.Load.Peers(), "it is not known to have anything")
	tell(2, kindLoad, b)
	require.Equal(t, types.Booking{Requests: 2}, ep.Load.Peers())
	tell(2, kindDenoise, b)
	require.Equal(t, b, ep.Load.Peers())
	tell(4, kindDenoise, types.Booking{Denoise: 9000})
	tell(3, kindDenoise, b)
	tell(4, kindLoad, b)
	require.Equal(t, types.Booking{Requests: 2, Denoise: 9000}, ep.Load.Peers(), "one overtook the other")
	tell(5, kindLoad, types.Booking{Requests: 1})
	require.Equal(t, types.Booking{Requests: 1}, ep.Load.Peers())
}
