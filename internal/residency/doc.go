// Package residency keeps which blocks of KV cache engines say that they hold, and which blocks of
// prompts these are.
//
// An engine names its blocks by hashes of tokens, which nobody else can compute; a prefix index names
// blocks of prompts by hashes of bytes. The two are bound to each other by what is seen of both: a
// request whose bytes are known and whose id the engine repeats in the events that it causes.
//
// # Blocks
//
// A block is known by its hash, and knows the one before it; so a prompt is a path from a block
// without parent. It lists who holds it, in which tiers. Blocks that nobody holds are forgotten, those
// that are bound after a while only, since a prompt that was evicted comes back.
//
// # Binding
//
// A prompt of X bytes has T tokens, as the engine counts them. Its engine blocks end at known tokens,
// its byte blocks at known bytes; in between, tokens are taken to be as long as on average. That is
// exact at both ends of a prompt, and it is made exact where it matters most, where prompts part:
// how many blocks two prompts have in common is known in both worlds, so the end of what they have
// in common is an anchor. Between anchors the lengths are those of the text between them.
//
// Where nobody says how many tokens a prompt has, the events of a long enough answer show it, to within half
// a block: from where it begins, blocks are told of one by one.
//
// Equal prompts have equal hashes on all servers if the engines hash alike, so that one binding
// serves all of them, also for what they were sent by others. Where they do not, each binds its own.
//
// Where events bring token ids, and prompts are given as such, none of this is needed: a block of the engine
// is a block of text then, whose hash its tokens and that of the one before it give.
//
// # What comes out
//
// Changes, in blocks of prompts, tier by tier, as a prefix index takes them. An endpoint holds what is
// complete up to the end of its last block with all of those before.
package residency
