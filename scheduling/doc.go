// Package scheduling chooses, for one request, the model server that can serve
// it best.
//
// A [Profile] wires plugins together: each [Filter] strikes out endpoints that
// must not serve the request, each [Scorer] says from 0 to 1 how much it likes
// each of the rest, and one [Picker] chooses by the weighted sums. [New] checks
// the profile and returns a [Scheduler], whose two questions are
//
//   - [Scheduler.Schedule]: decide and book. The [Decision] names the endpoint
//     and ordered fallbacks; the ledger of the endpoint already counts the
//     request, so the next decision sees it. The caller reports back with
//     [Decision.FirstToken], [Decision.Retry] and [Decision.Done].
//   - [Scheduler.Explain]: the same computation, with nothing booked and every
//     term kept.
//
// Endpoints come from a datastore or, in gateways with a discovery of their own, from an
// [EndpointList]. docs/embed.md says which fields and calls a policy needs, and what is lost
// without each; [Hooks].Warned tells of some.
//
// A scorer of one's own:
//
//	type spareRoom struct{}
//
//	func (spareRoom) Score(_ context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
//		for i, ep := range eps {
//			scores[i] = 1 - ep.KVUsage(req) // NaN where the server did not say: no opinion
//		}
//		return nil
//	}
//
// The ready-made plugins are in package plugins; this package imports none of
// them. Package scheduling/schedulingtest checks that a plugin keeps its
// contract.
//
// # Shapes
//
// The interfaces that others implement have one method and get the whole list
// of candidates: a filled parallel slice costs a few nanoseconds an endpoint,
// where a map from endpoint to score costs hundreds. New powers come as further
// interfaces that a plugin may implement ([Tracker], [Forgetter], [Screener], [Ranker],
// [CacheEstimator], [Describer]). Plugins have no names: the wiring names them,
// so that one type may be wired twice.
//
// Randomness comes from the request ([types.Request.Rand]), seeded by the
// Scheduler for each call. With [Profile.Seed] set, the same calls in the same
// order give the same decisions, and Explain draws what the next Schedule will
// draw.
//
// There is no global state and no goroutine: any number of Schedulers live side
// by side, also over the same endpoints.
package scheduling
