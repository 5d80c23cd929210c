// Package host runs the picker as a WebAssembly module under wazero, a runtime in Go.
package host

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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
	runtime wazero.Runtime
	memory  api.Memory

	mu      sync.Mutex
	exports map[string]api.Function // guarded by mu
}

// Open starts a module. Close it.
func Open(ctx context.Context, wasm []byte, o Options) (*Guest, error) {
	o.MaxMemory = cmp.Or(o.MaxMemory, 64)
	const pagesPerMiB = 16
	runtime := wazero.NewRuntimeConfig().WithMemoryLimitPages(uint32(o.MaxMemory * pagesPerMiB)).WithCompilationCache(o.Cache)
	g := &Guest{runtime: wazero.NewRuntimeWithConfig(ctx, runtime)}
	wasi_snapshot_preview1.MustInstantiate(ctx, g.runtime)
	config := wazero.NewModuleConfig().WithStartFunctions("_initialize").WithSysWalltime().WithSysNanotime().
		WithEnv("GOMEMLIMIT", fmt.Sprintf("%dMiB", o.MaxMemory*3/4)) // it collects harder before it comes to the bound
	if now := o.Now; now != nil {
		config = config.WithWalltime(func() (int64, int32) { t := now(); return t.Unix(), int32(t.Nanosecond()) }, 1).
			WithNanotime(func() int64 { return now().UnixNano() }, 1)
	}
	module, err := g.runtime.InstantiateWithConfig(ctx, wasm, config)
	if err != nil {
		return nil, errors.Join(err, g.Close(ctx))
	}
	g.memory, g.exports = module.Memory(), map[string]api.Function{}
	for name := range module.ExportedFunctionDefinitions() {
		g.exports[name] = module.ExportedFunction(name)
	}
	if _, err := g.call(ctx, "start", []uint64{o.Seed}); err != nil {
		return nil, errors.Join(err, g.Close(ctx))
	}
	return g, nil
}

// Close ends the module.
func (g *Guest) Close(ctx context.Context) error { return g.runtime.Close(ctx) }

// Memory returns the size of the module's memory in bytes.
func (g *Guest) Memory() int { return int(g.memory.Size()) }

// SetEndpoints says which endpoints there are; see picker.Picker.
func (g *Guest) SetEndpoints(ctx context.Context, readings []picker.Reading) error {
	list, err := json.Marshal(readings)
	if err != nil {
		return err
	}
	_, err = g.call(ctx, "set_endpoints", nil, list)
	return err
}

// Schedule decides where a request goes and books it there; see picker.Picker.
func (g *Guest) Schedule(ctx context.Context, path string, body []byte) (picker.Choice, error) {
	out, err := g.call(ctx, "schedule", nil, []byte(path), body)
	if err != nil {
		return picker.Choice{}, err
	}
	var words []int
	for word := range slices.Chunk(out, 4) {
		words = append(words, int(binary.LittleEndian.Uint32(word)))
	}
	return picker.Choice{Ticket: uint32(words[0]), Endpoint: words[1], Fallbacks: words[2:]}, nil
}

// Explain says why; see picker.Picker.
func (g *Guest) Explain(ctx context.Context, path string, body []byte) (string, error) {
	out, err := g.call(ctx, "explain", nil, []byte(path), body)
	return string(out), err
}

// FirstToken reports a first token; see picker.Picker.
func (g *Guest) FirstToken(ctx context.Context, ticket uint32) error {
	_, err := g.call(ctx, "first_token", []uint64{uint64(ticket)})
	return err
}

// Done reports how a request ended; see picker.Picker.
func (g *Guest) Done(ctx context.Context, e picker.End) error {
	_, err := g.call(ctx, "done", []uint64{uint64(e.Ticket), uint64(e.Result), uint64(e.Status), uint64(e.CachedTokens), uint64(e.OutputTokens)})
	return err
}

// call calls a function with parameters and with the lengths of parts, which are its input.
// It returns the output, or the error that the guest told.
func (g *Guest) call(ctx context.Context, function string, parameters []uint64, parts ...[]byte) ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var size uint64
	for _, part := range parts {
		size += uint64(len(part))
		parameters = append(parameters, uint64(len(part)))
	}
	at, err := g.exports["input"].Call(ctx, size)
	if err != nil {
		return nil, err
	}
	for _, part := range parts {
		if !g.memory.Write(uint32(at[0]), part) {
			return nil, errOutside
		}
		at[0] += uint64(len(part))
	}
	results, err := g.exports[function].Call(ctx, parameters...)
	if err != nil || len(results) == 0 {
		return nil, err
	}
	const failed = 1 << 31
	out, ok := g.memory.Read(uint32(results[0]>>32), uint32(results[0])&^failed)
	if !ok {
		return nil, errOutside
	}
	if results[0]&failed != 0 {
		return nil, errors.New(string(out))
	}
	return bytes.Clone(out), nil
}

var errOutside = errors.New("host: the guest names a place outside of its memory")
