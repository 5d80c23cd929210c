// Package plugins holds the ready-made filters, scorers, costs and pickers, one file
// or a few each, the profiles made of them, and the registry by which profiles are
// declared in JSON.
//
// Start from a profile:
//
//   - [Default]: one cost in seconds per endpoint, by [Cost], and [Ejection] of servers
//     that fail. No weights to tune, no metrics needed.
//   - [Classic]: the weights of the Gateway API Inference Extension (queue 2, KV
//     cache 2, prefix cache 3), highest sum, ties at random. ClassicWithInFlight
//     adds this process's own in-flight requests, which makes it robust to slow
//     scraping.
//   - [DecisionTree]: the filter tree of the extension's version 0.3.
//   - [LeastRequests], [RoundRobinProfile], [RandomProfile]: baselines.
//
// or wire one by hand:
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
// or declare it: see [Registry.Load].
//
// Plugins without state are plain values and may be shared. Cost, PrefixCache, Ejection,
// SessionAffinity and PreviousAnswer learn from requests; each of their values belongs to
// one Scheduler, unless it is to share what it learned with another. What they learn of an
// endpoint they keep by its Load: see types.NewEndpoint.
//
// In all of them a figure that the server did not report, or that is too old, is
// unknown: scorers have no opinion then, and filters let the endpoint pass
// unless another is known to be better.
package plugins
