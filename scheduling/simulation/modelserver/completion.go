package modelserver

import "bytes"

// completion is POST /v1/chat/completions and POST /v1/completions.
type completion struct {
	openAI
	chat          bool
	usage         bool   // in a stream, at its end
	before, after []byte // of a token in a stream
}

// defaultCompletion is the length of a completion nobody asked a length for, by
// OpenAI's definition.
const defaultCompletion = 16

func (c *completion) query(r *request) (prompt, int, *apiError) {
	if r.N != nil && *r.N != 1 {
		return prompt{}, 0, invalid("n", "n is %d: this simulated server makes 1 choice", *r.N)
	}
	c.usage = r.StreamOptions.IncludeUsage
	limit := r.maxTokens()
	if c.chat {
		if r.MaxCompletionTokens != 0 {
			limit = r.MaxCompletionTokens
		}
		var p prompt
		p.json(r.Tools)
		return p, limit, p.messages(r.Messages)
	}
	if r.MaxTokens == nil && r.SimOutput == "" {
		limit = defaultCompletion
	}
	prompts, err := readInputs(r.Prompt)
	if err != nil {
		return prompt{}, 0, invalid("prompt", "'prompt': %v", err)
	}
	if len(prompts) != 1 {
		return prompt{}, 0, invalid("prompt", "%d prompts: this simulated server takes 1", len(prompts))
	}
	return prompts[0], limit, nil
}

func (c *completion) kind() string {
	if c.chat {
		return "chatcmpl"
	}
	return "cmpl"
}

// completionBody is a reply, or a chunk of one.
type completionBody struct {
	ID          string           `json:"id"`
	Object      string           `json:"object"`
	Created     int64            `json:"created"`
	Model       string           `json:"model"`
	Fingerprint string           `json:"system_fingerprint"`
	Choices     []choice         `json:"choices"`
	Usage       *completionUsage `json:"usage,omitempty"`
}

type choice struct {
	Index    int       `json:"index"`
	Message  *chatText `json:"message,omitempty"`
	Delta    *chatText `json:"delta,omitempty"`
	Text     *string   `json:"text,omitempty"`
	Logprobs any       `json:"logprobs"`
	Finish   any       `json:"finish_reason"`
}

type chatText struct {
	Role    string  `json:"role,omitempty"`
	Content *string `json:"content,omitempty"`
}

// completionUsage is OpenAI's account of a reply.
type completionUsage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
	Total      int `json:"total_tokens"`
	Details    struct {
		Cached int            `json:"cached_tokens"`
		Audio  int            `json:"audio_tokens,omitempty"`
		Media  map[string]int `json:"multimodal_tokens,omitempty"` // vLLM's
	} `json:"prompt_tokens_details"`
}

func (c *completion) body(r *reply, object string, choices ...choice) completionBody {
	if !c.chat {
		object = "text_completion"
	}
	return completionBody{ID: r.id, Object: object, Created: r.created, Model: r.model, Fingerprint: "simulated", Choices: choices}
}

func newUsage(r *reply) *completionUsage {
	u := &completionUsage{Prompt: r.prompt, Completion: r.tokens(), Total: r.prompt + r.tokens()}
	u.Details.Cached, u.Details.Audio = r.cached(), r.sounds
	for kind, tokens := range map[string]int{"image": r.images, "audio": r.sounds} {
		if tokens == 0 {
			continue
		}
		if u.Details.Media == nil {
			u.Details.Media = map[string]int{}
		}
		u.Details.Media[kind] = tokens
	}
	return u
}

func (c *completion) whole(r *reply) any {
	text, one := string(r.text), choice{Finish: r.finish}
	if c.chat {
		one.Message = &chatText{"assistant", &text}
	} else {
		one.Text = &text
	}
	body := c.body(r, "chat.completion", one)
	body.Usage = newUsage(r)
	return body
}

// chunk appends an event with a piece of the text.
func (c *completion) chunk(buf []byte, r *reply, text *string, role string, finish any) []byte {
	one := choice{Finish: finish}
	if c.chat {
		one.Delta = &chatText{role, text}
	} else if one.Text = text; text == nil {
		one.Text = new(string)
	}
	return appendData(buf, c.body(r, "chat.completion.chunk", one))
}

// begin puts the chunk of a token together once: thousands a second are written.
func (c *completion) begin(buf []byte, r *reply) []byte {
	const mark = "\x7f"
	text := mark
	chunk := c.chunk(nil, r, &text, "", nil)
	at := bytes.LastIndex(chunk, []byte(mark))
	c.before, c.after = chunk[:at], chunk[at+len(mark):]
	if !c.chat {
		return buf
	}
	return c.chunk(buf, r, new(string), "assistant", nil)
}

func (c *completion) delta(buf []byte, r *reply, i int) []byte {
	return append(append(append(buf, c.before...), r.token(i)...), c.after...)
}

func (c *completion) end(buf []byte, r *reply) []byte {
	buf = c.chunk(buf, r, nil, "", r.finish)
	if c.usage {
		body := c.body(r, "chat.completion.chunk")
		body.Choices, body.Usage = []choice{}, newUsage(r)
		buf = appendData(buf, body)
	}
	return append(buf, "data: [DONE]\n\n"...)
}

// appendData appends a server-sent event without a name; appendEvent one with.
func appendData(buf []byte, data any) []byte {
	return append(append(append(buf, "data: "...), toJSON(data)...), "\n\n"...)
}

func appendEvent(buf []byte, name string, data any) []byte {
	return appendData(append(append(append(buf, "event: "...), name...), '\n'), data)
}
