package httptransport_test

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/director"
)

// A body whose model has another name at its server reaches it, and the fallback after it, in one piece, with its
// length; whoever looks at the route sees it.
func TestBodiesInPieces(t *testing.T) {
	var mu sync.Mutex
	var got, seen []string
	read := func(r *http.Request) {
		body, err := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if err != nil || r.ContentLength != int64(len(body)) {
			t.Errorf("%d bytes of %d, %v", len(body), r.ContentLength, err)
		}
		got = append(got, string(body))
	}
	f := newFixture(t, nil, func(w http.ResponseWriter, r *http.Request) {
		read(r)
		w.WriteHeader(503)
	}, func(w http.ResponseWriter, r *http.Request) {
		read(r)
		_, _ = io.WriteString(w, "{}")
	})
	f.transport.Incoming = func(_ *http.Request, in *director.Incoming) { in.Rewrite = "at the server" }
	long := strings.Repeat("hello ", 40_000)
	messages := `"messages":[{"role":"user","content":"` + long + `"}]`
	for _, look := range []bool{false, true} {
		if look {
			f.transport.OnRoute = func(_ *http.Request, r *director.Route) { seen = append(seen, string(r.Body)) }
		}
		for name, fields := range map[string]string{
			"first": `"model":"m",` + messages, "last": messages + `,"model":"m"`, "between": messages + `,"model":"m","x":"` + long + `"`,
			"short": `"model":"m"`,
		} {
			got, seen = nil, nil
			resp, _, err := f.post(t, "/v1/chat/completions", "{"+fields+"}")
			require.NoError(t, err)
			require.Equal(t, 200, resp.StatusCode)
			want := "{" + strings.Replace(fields, `"model":"m"`, `"model":"at the server"`, 1) + "}"
			require.Len(t, got, 2, name)
			for _, one := range append(got, seen...) {
				if one != want {
					t.Fatalf("%s: %d bytes that begin with %.50q, want %d", name, len(one), one, len(want))
				}
			}
			require.Equal(t, look, len(seen) > 0)
		}
	}
	f.ledgersEmpty(t)
}
