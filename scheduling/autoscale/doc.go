// Package autoscale says how many replicas a pool needs, from what its gateway knows: what waits and what runs, in
// seconds of work by learned speeds, and how fast that comes and goes.
//
// What decides is pure: Desired is a function of Signals, Options and History. A Collector makes the Signals from the
// hooks of schedulers and the figures of admission controls; an Autoscaler asks both, for people, metrics, KEDA and
// peers.
package autoscale
