package policies

import (
	"cmp"
	"context"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Defaults of the command line of SGLang's router. Its Rust configuration has
// others: 0.5, 32 and 1.1.
var sglangDefaults = sglangLimits{match: 0.3, absolute: 64, relative: 1.5}

// sglangLimits are what the rule compares with.
type sglangLimits struct {
	match    float64 // rate above which a prompt follows its prefix
	absolute float64 // difference in requests in flight above which load may be imbalanced
	relative float64 // and ratio
}

const sglangTree = 1 << 26 // characters in the tree of one worker

// SGLang is the cache_aware policy of SGLang's model gateway (sglang-router,
// now lightseekorg/smg; main of 2026) with the defaults of its command line. With n the requests in
// flight from this gateway:
//
//	max n - min n > 64 and max n > 1.5·min n:  least n
//	else, best match rate > 0.3:               best match
//	else:                                      smallest tree
//
// where match rate is the matched part of the prompt's characters, and a worker's
// tree is every prompt sent there, up to 2^26 characters.
//
// Deviations: prompts match in steps of 64 characters; a tree that is too large is
// cut at once, and not every 60 to 120 s; a worker that restarts loses its tree,
// where the router leaves it to age.
func SGLang() scheduling.Profile { return sglangWith(sglangDefaults) }

func sglangWith(limits sglangLimits) scheduling.Profile {
	return rule("cache-aware", sglang{newHistory(bounds{perEach: sglangTree / bytesPerBlock}), limits})
}

type sglang struct {
	*history
	sglangLimits
}

// Score implements scheduling.Scorer.
func (s sglang) Score(_ context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
	if len(eps) == 0 {
		return nil
	}
	n := make([]float64, len(eps))
	match := make([]float64, len(eps))
	lo, hi, best := inFlight(eps[0]), inFlight(eps[0]), 0.0
	for i, ep := range eps {
		n[i], match[i] = inFlight(ep), s.Rate(req, ep)
		lo, hi, best = min(lo, n[i]), max(hi, n[i]), max(best, match[i])
	}
	switch {
	case hi-lo > s.absolute && hi > s.relative*lo:
		rank(scores, upTo(len(eps)), func(a, b int) int { return cmp.Compare(n[a], n[b]) })
	case best > s.match:
		rank(scores, upTo(len(eps)), func(a, b int) int { return cmp.Compare(match[b], match[a]) })
	default:
		size := make([]int, len(eps))
		for i, ep := range eps {
			size[i] = s.Held(ep)
		}
		rank(scores, upTo(len(eps)), func(a, b int) int { return cmp.Compare(size[a], size[b]) })
	}
	return nil
}

var (
	_ scheduling.Scorer         = sglang{}
	_ scheduling.Tracker        = sglang{}
	_ scheduling.CacheEstimator = sglang{}
)
