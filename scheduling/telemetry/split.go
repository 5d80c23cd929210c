package telemetry

import (
	"sync/atomic"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// This file counts, by pool, requests of which one endpoint may compute the prompt and another one answer.

// progress is what is known of the prompt of one request.
type progress uint8

const (
	apart  progress = 1 << iota // another endpoint computes it, or has
	failed                      // one failed to
	began                       // there was a first token: it is known who computed it
)

// prompts are the values of the label prompt: who computed the prompts of requests that ended well.
var prompts = [...]string{"apart", "alone", "fallback"}

// prefillOutcomes are the values of the label outcome: how requests for a prompt alone ended.
var prefillOutcomes = [...]string{"served", "failed", "cancelled"}

// splits is what is counted of a pool.
type splits struct {
	prompts  [len(prompts)]atomic.Uint64
	outcomes [len(prefillOutcomes)]atomic.Uint64
	retries  atomic.Uint64
	duration histogram // of those that were served
}

// note changes what is known of the prompt of a request, which is kept with it. Values of one byte take
// no allocation.
func (m *Metrics) note(req *types.Request, change func(progress) progress) {
	if req.Split {
		was, _ := m.progress.Get(&req.Attrs)
		m.progress.Set(&req.Attrs, change(was))
	}
}

// sent notes who is to compute the prompt, at the decision or after a retry.
func (m *Metrics) sent(e *scheduling.Event) {
	m.note(e.Request, func(p progress) progress { return p&failed | apartIf(e.Prefill != nil) })
}

// began notes who computed it: with the first token that is known.
func (m *Metrics) began(e *scheduling.Event) {
	m.note(e.Request, func(p progress) progress { return p&failed | apartIf(e.Prefill != nil) | began })
}

func apartIf(is bool) progress {
	if is {
		return apart
	}
	return 0
}

// prefilled counts the end of a request for the prompt.
func (m *Metrics) prefilled(in *pool, e *scheduling.Event) {
	s, out := &in.splits, &e.Outcome
	i := 1
	switch {
	case out.Served():
		i = 0
		s.duration.observe(int64(out.Duration))
	case out.Cancelled:
		i = 2
	}
	s.outcomes[i].Add(1)
	m.note(e.Request, func(p progress) progress {
		if p&failed != 0 {
			s.retries.Add(1)
		}
		switch {
		case i == 1 && p&began == 0:
			p = p&^apart | failed
		case i == 0 && p&began == 0:
			p |= apart
		}
		return p
	})
}

// answered counts a request that ended well by who computed its prompt.
func (m *Metrics) answered(in *pool, req *types.Request) {
	p, _ := m.progress.Get(&req.Attrs)
	i := 1
	switch {
	case p&apart != 0:
		i = 0
	case p&failed != 0:
		i = 2
	}
	in.splits.prompts[i].Add(1)
}

// gather adds what was counted: nothing, of a pool where no request could be split.
func (s *splits) gather(g page, pool string) {
	for i := range s.prompts {
		g.count(&splitRequests, s.prompts[i].Load(), pool, prompts[i])
	}
	for i := range s.outcomes {
		g.count(&prefills, s.outcomes[i].Load(), prefillOutcomes[i], pool)
	}
	g.count(&prefillRetries, s.retries.Load(), pool)
	g.histogram(&prefillDurations, &s.duration, prefillDurations.with(pool))
}
