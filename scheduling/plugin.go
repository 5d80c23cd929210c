package scheduling

import (
	"context"
	"time"

	"github.com/inferpick/inferpick/types"
)

// A Filter is a constraint: it strikes out endpoints that must not serve the
// request. What is merely less good is for a Scorer.
//
// keep is as long as eps and arrives all true; the filter sets to false what it
// strikes out. If nothing is left the call ends with a *NoEndpointError that
// names the filter. An error ends the call; return one that wraps ErrSaturated
// to have the request shed.
//
// Filter is called once for each decision, from the goroutine of the caller, and
// by many goroutines at once. It must not block, must not change eps or what it
// points to, and must not keep eps or keep after it returned.
type Filter interface {
	Filter(ctx context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error
}

// A Scorer is a preference: it says how good each endpoint is for the request,
// 0 (worst) to 1 (best).
//
// scores is as long as eps and arrives all NaN, which means "no opinion": the
// endpoint is then given the mean of the others for this scorer, so that an
// endpoint of which nothing is known neither wins nor starves. Values outside
// 0..1 are clamped. An error drops the scorer for this call and is told to
// Hooks.PluginFailed; the decision goes on without it.
//
// The rules of calling are those of Filter.
type Scorer interface {
	Score(ctx context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error
}

// A Coster says what serving the request at each endpoint would cost, in seconds:
// the time of this request and the time that others lose by it. The sum of a
// profile's costs is taken off the sum of its weighted scores, so a scorer beside a
// coster has a weight that is worth so many seconds.
//
// costs is as long as eps and arrives all NaN. What is NaN or infinite when Cost
// returns counts as the mean of the others. A cost may be negative. An error drops
// the coster for this call and is told to Hooks.PluginFailed.
//
// The rules of calling are those of Filter.
type Coster interface {
	Cost(ctx context.Context, req *types.Request, eps []*types.Endpoint, costs []float64) error
}

// A Picker chooses one of the endpoints by their weighted sums and returns its
// index. eps is not empty; scores holds no NaN. For fallbacks it is asked again
// with the endpoints it chose before taken out, in an order that may differ from
// before; both slices are the scheduler's. An error ends the call.
//
// The rules of calling are those of Filter.
type Picker interface {
	Pick(ctx context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) (int, error)
}

// FilterFunc is a function as a Filter.
type FilterFunc func(ctx context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error

// Filter calls f.
func (f FilterFunc) Filter(ctx context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error {
	return f(ctx, req, eps, keep)
}

// ScorerFunc is a function as a Scorer.
type ScorerFunc func(ctx context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error

// Score calls f.
func (f ScorerFunc) Score(ctx context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
	return f(ctx, req, eps, scores)
}

// CosterFunc is a function as a Coster.
type CosterFunc func(ctx context.Context, req *types.Request, eps []*types.Endpoint, costs []float64) error

// Cost calls f.
func (f CosterFunc) Cost(ctx context.Context, req *types.Request, eps []*types.Endpoint, costs []float64) error {
	return f(ctx, req, eps, costs)
}

// PickerFunc is a function as a Picker.
type PickerFunc func(ctx context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) (int, error)

// Pick calls f.
func (f PickerFunc) Pick(ctx context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) (int, error) {
	return f(ctx, req, eps, scores)
}

// EachScorer makes a Scorer of a function that scores one endpoint: the short
// form for a scorer that does not compare endpoints with each other.
func EachScorer(score func(req *types.Request, ep *types.Endpoint) float64) Scorer {
	return ScorerFunc(func(_ context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
		for i, ep := range eps {
			scores[i] = score(req, ep)
		}
		return nil
	})
}

// A Tracker learns where requests went. A Filter, Scorer, Coster or Picker that is also
// a Tracker is told without further wiring; Profile.Trackers holds those that
// are nothing else.
//
// For each booked decision the calls are: Picked; FirstToken at most once;
// Finished exactly once. After Decision.Retry there is a Finished with
// Outcome.Retried for the endpoint that was left, and then Picked for the new
// one. Calls of one decision come one after the other; those of different
// decisions come at the same time. No lock is held meanwhile. A Tracker must not block.
type Tracker interface {
	Picked(req *types.Request, ep *types.Endpoint)
	FirstToken(req *types.Request, ep *types.Endpoint)
	Finished(req *types.Request, ep *types.Endpoint, out types.Outcome)
}

// A Forgetter is a plugin that keeps something about endpoints, and can forget
// it when one has gone or has restarted with empty caches. See Scheduler.Forget.
type Forgetter interface {
	Forget(ep *types.Endpoint)
}

// A CacheEstimator is a plugin that can say how many of the request's prompt
// tokens an endpoint is believed to hold in its prefix cache. The scheduler asks
// the first one it finds in the profile, for the chosen endpoint only, so that
// the ledger counts only the tokens that must be computed. Called after the
// plugin's Score for the same request, and before Picked.
type CacheEstimator interface {
	CachedTokens(req *types.Request, ep *types.Endpoint) int
}

// An OutputEstimator is a plugin that can say how many tokens a request will
// produce. The scheduler asks the first one it finds in the profile, in place of
// Profile.OutputTokens; the request's MaxTokens bounds what it says.
type OutputEstimator interface {
	ExpectedOutput(req *types.Request) int
}

// An Impatient plugin knows of endpoints that may not answer. A data plane that can go on
// to a fallback asks it when it has sent the request.
type Impatient interface {
	// Patience returns for how long to wait for a sign of life from ep before the request
	// goes on to a fallback, if there is one. 0: for as long as it takes.
	Patience(req *types.Request, ep *types.Endpoint) time.Duration
}

// A Screener is a Filter that as a rule keeps all endpoints, and can tell so from an Overview
// of them: then Filter is not called. All Screeners of a profile are asked before the first
// filter runs.
type Screener interface {
	// Screen reports whether Filter would return no error and keep all the endpoints that o
	// is of, and any part of them. The rules of calling are those of Filter.
	Screen(req *types.Request, o *Overview) bool
}

// A Ranker is a Picker that can name the best endpoints at once, by their scores alone.
type Ranker interface {
	// Rank fills best with the places of what Pick would choose, and then choose of those that
	// are left, and so on. best is no longer than scores. It returns false if it cannot tell,
	// or if what Pick does is left to chance: then Pick is called. scores must not be changed.
	Rank(scores []float64, best []int) bool
}

// A Constrainer is a Filter that can say beforehand which endpoints it will keep, whatever
// their load is: those with a label, or with an adapter. An admission control asks whether
// there is room among these only.
type Constrainer interface {
	// Constraint returns which of eps the request may go to, as a function that may be
	// asked about later readings too.
	Constraint(req *types.Request, eps []*types.Endpoint) Constraint
}

// Constraint is which endpoints a request may go to.
type Constraint struct {
	// Name is the same for requests that have the same endpoints.
	Name string
	// Match says of an endpoint whether it is one of them. Nil: all are.
	Match func(*types.Endpoint) bool
	// Preferred says that if there is none, or none any more, all are.
	Preferred bool
}

// An Itemizer is a Coster that can say what its cost is made of, for Explain: in
// seconds, with what it saw in a few words. Called after the plugin's Cost for the
// same request and candidates.
type Itemizer interface {
	Items(req *types.Request, ep *types.Endpoint) []CostItem
}

// CostItem is a part of a cost.
type CostItem struct {
	Name    string
	Seconds float64
	Detail  string
}

// A Describer is a plugin that can say in a few words what it saw of an endpoint,
// for Explain: "3 waiting", "96 of 128 blocks cached". Called after the plugin
// scored or filtered, for the same request.
type Describer interface {
	Describe(req *types.Request, ep *types.Endpoint) string
}
