package loader_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/rollout/loader"
)

// sglang is a server with SGLang's API, as strict as it is.
type sglang struct {
	*fake
	mu     sync.Mutex
	loaded map[string]string // paths by adapter
	off    bool              // started without --enable-lora
	ranks  int
}

func newSGLang(t testing.TB) *sglang {
	s := &sglang{loaded: map[string]string{}, ranks: 1}
	s.fake = serve(t, s.answer)
	return s
}

func (s *sglang) answer(method, path, body string, _ *http.Request) (int, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch method + " " + path {
	case "GET /v1/models":
		models := []string{"base"}
		for name, path := range s.loaded {
			models = append(models, name+"="+path)
		}
		return 200, list("sglang", models...)
	case "POST /load_lora_adapter", "POST /unload_lora_adapter":
		var req struct {
			Name string `json:"lora_name"`
			Path string `json:"lora_path"`
		}
		d := json.NewDecoder(strings.NewReader(body))
		d.DisallowUnknownFields()
		if err := d.Decode(&req); err != nil || req.Name == "" {
			return 422, `{"detail":[{"type":"missing","msg":"Field required"}]}`
		}
		return s.update(path == "/load_lora_adapter", req.Name, req.Path)
	case "POST /v1/completions":
		var req struct{ Model string }
		if err := json.Unmarshal([]byte(body), &req); err != nil {
			return 422, `{"detail":[]}`
		}
		if _, adapter, ok := strings.Cut(req.Model, ":"); ok && s.loaded[adapter] == "" {
			return 400, `{"object":"error","message":"The following requested LoRA adapters are not loaded: ` + adapter + `"}`
		}
		return 200, completed(req.Model) // any other name is the base model
	}
	return 0, ""
}

func (s *sglang) update(load bool, name, path string) (int, string) {
	fail := func(format string, args ...any) (int, string) {
		return 400, fmt.Sprintf(`{"success":false,"error_message":%q,"loaded_adapters":null}`, fmt.Sprintf(format, args...))
	}
	switch {
	case s.off:
		return fail("LoRA is not enabled. Please set `--enable-lora` to enable LoRA.")
	case s.ranks > 1:
		return 500, "Internal Server Error" // an assertion
	case load && s.loaded[name] != "":
		return fail("Failed to load LoRA adapter %s: LoRA adapter %s is already loaded", name, name)
	case load && strings.HasPrefix(path, "/missing"):
		return fail("Failed to load LoRA adapter %s: %s is not a folder", name, path)
	case !load && s.loaded[name] == "":
		return fail("LoRA with name %s does not exist. Loaded LoRAs: dict_keys([])", name)
	case load:
		s.loaded[name] = path
	default:
		delete(s.loaded, name)
	}
	all, _ := json.Marshal(s.loaded)
	return 200, fmt.Sprintf(`{"success":true,"error_message":"","loaded_adapters":%s}`, all)
}

func TestSGLang(t *testing.T) {
	s := newSGLang(t)
	l, ctx := newClient(t, loader.Options{}).SGLang(), t.Context()
	loaded := func(name, source string, want bool) {
		t.Helper()
		if got, err := l.Loaded(ctx, s.Endpoint, name, source); err != nil || got != want {
			t.Errorf("Loaded(%s, %s) = %t, %v, want %t", name, source, got, err, want)
		}
	}
	require.NoError(t, l.Load(ctx, s.Endpoint, "base:v1", "/a/v1"))
	loaded("base:v1", "/a/v1", true)
	loaded("base:v2", "", false)
	require.NoError(t, l.Load(ctx, s.Endpoint, "base:v1", "/a/v1"), "again")
	if n := s.count("POST /load_lora_adapter"); n != 1 {
		t.Errorf("loaded %d times, want once", n)
	}
	says(t, l.Load(ctx, s.Endpoint, "base:v1", "/a/v2"), loader.ErrTaken, `"/a/v1"`)
	says(t, l.Load(ctx, s.Endpoint, "base:v2", "/missing"), loader.ErrRefused,
		`load "base:v2"`, `"/missing"`, "is not a folder")
	says(t, l.Load(ctx, s.Endpoint, "base:v2", ""), loader.ErrNotServed, "are not loaded")
	require.NoError(t, l.Unload(ctx, s.Endpoint, "base:v1"))
	require.NoError(t, l.Unload(ctx, s.Endpoint, "base:v1"), "again")
	loaded("base:v1", "", false)
}

// A name without a colon is answered by the base model: a canary that nobody would notice is none.
func TestTrapSGLangNames(t *testing.T) {
	s := newSGLang(t)
	l := newClient(t, loader.Options{}).SGLang()
	for _, name := range []string{"v1", "", "base:", ":v1"} {
		e := says(t, l.Load(t.Context(), s.Endpoint, name, "/a"), loader.ErrName, "base:adapter")
		if !e.Permanent() {
			t.Errorf("%q: not permanent", name)
		}
		says(t, l.Unload(t.Context(), s.Endpoint, name), loader.ErrName, "base:adapter")
		_, err := l.Loaded(t.Context(), s.Endpoint, name, "")
		says(t, err, loader.ErrName, "base:adapter")
	}
	if n := s.count(""); n != 0 {
		t.Errorf("asked %d times, want never", n)
	}
}

func TestSGLangCannot(t *testing.T) {
	off := newSGLang(t)
	off.off = true
	l := newClient(t, loader.Options{}).SGLang()
	says(t, l.Load(t.Context(), off.Endpoint, "base:v1", "/a"), loader.ErrOff, "--enable-lora")
	require.NoError(t, l.Unload(t.Context(), off.Endpoint, "base:v1"), "it is not there")

	ranks := newSGLang(t)
	ranks.ranks = 2
	says(t, l.Load(t.Context(), ranks.Endpoint, "base:v1", "/a"), loader.ErrRefused, "--dp", "Internal Server Error")
	ranks.loaded["v1"] = "/a"
	says(t, l.Unload(t.Context(), ranks.Endpoint, "base:v1"), loader.ErrRefused, "status 500")

	other := serve(t, func(_, path, _ string, _ *http.Request) (int, string) {
		if path == "/v1/models" {
			return 200, list("x", "base")
		}
		return 0, ""
	})
	says(t, l.Load(t.Context(), other.Endpoint, "base:v1", "/a"), loader.ErrOff, "is it SGLang?")
	mute := serve(t, func(_, path, _ string, _ *http.Request) (int, string) {
		if path == "/v1/models" {
			return 200, list("sglang", "base")
		}
		return 200, "ok"
	})
	says(t, l.Load(t.Context(), mute.Endpoint, "base:v1", "/a"), loader.ErrRefused, "does not say that it was loaded")
}
