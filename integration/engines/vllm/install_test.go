package vllm_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/integration/engines/vllm"
)

// layout makes empty files in a folder and returns it.
func layout(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		path := filepath.Join(dir, filepath.FromSlash(f))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFind(t *testing.T) {
	whole := layout(t, "venv/bin/vllm", "model/config.json", "adapter/adapter_config.json")
	bare := layout(t, "venv/bin/vllm", "model/config.json")
	noModel := layout(t, "venv/bin/vllm")
	pairs := layout(t, "venv/bin/vllm", "model/config.json", "nixl/sitecustomize.py", "weights/model.safetensors")
	handsOver := vllm.Install{
		Bin: filepath.Join(pairs, "venv/bin/vllm"), Model: filepath.Join(pairs, "model"),
		NIXL: filepath.Join(pairs, "nixl"), Weights: filepath.Join(pairs, "weights"),
	}
	installed := func(dir, adapter string) vllm.Install {
		in := vllm.Install{Bin: filepath.Join(dir, "venv/bin/vllm"), Model: filepath.Join(dir, "model")}
		if adapter != "" {
			in.Adapter = filepath.Join(dir, adapter)
		}
		return in
	}
	for _, tt := range []struct {
		name string
		env  map[string]string
		want vllm.Install
		err  string // a part of it
		none bool
	}{
		{"cache folder", map[string]string{vllm.EnvCache: whole}, installed(whole, "adapter"), "", false},
		{"without an adapter", map[string]string{vllm.EnvCache: bare}, installed(bare, ""), "", false},
		{"with NIXL and weights", map[string]string{vllm.EnvCache: pairs}, handsOver, "", false},
		{"named goes before the cache", map[string]string{
			vllm.EnvBin: filepath.Join(bare, "venv/bin/vllm"), vllm.EnvModel: filepath.Join(bare, "model"), vllm.EnvCache: whole,
		}, installed(bare, ""), "", false},
		{"nothing there", map[string]string{vllm.EnvCache: t.TempDir()}, vllm.Install{}, "install-vllm.sh", true},
		{"half an installation", map[string]string{vllm.EnvCache: noModel}, vllm.Install{}, "config.json", false},
		{"only one is named", map[string]string{vllm.EnvBin: filepath.Join(whole, "venv/bin/vllm")}, vllm.Install{}, vllm.EnvModel, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := vllm.Find(func(name string) string { return tt.env[name] })
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Fatalf("error %v, want one with %q", err, tt.err)
			}
			if errors.Is(err, vllm.ErrNone) != tt.none {
				t.Errorf("error %v: ErrNone is %t, want %t", err, !tt.none, tt.none)
			}
			if got != tt.want {
				t.Errorf("Find() = %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestRunning(t *testing.T) {
	got := vllm.Running(func(string) string { return "a:1, b:2," })
	if len(got) != 2 || got[0].Address != "a:1" || got[1].Address != "b:2" {
		t.Errorf("Running() = %v", got)
	}
	if got := vllm.Running(func(string) string { return "" }); got != nil {
		t.Errorf("Running() of nothing = %v", got)
	}
}
