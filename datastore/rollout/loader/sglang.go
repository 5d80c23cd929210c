package loader

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/inferpick/inferpick/types"
)

// SGLang loads adapters by the API of SGLang: POST /load_lora_adapter and /unload_lora_adapter. It must be started with
// --enable-lora, and for adapters larger than its first ones with --max-lora-rank and --lora-target-modules. Names are
// base:adapter, as requests have them in their model; the list of models has the adapter alone.
type SGLang struct{ c *Client }

// SGLang returns the loader for SGLang.
func (c *Client) SGLang() SGLang { return SGLang{c} }

const (
	sglangOff = "start SGLang with --enable-lora, and let nobody else reach that path"
	sglangWhy = "a path that is not there, a rank above --max-lora-rank, modules that are not in " +
		"--lora-target-modules, or --dp above 1 are reasons: see its log"
)

// adapterOf returns the adapter in a model name of SGLang, which is what follows the first colon.
func adapterOf(op, name string) (string, error) {
	base, adapter, ok := strings.Cut(name, ":")
	if !ok || base == "" || adapter == "" {
		const what = "SGLang would answer it with the base model"
		return "", &Error{Op: op, Adapter: name, What: what, Do: "name it base:adapter", Err: ErrName}
	}
	return adapter, nil
}

// Load implements rollout.Loader. Without a source the adapter must be there already.
func (l SGLang) Load(ctx context.Context, ep *types.Endpoint, name, source string) error {
	adapter, err := adapterOf("load", name)
	if err != nil {
		return err
	}
	j := job{ep: ep, name: name, listed: adapter, source: source}
	if source != "" {
		j.put = func(ctx context.Context) error { return l.put(ctx, ep, adapter, source) }
	}
	return l.c.bring(ctx, j)
}

func (l SGLang) put(ctx context.Context, ep *types.Endpoint, adapter, source string) error {
	body := map[string]string{"lora_name": adapter, "lora_path": source}
	a, err := l.c.ask(ctx, ep, "load", http.MethodPost, "/load_lora_adapter", body)
	if err != nil {
		return err
	}
	var reply struct{ Success bool }
	bad := json.Unmarshal(a.body, &reply)
	message, _ := says(a.body)
	switch {
	case a.status == http.StatusOK && bad == nil && reply.Success:
		return nil
	case a.status == http.StatusOK:
		return a.fail("the answer does not say that it was loaded", "", ErrRefused)
	case a.noPath():
		return a.fail("", "is it SGLang?", ErrOff)
	case strings.Contains(message, "LoRA is not enabled"):
		return a.fail("", sglangOff, ErrOff)
	case strings.Contains(message, "already exists") || strings.Contains(message, "already loaded"):
		return nil // since we looked: whether it is ours shows when we look again
	case a.status == http.StatusBadRequest || a.status == http.StatusInternalServerError:
		return a.fail(fmt.Sprintf("from %q", source), sglangWhy, ErrRefused)
	}
	return a.refused(ErrRefused)
}

// Unload implements rollout.Loader. It returns when the last request under way has ended.
func (l SGLang) Unload(ctx context.Context, ep *types.Endpoint, name string) error {
	adapter, err := adapterOf("unload", name)
	if err != nil {
		return err
	}
	return l.c.drop(ctx, ep, name, func(ctx context.Context) error {
		a, err := l.c.ask(ctx, ep, "unload", http.MethodPost, "/unload_lora_adapter", map[string]string{"lora_name": adapter})
		if err != nil {
			return err
		}
		if a.status == http.StatusOK {
			return nil
		}
		// It has one status for all that goes wrong.
		err = a.refused(ErrRefused)
		if a.noPath() {
			err = a.fail("", "is it SGLang?", ErrOff)
		}
		return l.c.unlessGone(ctx, ep, adapter, err)
	})
}

// Loaded implements rollout.Loader.
func (l SGLang) Loaded(ctx context.Context, ep *types.Endpoint, name, source string) (bool, error) {
	adapter, err := adapterOf("list", name)
	if err != nil {
		return false, err
	}
	has, err := l.c.has(ctx, ep, adapter, source)
	if err != nil {
		return false, named(err, name)
	}
	return has, nil
}
