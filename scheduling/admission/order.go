package admission

import (
	"hash/maphash"
	"slices"

	"github.com/inferpick/inferpick/scheduling/admission/internal/fair"
	"github.com/inferpick/inferpick/types"
)

// orderOf returns Options as those of who goes first.
func orderOf(o *Options, seed maphash.Seed) fair.Config {
	c := fair.Config{
		MaxRequests: o.MaxRequests, MaxBytes: o.MaxBytes, MaxBands: o.MaxBands, MaxFlows: o.MaxFlows, FlowIdle: o.FlowIdle,
		OneFlow: o.Fairness == FirstCome, Credit: o.Credit, EarliestDeadline: o.Order == EarliestDeadline,
		InputWeight: o.InputWeight, OutputWeight: o.OutputWeight, OutputTokens: float64(o.OutputTokens),
		Programs: programsOf(o), MaxPrograms: o.MaxPrograms,
		Weights: make(map[string]float64, len(o.Tenants)),
	}
	for name, t := range o.Tenants {
		c.Weights[name] = t.Weight
	}
	for _, b := range o.Bands {
		c.Classes = append(c.Classes, fair.Class{Priority: b.Priority, MaxRequests: b.MaxRequests, MaxBytes: b.MaxBytes, Floor: b.Floor, Displace: b.Displace})
	}
	if o.Fairness == PrefixLocality {
		c.Quantum = o.Quantum
		c.Prefix = func(it *fair.Item) uint64 { return prefixOf(it.Of.(*Ticket).req, seed) }
	}
	return c
}

// programsOf says how the programs of a tenant share. Where tenants are not told apart, programs are not either: they
// would be of several tenants.
func programsOf(o *Options) fair.Programs {
	switch {
	case o.MaxPrograms < 0 || o.Fairness == FirstCome || o.Order == EarliestDeadline:
		return fair.NoPrograms
	case o.Order == LeastAttained:
		return fair.LeastAttained
	}
	return fair.ShareAlike
}

// prefixOf returns a number that prompts have in common that begin alike.
func prefixOf(req *types.Request, seed maphash.Seed) uint64 {
	const head = 1024 // bytes
	var h maphash.Hash
	h.SetSeed(seed)
	h.WriteString(req.Target())
	h.WriteString(req.CacheSalt)
	left, data := head, req.PromptData()
	for _, span := range req.Prompt.Spans {
		if span.Start < 0 || span.End > len(data) || span.Start > span.End {
			break
		}
		part := data[span.Start:span.End]
		part = part[:min(len(part), left)]
		h.Write(part)
		if left -= len(part); left == 0 {
			break
		}
	}
	return h.Sum64()
}

// class is what a band's requests go by: indices of the ceilings.
type class struct{ ceiling, modest int }

// ceilingsOf returns the ceilings of bands, each once, and where those of each band are.
func ceilingsOf(bands []Band) (ceilings []float64, classes []class) {
	index := func(ceiling float64) int {
		i := slices.Index(ceilings, ceiling)
		if i < 0 {
			i = len(ceilings)
			ceilings = append(ceilings, ceiling)
		}
		return i
	}
	for i := range bands {
		modest := index(bands[i].ModestCeiling)
		classes = append(classes, class{index(bands[i].Ceiling), modest})
	}
	return ceilings, classes
}

// BandCounts is what has happened at one priority since it was first seen.
type BandCounts struct {
	Dispatched uint64
	Cancelled  uint64
	Refused    map[Reason]uint64
	// Tokens is the weighted tokens of all that was let in. Elsewhere is those that other
	// gateways were heard to have let in, of tenants that have been here.
	Tokens, Elsewhere float64
}

func (n *BandCounts) refused(why Reason) {
	if n.Refused == nil {
		n.Refused = map[Reason]uint64{}
	}
	n.Refused[why]++
}

// bandInfo is what a band of the order has beside.
type bandInfo struct {
	label  *label
	counts BandCounts
}

// infoOf returns that of a band, and makes it if it is new.
func infoOf(b *fair.Band, bands []Band) *bandInfo {
	info, ok := b.Of.(*bandInfo)
	if !ok {
		info = &bandInfo{label: &label{bands[b.Class].Name, b.Priority}}
		b.Of = info
	}
	return info
}
