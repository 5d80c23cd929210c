package types

import "encoding/binary"

// Prompt is what a request asks a model to read, and how large it is.
//
// openai.Parse fills one in for a body. A data plane that has the prompt in another form
// uses TextPrompt, TokenPrompt or BlockPrompt. Prompts are compared as bytes: two requests
// share a prefix only if both have it in the same form.
type Prompt struct {
	// Spans lie in Data, in the order in which the model reads them (tools and
	// instructions before messages). They hold the bytes as sent, JSON escapes included.
	// Nil: nobody has looked for a prompt, which Hooks.Warned of a scheduler is told of.
	Spans []Span
	// Data is what Spans are ranges of. Nil: the request's body. See Request.PromptData.
	Data []byte

	Bytes  int // total length of the spans; 0: to be summed up
	Tokens int // estimated prompt tokens, media included; 0: to be estimated from Bytes
	Images int // image parts
	Audio  int // audio parts
	Other  int // parts of any other kind: files, video, unknown
}

// Span is the half-open range [Start, End) of the body, or of Prompt.Data.
type Span struct {
	Start, End int
}

// bytesPerToken is how many bytes of text are taken for a token.
const bytesPerToken = 4

// DefaultBlockTokens is the block size that BlockPrompt assumes: that of vLLM.
const DefaultBlockTokens = 16

// TextPrompt returns a prompt of plain text: with the chat template applied or without,
// as long as it is the same for all requests. The number of tokens is estimated at 4 bytes
// each; set Tokens if it is known.
func TextPrompt(text string) Prompt {
	p := promptOf([]byte(text))
	p.Estimate()
	return p
}

// TokenPrompt returns a prompt of token ids, as the model's tokenizer gives them.
func TokenPrompt(ids []uint32) Prompt {
	data := make([]byte, 0, bytesPerToken*len(ids))
	for _, id := range ids {
		data = binary.LittleEndian.AppendUint32(data, id)
	}
	p := promptOf(data)
	p.Tokens = len(ids)
	return p
}

// BlockPrompt returns a prompt of the hashes of its whole blocks, in order, each of
// blockTokens tokens (0: DefaultBlockTokens). A hash may stand for its block alone or for
// all before it too. Set Tokens if more than whole blocks are in the prompt.
func BlockPrompt(hashes []uint64, blockTokens int) Prompt {
	if blockTokens <= 0 {
		blockTokens = DefaultBlockTokens
	}
	// A block takes as many bytes as its text would: whoever cuts the prompt into blocks of
	// another size, or counts what a cache holds, needs no other rule for it.
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

// Estimate fills in Bytes and Tokens where they are 0: from the spans, and at 4 bytes each.
// A scheduler does so before it decides.
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

// PromptData returns what the spans of the request's prompt are ranges of.
func (r *Request) PromptData() []byte {
	if r.Prompt.Data != nil {
		return r.Prompt.Data
	}
	return r.Body
}
