package scheduling

import (
	"context"
	"time"

	"github.com/inferpick/inferpick/types"
)

// A Filter is a constraint: it removes endpoints that must not serve the request. Preferences are
// for a Scorer.
//
// keep is as long as eps and all true; the filter sets it to false for endpoints to remove. If none
// is left the call ends with a *NoEndpointError that names the filter. An error ends the call;
// return one that wraps ErrSaturated to shed the request.
//
// Filter is called once per decision in the caller's goroutine, and concurrently for different
// decisions. It must not block, must not modify eps or what it points to, and must not retain eps
// or keep.
type Filter interface {
	Filter(ctx context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error
}

// A Scorer is a preference: it rates how suitable each endpoint is for the request, from 0 (worst)
// to 1 (best).
//
// scores is as long as eps and all NaN, which means "no opinion": the endpoint then gets the mean of
// the others for this scorer, so that an unknown endpoint neither wins nor starves. Values outside
// 0..1 are clamped. An error drops the scorer for this call and is reported to Hooks.PluginFailed;
// the decision is made without it.
//
// It is called under the same rules as Filter.
type Scorer interface {
	Score(ctx context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error
}

// A Coster estimates the cost of serving the request at each endpoint, in seconds: the time of this
// request and the time that others lose by it. A profile's total cost is subtracted from its weighted
// sum of scores, so the weight of a scorer next to a coster is in seconds.
//
// costs is as long as eps and all NaN. Values that are NaN or infinite afterwards count as the mean
// of the others. Costs may be negative. An error drops the coster for this call and is reported to
// Hooks.PluginFailed.
//
// It is called under the same rules as Filter.
type Coster interface {
	Cost(ctx context.Context, req *types.Request, eps []*types.Endpoint, costs []float64) error
}

// A Picker chooses an endpoint by their total scores and returns its index. eps is not empty, and
// scores has no NaN. For each fallback it is called again without the endpoints it has chosen, in an
// order that may change. An error ends the call.
//
// It is called under the same rules as Filter.
type Picker interface {
	Pick(ctx context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) (int, error)
}

// FilterFunc adapts a function to a Filter.
type FilterFunc func(ctx context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error

// Filter calls f.
func (f FilterFunc) Filter(ctx context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error {
	return f(ctx, req, eps, keep)
}

// ScorerFunc adapts a function to a Scorer.
type ScorerFunc func(ctx context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error

// Score calls f.
func (f ScorerFunc) Score(ctx context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
	return f(ctx, req, eps, scores)
}

// CosterFunc adapts a function to a Coster.
type CosterFunc func(ctx context.Context, req *types.Request, eps []*types.Endpoint, costs []float64) error

// Cost calls f.
func (f CosterFunc) Cost(ctx context.Context, req *types.Request, eps []*types.Endpoint, costs []float64) error {
	return f(ctx, req, eps, costs)
}

// PickerFunc adapts a function to a Picker.
type PickerFunc func(ctx context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) (int, error)

// Pick calls f.
func (f PickerFunc) Pick(ctx context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) (int, error) {
	return f(ctx, req, eps, scores)
}

// EachScorer returns a Scorer that calls score for each endpoint, for scorers that do not compare
// endpoints with each other.
func EachScorer(score func(req *types.Request, ep *types.Endpoint) float64) Scorer {
	return ScorerFunc(func(_ context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
		for i, ep := range eps {
			scores[i] = score(req, ep)
		}
		return nil
	})
}

// A Tracker learns where requests went. A Filter, Scorer, Coster or Picker that is also a Tracker is
// called automatically; Profile.Trackers is for others.
//
// For each booked decision the calls are Picked, FirstToken at most once, and Finished exactly once.
// Decision.Retry causes Finished with Outcome.Retried for the previous endpoint and Picked for the
// new one. Calls for one decision are sequential, those for different decisions concurrent. No lock
// is held during calls. A Tracker must not block.
type Tracker interface {
	Picked(req *types.Request, ep *types.Endpoint)
	FirstToken(req *types.Request, ep *types.Endpoint)
	Finished(req *types.Request, ep *types.Endpoint, out types.Outcome)
}

// A Rereader is a Tracker that keeps with a request what it has found in it. Reread is called when the
// request has changed since, between Finished and Picked: see Decision.Reread.
type Rereader interface {
	Reread(req *types.Request)
}

// A Forgetter is a plugin that has state about endpoints and can forget it when one was removed or
// restarted with empty caches. See Scheduler.Forget.
type Forgetter interface {
	Forget(ep *types.Endpoint)
}

// A CacheEstimator is a plugin that estimates how many of the request's prompt tokens are in an
// endpoint's prefix cache. The scheduler uses the first one in the profile, for the chosen endpoint
// only, so that the ledger counts only tokens that must be computed. It is called after the plugin's
// Score for the same request, and before Picked.
type CacheEstimator interface {
	CachedTokens(req *types.Request, ep *types.Endpoint) int
}

// An OutputEstimator is a plugin that estimates how many tokens a request will produce. The scheduler
// uses the first one in the profile instead of Profile.OutputTokens. The request's MaxTokens bounds
// the estimate.
type OutputEstimator interface {
	ExpectedOutput(req *types.Request) int
}

// A DenoiseEstimator is a plugin that estimates how many tokens of latents a diffusion model has to go through for a
// request that does not say so, with each pass: see types.Denoise. The scheduler uses the first one in the profile.
type DenoiseEstimator interface {
	ExpectedDenoise(req *types.Request) float64
}

// An Impatient plugin knows of endpoints that may not answer. A data plane that can move on to a
// fallback asks it once the request is sent.
type Impatient interface {
	// Patience returns how long to wait for a response from ep before the request moves on to a
	// fallback, if there is one. 0: no limit.
	Patience(req *types.Request, ep *types.Endpoint) time.Duration
}

// A Screener is a Filter that usually keeps all endpoints and can tell from an Overview of them;
// Filter is then not called. All Screeners of a profile are called before the first filter.
type Screener interface {
	// Screen reports whether Filter would keep all endpoints that o summarizes, or any part of
	// them, and return no error. It is called under the same rules as Filter.
	Screen(req *types.Request, o *Overview) bool
}

// A Ranker is a Picker that can name the best few endpoints at once, from their scores alone.
type Ranker interface {
	// Rank fills best with the indices of what Pick would choose, then choose of the rest, and so
	// on. best is no longer than scores, which must not be changed. It returns false if it cannot
	// tell, or if Pick would draw at random; then Pick is called.
	Rank(scores []float64, best []int) bool
}

// A Constrainer is a Filter that can tell in advance which endpoints it will keep regardless of load,
// such as those with a label or an adapter. Admission control then looks for room only among these.
type Constrainer interface {
	// Constraint returns which of eps the request may go to, as a function that also works for later
	// readings.
	Constraint(req *types.Request, eps []*types.Endpoint) Constraint
}

// Constraint defines which endpoints a request may go to.
type Constraint struct {
	// Name is equal for requests with the same endpoints.
	Name string
	// Match reports whether an endpoint is one of them. Nil: all are.
	Match func(*types.Endpoint) bool
	// Preferred allows all endpoints if none matches.
	Preferred bool
}

// An Itemizer is a Coster that can break down its cost for Explain. It is called after the plugin's
// Cost for the same request and candidates.
type Itemizer interface {
	Items(req *types.Request, ep *types.Endpoint) []CostItem
}

// CostItem is a part of a cost.
type CostItem struct {
	Name    string
	Seconds float64
	Detail  string // a short description
}

// A Describer is a plugin that can describe what it saw of an endpoint in a few words, for Explain:
// "3 waiting", "96 of 128 blocks cached". It is called after the plugin scored or filtered, for the
// same request.
type Describer interface {
	Describe(req *types.Request, ep *types.Endpoint) string
}
