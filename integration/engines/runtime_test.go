package engines_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/inferpick/inferpick/integration/engines/vllm"
)

// envRuntime names two servers that run already and load adapters while they run, the first of them with a resolver
// for the folder envResolver.
const envRuntime, envResolver = "VLLM_RUNTIME", "VLLM_RUNTIME_RESOLVER"

// runtimeFleet are two servers that load adapters while they run, started when the first test asks.
var runtimeFleet struct {
	once     sync.Once
	in       vllm.Install
	servers  []*vllm.Server
	folder   string // of adapters
	resolver string // of adapters that the first server finds by itself
	skip     string // why there are none
	err      error
}

// runtimeServers returns two servers that load adapters while they run. They have none, unless a test has left some.
func runtimeServers(t *testing.T) []*vllm.Server {
	t.Helper()
	f := &runtimeFleet
	f.once.Do(func() { f.err = startRuntime() })
	if f.skip != "" {
		t.Skip(f.skip)
	}
	if f.err != nil {
		t.Fatal(f.err)
	}
	return f.servers
}

func startRuntime() (err error) {
	f := &runtimeFleet
	if f.in, err = vllm.Find(os.Getenv); errors.Is(err, vllm.ErrNone) {
		f.skip = err.Error()
		return nil
	}
	if err != nil {
		return err
	}
	if f.folder, err = os.MkdirTemp("", "adapters"); err != nil {
		return err
	}
	if f.resolver = os.Getenv(envResolver); f.resolver == "" {
		f.resolver = filepath.Join(f.folder, "resolver")
		if err = os.Mkdir(f.resolver, 0o755); err != nil {
			return err
		}
	}
	if f.servers = vllm.Running(func(string) string { return os.Getenv(envRuntime) }); len(f.servers) != 2 {
		f.servers = nil
		for i, o := range []vllm.Options{{Runtime: true, Resolver: f.resolver}, {Runtime: true}} {
			s, err := f.in.Start(filepath.Join(f.folder, fmt.Sprintf("%d.log", i)), o)
			if err != nil {
				return err
			}
			f.servers = append(f.servers, s)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), *starting)
	defer cancel()
	progress := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	for _, s := range f.servers {
		if err := s.Ready(ctx, progress); err != nil {
			return fmt.Errorf("%w\n%s", err, s.Tail(40))
		}
	}
	return nil
}

// stopRuntime stops what startRuntime has started.
func stopRuntime(all *sync.WaitGroup) {
	for _, s := range runtimeFleet.servers {
		all.Go(func() { _ = s.Close() })
	}
	if runtimeFleet.folder != "" {
		_ = os.RemoveAll(runtimeFleet.folder)
	}
}

// adapter says how an adapter differs from one that fits.
type adapter struct {
	rank, wider int // 0: as it should be
	seed        int
}

// makeAdapter makes an adapter of noise for the model of the servers in a folder.
func makeAdapter(t *testing.T, folder string, a adapter) string {
	t.Helper()
	if a.rank == 0 {
		a.rank = vllm.MaxRank
	}
	in := runtimeFleet.in
	// The noise drowns the weights, which are next to nothing, so that what the model says depends on it.
	python := filepath.Join(filepath.Dir(in.Bin), "python")
	cmd := exec.CommandContext(t.Context(), python, "make_adapter.py", "--scale", "30",
		"--rank", strconv.Itoa(a.rank), "--wider", strconv.Itoa(a.wider), "--seed", strconv.Itoa(a.seed), in.Model, folder)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make_adapter.py: %v\n%s", err, out)
	}
	return folder
}
