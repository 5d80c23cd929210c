// Package openai reads and writes what a gateway and model servers say to each
// other: requests in the forms of the OpenAI API (and Anthropic's /v1/messages and vLLM's
// own, over HTTP and gRPC, which the same servers offer), responses as they stream by, and error bodies.
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
//		API: api, ContentType: responseType, ContentEncoding: responseEncoding,
//		TargetModel: req.Target(), Model: req.Model, HoldFirst: true,
//	})
//	for each chunk of the response {
//		out := s.Feed(chunk)   // s.FirstToken() ends the prefill
//		// s.Begun() for the first time, and s.Err(): out may be dropped, and
//		// another server be asked
//		client.Write(out)
//	}
//	client.Write(s.Close())
//	// s.Usage(), s.Finish(), s.Done(), s.CutOff(), s.Err() say how it went
//
// [ErrorBodyFor], [ErrorBody], [MessagesErrorBody] and [ModelList] write the answers
// that a gateway gives by itself.
//
// # What a response says
//
// A [Stream] reports what it has read, and nothing that it supposes. A first token
// is an event of a stream in which something was generated; an answer that is not
// streamed has none. An error is an object that says something and stands beside no
// answer; [ServerError] tells whose fault it is. How the model ended its answer is what
// the server says, in the words that the APIs have in common. Whether a response is complete, its
// framing in HTTP says; beyond that, only a stream of an API whose end is known, all
// of which was read, can be found cut off. What is in a form that is not known
// (other engines' streams, compressed bodies, JSON with NaN, what is too long)
// passes, and is held against nobody.
//
// # Bodies pass untouched
//
// Nothing is decoded and encoded again. A request is validated and read in one
// pass that keeps positions; [Parsed.SpliceModel] replaces the bytes of one
// string; [Stream] replaces the model's name in responses, and how many tokens were
// cached where it is told, and leaves every other byte. Big integers, key order, duplicates, white space and escapes survive.
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
//	messages           tools, system, then messages; the same to count its tokens
//	completions        prompt
//	embeddings         messages, input; the same, or inputs, texts and images, for other pooling models
//	rerank, score      query or text_1, then documents or text_2
//	decisions          input or state, then questions
//	images, videos     prompt, then pictures to start from
//	speech             input
//	transcriptions     prompt; the sound is no span
//	generate           token_ids; over gRPC the text, or the ids as they are encoded
//
// A string starts with its opening quote and ends before its closing one; of an
// array the span runs from its first element to its last, the commas between
// included, so that one prompt and a list of one are the same. Empty tools and
// instructions are no span.
//
// # Media
//
// Images, sound and films are part of the span, because the same image is the same
// prefix, whether they are parts of a message, the result of a tool, or data under a
// key that is one of media. A file whose text is longer than a file counts for is text. How many tokens they are follows from their size, which
// is read from the first bytes of their data: [Parse] counts by default rules, and a
// [Family] counts again by those of a model, which [Families] finds by its name. An
// address is never asked for what is there: what it names has a usual size, and
// [types.Media].Guessed is set. Base64 has many more bytes than an image has tokens.
// Of data that are longer than four bytes for each of their tokens (by the default
// rules, whatever a family says, so that the spans of equal content are equal), the
// spans therefore cover windows of 128 bytes, evenly spread from the first to the
// last byte, of so many bytes in all. Of what is shorter, as addresses are, the last 128 bytes are there again and again, so
// that everywhere in a prompt about four bytes stand for a token. What differs only between the windows is taken
// for the same; compressed data that differ anywhere differ in nearly all that
// follows, but raw pixels and samples need not, and text in a file that was edited
// in place neither. Of a prompt 256 media are looked at and 4,096 cut.
//
// # The work
//
// types.Request.Work is what is asked of a server beside the tokens of a prompt and of an answer:
//
//	embeddings, pooling    how many inputs; Prompt.Tokens are those of all
//	rerank, score          how many pairs; Prompt.Tokens count a query with each document, as cross-encoders do
//	decisions              how many questions, each answered in one step
//	images, videos         pictures, steps, runs of the model in a step, its tokens in each (see types.Denoise); the same for
//	                       chat completions with num_inference_steps, or with it or a size in extra_body
//	speech                 about 25 tokens for each second, that is 15 letters; speed is taken into account
//	transcriptions         the seconds of the sound, if its head tells, and about 4 tokens for each
//
// What a body does not say is unknown: what the model then does, a [Family] may know. Guidance has the model run twice in a
// step if true_cfg_scale is above 1 or, without one, guidance_scale is and there is a negative_prompt: other models take guidance
// as an input. Frames are num_frames, or else seconds at fps (24 if it is absent).
//
// For APIs that many engines offer, each in a form of its own, from [Pooling] on, no body is an error: of one that cannot be
// read the work is unknown, and to refuse it is left to the server, unless it may name a model.
//
// # Limits
//
// Every size is bounded: of requests by [Limits], of what is held of a response
// by [StreamOptions]. What is beyond a limit in a request is an error; in a
// response it passes as it is.
package openai
