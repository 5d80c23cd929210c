package modelserver

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

// tokenBytes is the length of a pseudo token.
const tokenBytes = 4

// blockBytes is the text in one block of KV cache.
const blockBytes = engine.BlockTokens * tokenBytes

// prompt is text cut into tokens: each part starts at a multiple of
// tokenBytes, filled up with zeros.
type prompt struct {
	data           []byte
	parts          int // that are not text
	images, sounds int // tokens of those
}

func (p *prompt) tokens() int { return len(p.data) / tokenBytes }

// text appends a part.
func (p *prompt) text(s string) {
	p.data = append(p.data, s...)
	if rest := len(p.data) % tokenBytes; rest != 0 {
		p.data = append(p.data, make([]byte, tokenBytes-rest)...)
	}
}

// role appends the token that opens a message.
func (p *prompt) role(name string) {
	p.data = append(p.data, '<', '?', '?', '>')
	copy(p.data[len(p.data)-3:len(p.data)-1], name)
}

// opaque appends n tokens of something that is not text.
func (p *prompt) opaque(raw []byte, n int) {
	seed := hashBytes(0, raw)
	for i := range uint64(n) {
		p.data = binary.LittleEndian.AppendUint32(p.data, uint32(mix(seed+i)))
	}
}

// absent reports whether a field is not given, or null.
func absent(raw json.RawMessage) bool {
	raw = bytes.TrimSpace(raw)
	return len(raw) == 0 || string(raw) == "null"
}

// json appends a field that the model reads as it is, if it is given.
func (p *prompt) json(raw json.RawMessage) {
	if !absent(raw) {
		p.text(string(raw))
	}
}

// message is one of a chat, in OpenAI's form and in Anthropic's.
type message struct {
	Role      string          `json:"role"`
	Content   json.RawMessage `json:"content"`
	ToolCalls json.RawMessage `json:"tool_calls"`
}

// messages appends a chat: each message after the token of its role, and the
// token of the one to come.
func (p *prompt) messages(all []message) *apiError {
	if len(all) == 0 {
		return invalid("messages", "'messages' must have at least one message")
	}
	for i, m := range all {
		p.role(m.Role)
		if err := p.content(m.Content); err != nil {
			return invalid("messages", "messages[%d].content: %v", i, err)
		}
		p.json(m.ToolCalls)
	}
	p.role("assistant")
	return nil
}

// content appends the content of a message in any of the APIs: a string, null,
// or a list of parts.
func (p *prompt) content(raw json.RawMessage) error {
	if absent(raw) {
		return nil
	}
	var s string
	if json.Unmarshal(raw, &s) == nil {
		p.text(s)
		return nil
	}
	var parts []json.RawMessage
	if err := json.Unmarshal(raw, &parts); err != nil {
		return err
	}
	for _, part := range parts {
		var fields struct {
			Type string  `json:"type"`
			Text *string `json:"text"`
		}
		if err := json.Unmarshal(part, &fields); err != nil {
			return err
		}
		switch {
		case fields.Text != nil:
			p.text(*fields.Text)
		case fields.Type == "tool_use" || fields.Type == "tool_result":
			p.text(string(part))
		default:
			if err := p.part(fields.Type, part); err != nil {
				return err
			}
		}
	}
	return nil
}

// readInputs reads what /v1/completions and /v1/embeddings take: a string, a
// list of strings, a list of tokens, or a list of lists of tokens.
func readInputs(raw json.RawMessage) (inputs []prompt, err error) {
	var (
		text   string
		texts  []string
		tokens []uint32
		lists  [][]uint32
	)
	switch {
	case absent(raw):
		return nil, errors.New("must be given")
	case json.Unmarshal(raw, &text) == nil:
		texts = []string{text}
	case json.Unmarshal(raw, &texts) == nil:
	case json.Unmarshal(raw, &tokens) == nil:
		texts, lists = nil, [][]uint32{tokens}
	case json.Unmarshal(raw, &lists) == nil:
		texts = nil
	default:
		return nil, errors.New("want a string, a list of strings, a list of tokens or a list of lists of tokens")
	}
	for _, text := range texts {
		var p prompt
		p.text(text)
		inputs = append(inputs, p)
	}
	for _, tokens := range lists {
		var p prompt
		for _, token := range tokens {
			p.data = binary.LittleEndian.AppendUint32(p.data, token)
		}
		inputs = append(inputs, p)
	}
	return inputs, nil
}

// mix is SplitMix64's finalizer.
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// hashBytes continues a hash over b. Not for adversaries: they would only
// deceive a simulation.
func hashBytes(h uint64, b []byte) uint64 {
	for len(b) >= 8 {
		h = (h ^ binary.LittleEndian.Uint64(b)) * 0x9e3779b97f4a7c15
		h ^= h >> 32
		b = b[8:]
	}
	for _, c := range b {
		h = (h ^ uint64(c)) * 0x100000001b3
	}
	return mix(h)
}

// blockHashes returns the chained hashes of the full blocks of text.
func blockHashes(salt string, text []byte) []uint64 {
	hashes := make([]uint64, 0, len(text)/blockBytes)
	h := hashBytes(0, []byte(salt))
	for ; len(text) >= blockBytes; text = text[blockBytes:] {
		h = hashBytes(h, text[:blockBytes])
		hashes = append(hashes, h)
	}
	return hashes
}

// words is the vocabulary; with a space after it, each is one token.
const words = "" +
	"the sun and sea are one day old sky met low fog air has its own way " +
	"you can see far out now new ice may let dry oak ash elm fir yew nut " +
	"fox owl bee ant cat dog hen cow ram pig bat eel cod fly jay emu hog " +
	"red tin cup jar box bag pen map key lid pot pan rug mat bed tub "

// drawLength draws the length of a reply nobody asked a length for: lognormal
// with a median of 110 tokens and σ 0.9, as of conversations with an agent.
func drawLength(seed uint64, most int) int {
	rng := rand.New(rand.NewPCG(seed, 0x6c656e677468))
	return max(1, min(most, int(math.Round(110*math.Exp(0.9*rng.NormFloat64())))))
}

// drawWords appends n tokens of a reply.
func drawWords(dst []byte, seed uint64, n int) []byte {
	const vocabulary = uint64(len(words) / tokenBytes)
	for i := range uint64(n) {
		at := mix(seed+i) % vocabulary * tokenBytes
		dst = append(dst, words[at:at+tokenBytes]...)
	}
	return dst
}
