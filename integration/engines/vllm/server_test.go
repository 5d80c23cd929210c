package vllm_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/integration/engines/vllm"
)

func TestServer(t *testing.T) {
	awake := true
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		state := map[bool]int{true: 1}[awake]
		fmt.Fprintf(w, "# HELP vllm:n is a count\nvllm:n{a=\"1\",b=\"x\"} 2.0\nvllm:n{a=\"1\",b=\"y\"} 3e1\nvllm:n_more 7\n"+
			"vllm:engine_sleep_state{sleep_state=\"awake\"} %d\nvllm:engine_sleep_state{sleep_state=\"discard_all\"} %d\n", state, 1-state)
	})
	mux.HandleFunc("POST /sleep", func(_ http.ResponseWriter, r *http.Request) { awake = r.FormValue("level") != "1" })
	mux.HandleFunc("POST /wake_up", func(http.ResponseWriter, *http.Request) { awake = true })
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"object":"list","data":[{"id":"tiny"},{"id":"ad-a","parent":"tiny"}]}`)
	})
	fake := httptest.NewServer(mux)
	defer fake.Close()
	ctx := context.Background()
	s := &vllm.Server{Address: strings.TrimPrefix(fake.URL, "http://")}

	if err := s.Ready(ctx, t.Logf); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		labels []string
		want   float64
	}{{nil, 32}, {[]string{`b="y"`}, 30}, {[]string{`b="x"`, `a="1"`}, 2}, {[]string{`b="z"`}, 0}} {
		if got, err := s.Metric(ctx, "vllm:n", tt.labels...); err != nil || got != tt.want {
			t.Errorf("Metric(vllm:n, %q) = %g, %v, want %g", tt.labels, got, err, tt.want)
		}
	}
	if names, err := s.Models(ctx); err != nil || !slices.Equal(names, []string{"tiny", "ad-a"}) {
		t.Errorf("Models() = %q, %v", names, err)
	}
	for _, step := range []struct {
		do   func(context.Context) error
		want bool
	}{{s.Wake, true}, {s.Sleep, false}, {s.Wake, true}} {
		if err := step.do(ctx); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Awake(ctx); err != nil || got != step.want {
			t.Errorf("Awake() = %t, %v, want %t", got, err, step.want)
		}
	}
	if err := s.Close(); err != nil { // not ours to stop
		t.Error(err)
	}
	if err := s.Ready(ctx, nil); err != nil {
		t.Errorf("after Close of a server that was running already: %v", err)
	}
}

// A server that cannot start says so at once, and where to look.
func TestStartFails(t *testing.T) {
	dir := t.TempDir()
	bin := filepath.Join(dir, "vllm")
	if err := os.WriteFile(bin, []byte("#!/bin/sh\necho \"no such flag among $#\"\nexit 2\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := vllm.Install{Bin: bin, Model: dir}.Start(filepath.Join(dir, "log"), vllm.Options{QueueLimit: 4})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Ready(ctx, nil); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("Ready() = %v, want that it has ended", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if tail := s.Tail(5); !strings.Contains(tail, "no such flag") {
		t.Errorf("Tail() = %q", tail)
	}
	if _, err := (vllm.Install{Bin: bin, Model: dir}).Start(filepath.Join(dir, "log"), vllm.Options{Adapter: true}); err == nil {
		t.Error("started with an adapter that is not there")
	}
	if _, err := (vllm.Install{Bin: bin, Model: dir}).Start(filepath.Join(dir, "log"), vllm.Options{KVRole: "kv_both"}); !errors.Is(err, vllm.ErrNone) {
		t.Errorf("Start without NIXL: %v, want ErrNone", err)
	}
}

// Close ends the children of a server, too.
func TestCloseEndsChildren(t *testing.T) {
	dir := t.TempDir()
	bin := filepath.Join(dir, "vllm")
	if err := os.WriteFile(bin, []byte("#!/bin/sh\nsleep 60 &\necho $!\nwait\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := vllm.Install{Bin: bin, Model: dir}.Start(filepath.Join(dir, "log"), vllm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var child string
	for range 500 {
		if child = strings.TrimSpace(s.Tail(1)); child != "" {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if child == "" {
		t.Fatal("the script printed nothing")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for range 500 {
		stat, err := os.ReadFile("/proc/" + child + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") { // gone, or a zombie until its reaper comes
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("process %s is still there", child)
}
