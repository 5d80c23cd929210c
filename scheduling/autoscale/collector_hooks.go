package autoscale

import (
	"cmp"
	"errors"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
)

// Hooks returns hooks for the schedulers of a pool, which call those of next too, as telemetry.Metrics.Hooks does. With
// a zero pool they find the pool of each event by its endpoint.
//
// They add less than a microsecond to a request, and no allocation once its model is known: see BenchmarkHooks.
func (c *Collector) Hooks(pool types.NamespacedName, next scheduling.Hooks) scheduling.Hooks {
	of := c.tallyOf
	if !pool.IsZero() {
		p := c.tally(pool)
		of = func(*types.Endpoint) *tally { return p }
	}
	h := next
	h.Scheduled = before(next.Scheduled, func(e scheduling.Event) { c.scheduled(of(e.Endpoint), &e) })
	h.FirstToken = before(next.FirstToken, func(e scheduling.Event) { c.began(&e) })
	h.Retried = before(next.Retried, func(e scheduling.Event) { c.retried(&e) })
	h.Finished = before(next.Finished, func(e scheduling.Event) { c.finished(e.Request, &e.Outcome) })
	if !pool.IsZero() {
		h.Rejected = func(req *types.Request, err error) {
			c.rejected(of(nil), req, err)
			if next.Rejected != nil {
				next.Rejected(req, err)
			}
		}
	}
	return h
}

// before returns a hook that calls own, and then next unless it is nil.
func before[E any](next, own func(E)) func(E) {
	if next == nil {
		return own
	}
	return func(e E) {
		own(e)
		next(e)
	}
}

// scheduled is told that a request was booked.
func (c *Collector) scheduled(p *tally, e *scheduling.Event) {
	if p == nil {
		return
	}
	req, now := e.Request, e.Request.Now
	u := c.uses.Get().(*use)
	compute := float64(e.Booked.PrefillTokens)
	p.mu.Lock()
	*u = use{pool: p, of: p.model(req.Model, c.o.MaxModels, now), compute: compute}
	if w, ok := p.waits[req]; ok && w.letIn {
		u.waited = w.waited.Seconds()
		delete(p.waits, req)
	}
	if load := e.Endpoint.Load; load != nil {
		u.alone = load.Prefilling() <= 1 && e.Prefill == nil
		u.others = float64(load.Requests())
	}
	prompt := float64(req.Prompt.Tokens)
	for _, a := range [...]*account{p.all, u.of} {
		if a == nil {
			continue
		}
		if prompt > 0 && keeps(req) {
			a.cached.add(compute/prompt, prompt, promptMemory)
		}
		if !p.gated {
			_, output := a.expects(p.all, req)
			a.arrives(prompt, compute, output, now)
		}
		a.running++
	}
	p.mu.Unlock()
	c.key.Set(&req.Attrs, u)
	c.wake(p)
}

// began is told of a first token.
func (c *Collector) began(e *scheduling.Event) {
	u, _ := c.key.Get(&e.Request.Attrs)
	if u == nil || !u.alone || c.o.Speeds != nil {
		return
	}
	u.pool.mu.Lock()
	defer u.pool.mu.Unlock()
	u.pool.learner.first(e.Request.Now.Sub(e.At).Seconds(), u.compute)
}

// retried is told that a request went on elsewhere: how long it takes tells nothing any more.
func (c *Collector) retried(e *scheduling.Event) {
	if u, _ := c.key.Get(&e.Request.Attrs); u != nil {
		u.alone, u.compute, u.others = false, float64(e.Booked.PrefillTokens), 0
	}
}

// finished is told that a request ended.
func (c *Collector) finished(req *types.Request, out *types.Outcome) {
	u, _ := c.key.Get(&req.Attrs)
	if u == nil {
		return
	}
	c.key.Set(&req.Attrs, nil)
	p := u.pool
	p.mu.Lock()
	for _, a := range [...]*account{p.all, u.of} {
		if a != nil {
			a.running--
			a.ends(req, out, u.compute, u.waited, &p.targets, req.Now)
		}
	}
	n := out.Usage.CompletionTokens.Or(float64(out.Tokens))
	if c.o.Speeds == nil && u.others > 0 && n > leastLearnOutput && out.Served() && req.Stream && out.TTFT > 0 {
		p.learner.answered((out.Duration-out.TTFT).Seconds()/(n-1), u.others)
	}
	p.mu.Unlock()
	*u = use{}
	c.uses.Put(u)
}

// leastLearnOutput is more than how many tokens tell how long a step takes.
const leastLearnOutput = 8

// rejected is told that no endpoint was found for a request, where nobody tells of refusals.
func (c *Collector) rejected(p *tally, req *types.Request, err error) {
	none, full := errors.Is(err, scheduling.ErrNoEndpoint), errors.Is(err, scheduling.ErrSaturated)
	if none || full {
		c.lost(p, req, none, false)
	}
}

// Refused is told of a request that was answered with an error in place of a server: see director.Options.OnRefused.
// One that found no endpoint wakes its pool.
func (c *Collector) Refused(req *types.Request, pool types.NamespacedName, code string, _ int) {
	none, full := code == codeNoEndpoint, code == codeSaturated
	if pool.IsZero() || !none && !full {
		return
	}
	c.lost(c.tally(pool), req, none, true)
}

// Codes of refusals that tell of a lack of servers: director.CodeNoEndpoint, which is admission.NoEndpoint too, and
// director.CodeSaturated.
const (
	codeNoEndpoint = string(admission.NoEndpoint)
	codeSaturated  = string(admission.Saturated)
)

// lost counts a request that was refused for want of servers, unless admission control has counted it.
func (c *Collector) lost(p *tally, req *types.Request, none, told bool) {
	now := c.o.Now()
	p.mu.Lock()
	if p.told = p.told || told; !p.gated && p.told == told {
		p.refuse(p.model(req.Model, c.o.MaxModels, now), req, float64(req.Prompt.Tokens), now)
	}
	p.mu.Unlock()
	if none {
		c.wake(p)
	}
}

// arrive counts a request of a model, which may be nil, in the pool and in the model. Caller must hold p.mu.
func (p *tally) arrive(of *account, req *types.Request, tokens float64, now time.Time) {
	for _, a := range [...]*account{p.all, of} {
		if a != nil {
			part, output := a.expects(p.all, req)
			a.arrives(tokens, tokens*part, output, now)
		}
	}
}

// refuse counts a request that came and was refused. Caller must hold p.mu.
func (p *tally) refuse(of *account, req *types.Request, tokens float64, now time.Time) {
	p.arrive(of, req, tokens, now)
	p.countRefused(of, tokens, now)
}

func (p *tally) countRefused(of *account, tokens float64, now time.Time) {
	for _, a := range [...]*account{p.all, of} {
		if a != nil {
			a.refused.add(tokens, 0, 0, now)
		}
	}
}

// AdmissionHooks returns hooks for the admission control of a pool with the options o, which call those of o too:
//
//	o.Hooks = c.AdmissionHooks(pool, *o)
//
// From then on it is admission control that says what comes.
func (c *Collector) AdmissionHooks(name types.NamespacedName, o admission.Options) admission.Hooks {
	p, h := c.tally(name), o.Hooks
	p.mu.Lock()
	p.gated, p.maxWait, p.waitForEndpoints = true, maxWait(&o), o.WaitForEndpoints
	p.mu.Unlock()
	next := h
	h.Queued = before(next.Queued, func(t *admission.Ticket) { c.queued(p, t) })
	h.Dispatched = func(t *admission.Ticket, waited time.Duration) {
		c.letIn(p, t, waited)
		if next.Dispatched != nil {
			next.Dispatched(t, waited)
		}
	}
	h.Refused = func(t *admission.Ticket, r *admission.Refusal) {
		c.turnedAway(p, t, r)
		if next.Refused != nil {
			next.Refused(t, r)
		}
	}
	h.Cancelled = func(t *admission.Ticket, waited time.Duration) {
		p.mu.Lock()
		p.leave(t)
		p.mu.Unlock()
		if next.Cancelled != nil {
			next.Cancelled(t, waited)
		}
	}
	h.Finished = func(t *admission.Ticket, out types.Outcome) {
		p.mu.Lock()
		delete(p.waits, t.Request()) // of one that was let in and never booked
		p.mu.Unlock()
		if next.Finished != nil {
			next.Finished(t, out)
		}
	}
	return h
}

// maxWait is how long requests of no special priority wait at most.
func maxWait(o *admission.Options) time.Duration {
	bands := o.Bands
	if len(bands) == 0 {
		bands = admission.DefaultBands()
	}
	var of *admission.Band // the highest that they may belong to
	for i := range bands {
		if b := &bands[i]; b.Priority <= types.PriorityStandard && (of == nil || b.Priority > of.Priority) {
			of = b
		}
	}
	if of == nil {
		return admission.DefaultMaxWait
	}
	return cmp.Or(of.MaxWait, admission.DefaultMaxWait)
}

// queued is told that a request waits.
func (c *Collector) queued(p *tally, t *admission.Ticket) {
	now, req := c.o.Now(), t.Request()
	p.mu.Lock()
	of := p.model(req.Model, c.o.MaxModels, now)
	tokens := int64(t.PromptTokens())
	p.arrive(of, req, float64(tokens), now)
	p.waits[req] = wait{of: of, tokens: tokens, since: now}
	p.wait(of, 1, tokens)
	p.mu.Unlock()
	c.wake(p)
}

// wait counts requests that wait. Caller must hold p.mu.
func (p *tally) wait(of *account, n, tokens int64) {
	for _, a := range [...]*account{p.all, of} {
		if a != nil {
			a.queued += n
			a.tokens += tokens
		}
	}
}

// leave takes a request off those that wait, and returns what was known of it. Caller must hold p.mu.
func (p *tally) leave(t *admission.Ticket) (w wait, waited bool) {
	req := t.Request()
	w, ok := p.waits[req]
	if !ok || w.letIn {
		return w, false
	}
	p.wait(w.of, -1, -w.tokens)
	delete(p.waits, req)
	return w, true
}

// letIn is told that a request may go.
func (c *Collector) letIn(p *tally, t *admission.Ticket, waited time.Duration) {
	now, req := c.o.Now(), t.Request()
	p.mu.Lock()
	if w, ok := p.leave(t); ok {
		w.letIn, w.waited = true, waited
		p.waits[req] = w
	} else {
		p.arrive(p.model(req.Model, c.o.MaxModels, now), req, float64(t.PromptTokens()), now)
	}
	p.mu.Unlock()
	c.wake(p)
}

// turnedAway is told that a request may not go. Who is over a budget asks for more than was agreed on: no replica is to
// be started for that.
func (c *Collector) turnedAway(p *tally, t *admission.Ticket, r *admission.Refusal) {
	switch r.Reason {
	case admission.Requests, admission.Tokens, admission.Closed:
		return
	}
	now, req := c.o.Now(), t.Request()
	p.mu.Lock()
	tokens := float64(t.PromptTokens())
	if w, ok := p.leave(t); ok {
		for _, a := range [...]*account{p.all, w.of} {
			if a != nil {
				target := p.targets.of(req.SLO.TTFT, p.targets.ttft)
				a.ttft.add(max(r.Waited.Seconds(), 2*target), target, now) // it would have come later still
			}
		}
		p.countRefused(w.of, tokens, now)
	} else {
		p.refuse(p.model(req.Model, c.o.MaxModels, now), req, tokens, now)
	}
	p.mu.Unlock()
	c.wake(p)
}
