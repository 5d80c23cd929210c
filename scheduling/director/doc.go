// Package director is the façade over the whole SDK: request bytes in, a chosen
// endpoint and the body to send out; response bytes through; the outcome
// accounted. Every adapter calls it and repeats none of it.
//
//	route, err := d.Route(ctx, director.Incoming{Path: path, Header: header, Body: body})
//	if err != nil {
//		e := director.AsError(err) // status, body, Retry-After for the client
//		…
//	}
//	defer route.Done(nil) // whatever happens; the first call counts
//	for ep := route.Endpoint(); ep != nil; ep = route.Next() {
//		// send route.Body to ep.Address; on failure before the first byte go on
//	}
//	route.Response(status, contentType)
//	// for each chunk that the server sends:
//	client.Write(route.Data(chunk))
//	// at its end:
//	client.Write(route.End())
//
// An http.RoundTripper that does this is in package director/httptransport; with
// it a httputil.ReverseProxy becomes an inference gateway. An adapter for Envoy, which
// does the retrying itself, is in examples/envoy.
//
// # What a Route does
//
//  1. openai.Parse: model, prompt, limits in one pass over the body.  400, 413, 415
//  2. datastore Resolve: public model name to pool, target and priority.  404
//  3. candidates: the endpoints of the pool, within the subset hint.  503
//  4. Scheduler: filter, score, pick; the decision is booked.  429, 503
//     It is the caller's: plugins.Default is the profile to start with, and each
//     pool that serves another model gets one of its own ([Options.Schedulers]).
//  5. the body with the target model spliced in.
//
// # Trust
//
// [ControlHeaders] are for gateways to set, not for clients: strip them from what
// clients send (StripControlHeaders) before anything is forwarded. The subset
// hint is not read from headers at all: the adapter that has one passes it in
// [Incoming.Subset]. The objective, rewrite and fairness headers are read as
// requests carry them; a gateway whose clients are not trusted strips those, too
// ([Options.IgnoreRequestHeaders]).
package director
