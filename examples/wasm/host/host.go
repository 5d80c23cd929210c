// Package host runs the picker as a WebAssembly module under wazero, a runtime in Go.
package host

import (
	"context"
	"encoding/binary"
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
	runtime wazero.Runtime
	memory  api.Memory

	mu sync.Mutex
	// guarded by mu
	input, output, setEndpoints, schedule, explain, firstToken, done api.Function

	buffer, room uint32 // the guest's input buffer and its size
	choice       uint32 // where it writes choices
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
	module, err := g.runtime.InstantiateWithConfig(ctx, wasm, config)
	if err != nil {
		return nil, errors.Join(err, g.Close(ctx))
	}
	g.memory = module.Memory()
	for name, f := range map[string]*api.Function{
		"input": &g.input, "output": &g.output, "set_endpoints": &g.setEndpoints, "schedule": &g.schedule,
		"explain": &g.explain, "first_token": &g.firstToken, "done": &g.done,
	} {
		*f = module.ExportedFunction(name)
	}
	choice, err := module.ExportedFunction("start").Call(ctx, o.Seed)
	if err != nil {
		return nil, errors.Join(err, g.Close(ctx))
	}
	g.choice = uint32(choice[0])
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
	g.mu.Lock()
	defer g.mu.Unlock()
	_, err = g.call(ctx, g.setEndpoints, list)
	return err
}

// Schedule decides where a request goes and books it there; see picker.Picker.
func (g *Guest) Schedule(ctx context.Context, path string, body []byte) (picker.Choice, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, err := g.call(ctx, g.schedule, []byte(path), body)
	if err != nil {
		return picker.Choice{}, err
	}
	const word = 4
	raw, ok := g.memory.Read(g.choice, uint32(n)*word)
	if !ok {
		return picker.Choice{}, errOutside
	}
	words := make([]int, n)
	for i := range words {
		words[i] = int(binary.LittleEndian.Uint32(raw[i*word:]))
	}
	return picker.Choice{Ticket: uint32(words[0]), Endpoint: words[1], Fallbacks: words[2:]}, nil
}

// Explain says why; see picker.Picker.
func (g *Guest) Explain(ctx context.Context, path string, body []byte) (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, err := g.call(ctx, g.explain, []byte(path), body); err != nil {
		return "", err
	}
	return g.read(ctx)
}

// FirstToken reports a first token; see picker.Picker.
func (g *Guest) FirstToken(ctx context.Context, ticket uint32) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, err := g.firstToken.Call(ctx, uint64(ticket))
	return err
}

// Done reports how a request ended; see picker.Picker.
func (g *Guest) Done(ctx context.Context, e picker.End) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, err := g.done.Call(ctx, uint64(e.Ticket), uint64(e.Result), uint64(e.Status), uint64(e.CachedTokens), uint64(e.OutputTokens))
	return err
}

// call hands the parts of the input over one behind the other and calls a function with
// their lengths. It returns what that gave, or the error that it told. Caller must hold g.mu.
func (g *Guest) call(ctx context.Context, function api.Function, parts ...[]byte) (int32, error) {
	var lengths []uint64
	var size uint32
	for _, part := range parts {
		lengths = append(lengths, uint64(len(part)))
		size += uint32(len(part))
	}
	if size > g.room {
		at, err := g.input.Call(ctx, uint64(size))
		if err != nil {
			return 0, err
		}
		g.buffer, g.room = uint32(at[0]), size
	}
	at := g.buffer
	for _, part := range parts {
		if !g.memory.Write(at, part) {
			return 0, errOutside
		}
		at += uint32(len(part))
	}
	result, err := function.Call(ctx, lengths...)
	if err != nil {
		return 0, err
	}
	if n := int32(result[0]); n >= 0 {
		return n, nil
	}
	text, err := g.read(ctx)
	if err != nil {
		return 0, err
	}
	return 0, errors.New(text)
}

// read returns the guest's output. Caller must hold g.mu.
func (g *Guest) read(ctx context.Context) (string, error) {
	where, err := g.output.Call(ctx)
	if err != nil {
		return "", err
	}
	view, ok := g.memory.Read(uint32(where[0]>>32), uint32(where[0]))
	if !ok {
		return "", errOutside
	}
	return string(view), nil
}

var errOutside = errors.New("host: the guest names a place outside of its memory")
