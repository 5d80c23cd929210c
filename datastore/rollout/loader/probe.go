package loader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/inferpick/inferpick/types"
)

// probe asks for one token under a name: by a completion, and of a server that takes none by a chat.
func (c *Client) probe(ctx context.Context, ep *types.Endpoint, name string) error {
	has, err := c.probeBy(ctx, ep, name, "/v1/completions", map[string]any{
		"model": name, "prompt": "Hello", "max_tokens": 1, "temperature": 0,
	})
	if err == nil || !mayChat(err) {
		return err
	}
	_, chatErr := c.probeBy(ctx, ep, name, "/v1/chat/completions", map[string]any{
		"model": name, "messages": []map[string]string{{"role": "user", "content": "Hello"}}, "max_tokens": 1, "temperature": 0,
	})
	if chatErr == nil || !has {
		return chatErr
	}
	return err // the server knows what a completion is: that is about the model
}

// mayChat reports whether a chat may be answered by a server that did not answer a completion.
func mayChat(err error) bool {
	var e *Error
	return errors.As(err, &e) && !e.Permanent() && e.Status >= 400 && e.Status < 500 && e.Status != http.StatusTooManyRequests
}

// probeBy probes by one path. has is false if the server has no such path.
func (c *Client) probeBy(ctx context.Context, ep *types.Endpoint, name, path string, body any) (has bool, err error) {
	a, err := c.ask(ctx, ep, "probe", http.MethodPost, path, body)
	if err != nil {
		return true, err
	}
	return !a.noPath(), a.completes(name)
}

// noPath reports whether a server does not know the path that it was asked by. Engines have a message in a 404 about
// anything else.
func (a *answer) noPath() bool {
	message, _ := says(a.body)
	return a.status == http.StatusMethodNotAllowed || a.status == http.StatusNotFound && message == ""
}

// completes returns why an answer is no completion of a model.
func (a *answer) completes(model string) error {
	if a.status != http.StatusOK {
		return a.refused(ErrNotServed)
	}
	var reply struct {
		Model   string            `json:"model"`
		Choices []json.RawMessage `json:"choices"`
	}
	switch err := json.Unmarshal(a.body, &reply); {
	case err != nil:
		return a.fail("the answer is no completion", "", ErrNotServed)
	case reply.Model != model:
		return a.fail(fmt.Sprintf("the answer is from model %q", shorten(reply.Model)), "", ErrNotServed)
	case len(reply.Choices) == 0:
		return a.fail("the answer has no choices", "", ErrNotServed)
	}
	return nil
}
