package loader_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/rollout/loader"
	"github.com/inferpick/inferpick/scheduling/simulation/modelserver"
	"github.com/inferpick/inferpick/types"
)

// newClient returns a client that leaves nothing behind.
func newClient(t testing.TB, o loader.Options) *loader.Client {
	t.Helper()
	c, err := loader.New(o)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// simulated starts a server that has vLLM's API.
func simulated(t testing.TB, o modelserver.Options) (*modelserver.Server, *types.Endpoint) {
	t.Helper()
	if o.TimeScale == 0 {
		o.TimeScale = 100
	}
	s, err := modelserver.Start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s, types.NewEndpoint(s.Address(), s.Address())
}

// fake is a server whose answers are given.
type fake struct {
	*types.Endpoint

	mu    sync.Mutex
	asked []string // METHOD PATH BODY
}

// serve starts a server. handle returns a status and a body, or status 0 for a 404 as FastAPI's.
func serve(t testing.TB, handle func(method, path, body string, r *http.Request) (int, string)) *fake {
	t.Helper()
	f := &fake{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client has left
		}
		f.mu.Lock()
		f.asked = append(f.asked, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+string(body)))
		f.mu.Unlock()
		status, answer := handle(r.Method, r.URL.Path, string(body), r)
		if status == 0 {
			status, answer = 404, `{"detail":"Not Found"}`
		}
		if status >= 300 && status < 400 {
			w.Header().Set("Location", answer)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(s.Close)
	address := s.Listener.Addr().String()
	f.Endpoint = types.NewEndpoint(address, address)
	return f
}

// count returns how often a server was asked for what begins so.
func (f *fake) count(prefix string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, one := range f.asked {
		if strings.HasPrefix(one, prefix) {
			n++
		}
	}
	return n
}

// list is a body of GET /v1/models: id=root, and for a base model id alone.
func list(owner string, models ...string) string {
	var data []map[string]any
	for _, m := range models {
		id, root, adapter := strings.Cut(m, "=")
		one := map[string]any{"id": id, "object": "model", "owned_by": owner, "root": id, "parent": nil}
		if adapter {
			one["root"], one["parent"] = root, "base"
		}
		data = append(data, one)
	}
	body, err := json.Marshal(map[string]any{"object": "list", "data": data})
	if err != nil {
		panic(err)
	}
	return string(body)
}

// completed is a completion's body.
func completed(model string) string {
	return fmt.Sprintf(`{"model":%q,"choices":[{"index":0,"text":" a","finish_reason":"length"}]}`, model)
}

// says fails the test unless err is a *loader.Error that wraps is, and whose text has all of the parts.
func says(t testing.TB, err, is error, parts ...string) *loader.Error {
	t.Helper()
	var e *loader.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v (%T), want a *loader.Error", err, err)
	}
	if is != nil && !errors.Is(err, is) {
		t.Errorf("error %v, want one that is %v", err, is)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q, want %q in it", err, part)
		}
	}
	return e
}
