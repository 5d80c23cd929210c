// Package openai reads and writes what a gateway and model servers say to each
// other: requests in the forms of the OpenAI API (and Anthropic's /v1/messages,
// which the same servers offer), responses as they stream by, and error bodies.
// It knows no HTTP: paths, content types and bytes come in, bytes go out.
//
// In the order in which a gateway meets them:
//
//	api := openai.APIOf(path)
//	p, err := openai.Parse(api, contentType, body, req, openai.Limits{})
//	// err is an *Error: answer err.Status with err.Body(api)
//
//	// … choose a server; it knows the model as req.Target() …
//	body = p.SpliceModel(nil, body, req.Target())
//
//	s := openai.NewStream(openai.StreamOptions{
//		ContentType: responseType, TargetModel: req.Target(), Model: req.Model,
//	})
//	for each chunk of the response {
//		client.Write(s.Feed(chunk))   // s.FirstToken() ends the prefill
//	}
//	client.Write(s.Close())
//	// s.Usage(), s.Done(), s.Err() say how it went
//
// [ErrorBody], [MessagesErrorBody] and [ModelList] write the answers that a
// gateway gives by itself.
//
// # Bodies pass untouched
//
// Nothing is decoded and encoded again. A request is validated and read in one
// pass that keeps positions; [Parsed.SpliceModel] replaces the bytes of one
// string; [Stream] replaces the model's name in responses and leaves every other
// byte. Big integers, key order, duplicates, white space and escapes survive.
// Both may change the length of a body, so that Content-Length must be set anew
// (request) or removed (response).
//
// # The prompt
//
// A Prompt is a few spans of the body, in the order in which a model reads them,
// with the bytes as they were sent. What is whole comes first, what grows from
// turn to turn comes last, and without what closes it: the next turn of a
// conversation starts with the very bytes of this one, which is what a prefix
// index needs.
//
//	chat completions   tools, functions, then messages from the first "{" to the last "}"
//	responses          instructions, tools, then input
//	messages           tools, system, then messages
//	completions        prompt
//	embeddings         messages, input
//	images             prompt
//	speech             input
//
// A string starts with its opening quote and ends before its closing one; of an
// array the span runs from its first element to its last, the commas between
// included, so that one prompt and a list of one are the same. Empty tools and
// instructions are no span. Images and other media are part of the span, because
// the same image is the same prefix; their tokens are estimated apart from the
// text (see [BytesPerToken]).
//
// # Limits
//
// Every size is bounded: of requests by [Limits], of what is held of a response
// by [StreamOptions]. What is beyond a limit in a request is an error; in a
// response it passes as it is.
package openai
