package director

import (
	"strings"
	"testing"
)

// FuzzCleanPath: a path that is clean stays as it is, a disguise more makes no difference,
// and what is known to administer is never for clients.
func FuzzCleanPath(f *testing.F) {
	for _, path := range []string{"/v1/chat/completions", "//v1/./x;a=b/?q", "/%2525252e./x", "/a%zz%41", "/v1\\metrics", "", "*", "/;/;", "/\u212a", "/%3f", "/v1/files/50%25"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		clean, ok := cleanPath(path)
		if !ok {
			return
		}
		if again, ok := cleanPath(clean); !ok || again != clean {
			t.Errorf("%q is clean as %q, and that as %q, %v", path, clean, again, ok)
		}
		if clean[0] != '/' || strings.Contains(clean, "//") || strings.Contains(clean+"/", "/./") || strings.Contains(clean+"/", "/../") || len(clean) > 1 && strings.HasSuffix(clean, "/") {
			t.Errorf("%q is not clean as %q", path, clean)
		}
		for _, method := range []string{"GET", "POST"} {
			if kind := classOf(method, clean); kind != forbidden && administers[clean[strings.LastIndex(clean, "/")+1:]] && !strings.Contains(clean, "/models/") {
				t.Errorf("%s %q is for clients", method, clean)
			}
		}
		if mixed, ok := cleanPath(strings.ReplaceAll(clean, "/", "//./")); !ok || mixed != clean {
			t.Errorf("%q in disguise is %q, %v", clean, mixed, ok)
		}
	})
}

// FuzzDecimal: what is taken is a plain number.
func FuzzDecimal(f *testing.F) {
	for _, s := range []string{"1", "1.5", "0x1p4", "1_0", "1e9", ".", "1.", "NaN", "9223372036854.7754"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, ok := decimal(s)
		if ok && (strings.Trim(s, "0123456789.") != "" || !(v >= 0) || v > 1e40) {
			t.Errorf("decimal(%q) = %v", s, v)
		}
		if d := retryAfter(s); d < 0 || d > maxRetryAfter {
			t.Errorf("retryAfter(%q) = %v", s, d)
		}
	})
}

// TestClasses: what takes a place at a server, and what does not.
func TestClasses(t *testing.T) {
	for request, want := range map[string]class{
		"POST /v1/videos": inference, "POST /v1/videos/sync": inference, "POST /v1/videos/v/remix": inference,
		"GET /v1/videos/v": resource, "GET /v1/videos/v/content": resource, "DELETE /v1/videos/v": resource,
		"POST /v1/batches": resource, "POST /v1/files": resource, "GET /v1/files/f/content": resource,
		"POST /v1/moderations": inference, "POST /v1/decisions": inference, "POST /generative_scoring": inference,
		"POST /v1/meshes": inference, "POST /v1/actions/generations": inference, "GET /v1/actions/metadata": resource,
		"GET /v1/realtime": inference, "POST /v1/realtime/sessions": resource, "GET /v1/audio/speech/stream": inference,
		"POST /tokenize": resource, "POST /v1/chat/completions/render": resource, "POST /v1/messages/count_tokens": inference,
		"POST /v2/models/m/infer": inference, "POST /v2/models/m/generate": inference, "POST /v2/models/rerank": forbidden,
		"GET /v2/models/rerank": resource, "POST /v2/rerank": inference, "POST /api/chat": inference, "POST /invocations": inference,
		"POST /vllm.grpc.engine.vllmengine/embed": inference, "POST /vllm.grpc.engine.vllmengine/abort": forbidden,
	} {
		method, path, _ := strings.Cut(request, " ")
		if got := classOf(method, path); got != want {
			t.Errorf("%s: class %d, want %d", request, got, want)
		}
	}
}
