package disaggtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Answer is what a client gets, without what differs from one run to another.
type Answer struct {
	Choices []Choice
	Usage   *Usage // nil: none was sent
}

// Choice is one of the texts of an Answer.
type Choice struct {
	Text   string
	Finish string // finish_reason
}

// Usage is the account of an Answer, in tokens.
type Usage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
	Total      int `json:"total_tokens"`
	Details    struct {
		Cached int `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
}

// Want returns the right answer to a request, as long as Options.Behaviour.Tokens says. Usage is nil
// if it must not be sent; Cached is left 0 since it depends on the engines.
func (c *Cluster) Want(path string, body []byte) (Answer, error) {
	q, err := readRequest(path, body)
	if err != nil {
		return Answer{}, fmt.Errorf("disaggtest: %w", err)
	}
	var a Answer
	said := q.generate(c.opts.Behaviour.Tokens)
	for _, g := range said {
		a.Choices = append(a.Choices, Choice{g.text(), g.finish})
	}
	if !q.stream || q.usage {
		a.Usage = q.account(said, 0)
	}
	return a, nil
}

func (q *request) account(said []generated, cached int) *Usage {
	u := &Usage{Prompt: q.promptTokens()}
	for _, g := range said {
		u.Completion += len(g.tokens)
	}
	u.Total = u.Prompt + u.Completion
	u.Details.Cached = min(cached, u.Prompt)
	return u
}

// Read reads an answer of a status 200, whole or as a stream of events. It returns an error if the
// answer is an error, or not as an engine says it: a stream without its end or with anything after it,
// a choice that ends twice or goes on after its end, two accounts.
func Read(body []byte) (Answer, error) {
	r := reader{ended: map[int]bool{}}
	trimmed := bytes.TrimSpace(body)
	if bytes.HasPrefix(trimmed, []byte("{")) {
		err := r.add(trimmed, false)
		return r.answer, err
	}
	done := false
	for event := range strings.SplitSeq(strings.TrimSuffix(string(body), "\n\n"), "\n\n") {
		data, ok := strings.CutPrefix(event, "data: ")
		switch {
		case !ok:
			return r.answer, fmt.Errorf("disaggtest: not an event: %.100q", event)
		case done:
			return r.answer, fmt.Errorf("disaggtest: after the end of the stream: %.100q", event)
		case data == "[DONE]":
			done = true
			continue
		}
		if err := r.add([]byte(data), true); err != nil {
			return r.answer, err
		}
	}
	for i := range r.answer.Choices {
		if !r.ended[i] {
			return r.answer, fmt.Errorf("disaggtest: choice %d has no finish_reason", i)
		}
	}
	if !done || len(r.answer.Choices) == 0 {
		return r.answer, errors.New("disaggtest: the stream breaks off")
	}
	return r.answer, nil
}

type reader struct {
	answer Answer
	ended  map[int]bool
}

func (r *reader) add(data []byte, chunk bool) error {
	type content struct {
		Content string `json:"content"`
	}
	var v struct {
		Choices []struct {
			Index   int     `json:"index"`
			Text    string  `json:"text"`
			Message content `json:"message"`
			Delta   content `json:"delta"`
			Finish  string  `json:"finish_reason"`
		} `json:"choices"`
		Usage  *Usage          `json:"usage"`
		Error  json.RawMessage `json:"error"`
		Object string          `json:"object"`
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return fmt.Errorf("disaggtest: %w: %.100q", err, data)
	}
	if v.Error != nil || v.Object == "error" {
		return fmt.Errorf("disaggtest: the answer is an error: %.300s", data)
	}
	if v.Usage != nil {
		if r.answer.Usage != nil {
			return errors.New("disaggtest: two accounts")
		}
		r.answer.Usage = v.Usage
	}
	for _, c := range v.Choices {
		if c.Index < 0 || c.Index > len(r.answer.Choices) {
			return fmt.Errorf("disaggtest: choice %d after %d", c.Index, len(r.answer.Choices))
		}
		if c.Index == len(r.answer.Choices) {
			r.answer.Choices = append(r.answer.Choices, Choice{})
		}
		if r.ended[c.Index] {
			return fmt.Errorf("disaggtest: choice %d goes on after its end", c.Index)
		}
		one := &r.answer.Choices[c.Index]
		one.Text += c.Text + c.Message.Content + c.Delta.Content
		one.Finish = c.Finish
		r.ended[c.Index] = c.Finish != ""
		if !chunk && c.Finish == "" {
			return fmt.Errorf("disaggtest: choice %d has no finish_reason", c.Index)
		}
	}
	return nil
}
