// Package bound computes latencies that no policy can go below: in a simulated case, with
// the future known, whichever server each request is sent to when it arrives. What is
// between a bound and the best policy is not known: some of it nobody can have.
//
//	b, err := bound.Of(config, end)
//	fmt.Println(report.E2E.Mean / b.E2E.Mean) // at least 1
//
// A policy here sends each job to one of the servers when it arrives, and all are served. Steps
// follow engine.Calibration: one of m decodes and k prefills with P tokens takes
//
//	dt = o + p(m+k) + h(m+P) + d·K + e·A, h(x) = √(w² + (c·x)²), over the server's speed.
//
// # Alone
//
// A job's first token takes at least both ways through the API and one step on the fastest
// server, with nothing else in it, of those tokens of its prompt that no other job has in
// common with it: a block can be cached only where somebody computed it. Several chunks take
// no less, as h(x) + h(y) ≥ √((2w)² + (c(x+y))²). Each later token takes at least a step of
// one decode. This holds for each job, and so for each percentile: of TTFT, TPOT and E2E.
//
// # Together
//
// Short steps are small ones, which spend more of the servers' time on each token; and of that
// there is only so much. Put a price λ on a second of it: a step of n jobs costs (n + λ)·dt, n
// for the jobs that wait for it and λ for the server. h is convex, and so never below a
// tangent, a + s·x, nor, with P tokens of prompts, below a + s·m + φ(P), where φ(P) is s·P up
// to where the tangent touches and h(P) - a beyond. φ is convex and 0 at 0: of several
// prefills it is no less than the sum of each. So the price of a step is at least the sum,
// over the jobs in it, of
//
//	κ = min over m of (m+λ)·((o + a)/m + p + s + d·context)   for each decode
//	π = o + a + (1+λ)·(p + φ(u) + e·pairs)                     for a prefill of u tokens
//
// (A prompt is cut only where a step is full, and so a token of it dear: prefill in price.go.)
// Jobs that count arrive after the warm-up. Of those that have ended by some moment C, the
// waiting, plus λ times the servers' time from warm-up to C, is at least the sum of κ and π
// over all their tokens, whatever else is in the steps. The others wait until C at least. So
// the sum of all end-to-end times is at least the sum of the lesser of both for each job,
// less λ·speeds·(C - warm-up): for any λ, C and tangent. The best that is found bounds
// E2E.Mean. (A server of another speed than 1 computes more or less in a second; jobs wait as on
// the fastest.)
//
// If nine in ten jobs have a time per token of at most y, their waiting is at most y for each
// token. So their κ less y for each token, plus the least that the tokens of the others cost
// in steps as large as one likes, must be paid by the servers' time until the run ends. If
// even the cheapest nine in ten cannot be, for any λ and tangent, the p90 is above y. This
// bounds percentiles of TPOT for policies that are done when the run is: one that may take for
// ever can be as gentle as it likes.
//
// # What it leaves out
//
// KV cache, slots of adapters, the rest of the step under way when a request comes, that a
// prefix is computed once on each server that serves it, and that prefills hold up the decodes
// beside them. The last is the most: without prompts, servers that are taken in turn are 1.01
// to 1.05 times the bound of E2E.Mean; with those of chats the best policy is 1.2 times at
// half load, and at high loads or with long prompts 1.4 to 1.9 times. TTFT knows nothing of
// load, and percentiles of E2E neither.
//
// Where APIs are late by chance, a first token may be later than the rest, and TPOT has no
// bound. A preempted request is taken to read its context in each step, of which its
// recomputation may spare it one: the one place where the proof has a gap.
package bound
