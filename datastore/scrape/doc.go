// Package scrape reads the metrics of model servers into a datastore.Store, and the
// names of the models that they serve.
//
// A Scraper watches the store: each endpoint is asked for its metrics page every
// Options.Interval, and what the page says becomes the endpoint's next reading.
//
//	s, err := scrape.New(store, scrape.Options{Interval: 50 * time.Millisecond})
//	if err != nil {
//		return err
//	}
//	go s.Run(ctx)
//
// Where to find which figure is a table of engines: vLLM, SGLang, TensorRT-LLM,
// Triton, TGI, TEI, llama.cpp, LMDeploy and Dynamo are in DefaultEngines, and others
// can be added. An endpoint's engine is what its specification or its labels say
// (inference.networking.k8s.io/engine-type, else llm-d.ai/engine-type), or is
// found out from the page: the first of the table that the page has a load figure
// of, until the server restarts. An address without a host, as in ":8002", is
// another port of the endpoint's host. Where no path is given it is the engine's,
// and while the engine is unknown those of all engines are tried in turn.
//
// # What is not known stays unknown
//
// A figure that is not on the page is unknown, not 0. A page that has none of the
// load figures is no reading: the store keeps the last one, which grows old. So it
// does when an endpoint does not answer, answers late, or sends what cannot be
// read; no part of such a page is used. A reading's time is that of the request,
// as its figures may be as old as that and no older. A figure that makes no sense, as a
// negative queue or a KV usage of 37.5, is unknown, and so is a sum of which one part is.
//
// How many requests a server has refused (vllm:admission_rejections_total) is not read. Those of this
// process are known from their answers, sooner, with what the server says of when to come again, and count
// there: for ejection, admission and concurrency that is learned. Those of others show on the same page as the
// queue that is at its limit. Whoever draws graphs has the engine's own series.
//
// # Data-parallel ranks
//
// An endpoint that is all of its server has the sums over its ranks. Ranks that are endpoints of
// their own (datastore.EndpointSpec.PerRank) each have what the page says of them, by Engine.RankLabel;
// what the page says of the process, as when it started, holds for each. The page is fetched once for
// all of those that ask for the same one, and so is the list of models.
//
// # What servers serve
//
// Each endpoint is also asked for GET /v1/models, seldom: see Options.ModelsInterval.
// The names, of the base model and its adapters, become its Endpoint.Models. They are
// unknown until it has answered, after it started anew, and while it answers with
// something else, as 404; a server that does not answer at all serves what it did.
// Failures are told to Options.OnModels only.
//
// # What it costs
//
// Each endpoint has a goroutine (of ranks of one server one works for all), so that a server that hangs delays no other, and a
// kept connection, for which over TLS net/http has two more: 20 KiB in all without TLS,
// the endpoint in the store included. Workers that are shared would have to be as many as
// there may be hanging servers, or wait for them. Memory for pages is shared by all, and
// taken only while an answer is being read. What a scrape costs, and how much of that is the
// kernel's, BenchmarkScrape tells.
package scrape
