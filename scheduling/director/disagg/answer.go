package disagg

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/inferpick/inferpick/internal/jsonedit"
	"github.com/inferpick/inferpick/internal/jsonscan"
	"github.com/inferpick/inferpick/types"
)

// Cached returns how many tokens of the prompt an engine had in its prefix cache, by the usage
// in the body of its answer, which is not streamed. Where both legs are sent at once, it tells
// of the prefill leg's answer what Decode.Cached tells where they are not. Unknown: it does not
// say.
func Cached(answer []byte) types.Gauge {
	f, err := read(answer, "usage")
	if err != nil {
		return types.Gauge{}
	}
	return cachedIn(f["usage"])
}

// cachedIn returns the number in a usage, which may be nil.
func cachedIn(usage []byte) types.Gauge {
	details, err := read(usage, "prompt_tokens_details", "input_tokens_details")
	if err != nil {
		return types.Gauge{}
	}
	for _, d := range details {
		if f, err := read(d, "cached_tokens"); err == nil {
			if n := count(f["cached_tokens"]); n.IsKnown() {
				return n
			}
		}
	}
	return types.Gauge{}
}

// count returns the number of tokens that a value says, unknown if it says none.
func count(value []byte) types.Gauge {
	n, err := strconv.ParseUint(string(value), 10, 52)
	if err != nil {
		return types.Gauge{}
	}
	return types.Known(float64(n))
}

// readAnswer returns values of the body of a prefill leg's answer.
func readAnswer(answer []byte, keys ...string) (fields, error) {
	f, err := read(answer, append(keys, "error")...)
	if err != nil {
		if bytes.HasPrefix(bytes.TrimLeft(answer, " \r\n"), []byte("data:")) {
			return nil, blame("its answer is a stream of events")
		}
		return nil, blame("its answer is no JSON object: %v", err)
	}
	if e := f["error"]; e != nil {
		return nil, blame("its answer is an error: %s", short(e))
	}
	return f, nil
}

// relayed returns the parameters that an engine gave for another: nil if it gave none. They
// are not looked into.
func relayed(key string, value []byte, limit int) ([]byte, error) {
	params, err := bounded(key, value, limit)
	if err != nil {
		return nil, blame("%v", err)
	}
	return params, nil
}

// bounded returns an object that an engine's answer has under a key: nil if it has none, or one without
// members.
func bounded(key string, value []byte, limit int) ([]byte, error) {
	switch kind := jsonedit.KindOf(value); {
	case kind == jsonscan.Invalid:
		return nil, nil
	case kind != jsonscan.Object:
		return nil, fmt.Errorf("its %s are %s, want an object", key, kind)
	case len(value) > limit:
		return nil, fmt.Errorf("its %s have %d bytes; the limit is %d", key, len(value), limit)
	}
	empty := true
	_ = jsonedit.Each(value, func([]byte, []byte) { empty = false }) // read before as a part
	if empty {
		return nil, nil
	}
	return value, nil
}
