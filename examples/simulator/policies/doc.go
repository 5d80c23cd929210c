// Package policies holds the scheduling policies that the simulator compares:
// the rules of published routers, written as profiles over the same filters,
// scorers and pickers that anybody can write, beside the product's own.
//
//	chosen, err := policies.ByName("least-req,classic-223,dynamo")
//	for _, p := range chosen {
//		report, err := simulation.Run(ctx, simulation.Config{Policy: p, …})
//	}
//
// Each constructor states its source, the version read, the formula and the
// default parameters of that source, and where it deviates; README.md has the same
// as a table. There are no options: what is compared is a system as its authors
// ship it, and where other constants are better on the cases that the default was tuned
// on, also with these (tuned.go). Every call returns a profile of its own, with nothing
// shared, and policies draw from the request's randomness alone, so that a seed repeats
// a run.
//
// # What is the same for all
//
// Endpoints that are draining are left out, and so are those that fail, by
// plugins.Ejection, whatever the source does about them. Ties are broken at random, and
// two fallbacks are named, in the order of the rule. Nothing is shed: a policy that
// refuses requests looks better by what it does not serve, so admission is left out of
// the comparison, also for the product's profiles.
//
// A prompt is compared in blocks of 64 bytes, which stand for 16 tokens, wherever
// the source compares tokens or blocks of the engine.
//
// # What a policy may know
//
// Requests and uncached prompt tokens in flight are those of the gateway itself, in
// types.Load; queue, batch and KV cache are what the last scrape brought. What
// engines hold in their prefix caches is guessed from earlier decisions. The
// policies that are told exist in a simulation only. What no policy can go below,
// whatever it knows, is in package bound.
package policies
