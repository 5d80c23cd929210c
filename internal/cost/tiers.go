package cost

import (
	"math"

	"github.com/inferpick/inferpick/types"
)

// TierPrices is what a prompt token costs that an engine reads from a tier below its GPU, as a part of
// what it costs to compute. The zero value has the prices that servers were measured to have: on an H200
// a token takes 19.4 us to compute, and 10.7 us to read from a peer's memory (llm-d's measurement); llm-d's
// scorer credits one in the host's memory with 0.8, Dynamo's with 0.75, and one on a disk with 0.25. Safe for
// concurrent use.
type TierPrices struct {
	learned [types.KVTiers + 1]Float // beyond the price at the start
}

// Peer is the tier of what another server holds, and an engine pulls from there.
const Peer types.KVTier = types.KVTiers

var startPrice = [types.KVTiers + 1]float64{types.KVCPU: .25, types.KVDisk: .75, types.KVRemote: .55, Peer: .55}

// pullOnce is what a pull from a peer takes besides its tokens, by the same measurement.
const pullOnce Seconds = .027

const (
	priceGain = .05 // of one answer; not varied
	mostPrice = 1   // who takes longer to read than to compute is no better than nothing
)

// Of returns the price of a tier, 0 to 1.
func (p *TierPrices) Of(t types.KVTier) float64 { return startPrice[t] + p.learned[t].Load() }

// Learn learns from a first token that came so many seconds later than expected, at the prices of now,
// of a prompt of which so many tokens were read from a tier; computing one takes perToken seconds.
func (p *TierPrices) Learn(t types.KVTier, tokens Tokens, late, perToken Seconds) {
	off := float64(late) / (float64(tokens) * float64(perToken))
	if math.IsNaN(off) || math.IsInf(off, 0) {
		return
	}
	p.learned[t].Update(func(v float64) float64 {
		return min(max(v+priceGain*min(max(off, -1), 1), -startPrice[t]), mostPrice-startPrice[t])
	})
}

// Worth returns how many of the blocks that are read from each tier would save as much if they were in
// the GPU.
func (p *TierPrices) Worth(blocks [types.KVTiers]int) Blocks {
	sum := 0.
	for t, n := range blocks {
		sum += float64(n) * (1 - p.Of(types.KVTier(t)))
	}
	return Blocks(sum)
}

// Pull returns how many more tokens a server is as good as having that holds some of a prompt and can pull what
// a peer holds, where computing one takes perToken seconds: 0 if computing them is no slower.
func (p *TierPrices) Pull(held, peer Tokens, perToken Seconds) Tokens {
	if perToken <= 0 {
		return 0
	}
	saved := (peer-held)*Tokens(1-p.Of(Peer)) - Tokens(pullOnce/perToken)
	return max(saved, 0)
}

// Lateness is by how much the first token of r came later than was expected when it was sent.
func (r *Request) Lateness() Seconds { return r.firstAfter - (r.predicted + r.work) }
