package director_test

import (
	"bytes"
	"context"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/disagg"
	"github.com/inferpick/inferpick/types"
)

// In pieces a body is what it is as a whole, and nothing long of it is copied.
func TestPieces(t *testing.T) {
	long := strings.Repeat("It was the best of times. ", 8<<10)
	chat := func(fields string) director.Incoming {
		return director.Incoming{Path: "/v1/chat/completions", Body: []byte(`{` + fields + `}`)}
	}
	messages := `"messages":[{"role":"user","content":"` + long + `"}]`
	form := "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n" + long + "\r\n--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nfood\r\n--b--\r\n"
	for name, tt := range map[string]struct {
		in     director.Incoming
		pieces int // 0: there is a Body
	}{
		"the model first":   {chat(`"model":"food",` + messages), 2},
		"the model last":    {chat(messages + `,"model":"food"`), 2},
		"in the middle":     {chat(messages + `,"model":"food","x":"` + long + `"`), 3},
		"named twice":       {chat(`"model":"x",` + messages + `,"model":"food"`), 2},
		"with escapes":      {chat(`"m\u006fdel":"\u0066ood",` + messages), 2},
		"another model":     {chat(`"model":"other",` + messages), 0},
		"short":             {chat(`"model":"food","messages":[]`), 0},
		"a form":            {director.Incoming{Path: "/v1/audio/transcriptions", Body: []byte(form), Header: map[string][]string{"Content-Type": {"multipart/form-data; boundary=b"}}}, 2},
		"gRPC":              {director.Incoming{Path: "/vllm.grpc.engine.VllmEngine/Generate", Body: []byte("\x00\x00\x00\x00\x05\x0a\x03abc")}, 0},
		"without a body":    {director.Incoming{Method: "GET", Path: "/health"}, 0},
		"put, and not read": {director.Incoming{Method: "PUT", Path: "/v1/files/x", Body: []byte(long)}, 0},
	} {
		for _, sessions := range []bool{false, true} {
			d := newDirector(t, newStore(t, 2, datastore.Options{}), func(o *director.Options) {
				o.EngineSessions = func(types.NamespacedName) bool { return sessions }
			})
			t.Run(name, func(t *testing.T) {
				original := bytes.Clone(tt.in.Body)
				whole, err := d.Route(ctx, tt.in)
				require.NoError(t, err)
				defer whole.Done(nil)
				in := tt.in
				in.Pieces = true
				r, err := d.Route(ctx, in)
				require.NoError(t, err)
				defer r.Done(nil)
				if sessions = r.Request.EngineSession != ""; !sessions {
					require.Equal(t, tt.pieces > 0, r.Body == nil && r.Length() > 0)
					require.Len(t, r.Pieces(), max(tt.pieces, min(len(tt.in.Body), 1)))
				}
				own := 0
				for _, piece := range r.Pieces() {
					if !lieIn(in.Body, piece) {
						own += len(piece)
					}
				}
				require.Less(t, own, 4<<10)

				want := strings.Replace(string(whole.Body), whole.Request.EngineSession, r.Request.EngineSession, 1)
				require.Equal(t, want, joined(r))
				require.Len(t, want, r.Length())
				require.Equal(t, string(whole.Body), joined(whole), "without it pieces are the body")
				require.Len(t, whole.Body, whole.Length())

				buffers := net.Buffers(r.Pieces())
				_, err = buffers.WriteTo(new(bytes.Buffer))
				require.NoError(t, err)
				require.Equal(t, want, joined(r), "it is there for another attempt")
				require.Equal(t, string(original), string(tt.in.Body), "what came in was changed")
			})
		}
	}
}

// joined is what a data plane sends that sends pieces.
func joined(r *director.Route) string { return string(bytes.Join(r.Pieces(), nil)) }

// lieIn reports whether part, which is not empty, is memory of body.
func lieIn(body, part []byte) bool {
	for at := range body {
		if &body[at] == &part[0] {
			return true
		}
	}
	return false
}

// Routing in pieces costs next to nothing, however long the body is.
func TestPiecesAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	d := newDirector(t, newStore(t, 4, datastore.Options{}), nil)
	in := director.Incoming{Path: "/v1/chat/completions", Pieces: true}
	run := func() {
		r, err := d.Route(ctx, in)
		require.NoError(t, err)
		require.Nil(t, r.Body)
		answer(r)
	}
	in.Body = conversation(1 << 20)
	for range 10 {
		run()
	}
	require.Less(t, bytesPerRun(20, run), 64<<10, "of a body of 1 MiB")
	in.Body = conversation(32 << 10)
	for range 500 { // every server has been met
		run()
	}
	require.LessOrEqual(t, testing.AllocsPerRun(100, run), 7.0)
}

// bytesPerRun returns how much memory f asks for.
func bytesPerRun(runs int, f func()) int {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		f()
	}
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc-before.TotalAlloc) / runs
}

// What needs a body as a whole gets it, also where the data plane sends pieces.
func TestPiecesWhereAllIsNeeded(t *testing.T) {
	long := strings.Repeat("x", 8<<10)
	body := strings.Replace(twoImages, `"b"`, `"`+long+`"`, 1)
	want := strings.Replace(body, `"food"`, `"food-v1"`, 1)
	t.Run("Legs", func(t *testing.T) {
		d, _ := apart(t, disagg.NIXL(disagg.Options{}), nil)
		in := splitting(strings.Replace(chatBody, "hi", long, 1))
		in.Pieces = true
		r, err := d.Route(ctx, in)
		require.NoError(t, err)
		defer r.Done(nil)
		require.Nil(t, r.Body)
		legs, err := r.Legs(ctx)
		require.NoError(t, err)
		_, leg := legs.Prefill()
		require.Contains(t, string(leg.Body), `"model":"food-v1"`)
		require.Contains(t, string(leg.Body), long)
		require.Equal(t, string(r.Body), joined(r))
	})
	t.Run("Encodes", func(t *testing.T) {
		d, _ := apart(t, nil, func(o *director.Options) { o.Encode = encoding(t) }, "e1 encode", "d1 both")
		r, err := d.Route(ctx, director.Incoming{Path: "/v1/chat/completions", Body: []byte(body), Pieces: true})
		require.NoError(t, err)
		defer r.Done(nil)
		require.Nil(t, r.Body)
		e := r.Encodes()
		require.Equal(t, 2, e.Len())
		leg := e.Begin(ctx, 0)
		_, err = leg.Answer(200, nil, answerOf("a"))
		require.NoError(t, err)
		e.Done()
		require.Equal(t, want, string(r.Body))
		require.Contains(t, string(r.EncodedBody()), `"ec_transfer_params"`)
		require.Contains(t, string(r.EncodedBody())+joined(r), long)
	})
	t.Run("Tokenize", func(t *testing.T) {
		seen := ""
		d := newDirector(t, newStore(t, 2, datastore.Options{}), func(o *director.Options) {
			o.EngineSessions = func(types.NamespacedName) bool { return true }
			o.Tokenize = func(_ context.Context, r *director.Route, _ []*types.Endpoint) ([]uint32, bool) {
				seen = string(r.Body)
				return slices.Repeat([]uint32{7}, 100), true
			}
		})
		body := strings.Replace(chatBody, "hi", long, 1)
		r, err := d.Route(ctx, director.Incoming{Path: "/v1/chat/completions", Body: []byte(body), Pieces: true})
		require.NoError(t, err)
		defer r.Done(nil)
		require.Equal(t, strings.Replace(body, `"food"`, `"food-v1"`, 1), seen)
		require.Nil(t, r.Body)
		require.Equal(t, `{"session_id":"`+r.Request.EngineSession+`",`+seen[1:], joined(r))
	})
	t.Run("RouteEarly", func(t *testing.T) {
		d := newDirector(t, newStore(t, 1, datastore.Options{}), nil)
		body := conversation(40 << 10)
		in := beginning(body)
		in.Pieces = true
		r := d.RouteEarly(ctx, in, int64(len(body)))
		require.NotNil(t, r)
		require.Contains(t, string(r.Body), `"model":"food-v1"`)
		require.True(t, r.Complete(body))
		r.Next()
		require.Equal(t, strings.Replace(string(body), `"food"`, `"food-v1"`, 1), string(r.Body))
		answer(r)
	})
}

// Explain, and requests that are refused, copy no body.
func TestNoCopyOfWhatIsNotSent(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	full := newStore(t, 0, datastore.Options{})
	d, none := newDirector(t, newStore(t, 4, datastore.Options{}), nil), newDirector(t, full, nil)
	in := director.Incoming{Path: "/v1/chat/completions", Body: conversation(1 << 20)}
	for name, run := range map[string]func(){
		"explained": func() {
			_, err := d.Explain(ctx, in)
			require.NoError(t, err)
		},
		"refused": func() {
			_, err := none.Route(ctx, in)
			require.Error(t, err)
		},
	} {
		run()
		require.Less(t, bytesPerRun(20, run), 128<<10, name)
	}
}
