package director

import (
	"net/url"
	"path"
	"strings"

	"github.com/inferpick/inferpick/openai"
)

// allowed reports whether clients may ask for a path: what has inference done, or reads what
// is harmless. Everything else could administer a server, and is refused: see
// Options.AllowPath. Servers decode escapes, and some of them merge slashes and dots and do not
// mind case, so that a path is allowed only if it is however it is read.
func allowed(raw string) bool {
	raw, _, _ = strings.Cut(raw, "?")
	raw, _, _ = strings.Cut(raw, "#")
	if isPlain(raw) && openai.APIOf(raw) != openai.Other {
		return true // the usual case
	}
	for range 4 {
		if !allowedAsIs(raw) {
			return false
		}
		decoded, err := url.PathUnescape(raw)
		if err != nil {
			return false
		}
		if decoded == raw {
			return true
		}
		raw = decoded
	}
	return false // escaped more often than makes sense
}

// isPlain reports whether all who read a path read the same.
func isPlain(p string) bool {
	for i := range len(p) {
		switch c := p[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '_', c == '-':
		case c == '/' && i+1 < len(p) && p[i+1] != '/':
		default:
			return false
		}
	}
	return true
}

func allowedAsIs(raw string) bool {
	p := strings.ToLower(strings.ReplaceAll(raw, `\`, "/"))
	if strings.ContainsFunc(p, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return false
	}
	p = strings.Trim(path.Clean("/"+p), "/")
	if p == "" {
		return true
	}
	segments := strings.Split(p, "/")
	versioned := false
	for i, s := range segments {
		s, _, _ = strings.Cut(s, ";") // matrix parameters
		s = strings.TrimSpace(s)
		segments[i] = s
		if i > 0 && segments[i-1] == "models" && versioned {
			continue // a model may have any name
		}
		if administers(s) {
			return false
		}
		versioned = versioned || isVersion(s)
	}
	return versioned || inference[segments[len(segments)-1]] || openai.APIOf("/"+strings.Join(segments, "/")) != openai.Other
}

// isVersion reports whether a segment is the version of an API: v1, v2, v1beta.
func isVersion(s string) bool {
	if len(s) < 2 || s[0] != 'v' || s[1] < '0' || s[1] > '9' {
		return false
	}
	return !strings.ContainsFunc(s[1:], func(c rune) bool { return (c < '0' || c > '9') && (c < 'a' || c > 'z') })
}

// inference are the last segments of the paths without a version under which engines do
// inference, or say that they are there.
var inference = set("generate generate_stream generate_from_input_ids completion completions chat infill embed embed_all embed_sparse " +
	"embedding embeddings encode decode rerank reranking score pooling classify predict similarity tokenize detokenize chat_tokenize " +
	"apply-template invocations infer judge vertex_generate responses messages transcriptions translations speech " +
	"models health healthz health_generate live livez ready readyz ping version")

// administration are segments of paths that change a server, or tell of its insides.
var administration = set("metrics sleep wake_up is_sleeping collective_rpc server_info get_server_info get_model_info get_load server_status " +
	"shutdown quit quitquitquit restart debug docs redoc openapi.json slots props lora-adapters lora_adapters repository systemsharedmemory " +
	"cudasharedmemory sharedmemory trace logging workers worker admin config configure_logging freeze_gc set_internal_state scale_elastic_ep " +
	"is_scaling_elastic_ep kv_event_sources kv_cache_events perf_metrics prometheus cluster_info engines engine abort_request abort_requests " +
	"open_session close_session separate_reasoning convert_to_disagg memory profiler profile env")

// administrative are what such segments begin with.
var administrative = []string{
	"load_", "unload_", "load-", "unload-", "reset_", "flush_", "clear_", "update_", "init_weights", "get_weights", "weights_", "send_weights",
	"destroy_weights", "start_", "stop_", "pause", "resume", "release_", "slow_down", "dump_", "add_", "remove_", "list_workers", "set_",
	"hicache", "rpc_", "finish_weight", "set-", "begin_", "end_weight",
}

func administers(segment string) bool {
	if administration[segment] {
		return true
	}
	for _, prefix := range administrative {
		if strings.HasPrefix(segment, prefix) {
			return true
		}
	}
	return false
}

func set(words string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(words) {
		m[w] = true
	}
	return m
}

// native are the last segments of paths at which engines generate by an API of their own.
var native = set("generate generate_stream completion infill infer invocations predict")

// generates reports whether a request to a path has a server compute: such requests wait for
// room.
func generates(api openai.API, p string) bool {
	if api != openai.Other {
		return true
	}
	p, _, _ = strings.Cut(p, "?")
	return native[strings.ToLower(path.Base(p))]
}

// hasPrompt reports whether a method sends a prompt: what has another passes as it is.
func hasPrompt(method string) bool {
	return method == "" || method == "POST" || method == "PUT" || method == "PATCH"
}
