// Package autoscale says how many replicas a pool needs, from what its gateway knows: what waits and what runs, in
// seconds of work by learned speeds, and how fast that comes and goes.
//
// What decides is pure: Desired is a function of Signals, Options and History. A Collector makes the Signals from the
// hooks of schedulers and the figures of admission controls; an Autoscaler asks both, for people, metrics, KEDA and
// peers.
//
// # Several gateways
//
// Each gateway knows what came to it, and whoever asks one of them is to hear of all. Options.Peers are the others:
// NotePeers tell each other through package sharing, HTTPPeers are asked. What each has of its own adds up (what is
// queued, runs, comes and goes); of what all see alike (replicas, KV caches, saturation) the larger counts; times of
// requests count by how many requests they are of.
//
// A part is never told as the whole. A peer that does not answer is taken to be as it was for ten seconds, and what one
// had that has gone fades away within as long; after that, and of one that never said anything, ErrPartial is the error,
// and a recommendation holds: so it does while gateways are updated from a version without this package.
package autoscale
