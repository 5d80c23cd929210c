package disaggtest

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
)

// The paths that engines serve.
const (
	chatPath        = "/v1/chat/completions"
	completionsPath = "/v1/completions"
)

// request is a request in OpenAI's form.
type request struct {
	members
	chat    bool
	stream  bool
	usage   bool // at the end of a stream
	user    string
	prompts []string // one of chat; else one for each text or list of ids
	batch   bool     // the prompts came in an array
	n       int      // answers to each prompt
	limit   int      // of tokens; -1: none
	least   int      // min_tokens
}

// defaultLimit is how long an answer to a completion is whose length nobody capped.
const defaultLimit = 16

func readRequest(path string, body []byte) (*request, error) {
	all, err := readMembers(body)
	if err != nil {
		return nil, fmt.Errorf("the body is not valid: %w", err)
	}
	q := &request{members: all, chat: path == chatPath, stream: all.is("stream"), user: all.text("user"), n: 1, limit: -1}
	if raw := all.get("stream_options"); raw != nil {
		var o struct {
			Usage bool `json:"include_usage"`
		}
		if err := json.Unmarshal(raw, &o); err != nil {
			return nil, fmt.Errorf("stream_options: %w", err)
		}
		q.usage = o.Usage
	}
	for _, f := range []struct {
		key  string
		to   *int
		here bool
	}{
		{"n", &q.n, true}, {"min_tokens", &q.least, true}, {"max_tokens", &q.limit, true}, {"max_completion_tokens", &q.limit, q.chat},
	} {
		if !f.here || !all.has(f.key) {
			continue
		}
		n, ok := all.number(f.key)
		if !ok || n < 0 || n > 1<<20 {
			return nil, fmt.Errorf("%s is %s, not a number from 0 to %d", f.key, all.get(f.key), 1<<20)
		}
		*f.to = int(n)
	}
	if q.n < 1 || q.n > 128 {
		return nil, fmt.Errorf("n is %d, not within 1 to 128", q.n)
	}
	if q.chat {
		if !all.has("messages") {
			return nil, errors.New("messages are missing")
		}
		q.prompts = []string{string(all.get("messages"))}
		return q, nil
	}
	if q.limit < 0 {
		q.limit = defaultLimit
	}
	return q, q.readPrompts()
}

func (q *request) readPrompts() error {
	raw := q.get("prompt")
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return fmt.Errorf("prompt: %w", err)
		}
		list = []json.RawMessage{raw}
	} else if len(list) > 0 && (list[0][0] == '"' || list[0][0] == '[') {
		q.batch = true
	} else {
		list = []json.RawMessage{raw} // one list of ids
	}
	if len(list) == 0 || len(list) > 1024 {
		return fmt.Errorf("%d prompts", len(list))
	}
	for _, one := range list {
		q.prompts = append(q.prompts, string(one))
	}
	return nil
}

// words are the tokens of a prompt.
func words(prompt string) []string {
	words := strings.FieldsFunc(prompt, func(r rune) bool { return strings.ContainsRune(" \t\r\n,", r) })
	if len(words) == 0 {
		return []string{""}
	}
	return words
}

func (q *request) promptTokens() (n int) {
	for _, p := range q.prompts {
		n += len(words(p))
	}
	return n
}

// ids are a prompt's tokens as numbers.
func ids(prompt string) []uint32 {
	var all []uint32
	for _, w := range words(prompt) {
		h := fnv.New32a()
		h.Write([]byte(w))
		all = append(all, h.Sum32()%200_000)
	}
	return all
}

// generate returns the answers to a request, token by token.
func (q *request) generate(tokens int) (choices []generated) {
	natural := max(tokens, q.least)
	for _, p := range q.prompts {
		for i := range q.n {
			g := generated{finish: "stop"}
			length := natural
			if q.limit >= 0 && q.limit < natural {
				length, g.finish = q.limit, "length"
			}
			for at := range length {
				sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %d %d", p, q.user, i, at))
				g.tokens = append(g.tokens, fmt.Sprintf(" w%x", sum[:4]))
			}
			choices = append(choices, g)
		}
	}
	return choices
}

// generated is what an engine says.
type generated struct {
	tokens []string
	finish string
}

func (g generated) text() string { return strings.Join(g.tokens, "") }
