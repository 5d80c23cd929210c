package cost

import "math/bits"

// HomeRank is by how much a server is the home of a head: the one with the highest rank
// is it (rendezvous hashing: Thaler and Ravishankar, IEEE/ACM Transactions on Networking
// 6(1), 1998). Gateways that know the same addresses agree on it without talking, and a
// server that comes or goes moves only its own share.
func HomeRank(head, place uint64) uint64 {
	hi, lo := bits.Mul64(head^place, 0x9e3779b97f4a7c15)
	return hi ^ lo
}

// Sure is how sure it is that prompts need a home, where others send such a part of the
// requests, 0 to 1: who is alone has no use for it.
func Sure(others float64) float64 { return others * others / (others*others + homeDoubt) }

// Expected is what can be expected to be cached of a prompt at its home, where engines found so
// much of the prompts in their caches.
func (q *Query) Expected(reuse, sure float64) Tokens {
	return min(Tokens(reuse*float64(q.Prompt)*sure), q.Prompt-1)
}
