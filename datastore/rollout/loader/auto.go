package loader

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/types"
)

// Auto uses VLLM or SGLang, whichever a server is: as the endpoint's label datastore.EngineLabel, or
// llm-d.ai/engine-type, says, or else the server itself, in its list of models or its metrics.
type Auto struct{ c *Client }

// Auto returns the loader that finds out what servers are.
func (c *Client) Auto() Auto { return Auto{c} }

// Named returns the loader of a name: auto, vllm, sglang, resolver or manual.
func (c *Client) Named(name string) (rollout.Loader, error) {
	switch strings.ToLower(name) {
	case "", "auto":
		return c.Auto(), nil
	case "vllm":
		return c.VLLM(), nil
	case "sglang":
		return c.SGLang(), nil
	case "resolver":
		return c.Resolver(), nil
	case "manual":
		return c.Manual(), nil
	}
	return nil, fmt.Errorf("loader: %q is no loader: want auto, vllm, sglang, resolver or manual", name)
}

// Load implements rollout.Loader.
func (l Auto) Load(ctx context.Context, ep *types.Endpoint, name, source string) error {
	one, err := l.of(ctx, ep)
	if err != nil {
		return named(err, name)
	}
	return one.Load(ctx, ep, name, source)
}

// Unload implements rollout.Loader.
func (l Auto) Unload(ctx context.Context, ep *types.Endpoint, name string) error {
	one, err := l.of(ctx, ep)
	if err != nil {
		return named(err, name)
	}
	return one.Unload(ctx, ep, name)
}

// Loaded implements rollout.Loader.
func (l Auto) Loaded(ctx context.Context, ep *types.Endpoint, name, source string) (bool, error) {
	one, err := l.of(ctx, ep)
	if err != nil {
		return false, named(err, name)
	}
	return one.Loaded(ctx, ep, name, source)
}

// of returns the loader for an endpoint.
func (l Auto) of(ctx context.Context, ep *types.Endpoint) (rollout.Loader, error) {
	if engine := cmp.Or(ep.Labels[datastore.EngineLabel], ep.Labels["llm-d.ai/engine-type"]); engine != "" {
		return l.known(engine, answer{op: "detect"}, "the endpoint's label says that the engine is "+engine)
	}
	cards, a, err := l.c.list(ctx, ep)
	if err != nil {
		return nil, err
	}
	for _, m := range cards {
		if one, err := l.known(m.OwnedBy, a, ""); err == nil {
			return one, nil
		}
	}
	a, err = l.c.ask(ctx, ep, "detect", http.MethodGet, "/metrics", nil)
	if err != nil {
		return nil, err
	}
	for _, engine := range []string{"vllm", "sglang"} {
		if a.status == http.StatusOK && bytes.Contains(a.body, []byte("\n"+engine+":")) {
			return l.known(engine, a, "")
		}
	}
	a.body = nil
	return l.known("", a, "neither the list of models nor the metrics say what the server is")
}

// known returns the loader for an engine.
func (l Auto) known(engine string, a answer, what string) (rollout.Loader, error) {
	switch strings.ToLower(engine) {
	case "vllm":
		return l.c.VLLM(), nil
	case "sglang":
		return l.c.SGLang(), nil
	}
	return nil, a.fail(what, "use one of the other loaders", ErrUnknownEngine)
}
