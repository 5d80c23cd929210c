package director

import (
	"strconv"
	"strings"
	"unicode"

	"github.com/inferpick/inferpick/openai"
)

// What clients may ask servers for. Model servers have, on the port on which they serve,
// paths that load adapters, put the server to sleep, replace weights or tell of other
// clients' requests. So what is not known to be for clients is refused.

// class is what a request asks for, by its method and path.
type class uint8

const (
	forbidden class = iota // nothing that is known to be for clients
	resource               // something that takes no place at a server: models, files, health
	inference              // something generated, or computed from a prompt
)

// classOf returns the class of a request. The path is clean.
func classOf(method, path string) class {
	if method == "CONNECT" || method == "TRACE" {
		return forbidden
	}
	safe := asksOnly(method) && method != "DELETE"
	var room [16]string
	s := room[:0]
	for segment := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		s = append(s, segment)
	}
	for _, segment := range s {
		if administers[segment] && !(safe && namesModel(s)) {
			return forbidden
		}
	}
	switch last := s[len(s)-1]; {
	case isInference(path, s):
		return inference
	case processes[last], tellsGRPC[path]:
		return resource
	case safe && tells[path], path == "/ping":
		return resource
	case len(s) > 1 && s[0] == "v2" && s[1] == "models":
		if safe && len(s) > 2 && (last == "ready" || len(s) == 3 && last != "stats") {
			return resource
		}
		return forbidden
	case safe && last == "models":
		return resource
	}
	for i, segment := range s[:len(s)-1] {
		if isVersion(segment) {
			return below(s[i+1:], safe)
		}
	}
	return forbidden
}

// asksOnly reports whether nothing is computed for a method: something is asked for, or deleted.
func asksOnly(method string) bool {
	return method == "GET" || method == "HEAD" || method == "OPTIONS" || method == "DELETE"
}

// below returns the class of what is below a version: /v1/….
func below(s []string, safe bool) class {
	switch {
	case s[0] == "models" && !safe:
		return forbidden // there are servers that load, unload and delete them so
	case resources[s[0]]:
		return resource
	}
	for _, segment := range s {
		if commands[segment] {
			return forbidden
		}
		for _, verb := range verbs {
			if strings.HasPrefix(segment, verb) {
				return forbidden
			}
		}
	}
	return resource
}

// namesModel reports whether a path is that of one model, whose name may be anything.
func namesModel(s []string) bool {
	for i, segment := range s {
		if administers[segment] {
			return false
		}
		if isVersion(segment) && i+2 < len(s) && s[i+1] == "models" && segment != "v2" {
			return true
		}
	}
	return false
}

// isInference reports whether a path is one of an inference API: of those that are known, or of a server's own.
func isInference(path string, s []string) bool {
	last := s[len(s)-1]
	if s[0] == "v2" && len(s) > 1 && s[1] == "models" && !tritonModel(s) {
		return false // about a model that has such a name
	}
	switch {
	case natives[last], last == "infer" && s[0] == "v2", last == "chat" && len(s) > 1 && s[len(s)-2] == "api":
		return true
	}
	return openai.APIOf(path) != openai.Other
}

// tritonModel reports whether it is /v2/models/NAME/…/LAST.
func tritonModel(s []string) bool { return len(s) >= 4 && s[1] == "models" }

// isVersion reports whether a segment is v1, v2, v1beta and so on.
func isVersion(s string) bool {
	number, ok := strings.CutPrefix(s, "v")
	return ok && digits(strings.TrimSuffix(strings.TrimSuffix(number, "beta"), "alpha"))
}

func setOf(words string) map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(words) {
		set[w] = true
	}
	return set
}

var (
	// natives are how servers call what they generate in forms of their own.
	natives = setOf("generate generate_stream completion infill invocations")

	// processes take a text and give another without a model's work, or little of it.
	processes = setOf("tokenize detokenize apply-template")

	// tells are the paths that tell of a server what anybody may know.
	tells = setOf(`/health /healthz /health_generate /health/live /health/ready /livez /readyz /ping /version
		/v1/health /v1/health/live /v1/health/ready /v1/version /v2 /v2/health/live /v2/health/ready
		/api/tags /api/version`)

	// tellsGRPC are the same over gRPC.
	tellsGRPC = setOf("/vllm.grpc.engine.vllmengine/healthcheck /vllm.grpc.engine.vllmengine/getmodelinfo /grpc.health.v1.health/check")

	// resources are those of the OpenAI API and of Anthropic's below /v1. What is below them
	// is for clients, whatever its name is.
	resources = setOf(`models chat completions responses conversations messages embeddings moderations
		images audio videos files uploads batches vector_stores fine_tuning assistants threads evals containers
		realtime rerank score classify pooling tokenize detokenize decisions systemone meshes actions`)

	// administers are words that no path for clients has in it, whatever stands before and
	// after: some servers serve all that is below such a path by it.
	administers = setOf(`metrics load_lora_adapter unload_lora_adapter lora-adapters lora_adapters sleep wake_up is_sleeping
		reset_prefix_cache reset_mm_cache reset_encoder_cache flush_cache collective_rpc server_info get_server_info
		start_profile stop_profile scale_elastic_ep is_scaling_elastic_ep abort_request shutdown slots props
		repository shared-memory systemsharedmemory cudasharedmemory workers debug docs redoc openapi.json
		update_weights update_weights_from_disk update_weights_from_tensor update_weights_from_distributed
		init_weights_update_group release_memory_occupation resume_memory_occupation`)

	// commands are words by which servers are administered below a version, and verbs the
	// beginnings of such: load_lora_adapter.
	commands = setOf(`admin internal config configs settings load unload reload restart pause resume abort stop start
		lora loras adapter adapters cache caches profile trace logging log logs organization organizations projects
		users keys usage pull push create copy delete system node nodes cluster weights server servers engine engines
		loads terminate kill exec rpc wakeup distserve`)
	verbs = strings.Fields(`load_ unload_ reload_ update_ start_ stop_ reset_ flush_ init_ destroy_ release_ resume_ pause_
		wake_ set_ add_ remove_ delete_ clear_ dump_ get_ is_ collective_ scale_ abort_ freeze_
		send_weights configure_ merge_ unmerge_ list_ load- unload- update- reset- admin`)
)

// maxEscapes is how often a path may be escaped over and over.
const maxEscapes = 4

// cleanPath returns a path without its query as every server may take it: with nothing
// escaped, in lower case, without empty and "." segments, parameters of segments, blanks and
// points at their ends, and slashes at the end of all. It reports false if there is no telling how servers take it, which
// nobody needs but to disguise it.
func cleanPath(path string) (string, bool) {
	path = withoutQuery(path)
	if isPlain(path) {
		return path, true
	}
	for range maxEscapes {
		path = unescape(path)
	}
	if unescape(path) != path {
		return "", false
	}
	var b strings.Builder
	for segment := range strings.SplitSeq(strings.ReplaceAll(path, `\`, "/"), "/") {
		segment, _, _ = strings.Cut(segment, ";")
		switch segment = strings.TrimSpace(segment); segment {
		case "", ".":
			continue
		}
		segment = strings.TrimRightFunc(segment, func(c rune) bool { return c == '.' || unicode.IsSpace(c) })
		if segment == "" {
			return "", false // up, or something like it
		}
		for _, c := range segment {
			if c < ' ' || c == 0x7f || c == '?' || c == '#' {
				return "", false
			}
		}
		b.WriteByte('/')
		b.WriteString(strings.ToLower(segment))
	}
	if b.Len() == 0 {
		return "/", true
	}
	return b.String(), true
}

// withoutQuery returns the path of a URL alone.
func withoutQuery(path string) string {
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		return path[:i]
	}
	return path
}

// unescape replaces what is escaped. A percent sign of no escape stays.
func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// isPlain reports whether a path is clean as it is, as nearly all are.
func isPlain(path string) bool {
	if len(path) < 2 || path[0] != '/' {
		return false
	}
	before := byte(0)
	for i := range len(path) {
		c := path[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '_', c == '-':
		case c == '/' && before != '/' && before != '.':
		case c == '.' && before != '/' && before != '.':
		default:
			return false
		}
		before = c
	}
	return before != '/' && before != '.'
}
