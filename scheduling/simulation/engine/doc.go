// Package engine is a deterministic model of a continuous-batching inference
// engine: what vLLM's V1 scheduler does, reduced to what a router can feel.
//
// Nothing here talks to a network, reads a clock or starts a goroutine. Time
// is a value: whoever drives an [Engine] says what time it is and is told how
// long the step takes.
//
//	e, err := engine.New(engine.Config{})
//	err = e.Submit(engine.Request{ID: 1, Prompt: 100, Output: 3})
//	for now := time.Duration(0); ; {
//		step, ok := e.Step(now)
//		if !ok {
//			break // idle
//		}
//		now += step.Duration
//		for _, ev := range step.Events {
//			// a token left the engine at time now
//		}
//	}
//
// A server sleeps for step.Duration between the calls; a discrete-event
// simulator jumps. The same calls give the same answers on every machine.
//
// # What is modelled
//
// Each step schedules the running sequences first, in the order of their
// admission, then the waiting ones, first come first served, within a budget
// of tokens: prompts are cut in chunks to fit. KV cache is handed out in blocks
// of [BlockTokens] tokens. When it runs out, the sequence admitted last goes
// back to the head of the queue and is computed again later. Blocks with a
// known content hash are shared between sequences and stay hittable after they
// were freed, until they are needed: the longest unused one goes first, and the
// tail of a sequence before its head. LoRA adapters occupy slots and take time
// to load. The duration of a step follows a [Calibration] and, on
// request, [Noise], which is the same for the same seed.
//
// Media of a prompt go through an encoder, in the step in which the first of their tokens is
// scheduled: all that is in the step waits for it. It keeps what it made, within Config.EncoderCache, and encodes
// no more in a step than Config.EncoderBudget; media that the prefix cache covers cost nothing. Requests that Pool have
// their prompt computed, and end with that.
//
// A [Diffusion] is the engine of a diffusion model: jobs one after the other, pass by pass.
//
// In disaggregated serving one engine computes a prompt, a request with Pin, and
// another one the output, the same request with Remote. What is between the two, the
// way there and the transfer, is the caller's:
//
//	prefill.Submit(engine.Request{ID: 1, Prompt: 5000, Output: 1, Pin: true})
//	// its token left: the prefill is done
//	prefill.Hold(1) // false: the lease has ended
//	decode.Submit(engine.Request{ID: 1, Prompt: 5000, Output: 250, Remote: true})
//	// it is in Step.Admitted: begin to transfer what it lacks
//	decode.Received(1) // the transfer has ended
//	prefill.Release(1)
//
// New requests are seen by the step after the one under way, and [Metrics]
// change at the end of a step only, as they do in the real engine.
package engine
