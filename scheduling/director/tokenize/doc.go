// Package tokenize asks engines for the token ids of prompts, for director.Options.Tokenize:
//
//	tokens, err := tokenize.New(tokenize.Options{})
//	d, err := director.New(director.Options{Store: store, Scheduler: scheduler, Tokenize: tokens.Of})
//
// Together with kvevents.Options.Tokens and plugins.KVOptions.Model, what engines tell of their caches
// is known of each prompt to the block, without sessions and without anything to be learned.
//
// It speaks vLLM's /tokenize, which takes the bodies of chats and completions as they are. A decision waits
// for an answer no longer than Options.Budget. What comes later is remembered: a prompt that begins like one
// that is known has at least the token ids of that beginning then.
package tokenize
