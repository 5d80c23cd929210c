// Package prefixindex estimates which endpoint holds which beginnings of prompts
// in its KV cache, from what was sent where.
//
//	x, err := prefixindex.New(prefixindex.Options{})
//	a := x.Add()
//
//	h := x.Hasher(prefixindex.Seed(model, adapter, salt))
//	for _, span := range prompt {
//		hashes = h.Append(hashes, span)
//	}
//	n := x.Match(hashes, out) // out[slot]: leading blocks held there
//	x.Record(a, hashes)       // it goes to a, which will hold all of it
//
// # Hashes
//
// A prompt is cut in blocks of Options.BlockBytes; a Hasher gives each the hash
// of the block and of all before it. Equal hashes therefore mean equal prompts up
// to there, and one hash is all that is needed to find a place in the tree.
//
// # Tree
//
// The index is a path-compressed radix tree. A node is a run of blocks without
// a branch. It is found by the hash of its first block, in one table for the
// whole tree, so that no node has a map of its children; how far a prompt follows a
// run is found by bisection, since chained hashes that agree somewhere agree
// everywhere before.
//
// A node lists its holders by slot, each with the number of blocks of the run
// that it holds. What an endpoint holds is prefix-closed: who holds a block holds
// all before it, because an engine cannot use it otherwise. So the holders of a
// node are among the holders of its parent, and where they are as many they are
// the same: Match then skips the parent, and a conversation of many nodes on
// every endpoint costs hardly more than one node.
//
// Who holds less of a run than another does not split it; only prompts that part
// do, and the endpoint that uses the beginning of a run whose rest it holds
// unused. A split makes the new node of the upper part, so that the children of
// the old one stay where they are. A run without children grows in place, as
// conversations do, and is trimmed to what is held. A node whose other branches
// have gone is joined with its only child once their ages agree for every
// endpoint, if those are few.
//
// # Eviction
//
// Each endpoint has a capacity in blocks and drops the least recently used beyond
// it: the block whose last Record is longest ago, of those of one Record the
// deepest. This is exact, block by block, and does not depend on how other
// endpoints' prompts split the tree. It needs one entry for an endpoint and node
// only: all that an endpoint holds of a node was used at the same time, and a
// Record moves its entries to the front of the endpoint's list deepest first,
// so an ancestor is always more recent than its descendants and the last of the
// list is a leaf, whose tail is cut.
//
// Memory is bounded for the whole index. When over, whole entries go, the least
// recent of all endpoints first. The account covers what is allocated with its
// rounding and spare room, not only what is in use.
//
// # Costs
//
// Runs, lists of holders and table parts are plain slices without pointers;
// nodes and entries lie in chunks and name each other by number. The collector
// has one pointerful chunk to look at for 256 nodes. Record holds the lock alone,
// Match and MatchOne share it.
//
// Without children lists there is no way down from a node. Truncate, the only
// one to need it, passes over the endpoint's own entries instead.
package prefixindex
