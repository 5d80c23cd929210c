// Package disagg has the protocols by which two unchanged engines serve one request together:
// one computes the prompt (prefill), the other makes the answer (decode) with the KV cache that
// it gets from the first. It is bytes in, bytes out: who sends the legs is no matter of it.
//
//	h, err := protocol.Begin(ctx, disagg.Request{API: api, Path: path, Body: body, ID: id, Prefill: p, Decode: d})
//	// err wraps ErrUnsupported: let d, or any, serve the request alone
//	if h.AtOnce() {
//		decode, _ := h.Decode(nil)
//		// send h.Prefill() to p and decode.Leg to d; if either fails, h.Abort()
//	} else {
//		answer := … // send h.Prefill() to p, and read all of its answer
//		decode, err := h.Decode(answer)
//		// decode.Complete, or send decode.Leg to d; what d answers is for the client
//	}
//
// # The protocols
//
//	            order           needs beforehand          what goes over
//	NIXL        prefill first   nothing                   the parameters in the prefill engine's answer
//	Mooncake    at once         the prefill engine's id   a transfer id of ours
//	P2P         prefill first   its tier's port           an id of ours, under which the cache is stored
//	SGLang      at once         its bootstrap port        a room of ours, where the engines meet
//	TensorRTLLM prefill first   nothing                   parameters, token ids and the first token
//
// vLLM speaks the first three, for chat and other completions, responses, and /inference/v1/generate.
// Its prefill leg is the request for one token, not streamed; the token is thrown away. The
// others speak theirs for chat and other completions. SGLang takes several prompts in one
// request. All others take one, and none takes more than one answer to it, nor what only the
// engine knows that computed the prompt (echo, the prompt's log probabilities), nor an answer
// that goes on from one that an engine keeps (previous_response_id).
//
// # Bodies pass untouched
//
// A leg's body is the request's with some members of the object set or removed; every other
// byte stays as it was. What an engine says for the other goes on as it stands: it is bounded
// in size and not looked into. Engines take the last of equal members, so that all of them go
// when one is set, however their key is written.
//
// No client may write what is written here: see Reserved and ReservedHeader.
//
// # Encoders
//
// Before the prompt is computed, engines of another kind may encode the images, audio and videos of a
// chat request. This is experimental. FindMedia finds them, Media.Leg makes a request of each, an
// Encoder reads what came of it, MergeEncoded puts that together, and Request.Encoded or WithEncoded
// brings it to who computes the prompt:
//
//	m, err := disagg.FindMedia(disagg.Request{API: api, Path: path, Body: body, ID: id}, disagg.MediaLimits{})
//	for i := range m.Items() {
//		made, err := encoder.Encoded(answer) // to m.Leg(i)
//		params = append(params, made.Params)
//	}
//	merged, _ := disagg.MergeEncoded(1<<20, params...)
//	body, err = disagg.WithEncoded(body, merged)
//
// EncoderNIXL is for engines that answer with parameters, EncoderStorage for those that share a storage.
// The protocols of vLLM have a place for parameters. With the others they are not sent, and the engine
// that computes the prompt encodes again.
//
// # What goes wrong
//
//   - An engine without a connector ignores what it is told, and the decode engine then computes
//     the prompt without a word. NIXL and TensorRTLLM see it in the answer: Decode.Ignored. Where
//     both legs go at once, and with P2P, nothing tells but the time that it takes.
//   - A prefill engine keeps the cache for one that does not come until a lease ends (NIXL: 30 s
//     with newer engines, 480 s with older; Mooncake 480 s). With NIXL it is freed at once if the
//     decode leg is sent and cancelled.
//   - SGLang's decode engine waits up to 300 s for a prefill engine that has failed, and its
//     prefill engine up to 1,800 s for the other one: cancel the other leg when one fails, and
//     send what Abort returns. Its prefill leg ends only after the decode leg has come in.
//   - A Mooncake engine that was started anew has another id, and the decode leg fails: Abort
//     sees to it that the next request asks.
//   - The decode engine of an older vLLM counts all that it was given as found in its cache.
//     Decode.Cached, and Cached where both legs go at once, tell what is true.
package disagg
