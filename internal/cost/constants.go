package cost

import "time"

// All constants of the model that are no option. docs/default-policy.md has the table of what
// chose each, and what happens when it is halved and doubled.

// Of the learning of a fleet: Fleet.
const (
	// fleetMemory is how many rows are remembered, as the time constant of forgetting.
	// Half of it lets step times of single requests through, twice as much takes as long
	// again to follow a fleet that changed.
	fleetMemory = 200
	// fleetPrior is how many rows what is believed at first counts as, in logarithms: a row
	// that is off by a factor of e outweighs a belief that is off by e to the tenth. So it
	// is no hindrance for a fleet that is far from it, and decides what the rows leave open.
	fleetPrior = .01
	// growthPrior is the same for Growth, which is believed to be 0, and growthDoubt how far
	// rows must speak for it, in units of what they would by chance: where there are
	// always as many sequences, it looks the same as a slower step. (A lasso on one term:
	// Tibshirani, Journal of the Royal Statistical Society B 58(1), 1996.)
	growthPrior = .02
	growthDoubt = .15
	// longer is by which factor, beyond 1, a row may be longer than expected and still have as
	// much influence as one that is as much shorter, where nothing is explained: there it is no
	// exception. Beyond that it has less and less.
	longer = 3
	// leastFactor bounds what is learned.
	leastFactor = 1e-6
	// GrowthUnit is what a Growth of 1 stands for: a step takes so much longer for each
	// sequence in it, as a part of the step of an empty engine.
	GrowthUnit = 1. / 16
	// nearRates is by which part rates may change before the figures of all servers are worked
	// out anew.
	nearRates = .02
)

// Of the learning of one server: Learned.
const (
	// serverMemory bounds the weight of what was seen of a server.
	serverMemory = 100
	// serverChance is the variance of one observation until it is known, and
	// serverDoubt what that counts as.
	serverChance = .3
	serverDoubt  = 3
	// modelError is by how much servers that are alike seem to differ because they are
	// loaded differently and the model is crude, at least, and crudeError how much more by
	// the part of the times that it does not explain.
	modelError = .05
	crudeError = .6
	// significant is how many standard deviations are evidence.
	significant = 2.5
	// serverAge is the time constant in seconds with which evidence loses its weight while
	// nothing is seen: an idle server is believed to be like the others after a few of them.
	serverAge = 120
	// What slows a server down does so for a moment as a rule: for as long as a request takes,
	// because those that were there together met the same, but for shortMoment at least, and
	// longMoment at most, in seconds: what lasts longer is worth knowing. All that is seen
	// within a moment is evidence of one thing; what comes at once counts as leastNews.
	shortMoment = .1
	longMoment  = 2
	leastNews   = .01
	// fleetKnown is after how many rows a fleet is known well enough to compare its servers.
	fleetKnown = 30
	// mostOff bounds an observation: a factor of 20.
	mostOff = 3
)

// Of what is taken for evidence: Learner.
const (
	// firstWeight is what the time to a first token counts beside that between all others.
	firstWeight = .25
	// leastDecoded is from how many tokens on the time between them says how long a step takes.
	leastDecoded = 8
	// collected is how many tokens there are to a piece of the answer where somebody on the way
	// collects them, so that the times of the first and of the last say nothing.
	collected = 8
	// instant is the part of the whole time from which on tokens may all have come at once.
	instant = .05
	// mostStalled is the part of the time since the first token for which a client may not have
	// taken what was there.
	mostStalled = .2
	// crowdDoubt is how many requests make it as likely as not that a new one waited for one of
	// them to end.
	crowdDoubt = 4
	// medianStep is a step of a Median, as a part of the spread of its values, and spreadStep
	// the factor by which the spread follows the median of how far they lie off.
	medianStep = .2
	spreadStep = 1.25
	// mostTokens is more than any prompt or answer has.
	mostTokens = 1e8
)

// Of the state of a server: Server.
const (
	// How many requests an engine serves at a time is not known. A request beyond carriedMore
	// times as many of this process's as it is known to have served together, or as
	// leastCarried, is taken to wait for one of these to end. Without that bound, the one of
	// several servers that seems the least bit faster gets the whole of a burst, if it is not
	// known either that steps grow. With carriedMore at 1, tenants lose a tenth of their TTFT
	// while the load grows; with 1.5 a burst may be half as uneven again.
	leastCarried = 8
	carriedMore  = 1.1
	// stallMemory is over how many seconds the prefills that were sent to a server are averaged:
	// about as long as a request decodes there.
	stallMemory = 5
	// mostStalls bounds the part of the time that they are believed to take.
	mostStalls = .9
	// carriedMemory is after how many requests what was served together is half forgotten.
	carriedMemory = 1000
	// mineGain is how fast the part that a server's requests are this process's is averaged, for
	// each event there.
	mineGain = .02
	// A reading of foreign load is believed in full up to freshAge, and not at all
	// from staleAge on.
	freshAge = 500 * time.Millisecond
	staleAge = 5 * time.Second
	// foreignSmoothing is the time in seconds over which readings of foreign load are averaged:
	// a server does not report what is on its way to it, so one reading says little.
	foreignSmoothing = 1.0
	// leastBelieved is from how many servers on whose readings are believed in the others are
	// taken to have as many foreign requests.
	leastBelieved = 1e-6
	// idle is as many sequences as mean that nothing runs.
	idle = .5
	// manyPrefills is how many requests without a first token are looked at one by one. Of a
	// server that has more, which only has while far too much is sent there, the sum of the
	// others is enough: else each event would cost as much as there are of them.
	manyPrefills = 256
	// maxEnded bounds the ends that are remembered of a server that is not read.
	maxEnded = 256
	// maxAdapterStates bounds the adapters remembered for one server, maxAdapterNames the names
	// known at a time.
	maxAdapterStates = 256
	maxAdapterNames  = 4096
)

// Of the terms: Model, Claims, Crowd, Outputs.
const (
	// sloMiss is added for each server that misses the SLO where another meets it, and sloLate
	// for being late by as much as the target: more than all other terms come to.
	sloMiss = 1e3
	sloLate = 1e3
	// mostKV is the part of a KV cache beyond which it costs no more.
	mostKV = .98
	// claimMoment is a moment in seconds: much longer than decisions take.
	claimMoment = .05
	// HomePart is the part of all requests, divided by the number of servers, that may have a
	// beginning in common that has one home.
	HomePart = .2
	// LeastHome is how many tokens must be expected to be cached for a prompt to have a home.
	LeastHome = 64
	// homeDoubt is the square of the part of the requests that others send from which on it is
	// more likely than not that a home is of use.
	homeDoubt = .01
	// LeastOthers is the part of requests from others below which a gateway is taken to be alone.
	LeastOthers = .02
	// MostOthers bounds by how much requests of others that begin alike are added to one's own.
	MostOthers = .9
	// ReuseGain and ContextGain are how fast the part of prompts that engines had cached and the
	// tokens of a request are averaged, for each request.
	ReuseGain   = .01
	ContextGain = .01
	// outputMemory is how many answers a mean length is of, and outputPrior how many of the
	// wider group weigh as much as one's own.
	outputMemory = 200
	outputPrior  = 10
	// crowdBits is the size of the table of those that begin alike.
	crowdBits = 16
)
