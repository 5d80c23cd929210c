// Package autoscale says how many replicas a pool needs, from what its gateway knows: what comes, waits and runs, in
// seconds of work by learned speeds, and against the targets that requests have.
//
//	c, err := autoscale.NewCollector(autoscale.CollectorOptions{Pools: pools, Speeds: autoscale.SpeedsOf(profile)})
//	profile.Hooks = c.Hooks(pool, profile.Hooks) // of the pool's scheduler
//	o.Hooks = c.AdmissionHooks(pool, *o)         // of its admission control, if it has one
//	a, err := autoscale.New(autoscale.Options{Collector: c})
//	go a.Run(ctx)
//	…
//	r, err := a.Desired(ctx, pool)
//
// gateway.Options.Autoscale does all of this. Nothing here starts or stops a server: what is recommended is for an
// autoscaler to ask for (an external scaler of KEDA, Prometheus, GET /autoscale), or for a program.
//
// # Work
//
// A server takes Token seconds for a prompt token, and for a step of n requests that decode Step + n·Sequence seconds
// (types.Speed). So a request is worth
//
//	(prompt tokens that are not cached)·Token + (tokens of output)·Sequence
//
// seconds of a replica, whatever it is together with; what comes of that in a second is ArrivalWork. The fixed part of
// steps is shared by all that are in one. With a target of τ for the time per token, of each second Step/τ goes to it
// at most, and 1−Step/τ is left for work; with n places for requests and D tokens of output per second it takes
// Step·D/n replicas. Speeds are learned by the plugin that decides by them (plugins.Cost), or by the Collector.
//
// # The law
//
// Desired asks five terms, each for a number of replicas, and takes the largest: see docs/autoscaling.md for the
// formulas. More replicas are recommended at once, within a bound on the step; fewer when nothing has asked for more
// for as long as a window, which follows the time that a replica takes to start. What is not known is not 0: a term
// without figures has no opinion, and where too little is known, or a gateway did not answer, no fewer are recommended
// than before. It is a pure function of Signals, Policy and History, and says which term ruled and why.
//
// # Several gateways
//
// Each knows what it has queued and sent itself; the Autoscaler asks its Peers and adds up what is theirs (Merge):
// NotePeers tell each other through package sharing, HTTPPeers are asked. What is queued, runs, comes and goes adds up;
// of what all see alike (replicas, KV caches, saturation) the larger counts; times of requests count by how many
// requests they are of.
//
// A part is never taken for the whole. A peer that does not answer is taken to be as it was for ten seconds, and what
// one had that has gone fades away within as long; after that, and of one that never said anything, ErrPartial says so,
// and a recommendation holds: so it does while gateways are updated from a version without this package.
package autoscale
