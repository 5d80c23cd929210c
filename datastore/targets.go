package datastore

import (
	"math"
	"math/rand/v2"

	"github.com/inferpick/inferpick/types"
)

// targets are weighted names to draw from.
type targets struct {
	all      []target
	weighted bool // one has a weight
	total    int  // sum of the weights
}

type target struct {
	name   string
	weight int
	hash   uint64 // of the name, for sessions
}

func (t *targets) add(name string, weight *int32) {
	one := target{name: name, hash: hashString(fnvOffset, name)}
	// A name that occurs twice must count twice.
	for _, other := range t.all {
		if other.name == name {
			one.hash = mix(one.hash)
		}
	}
	if weight != nil {
		one.weight = int(*weight)
		t.weighted = true
	}
	t.all = append(t.all, one)
}

// finish settles the weights: if no target has one, all are equal; otherwise those without are
// never drawn.
func (t *targets) finish() {
	eligible := t.all[:0]
	for _, one := range t.all {
		if !t.weighted {
			one.weight = 1
		}
		if one.weight > 0 {
			eligible = append(eligible, one)
			t.total += one.weight
		}
	}
	t.all = eligible
}

// draw returns a target at random, in proportion to the weights; false if there is none. A nil
// rnd means math/rand/v2.
func (t *targets) draw(rnd *types.Rand) (string, bool) {
	if len(t.all) <= 1 {
		return t.only()
	}
	var n int
	if rnd != nil {
		n = rnd.IntN(t.total)
	} else {
		n = rand.IntN(t.total)
	}
	for i := range t.all {
		if n < t.all[i].weight {
			return t.all[i].name, true
		}
		n -= t.all[i].weight
	}
	return "", false
}

// drawSession returns the target of a session, always the same one, in proportion to the weights
// over all sessions. If weights or targets change, as few sessions as possible move. This is
// rendezvous hashing (Thaler, Ravishankar, 1998) with weights (Schindelhauer, Schomaker,
// "Weighted distributed hash tables", SPAA 2005): each target draws a time, exponentially
// distributed with its weight as rate, and the earliest wins.
func (t *targets) drawSession(session, model string) (string, bool) {
	if len(t.all) <= 1 {
		return t.only()
	}
	key := hashString(mix(hashString(fnvOffset, session)), model)
	first, best := -1, math.Inf(1)
	for i := range t.all {
		u := (float64(mix(key^t.all[i].hash)>>11) + 0.5) / (1 << 53)
		if time := -math.Log(u) / float64(t.all[i].weight); time < best {
			first, best = i, time
		}
	}
	return t.all[first].name, true
}

func (t *targets) only() (string, bool) {
	if len(t.all) == 0 {
		return "", false
	}
	return t.all[0].name, true
}

// hashString continues a 64-bit FNV-1a hash. It must be the same in all processes: gateways
// agree about a session without communicating.
func hashString(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 0x100000001b3
	}
	return h
}

const fnvOffset = 0xcbf29ce484222325

// mix is the finalizer of SplitMix64. It spreads a hash over all bits: in FNV the high ones of
// short strings hardly differ.
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
