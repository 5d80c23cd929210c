// Package scheduling chooses the best model server for a request.
//
// A [Profile] combines plugins: each [Filter] removes endpoints that must not serve the request,
// each [Scorer] rates the rest from 0 to 1, and one [Picker] chooses by the weighted sums. [New]
// checks the profile and returns a [Scheduler] with two main methods:
//
//   - [Scheduler.Schedule] decides and books. The [Decision] names the endpoint and ordered
//     fallbacks; the endpoint's ledger already counts the request, so the next decision sees it. The
//     caller reports back with [Decision.FirstToken], [Decision.Retry] and [Decision.Done].
//   - [Scheduler.Explain] does the same computation, but books nothing and keeps every term.
//
// Endpoints come from a datastore or, in gateways with their own discovery, from an
// [EndpointList]. docs/embed.md lists the fields and calls that policies need, and what is lost
// without each; [Hooks].Warned reports some omissions.
//
// A custom scorer:
//
//	type spareRoom struct{}
//
//	func (spareRoom) Score(_ context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
//		for i, ep := range eps {
//			scores[i] = 1 - ep.KVUsage(req) // NaN if unknown: no opinion
//		}
//		return nil
//	}
//
// Ready-made plugins are in package plugins, which this package does not import. Package
// scheduling/schedulingtest checks that a plugin fulfills its contract.
//
// # Design
//
// Plugin interfaces have one method, which gets the whole list of candidates: filling a parallel
// slice costs a few nanoseconds per endpoint, a map from endpoints to scores hundreds. Further
// capabilities are optional interfaces ([Tracker], [Forgetter], [Screener], [Ranker],
// [CacheEstimator], [Describer] and others). Plugins have no names; the profile names them, so that a
// type can be used twice.
//
// Randomness comes from the request ([types.Request.Rand]), seeded by the Scheduler for each call.
// With [Profile.Seed] set, the same calls in the same order give the same decisions, and Explain
// draws the same numbers as the next Schedule.
//
// There is no global state, and no goroutine is started: any number of Schedulers can coexist, also
// over the same endpoints.
package scheduling
