package peers

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/inferpick/inferpick/integration/engines/process"
)

// EnvCache is the folder that install-peers.sh fills. Default: inferpick/engines in
// os.UserCacheDir.
const EnvCache = "INFERPICK_ENGINES"

// ErrNone is wrapped by the error of a machine without peers.
var ErrNone = errors.New("no peers on this machine: run integration/engines/install-peers.sh (400 MB)")

// Install is where they are installed.
type Install struct {
	Python string // the interpreter that has them
	Model  string // the folder of a model for mock engines
}

// Find returns the installation in the cache folder.
func Find(getenv func(string) string) (Install, error) {
	dir := getenv(EnvCache)
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return Install{}, fmt.Errorf("%w; %w", ErrNone, err)
		}
		dir = filepath.Join(cache, "inferpick", "engines")
	}
	in := Install{Python: filepath.Join(dir, "peers", "bin", "python"), Model: filepath.Join(dir, "mock-model")}
	for _, path := range []string{in.Python, filepath.Join(in.Model, "config.json")} {
		if _, err := os.Stat(path); err != nil {
			return Install{}, fmt.Errorf("%w; %w", ErrNone, err)
		}
	}
	return in, nil
}

// Router starts SGLang's router before servers, and returns its address. It is ready when
// /v1/models answers.
func (in Install) Router(log, policy string, servers ...string) (address string, p *process.Process, err error) {
	ports, err := freePorts(2)
	if err != nil {
		return "", nil, err
	}
	args := []string{"-m", "sglang_router.launch_router", "--host", "127.0.0.1", "--port", strconv.Itoa(ports[0]),
		"--prometheus-host", "127.0.0.1", "--prometheus-port", strconv.Itoa(ports[1]), "--policy", policy, "--worker-urls"}
	for _, s := range servers {
		args = append(args, "http://"+s)
	}
	p, err = process.Start(log, nil, in.Python, args...)
	return local(ports[0]), p, err
}

// Mock is one of Dynamo's mock engines with a front of its own, which together are a server, or several.
type Mock struct {
	Address      string // of the front
	Live, Replay string // of its events

	parts []*process.Process
}

// Mock starts a mock engine with a cache of so many blocks, of the given size in tokens. It
// logs to files in the folder dir. Flags are added to those of the engine.
func (in Install) Mock(dir string, blocks, blockSize int, flags ...string) (*Mock, error) {
	return in.mocks(dir, make([][]string, 1), blocks, blockSize, nil, flags)
}

// KVRouted starts so many mock engines behind one front, Dynamo's router by KV events. Live and Replay are those of
// the last engine.
func (in Install) KVRouted(dir string, engines, blocks, blockSize int, flags ...string) (*Mock, error) {
	return in.mocks(dir, make([][]string, engines), blocks, blockSize, routed(blockSize, engines), flags)
}

func routed(blockSize, engines int) []string {
	return []string{"--router-mode", "kv", "--kv-cache-block-size", strconv.Itoa(blockSize), "--router-min-initial-workers", strconv.Itoa(engines)}
}

// Disaggregated starts mock engines that compute prompts and mock engines that answer them behind one front, Dynamo's
// router by KV events of both, with more flags for it. A prompt is handed over before the end of the first leg.
func (in Install) Disaggregated(dir string, prefill, decode, blocks, blockSize int, front []string, flags ...string) (*Mock, error) {
	each := make([][]string, 0, prefill+decode)
	for range prefill {
		ports, err := freePorts(1)
		if err != nil {
			return nil, err
		}
		each = append(each, []string{"--disaggregation-mode", "prefill", "--bootstrap-ports", strconv.Itoa(ports[0])})
	}
	for range decode {
		each = append(each, []string{"--disaggregation-mode", "decode"})
	}
	return in.mocks(dir, each, blocks, blockSize, append(routed(blockSize, 1), front...), flags)
}

// mocks starts an engine for each of some flags, which it has beside those of all.
func (in Install) mocks(dir string, each [][]string, blocks, blockSize int, front, flags []string) (*Mock, error) {
	m := &Mock{}
	env := []string{"DYN_FILE_KV=" + filepath.Join(dir, "discovery"), "DYN_TCP_RPC_HOST=127.0.0.1", "HF_HUB_OFFLINE=1"}
	start := func(name string, args ...string) error {
		args = append(args, "--discovery-backend", "file", "--request-plane", "tcp", "--event-plane", "zmq")
		p, err := process.Start(filepath.Join(dir, name+".log"), env, in.Python, args...)
		if err == nil {
			m.parts = append(m.parts, p)
		}
		return err
	}
	for i, own := range each {
		ports, err := freePorts(2)
		if err == nil {
			m.Live, m.Replay = "tcp://"+local(ports[0]), "tcp://"+local(ports[1])
			err = start(fmt.Sprintf("engine%d", i), append([]string{"-m", "dynamo.mocker", "--model-path", in.Model, "--model-name", "tiny",
				"--num-gpu-blocks-override", strconv.Itoa(blocks), "--block-size", strconv.Itoa(blockSize), "--speedup-ratio", "10",
				"--zmq-kv-events-ports", strconv.Itoa(ports[0]), "--zmq-replay-ports", strconv.Itoa(ports[1])}, slices.Concat(own, flags)...)...)
		}
		if err != nil {
			_ = m.Close()
			return nil, err
		}
	}
	ports, err := freePorts(1)
	if err == nil {
		m.Address = local(ports[0])
		err = start("front", append([]string{"-m", "dynamo.frontend", "--http-host", "127.0.0.1", "--http-port", strconv.Itoa(ports[0])}, front...)...)
	}
	if err != nil {
		_ = m.Close()
		return nil, err
	}
	return m, nil
}

// Close ends it.
func (m *Mock) Close() error {
	var errs []error
	for _, p := range m.parts {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func freePorts(n int) (ports []int, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
