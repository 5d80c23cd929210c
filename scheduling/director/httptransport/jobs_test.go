package httptransport_test

import (
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
)

// TestJobIsMadeOnce: after a server may have taken what it would keep, no other is asked; one that refuses, or cannot be
// reached, has not.
func TestJobIsMadeOnce(t *testing.T) {
	const made = `{"id":"video_1","object":"video","status":"completed"}`
	breaks := map[string]http.HandlerFunc{
		"nothing": func(w http.ResponseWriter, _ *http.Request) { hijack(w).Close() },
		"a head":  func(w http.ResponseWriter, _ *http.Request) { cut(w, "HTTP/1.1 200 OK\r\nContent-Le") },
		"no body": func(w http.ResponseWriter, _ *http.Request) { cut(w, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n") },
		"full":    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"gone":    nil,
	}
	for name, first := range breaks {
		for path, once := range map[string]bool{
			"/v1/videos": true, "/v1/videos/video_0/remix": true, "/v1/meshes": true, "/v1/batches": true, "/v1/files": true, "/v1/conversations": true,
			"/v1/videos/sync": false, "/v1/images/generations": false, "/v1/chat/completions": false,
		} {
			t.Run(name+path, func(t *testing.T) {
				var asked atomic.Int32
				f := newFixture(t, nil, func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					first(w, r)
				}, func(w http.ResponseWriter, _ *http.Request) {
					asked.Add(1)
					fmt.Fprint(w, made)
				})
				if first == nil {
					require.NoError(t, f.store.UpsertEndpoint(pool, datastore.EndpointSpec{ID: "0", Address: "127.0.0.1:1"}))
				}
				resp, body, _ := f.post(t, path, `{"model":"m","prompt":"a cat","messages":[]}`)
				if once = once && name != "full" && name != "gone"; once {
					require.Equal(t, 502, resp.StatusCode, body)
					require.Zero(t, asked.Load())
				} else {
					require.Equal(t, 200, resp.StatusCode, body)
					require.EqualValues(t, 1, asked.Load())
				}
				f.ledgersEmpty(t)
			})
		}
	}
}

// cut sends the beginning of an answer.
func cut(w http.ResponseWriter, beginning string) {
	c := hijack(w)
	defer c.Close()
	fmt.Fprint(c, beginning)
}
