package cost

import "math/bits"

// HomeRank is by how much a server is the home of a head: those with the highest rank are it
// (rendezvous hashing: Thaler and Ravishankar, IEEE/ACM Transactions on Networking 6(1), 1998).
// Gateways that know the same addresses agree on them without talking, and a server that comes
// or goes moves only its own share.
func HomeRank(head, place uint64) uint64 {
	hi, lo := bits.Mul64(head^place, 0x9e3779b97f4a7c15)
	return hi ^ lo
}

// Sure is how sure it is that prompts need a home, where others send such a part of the
// requests, 0 to 1: who is alone has no use for it.
func Sure(others float64) float64 { return others * others / (others*others + homeDoubt) }

// HomeShare is the largest part of the requests that may have one home in common, of so many
// that are in flight at so many servers.
func HomeShare(servers int, inFlight float64) float64 {
	return max(homePart/float64(servers), homeFlight/max(inFlight, homeFlight))
}

// Expected is what can be expected to be cached of a prompt at its home, where engines found so
// much of the prompts in their caches.
func (q *Query) Expected(reuse, sure float64) Tokens {
	return min(Tokens(reuse*float64(q.Prompt)*sure), q.Prompt-1)
}

// Heads counts how many prompts of late began alike: a table of fixed size without keys, as Crowd.
// What is in flight is too little to tell a system prompt from a conversation, where a gateway
// has but a few requests. The zero value is empty.
type Heads struct {
	counts [1 << crowdBits]float32
	one    float32 // what the next prompt counts: ever more, so that those before fade
	all    float32 // what all count together
}

// Add counts a prompt.
func (h *Heads) Add(hashes []uint64) {
	h.one = max(h.one, 1) * (1 + 1./headMemory)
	h.all += h.one
	for _, d := range depths {
		if d > len(hashes) {
			break
		}
		*h.at(hashes[d-1]) += h.one
	}
	if h.one < mostCount {
		return
	}
	for i := range h.counts {
		h.counts[i] /= mostCount
	}
	h.one /= mostCount
	h.all /= mostCount
}

func (h *Heads) at(hash uint64) *float32 { return &h.counts[hash>>(64-crowdBits)] }

// Homes returns where a prompt is at home among servers, of which places are the hashes, if at
// most the given share of the prompts may have one home in common. What more begin with has
// several homes, and what some of these go on with has its home among them: the common part is
// there.
func (h *Heads) Homes(hashes, places []uint64, share float64) (homes Homes) {
	one := max(float32(share)*h.all, leastSeen*h.one)
	left := float64(len(places))
	for _, d := range depths {
		if d > len(hashes) {
			break
		}
		n := float64(*h.at(hashes[d-1]) / one)
		if n <= 1 {
			homes.narrow(hashes[d-1], 1, places)
			break
		}
		if n *= homeSpare; n <= left/2 && homes.n < mostHeads-1 {
			left = n
			homes.narrow(hashes[d-1], n, places)
		}
	}
	return homes
}

// Homes are the servers where a prompt is at home. The zero value is that it has none.
type Homes struct {
	n     int
	heads [mostHeads]struct{ head, least uint64 } // least: rank
}

// Any reports whether there are any.
func (h *Homes) Any() bool { return h.n > 0 }

// Have reports whether a server is one of them.
func (h *Homes) Have(place uint64) bool {
	for i := range h.heads[:h.n] {
		if l := &h.heads[i]; HomeRank(l.head, place) < l.least {
			return false
		}
	}
	return h.n > 0
}

// narrow leaves about n of the homes, of all places if there are none yet: those of the highest
// rank for the head, and at least one.
func (h *Homes) narrow(head uint64, n float64, places []uint64) {
	top, all := uint64(0), 0
	for _, place := range places {
		if h.n == 0 || h.Have(place) {
			top = max(top, HomeRank(head, place))
			all++
		}
	}
	least := top
	if n > 1 {
		least = min(top, uint64(max(1-n/float64(all), 0)*0x1p64))
	}
	h.heads[h.n].head, h.heads[h.n].least = head, least
	h.n++
}
