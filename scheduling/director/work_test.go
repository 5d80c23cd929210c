package director_test

import (
	"testing"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// TestWorkOfRoutes: what a request asks for is known to the decision, also where only its path is seen, and what names no
// model goes to the pool, where unknown models are refused, too.
func TestWorkOfRoutes(t *testing.T) {
	d := newDirector(t, newStore(t, 1, datastore.Options{UnknownModels: datastore.Refuse, DefaultPool: pool}), nil)
	tests := []struct {
		request, body string
		headersOnly   bool
		kind          types.WorkKind
		items, tokens int
	}{
		{"POST /rerank", `{"query":"abc","texts":["d","e"]}`, false, types.Pools, 2, 4},
		{"POST /v1/rerank", `{"model":"food","query":"abc","documents":["d","e"]}`, false, types.Pools, 2, 4},
		{"POST /embed", "\x82 is no JSON", false, types.Pools, 0, 0},
		{"POST /v1/videos", `{"prompt":"abc"}`, false, types.Denoises, 1, 1},
		{"POST /v1/videos", ``, true, types.Denoises, 0, 0},
		{"POST /v1/images/generations", ``, true, types.Denoises, 0, 0},
		{"POST /v1/chat/completions", ``, true, types.Generates, 0, 0},
		{"GET /v1/chat/completions/chatcmpl-1", ``, true, types.Fetches, 0, 0},
		{"DELETE /v1/vector_stores/vs_1", ``, true, types.Fetches, 0, 0},
		{"GET /v1/models", ``, true, types.Fetches, 0, 0},
		{"POST /v1/chat/completions", `{"model":"food","messages":[]}`, false, types.Generates, 0, 0},
	}
	for _, tt := range tests {
		in := ask(tt.request)
		in.Body, in.HeadersOnly = []byte(tt.body), tt.headersOnly
		r, err := d.Route(ctx, in)
		require.NoError(t, err, "%s %s", tt.request, tt.body)
		req := &r.Request
		require.Equal(t, []any{tt.kind, tt.items, tt.tokens}, []any{req.Work.Kind, req.Work.Items, req.Prompt.Tokens}, "%s %s", tt.request, tt.body)
		r.Done(nil)
	}
	in := ask("POST /v1/rerank")
	in.Body = []byte(`{"model":"unknown","query":"abc","documents":["d"]}`)
	_, err := d.Route(ctx, in)
	require.Equal(t, 404, director.AsError(err).Status)
}
