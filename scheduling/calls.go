package scheduling

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/types"
)

// This file has the calls of user code. Each recovers from panics and reports them: whatever a plugin
// does, bookings stay correct, other plugins are called, and the process continues.

// PanicError is a panic of a plugin or a hook.
type PanicError struct {
	Value any
	Stack []byte
}

// Error returns what the plugin panicked with.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap returns the value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// panicked returns an error for a recovered value.
func panicked(stage, plugin string, value any) *PluginError {
	return &PluginError{stage, plugin, &PanicError{value, debug.Stack()}}
}

func (s *Scheduler) runFilter(ctx context.Context, f *Named, req *types.Request, eps []*types.Endpoint, keep []bool) (err *PluginError) {
	defer func() {
		if v := recover(); v != nil {
			err = panicked("filter", f.Name, v)
			s.failed(req, err)
		}
	}()
	if err := f.Filter.Filter(ctx, req, eps, keep); err != nil {
		return &PluginError{"filter", f.Name, err}
	}
	return nil
}

func (s *Scheduler) runScorer(ctx context.Context, w *Weighted, req *types.Request, eps []*types.Endpoint, scores []float64) (err *PluginError) {
	defer func() {
		if v := recover(); v != nil {
			err = panicked("scorer", w.Name, v)
		}
	}()
	if err := w.Scorer.Score(ctx, req, eps, scores); err != nil {
		return &PluginError{"scorer", w.Name, err}
	}
	return nil
}

func (s *Scheduler) runCoster(ctx context.Context, c *Costed, req *types.Request, eps []*types.Endpoint, costs []float64) (err *PluginError) {
	defer func() {
		if v := recover(); v != nil {
			err = panicked("cost", c.Name, v)
		}
	}()
	if err := c.Coster.Cost(ctx, req, eps, costs); err != nil {
		return &PluginError{"cost", c.Name, err}
	}
	return nil
}

func (s *Scheduler) runPicker(ctx context.Context, p *pipeline, req *types.Request, eps []*types.Endpoint, scores []float64) (i int, err error) {
	defer func() {
		if v := recover(); v != nil {
			one := panicked("picker", p.picker, v)
			s.failed(req, one)
			err = one.Err
		}
	}()
	return p.Picker.Pick(ctx, req, eps, scores)
}

// rank asks the picker for the best endpoints at once, if it can name them.
func (s *Scheduler) rank(p *pipeline, req *types.Request, totals []float64, best []int) (ranked bool) {
	if p.ranker == nil {
		return false
	}
	defer func() {
		if v := recover(); v != nil {
			s.failed(req, panicked("picker", p.picker, v))
			ranked = false
		}
	}()
	return p.ranker.Rank(totals, best)
}

// failed reports that a plugin failed. A panic of that hook is ignored.
func (s *Scheduler) failed(req *types.Request, err *PluginError) {
	if h := s.profile.Hooks.PluginFailed; h != nil {
		defer func() { _ = recover() }()
		h(req, err)
	}
}

// hook calls one of Hooks.
func (s *Scheduler) hook(h func(Event), name string, e *Event) {
	if h == nil {
		return
	}
	defer func() {
		if v := recover(); v != nil {
			s.failed(e.Request, panicked("hook", name, v))
		}
	}()
	h(*e)
}

// rejected reports that there is no decision.
func (s *Scheduler) rejected(req *types.Request, err error) {
	h := s.profile.Hooks.Rejected
	if h == nil {
		return
	}
	defer func() {
		if v := recover(); v != nil {
			s.failed(req, panicked("hook", "Rejected", v))
		}
	}()
	h(req, err)
}

// eachOf calls f for every tracker in all. If one panics it continues with the next.
func eachOf[T any](s *Scheduler, all []T, req *types.Request, f func(T)) {
	for i := 0; i < len(all); {
		i = eachFrom(s, all, i, req, f)
	}
}

func eachFrom[T any](s *Scheduler, all []T, i int, req *types.Request, f func(T)) (next int) {
	defer func() {
		if v := recover(); v != nil {
			s.failed(req, panicked("tracker", nameOf("", all[i]), v))
			next = i + 1
		}
	}()
	for ; i < len(all); i++ {
		f(all[i])
	}
	return i
}

func (s *Scheduler) picked(req *types.Request, ep *types.Endpoint) {
	eachOf(s, s.trackers, req, func(t Tracker) { t.Picked(req, ep) })
}

func (s *Scheduler) firstToken(req *types.Request, ep *types.Endpoint) {
	eachOf(s, s.trackers, req, func(t Tracker) { t.FirstToken(req, ep) })
}

func (s *Scheduler) finished(req *types.Request, ep *types.Endpoint, out *types.Outcome) {
	eachOf(s, s.trackers, req, func(t Tracker) { t.Finished(req, ep, *out) })
}

func (s *Scheduler) reread(req *types.Request) {
	eachOf(s, s.trackers, req, func(t Tracker) {
		if r, ok := t.(Rereader); ok {
			r.Reread(req)
		}
	})
}

func (s *Scheduler) answered(req *types.Request, ep *types.Endpoint, out *types.Outcome) {
	eachOf(s, s.answers, req, func(t AnswerTracker) { t.Answered(req, ep, *out) })
}

func (s *Scheduler) prefillPicked(req *types.Request, prefill, answer *types.Endpoint) {
	eachOf(s, s.prefills, req, func(t PrefillTracker) { t.PrefillPicked(req, prefill, answer) })
}

func (s *Scheduler) prefillFinished(req *types.Request, prefill *types.Endpoint, out *types.Outcome) {
	eachOf(s, s.prefills, req, func(t PrefillTracker) { t.PrefillFinished(req, prefill, *out) })
}

// legBooking returns the booking of a request at an endpoint that computes its prompt for another.
func (s *Scheduler) legBooking(req *types.Request, ep *types.Endpoint) types.Booking {
	b := s.booking(req, ep)
	b.ContextTokens = int64(req.Prompt.Tokens)
	return b
}

func (s *Scheduler) runSplitter(ctx context.Context, p *pipeline, req *types.Request, eps, prefill []*types.Endpoint, must bool, by []int32, gains []float64) (err *PluginError) {
	defer func() {
		if v := recover(); v != nil {
			err = panicked("splitter", p.splitterName, v)
		}
	}()
	if err := p.splitter.Split(ctx, req, eps, prefill, must, by, gains); err != nil {
		return &PluginError{"splitter", p.splitterName, err}
	}
	return nil
}

// prefillTime asks how long an endpoint would take for a prompt, if anybody can tell.
func (s *Scheduler) prefillTime(req *types.Request, ep *types.Endpoint) (takes time.Duration, known bool) {
	p := s.pipelineOf(req)
	e, known := p.splitter.(PrefillEstimator)
	if !known {
		return 0, false
	}
	defer func() {
		if v := recover(); v != nil {
			s.failed(req, panicked("splitter", p.splitterName, v))
			takes, known = 0, false
		}
	}()
	return e.PrefillTime(req, ep), true
}

// booking returns the booking of a request at ep, by the estimates of plugins. Without estimates it is
// the whole prompt and the output expected by the profile, or by what the request itself says of its Work.
func (s *Scheduler) booking(req *types.Request, ep *types.Endpoint) types.Booking {
	switch req.Work.Kind {
	case types.Denoises:
		return types.Booking{Requests: 1, Denoise: s.denoise(req)}
	case types.Converses: // it speaks for as long as it lives, and nothing comes before
		return types.Booking{Requests: 1, ContextTokens: int64(req.Prompt.Tokens) + int64(max(req.Work.Output, s.profile.OutputTokens))}
	case types.Fetches:
		return types.Booking{}
	}
	prompt, output := req.Prompt.Tokens, s.profile.OutputTokens
	if req.Work.Output > 0 {
		output = req.Work.Output
	}
	uncached := prompt
	func() {
		defer func() {
			if v := recover(); v != nil {
				s.failed(req, panicked("estimator", "", v))
			}
		}()
		if s.estimator != nil {
			uncached = max(prompt-s.estimator.CachedTokens(req, ep), 0)
		}
		if s.outputs != nil {
			output = max(s.outputs.ExpectedOutput(req), 0)
		}
	}()
	if req.Work.Kind == types.Pools { // nothing comes of it that stays
		return types.Booking{Requests: 1, Prefilling: 1, PrefillTokens: int64(uncached)}
	}
	if req.MaxTokens > 0 {
		output = min(output, req.MaxTokens)
	}
	return types.Booking{Requests: 1, Prefilling: 1, PrefillTokens: int64(uncached), ContextTokens: int64(prompt) + int64(output)}
}

// denoise returns how many tokens of latents times passes a request is: as it says, or as a plugin estimates. 0: nobody
// knows.
func (s *Scheduler) denoise(req *types.Request) (tokens int64) {
	defer func() {
		if v := recover(); v != nil {
			s.failed(req, panicked("estimator", "", v))
		}
	}()
	expected := req.Work.Denoise.Tokens()
	if s.denoises != nil && !req.Work.Denoise.Known() {
		expected = s.denoises.ExpectedDenoise(req)
	}
	if !(expected > 0) {
		return 0
	}
	return int64(min(expected, mostDenoise))
}

// mostDenoise bounds what is booked of one request, so that sums of those do not overflow.
const mostDenoise = 1 << 40

func (s *Scheduler) patience(p Impatient, req *types.Request, ep *types.Endpoint) (wait time.Duration) {
	defer func() {
		if v := recover(); v != nil {
			s.failed(req, panicked("patience", nameOf("", p), v))
		}
	}()
	return p.Patience(req, ep)
}

func (s *Scheduler) constraint(c Constrainer, req *types.Request, eps []*types.Endpoint) (one Constraint) {
	defer func() {
		if v := recover(); v != nil {
			s.failed(req, panicked("filter", nameOf("", c), v))
		}
	}()
	return c.Constraint(req, eps)
}

// clockFailed reports that Profile.Now panicked.
func (s *Scheduler) clockFailed(p *guard.Panic) {
	s.failed(nil, &PluginError{"clock", p.In, &PanicError{p.Value, p.Stack}})
}

// end tells e that a decision has ended, which may be found out by another request's goroutine.
func (s *Scheduler) end(req *types.Request, e Ender, out types.Outcome) {
	defer func() {
		if v := recover(); v != nil {
			s.failed(req, panicked("ender", nameOf("", e), v))
		}
	}()
	e.Done(out)
}

// change calls the function of a Reread.
func (s *Scheduler) change(req *types.Request, f func(*types.Request)) {
	defer func() {
		if v := recover(); v != nil {
			s.failed(req, panicked("change", "Reread", v))
		}
	}()
	f(req)
}

func (s *Scheduler) forget(f Forgetter, ep *types.Endpoint) {
	defer func() {
		if v := recover(); v != nil {
			s.failed(nil, panicked("forgetter", nameOf("", f), v))
		}
	}()
	f.Forget(ep)
}
