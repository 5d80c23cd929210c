package disagg

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/inferpick/inferpick/internal/jsonedit"
	"github.com/inferpick/inferpick/internal/jsonscan"
	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/types"
)

// What is written into bodies.
const (
	keyKV     = "kv_transfer_params"
	keyDisagg = "disaggregated_params"
)

// The keys that a request is judged by.
var judged = [...]string{"n", "best_of", "use_beam_search", "prompt_logprobs", "echo", "prompt", "background",
	"previous_response_id", "sampling_params", "max_completion_tokens", "stream"}

// fields are values of a request by their keys; absent ones are nil.
type fields map[string][]byte

func read(body []byte, keys ...string) (fields, error) {
	values, err := jsonedit.Find(body, keys...)
	if err != nil {
		return nil, err
	}
	f := make(fields, len(keys))
	for i, key := range keys {
		if !jsonedit.Absent(values[i]) {
			f[key] = values[i]
		}
	}
	return f, nil
}

func unsupported(format string, args ...any) error {
	return fmt.Errorf("disagg: the request %w: %s", ErrUnsupported, fmt.Sprintf(format, args...))
}

// asked is a request that has been looked at.
type asked struct {
	Request
	fields  fields
	prompts int
	list    bool // the prompts are in a list, of which there may be one
}

// judge looks at a request of one of the APIs. It is an error if its answer does not come of
// one sequence for each prompt, or needs what only the engine has that computed the prompt.
func judge(r Request, apis ...openai.API) (*asked, error) {
	if !slices.Contains(apis, r.API) {
		return nil, unsupported("the engines have no legs for %s", r.API)
	}
	f, err := read(r.Body, judged[:]...)
	if err != nil {
		return nil, unsupported("%v", err)
	}
	sampling := f
	if r.API == openai.Generate && f["sampling_params"] != nil {
		if sampling, err = read(f["sampling_params"], judged[:]...); err != nil {
			return nil, unsupported("sampling_params: %v", err)
		}
	}
	for _, want := range [...]struct{ key, value string }{
		{"n", "1"}, {"best_of", "1"}, {"use_beam_search", "false"}, {"echo", "false"},
		{"prompt_logprobs", ""}, {"background", "false"}, {"previous_response_id", ""},
	} {
		if got := sampling[want.key]; got != nil && string(got) != want.value {
			return nil, unsupported("it has %s: %s", want.key, short(got))
		}
	}
	a := &asked{Request: r, fields: f, prompts: 1}
	if r.API == openai.Completions {
		a.countPrompts()
	}
	return a, nil
}

// short is a value for a message.
func short(value []byte) string {
	const limit = 40
	if len(value) > limit {
		return fmt.Sprintf("%q…", value[:limit])
	}
	return string(value)
}

// countPrompts counts what is in a list: if that is numbers, it is one prompt.
func (a *asked) countPrompts() {
	n, numbers := 0, 0
	err := jsonedit.Elements(a.fields["prompt"], func(value []byte) {
		n++
		if jsonedit.KindOf(value) == jsonscan.Number {
			numbers++
		}
	})
	if a.list = err == nil && n > numbers; a.list {
		a.prompts = n
	}
}

// once returns an error for more prompts than one.
func (a *asked) once() error {
	if a.prompts != 1 {
		return unsupported("it has %d prompts", a.prompts)
	}
	return nil
}

// edit returns the body with edits made.
func (a *asked) edit(edits ...jsonedit.Edit) ([]byte, error) {
	body, err := jsonedit.Object(a.Body, edits...)
	if err != nil {
		return nil, unsupported("%v", err)
	}
	return body, nil
}

// oneToken returns the body of a prefill leg for vLLM: with params in it, not streamed, and for
// an answer of one token, whatever the client wants.
func (a *asked) oneToken(params []byte) ([]byte, error) {
	one := []byte("1")
	edits := []jsonedit.Edit{
		{Key: keyKV, Value: params},
		{Key: "stream", Value: []byte("false")},
		{Key: "stream_options"},
	}
	if a.Encoded != nil {
		edits = append(edits, jsonedit.Edit{Key: keyEC, Value: a.Encoded})
	}
	switch a.API {
	case openai.Responses:
		// The engine would store an answer that nobody can ask for.
		edits = append(edits, jsonedit.Edit{Key: "max_output_tokens", Value: one}, jsonedit.Edit{Key: "store", Value: []byte("false")})
	case openai.Generate:
		sampling := a.fields["sampling_params"]
		if sampling == nil {
			sampling = []byte("{}")
		}
		sampling, err := jsonedit.Object(sampling, jsonedit.Edit{Key: "max_tokens", Value: one}, jsonedit.Edit{Key: "min_tokens"})
		if err != nil {
			return nil, unsupported("sampling_params: %v", err)
		}
		edits = append(edits, jsonedit.Edit{Key: "sampling_params", Value: sampling})
	default:
		most, other := "max_tokens", ""
		if a.fields["max_completion_tokens"] != nil {
			most, other = "max_completion_tokens", "max_tokens" // some refuse both
		}
		edits = append(edits, jsonedit.Edit{Key: most, Value: one}, jsonedit.Edit{Key: "min_tokens"}, jsonedit.Edit{Key: "min_completion_tokens"})
		if other != "" {
			edits = append(edits, jsonedit.Edit{Key: other})
		}
	}
	return a.edit(edits...)
}

// leg returns a leg to the request's path.
func (r Request) leg(body []byte, rank string) Leg {
	header := map[string]string{"Content-Type": "application/json"}
	if r.ID != "" {
		header["X-Request-Id"] = r.ID
	}
	if rank != "" {
		header[types.HeaderRank] = rank
	}
	return Leg{Path: r.Path, Header: header, Body: body}
}

// rankOf returns the rank that an endpoint stands for, and of how many; 0 and 1 if it stands
// for the engine.
func (o *Options) rankOf(ep *types.Endpoint) (rank, size int) {
	if ep == nil {
		return 0, 1
	}
	rank, size = ep.Rank.Index, ep.Rank.Of
	if o.Rank != nil {
		rank, size = o.Rank(ep)
	}
	if size < 2 || rank < 0 || rank >= size {
		return 0, 1
	}
	return rank, size
}

// rankHeader returns the rank for vLLM's header, "" for none.
func (o *Options) rankHeader(ep *types.Endpoint) string {
	if rank, size := o.rankOf(ep); size > 1 {
		return strconv.Itoa(rank)
	}
	return ""
}

// portOf returns the port at which others reach a prefill engine.
func (o *Options) portOf(ep *types.Endpoint) (int, error) {
	label := ""
	if o.PortLabel != "" {
		label = ep.Labels[o.PortLabel]
	}
	if label == "" {
		return o.Port, nil
	}
	port, err := strconv.Atoi(label)
	if err != nil || port < 1 || port > 65535 {
		return 0, blame("%s has the label %s: %q, which is no port", ep.Address, o.PortLabel, label)
	}
	return port, nil
}

// hostOf returns the host of an address, an IPv6 one in its brackets.
func hostOf(ep *types.Endpoint) string {
	i := strings.LastIndexByte(ep.Address, ':')
	if i < 0 || strings.HasSuffix(ep.Address, "]") {
		return ep.Address
	}
	return ep.Address[:i]
}

func blame(format string, args ...any) error {
	return fmt.Errorf("disagg: %w: %s", ErrPrefill, fmt.Sprintf(format, args...))
}
