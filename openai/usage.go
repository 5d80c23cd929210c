package openai

import (
	"bytes"
	"strconv"

	"github.com/inferpick/inferpick/internal/jsonscan"
	"github.com/inferpick/inferpick/types"
)

// usage is what was reported, in the words of the APIs.
type usage struct {
	prompt, input        types.Gauge // OpenAI's older and newer word
	completion           types.Gauge
	total                types.Gauge
	cached               types.Gauge
	cacheRead, cacheMade types.Gauge // Anthropic's: not part of its input
}

func (u *usage) update(v usage) {
	set := func(dst *types.Gauge, g types.Gauge) {
		if g.IsKnown() {
			*dst = g
		}
	}
	set(&u.prompt, v.prompt)
	set(&u.input, v.input)
	set(&u.completion, v.completion)
	set(&u.total, v.total)
	set(&u.cached, v.cached)
	set(&u.cacheRead, v.cacheRead)
	set(&u.cacheMade, v.cacheMade)
}

func (u *usage) sum() types.Usage {
	sum := types.Usage{PromptTokens: u.prompt, CompletionTokens: u.completion, CachedTokens: u.cached}
	if input, ok := u.input.Value(); ok && !u.prompt.IsKnown() {
		sum.PromptTokens = types.Known(input + u.cacheRead.Or(0) + u.cacheMade.Or(0))
	}
	if !u.cached.IsKnown() {
		sum.CachedTokens = u.cacheRead
	}
	return sum
}

func (r *reading) readUsage() {
	u := &r.usage
	for ok := r.scan.EnterObject(); ok && r.scan.Key(); {
		switch string(keyOf(&r.scan, r.data)) {
		case "prompt_tokens":
			r.readCount(&u.prompt)
		case "input_tokens":
			r.readCount(&u.input)
		case "completion_tokens", "output_tokens":
			r.readCount(&u.completion)
		case "total_tokens":
			r.readCount(&u.total)
		case "prompt_tokens_details", "input_tokens_details":
			r.readDetails()
		case "prompt_cache_hit_tokens": // DeepSeek's
			r.readCount(&u.cached)
		case "cache_read_input_tokens":
			r.readCount(&u.cacheRead)
		case "cache_creation_input_tokens":
			r.readCount(&u.cacheMade)
		default:
			r.scan.Skip()
		}
	}
}

// readBilled reads what Cohere says about an answer beside it: what was computed, and what is to be paid.
func (r *reading) readBilled() {
	for ok := r.scan.EnterObject(); ok && r.scan.Key(); {
		var dst *types.Gauge
		switch string(keyOf(&r.scan, r.data)) {
		case "tokens":
			dst = &r.usage.prompt
		case "billed_units":
			dst = &r.usage.input
		default:
			r.scan.Skip()
			continue
		}
		for ok := r.scan.EnterObject(); ok && r.scan.Key(); {
			if string(keyOf(&r.scan, r.data)) == "input_tokens" {
				r.readCount(dst)
				continue
			}
			r.scan.Skip()
		}
	}
}

func (r *reading) readDetails() {
	for ok := r.scan.EnterObject(); ok && r.scan.Key(); {
		if string(keyOf(&r.scan, r.data)) != "cached_tokens" {
			r.scan.Skip()
			continue
		}
		kind, at := r.scan.Peek()
		r.readCount(&r.usage.cached)
		if r.s.cached.IsKnown() && (kind == jsonscan.Number || kind == jsonscan.Null) {
			r.edit(types.Span{Start: at, End: r.scan.Pos()}, r.s.number)
		}
	}
}

// readCount reads a number that is not negative; anything else leaves dst.
func (r *reading) readCount(dst *types.Gauge) {
	kind, _ := r.scan.Peek()
	start, end := r.scan.Skip()
	if kind != jsonscan.Number || start == end {
		return
	}
	n, ok := parseInt(r.data[start:end])
	f := float64(n)
	if !ok {
		var err error
		if f, err = strconv.ParseFloat(string(r.data[start:end]), 64); err != nil {
			return
		}
	}
	if f >= 0 {
		*dst = types.Known(f)
	}
}

// readTail looks for usage in the end of a long body. A quote inside of a JSON
// string has a backslash before it, so that "usage" in its quotes is a string of
// its own.
func (s *Stream) readTail() {
	const key = `"usage"`
	tail := s.tail[max(0, len(s.tail)-tailBytes):]
	s.done = endsObject(tail)
	i := bytes.LastIndex(tail, []byte(key))
	if i < 0 {
		return
	}
	rest := trimSpace(tail[i+len(key):])
	if len(rest) == 0 || rest[0] != ':' {
		return
	}
	r := reading{s: s, data: rest[1:], scan: jsonscan.New(rest[1:], maxResponseDepth)}
	r.readUsage()
	if r.scan.OK() {
		s.usage.update(r.usage)
	}
}
