package cost

import "time"

// The constants of the model that are not options. They were chosen on the tuning seeds of the
// simulator's suite (docs/default-policy.md); where an experiment or a test settles one, its
// comment names it.
//
// "x0.5" and "x2" is what halving and doubling does: the p90 of the time to the first token (TTFT)
// and from end to end (E2E), as a factor of what it was, in the best and the worst of the five cases
// of docs/default-policy.md. With one seed each, differences under 0.1 mean little. "Flat" is under
// 0.01 in all cases: there servers are equal, so constants that tell them apart hardly matter. "Fails"
// names tests of this package or of plugins. "Not varied" is neither measured nor, unless a test is
// named, settled by one.

// Learning about a fleet: Fleet.
const (
	// fleetMemory is the number of rows remembered, as the time constant of forgetting. Fewer let
	// the step times of single requests through, more take longer to follow a fleet that changed.
	// x0.5: TTFT 0.99 to 1.01, E2E 0.99 to 1.00. x2: TTFT 0.99 to 1.01, E2E 0.98 to 1.00.
	fleetMemory = 200
	// fleetPrior is the weight of the prior, in rows, on the logarithm of a factor: one row that
	// is off by a factor of e outweighs a prior that is off by e^10. So it does not hinder learning
	// a fleet far from it, and only decides what rows leave open (TestFleetFarFromThePrior). Not
	// varied.
	fleetPrior = .01
	// toldRows is the weight, in rows of nothing but prefill, of how long servers say that a prompt token
	// takes: it decides where little was seen, and no more where requests tell. 10 fails TestFleetIsTold.
	toldRows = 1
	// growthPrior is the same for Growth, whose prior is 0. Not varied.
	growthPrior = .02
	// growthDoubt is how far rows must support Growth, relative to chance. With a constant number of
	// sequences growth looks the same as a slower step (TestFleetAlwaysAsFull). It is a lasso on
	// one term: Tibshirani, Journal of the Royal Statistical Society B 58(1), 1996.
	// x0.5: TTFT and E2E 0.96 to 1.00. x2: 1.00.
	growthDoubt = .15
	// longer is the factor, beyond 1, by which a row may take longer than expected and still have
	// the influence of one as much shorter, if nothing is explained. Beyond it, influence falls.
	// x0.5: TTFT 0.98 to 1.07, E2E 0.99 to 1.00. x2: TTFT 0.99 to 1.02, E2E 1.00; fails
	// TestFleetOutliers and TestNothingIsLeftOfAQueueThatIsOver.
	longer = 3
	// leastFactor is a lower bound of learned factors. Not varied.
	leastFactor = 1e-6
	// GrowthUnit is the unit of Growth: each sequence lengthens a step by this fraction of the step
	// of an empty engine. Not varied.
	GrowthUnit = 1. / 16
	// nearRates is the fraction by which rates may change before the figures of all servers are
	// recomputed. Not varied.
	nearRates = .02
	// RenewEvery is the least time, in seconds, between two changes of the rates that all servers'
	// figures are by: each costs as much as there are servers. Not varied.
	RenewEvery = .05
	// RenewTurns is after how many answers the figures of one more server are worked out anew for
	// their age. Not varied.
	RenewTurns = 4
)

// Learning about a server: Learned.
const (
	// serverMemory bounds the weight of the evidence about a server. x0.5, x2: flat.
	serverMemory = 100
	// serverChance is the assumed variance of an observation until it is known. x0.5: flat, but
	// fails TestRequestsThatWereThereTogether. x2: flat.
	serverChance = .3
	// serverDoubt is the weight of that assumption. x0.5 fails TestRequestsThatWereThereTogether.
	// Otherwise not varied.
	serverDoubt = 3
	// modelError is the least difference, as a logarithm, by which equal servers seem to differ
	// because their load differs and the model is crude. At .12 means of TTFT and TPOT p90 are 1.01
	// times those at .08 on chat and tenants with equal and unequal servers. .07 fails
	// TestServersThatAreAlike.
	modelError = .08
	// crudeError is how much that grows with the fraction of times that the model does not explain.
	// It was added after real servers that shared few cores seemed to differ. x0.5, x2: flat.
	crudeError = 1.5
	// significant is how many standard deviations of chance are evidence. x0.5: TTFT 0.99 to 1.00, E2E
	// 1.00; fails TestRequestsThatWereThereTogether and TestServersThatAreAlike. x2: 1.00, but fails
	// TestServerThatDiffers.
	significant = 2.5
	// serverAge is the time constant, in seconds, with which evidence about an idle server fades.
	// x0.5, x2: flat.
	serverAge = 120
	// What slows a server down usually lasts for as long as a request, and affects all requests
	// there alike. So all that is observed within that time, from shortMoment to longMoment in
	// seconds, is one piece of evidence, and simultaneous observations count as leastNews. Seen with
	// real servers that share a machine. longMoment x0.5: flat, but fails
	// TestRequestsThatWereThereTogether; x2: flat. The others were not varied.
	shortMoment = .1
	longMoment  = 2
	leastNews   = .01
	// fleetKnown is the number of rows after which a fleet is known well enough to compare its
	// servers (TestOneOddAnswer). x0.5, x2: flat.
	fleetKnown = 30
	// mostOff bounds an observation, as a logarithm: a factor of 20. x0.5 fails
	// TestServerThatDiffers. Otherwise not varied.
	mostOff = 3
)

// What counts as evidence: Learner.
const (
	// firstWeight is the weight of the time to the first token, relative to the time between all
	// others. x0.5: TTFT 0.99 to 1.03, E2E 0.99 to 1.01; fails TestNothingIsLeftOfAQueueThatIsOver.
	// x2: TTFT 0.99 to 1.04, E2E 0.99 to 1.01; fails TestTheStepIsLearned.
	firstWeight = .25
	// leastDecoded is the number of tokens above which the time between them tells the step time.
	// Not varied.
	leastDecoded = 8
	// collected is the number of tokens per piece of a response above which something on the way
	// buffers them, so that the times of the first and the last one tell nothing. Not varied.
	collected = 8
	// instant is the fraction of the whole time below which all tokens may have arrived at once. Not
	// varied.
	instant = .05
	// mostStalled is the fraction of the time since the first token for which a client may have left
	// data unread. Not varied.
	mostStalled = .2
	// crowdDoubt is the number of requests at which a new one has probably, at even odds, waited for
	// one of them to end. x0.5: 1.00. x2: TTFT 1.00 to 1.05, E2E 1.00 to 1.01; fails
	// TestNothingIsLeftOfAQueueThatIsOver.
	crowdDoubt = 4
	// medianStep is the step of a Median as a fraction of the spread, and spreadStep the factor by
	// which the spread follows the median deviation. spreadStep x2 fails TestMedian. Otherwise not
	// varied.
	medianStep = .2
	spreadStep = 1.25
	// mostTokens is more than any prompt or response has. Not varied.
	mostTokens = 1e8
)

// The state of a server: Server.
const (
	// The concurrency of an engine is unknown. A request is assumed to wait for another to end if
	// more than carriedMore times the largest number of this process's requests known to have been
	// served together, or than leastCarried, are there. Without that bound the whole of a burst goes
	// to the server that seems slightly faster, if growth of steps is not known.
	//
	// leastCarried x0.5: TTFT 0.82 to 1.01, E2E 0.91 to 1.01. x2: TTFT 0.94 to 1.05, E2E 0.95 to
	// 1.01. carriedMore was chosen between 1, with which tenants lose a tenth of their TTFT while
	// load grows, and 1.5, with which bursts are up to half as uneven again.
	leastCarried = 8
	carriedMore  = 1.1
	// stallMemory is the time constant, in seconds, for averaging the prefills sent to a server, and requests:
	// about as long as a request decodes there. x2.4: TTFT 0.97 to 1.04, means of TTFT, TPOT and E2E
	// within 0.3 %.
	stallMemory = 5
	// mostStalls bounds the fraction of time that prefills are assumed to take. Not varied.
	mostStalls = .9
	// leastStalls is the fraction below which nothing is looked at again for its sake. Not varied.
	leastStalls = .01
	// carriedMemory is the number of requests over which that largest number decays. x0.5, x2: flat.
	carriedMemory = 1000
	// mineGain is the gain, per event, of the average fraction of a server's requests that are this
	// process's. x0.5: TTFT 0.93 to 1.00, E2E 0.99 to 1.00. x2: TTFT and E2E 0.99 to 1.00.
	mineGain = .02
	// A reading of foreign load is fully trusted up to freshAge, and not at all from staleAge on. Not
	// varied.
	freshAge = 500 * time.Millisecond
	staleAge = 5 * time.Second
	// foreignSmoothing is the time constant, in seconds, for averaging foreign load: a single reading
	// says little, since servers do not report what is on its way to them. x0.5: TTFT 0.93 to 1.00,
	// E2E 1.00. x2: TTFT 0.99 to 1.00, E2E 1.00 to 1.01.
	foreignSmoothing = 1.0
	// leastBelieved is the total trust in readings above which servers without one are assumed to
	// have the average foreign load. Not varied.
	leastBelieved = 1e-6
	// idle is the number of sequences below which nothing runs. Not varied.
	idle = .5
	// manyPrefills bounds the requests without a first token that are looked at one by one. Of more,
	// which a server only has while it is heavily overloaded, the sum is enough; else each event
	// would cost as much as there are of them. Not varied.
	manyPrefills = 256
	// maxEnded bounds the remembered ends of requests at a server that is not read. Not varied.
	maxEnded = 256
	// maxAdapterStates bounds the adapters remembered per server, and maxAdapterNames the names known
	// at a time. Not varied.
	maxAdapterStates = 256
	maxAdapterNames  = 4096
)

// Diffusion models. None was varied.
const (
	// mostDenoise is more than the tokens times passes, and the pixels, of any request.
	mostDenoise = 1e12
	// slowAge is serverAge for what diffusion models take, which do in minutes as much as others in seconds.
	slowAge = 1800
	// leastLeft is the part of what is under way that is taken to be left of it if it takes longer than expected.
	leastLeft = .1
	// besideOthers is the weight of a time that a server may have had for others, too, and guessedWeight that of one
	// for which it is not known how much was to be done.
	besideOthers  = .5
	guessedWeight = .25
	// usualPasses, usualLatents and latentPixels are what is taken of requests that say nothing before any did: 50
	// steps, a picture of 1,024 x 1,024, and 16 x 16 pixels for a token of latents.
	usualPasses  = 50
	usualLatents = 4096
	latentPixels = 256
	// partGain is the gain, per request, of the average part that is to be denoised.
	partGain = .05
	// mostOutput bounds by which factor answers are longer or shorter than what goes in lets expect.
	mostOutput = 32
	// mostGuess bounds by which factor media of unknown size are larger or smaller than they are taken for.
	mostGuess = 32
)

// The terms: Model, Claims, Crowd, Outputs.
const (
	// sloWorth is what it is worth that one request meets its SLO, in weighted seconds. On 14 drawn cases
	// 0.5, 1, and 2 differ by a point of goodput; at 5, TPOT p90 is up to 1.25 times as high where few
	// requests can meet theirs, at 30 1.8 times.
	sloWorth = 1
	// ttftDoubt and tpotDoubt are how far times may be off what is expected, as a part of the target. x0.5,
	// x2: means of TTFT and TPOT within 0.8 %, goodput by 0.2 points, on 14 drawn cases.
	ttftDoubt = .2
	tpotDoubt = .07
	// ownSteps is the number of steps that a request waits for without a queue of prefills: the rest of
	// that under way, and its own. At 1 and 3, TTFT p99 of 12 drawn cases is 1.04 and 1.02 times that at 2.
	ownSteps = 2
	// mostKV is the fraction of the KV cache above which its cost grows no faster. Not varied.
	mostKV = .95
	// claimMoment is how long a claim lasts, in seconds: much longer than a decision takes. Without
	// claims, one of three equal servers got 43 of 45 simultaneous requests. Not varied.
	claimMoment = .05
	// homePart, divided by the number of servers, is the largest fraction of requests that may share
	// a prefix with one home. x0.5: TTFT 0.98 to 1.00, E2E 1.00 to 1.01. x2: TTFT 1.00 to 1.02, E2E
	// 1.00.
	homePart = .2
	// homeFlight is the number of requests in flight, of all gateways, that may share a prefix with
	// one home however many servers there are: so few are no burden, and a copy elsewhere would be. On
	// ten cases of agents with 4 and 8 gateways, TTFT p90 0.90, 0.87, 0.88, and 0.93 times that without
	// this table at 2, 3, 4, and 8; at 0 1.00, and 1.7 in the worst case.
	homeFlight = 3
	// homeSpare is how many times as many homes a beginning has as it needs, if it needs more than one.
	// On 13 cases with 8 gateways, TTFT and TPOT p90 0.935 and 0.948 times those without this table at
	// 1 (12 tenants TPOT 1.10), 0.931 and 0.935 at 2, 0.916 and 0.931 at 3 (16 agents TTFT 1.31).
	homeSpare = 2
	// headMemory is the number of prompts of which beginnings are remembered. x0.3: means of TTFT and
	// TPOT within 3 %.
	headMemory = 1000
	// leastSeen is the number of prompts below which a beginning has one home. Not varied.
	leastSeen = 2
	// mostHeads bounds how often homes are narrowed down. Not varied.
	mostHeads = 4
	// mostCount is what a prompt counts in the table of beginnings before all is scaled. Not varied.
	mostCount = 1e6
	// LeastHome is the number of tokens that must be expected in the cache for a prompt to have a
	// home. Not varied.
	LeastHome = 64
	// homeDoubt is the square of the fraction of foreign requests above which a home is more likely
	// useful than not. x0.5: TTFT 1.00 to 1.04, E2E 1.00. x2: TTFT 0.95 to 1.00, E2E 1.00.
	homeDoubt = .01
	// LeastOthers is the fraction of foreign requests below which a gateway counts as alone. Not
	// varied.
	LeastOthers = .02
	// peersMoment is the time constant, in seconds, over which what peers say is averaged: who follows the last
	// word of all others at once goes where they go. Of .15, .4 and 1 none is better than the others by more than
	// seeds differ; without it TTFT of agents over 8 gateways is 1.03, of chats 1.02.
	peersMoment = .3
	// witnessGain is how much one reading of a server changes how far peers are followed: 10 servers that are
	// read each 50 ms are remembered for a second. witnessDoubt is the square of as many requests as mean
	// nothing. Not varied.
	witnessGain  = .005
	witnessDoubt = .01
	// FewStrangers is the part of requests below which those that nobody told of count as none, where peers tell
	// of theirs: readings and what peers tell are not of one time. Not varied.
	FewStrangers = .1
	// Cold is the part of a prompt below which what is cached anywhere counts as nothing. .1: the same.
	Cold = .4
	// MostOthers bounds the fraction of foreign requests by which this process's counts of shared
	// prefixes are scaled up. Not varied.
	MostOthers = .9
	// FirstReuse is the part of prompts that gateways take to be cached at their homes before engines have
	// said so: without it each begins by making copies of its own where it finds room, and has room for
	// nothing else when it knows better. On 8 cases of tenants before several gateways, TTFT p90 at 0.25 is 1.05
	// times that at 0.5, at 0 5.5 times; at 1 it is the same, on 4. Where engines never say so it stays.
	FirstReuse = .5
	// ReuseGain is the gain, per request, of the average fraction of a prompt that was cached, and
	// ContextGain that of the average number of tokens of a request. ReuseGain x0.5: TTFT 0.98 to
	// 1.00, E2E 1.00; x2: TTFT 0.92 to 1.00, E2E 0.98 to 1.00. ContextGain x0.5: TTFT 0.95 to 1.00,
	// E2E 1.00; x2: TTFT 0.96 to 1.00, E2E 1.00.
	ReuseGain   = .01
	ContextGain = .01
	// outputMemory is the number of responses in a mean length, and outputPrior the weight, in
	// responses, of the mean of the wider group. Not varied.
	outputMemory = 200
	outputPrior  = 10
	// crowdBits is the base-2 logarithm of the size of the table of shared prefixes. Not varied.
	crowdBits = 16
)

// Prompts that one server computes for another: Hops and Elsewhere.
const (
	// elsewhereWorth multiplies Weights.Recompute where another server could compute all of a prompt. On the grid of
	// the simulator's suite disaggregation.json (seed 51) the p90 from end to end is above 1.05 of the best policy's
	// in 10, 6, 4 and 6 of 140 cases with 1, 1.5, 2 and 3, and the p90 of the first token in the mean 1.35, 1.46, 1.54
	// and 1.64 of the best.
	elsewhereWorth = 2
	// hopMemory is how many prompts are remembered, as the constant of forgetting. Not varied.
	hopMemory = 100
	// hopPrior is the weight of each of the two points that the belief of the start is made of, one of no
	// tokens and one of hopPriorTokens. Not varied.
	hopPrior       = 1
	hopPriorTokens = 8000
	// hopOutlier is how many times longer than expected one may count. Not varied.
	hopOutlier = 8
	// hopSpread is by how much prompts must differ in length, as the square of a part, for what is by the
	// token to be told from what is not. Not varied.
	hopSpread = .02
)
