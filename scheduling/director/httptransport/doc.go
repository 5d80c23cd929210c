// Package httptransport makes a Director an http.RoundTripper: a
// httputil.ReverseProxy with this Transport is an inference gateway, and a
// http.Client with it schedules its own requests.
//
//	gateway := &httputil.ReverseProxy{
//		Rewrite:       func(*httputil.ProxyRequest) {}, // the director's choice replaces the host
//		Transport:     httptransport.New(d),
//		FlushInterval: -1, // tokens leave as they come
//	}
//
// # As long as the client has had no byte
//
// A response is returned when there is something of its body to pass on, or its end. Until
// then the request goes on to a fallback
//
//   - after an error of the connection, or a status that is no answer (101 that nobody asked
//     for, 001, 999);
//   - after 429, 502, 503, 504 and 529;
//   - after a body that breaks off;
//   - after a stream whose first event is an error that stands for one of these statuses, or for
//     any other failure of the server;
//   - if the endpoint gives no sign of life for longer than the scheduler's patience with it
//     (scheduling.Impatient).
//
// A request by which its server makes something that it keeps, as a job or a file, goes on only after one of these statuses, or
// if it was not sent: else there might be two (see director.Route.Repeatable).
//
// Comments that keep a stream alive, and white space before a JSON value, are something to
// pass on. If no endpoint answers, the client gets the answer of the last one; else that of
// the last one that was busy, with its headers, or its status and Retry-After if the rest of
// it was long, slow or broken; else a 502 with a body.
//
// A connection that was kept alive, and on which no byte of a response came, is taken to
// have been closed by the server while nobody used it: the request is sent once more to the
// same endpoint, over a connection of its own.
//
// # Two endpoints for one request
//
// If the director has an Options.Handover, a request may be served in two places: one endpoint
// computes the prompt, another answers. Each attempt at a pair has a request id of its own, which
// begins with the client's.
//
//   - One after the other: the prefill leg's answer is read whole (MaxPrefillAnswer,
//     PrefillTimeout), then the decode leg is sent, and streams at once.
//   - At once: the decode leg streams as soon as it has a token. If the prefill leg fails before
//     that, the decode leg's connection is closed, its engine told, and the request begins anew. If
//     bytes without a token have gone to the client, the answer breaks off at once: the engine
//     might wait for minutes. With a token there, the prefill leg does not matter any more; and it
//     may take longer than the decode leg.
//   - A prefill leg that fails (429, any 5xx, a connection, no sign of life for longer than the
//     scheduler's patience) is sent to another endpoint: see Route.Legs. Any other 4xx is the
//     client's.
//   - A decode leg that fails as above, or with any 5xx, as long as the client has had no byte, begins
//     anew at the fallback, with another hand-over: what the first endpoint had was maybe the reason.
//   - If the client leaves, or the request is revoked, both legs end. Where the decode leg comes after the prefill leg, that
//     goes on for a quarter of a second (Transport.Linger), and if it ends well the decode leg is sent: only with what an
//     engine answers can a cache be freed, which would be kept for a lease. So does a decode leg of which nothing has come:
//     an engine that was never asked cannot tell the other one.
//   - If a prompt is computed, and its decode leg could not be sent, another engine, or the same one, is told to
//     fetch the cache, and its answer is not waited for.
//
// No leg is sent twice over another connection, but for a prefill leg that is not one of two at once.
//
// # Encoders
//
// If the director has an Options.Encode (experimental), the images, audio and videos of a chat request are
// sent to encoders before its first attempt, several at a time, and the request waits for them, for
// Encoding.Timeout at most. An item whose encoder fails is sent to another one. If that fails, too, or the
// time is over, the legs of all other items are ended, and the request goes on with what there is. If the
// client leaves, or the request is revoked, they end as well. The bodies of legs under way, and their
// answers, count against MaxBodies; where there is no room for them, nothing is encoded before.
//
// # Who is to blame
//
// What the director is told of an attempt is what happened there. Where nothing was sent for
// want of something here (descriptors, ports, memory, an answer of the name server), or
// because the request cannot be sent, the endpoint is not to blame. A connection that is
// refused or times out, and a TLS handshake that fails, are the endpoint's.
//
// # Large bodies
//
// With Transport.Early the server of a chat or completion is chosen when so much of its body is there, if
// that says which model it is for, and that the rest is text of its prompt as far as is known; then the body is sent on as
// it comes in. That is a bet, and when all is there it is settled (director.RouteEarly):
//
//   - The last byte goes out only when the whole was read, is valid, and is for the same model, cache and session, with a prompt that
//     begins as it did. Plugins are told then what the prompt is, as if it had been sent only then.
//   - If it is not, or has not come within Transport.EarlyTimeout, or the client leaves, the connection to the server is closed, the
//     booking is given back, and nobody is to blame; the route ends as Cancelled and Unsent. What is whole is then decided as if
//     there had been no bet, and refused in the same words. No server serves what another request was chosen it for.
//   - An answer that comes before is held back. A server that fails before is left for a fallback, which gets the whole body; one
//     that hangs up while it waits for the client is not to blame. Patience with a server begins when it has the whole body.
//   - After a bet that was lost one request is not bet on, after the next one three, and so on up to 255, until one is won.
//
// It is for links to servers that take long for a body beside the time in which it comes in: what is gained is at most the time
// for sending it there. It costs another goroutine a request, and some CPU time.
//
// # Bounds
//
// A request body is held in memory, because it may have to be sent again: Transport.MaxBody
// bounds one, MaxBodies all. Uploads that are slow, or never end, are for the http.Server to
// bound: set its ReadTimeout, which does not limit how long an answer takes, and
// ReadHeaderTimeout.
package httptransport
