package types

import "encoding/binary"

// Prompt is the input that a request gives to the model, and its size.
//
// openai.Parse fills one in from a body; a data plane that has the prompt in another form
// uses TextPrompt, TokenPrompt or BlockPrompt. Prompts are compared as bytes, so two requests
// share a prefix only if both prompts have the same form.
type Prompt struct {
	// Spans are ranges of Data in the order in which the model reads them: tools and
	// instructions before messages. The bytes are as sent, JSON escapes included. Nil means
	// that no prompt was extracted; a scheduler reports that to Hooks.Warned.
	//
	// Of media that have many more bytes than tokens the spans may cover samples only, the first and the last bytes
	// among them, and of those that have fewer, as addresses do, the same bytes more than once, so that everywhere in a
	// prompt about as many bytes stand for a token. The same content must have the same spans.
	Spans []Span
	// Data is what the spans index. Nil: the request's body. See Request.PromptData.
	Data []byte

	Bytes  int // total length of the spans; 0: see Estimate
	Tokens int // estimated prompt tokens, media included; 0: see Estimate
	Images int // image parts
	Audio  int // audio parts
	Other  int // parts of any other kind: files, video, unknown

	// Media are these parts, in the order in which the model reads them, as far as they were looked at: of many, the first
	// ones. The others are counted in Tokens all the same.
	Media []Media
}

// Span is the half-open range [Start, End) of Request.PromptData.
type Span struct {
	Start, End int
}

// bytesPerToken is the estimate for text.
const bytesPerToken = 4

// DefaultBlockTokens is the block size that BlockPrompt assumes: that of vLLM.
const DefaultBlockTokens = 16

// TextPrompt returns a prompt of plain text, with or without the chat template applied, but
// the same way for all requests. Tokens is estimated at 4 bytes each; set it if it is known.
func TextPrompt(text string) Prompt {
	p := promptOf([]byte(text))
	p.Estimate()
	return p
}

// TokenPrompt returns a prompt of token IDs from the model's tokenizer.
func TokenPrompt(ids []uint32) Prompt {
	data := make([]byte, 0, bytesPerToken*len(ids))
	for _, id := range ids {
		data = binary.LittleEndian.AppendUint32(data, id)
	}
	p := promptOf(data)
	p.Tokens = len(ids)
	return p
}

// BlockPrompt returns a prompt given by the hashes of its full blocks, in order, of
// blockTokens tokens each (0: DefaultBlockTokens). A hash may cover its block alone or all
// before it too. Set Tokens if the prompt ends with a partial block.
func BlockPrompt(hashes []uint64, blockTokens int) Prompt {
	if blockTokens <= 0 {
		blockTokens = DefaultBlockTokens
	}
	// A block takes as many bytes as its text would, so that cutting the prompt into blocks of
	// another size and counting what a cache holds work as for text.
	size := bytesPerToken * blockTokens
	data := make([]byte, 0, size*len(hashes)+8)
	for i, h := range hashes {
		for len(data) < (i+1)*size {
			data = binary.LittleEndian.AppendUint64(data, h)
		}
		data = data[:(i+1)*size]
	}
	p := promptOf(data)
	p.Tokens = len(hashes) * blockTokens
	return p
}

// Estimate fills in Bytes from the spans and Tokens at 4 bytes each, where they are 0. A
// scheduler calls it before each decision.
func (p *Prompt) Estimate() {
	if p.Bytes == 0 {
		for _, s := range p.Spans {
			p.Bytes += s.End - s.Start
		}
	}
	if p.Tokens == 0 && p.Bytes > 0 {
		p.Tokens = (p.Bytes + bytesPerToken - 1) / bytesPerToken
	}
}

func promptOf(data []byte) Prompt {
	return Prompt{Data: data, Spans: []Span{{0, len(data)}}, Bytes: len(data)}
}

// PromptData returns the bytes that the prompt's spans index: Prompt.Data, or else the body.
func (r *Request) PromptData() []byte {
	if r.Prompt.Data != nil {
		return r.Prompt.Data
	}
	return r.Body
}
