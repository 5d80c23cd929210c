package openai

import (
	"encoding/binary"
	"math"

	"github.com/inferpick/inferpick/types"
)

// vLLM's gRPC service, vllm.grpc.engine.VllmEngine, by the numbers of the fields that are
// read: https://github.com/vllm-project/vllm, vllm/grpc/vllm_engine.proto.
const (
	generateTokenized = 2 // TokenizedInput, also of EmbedRequest
	generateText      = 3
	generateSampling  = 4 // SamplingParams
	generateStream    = 5

	tokenizedIDs      = 2 // of TokenizedInput
	samplingMaxTokens = 8 // of SamplingParams

	responseChunk    = 1 // GenerateStreamChunk
	responseComplete = 2 // GenerateComplete
)

// grpcPrefix is what stands before each message: a byte that says whether it is
// compressed, and its length.
const grpcPrefix = 5

// parseGRPC reads a request of vLLM's gRPC service. The prompt is its text, or its token
// ids as they are written. It names no model. What is not one message of gRPC is an error;
// of a message that is compressed nothing is read, and of one that is not well formed what
// comes before: the server says what is wrong with it.
func parseGRPC(api API, body []byte, req *types.Request, limits Limits) (Parsed, error) {
	if len(body) > limits.MaxBytes {
		return Parsed{}, tooLarge(len(body), limits.MaxBytes)
	}
	if !oneMessage(body) {
		return Parsed{}, &Error{
			Status: 400, Code: CodeInvalidGRPC, Offset: -1,
			Message: "the body is not one message of gRPC: a byte 0 or 1, the length in 4 bytes, and as many bytes",
		}
	}
	req.Model, req.CacheSalt, req.SessionID, req.ProgramID, req.PreviousID = "", "", "", "", ""
	req.Body, req.Stream, req.MaxTokens, req.Work = body, false, 0, types.Work{Kind: api.Kind()}
	var prompt [1]part
	n := 0
	w := grpcMessage(body)
	for f, ok := w.next(); ok; f, ok = w.next() {
		switch {
		case f.kind == wireBytes && f.number == generateTokenized:
			prompt[0] = tokenIDs(body, f)
			n = 1
		case api == GRPCEmbed:
		case f.kind == wireBytes && f.number == generateText:
			prompt[0] = part{span: types.Span{Start: f.start, End: f.end}, tokens: int64(tokensOf(f.end - f.start))}
			n = 1
		case f.kind == wireBytes && f.number == generateSampling:
			req.MaxTokens = maxTokensOf(body, f)
		case f.kind == wireVarint && f.number == generateStream:
			req.Stream = f.value != 0
		}
	}
	setPrompt(&req.Prompt, prompt[:n])
	return Parsed{API: api}, nil
}

func oneMessage(body []byte) bool {
	return len(body) >= grpcPrefix && body[0] <= 1 && uint64(binary.BigEndian.Uint32(body[1:])) == uint64(len(body)-grpcPrefix)
}

// grpcMessage is the message in a body of one, or nothing if it is compressed.
func grpcMessage(body []byte) wire {
	if body[0] != 0 {
		return wire{}
	}
	return wireOf(body, grpcPrefix, len(body))
}

// tokenIDs is the prompt that a TokenizedInput is: the bytes of its ids, which are alike
// where the ids are. One that is split is read as far as it is in one piece.
func tokenIDs(body []byte, message wireField) (p part) {
	w := wireOf(body, message.start, message.end)
	for f, ok := w.next(); ok; f, ok = w.next() {
		if f.number != tokenizedIDs {
			if p.tokens > 0 {
				break
			}
			continue
		}
		start, end, tokens := f.start, f.end, varintsIn(body[f.start:f.end])
		if f.kind == wireVarint { // not packed: each has a tag
			start, end, tokens = f.at, w.pos, 1
		}
		if p.tokens == 0 {
			p.span.Start = start
		}
		p.span.End = end
		p.tokens += int64(tokens)
	}
	return p
}

func maxTokensOf(body []byte, message wireField) int {
	w := wireOf(body, message.start, message.end)
	for f, ok := w.next(); ok; f, ok = w.next() {
		if f.kind == wireVarint && f.number == samplingMaxTokens {
			return int(min(f.value, math.MaxInt32))
		}
	}
	return 0
}

// feedGRPC follows the messages of a response, however they are cut into chunks. What is
// longer than MaxEventBytes passes unread.
func (s *Stream) feedGRPC(chunk []byte) {
	s.begun = true
	for len(chunk) > 0 {
		if s.length > 0 { // of a message that is too long, yet to pass
			n := min(s.length, len(chunk))
			s.length, chunk = s.length-n, chunk[n:]
			continue
		}
		data := chunk
		if len(s.buf) > 0 {
			s.buf = append(s.buf, chunk...)
			data = s.buf
		}
		used, more := s.readMessages(data)
		if len(s.buf) > 0 || more {
			s.buf = append(s.buf[:0], data[used:]...)
		}
		return
	}
}

// readMessages reads those that are complete. It returns how many bytes they are, and
// whether there are more.
func (s *Stream) readMessages(data []byte) (used int, more bool) {
	for used+grpcPrefix <= len(data) {
		size := int(binary.BigEndian.Uint32(data[used+1:]))
		start := used + grpcPrefix
		switch rest := len(data) - start; {
		case size > s.event:
			passed := min(size, rest)
			s.length = size - passed
			used = start + passed
			if s.length > 0 {
				return used, false
			}
			continue
		case rest < size:
			return used, true
		}
		if data[used] == 0 {
			s.readMessage(wireOf(data, start, start+size))
		}
		used = start + size
	}
	return used, used < len(data)
}

// readMessage reads a GenerateResponse or an EmbedResponse.
func (s *Stream) readMessage(w wire) {
	for f, ok := w.next(); ok; f, ok = w.next() {
		switch {
		case s.api == GRPCEmbed:
			if f.kind == wireVarint && f.number == 2 {
				s.usage.prompt = types.Known(float64(f.value))
			}
			s.done = true
		case f.kind != wireBytes:
		case f.number == responseChunk:
			s.readChunk(wireOf(w.data, f.start, f.end))
		case f.number == responseComplete:
			s.readComplete(wireOf(w.data, f.start, f.end))
		}
	}
}

// readChunk reads a part of a stream. How many tokens there are in all the end says.
func (s *Stream) readChunk(w wire) {
	generated := false
	for f, ok := w.next(); ok; f, ok = w.next() {
		switch {
		case f.number == 1:
			generated = generated || f.kind != wireBytes || f.end > f.start
		case f.kind == wireVarint && f.number == 2:
			s.usage.prompt = types.Known(float64(f.value))
		case f.kind == wireVarint && f.number == 4:
			s.usage.cached = types.Known(float64(f.value))
		}
	}
	if generated {
		s.tokens++
	}
}

// readComplete reads the end of a response, which is all of one that is not streamed.
// What is not written is 0 or not known.
func (s *Stream) readComplete(w wire) {
	s.done = true
	for f, ok := w.next(); ok; f, ok = w.next() {
		switch {
		case f.kind == wireBytes && f.number == 2:
			s.finish = rarer(s.finish, finishOf(w.data[f.start:f.end]))
		case f.kind != wireVarint:
		case f.number == 3:
			s.usage.prompt = types.Known(float64(f.value))
		case f.number == 4:
			s.usage.completion = types.Known(float64(f.value))
		case f.number == 5:
			s.usage.cached = types.Known(float64(f.value))
		}
	}
}
