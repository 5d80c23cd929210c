package loader

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/inferpick/inferpick/types"
)

// VLLM loads adapters by the API of vLLM, and of servers that have the same: POST /v1/load_lora_adapter and
// /v1/unload_lora_adapter. They must be started with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True. Without
// a source it asks for the adapter alone, as Resolver does.
type VLLM struct{ c *Client }

// VLLM returns the loader for vLLM.
func (c *Client) VLLM() VLLM { return VLLM{c} }

const (
	vllmOff = "start vLLM with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True and --enable-lora, and let nobody else " +
		"reach that path"
	vllmWhy = "a rank above --max-lora-rank, weights of another model, or a server without --enable-lora are " +
		"reasons: see its log"
)

// Load implements rollout.Loader. The source is what the server calls the adapter's place: a folder on its disk, or a
// name on a hub.
func (l VLLM) Load(ctx context.Context, ep *types.Endpoint, name, source string) error {
	j := job{ep: ep, name: name, listed: name, source: source}
	if source != "" {
		j.put = func(ctx context.Context) error { return l.put(ctx, ep, name, source) }
	}
	return l.c.bring(ctx, j)
}

func (l VLLM) put(ctx context.Context, ep *types.Endpoint, name, source string) error {
	body := map[string]string{"lora_name": name, "lora_path": source}
	a, err := l.c.ask(ctx, ep, "load", http.MethodPost, "/v1/load_lora_adapter", body)
	if err != nil {
		return err
	}
	message, _ := says(a.body)
	from := fmt.Sprintf("from %q", source) // the server leaves paths out of what it says
	switch {
	case a.status == http.StatusOK:
		return nil
	case a.notThere():
		return a.fail(from, "the path must be there on the server itself, with an adapter_config.json", ErrNoSource)
	case a.status == http.StatusNotFound || a.status == http.StatusMethodNotAllowed:
		return a.fail("", vllmOff, ErrOff)
	case a.status == http.StatusBadRequest && strings.Contains(message, "already been loaded"):
		return nil // since we looked: whether it is ours shows when we look again
	case a.status == http.StatusBadRequest && strings.Contains(message, "conflicts with a served base model"):
		return a.fail("", "give the adapter another name", ErrTaken)
	case a.status == http.StatusBadRequest || a.status == http.StatusInternalServerError:
		return a.fail(from, vllmWhy, ErrRefused)
	}
	return a.refused(ErrRefused)
}

// notThere reports whether vLLM says that there is no adapter, rather than that it has no such path.
func (a *answer) notThere() bool {
	_, kind := says(a.body)
	return a.status == http.StatusNotFound && kind == "NotFoundError"
}

// Unload implements rollout.Loader. Requests under way end well.
func (l VLLM) Unload(ctx context.Context, ep *types.Endpoint, name string) error {
	return l.c.drop(ctx, ep, name, func(ctx context.Context) error {
		a, err := l.c.ask(ctx, ep, "unload", http.MethodPost, "/v1/unload_lora_adapter", map[string]string{"lora_name": name})
		switch {
		case err != nil:
			return err
		case a.status == http.StatusOK:
			return nil
		case a.notThere():
			return nil
		case a.status == http.StatusNotFound || a.status == http.StatusMethodNotAllowed:
			return l.c.unlessGone(ctx, ep, name, a.fail("", vllmOff, ErrOff))
		}
		return a.refused(ErrRefused)
	})
}

// Loaded implements rollout.Loader.
func (l VLLM) Loaded(ctx context.Context, ep *types.Endpoint, name, source string) (bool, error) {
	has, err := l.c.has(ctx, ep, name, source)
	return has, named(err, name)
}

// unlessGone returns err, if the server lists an adapter.
func (c *Client) unlessGone(ctx context.Context, ep *types.Endpoint, listed string, err error) error {
	if has, listErr := c.has(ctx, ep, listed, ""); listErr == nil && !has {
		return nil
	}
	return err
}
