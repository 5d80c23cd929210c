package plugins

import (
	"github.com/inferpick/inferpick/internal/prefixindex"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// outputLengths is how long the answers of each model and tenant were so far. It is a
// table of fixed size without keys, since tenants are named by clients: two that meet
// in it share their mean.
type outputLengths struct {
	all    mean
	models [1 << 8]mean
	pairs  [1 << 12]mean
}

// mean is a mean of the last few hundred values, over all of them at first.
type mean struct{ value, n float32 }

const (
	outputMemory = 200
	// outputPrior is how many answers of the wider group weigh as much as one's own.
	outputPrior = 10
)

func (m *mean) add(v float32) {
	m.n = min(m.n+1, outputMemory)
	m.value += (v - m.value) / m.n
}

// from mixes the mean with that of a wider group.
func (m *mean) from(wider float32) float32 {
	return (m.n*m.value + outputPrior*wider) / (m.n + outputPrior)
}

func (o *outputLengths) of(req *types.Request) (model, pair *mean) {
	m := prefixindex.Seed(req.Target())
	p := prefixindex.Seed(req.Target(), req.FairnessID)
	return &o.models[m>>(64-8)], &o.pairs[p>>(64-12)]
}

// expect returns the tokens to expect.
func (o *outputLengths) expect(req *types.Request) float64 {
	model, pair := o.of(req)
	n := float64(pair.from(model.from(o.all.from(scheduling.DefaultOutputTokens))))
	if req.MaxTokens > 0 {
		n = min(n, float64(req.MaxTokens))
	}
	return max(n, 1)
}

func (o *outputLengths) add(req *types.Request, tokens float64) {
	model, pair := o.of(req)
	v := float32(tokens)
	o.all.add(v)
	model.add(v)
	pair.add(v)
}
