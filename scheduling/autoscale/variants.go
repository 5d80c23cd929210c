package autoscale

import (
	"cmp"
	"slices"
)

// split says how many replicas of which kind there should be: of those that are there and start, the dearest go first
// and the cheapest come first, by what they cost for the work that they do. None goes of a kind of which some start.
func (l *law) split(r *Recommendation) {
	if len(l.Variants) == 0 {
		return
	}
	kinds := make([]kind, len(l.Variants))
	have, count := 0., 0 // work that they do, and how many they are
	for i, v := range l.Variants {
		does := l.does(&v)
		n := VariantReplicas{Name: v.Name, Replicas: v.Ready + max(v.Starting, 0)}
		k := kind{VariantReplicas: n, starts: v.Starting > 0, meets: does > leastDoes}
		k.does = max(does, leastDoes)
		k.price = v.CostPerHour / k.does
		have += float64(k.Replicas) * k.does
		count += k.Replicas
		kinds[i] = k
	}
	slices.SortFunc(kinds, func(a, b kind) int {
		return cmp.Or(cmp.Compare(a.price, b.price), -cmp.Compare(a.does, b.does), cmp.Compare(a.Name, b.Name))
	})
	want := float64(r.Replicas) - l.p.Slack
	cheapest := &kinds[max(slices.IndexFunc(kinds, func(k kind) bool { return k.meets }), 0)]
	for ; have < want && count < l.p.Max; have += cheapest.does {
		cheapest.Replicas++
		count++
	}
	least := min(l.p.Min, r.Replicas)
	for i := len(kinds) - 1; i >= 0; i-- {
		for k := &kinds[i]; k.Replicas > 0 && count > least && !k.starts && have-k.does >= want; have -= k.does {
			k.Replicas--
			count--
		}
	}
	for ; count < least; count++ {
		cheapest.Replicas++
	}
	r.Replicas = count
	for _, k := range kinds {
		r.Variants = append(r.Variants, k.VariantReplicas)
	}
	slices.SortFunc(r.Variants, func(a, b VariantReplicas) int { return cmp.Compare(a.Name, b.Name) })
}

// kind is the replicas of one kind.
type kind struct {
	VariantReplicas
	starts bool    // some do not serve yet
	meets  bool    // the target for the time per token
	does   float64 // work, of what a replica of mean speed does
	price  float64 // per hour, for what a replica of mean speed does
}

// leastDoes is what a kind does at least: less is taken for one that does not meet the target.
const leastDoes = .05

// does returns how much work a replica of a kind does, of what one of mean speed does, as prompts and answers are mixed
// now. A kind of which nothing is known does as much.
func (l *law) does(v *Variant) float64 {
	mean := l.h.Speed
	if !v.Speed.Known() || !mean.Known() {
		return 1
	}
	prompts := 1. // part of the work
	if work := l.ArrivalWork.Or(0); work > 0 {
		prompts = 1 - min(l.ArrivalOutput.Or(0)*mean.Sequence/work, 1)
	}
	longer := prompts * v.Speed.Token / mean.Token
	if mean.Sequence > 0 {
		longer += (1 - prompts) * v.Speed.Sequence / mean.Sequence
	} else {
		longer += 1 - prompts
	}
	usable := max(1-v.Speed.Step/l.TPOT.Target.Or(l.p.TPOT.Seconds()), 0)
	return usable / l.usable / max(longer, 1e-3)
}
