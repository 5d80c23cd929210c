// Package kvevents listens to what inference engines say that their prefix caches hold.
//
// Without it a prefix index predicts: what was sent to a server is cached there, until it must have
// been evicted. vLLM, SGLang and TensorRT-LLM tell what they store and drop, block by block. A
// Subscriber listens to the engines of all endpoints of a store and tells a Sink:
//
//	sub, err := kvevents.New(store, kvevents.Options{Sink: index})
//	if err != nil {
//		return err
//	}
//	go sub.Run(ctx)
//
// Engines publish only if they are told to, vLLM and SGLang by
//
//	--kv-events-config '{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://*:5557","replay_endpoint":"tcp://*:5558"}'
//
// (SGLang takes the same without enable_kv_cache_events.) The endpoint must have the *: with a host
// in it vLLM connects to there instead of waiting for connections, which is what Options.Listen is for. With a replay_endpoint, what was
// missed is made up for; without, a gateway that comes late or loses a message knows less until
// the engine restarts or clears its cache. See Source for those that cannot say themselves where
// they publish.
//
// An endpoint that is one of the data-parallel ranks of a server (types.Endpoint.Rank) is told what
// that rank says, and nothing else; the Sink has both the endpoint's name and the rank. Any other
// endpoint is told what all ranks say.
//
// # How far it can be believed
//
// Batches of events are numbered by the process that publishes them. A Subscriber keeps account of
// each rank of each endpoint, and says in which State it is:
//
//   - A connection begins with a replay of all that is kept. If that is all there ever was, the
//     rank is Live, else Late: what is told is held, and so may be more.
//   - A gap is made up for by a replay. Newer batches wait meanwhile.
//   - After a cut, a replay begins with the last batch that is known: if it is not the same any
//     more, by its time, the engine has restarted, and all is forgotten (Sink.Reset).
//   - What cannot be replayed makes the rank Partial: what was told are predictions then.
//
// # What is trusted
//
// An engine speaks for itself only: what comes by the connection to an endpoint is about that
// endpoint, whatever it says, and addresses that an engine gives have their host replaced by its
// own. Who connects to us speaks for an endpoint at the host that it comes from. There is no authentication in the protocol; keep it inside the network of the servers.
// What cannot be read is counted, told once to the Logger and never fatal: unknown fields, kinds of
// events, media and types of hashes are skipped. Lengths are believed as bytes come in. Each source
// has a goroutine, so none waits for another one, and a decision waits for none.
//
// # What it costs
//
// Reading and decoding takes 0.2 µs a block of 16 tokens, and nothing is allocated once it is warm;
// token ids, most of what comes, are skipped. A source takes a goroutine, a connection and some
// 45 KiB. See BenchmarkFollow and BenchmarkDecode.
package kvevents
