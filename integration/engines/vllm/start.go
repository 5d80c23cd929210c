package vllm

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/inferpick/inferpick/integration/engines/process"
)

// What every server is started with. Few places and a small cache: a machine without a
// GPU fills them within seconds.
const (
	ModelName   = "tiny"    // the public name of the model
	AdapterName = "ad-a"    // that of the adapter
	Topic       = "kv@tiny" // of its events
	Places      = 8         // requests in the batch at once
	Blocks      = 320       // blocks in the KV cache
	BlockSize   = 32        // tokens in a block
	MaxLoRAs    = 2         // adapters in the batch at once
	MaxRank     = 8         // the largest rank of an adapter
)

// Options say in what a server differs from the others. The zero value is a plain one.
type Options struct {
	// Adapter loads the LoRA adapter of the installation as AdapterName.
	Adapter bool
	// Runtime lets adapters be loaded while it runs, of rank MaxRank at most; none is there at first.
	Runtime bool
	// Resolver is a folder in which it finds adapters by their names by itself. Empty: none. It goes with Runtime.
	Resolver string
	// QueueLimit is how many requests it takes, running and waiting together, before it
	// refuses. 0: any number.
	QueueLimit int
	// KVRole makes it hand over KV caches by NIXL ("kv_producer"), take them ("kv_consumer") or
	// both ("kv_both"). What it cannot fetch it computes. The model is then that with weights, whose answers depend on the prompt.
	KVRole string
}

// Start starts a server on a free port of the loopback and returns at once: Ready waits for
// it. It publishes what it does to its KV cache, and replays that, on ports that it names
// itself: see Sources. What it prints goes to the file log. Close stops it.
func (in Install) Start(log string, o Options) (*Server, error) {
	if o.Adapter && in.Adapter == "" {
		return nil, fmt.Errorf("vllm: no adapter beside %s", in.Model)
	}
	if o.KVRole != "" && (in.NIXL == "" || in.Weights == "") {
		return nil, fmt.Errorf("%w that hands over KV caches: run integration/engines/install-nixl.sh", ErrNone)
	}
	port, err := freePort()
	if err != nil {
		return nil, fmt.Errorf("vllm: %w", err)
	}
	env := environment
	if o.KVRole != "" {
		side, err := freePort()
		if err != nil {
			return nil, fmt.Errorf("vllm: %w", err)
		}
		env = slices.Concat(env, []string{
			"PYTHONPATH=" + in.NIXL, "UCX_NET_DEVICES=lo", "UCX_TLS=tcp,sm,self",
			"VLLM_NIXL_SIDE_CHANNEL_HOST=127.0.0.1", "VLLM_NIXL_SIDE_CHANNEL_PORT=" + strconv.Itoa(side),
		})
	}
	if o.Runtime {
		env = slices.Concat(env, []string{"VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"})
	}
	if o.Resolver != "" {
		env = slices.Concat(env, []string{"VLLM_PLUGINS=lora_filesystem_resolver", "VLLM_LORA_RESOLVER_CACHE_DIR=" + o.Resolver})
	}
	s := &Server{Address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Log: log}
	s.start = func() (err error) {
		s.process, err = process.Start(log, env, in.Bin, in.args(port, o)...)
		return err
	}
	return s, s.start()
}

// Restart kills a server that Start started, as the lack of memory does, and starts another
// on the same port. It returns at once, as Start does. The log begins anew.
func (s *Server) Restart() error {
	if s.start == nil {
		return fmt.Errorf("vllm: %s was running already: it is not ours to kill", s.Address)
	}
	if err := s.process.Kill(); err != nil {
		return fmt.Errorf("vllm: %w", err)
	}
	return s.start()
}

// Kill kills a server that Start started, as the lack of memory does.
func (s *Server) Kill() error {
	if s.process == nil {
		return fmt.Errorf("vllm: %s was running already: it is not ours to kill", s.Address)
	}
	return s.process.Kill()
}

// Ours reports whether Start started the server.
func (s *Server) Ours() bool { return s.start != nil }

var environment = []string{
	"VLLM_HOST_IP=127.0.0.1", // where events are published
	"VLLM_SERVER_DEV_MODE=1", // has /sleep, /wake_up and /reset_prefix_cache
	"VLLM_CPU_KVCACHE_SPACE=1", "VLLM_CPU_OMP_THREADS_BIND=nobind", "OMP_NUM_THREADS=1",
	"HF_HUB_OFFLINE=1", "VLLM_NO_USAGE_STATS=1", "DO_NOT_TRACK=1",
}

// events makes a server publish and replay on free ports.
const events = `{"enable_kv_cache_events":true,"publisher":"zmq","topic":"` + Topic + `","endpoint":"tcp://*:0","replay_endpoint":"tcp://*:0"}`

func (in Install) args(port int, o Options) []string {
	model, format := in.Model, "dummy"
	if o.KVRole != "" {
		model, format = in.Weights, "auto"
	}
	args := []string{"serve", model, "--served-model-name", ModelName,
		"--host", "127.0.0.1", "--port", strconv.Itoa(port),
		"--load-format", format, "--dtype", "float32", "--enforce-eager",
		"--max-model-len", "8192", "--max-num-seqs", strconv.Itoa(Places),
		"--block-size", strconv.Itoa(BlockSize), "--num-gpu-blocks-override", strconv.Itoa(Blocks),
		"--enable-prefix-caching", "--enable-prompt-tokens-details",
		"--kv-events-config", events,
	}
	if o.Adapter || o.Runtime {
		args = append(args, "--enable-lora", "--max-loras", strconv.Itoa(MaxLoRAs), "--max-lora-rank", strconv.Itoa(MaxRank))
	}
	if o.Adapter {
		args = append(args, "--lora-modules", AdapterName+"="+in.Adapter)
	}
	if o.QueueLimit > 0 {
		args = append(args, "--max-num-queued-reqs", strconv.Itoa(o.QueueLimit))
	}
	if o.KVRole != "" {
		args = append(args, "--kv-transfer-config", fmt.Sprintf(
			`{"kv_connector":"NixlConnector","kv_role":%q,"kv_buffer_device":"cpu","kv_load_failure_policy":"recompute"}`, o.KVRole))
	}
	return args
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Ready waits until s answers, which takes minutes after Start. progress, if not nil, is
// told every 30 seconds. An error is that of ctx, or says that the process has ended.
func (s *Server) Ready(ctx context.Context, progress func(format string, args ...any)) error {
	var ended <-chan struct{} // nil, which blocks, of a server that was running already
	if s.process != nil {
		ended = s.process.Ended()
	}
	for began, told := time.Now(), time.Now(); ; {
		resp, err := s.get(ctx, "/health")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		if progress != nil && time.Since(told) >= 30*time.Second {
			told = time.Now()
			progress("vLLM at %s: waited %s", s.Address, time.Since(began).Round(time.Second))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("vllm: %s does not answer: %w", s.Address, ctx.Err())
		case <-ended:
			return fmt.Errorf("vllm: the server of %s has ended, see %s", s.Address, s.Log)
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// Close stops a server that Start started, its children included, and waits for its end.
// One that was running already it leaves alone.
func (s *Server) Close() error {
	if s.process == nil {
		return nil
	}
	return s.process.Close()
}
