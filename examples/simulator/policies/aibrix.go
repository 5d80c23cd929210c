package policies

import (
	"cmp"
	"context"
	"math"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Defaults in the code of AIBrix's gateway plugins. Its README has others: 16
// requests and 2 standard deviations.
var aibrixDefaults = aibrixLimits{imbalance: 8, deviations: 1}

// aibrixLimits are what the rule compares with.
type aibrixLimits struct {
	imbalance  float64 // difference in running requests above which only load counts
	deviations float64 // standard deviations above the mean that a matched pod may have
}

const (
	aibrixBlocks = 200_000 // in the prefix table
	aibrixTTL    = 20 * time.Minute
)

// AIBrixPrefix is the prefix-cache algorithm of AIBrix's gateway plugins (0.3 and
// main of 2026). With n the requests in flight from this gateway:
//
//	max n - min n > 8:  least n
//	else:               of the pods with a match, by match (most first), then n
//	                    (least first), the first with n ≤ mean + 1 standard deviation
//	else:               least n
//
// The prefix table holds 200,000 blocks in all, the least recently used go first,
// and forgets after 20 minutes.
//
// Deviations: blocks of 64 bytes, where the code's default is 4 tokens of its
// character tokenizer and its manifests set 128; a block counts once for each pod
// that holds it.
func AIBrixPrefix() scheduling.Profile { return aibrixWith(aibrixDefaults) }

func aibrixWith(limits aibrixLimits) scheduling.Profile {
	return rule("prefix-cache", aibrix{newHistory(bounds{inAll: aibrixBlocks, ttl: aibrixTTL}), limits})
}

type aibrix struct {
	*history
	aibrixLimits
}

// Score implements scheduling.Scorer.
func (s aibrix) Score(_ context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
	if len(eps) == 0 {
		return nil
	}
	n := make([]float64, len(eps))
	lo, hi, sum, squares := inFlight(eps[0]), inFlight(eps[0]), 0.0, 0.0
	for i, ep := range eps {
		n[i] = inFlight(ep)
		lo, hi = min(lo, n[i]), max(hi, n[i])
		sum += n[i]
		squares += n[i] * n[i]
	}
	match := make([]float64, len(eps)) // 0 for those that must not be taken for their match
	if hi-lo <= s.imbalance {
		mean := sum / float64(len(eps))
		most := mean + s.deviations*math.Sqrt(max(squares/float64(len(eps))-mean*mean, 0))
		for i, ep := range eps {
			if n[i] <= most {
				match[i] = s.Rate(req, ep)
			}
		}
	}
	rank(scores, upTo(len(eps)), func(a, b int) int {
		return cmp.Or(cmp.Compare(match[b], match[a]), cmp.Compare(n[a], n[b]))
	})
	return nil
}

var (
	_ scheduling.Scorer         = aibrix{}
	_ scheduling.Tracker        = aibrix{}
	_ scheduling.CacheEstimator = aibrix{}
)
