package disagg

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"hash/maphash"
	"strconv"

	"github.com/inferpick/inferpick/internal/jsonedit"
	"github.com/inferpick/inferpick/internal/jsonscan"
	"github.com/inferpick/inferpick/openai"
)

// This file is the stage before the prompt is computed, in which other engines encode images, audio and
// videos. It is experimental.

// keyEC is where an encode engine's parameters stand in its answer, and in what the engine gets that
// computes the prompt.
const keyEC = "ec_transfer_params"

// Kind is what a piece of media is. Experimental.
type Kind uint8

// The kinds of media.
const (
	Image Kind = iota
	Audio
	Video
)

// String returns the kind in lower case.
func (k Kind) String() string {
	switch k {
	case Image:
		return "image"
	case Audio:
		return "audio"
	case Video:
		return "video"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Item is a piece of media in a request. Experimental.
type Item struct {
	Kind Kind
	// Part is the part of a message's content, as it stands in the request's body.
	Part []byte
	// Source is its URL or data, what is between the quotes in Part.
	Source []byte
}

// MediaLimits bound what is encoded of one request by others; what is beyond them is left to the engine
// that computes the prompt. Experimental.
type MediaLimits struct {
	Items int // distinct ones. Default: 32
	Bytes int // of the bodies of all legs together. Default: 64 MiB
}

// Media are the distinct images, audio and videos of a chat request, each of which can be encoded by
// another engine than the one that computes the prompt. It does not change. Experimental.
type Media struct {
	items      []Item
	request    Request
	head, tail []byte // of a leg's body, before and after the item
}

// FindMedia returns the media in the body of a request, of which there may be none, in their order. They
// are told apart by their URL or data, as it is written, and by their uuid if they have one. Of r it reads
// API, Path, Body, which the result refers to, and ID. An error wraps ErrUnsupported: it is no chat request.
//
// Media are the parts of a message's content of the types image_url, audio_url, video_url and input_audio,
// or without a type but with one of these keys. A part without URL or data, which names something that an
// engine has in its cache, is none.
func FindMedia(r Request, limits MediaLimits) (*Media, error) {
	if r.API != openai.ChatCompletions {
		return nil, unsupported("only chat requests have media for encode engines")
	}
	m := &Media{request: r}
	messages, err := m.frame(r.Body)
	if err != nil {
		return nil, unsupported("%v", err)
	}
	limits.Items, limits.Bytes = cmp.Or(max(limits.Items, 0), 32), cmp.Or(max(limits.Bytes, 0), 64<<20)
	f := finder{m: m, limits: limits, seed: maphash.MakeSeed(), known: map[uint64]bool{}}
	f.messages(messages)
	return m, nil
}

// Items returns the media. They must not be changed.
func (m *Media) Items() []Item { return m.items }

// Leg returns the request by which an engine encodes item i: the request's model and parameters, a message
// of that item alone, and an answer of one token, not streamed. Its X-Request-Id is the ID with "-enc-" and
// i behind it. What is about an answer to the conversation, as tools are, is left out: an engine might find
// that it does not go with this one.
func (m *Media) Leg(i int) Leg {
	r := m.request
	if r.ID != "" {
		r.ID += "-enc-" + strconv.Itoa(i)
	}
	return r.leg(bytes.Join([][]byte{m.head, m.items[i].Part, m.tail}, nil), "")
}

// frame writes what is around the item in a leg, and returns the messages.
func (m *Media) frame(body []byte) (messages []byte, err error) {
	most := "max_tokens"
	head := []byte{'{'}
	err = jsonedit.Each(body, func(key, value []byte) {
		switch name := string(key); name {
		case "messages":
			messages = value
		case "max_completion_tokens":
			most = "max_tokens"
			if !jsonedit.Absent(value) {
				most = name // some refuse both
			}
		default:
			if !notEncoded(name) {
				head = append(append(append(jsonscan.AppendQuote(head, name), ':'), value...), ',')
			}
		}
	})
	m.head = append(head, `"`+most+`":1,"stream":false,"messages":[{"role":"user","content":[`...)
	m.tail = []byte(`]}]}`)
	return messages, err
}

// notEncoded reports whether a member of a request is none of an encode leg's.
func notEncoded(name string) bool {
	switch name {
	case "max_tokens", "stream", "stream_options", "min_tokens", "min_completion_tokens", "n", "best_of", "use_beam_search",
		"tools", "tool_choice", "parallel_tool_calls", "functions", "function_call", "response_format",
		"continue_final_message", "add_generation_prompt", "echo", "logprobs", "top_logprobs", "prompt_logprobs",
		"request_id", "session_id", // of the one request, not of each of its legs
		keyKV, keyEC:
		return true
	}
	return false
}

// finder collects the media of a request.
type finder struct {
	m      *Media
	limits MediaLimits
	bytes  int
	seed   maphash.Seed
	known  map[uint64]bool // by a hash of what they are told apart by
	full   bool
}

func (f *finder) messages(messages []byte) {
	if jsonedit.KindOf(messages) != jsonscan.Array {
		return
	}
	_ = jsonedit.Elements(messages, func(message []byte) { // read before as a part
		if jsonedit.KindOf(message) != jsonscan.Object {
			return
		}
		content, _ := jsonedit.Find(message, "content")
		if jsonedit.KindOf(content[0]) == jsonscan.Array {
			_ = jsonedit.Elements(content[0], f.part)
		}
	})
}

// payloads are the keys of what a part consists of, and the types of such parts.
var payloads = [...]struct {
	key  string
	kind Kind
}{{"image_url", Image}, {"audio_url", Audio}, {"input_audio", Audio}, {"video_url", Video}}

// part takes a part of a message.
func (f *finder) part(part []byte) {
	if f.full || jsonedit.KindOf(part) != jsonscan.Object {
		return
	}
	v, _ := jsonedit.Find(part, "type", "uuid", payloads[0].key, payloads[1].key, payloads[2].key, payloads[3].key)
	name := jsonedit.Text(v[0])
	for i, p := range payloads {
		payload := v[2+i]
		if name != p.key && !(jsonedit.Absent(v[0]) && !jsonedit.Absent(payload)) {
			continue
		}
		if source := sourceOf(payload); source != nil {
			f.add(Item{p.kind, part, source[1 : len(source)-1]}, p.key, v[1])
		}
		return
	}
}

// sourceOf returns the URL or data of a payload, as it is written, nil if there is none.
func sourceOf(payload []byte) []byte {
	if jsonedit.KindOf(payload) == jsonscan.Object {
		v, _ := jsonedit.Find(payload, "url", "data")
		if payload = v[0]; jsonedit.Absent(payload) {
			payload = v[1]
		}
	}
	if jsonedit.KindOf(payload) != jsonscan.String || len(payload) == len(`""`) {
		return nil
	}
	return payload
}

func (f *finder) add(item Item, key string, uuid []byte) {
	var h maphash.Hash
	h.SetSeed(f.seed)
	_, _ = h.WriteString(key)
	_, _ = h.Write(uuid)
	_ = h.WriteByte('"') // as there is none in a source, the two are apart
	_, _ = h.Write(item.Source)
	sum := h.Sum64() // of two that are equal by chance one is left out, which does no harm
	if f.known[sum] {
		return
	}
	f.bytes += len(f.m.head) + len(item.Part) + len(f.m.tail)
	if f.full = len(f.m.items) >= f.limits.Items || f.bytes > f.limits.Bytes; f.full {
		return
	}
	f.known[sum] = true
	f.m.items = append(f.m.items, item)
}

// ErrEncode says that what an encode engine has said is of no use: it, or how it is configured, is to
// blame. Experimental.
var ErrEncode = errors.New("the encode engine")

// Encoder is how what an encode engine makes of an item gets to the engine that computes the prompt. It is
// safe for concurrent use. Experimental.
type Encoder interface {
	// Encoded takes the body of an encode leg's answer, which had a status of 200. It is not kept, but may
	// be part of what is returned. An error wraps ErrEncode.
	Encoded(answer []byte) (Encoded, error)
}

// Encoded is what an encode engine has done. Experimental.
type Encoded struct {
	// Params is what the engine that computes the prompt is to be told, an object by which it finds what
	// was made, as it stands. Nil: nothing.
	Params []byte
	// Ignored is set if there should be something and is not: the engine has made nothing that others can
	// get, and the one that computes the prompt encodes the item again. It should be counted: somebody has
	// configured it wrongly.
	Ignored bool
}

// EncoderNIXL is an Encoder for vLLM's NIXL connector for encoder caches, and for those that speak as it
// does: the encode engine answers with parameters, by which others get what it made. Of the options it
// needs MaxParams, for one item. Experimental.
func EncoderNIXL(o Options) Encoder { return encoderNIXL{o.withDefaults(0).MaxParams} }

type encoderNIXL struct{ limit int }

func (e encoderNIXL) Encoded(answer []byte) (Encoded, error) {
	f, err := read(answer, keyEC, "error")
	switch {
	case err != nil:
		err = fmt.Errorf("its answer is no JSON object: %w", err)
	case f["error"] != nil:
		err = fmt.Errorf("its answer is an error: %s", short(f["error"]))
	default:
		var params []byte
		if params, err = bounded(keyEC, f[keyEC], e.limit); err == nil {
			return Encoded{Params: params, Ignored: params == nil}, nil
		}
	}
	return Encoded{}, fmt.Errorf("disagg: %w: %w", ErrEncode, err)
}

// EncoderStorage is an Encoder for engines that share a storage, as with vLLM's example connector: what one
// has made the other finds there by itself. Whether it does nobody tells. Experimental.
func EncoderStorage() Encoder { return encoderStorage{} }

type encoderStorage struct{}

func (encoderStorage) Encoded([]byte) (Encoded, error) { return Encoded{}, nil }

// EncoderNames returns the names that EncoderByName knows. Experimental.
func EncoderNames() []string { return []string{"nixl", "storage"} }

// EncoderByName returns the Encoder with a name of EncoderNames. Experimental.
func EncoderByName(name string, o Options) (Encoder, error) {
	switch name {
	case "nixl":
		return EncoderNIXL(o), nil
	case "storage":
		return EncoderStorage(), nil
	}
	return nil, fmt.Errorf("disagg: no encoder %q: want one of %v", name, EncoderNames())
}

// MergeEncoded puts the Params of several items into one object, for Request.Encoded or WithEncoded, with
// each value as it stands; of equal keys the last counts. Those of an item that would make it longer than
// limit bytes are left out; used is how many items are in it. It returns nil if there is nothing in it.
// What is not an object is left out, too. Experimental.
func MergeEncoded(limit int, params ...[]byte) (merged []byte, used int) {
	type member struct{ key, value []byte }
	var members []member
	at := map[string]int{}
	size := len("{}")
	for _, one := range params {
		var own []member
		more := 0
		if jsonedit.Each(one, func(key, value []byte) {
			own = append(own, member{jsonscan.AppendQuote(nil, string(key)), value})
			more += len(own[len(own)-1].key) + len(value) + len(":,")
		}) != nil || len(own) == 0 || size+more > limit {
			continue
		}
		size += more
		used++
		for _, m := range own {
			if i, known := at[string(m.key)]; known {
				members[i] = m
				continue
			}
			at[string(m.key)] = len(members)
			members = append(members, m)
		}
	}
	if used == 0 {
		return nil, 0
	}
	merged = append(make([]byte, 0, size), '{')
	for i, m := range members {
		if i > 0 {
			merged = append(merged, ',')
		}
		merged = append(append(append(merged, m.key...), ':'), m.value...)
	}
	return append(merged, '}'), used
}

// WithEncoded returns a body with what MergeEncoded has made, for an engine that computes the prompt and
// answers by itself. An error wraps ErrUnsupported. Experimental.
func WithEncoded(body, merged []byte) ([]byte, error) {
	out, err := jsonedit.Object(body, jsonedit.Edit{Key: keyEC, Value: merged})
	if err != nil {
		return nil, unsupported("%v", err)
	}
	return out, nil
}
