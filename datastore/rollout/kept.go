package rollout

import (
	"cmp"
	"slices"
)

// Kept sums up what a window has of the stable target, in little: of histograms the quantiles of keptLevels.
type Kept struct {
	Requests int `json:"requests"`
	Errors   int `json:"errors,omitempty"`
	Told     int `json:"told,omitempty"`
	Empty    int `json:"empty,omitempty"`
	Blind    int `json:"blind,omitempty"`
	// TTFT is by stratum, of the keptStrata that have most; TPOT and Length have at most one.
	TTFT   []KeptTimes `json:"ttft,omitempty"`
	TPOT   []KeptTimes `json:"tpot,omitempty"`
	Length []KeptTimes `json:"length,omitempty"`
}

// KeptTimes is a histogram in little: its stratum, how many values it has, and the buckets of their quantiles.
type KeptTimes [2 + len(keptLevels)]int

var keptLevels = [...]float64{.1, .5, .75, .9, .95, .99}

const (
	keptStrata = 8
	keptMost   = 10_000 // values of a histogram: more would make nothing surer
	// keptLeast is how many requests make a window worth keeping.
	keptLeast = 50
)

// keep sums up c, and what was kept before: the shares of both, the times of c alone. It returns before if c has too
// little.
func keep(before *Kept, c *Counts) *Kept {
	if c.Requests < keptLeast {
		return before
	}
	k := &Kept{
		Requests: c.Requests, Errors: c.Errors, Told: c.Told, Empty: c.Empty, Blind: c.Blind,
		TTFT: c.ttft.keep(), TPOT: c.tpot.keep(), Length: c.length.keep(),
	}
	if before != nil && before.Requests+k.Requests <= mostCounted {
		k.Requests += before.Requests
		k.Errors += before.Errors
		k.Told += before.Told
		k.Empty += before.Empty
	}
	return k
}

func (s *strata) keep() []KeptTimes {
	var all []KeptTimes
	for i, h := range s {
		if h == nil || h.n == 0 {
			continue
		}
		k := KeptTimes{i, min(h.n, keptMost)}
		one := only(h)
		for j, level := range keptLevels {
			k[2+j] = one.at(level)
		}
		all = append(all, k)
	}
	slices.SortStableFunc(all, func(a, b KeptTimes) int { return cmp.Compare(b[1], a[1]) })
	all = all[:min(len(all), keptStrata)]
	slices.SortFunc(all, func(a, b KeptTimes) int { return cmp.Compare(a[0], b[0]) })
	return all
}

// counts returns what was kept as counts like those that it was made of. A nil Kept has none.
func (k *Kept) counts() *Counts {
	c := new(Counts)
	if k == nil {
		return c
	}
	c.Requests, c.Errors, c.Told, c.Empty, c.Blind = k.Requests, k.Errors, k.Told, k.Empty, k.Blind
	c.ttft.restore(k.TTFT)
	c.tpot.restore(k.TPOT)
	c.length.restore(k.Length)
	return c
}

// restore spreads the values between two quantiles evenly over the buckets between them.
func (s *strata) restore(all []KeptTimes) {
	for _, k := range all {
		h := new(histogram)
		s[k[0]] = h
		n, from, done := k[1], k[2], 0
		for j, next := range keptLevels {
			to := k[2+j]
			upTo := int(next * float64(n))
			if next == keptLevels[len(keptLevels)-1] {
				upTo = n
			}
			for i := done; i < upTo; i++ {
				h.countAt(from+(to-from)*(i-done+1)/(upTo-done), 1)
			}
			done, from = upTo, to
		}
	}
}

// check reports whether it can be what keep has made.
func (k *Kept) check() bool {
	if k == nil {
		return true
	}
	ordered := 0 <= k.Errors && 0 <= k.Empty && k.Empty <= k.Told && 0 <= k.Blind && k.Errors <= k.Requests
	return ordered && k.Told <= k.Requests-k.Errors && k.Blind <= k.Requests-k.Errors && k.Requests <= mostCounted &&
		checkKept(k.TTFT, maxStrata) && checkKept(k.TPOT, 1) && checkKept(k.Length, 1)
}

func checkKept(all []KeptTimes, most int) bool {
	last := -1
	for _, k := range all {
		if k[0] <= last || k[0] >= most || k[1] < 1 || k[1] > keptMost {
			return false
		}
		last = k[0]
		before := 0
		for _, b := range k[2:] {
			if b < before || b >= buckets {
				return false
			}
			before = b
		}
	}
	return len(all) <= keptStrata
}
