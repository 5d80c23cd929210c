// Package rollout moves traffic from one target model to another, step by step, and judges the new one by how its
// requests end: a canary. It is meant for LoRA adapters, and works for whatever a model name can be mapped to.
//
//	{"stable": "sql-v1", "canary": "sql-v2", "load": {"source": "/adapters/sql-v2"}}
//
// is a whole plan ([Plan], read by [DecodePlan]): load sql-v2 on each server of the pool, then give it 1, 5, 25, 50 and
// 100 % of the requests, each for at least 5 minutes and until it is shown to be as good as sql-v1. If it is worse,
// sql-v1 gets everything back at once.
//
// What decides is pure: a [Machine] is told what has happened (Observe) and what the world is like (Tick), both with
// the time, and says what to do. A Controller is the thin part around it: it loads adapters ([Loader]), writes weights
// and state in one step ([Home]), and hears what other gateways saw ([Window]).
//
// # The machine
//
//	            enough servers have it        as good as the stable one, pause over
//	[Loading] ─────────────────────▶ [Stepping] ──▶ the next step … ──▶ 100 %, judged too
//	  │    ▲                           │    │                                │
//	  │    └── no server has it any ───┘    │ worse, or somebody says so     │ good
//	  │        more: weights go back        ▼                                ▼
//	  │ cannot be loaded              [Aborting]                        [Finishing]
//	  │                                     │ its last request has ended     │ the stable one's last
//	  ▼                                     ▼ (unload, if the plan says)     ▼ request has ended
//	[Failed] ◀──────────────────────────────┘                             [Done]
//
// Beside its phase a rollout may be paused (State.Paused: by a person, or because somebody else has changed the
// weights) or held (State.Holding: too little traffic, too few servers, the environment in trouble). Retry leads from
// Failed back to Loading.
//
// What always holds, whatever fails and whoever interferes (TestChaos):
//
//   - Weights sum to [TotalWeight], and rise only from step to step. After an abort they do not rise, until Retry.
//   - An abort is one write, which is tried until it is done.
//   - What somebody else writes is not overwritten, until a person says so. There is one writer: each write is based on
//     the revision that was read, and a machine that finds a later state of its plan goes on from there.
//   - A target is unloaded only after it has had no requests for LoadPlan.Grace.
//   - The canary has traffic only when a ready server has it.
//   - Without traffic nothing passes, and nothing fails but by Plan.Deadline with [Abort].
//   - A machine restored from its state comes to the same end. What a step had shown is begun anew.
//
// # What is judged
//
// Each [Metric] compares the canary with the stable target in the same time, on the same servers, and is failed,
// passed, or unsure, which waits ([Verdict]). [SampleOf] says which requests count.
//
// Shares (errors, empty) are compared by Newcombe's interval of a difference, made of two of Wilson's, which holds for
// small numbers: 0 of 381 against 0 of 1000 is shown to be less than 1 point more, 0 of 300 is not; 3 of 20 against
// 0 of 1000 is more. It passes when the interval of 95 % is below the limit, and fails when that of 3.3 standard
// deviations is above it and Fisher's exact test agrees: the canary is looked at again and again, though only when it
// has had a quarter more requests than at the last look.
// A 4xx other than a 429, or a 404 of a model that is not there, is its client's fault, and counts only if the canary
// refuses most requests, by more than half of all than the stable target. So it is with answers that cannot be read.
//
// Times (ttft, tpot) are compared by their 90th percentiles, whose intervals are those of order statistics, which ask
// for no shape of a distribution. It fails when the lower end of the canary's is above MaxRatio times the upper end of
// the other's. Canaries have colder caches, so that first tokens are compared among requests of which as much of the
// prompt had to be computed (strata, by doublings), and only from 5 % of the traffic on, because a server that sees an
// adapter seldom loads it into a slot anew. Where servers do not report cached tokens it is judged from 50 % on.
//
// Of answers that are not streamed only the whole time is known (ntpot): it is compared for each token of the answer,
// among answers of about the same length with about as much of the prompt to compute for each token, and of answers
// without known tokens, such as embeddings, among those of about the same size. Waiting and the prompt are in it, so
// that MaxRatio is 1.5. Streams, or whole answers, that are fewer than a tenth of the others
// are not judged.
//
// A hard stop needs no interval: at least 5 and more than half of the last 64 requests of the canary have failed, each
// at a time when the stable target was well. It is seen at the request itself, and by whichever gateway it befalls.
//
// If the stable target is bad too (10 % of its requests have failed), the servers are full, or half of them are not
// ready, nobody is blamed: it is held, and what was seen in that time is forgotten. An adapter that makes servers fail
// for all who use them is therefore held, not aborted: the plan's Deadline and a person decide.
//
// At 100 % there is nobody to compare with. Shares are judged by what was seen of the stable target in all steps
// before; for times there is a warning only, since the load may have changed. In a time in which all fails the canary is
// aborted then, for nobody can tell whose failures they are. Of the lengths of answers and how they end there is a
// warning in each step.
//
// # How sure that is
//
// Simulated with log-normal times, whose mean changes with the load of the pool, and in part with colder caches and
// with bursts of failures of both: of 1,000 rollouts of a canary that is as good as the stable target, at most 10 are
// aborted (TestIdenticalCanary). With the default steps it was 9 of 4,000, 6 of them in the 1,000 in which 5 % of all
// requests failed anyway.
//
// Within so many requests of the canary 95 of 100 bad ones are stopped (TestFinds), by the weight of the canary:
//
//	                                        1 %    5 %   25 %   50 %
//	5 points more errors, none before        400    400    700    900
//	5 points more errors, 2 % before        1000   1000   1300   2000
//	1.5 times the time per token             200    200    400    800
//	2 times                                   60     60    160    400
//	1.5 times the time to first token          -   2000   2800   4500
//	2 times                                    -    400    600   1000
//	2 times the whole time, not streamed       -    200    300    600
//	all requests fail                          5      5      5      5
//
// At 50 % more are needed, because both targets have as few.
//
// # Sources
//
// E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
// R. G. Newcombe, "Interval estimation for the difference between independent proportions", Statistics in Medicine 17
// (1998), method 10. R. A. Fisher, "The Design of Experiments" (1935). R. S. Woodruff, "Confidence intervals for
// medians and other position measures", JASA 47 (1952). H. A. David, "Order Statistics" (1970). The words of plans are those of
// Argo Rollouts.
package rollout
