package director

import (
	"context"
	"slices"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
)

// admit waits until the request may be scheduled, and returns the endpoints it may go to
// then.
func (d *Director) admit(ctx context.Context, r *Route, candidates []*types.Endpoint, in *Incoming) ([]*types.Endpoint, error) {
	one := d.gate(r.Pool)
	if one == nil {
		return candidates, nil
	}
	c, err := one.wait(ctx)
	if c == nil {
		return candidates, err
	}
	a := arrival(r, candidates, in)
	if in.Explain {
		report := c.Explain(a)
		r.Admission = &report
	}
	r.ticket, r.Waited, err = c.Admit(ctx, a)
	if err != nil {
		return nil, err
	}
	r.Request.Admitted = true
	if r.Waited > 0 {
		candidates = r.subset.of(endpointsOf(d.o.Store.Snapshot(), r.Pool))
	}
	answer, helpers := byRole(candidates)
	have := withPlace(r.ticket, a.Match, answer)
	if len(have) == len(answer) {
		return candidates, nil
	}
	r.Request.Reserve = without(answer, have)
	return append(slices.Clip(have), helpers...), nil
}

// byRole returns those of eps that may answer, which take a place, and the others, which at most
// compute prompts for them.
func byRole(eps []*types.Endpoint) (answer, helpers []*types.Endpoint) {
	if answerAll(eps) {
		return eps, nil
	}
	for _, ep := range eps {
		if ep.Roles.Answers() {
			answer = append(answer, ep)
		} else {
			helpers = append(helpers, ep)
		}
	}
	return answer, helpers
}

func answers(ep *types.Endpoint) bool { return ep.Roles.Answers() }

// answerAll reports whether all of eps may answer.
func answerAll(eps []*types.Endpoint) bool {
	return !slices.ContainsFunc(eps, func(ep *types.Endpoint) bool { return !ep.Roles.Answers() })
}

// without returns those of all that are not in some, a part of it in the same order.
func without(all, some []*types.Endpoint) []*types.Endpoint {
	others := make([]*types.Endpoint, 0, len(all)-len(some))
	for _, ep := range all {
		if len(some) > 0 && ep == some[0] {
			some = some[1:]
		} else {
			others = append(others, ep)
		}
	}
	return others
}

// withPlace returns those of the candidates that have a place for the request. Those that
// its filters will strike out do not count: only they may have one.
func withPlace(t *admission.Ticket, match func(*types.Endpoint) bool, candidates []*types.Endpoint) []*types.Endpoint {
	if match == nil {
		return t.Candidates(nil, candidates)
	}
	may := matching(candidates, match)
	if have := t.Candidates(nil, may); len(have) < len(may) {
		return have
	}
	return candidates
}

// arrival is the request as admission control sees it.
func arrival(r *Route, candidates []*types.Endpoint, in *Incoming) admission.Arrival {
	a := admission.Arrival{Request: &r.Request, MaxWait: in.MaxWait}
	if r.scheduler.Constrains() {
		c := r.scheduler.Constraint(&r.Request, candidates)
		a.Candidates, a.Match, a.Preferred = c.Name, c.Match, c.Preferred
	}
	if s := r.subset; s != nil {
		restrict(&a, "subset "+s.name(), s.has)
	}
	if !answerAll(candidates) {
		restrict(&a, "answers", answers)
	}
	return a
}

// restrict makes match a condition, too. What the gateway allows is no preference.
func restrict(a *admission.Arrival, name string, match func(*types.Endpoint) bool) {
	a.Preferred = false
	a.Candidates += "\x00" + name
	if before := a.Match; before != nil {
		a.Match = func(ep *types.Endpoint) bool { return before(ep) && match(ep) }
	} else {
		a.Match = match
	}
}

// ExplainAdmission returns what admission control would do with a request now, and why,
// and whether its pool has one. The error is an *Error.
func (d *Director) ExplainAdmission(in Incoming) (admission.Report, bool, error) {
	r := &Route{director: d}
	candidates, err := d.prepare(r, &in)
	if err != nil {
		return admission.Report{}, false, d.translate(err, r)
	}
	c, err := d.Admission(r.Pool)
	switch {
	case err != nil:
		return admission.Report{}, false, d.translate(err, r)
	case c == nil || !r.generates:
		return admission.Report{}, false, nil
	}
	return c.Explain(arrival(r, candidates, &in)), true, nil
}
