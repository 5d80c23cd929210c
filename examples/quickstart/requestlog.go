package main

import (
	"cmp"
	"errors"
	"maps"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/scheduling/trail"
	"github.com/inferpick/inferpick/types"
)

// logSize is how many requests that went somewhere a requestLog keeps, and how many that
// did not: where many are refused, they leave the others their places.
const logSize = 200

// workloadHeader marks the requests of the built-in clients, so that the page can
// tell them from the user's own.
const workloadHeader = "X-Quickstart-Workload"

// What becomes of a request.
const (
	outcomeQueued    = "queued"
	outcomeRunning   = "running"
	outcomeDone      = "done"
	outcomeCancelled = "cancelled"
	outcomeRefused   = "refused"
	outcomeFailed    = "failed"
)

// entry is one request as the gateway sees it. Times are in milliseconds.
type entry struct {
	ID       uint64    `json:"id"`
	At       time.Time `json:"at"`
	Model    string    `json:"model"`
	Target   string    `json:"target"`
	Endpoint string    `json:"endpoint"`
	Gateway  string    `json:"gateway"` // that sent it there
	Yours    bool      `json:"yours"`   // not of the workload
	Priority int       `json:"priority"`
	Tenant   string    `json:"tenant,omitempty"`
	Session  string    `json:"session,omitempty"`
	Program  string    `json:"program,omitempty"` // if it is not the session's own

	PromptTokens int      `json:"promptTokens"` // estimated until the server reports
	CachedTokens *float64 `json:"cachedTokens"` // nil: not reported
	// Predicted is how many tokens were taken to be cached when it was sent; nil: the policy does
	// not look.
	Predicted    *float64 `json:"predictedTokens"`
	OutputTokens *float64 `json:"outputTokens"` // nil: not reported

	Waited  *float64 `json:"waited"` // to be let in; nil: there was room
	TTFT    *float64 `json:"ttft"`   // the wait included; nil: no token yet
	Total   *float64 `json:"total"`  // nil: under way
	Outcome string   `json:"outcome"`
	// Reason is why it was refused, in a word, and RetryAfter what the client was told.
	Reason     string  `json:"reason,omitempty"`
	RetryAfter float64 `json:"retryAfter,omitempty"`
	Error      string  `json:"error,omitempty"`

	end         uint64            // its place among those that have ended
	ticket      *admission.Ticket // while it waits
	report      *admission.Report // of when it came; nil: it was not let in, or none is kept
	explanation *scheduling.Explanation
	peers       map[string][]string // what other gateways had said of servers, by their IDs
}

// requestLog follows requests by the hooks of their admission control and their
// scheduler and keeps the last ones, each with the explanation of its decision. All
// methods may be called from any goroutine.
type requestLog struct {
	predicts bool // the policy knows what servers hold
	trail    *trail.Trail

	mu       sync.Mutex
	last     uint64 // id
	open     map[*types.Request]*entry
	end      uint64   // how many have ended
	ended    []*entry // the last that went somewhere, in the order of their ends
	unrouted []*entry // and that did not
	count    map[target]uint64
	recent   window[target]
	all      tally            // of the workload
	bands    map[int]*bandLog // by priority; there are no more than the manifests have
}

// target is what requests are counted by. There are no more of them than public
// models times endpoints, for models that no manifest names are refused.
type target struct{ endpoint, model string }

func newRequestLog() *requestLog {
	t, _ := trail.New(trail.Options{}) // the zero value has no error
	return &requestLog{trail: t, open: map[*types.Request]*entry{}, count: map[target]uint64{}, bands: map[int]*bandLog{}}
}

// change calls f with the entry of a request that is under way, if there is one.
func (l *requestLog) change(req *types.Request, f func(*entry)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.open[req]; e != nil {
		f(e)
	}
}

// admissionHooks returns what the admission control is to call. It does so with its lock
// held: no method of a Ticket may be called while l.mu is.
func (l *requestLog) admissionHooks() admission.Hooks {
	return admission.Hooks{
		Queued: func(t *admission.Ticket) {
			l.mu.Lock()
			defer l.mu.Unlock()
			e := l.openLocked(t.Request())
			e.Outcome, e.ticket = outcomeQueued, t
		},
		Dispatched: func(t *admission.Ticket, waited time.Duration) {
			l.trail.Waited(t.Request(), waited)
			l.mu.Lock()
			defer l.mu.Unlock()
			ms := milliseconds(waited)
			l.bandLocked(t.Request().Priority).admitted(ms, time.Now())
			if e := l.open[t.Request()]; e != nil {
				e.Waited, e.ticket = &ms, nil
			}
		},
	}
}

// hooks returns what the scheduler of a gateway is to call.
func (l *requestLog) hooks(gateway string) scheduling.Hooks {
	return l.trail.Hooks(scheduling.Hooks{
		Scheduled: func(ev scheduling.Event) {
			l.mu.Lock()
			defer l.mu.Unlock()
			e := l.openLocked(ev.Request)
			e.Outcome, e.Gateway = outcomeRunning, gateway
			l.sentLocked(e, ev.Endpoint.ID)
			l.predictedLocked(e, &ev)
		},
		FirstToken: func(ev scheduling.Event) {
			l.change(ev.Request, func(e *entry) { e.TTFT = since(e.At) })
		},
		Retried: func(ev scheduling.Event) {
			l.change(ev.Request, func(e *entry) {
				l.sentLocked(e, ev.Endpoint.ID)
				l.predictedLocked(e, &ev)
			})
		},
		Finished: func(ev scheduling.Event) {
			l.change(ev.Request, func(e *entry) { l.finishedLocked(e, ev) })
		},
	})
}

// routed is told of a route by the transport: it has the explanation of what the hook
// Scheduled was told just before. Others are what peers had said then.
func (l *requestLog) routed(r *director.Route, others *sharing.Group) {
	peers := map[string][]string{}
	for _, c := range r.Explanation.Candidates {
		for _, claim := range others.Explain(c.Endpoint, time.Now()) {
			peers[c.ID] = append(peers[c.ID], claim.String())
		}
	}
	l.change(&r.Request, func(e *entry) { e.explanation, e.report, e.peers = r.Explanation, r.Admission, peers })
}

// refused is the director's OnRefused: it hears of every request that is not routed,
// whoever refused it. Those that were the client's own fault are not kept.
func (l *requestLog) refused(req *types.Request, _ types.NamespacedName, err *director.Error) {
	l.trail.Refused(req, err.Code, err.Status)
	outcome := outcomeFailed
	switch err.Status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		outcome = outcomeRefused
	case director.StatusClientClosed:
		outcome = outcomeCancelled
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[req] == nil && outcome == outcomeFailed && err.Status != http.StatusInternalServerError {
		return
	}
	e := l.openLocked(req)
	switch outcome {
	case outcomeRefused:
		e.Reason, e.RetryAfter, e.Error = err.Code, err.RetryAfter.Seconds(), why(err)
	case outcomeFailed:
		e.Error = why(err)
	}
	e.ticket = nil
	if e.Waited == nil {
		e.Waited = since(e.At)
	}
	l.endLocked(req, e, outcome)
}

// why returns what was full or broken, in our words rather than in those for clients.
func why(err *director.Error) string {
	var r *admission.Refusal
	switch {
	case errors.As(err, &r):
		return r.Detail
	case err.Err != nil:
		return err.Err.Error()
	}
	return err.Message
}

func (l *requestLog) finishedLocked(e *entry, ev scheduling.Event) {
	out := ev.Outcome
	if out.Retried {
		return
	}
	if n, ok := out.Usage.PromptTokens.Value(); ok {
		e.PromptTokens = int(n)
	}
	e.CachedTokens, e.OutputTokens = pointer(out.Usage.CachedTokens), pointer(out.Usage.CompletionTokens)
	outcome := outcomeDone
	switch {
	case out.Cancelled:
		outcome = outcomeCancelled
	case out.Failed():
		outcome = outcomeFailed
		if out.Err != nil {
			e.Error = out.Err.Error()
		}
	}
	l.endLocked(ev.Request, e, outcome)
}

// openLocked returns the entry of a request, a new one if it has just come. Caller must
// hold l.mu, as for the others that end in Locked.
func (l *requestLog) openLocked(req *types.Request) *entry {
	if e := l.open[req]; e != nil {
		return e
	}
	l.last++
	e := &entry{
		ID: l.last, At: time.Now(), Model: req.Model, Target: req.Target(), Priority: req.Priority, Tenant: req.FairnessID, Session: req.SessionID,
		PromptTokens: req.Prompt.Tokens, Yours: len(req.Header[workloadHeader]) == 0,
	}
	if req.ProgramID != req.SessionID {
		e.Program = req.ProgramID
	}
	l.open[req] = e
	return e
}

// sentLocked notes where a request was sent.
func (l *requestLog) sentLocked(e *entry, endpoint string) {
	e.Endpoint = endpoint
	to := target{endpoint, e.Model}
	l.count[to]++
	l.recent.add(to, time.Now())
}

// predictedLocked notes what a request was taken to find in the cache where it was sent.
func (l *requestLog) predictedLocked(e *entry, ev *scheduling.Event) {
	if l.predicts {
		n := float64(max(int64(e.PromptTokens)-ev.Booked.PrefillTokens, 0))
		e.Predicted = &n
	}
}

// endLocked keeps an entry as the last one that ended.
func (l *requestLog) endLocked(req *types.Request, e *entry, outcome string) {
	now := time.Now()
	delete(l.open, req)
	l.end++
	e.end, e.Outcome, e.Total = l.end, outcome, since(e.At)
	band := l.bandLocked(e.Priority)
	band.counts.ended(outcome, e.Reason)
	if !e.Yours {
		l.all.add(outcome, e.sample(), now)
		band.workload.add(outcome, e.sample(), now)
	}
	last := &l.ended
	if e.Endpoint == "" {
		last = &l.unrouted
	}
	*last = append(slices.Delete(*last, 0, max(0, len(*last)+1-logSize)), e)
}

// sample is what was measured of a request that has ended.
func (e *entry) sample() sample {
	s := sample{e2e: *e.Total, ttft: *e.Total, prompt: float64(e.PromptTokens)}
	if e.TTFT != nil {
		s.ttft = *e.TTFT
	}
	if e.CachedTokens != nil {
		s.cached = *e.CachedTokens
	}
	if e.CachedTokens != nil && e.Predicted != nil {
		s.compared, s.off = float64(e.PromptTokens), math.Abs(*e.CachedTokens-*e.Predicted)
	}
	if out := e.OutputTokens; out != nil && *out > 1 {
		s.tpot = (s.e2e - s.ttft) / (*out - 1)
	}
	return s
}

// bandLocked returns the log of a priority.
func (l *requestLog) bandLocked(priority int) *bandLog {
	if l.bands[priority] == nil {
		l.bands[priority] = &bandLog{counts: bandCounts{Reasons: map[string]uint64{}}}
	}
	return l.bands[priority]
}

// bandViews returns what became of the requests of each priority.
func (l *requestLog) bandViews(bands []band, at time.Time) (views []bandView) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range bands {
		views = append(views, l.bandLocked(b.Priority).view(b, at))
	}
	return views
}

// figures returns those of the workload, of the last 60 s and since the start.
func (l *requestLog) figures(at time.Time) (now, total figures) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.now(at), l.all.total()
}

// requests returns copies of up to n requests: the user's own that are under way, of those
// that wait the newest and the oldest, and then those that ended last, of which everything
// is known, and of which a third at most went nowhere.
func (l *requestLog) requests(n int) []entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	var yours, queued []*entry
	for _, e := range l.open {
		switch {
		case e.Yours:
			yours = append(yours, e)
		case e.ticket != nil:
			queued = append(queued, e)
		}
	}
	newest := func(a, b *entry) int { return cmp.Compare(b.ID, a.ID) }
	slices.SortFunc(yours, newest)
	slices.SortFunc(queued, newest)
	ended := slices.Concat(l.ended[max(len(l.ended)-n, 0):], l.unrouted[max(len(l.unrouted)-n/3, 0):])
	slices.SortFunc(ended, func(a, b *entry) int { return cmp.Compare(b.end, a.end) })
	if few := n / 10; len(queued) > 2*few {
		queued = slices.Concat(queued[:few], queued[len(queued)-few:])
	}
	all := slices.Concat(yours[:min(len(yours), n/2)], queued, ended)
	out := make([]entry, min(len(all), n))
	for i := range out {
		out[i] = *all[i]
	}
	return out
}

// get returns a copy of one request, with why it went where it went, which is nil if it
// was refused or waits.
func (l *requestLog) get(id uint64) (entry, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range slices.Concat(l.ended, l.unrouted, slices.Collect(maps.Values(l.open))) {
		if e.ID == id {
			return *e, true
		}
	}
	return entry{}, false
}

// counts returns how many requests of which model went to each endpoint, in all and in the
// window before the given time.
func (l *requestLog) counts(at time.Time) (total, now map[target]uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now = map[target]uint64{}
	for _, t := range l.recent.until(at) {
		now[t.value]++
	}
	return maps.Clone(l.count), now
}

func since(t time.Time) *float64 {
	ms := milliseconds(time.Since(t))
	return &ms
}

func pointer(g types.Gauge) *float64 {
	if v, ok := g.Value(); ok {
		return &v
	}
	return nil
}
