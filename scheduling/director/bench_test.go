package director_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/stretchr/testify/require"
)

// conversation returns a chat of ten messages with n bytes of body.
func conversation(n int) []byte {
	var b strings.Builder
	b.WriteString(`{"model":"food","stream":true,"max_tokens":256,"messages":[`)
	line := `It was the best of \"times\", it was the worst of times.\n` // whole: an escape cut in two is no JSON
	for i := range 10 {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"role":"user","content":"%d %s"}`, i, strings.Repeat(line, max(n/10-40, 0)/len(line)))
	}
	b.WriteString("]}")
	return []byte(b.String())
}

// BenchmarkRoute is a request's whole way in: bytes to endpoint and body with the
// target model in place, and the end accounted.
func BenchmarkRoute(b *testing.B) {
	for _, kib := range []int{1, 32} {
		b.Run(fmt.Sprintf("endpoints=100/body=%dKiB", kib), func(b *testing.B) {
			d := newDirector(b, newStore(b, 100, datastore.Options{}), nil)
			in := director.Incoming{Path: "/v1/chat/completions", Body: conversation(kib << 10)}
			b.SetBytes(int64(len(in.Body)))
			b.ReportAllocs()
			for b.Loop() {
				route, err := d.Route(ctx, in)
				if err != nil {
					b.Fatal(err)
				}
				answer(route)
			}
		})
	}
}

// What benchmarks measure is what a client may send.
func TestConversationIsJSON(t *testing.T) {
	for n := range 4 << 10 {
		if body := conversation(n); !json.Valid(body) {
			t.Fatalf("a body for %d bytes is no JSON: %s", n, body)
		}
	}
}

func TestRouteAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	d := newDirector(t, newStore(t, 100, datastore.Options{}), nil)
	in := director.Incoming{Path: "/v1/chat/completions", Body: conversation(32 << 10)}
	run := func() {
		route, err := d.Route(ctx, in)
		require.NoError(t, err)
		answer(route)
	}
	for range 500 { // every server has been met
		run()
	}
	if n := testing.AllocsPerRun(200, run); n > 6 {
		t.Errorf("Route + Done allocate %v times, want at most 6", n)
	}
}

var reply = []byte("{}")

// answer plays a server that answers at once.
func answer(route *director.Route) {
	route.Response(200, "application/json")
	route.Data(reply)
	route.End()
}
