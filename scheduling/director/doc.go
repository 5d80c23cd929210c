// Package director is the façade over the whole SDK: request bytes in, a chosen
// endpoint and the body to send out; response bytes through; the outcome
// accounted. Every adapter calls it and repeats none of it.
//
//	in := director.Incoming{Method: method, Path: path, Header: header, Body: body}
//	if a, ok := d.Answer(in); ok {
//		… // the list of models needs no server
//	}
//	route, err := d.Route(ctx, in)
//	if err != nil {
//		e := director.AsError(err) // status, headers and body for the client
//		…
//	}
//	defer route.Done(nil) // whatever happens; the first call counts
//	for ep := route.Endpoint(); ep != nil; ep = route.Next() {
//		// send route.Body to ep.Address; if that fails, or what came is no answer
//		// (IsAnswer), or worth asking another (Retryable), route.Failed and go on
//	}
//	route.ResponseHeader(status, header)
//	// for each chunk that the server sends:
//	client.Write(route.Data(chunk))
//	// at its end as HTTP has it:
//	client.Write(route.End())
//	// or where it broke off (route.Break), or the client has gone (route.Done):
//
// A data plane that meets headers and bodies in different places uses an [Exchange].
// An http.RoundTripper that does this is in package director/httptransport; with
// it a httputil.ReverseProxy becomes an inference gateway. An adapter for Envoy, which
// does the retrying itself, is in examples/envoy.
//
// # What a Route does
//
//  1. Is the path for clients?  403
//  2. openai.Parse: model, prompt, limits in one pass over the body, if the method has
//     one.  400, 413, 415
//  3. datastore Resolve: public model name to pool, target and priority.  404
//  4. candidates: the endpoints of the pool, within the subset hint.  503
//  5. admission control, for what takes a place at a server.  429, 503
//  6. Scheduler: filter, score, pick; the decision is booked.  429, 503
//     It is the caller's: plugins.Default is the profile to start with, and each
//     pool that serves another model gets one of its own ([Options.Schedulers], or
//     [Options.NewScheduler] where pools come and go).
//  7. the body with the target model spliced in: [Route].Body, or without a copy [Route.Pieces].
//
// # Two endpoints for one request
//
// A data plane that can send two requests for one sets Incoming.Split, and before each attempt
// asks [Route.Legs], which needs [Options.Handover]: one endpoint computes the prompt, another
// answers with its KV cache (package disagg has the protocols).
//
//	legs, err := route.Legs(ctx) // an error is the answer: nobody could compute the prompt
//	if legs == nil {
//		… // as ever: send route.Body to route.Endpoint()
//	}
//	p, leg := legs.Prefill()
//	// send leg to p; if that fails, legs.PrefillFailed, and ask route.Legs again
//	answer, err := legs.PrefillAnswer(status, header, body)
//	// err: ask route.Legs again; answer: legs.FromPrefill, and it is the client's, through the route
//	// else send legs.Decode() to route.Endpoint(); what comes of it is the route's, as ever
//
// With legs.AtOnce both are sent at the same time. Where something before the engine runs the legs,
// as llm-d's side-cars do, the data plane sets Incoming.Split, and tells it Route.Prefill.
//
// The request is split if the scheduler finds that better (scheduling.Splitter), and if it can be:
// the rest, such as what wants several answers, is served by one endpoint. Admission control counts
// the endpoints that may answer. In a pool whose endpoints have roles, and with Options.Handover in
// any, a request is refused whose body has a field by which gateways tell engines whom to fetch a KV
// cache from (disagg.Reserved).  400
//
// If the endpoint that is to compute the prompt fails, up to two others are tried; then the one that
// answers may do so itself, within scheduling.Profile.Alone; then a fallback is gone on to that
// computes prompts anyway; then it is a 503. The cached tokens that a client is told, and
// Route.Usage, are those of the endpoint that computed the prompt. The Outcome of the one that
// answers says none: what was handed over counts as found in its cache with some engines, and must
// not be learned as such.
//
// # Conversations and programs
//
// To which conversation a request belongs (types.Request.SessionID), and to which agent's task
// (ProgramID), the gateway may say in Incoming. Else the first of these counts:
//
//	Options.SessionHeader (X-Session-Id)        part of X-Parent-Session-Id
//	X-Dynamo-Session-Id                         part of X-Dynamo-Parent-Session-Id
//	X-Claude-Code-Session-Id, its -Agent-Id     all agents of the run are one program
//	Session-Id, Thread-Id; with underscores too Codex: all threads of the run are one program
//	X-Session-Affinity                          OpenCode, Pi; part of X-Parent-Session-Id
//	X-Litellm-Session-Id                        part of X-Litellm-Trace-Id
//	X-Conversation-Id, Conversation_id, X-Smg-Routing-Key
//	the body                                    see openai.Parse
//
// Options.ProgramHeader (X-Program-Id) goes before what the others say of the program. A
// conversation of no program is one of its own. Both are labels of at most 256 bytes that
// count within a tenant: by them a client can group its own requests, and nobody else's.
// Options.IgnoreClientIDs leaves them to the gateway.
//
// # Encoders
//
// This is experimental, and may change in any release. With [Options.Encode], images, audio and videos of
// chat requests are encoded by the endpoints of the pool with types.RoleEncode, before the prompt is
// computed elsewhere, if the data plane asks [Route.Encodes] before it asks Legs:
//
//	if e := route.Encodes(); e != nil {
//		// for each item i of e.Len(), e.AtOnce() at a time, until e.Begin returns nil or a leg does not fail:
//		leg := e.Begin(ctx, i)
//		answer, err := leg.Answer(status, header, body) // or leg.Failed, or leg.Cancelled
//		// answer: end all legs, and after e.Done it is the client's, by leg.FromEncoder
//		e.Done()
//	}
//	legs, err := route.Legs(ctx) // whose prefill leg has what the encoders gave
//	// and where one answers alone, route.EncodedBody() goes in place of route.Body, unless it is nil
//
// A scheduler of its own ([Encoding.Scheduler]) chooses the encoder of each item and learns of it. Whoever
// computes the prompt can encode, too, so that no failure here is one of the request: an item goes to
// another encoder once, and then the request goes on without. Only what an encoder says of the request,
// with 400, 413, 415 or 422, is the client's answer. What encoders made goes with one attempt.
//
// # How a request ends
//
// The adapter says what it has seen, and the Route judges: an answer is complete when HTTP
// says so, whatever is in it, unless its API has a known end that did not come. An error in
// the body of a 200 counts as the status that it stands for: 400 blames nobody. A client that
// leaves after the last event of a stream, or after the whole of a JSON value, was served.
//
// Whoever ends a request, ends all of it: booking and place. Functions of the embedder's are
// called under no lock; where one panics the request is answered with 500, or goes on, and
// nothing is left behind.
//
// # Trust
//
// Nothing that a client sends directs anything by itself. [ControlHeaders] are for
// gateways to set: strip them from what clients send (StripControlHeaders) before anything is
// forwarded. The subset hint is not read from headers at all: the adapter that has one passes
// it in [Incoming.Subset]. Tenant, objective, rewrite, targets and the longest wait are those
// of [Incoming]; they are read from headers only with [Options.TrustRequestHeaders], which is
// for data planes that set these headers themselves and strip those of clients first.
//
// Model servers are administered on the port on which they serve, so that paths are
// refused which are not known to be for clients. These are: the inference APIs of OpenAI and
// Anthropic, with any prefix; the native ones of the engines (generate, completion, infill,
// embed, rerank, score, pooling, classify, tokenize, invocations, /v2/models/NAME/infer and
// so on); what is below /v1, /v2, …, but for what administers (load_lora_adapter, metrics,
// config, …); models, health, ping and version. It makes no difference how a path is
// written. [Options.AllowPath] allows more.
package director
