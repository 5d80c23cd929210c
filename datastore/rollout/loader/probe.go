package loader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"

	"github.com/inferpick/inferpick/types"
)

// probes are the requests for as little as possible, in the order in which they are tried. Servers have not all paths:
// some take chats alone, and others make embeddings.
var probes = [...]struct {
	path  string
	body  map[string]any // beside the model
	reply string         // field of the answer that is a list, and not empty
}{
	{"/v1/completions", map[string]any{"prompt": "Hello", "max_tokens": 1, "temperature": 0}, "choices"},
	{"/v1/chat/completions", map[string]any{
		"messages": []map[string]string{{"role": "user", "content": "Hello"}}, "max_tokens": 1, "temperature": 0,
	}, "choices"},
	{"/v1/embeddings", map[string]any{"input": "Hello"}, "data"},
}

// probe asks for one token under a name, or for an embedding. The error is that of the first path that the server has.
func (c *Client) probe(ctx context.Context, ep *types.Endpoint, name string) error {
	var first, last error
	for _, p := range probes {
		body := maps.Clone(p.body)
		body["model"] = name
		a, err := c.ask(ctx, ep, "probe", http.MethodPost, p.path, body)
		if err != nil {
			return err
		}
		if last = a.repliesAs(name, p.reply); last == nil {
			return nil
		}
		if !mayTakeAnother(last) {
			return last
		}
		if first == nil && !a.noPath() {
			first = last
		}
	}
	if first == nil {
		last.(*Error).Do = "it takes neither completions, chats nor embeddings: is it a model server?"
		return last
	}
	return first
}

// mayTakeAnother reports whether a server may answer another path than the one with this error.
func mayTakeAnother(err error) bool {
	var e *Error
	if !errors.As(err, &e) || e.Permanent() || e.Status == http.StatusTooManyRequests {
		return false
	}
	return e.Status >= 400 && e.Status < 500
}

// noPath reports whether a server does not know the path that it was asked by. Engines have a message in a 404 about
// anything else.
func (a *answer) noPath() bool {
	message, _ := says(a.body)
	return a.status == http.StatusMethodNotAllowed || a.status == http.StatusNotFound && message == ""
}

// repliesAs returns why an answer is not one of a model, with something in a list.
func (a *answer) repliesAs(model, list string) error {
	if a.status != http.StatusOK {
		return a.refused(ErrNotServed)
	}
	var reply struct {
		Model   string            `json:"model"`
		Choices []json.RawMessage `json:"choices"`
		Data    []json.RawMessage `json:"data"`
	}
	err := json.Unmarshal(a.body, &reply)
	found := reply.Choices
	if list == "data" {
		found = reply.Data
	}
	switch {
	case err != nil:
		return a.fail("the answer is not what was asked for", "", ErrNotServed)
	case reply.Model != model:
		return a.fail(fmt.Sprintf("the answer is from model %q", shorten(reply.Model)), "", ErrNotServed)
	case len(found) == 0:
		return a.fail("the answer has no "+list, "", ErrNotServed)
	}
	return nil
}
