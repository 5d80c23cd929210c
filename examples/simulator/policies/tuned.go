package policies

import (
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
)

// Published rules with other constants, chosen on drawn cases of the tuning half as the
// default's were, so that it is not compared with rules alone whose authors had other
// traffic in mind. They are nobody's product; README.md has what was tried. A rule that is
// best as published has none here, nor has LMetric, which has no constants.

// SGLangTuned is SGLang that follows matches above 0.5, until one endpoint has 16 requests
// more than another.
func SGLangTuned() scheduling.Profile {
	return sglangWith(sglangLimits{match: 0.5, absolute: 16, relative: sglangDefaults.relative})
}

// AIBrixPrefixTuned is AIBrixPrefix that follows matches until one endpoint has 16 requests
// more than another, and up to 2 standard deviations above the mean.
func AIBrixPrefixTuned() scheduling.Profile {
	return aibrixWith(aibrixLimits{imbalance: 16, deviations: 2})
}

// DynamoTuned is Dynamo with 8 times the weight of prefill.
func DynamoTuned() scheduling.Profile { return dynamoWith(8 * dynamoPrefill) }

// LLMDStickyTuned is LLMDSticky that leaves warm endpoints once they have 1,000 uncached
// tokens more in flight than others.
func LLMDStickyTuned() scheduling.Profile {
	return stickyWith(stickyLimits{match: stickyDefaults.match, tokens: 1000})
}

// ClassicInFlightTuned is ClassicInFlight with a spread of 16: requests in flight count half
// as much while they differ by less.
func ClassicInFlightTuned() scheduling.Profile {
	p := ClassicInFlight()
	p.Scorers[scorer(p, "in-flight")].Scorer = plugins.InFlightRequests{Spread: 16}
	return p
}
