// Package host runs the picker as a WebAssembly module under wazero, a runtime in Go.
package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/inferpick/inferpick/examples/wasm/picker"
)

// Options say how a Guest runs. The zero value is good.
type Options struct {
	// MaxMemory bounds the guest's memory in MiB. Default 64. A guest that needs more ends
	// with an error in each call that follows.
	MaxMemory int
	// Seed makes decisions repeatable. 0: random.
	Seed uint64
	// Now is the guest's clock. Default: the machine's.
	Now func() time.Time
	// Cache keeps what the module was compiled to, which takes seconds: one with a directory
	// keeps it when the guest is closed, too. Default: none.
	Cache wazero.CompilationCache
}

// Guest is a running module. Its methods may be called from any goroutine, one after the
// other: a module has one thread.
type Guest struct {
	mu      sync.Mutex
	runtime wazero.Runtime
	module  api.Module
}

// Open starts a module. Close it.
func Open(ctx context.Context, wasm []byte, o Options) (*Guest, error) {
	if o.MaxMemory == 0 {
		o.MaxMemory = 64
	}
	const pagesPerMiB = 16
	runtime := wazero.NewRuntimeConfig().WithMemoryLimitPages(uint32(o.MaxMemory * pagesPerMiB))
	if o.Cache != nil {
		runtime = runtime.WithCompilationCache(o.Cache)
	}
	g := &Guest{runtime: wazero.NewRuntimeWithConfig(ctx, runtime)}
	wasi_snapshot_preview1.MustInstantiate(ctx, g.runtime)
	config := wazero.NewModuleConfig().WithStartFunctions("_initialize").WithSysWalltime().WithSysNanotime().
		WithEnv("GOMEMLIMIT", fmt.Sprintf("%dMiB", o.MaxMemory*3/4)) // it collects harder before it comes to the bound
	if now := o.Now; now != nil {
		config = config.WithWalltime(func() (int64, int32) { t := now(); return t.Unix(), int32(t.Nanosecond()) }, 1).
			WithNanotime(func() int64 { return now().UnixNano() }, 1)
	}
	var err error
	if g.module, err = g.runtime.InstantiateWithConfig(ctx, wasm, config); err != nil {
		return nil, errors.Join(err, g.Close(ctx))
	}
	if _, err := g.call(ctx, "start", nil, o.Seed); err != nil {
		return nil, errors.Join(err, g.Close(ctx))
	}
	return g, nil
}

// Close ends the module.
func (g *Guest) Close(ctx context.Context) error { return g.runtime.Close(ctx) }

// Memory returns the size of the module's memory in bytes.
func (g *Guest) Memory() int { return int(g.module.Memory().Size()) }

// SetEndpoints says which endpoints there are; see picker.Picker.
func (g *Guest) SetEndpoints(ctx context.Context, readings []picker.Reading) error {
	input, err := json.Marshal(readings)
	if err != nil {
		return err
	}
	_, err = g.call(ctx, "set_endpoints", input)
	return err
}

// Schedule decides where a request goes and books it there; see picker.Picker.
func (g *Guest) Schedule(ctx context.Context, path string, body []byte) (choice picker.Choice, err error) {
	output, err := g.call(ctx, "schedule", append([]byte(path), body...), uint64(len(path)))
	if err == nil {
		err = json.Unmarshal(output, &choice)
	}
	return choice, err
}

// Explain says why; see picker.Picker.
func (g *Guest) Explain(ctx context.Context, path string, body []byte) (string, error) {
	output, err := g.call(ctx, "explain", append([]byte(path), body...), uint64(len(path)))
	return string(output), err
}

// FirstToken reports a first token; see picker.Picker.
func (g *Guest) FirstToken(ctx context.Context, ticket uint32) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, err := g.module.ExportedFunction("first_token").Call(ctx, uint64(ticket))
	return err
}

// Done reports how a request ended; see picker.Picker.
func (g *Guest) Done(ctx context.Context, end picker.End) error {
	input, err := json.Marshal(end)
	if err != nil {
		return err
	}
	_, err = g.call(ctx, "done", input)
	return err
}

// call hands input over, calls a function and returns its output, or the error that it gave.
func (g *Guest) call(ctx context.Context, function string, input []byte, arguments ...uint64) ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at, err := g.module.ExportedFunction("input").Call(ctx, uint64(len(input)))
	if err != nil {
		return nil, err
	}
	if !g.module.Memory().Write(uint32(at[0]), input) {
		return nil, fmt.Errorf("host: the guest has no room for %d bytes", len(input))
	}
	failed, err := g.module.ExportedFunction(function).Call(ctx, arguments...)
	if err != nil {
		return nil, err
	}
	where, err := g.module.ExportedFunction("output").Call(ctx)
	if err != nil {
		return nil, err
	}
	view, ok := g.module.Memory().Read(uint32(where[0]>>32), uint32(where[0]))
	if !ok {
		return nil, errors.New("host: the guest's output is outside of its memory")
	}
	output := append([]byte(nil), view...)
	if failed[0] != 0 {
		return nil, errors.New(string(output))
	}
	return output, nil
}
