// Package plugins provides filters, scorers, costs and pickers, profiles made of them, and a
// registry for profiles declared in JSON.
//
// Start from a profile:
//
//   - [Default]: one cost in seconds per endpoint, by [Cost], and [Ejection] of failing servers.
//     No weights to tune, no metrics needed.
//   - [Classic]: the weights of the Gateway API Inference Extension (queue 2, KV cache 2, prefix
//     cache 3), highest sum, ties at random. [ClassicWithInFlight] adds this process's own
//     requests in flight, which makes it robust against slow scraping.
//   - [DecisionTree]: the filter tree of the extension's version 0.3.
//   - [LeastRequests], [RoundRobinProfile], [RandomProfile]: baselines.
//
// or build one:
//
//	scheduling.Profile{
//		Filters: []scheduling.Named{{Filter: plugins.Healthy{}}, {Filter: plugins.Fresh{}}},
//		Scorers: []scheduling.Weighted{
//			{Scorer: plugins.QueueDepth{}, Weight: 2},
//			{Scorer: plugins.KVCache{}, Weight: 2},
//		},
//		Picker: plugins.MaxScore{},
//	}
//
// or declare one, see [Registry.Load].
//
// Plugins without state are plain values and may be shared. Cost, PrefixCache, Ejection,
// SessionAffinity, PreviousAnswer and NoHitLRU learn from requests; use one for each Scheduler,
// unless Schedulers are meant to share what it learned. What they learn about an endpoint is
// bound to its Load, see types.NewEndpoint.
//
// A value that the server did not report, or that is too old, is unknown: scorers then have no
// opinion, and filters let the endpoint pass unless another is known to be better.
package plugins
