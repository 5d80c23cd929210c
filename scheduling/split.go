package scheduling

import (
	"context"
	"errors"
	"time"

	"github.com/inferpick/inferpick/types"
)

// A Splitter decides for which endpoints the prompt of a request is better computed at another one, which
// hands its KV cache over to the one that answers: disaggregated serving. A Coster of a profile that is a
// Splitter is used as one, unless the profile has its own (Profile.Splitter).
//
// It is asked only about requests with types.Request.Split, and only where endpoints have
// types.RolePrefill.
type Splitter interface {
	// Split finds for each of eps, which may answer the request, who of prefill is to compute its prompt.
	// Both lists have passed the profile's filters. An endpoint with both roles is in both. must says that
	// none of eps is to compute it itself, if that can be helped: somebody failed before. prefill may be empty, for
	// an explanation of what it would be like if there were nobody.
	//
	// An endpoint with types.RoleNotAlone cannot compute it at all, and is left out if nobody else does.
	//
	// by and gains are as long as eps. by[i] is set to a place in prefill, and left at -1 if eps[i] is to
	// compute the prompt itself. gains[i], which is 0, is set to what is to be added to the total of eps[i],
	// in either case: so it may be worth more, or less, than it was taken for as long as nobody else could
	// compute the prompt. Split is called after the scorers and costers, under the same rules as Filter. With
	// an error, each computes the prompt itself.
	Split(ctx context.Context, req *types.Request, eps, prefill []*types.Endpoint, must bool, by []int32, gains []float64) error
}

// A Composite is a Splitter that is made of other plugins. What they can do beside what it uses them for,
// such as Tracker, they do as if the profile had them itself.
type Composite interface {
	Plugins() []any
}

// A SplitItemizer is a Splitter that can break down for Explain what it compared. It is called after Split,
// for the same request.
type SplitItemizer interface {
	// PrefillItems returns what it costs to have the prompt computed at prefill.
	PrefillItems(req *types.Request, prefill *types.Endpoint) []CostItem
	// AnswerItems returns what it costs that ep answers with a prompt computed at prefill, transfer included.
	AnswerItems(req *types.Request, ep, prefill *types.Endpoint) []CostItem
}

// A PrefillEstimator is a Splitter that can tell how long an endpoint would take to compute what it
// lacks of a prompt. See Profile.Alone.
type PrefillEstimator interface {
	PrefillTime(req *types.Request, ep *types.Endpoint) time.Duration
}

// A PrefillTracker is a Tracker that also learns of prompts that are computed at another endpoint than the
// one that answers. PrefillPicked comes before Picked, or after it if the prompt goes to another endpoint
// because the first one failed; each is followed by one PrefillFinished.
type PrefillTracker interface {
	PrefillPicked(req *types.Request, prefill, answer *types.Endpoint)
	// PrefillFinished is told how the request for the prompt ended. If out.Served(), the KV cache is there
	// to be fetched.
	PrefillFinished(req *types.Request, prefill *types.Endpoint, out types.Outcome)
}

// AloneLimits bound how often an endpoint computes a prompt by itself, although it is for answers only
// (types.RoleDecode without RolePrefill), because those that were to compute it failed. Without bounds, a
// burst of failures at the prefill endpoints makes all others compute prompts, and slows down every answer.
type AloneLimits struct {
	// Prefill is the longest that the endpoint may be expected to take for it. Default 1s. Negative: none may.
	Prefill time.Duration
	// Share is the part of the endpoints that answer that may do so at a time, at least one of them.
	// Default 0.1.
	Share float64
}

// maxPrefills is how many endpoints are asked to compute one prompt for one that answers.
const maxPrefills = 3

// split chooses who computes the prompt, for each of the endpoints that may answer: the result is an index
// of prefill by the place in eps, -1 for nobody. It is nil if nobody is helped. What the Splitter finds is
// added to totals.
func (s *Scheduler) split(ctx context.Context, p *pipeline, req *types.Request, eps []*types.Endpoint, totals []float64, sc *scratch, ex *Explanation) (by []int32) {
	helpers := s.helpers(ctx, p, req, sc)
	if len(helpers) == 0 {
		return nil
	}
	by, gains := sc.by[:len(eps)], sc.scores[:len(eps)]
	if ex != nil { // it shows the best of both ways, whichever is chosen
		rand := req.Rand
		noHelp(by, gains)
		if err := s.runSplitter(ctx, p, req, eps, nil, false, by, gains); err == nil {
			ex.alone(p, eps, totals, gains)
		}
		noHelp(by, gains)
		if err := s.runSplitter(ctx, p, req, eps, helpers, true, by, gains); err == nil {
			ex.apart(p, req, eps, helpers, totals, by, gains)
		}
		req.Rand = rand
	}
	noHelp(by, gains)
	if err := s.runSplitter(ctx, p, req, eps, helpers, false, by, gains); err != nil {
		s.drop(req, err, ex)
		return nil
	}
	helped := false
	for i, k := range by {
		if finite(gains[i]) {
			totals[i] += gains[i]
		}
		if k < 0 || int(k) >= len(helpers) || helpers[k].Load == nil || helpers[k].Load == eps[i].Load {
			by[i] = -1
			continue
		}
		helped = true
	}
	if !helped {
		return nil
	}
	return by
}

// noHelp fills in what a Splitter is given.
func noHelp(by []int32, gains []float64) {
	for i := range by {
		by[i] = -1
	}
	clear(gains)
}

// notAlone leaves out of eps those that may not answer alone, and for which nobody computes the prompt. The lists
// that it returns are the scratch's own.
func (sc *scratch) notAlone(eps []*types.Endpoint, totals []float64, by []int32, ex *Explanation) ([]*types.Endpoint, []float64, []int32) {
	if !sc.overview.Roles.Has(types.RoleNotAlone) {
		return eps, totals, by
	}
	left := sc.eps[:0] // which is eps, or is not used yet
	for i, ep := range eps {
		if ep.Roles.Has(types.RoleNotAlone) && (by == nil || by[i] < 0) {
			ex.strike(ep, roleFilter, ep.Roles.String())
			continue
		}
		totals[len(left)] = totals[i]
		if by != nil {
			by[len(left)] = by[i]
		}
		left = append(left, ep)
	}
	totals = totals[:len(left)]
	if by != nil {
		by = by[:len(left)]
	}
	return left, totals, by
}

// helpers returns those that may compute the prompt and that no filter strikes out.
func (s *Scheduler) helpers(ctx context.Context, p *pipeline, req *types.Request, sc *scratch) []*types.Endpoint {
	if p.splitter == nil || !req.Split || len(sc.prefill) == 0 {
		return nil
	}
	if sc.second == nil {
		sc.second = new(scratch)
	}
	sc.second.grow(len(sc.prefill))
	left, err := s.filter(ctx, p.helpers, req, sc.prefill, &sc.overview, sc.second, nil)
	if err != nil {
		left = nil // so nobody helps
		s.helpersFailed(req, err)
	}
	sc.second.left = left
	return left
}

// helpersFailed tells of a filter that failed for those that may compute the prompt. That it leaves none, or would shed
// the request, is no failure, and a panic was told already.
func (s *Scheduler) helpersFailed(req *types.Request, err error) {
	failed, ok := errors.AsType[*PluginError](err)
	if !ok || errors.Is(err, ErrSaturated) || errors.Is(err, ErrNoEndpoint) {
		return
	}
	if _, told := errors.AsType[*PanicError](err); !told {
		s.failed(req, failed)
	}
}

// rest returns those of eps for which keep is true.
func rest(eps []*types.Endpoint, keep func(*types.Endpoint) bool) []*types.Endpoint {
	var left []*types.Endpoint
	for _, ep := range eps {
		if keep(ep) {
			left = append(left, ep)
		}
	}
	return left
}
