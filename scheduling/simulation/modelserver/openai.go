package modelserver

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// usage is OpenAI's account of a reply.
type usage struct {
	Prompt     int          `json:"prompt_tokens"`
	Completion int          `json:"completion_tokens"`
	Total      int          `json:"total_tokens"`
	Details    usageDetails `json:"prompt_tokens_details"`
}

type usageDetails struct {
	Cached int `json:"cached_tokens"`
}

func newUsage(r *reply) usage {
	return usage{r.prompt, r.tokens(), r.prompt + r.tokens(), usageDetails{r.cached()}}
}

// streamOptions are OpenAI's.
type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

// chunked writes a stream of chunks, which is how chat and plain completions
// are streamed.
type chunked struct {
	object  string // of a chunk
	usage   bool
	opening string // of each chunk, up to and with the start of the choice
	neutral string // what ends a choice that goes on
}

func (c *chunked) open(r *reply) {
	c.opening = `data: {"id":` + quote(r.id) + `,"object":"` + c.object + `","created":` + strconv.FormatInt(r.created, 10) +
		`,"model":` + r.modelJSON() + `,"system_fingerprint":"simulated","choices":[`
	c.neutral = `,"logprobs":null,"finish_reason":null}]}` + "\n\n"
}

func (c *chunked) close(buf []byte, r *reply, choice string) []byte {
	buf = append(buf, c.opening...)
	buf = append(buf, `{"index":0,`+choice+`,"logprobs":null,"finish_reason":"`+r.finish+`"}]}`+"\n\n"...)
	if c.usage {
		u, _ := json.Marshal(newUsage(r)) // numbers cannot fail
		buf = append(buf, c.opening...)
		buf = append(buf, `],"usage":`...)
		buf = append(buf, u...)
		buf = append(buf, "}\n\n"...)
	}
	return append(buf, "data: [DONE]\n\n"...)
}

func (c *chunked) fail(w http.ResponseWriter, e *apiError) { e.write(w) }

// chat is POST /v1/chat/completions.
type chat struct{ chunked }

// chatMessage is a message of a chat, in OpenAI's form and in Anthropic's.
type chatMessage struct {
	Role      string          `json:"role"`
	Content   json.RawMessage `json:"content"`
	ToolCalls json.RawMessage `json:"tool_calls"`
}

// messages appends a chat: each message after the token of its role, and the
// token of the one to come.
func (p *prompt) messages(all []chatMessage) *apiError {
	if len(all) == 0 {
		return invalid("messages", "'messages' must have at least one message")
	}
	for i, m := range all {
		p.role(m.Role)
		if err := p.content(m.Content); err != nil {
			return invalid("messages", "messages[%d].content: %v", i, err)
		}
		if len(m.ToolCalls) > 0 && string(m.ToolCalls) != "null" {
			p.text(string(m.ToolCalls))
		}
	}
	p.role("assistant")
	return nil
}

func (c *chat) read(p *process, w http.ResponseWriter, r *http.Request) (query, *apiError) {
	var body struct {
		fields
		Messages            []chatMessage   `json:"messages"`
		Tools               json.RawMessage `json:"tools"`
		MaxTokens           int             `json:"max_tokens"`
		MaxCompletionTokens int             `json:"max_completion_tokens"`
		N                   *int            `json:"n"`
		StreamOptions       streamOptions   `json:"stream_options"`
	}
	if err := p.readJSON(w, r, &body); err != nil {
		return query{}, err
	}
	if body.N != nil && *body.N != 1 {
		return query{}, invalid("n", "n is %d: this simulated server makes 1 choice", *body.N)
	}
	c.object, c.usage = "chat.completion.chunk", body.StreamOptions.IncludeUsage
	q := query{fields: body.fields, limit: body.MaxTokens}
	if body.MaxCompletionTokens != 0 {
		q.limit = body.MaxCompletionTokens
	}
	if len(body.Tools) > 0 && string(body.Tools) != "null" {
		q.prompt.text(string(body.Tools))
	}
	return q, q.prompt.messages(body.Messages)
}

func (c *chat) kind() string { return "chatcmpl" }

func (c *chat) whole(r *reply) any {
	return map[string]any{
		"id": r.id, "object": "chat.completion", "created": r.created, "model": r.model, "system_fingerprint": "simulated",
		"choices": []any{map[string]any{
			"index": 0, "message": map[string]any{"role": "assistant", "content": string(r.text)},
			"logprobs": nil, "finish_reason": r.finish,
		}},
		"usage": newUsage(r),
	}
}

func (c *chat) begin(buf []byte, r *reply) []byte {
	c.open(r)
	buf = append(buf, c.opening...)
	buf = append(buf, `{"index":0,"delta":{"role":"assistant","content":""}`...)
	return append(buf, c.neutral...)
}

func (c *chat) delta(buf []byte, r *reply, i int) []byte {
	buf = append(buf, c.opening...)
	buf = append(buf, `{"index":0,"delta":{"content":"`...)
	buf = append(buf, r.token(i)...)
	buf = append(buf, `"}`...)
	return append(buf, c.neutral...)
}

func (c *chat) end(buf []byte, r *reply) []byte { return c.close(buf, r, `"delta":{}`) }

// completion is POST /v1/completions.
type completion struct{ chunked }

// defaultCompletion is the length of a completion nobody asked a length for, by
// OpenAI's definition.
const defaultCompletion = 16

func (c *completion) read(p *process, w http.ResponseWriter, r *http.Request) (query, *apiError) {
	var body struct {
		fields
		Prompt        json.RawMessage `json:"prompt"`
		MaxTokens     *int            `json:"max_tokens"`
		N             *int            `json:"n"`
		StreamOptions streamOptions   `json:"stream_options"`
	}
	if err := p.readJSON(w, r, &body); err != nil {
		return query{}, err
	}
	if body.N != nil && *body.N != 1 {
		return query{}, invalid("n", "n is %d: this simulated server makes 1 choice", *body.N)
	}
	c.object, c.usage = "text_completion", body.StreamOptions.IncludeUsage
	q := query{fields: body.fields}
	switch {
	case body.MaxTokens != nil:
		q.limit = *body.MaxTokens
	case r.Header.Get(outputHeader) == "" && body.SimOutput == "":
		q.limit = defaultCompletion
	}
	prompts, err := readInputs(body.Prompt)
	if err != nil {
		return q, invalid("prompt", "'prompt': %v", err)
	}
	if len(prompts) != 1 {
		return q, invalid("prompt", "%d prompts: this simulated server takes 1", len(prompts))
	}
	q.prompt = prompts[0]
	return q, nil
}

func (c *completion) kind() string { return "cmpl" }

func (c *completion) whole(r *reply) any {
	return map[string]any{
		"id": r.id, "object": "text_completion", "created": r.created, "model": r.model, "system_fingerprint": "simulated",
		"choices": []any{map[string]any{"index": 0, "text": string(r.text), "logprobs": nil, "finish_reason": r.finish}},
		"usage":   newUsage(r),
	}
}

func (c *completion) begin(buf []byte, r *reply) []byte {
	c.open(r)
	return buf
}

func (c *completion) delta(buf []byte, r *reply, i int) []byte {
	buf = append(buf, c.opening...)
	buf = append(buf, `{"index":0,"text":"`...)
	buf = append(buf, r.token(i)...)
	buf = append(buf, '"')
	return append(buf, c.neutral...)
}

func (c *completion) end(buf []byte, r *reply) []byte { return c.close(buf, r, `"text":""`) }
