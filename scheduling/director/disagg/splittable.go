package disagg

import "github.com/inferpick/inferpick/openai"

// Splittable returns nil if some protocol can hand a request over, as far as its API and body
// tell, or an error that wraps ErrUnsupported and says why none can. It is cheaper than Begin, and
// needs no endpoints: for a gateway that is about to decide whether a request is served by one
// engine or by two. Begin may still return ErrUnsupported: protocols differ.
func Splittable(api openai.API, body []byte) error {
	_, err := judge(Request{API: api, Body: body}, vllm...)
	return err
}
