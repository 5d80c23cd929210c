// Package simulation is a deterministic discrete-event simulator of a fleet of
// LLM model servers behind gateways that schedule with the real code: the same
// Scheduler, plugins, ledgers and prefix index that serve traffic, under a
// simulated clock and with readings that are as late as scraping makes them.
//
// It answers what a change of policy does to latency, in seconds and without a
// GPU, the same on every machine:
//
//	report, err := simulation.Run(ctx, simulation.Config{
//		Fleet:    simulation.Uniform(10, engine.Config{}),
//		Workload: simulation.ShareGPT{Rate: 200},
//		Policy:   simulation.Policy{Name: "classic", Profile: plugins.Classic},
//		Duration: time.Minute,
//	})
//	fmt.Println(report.TTFT.P90)
//
// A [Config] is a [Fleet] of replicas, each a package engine Engine; a [Spec] of a
// workload, which makes a stream of [Job] values from a seed; a [Policy]; and how
// the gateways see the fleet. [Run] plays it and returns a [Report]. Package
// modelserver serves one engine over HTTP instead, in real time, as vLLM would.
//
// # What a policy sees
//
// A policy is a scheduling.Profile. It sees what a gateway sees: the request's
// prompt (as bytes, so that prefixes can be hashed), the readings of the last
// scrape, the ledger of what this gateway sent, and outcomes. Output lengths, the
// engines' state and the future are not reachable from there, but for those that are
// made as Policy.Clairvoyant.
//
// # Every kind of work
//
// Jobs may have pictures, sounds and films in their prompts ([Media], [ImageChat], [Transcription]), which the encoder of an
// engine turns into tokens; ask for a batch of texts to be embedded ([Embeddings]); or ask a diffusion model for
// pictures and films ([Diffusion], [Video]), of replicas with Diffusion. Policies see of that what a request parser would fill
// in. Jobs whose answer comes all at once are in Report.Latency, and not in TTFT. In place of a medium's data the
// prompt has four bytes for each of its tokens, as for text, so that what part of a prompt is alike
// is the same in bytes and in tokens.
//
// # Two servers for one job
//
// Replicas with a Role may compute prompts for others: where the profile has a
// scheduling.Splitter that says so, a job is served by two, with Config.Links between them.
// Report.Apart has how many were, and what it took.
//
// # Several gateways
//
// Each of Config.Gateways has a scheduler, readings and ledgers of its own. Those of a Policy with a Sharer tell each
// other what they know; Config.Sharing is what becomes of their messages, and Config.Faults of gateways. In the
// end, when nothing is under way and messages come, no gateway may believe that others have anything: Run checks it.
//
// # Replicas that come and go
//
// With Config.Scaling the number of replicas follows a [Scaler], which sees what a pool's metrics, gateways and cluster
// tell, and is asked as often as a controller is. New replicas take minutes until they serve; removed ones end what they
// have. Report.Scaling has what it cost.
//
// # Time
//
// Times of the simulation are durations since its start. A Job that arrives at a
// gateway is scheduled at once and submitted to the engine APIIn later; a token
// that leaves the engine reaches the client APIOut later.
//
// Simulated latencies compare policies; they are not to be quoted as measured.
package simulation
