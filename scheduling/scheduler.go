package scheduling

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/types"
)

// Scheduler decides by one Profile. Create it with New. It is safe for concurrent use.
type Scheduler struct {
	profile   Profile
	pipelines []*pipeline // of Profile.Rules, and at last that for all other requests
	trackers  []Tracker
	forgetter []Forgetter
	estimator CacheEstimator   // nil: every prompt token counts as uncached
	outputs   OutputEstimator  // nil: Profile.OutputTokens
	denoises  DenoiseEstimator // nil: what requests say themselves
	impatient []Impatient
	prefills  []PrefillTracker // of the trackers, those that are
	answers   []AnswerTracker  // the same
	alone     atomic.Int64     // requests served alone within Profile.Alone

	seed  uint64
	calls atomic.Uint64 // decisions so far: seeds the next one

	warnings warnings

	mu sync.Mutex
	// guarded by mu: the bookings that are open, the one that expires first in front
	open bookings
}

// New checks the profile and returns a Scheduler for it. A plugin that is a Tracker must not be used
// by two Schedulers unless its documentation allows it.
func New(p Profile) (*Scheduler, error) {
	own := p.Now != nil
	p, err := p.withDefaults()
	if err != nil {
		return nil, err
	}
	pipelines, err := p.pipelines()
	if err != nil {
		return nil, err
	}
	s := &Scheduler{profile: p, pipelines: pipelines, seed: p.Seed}
	if own {
		s.profile.Now = guard.Clock("Profile.Now", p.Now, s.clockFailed)
	}
	for s.seed == 0 {
		s.seed = rand.Uint64()
	}
	for _, plugin := range p.Plugins() { // those of rules come last, and so do their estimators
		s.wire(plugin)
	}
	return s, nil
}

// Must returns the Scheduler of New, and panics if its profile was wrong: for profiles that
// are part of the program, in main, init functions and tests.
func Must(s *Scheduler, err error) *Scheduler {
	if err != nil {
		panic(err)
	}
	return s
}

// wire finds what else a plugin can do. A plugin in several places is told once.
func (s *Scheduler) wire(plugin any) {
	if t, ok := plugin.(Tracker); ok && !contains(s.trackers, t) {
		s.trackers = append(s.trackers, t)
	}
	if t, ok := plugin.(PrefillTracker); ok && !contains(s.prefills, t) {
		s.prefills = append(s.prefills, t)
	}
	if t, ok := plugin.(AnswerTracker); ok && !contains(s.answers, t) {
		s.answers = append(s.answers, t)
	}
	if f, ok := plugin.(Forgetter); ok && !contains(s.forgetter, f) {
		s.forgetter = append(s.forgetter, f)
	}
	if e, ok := plugin.(CacheEstimator); ok && s.estimator == nil {
		s.estimator = e
	}
	if e, ok := plugin.(OutputEstimator); ok && s.outputs == nil {
		s.outputs = e
	}
	if e, ok := plugin.(DenoiseEstimator); ok && s.denoises == nil {
		s.denoises = e
	}
	if p, ok := plugin.(Impatient); ok && !contains(s.impatient, p) {
		s.impatient = append(s.impatient, p)
	}
}

// contains compares by identity; values that cannot be compared are never equal.
func contains[T any](list []T, v T) (found bool) {
	defer func() { _ = recover() }() // an interface that holds an uncomparable value
	for _, e := range list {
		if any(e) == any(v) {
			return true
		}
	}
	return false
}

// Schedule decides which of eps serves req, and books the request there before it returns. eps is
// neither modified nor retained. Each endpoint needs a Load, the same one in every call, which
// identifies it for the ledger and for plugins (see types.NewEndpoint).
//
// The caller must call Done on the Decision, whatever happens. Until then req and its body belong to
// the Decision.
//
// Errors are ErrNoEndpoint if eps is empty or the filters left none, ErrSaturated if a filter shed the
// request, a *PluginError around either or any other error of a filter or picker, and ctx.Err() if
// ctx is already done.
func (s *Scheduler) Schedule(ctx context.Context, req *types.Request, eps []*types.Endpoint) (*Decision, error) {
	return s.schedule(ctx, req, eps, nil)
}

// ScheduleExplained is Schedule with an explanation of the decision, which with an error covers the
// steps up to it. It takes some microseconds and many allocations more.
func (s *Scheduler) ScheduleExplained(ctx context.Context, req *types.Request, eps []*types.Endpoint) (*Decision, *Explanation, error) {
	ex := newExplanation(eps)
	d, err := s.schedule(ctx, req, eps, ex)
	ex.Err = err
	return d, ex, err
}

func (s *Scheduler) schedule(ctx context.Context, req *types.Request, eps []*types.Endpoint, ex *Explanation) (*Decision, error) {
	s.begin(req, s.calls.Add(1))
	s.warn(req, eps)
	d := &Decision{Request: req, At: req.Now, scheduler: s}
	if err := s.decide(ctx, req, eps, d, ex); err != nil {
		s.rejected(req, err)
		return nil, err
	}
	d.book()
	return d, nil
}

// Explain returns what Schedule would decide now, with every term of every candidate. It books nothing
// and calls no Tracker. In the same state the next Schedule makes the same decision, with the same
// random numbers. If Schedule would fail, Explain returns the error and the explanation up to it.
func (s *Scheduler) Explain(ctx context.Context, req *types.Request, eps []*types.Endpoint) (*Explanation, error) {
	s.begin(req, s.calls.Load()+1)
	ex := newExplanation(eps)
	ex.Err = s.decide(ctx, req, eps, new(Decision), ex)
	return ex, ex.Err
}

// begin gives req the clock and the randomness of decision number n.
func (s *Scheduler) begin(req *types.Request, n uint64) {
	req.Now = s.profile.Now()
	req.StaleBefore = req.Now.Add(-s.profile.MetricsTTL)
	req.Prompt.Estimate()
	req.Rand = types.NewRand(s.seed + n*0x9fb21c651e98df25)
	s.Expire(req.Now)
}

// decide runs the pipeline and fills in d's endpoints. It changes nothing else,
// apart from what it writes to ex, which may be nil.
func (s *Scheduler) decide(ctx context.Context, req *types.Request, eps []*types.Endpoint, d *Decision, ex *Explanation) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(eps) == 0 {
		return &NoEndpointError{}
	}
	sc := getScratch(len(eps))
	defer sc.free()

	p := s.pipelineOf(req)
	ex.rule(p.Name)
	able := sc.look(eps)
	if ex.roles(eps); len(able) == 0 {
		return &NoEndpointError{roleFilter, len(eps)}
	}
	left, err := s.filter(ctx, p, req, able, &sc.overview, sc, ex)
	if err != nil {
		return err
	}
	totals := s.score(ctx, p, req, left, sc, ex)
	ex.totals(left, totals)
	by := s.split(ctx, p, req, left, totals, sc, ex)
	if left, totals, by = sc.notAlone(left, totals, by, ex); len(left) == 0 {
		return &NoEndpointError{roleFilter, len(eps)}
	}
	if err := s.pick(ctx, p, req, left, totals, by, sc, d, ex); err != nil {
		return err
	}
	if len(d.Fallbacks) < p.Fallbacks && len(req.Reserve) > 0 {
		s.fallBack(ctx, p, req, d, ex)
	}
	return nil
}

// filter returns the endpoints that no filter strikes out: eps itself, or a list
// in sc. o summarizes a list that eps is part of.
func (s *Scheduler) filter(ctx context.Context, p *pipeline, req *types.Request, eps []*types.Endpoint, o *Overview, sc *scratch, ex *Explanation) ([]*types.Endpoint, error) {
	left, idle := eps, s.screen(p, req, o)
	for i := range p.Filters {
		if idle&(1<<i) != 0 {
			continue
		}
		f := &p.Filters[i]
		keep := sc.keep[:len(left)]
		fillTrue(keep)
		if err := s.runFilter(ctx, f, req, left, keep); err != nil {
			return nil, err
		}
		ex.filtered(f, req, left, keep)
		kept := compact(sc.eps[:0], left, keep)
		if len(kept) == 0 {
			return nil, &NoEndpointError{f.Name, len(eps)}
		}
		if len(kept) < len(left) {
			left = kept
		}
	}
	return left, nil
}

// screen returns, as bits, the places of filters that would keep all endpoints.
func (s *Scheduler) screen(p *pipeline, req *types.Request, o *Overview) (idle uint64) {
	i := 0
	defer func() {
		if v := recover(); v != nil {
			idle = 0
			s.failed(req, panicked("filter", p.Filters[i].Name, v))
		}
	}()
	for rest := p.screened; rest != 0; rest &= rest - 1 {
		if i = bits.TrailingZeros64(rest); p.screens[i].Screen(req, o) {
			idle |= 1 << i
		}
	}
	return idle
}

// compact appends those of eps that are kept to dst, which may be the same
// memory. It writes nothing while everything is kept, and returns eps then.
func compact(dst, eps []*types.Endpoint, keep []bool) []*types.Endpoint {
	first := 0
	for len(keep)-first >= len(allKept) && *(*[len(allKept)]bool)(keep[first:]) == allKept {
		first += len(allKept)
	}
	for first < len(keep) && keep[first] {
		first++
	}
	if first == len(keep) {
		return eps
	}
	dst = append(dst, eps[:first]...)
	for i := first + 1; i < len(keep); i++ {
		if keep[i] {
			dst = append(dst, eps[i])
		}
	}
	return dst
}

// score returns for each endpoint the weighted sum of its scores less its costs.
func (s *Scheduler) score(ctx context.Context, p *pipeline, req *types.Request, eps []*types.Endpoint, sc *scratch, ex *Explanation) []float64 {
	totals := sc.totals[:len(eps)]
	clear(totals)
	scores := sc.scores[:len(eps)]
	for i := range p.Scorers {
		w := &p.Scorers[i]
		fillNaN(scores)
		if err := s.runScorer(ctx, w, req, eps, scores); err != nil {
			s.drop(req, err, ex)
			continue
		}
		mean := addWeighted(totals, scores, w.Weight)
		ex.scored(w, req, eps, scores, mean)
	}
	for i := range p.Costs {
		c := &p.Costs[i]
		fillNaN(scores)
		if err := s.runCoster(ctx, c, req, eps, scores); err != nil {
			s.drop(req, err, ex)
			continue
		}
		mean := takeOff(totals, scores)
		ex.cost(c, req, eps, scores, mean)
	}
	return totals
}

// drop tells that a plugin failed and that the decision goes on without it.
func (s *Scheduler) drop(req *types.Request, err *PluginError, ex *Explanation) {
	ex.dropped(err)
	s.failed(req, err)
}

// takeOff takes costs off totals. What is not finite counts as the mean of the
// others, which is returned (0 if there are none).
func takeOff(totals, costs []float64) (mean float64) {
	totals = totals[:len(costs)]
	sum, known := 0.0, 0
	for i, c := range costs {
		if finite(c) {
			totals[i] -= c
			sum += c
			known++
		}
	}
	if known == 0 || known == len(costs) {
		return 0
	}
	mean = sum / float64(known)
	for i, c := range costs {
		if !finite(c) {
			totals[i] -= mean
		}
	}
	return mean
}

// finite reports whether v is a number: the difference of anything else with itself
// is a NaN.
func finite(v float64) bool { return v-v == 0 }

// addWeighted adds w times each score to totals. Scores are clamped to 0..1; a
// NaN counts as the mean of the others, which is returned (0 if there are none).
func addWeighted(totals, scores []float64, w float64) (mean float64) {
	totals = totals[:len(scores)]
	for i, v := range scores {
		// The bits of the numbers from 0 to 1 are in order and below those of all
		// other numbers and NaNs, so one comparison tells them apart.
		if math.Float64bits(v) > bitsOfOne {
			return addIrregular(totals, scores, w, i)
		}
		totals[i] += w * v
	}
	return 0 // not needed: nobody lacks a score
}

const bitsOfOne = 0x3ff0000000000000 // math.Float64bits(1)

// addIrregular goes on from element i, where the first score that is NaN or out
// of range was met.
func addIrregular(totals, scores []float64, w float64, i int) (mean float64) {
	sum, known := 0.0, 0
	for _, v := range scores {
		if v == v {
			sum += clamp(v)
			known++
		}
	}
	if known > 0 {
		mean = sum / float64(known)
	}
	for ; i < len(scores); i++ {
		v := scores[i]
		if v != v {
			v = mean
		}
		totals[i] += w * clamp(v)
	}
	return mean
}

func clamp(v float64) float64 { return min(max(v, 0), 1) }

// pick fills in d.Endpoint and d.Fallbacks.
func (s *Scheduler) pick(ctx context.Context, p *pipeline, req *types.Request, eps []*types.Endpoint, totals []float64, by []int32, sc *scratch, d *Decision, ex *Explanation) error {
	helper := func(i int) *types.Endpoint {
		if by == nil || by[i] < 0 {
			return nil
		}
		return sc.second.left[by[i]]
	}
	more := min(p.Fallbacks, len(eps)-1)
	if more > 0 {
		d.Fallbacks = d.room[:0:more]
		if best := sc.best[:more+1]; s.rank(p, req, totals, best) {
			for rank, i := range best {
				if eps[i].Load == nil {
					return noLoad(p, eps[i])
				}
				d.choose(eps[i], helper(i), rank, ex)
			}
			return nil
		}
		if &eps[0] != &sc.eps[:1][0] {
			eps = sc.owned(eps)
		}
	}
	for rank := 0; ; rank++ {
		i, err := s.runPicker(ctx, p, req, eps, totals)
		switch {
		case err != nil:
			if rank > 0 && errors.Is(err, ErrNoEndpoint) {
				return nil // a picker may decline to name a fallback
			}
			return &PluginError{"picker", p.picker, err}
		case i < 0 || i >= len(eps):
			return &PluginError{"picker", p.picker, fmt.Errorf("picked index %d of %d endpoints", i, len(eps))}
		case eps[i].Load == nil:
			return noLoad(p, eps[i])
		}
		if d.choose(eps[i], helper(i), rank, ex); rank == more {
			return nil
		}
		last := len(eps) - 1
		eps[i], totals[i] = eps[last], totals[last]
		eps, totals = eps[:last], totals[:last]
		if by != nil {
			by[i] = by[last]
		}
	}
}

func noLoad(p *pipeline, ep *types.Endpoint) error {
	return &PluginError{"picker", p.picker, fmt.Errorf("endpoint %q has no Load: %w", ep.ID, ErrNoLoad)}
}

// choose makes ep the endpoint, for which prefill computes the prompt unless it is nil; or the next fallback,
// of which it is decided when it comes to it.
func (d *Decision) choose(ep, prefill *types.Endpoint, rank int, ex *Explanation) {
	ex.picked(ep, rank)
	if rank == 0 {
		d.Endpoint, d.current, d.leg.at = ep, ep, prefill
		ex.helped(prefill)
	} else {
		d.Fallbacks = append(d.Fallbacks, ep)
	}
}

// fallBack adds endpoints of the request's Reserve to d.Fallbacks, those with the fewest
// requests first. That the filters leave none of them is no error.
func (s *Scheduler) fallBack(ctx context.Context, p *pipeline, req *types.Request, d *Decision, ex *Explanation) {
	sc := getScratch(len(req.Reserve))
	defer sc.free()
	left, err := s.filter(ctx, p, req, sc.look(req.Reserve), &sc.overview, sc, nil)
	if err != nil {
		return
	}
	d.Fallbacks = append(d.room[:0], d.Fallbacks...)
	for left = sc.owned(left); len(left) > 0 && len(d.Fallbacks) < p.Fallbacks; {
		least, n := 0, int64(math.MaxInt64)
		for i, ep := range left {
			if ep.Load == nil {
				continue
			}
			if has := ep.Load.Requests(); has < n {
				least, n = i, has
			}
		}
		if n == math.MaxInt64 {
			return
		}
		d.Fallbacks = append(d.Fallbacks, left[least])
		ex.reserved(left[least])
		left[least] = left[len(left)-1]
		left = left[:len(left)-1]
	}
}

// Constraint returns the conjunction of the constraints of all filters that are Constrainers.
func (s *Scheduler) Constraint(req *types.Request, eps []*types.Endpoint) Constraint {
	req.Now = s.profile.Now()
	req.StaleBefore = req.Now.Add(-s.profile.MetricsTTL)
	var all Constraint
	for _, c := range s.pipelineOf(req).limits {
		switch one := s.constraint(c, req, eps); {
		case one.Match == nil:
		case all.Match == nil:
			all = one
		default:
			before := all.Match
			all.Name += "\x00" + one.Name
			all.Match = func(ep *types.Endpoint) bool { return before(ep) && one.Match(ep) }
			all.Preferred = all.Preferred && one.Preferred
		}
	}
	return all
}

// Constrains reports whether any filter is a Constrainer.
func (s *Scheduler) Constrains() bool {
	return slices.ContainsFunc(s.pipelines, func(p *pipeline) bool { return len(p.limits) > 0 })
}

// Forget makes all plugins drop their state about ep, because it was removed or its server restarted
// with empty caches. Open decisions stay booked until they are done. A director calls it itself;
// others call ep.Load.Retire before, if the endpoint was removed for good.
func (s *Scheduler) Forget(ep *types.Endpoint) {
	for _, f := range s.forgetter {
		s.forget(f, ep)
	}
}

// Open returns the number of decisions that are booked and not done.
func (s *Scheduler) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open.n
}

// Expire ends expired bookings. Schedule and Explain do so too; call it if ledgers are read while
// nothing is scheduled for a long time. The zero time is now, by Profile.Now.
func (s *Scheduler) Expire(now time.Time) {
	if now.IsZero() {
		now = s.profile.Now()
	}
	for now.UnixNano() >= s.open.next.Load() {
		s.mu.Lock()
		d := s.open.popExpired(now, s.profile.BookingTTL)
		s.mu.Unlock()
		if d == nil {
			return
		}
		d.Done(d.expired())
	}
}

// list enters a decision into those that are open.
func (s *Scheduler) list(d *Decision, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open.add(d, now.Add(s.profile.BookingTTL))
}

// renew puts off the expiry after a sign of life.
func (s *Scheduler) renew(d *Decision, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.listed.Of != nil {
		s.open.remove(d)
		s.open.add(d, now.Add(s.profile.BookingTTL))
	}
}

// unlist takes it out, if it is in.
func (s *Scheduler) unlist(d *Decision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open.remove(d)
}
