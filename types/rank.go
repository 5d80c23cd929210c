package types

import (
	"fmt"
	"strconv"
)

// LimitRanks is how many data-parallel ranks a server may have.
const LimitRanks = 4096

// Rank is the place of an endpoint among the data-parallel ranks of a server that has all of them
// behind one address: engines with a batch and a KV cache of their own, one of which serves a request as
// a whole. The zero value is an endpoint that is all of its server. Ranks with ports of their own are
// servers of their own, and need none.
type Rank struct {
	Index int // from 0, as the engine counts them
	Of    int // how many the server has, over all of its hosts; 0: the endpoint is no rank
}

// IsSet reports whether r is a rank.
func (r Rank) IsSet() bool { return r != Rank{} }

// Validate returns what is wrong with r, nil for the zero value.
func (r Rank) Validate() error {
	switch {
	case !r.IsSet():
		return nil
	case r.Of < 1 || r.Of > LimitRanks:
		return fmt.Errorf("types: rank %d of %d: want 1 to %d ranks", r.Index, r.Of, LimitRanks)
	case r.Index < 0 || r.Index >= r.Of:
		return fmt.Errorf("types: rank %d of %d: want a rank from 0 to %d", r.Index, r.Of, r.Of-1)
	}
	return nil
}

// HeaderRank is the header of a request by which vLLM is told which of its ranks is to serve it.
const HeaderRank = "X-Data-Parallel-Rank"

// RankHeader returns the header by which a request says to a server of vLLM's API that it is for e, and
// false if e is not a rank. Whoever sends the request sets it, in place of any that a client sent; SGLang
// wants Rank.Index in the body instead, as routed_dp_rank.
func (e *Endpoint) RankHeader() (name, value string, ok bool) {
	if !e.Rank.IsSet() {
		return "", "", false
	}
	return HeaderRank, strconv.Itoa(e.Rank.Index), true
}
