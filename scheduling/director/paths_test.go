package director_test

import (
	"strings"
	"testing"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/scheduling/director"
)

// forClients and notForClients are requests by method and path.
var (
	forClients = []string{
		"POST /v1/chat/completions", "POST /v1/completions", "POST /v1/responses", "POST /v1/embeddings", "POST /v1/messages",
		"POST /v1/messages/count_tokens", "POST /v1/messages/batches", "POST /messages", "POST /v1/images/generations",
		"POST /v1/images/edits", "POST /v1/audio/speech", "POST /v1/audio/transcriptions", "POST /v1/audio/translations",
		"POST /openai/v1/chat/completions", "POST /team/a/chat/completions", "POST /openai/deployments/x/chat/completions",
		"POST /chat/completions", "POST /V1/Chat/Completions", "POST /v1/chat/completions/", "POST //v1//chat/./completions",
		"POST /v1/chat/completion%73", "POST /v1/chat/completions?api-version=/metrics", "POST /v1/chat/completions;v=1",
		"POST /generate", "POST /generate_stream", "POST /completion", "POST /infill", "POST /embed", "POST /embedding", "POST /embeddings",
		"POST /rerank", "POST /v1/rerank", "POST /v2/rerank", "POST /score", "POST /v1/score", "POST /pooling", "POST /classify",
		"POST /invocations", "POST /tokenize", "POST /detokenize", "POST /apply-template", "POST /api/chat", "POST /api/generate",
		"POST /v2/models/m/infer", "POST /v2/models/m/versions/2/infer", "POST /v2/models/m/generate", "POST /v2/models/org%2Fm/generate_stream",
		"GET /v2/models/m/ready", "GET /v2/health/ready", "GET /health", "HEAD /health", "GET /ping", "POST /ping", "GET /version",
		"GET /v1/models", "GET /v1/models/", "HEAD /v1/models", "GET /v1/models/org/metrics", "GET /v1/models/org%2fsleep", "GET /models",
		"GET /v1/files", "POST /v1/files", "GET /v1/files/file-7/content", "DELETE /v1/files/file-7", "POST /v1/batches",
		"GET /v1/responses/resp_1", "POST /v1/responses/resp_1/cancel", "DELETE /v1/responses/resp_1", "GET /v1/chat/completions/x/messages",
		"POST /v1/vector_stores/vs/files", "POST /v1/conversations", "POST /v1/moderations", "PUT /v1/files/f", "GET /v1/files/50%25",
		"POST /v1/videos", "POST /videos", "POST /v1/videos/sync", "POST /v1/videos/v/remix", "GET /v1/videos/v", "GET /v1/videos/v/content", "DELETE /v1/videos/v",
		"POST /v1/meshes", "GET /v1/meshes/m/content", "POST /v1/actions/generations", "GET /v1/actions/metadata", "POST /v1/decisions", "POST /v1/systemone",
		"POST /generative_scoring", "POST /similarity", "POST /predict", "POST /embed_all", "POST /embed_sparse", "POST /v1/embed", "POST /v2/embed",
		"POST /v1/images/variations", "POST /v1/chat/completions/render", "POST /v1/batches", "GET /v1/realtime?model=m", "POST /v1/realtime/client_secrets",
		"GET /v1/audio/speech/stream", "GET /v1/duplex", "POST /inference/v1/generate", "POST /v2/models/m/embeddings",
		"OPTIONS /v1/chat/completions", "OPTIONS /v1/models/m", "HEAD /v1/chat/completions", "POST /v1/custom", "GET /v3/things/7",
	}
	notForClients = []string{
		"GET /metrics", "GET /metrics/", "GET //metrics", "GET /./metrics", "GET /metric%73", "GET /%6detrics", "GET /metrics;a=b", "GET /METRICS",
		"GET /metrics/v1/models", "POST /metrics/v1/chat/completions", "GET /%2e/metrics", "GET /v1/%2e%2e/metrics", "GET /v1/../metrics",
		"GET /v1/chat/completions/../../../metrics", "GET /v1/..;/metrics", "GET /v1\\..\\metrics", "GET /v1/metrics", "GET /%256d%2565trics",
		"GET /v1/x%zz/%6detrics", "GET /v1/x%25zz/%256detrics", "GET /v1/files%3f/../metrics", "GET /v1/custom%3Fx", "GET /metrics%00", "GET /metrics%20", "GET /metrics.", "GET /v1/metrics%20", "GET /v1/%20metrics", "GET /v1/metrics.", "GET /v1/.../metrics", "GET /v1/..%20/metrics", "GET /v1/models/..%2f..%2fmetrics", "GET /%25252525252525256detrics",
		"POST /v1/load_lora_adapter", "POST /v1/unload_lora_adapter", "POST /v1/LOAD_LORA_ADAPTER", "POST /v1//load_lora_adapter/", "POST /v1/load%5Flora_adapter",
		"POST /openai/v1/load_lora_adapter", "POST /load_lora_adapter", "POST /unload_lora_adapter", "POST /load_lora_adapter_from_tensors",
		"POST /v1/chat/completions/../../load_lora_adapter", "POST /v1/models/load_lora_adapter", "POST /x/unload_lora_adapter/v1/chat/completions",
		"POST /unload_lora_adapter;v1/chat/completions", "GET /v1/load_lora_adapter", "PUT /unload%5flora%5fadapter", "POST /sleep", "POST /sleep/", "POST /wake_up", "GET /is_sleeping",
		"POST /reset_prefix_cache", "POST /collective_rpc", "GET /server_info", "GET /get_server_info", "POST /flush_cache", "GET /flush_cache",
		"POST /update_weights_from_disk", "POST /update_weights_from_tensor", "POST /start_profile", "POST /stop_profile", "POST /pause", "POST /abort_request",
		"GET /slots", "POST /slots/1?action=erase", "GET /props", "POST /props", "POST /lora-adapters", "GET /lora-adapters", "POST /shutdown",
		"POST /v2/repository/index", "POST /v2/repository/models/m/load", "POST /v2/repository/models/m/unload", "POST /v2/systemsharedmemory/region/r/register",
		"POST /v2/trace/setting", "POST /v2/logging", "POST /v2/models/m/trace/setting", "GET /workers", "POST /add_worker", "GET /debug/pprof/heap", "GET /docs",
		"GET /openapi.json", "GET /", "GET /admin", "POST /v1/admin/keys", "POST /v1/internal/model/load", "POST /v1/config", "POST /v1/adapters/load",
		"POST /models/load", "POST /models/apply", "DELETE /v1/models/m", "POST /v1/models", "POST /v1/update_weights", "POST /api/pull", "DELETE /api/delete",
		"OPTIONS /metrics", "DELETE /v1/load_lora_adapter", "TRACE /v1/chat/completions", "CONNECT /v1/chat/completions", "trace /v1/chat/completions", "GET *", "GET ",
		"POST /sleep/v1/chat/completions", "POST /collective_rpc/chat/completions",
		"POST /v1/merge_lora_weights", "POST /v1/unmerge_lora_weights", "POST /v1/set_lora", "GET /v1/list_loras", "POST /v2/models/rerank",
		"POST /v2/models/generate", "POST /sleep/v1/videos", "GET /v1/realtime/../metrics", "POST /rerank/metrics",
		"GET /v1/loads", "POST /v1/terminate", "POST /v1/freeze_gc", "POST /v1/distserve/engine_info", "POST /v1/send_weights_to_remote_instance",
	}
)

func ask(request string) director.Incoming {
	method, path, _ := strings.Cut(request, " ")
	in := incoming("food")
	in.Method, in.Path = method, path
	return in
}

// TestPathsForClients: what clients are for passes, and nothing else, however it is written.
func TestPathsForClients(t *testing.T) {
	d := newDirector(t, newStore(t, 1, datastore.Options{}), nil)
	for _, request := range forClients {
		r, err := d.Route(ctx, ask(request))
		if err != nil {
			t.Errorf("%s: %v", request, err)
			continue
		}
		r.Done(nil)
	}
	for _, request := range notForClients {
		r, err := d.Route(ctx, ask(request))
		if err == nil {
			t.Errorf("%s was routed", request)
			r.Done(nil)
			continue
		}
		if e := director.AsError(err); e.Status != 403 || e.Code != director.CodePath || !strings.Contains(string(e.Body()), "path_not_allowed") {
			t.Errorf("%s: %v", request, err)
		}
	}
}

// TestAllowPath: a gateway may allow more, and sees what servers may take a path for.
func TestAllowPath(t *testing.T) {
	var asked []string
	d := newDirector(t, newStore(t, 1, datastore.Options{}), func(o *director.Options) {
		o.AllowPath = func(method, path string) bool {
			asked = append(asked, method+" "+path)
			return method == "GET" && path == "/metrics"
		}
	})
	for _, request := range []string{"GET //Metric%73/?x=1", "POST /metrics", "GET /v1/../metrics", "POST /v1/chat/completions"} {
		r, err := d.Route(ctx, ask(request))
		if got, want := err == nil, request[0] == 'G' && !strings.Contains(request, "..") || strings.HasSuffix(request, "completions"); got != want {
			t.Errorf("%s: %v", request, err)
		}
		if err == nil {
			r.Done(nil)
		}
	}
	if got, want := strings.Join(asked, ", "), "GET /metrics, POST /metrics"; got != want {
		t.Errorf("asked for %s, want %s", got, want)
	}
	for path, allowed := range map[string]bool{"/metrics": true, "/v1/../metrics": false} {
		r, err := d.Route(ctx, director.Incoming{Path: path, Method: "POST", Body: []byte(`{}`), AllowPath: true})
		if got := err == nil; got != allowed {
			t.Errorf("%s of a route: %v", path, err)
		}
		if err == nil {
			r.Done(nil)
		}
	}
}

// TestErrorsHaveTheFormOfTheAPI, also below /v1/messages and of what a path is disguised as.
func TestErrorsHaveTheFormOfTheAPI(t *testing.T) {
	d := newDirector(t, newStore(t, 0, datastore.Options{}), nil)
	for path, anthropic := range map[string]bool{
		"/v1/messages": true, "/v1/messages/count_tokens": true, "/v1/messages/count_tokens?beta=1": true, "/v1/messages/batches": true, "//v1/Messages": true,
		"/v1/chat/completions": false, "/v1/responses": false, "/v1/files": false,
	} {
		_, err := d.Route(ctx, director.Incoming{Path: path, Body: []byte(`{"model":"food","messages":[]}`)})
		for _, e := range []*director.Error{director.AsError(err), d.Refuse(path, &director.Error{Status: 413, Message: "x"})} {
			if got := strings.HasPrefix(string(e.Body()), `{"type":"error"`); got != anthropic {
				t.Errorf("%s: %s", path, e.Body())
			}
		}
	}
}
