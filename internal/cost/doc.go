// Package cost is the model by which plugins.Cost decides: what a request costs at a server, in
// seconds, for itself and for the others there. It has no clock and takes no lock. What is said
// to be safe for concurrent use is made of atomics; all else is guarded by its owner.
//
//	Model, Query, Place, Terms   what a decision asks, and the terms of the answer
//	Figures, Row                 what decisions read of a server, published without a lock
//	Server, Request, Reading     the state of a server: its requests, the rhythm of its steps, its readings
//	Learner, Fleet, Learned      how fast a fleet and its servers are, learned from how requests went
//	Adapters, AdapterNames       LoRA adapters and their slots
//	Crowd, HomeRank              who begins alike, and where a prompt is at home
//	Claims, Outputs, Usual       decisions under way, how long answers are, and what requests usually ask for
//	Diffusing, Backlog           diffusion models: how fast they are, and what they have to do
//
// Times are in seconds. Base seconds are what something would take on the reference engine;
// what is learned is by which factors a fleet differs from it, and a server from its fleet.
package cost
