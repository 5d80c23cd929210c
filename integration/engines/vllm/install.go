package vllm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Environment variables that say where vLLM is.
const (
	// EnvServers names servers that run already: host:port,host:port. They are not
	// stopped.
	EnvServers = "VLLM_SERVERS"
	// EnvBin is the vllm executable and EnvModel the folder of the model to serve; the
	// folder's neighbour "adapter" is the adapter.
	EnvBin   = "VLLM_BIN"
	EnvModel = "VLLM_MODEL"
	// EnvCache is the folder that install-vllm.sh fills. Default: inferpick/engines in
	// os.UserCacheDir.
	EnvCache = "INFERPICK_ENGINES"
)

// ErrNone is wrapped by the error of a machine without vLLM.
var ErrNone = errors.New("no vLLM on this machine")

// Install is where vLLM is installed.
type Install struct {
	Bin     string // the executable
	Model   string // the folder of a model
	Adapter string // the folder of a LoRA adapter for it; empty: there is none
	NIXL    string // the folder of the Python package that hands over KV caches; empty: there is none
	Weights string // the folder of the model with weights; empty: there is none
}

// Find returns the installation that the environment names, or else that in the cache
// folder. An error that wraps ErrNone says how to get one.
func Find(getenv func(string) string) (Install, error) {
	in := Install{Bin: getenv(EnvBin), Model: getenv(EnvModel)}
	if (in.Bin == "") != (in.Model == "") {
		return Install{}, fmt.Errorf("vllm: %s and %s go together: one is set and the other is not", EnvBin, EnvModel)
	}
	if in.Bin == "" {
		dir := getenv(EnvCache)
		if dir == "" {
			cache, err := os.UserCacheDir()
			if err != nil {
				return Install{}, fmt.Errorf("%w: %w; set %s", ErrNone, err, EnvCache)
			}
			dir = filepath.Join(cache, "inferpick", "engines")
		}
		in.Bin, in.Model = filepath.Join(dir, "venv", "bin", "vllm"), filepath.Join(dir, "model")
		if _, err := os.Stat(in.Bin); errors.Is(err, fs.ErrNotExist) {
			return Install{}, fmt.Errorf("%w: run integration/engines/install-vllm.sh (6 GB), or set %s and %s, or %s", ErrNone, EnvBin, EnvModel, EnvServers)
		}
	}
	for _, path := range []string{in.Bin, filepath.Join(in.Model, "config.json")} {
		if _, err := os.Stat(path); err != nil {
			return Install{}, fmt.Errorf("vllm: %w", err)
		}
	}
	adapter := filepath.Join(filepath.Dir(filepath.Clean(in.Model)), "adapter")
	if _, err := os.Stat(filepath.Join(adapter, "adapter_config.json")); err == nil {
		in.Adapter = adapter
	}
	beside := filepath.Dir(filepath.Clean(in.Model))
	for path, folder := range map[string]*string{"nixl/sitecustomize.py": &in.NIXL, "weights/model.safetensors": &in.Weights} {
		if path = filepath.Join(beside, path); exists(path) {
			*folder = filepath.Dir(path)
		}
	}
	return in, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Running returns the servers that EnvServers names, nil if it is not set.
func Running(getenv func(string) string) []*Server {
	var servers []*Server
	for address := range strings.SplitSeq(getenv(EnvServers), ",") {
		if address = strings.TrimSpace(address); address != "" {
			servers = append(servers, &Server{Address: address})
		}
	}
	return servers
}
