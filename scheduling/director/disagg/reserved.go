package disagg

import (
	"bytes"
	"cmp"
	"strings"

	"github.com/inferpick/inferpick/internal/jsonedit"
	"github.com/inferpick/inferpick/internal/jsonscan"
	"github.com/inferpick/inferpick/openai"
)

// Reserved looks in a request's body for a field by which engines are told where to get a KV
// cache from, whom to give one to, or which of their ranks is to serve, and returns its name:
// "a.b" for b in a. A client that is let to send one reads what others have sent, makes servers
// connect to where it likes, and goes past what the gateway has decided. None is of use to the
// client of an engine that works alone. A request that has one is to be refused, with a status
// of 400.
//
// A field that is null is none. Neither is rid, by which SGLang's clients name a request: a
// hand-over replaces it. The name is "" where something is found that begins as an object of
// JSON does and is none, or is text in UTF-16 or UTF-32, which engines in Python read: there is
// no telling what is in it. Of what is neither, like forms, and of gRPC, nothing is said.
func Reserved(api openai.API, body []byte) (name string, found bool) {
	if api == openai.GRPCGenerate || api == openai.GRPCEmbed {
		return "", false
	}
	text := bytes.TrimLeft(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")), " \t\r\n")
	if len(text) == 0 || text[0] != '{' {
		return "", isWide(body)
	}
	name, err := reservedIn(body, "", 0)
	return name, name != "" || err != nil
}

// isWide reports whether text is in UTF-16 or UTF-32, which start with a mark or with one of
// the first 128 characters.
func isWide(text []byte) bool {
	if len(text) < 2 {
		return false
	}
	a, b := text[0], text[1]
	return a == 0xff && b == 0xfe || a == 0xfe && b == 0xff || a == 0 || b == 0
}

// reservedIn returns the first field in an object that is reserved. What vLLM hands to its
// connectors can be deeper in, in what it calls extra arguments.
func reservedIn(object []byte, path string, depth int) (name string, err error) {
	const deepest = 2 // sampling_params.extra_args
	var inner error
	err = jsonedit.Each(object, func(key, value []byte) {
		kind := jsonedit.KindOf(value)
		switch {
		case name != "" || kind == jsonscan.Null:
		case isReserved(string(key)):
			name = path + string(key)
		case depth < deepest && kind == jsonscan.Object && isContainer(string(key)):
			name, inner = reservedIn(value, path+string(key)+".", depth+1)
		}
	})
	return name, cmp.Or(err, inner)
}

func isContainer(key string) bool {
	switch key {
	case "sampling_params", "extra_args", "vllm_xargs":
		return true
	}
	return false
}

func isReserved(key string) bool {
	switch key {
	case keyKV, keyEC, // vLLM
		"bootstrap_host", "bootstrap_port", "bootstrap_room", "bootstrap_pair_key", "decode_tp_size", // SGLang
		"disagg_prefill_dp_rank", "routed_dp_rank", "data_parallel_rank",
		keyDisagg: // TensorRT-LLM
		return true
	}
	return false
}

// ReservedHeader reports whether a header of a request is for what a gateway tells engines, or
// the side-cars before them: the rank, and where to prefill, encode, or get a cache from. From
// clients it is to be removed.
func ReservedHeader(name string) bool {
	switch strings.ToLower(name) {
	case "x-data-parallel-rank", "x-data-parallel-host-port", "x-prefiller-host-port", "x-encoder-hosts-ports",
		"x-kv-cache-source-host-port":
		return true
	}
	return false
}
