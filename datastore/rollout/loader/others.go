package loader

import (
	"context"

	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/types"
)

// Resolver is for servers that load an adapter when a request first names it, such as vLLM with
// VLLM_PLUGINS=lora_filesystem_resolver, VLLM_LORA_RESOLVER_CACHE_DIR and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True. Load
// makes that request, so that no client waits for it. Nothing unloads it: a request would bring it back.
type Resolver struct{ c *Client }

// Resolver returns the loader for servers that load by themselves.
func (c *Client) Resolver() Resolver { return Resolver{c} }

// Load implements rollout.Loader. If the source is not empty, it must be the one that the server has found.
func (l Resolver) Load(ctx context.Context, ep *types.Endpoint, name, source string) error {
	return l.c.bring(ctx, job{ep: ep, name: name, listed: name, source: source})
}

// Unload implements rollout.Loader. It does nothing.
func (l Resolver) Unload(context.Context, *types.Endpoint, string) error { return nil }

// Loaded implements rollout.Loader. It is false before the first request, and after a restart of the server.
func (l Resolver) Loaded(ctx context.Context, ep *types.Endpoint, name, source string) (bool, error) {
	return VLLM(l).Loaded(ctx, ep, name, source)
}

// Manual is for adapters that somebody else loads and unloads. Load waits until the server lists it.
type Manual struct{ c *Client }

// Manual returns the loader that only looks.
func (c *Client) Manual() Manual { return Manual{c} }

// Load implements rollout.Loader. It looks every Options.Every until ctx is done. If the source is not empty, it must
// be the one that the server lists.
func (l Manual) Load(ctx context.Context, ep *types.Endpoint, name, source string) error {
	return l.c.bring(ctx, job{ep: ep, name: name, listed: name, source: source, wait: l.c.o.Every})
}

// Unload implements rollout.Loader. It does nothing.
func (l Manual) Unload(context.Context, *types.Endpoint, string) error { return nil }

// Loaded implements rollout.Loader.
func (l Manual) Loaded(ctx context.Context, ep *types.Endpoint, name, source string) (bool, error) {
	return VLLM(l).Loaded(ctx, ep, name, source)
}

// Func is for servers with another API: it calls functions of yours, and looks and probes as the others do.
type Func struct {
	c      *Client
	load   func(ctx context.Context, ep *types.Endpoint, name, source string) error
	unload func(ctx context.Context, ep *types.Endpoint, name string) error
}

// Func returns a loader that calls load for an adapter that a server does not list, and unload. Either may be nil: then
// nothing is done. They must return when ctx is done; their errors are passed on. They are called from any goroutine,
// for one address one at a time, and should not panic: the panic is the caller's.
func (c *Client) Func(load func(ctx context.Context, ep *types.Endpoint, name, source string) error,
	unload func(ctx context.Context, ep *types.Endpoint, name string) error) Func {
	return Func{c, load, unload}
}

// Load implements rollout.Loader.
func (l Func) Load(ctx context.Context, ep *types.Endpoint, name, source string) error {
	j := job{ep: ep, name: name, listed: name, source: source}
	if l.load != nil {
		j.put = func(ctx context.Context) error { return l.load(ctx, ep, name, source) }
	}
	return l.c.bring(ctx, j)
}

// Unload implements rollout.Loader.
func (l Func) Unload(ctx context.Context, ep *types.Endpoint, name string) error {
	if l.unload == nil {
		return nil
	}
	return l.c.drop(ctx, ep, name, func(ctx context.Context) error { return l.unload(ctx, ep, name) })
}

// Loaded implements rollout.Loader.
func (l Func) Loaded(ctx context.Context, ep *types.Endpoint, name, source string) (bool, error) {
	return VLLM{l.c}.Loaded(ctx, ep, name, source)
}

var (
	_ rollout.Loader = VLLM{}
	_ rollout.Loader = SGLang{}
	_ rollout.Loader = Resolver{}
	_ rollout.Loader = Manual{}
	_ rollout.Loader = Func{}
	_ rollout.Loader = Auto{}
)
