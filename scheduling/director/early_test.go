package director_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// beginning is a request of which the first 4 KiB have come.
func beginning(body []byte) director.Incoming {
	return director.Incoming{Path: "/v1/chat/completions", Body: body[: 4<<10 : 4<<10]}
}

// A route of the beginning of a body ends as one of the whole body would: with the same booked, and the same sent.
func TestRouteEarly(t *testing.T) {
	store := newStore(t, 1, datastore.Options{})
	d := newDirector(t, store, func(o *director.Options) {
		o.EngineSessions = func(types.NamespacedName) bool { return true }
	})
	load := store.Snapshot().Pools()[0].Endpoints()[0].Load
	body := conversation(40 << 10)
	whole, err := d.Route(ctx, director.Incoming{Path: "/v1/chat/completions", Body: body})
	require.NoError(t, err)
	held := load.Held()
	whole.Withdraw() // as if it had never been
	require.Equal(t, types.Booking{}, load.Held())

	r := d.RouteEarly(ctx, beginning(body), int64(len(body)))
	require.NotNil(t, r)
	sent := string(r.Body) + string(body[4<<10:])
	require.Contains(t, sent, `"model":"`+r.Request.Target()+`"`)
	require.InDelta(t, whole.Request.Prompt.Tokens, r.Request.Prompt.Tokens, 100)

	require.True(t, r.Complete(body))
	require.Equal(t, held, load.Held())
	require.Equal(t, whole.Request.Prompt, r.Request.Prompt)
	require.Equal(t, 256, r.Request.MaxTokens)
	r.Next() // there is none, but this is what it would get
	require.Equal(t, sent, string(r.Body))
	answer(r)
	require.Equal(t, types.Booking{}, load.Held())
	require.True(t, r.Settled())
}

// What follows may change what the decision depended on.
func TestRouteEarlyIsLost(t *testing.T) {
	store := newStore(t, 1, datastore.Options{})
	load := store.Snapshot().Pools()[0].Endpoints()[0].Load
	good := conversation(40 << 10)
	for name, end := range map[string]string{
		"another model": `],"model":"other"}`, "tools": `],"tools":[{"x":1}]}`, "no JSON": `],}`, "a wrong type": `],"stream":7}`, "a salt": `],"cache_salt":"s"}`,
	} {
		d := newDirector(t, store, nil)
		body := append(bytes.TrimSuffix(bytes.Clone(good), []byte("]}")), end...)
		r := d.RouteEarly(ctx, beginning(body), int64(len(body)))
		require.NotNil(t, r, name)
		require.False(t, r.Complete(body), name)
		r.Withdraw()
		r.Withdraw()
		require.Equal(t, types.Booking{}, load.Held(), name)
	}
}

// Where the whole body is needed, or a place at a server is scarce, nothing is decided before it is there; and
// what would be refused is refused then.
func TestNotRouteEarly(t *testing.T) {
	body := conversation(40 << 10)
	for name, tt := range map[string]struct {
		options func(*director.Options)
		in      func(*director.Incoming)
	}{
		"admission": {options: func(o *director.Options) {
			o.Admission = func(types.NamespacedName) *admission.Options { return new(admission.Options) }
		}},
		"passthrough":    {options: func(o *director.Options) { o.Passthrough = func(types.NamespacedName) bool { return true } }},
		"headers only":   {in: func(in *director.Incoming) { in.HeadersOnly = true }},
		"another API":    {in: func(in *director.Incoming) { in.Path = "/v1/embeddings" }},
		"forbidden":      {in: func(in *director.Incoming) { in.Path = "/metrics" }},
		"encoded":        {in: func(in *director.Incoming) { in.Header = map[string][]string{"Content-Encoding": {"gzip"}} }},
		"nobody may":     {in: func(in *director.Incoming) { in.HasSubset = true }},
		"another method": {in: func(in *director.Incoming) { in.Method = "GET" }},
		"no model so far": {in: func(in *director.Incoming) {
			in.Body = bytes.Replace(in.Body, []byte(`"model":`), []byte(`"modem":`), 1)
		}},
	} {
		var told []string
		d := newDirector(t, newStore(t, 1, datastore.Options{}), func(o *director.Options) {
			if tt.options != nil {
				tt.options(o)
			}
			o.OnRefused = func(_ *types.Request, _ types.NamespacedName, err *director.Error) { told = append(told, err.Error()) }
		})
		in := beginning(body)
		if tt.in != nil {
			tt.in(&in)
		}
		require.Nil(t, d.RouteEarly(ctx, in, int64(len(body))), name)
		require.Empty(t, told, name)
	}
}

// BenchmarkRouteEarly is a request of 220 KiB whose first 32 KiB have come: the decision, which is all that happens
// before the server gets the first byte, and with complete all of it.
func BenchmarkRouteEarly(b *testing.B) {
	body := conversation(220 << 10)
	for _, complete := range []bool{false, true} {
		b.Run(fmt.Sprintf("endpoints=100/body=220KiB/complete=%v", complete), func(b *testing.B) {
			d := newDirector(b, newStore(b, 100, datastore.Options{}), nil)
			in := director.Incoming{Path: "/v1/chat/completions", Body: body[: 32<<10 : 32<<10]}
			b.ReportAllocs()
			for b.Loop() {
				r := d.RouteEarly(ctx, in, int64(len(body)))
				if complete && !r.Complete(body) {
					b.Fatal("it does not stand")
				}
				if complete {
					answer(r)
				} else {
					r.Withdraw()
				}
			}
		})
	}
	b.Run("endpoints=100/body=220KiB/whole", func(b *testing.B) {
		d := newDirector(b, newStore(b, 100, datastore.Options{}), nil)
		in := director.Incoming{Path: "/v1/chat/completions", Body: body}
		b.ReportAllocs()
		for b.Loop() {
			r, err := d.Route(ctx, in)
			if err != nil {
				b.Fatal(err)
			}
			answer(r)
		}
	})
}
