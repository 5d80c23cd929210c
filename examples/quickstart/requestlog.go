package main

import (
	"cmp"
	"errors"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// logSize is how many requests that went somewhere a requestLog keeps, and how many that
// did not: where many are refused, they leave the others their places.
const logSize = 200

// workloadHeader marks the requests of the built-in clients, so that the page can
// tell them from the user's own.
const workloadHeader = "X-Quickstart-Workload"

// entry is one request as the gateway sees it. Times are in milliseconds.
type entry struct {
	ID       uint64    `json:"id"`
	At       time.Time `json:"at"`
	Model    string    `json:"model"`
	Target   string    `json:"target"`
	Endpoint string    `json:"endpoint"`
	Yours    bool      `json:"yours"` // not of the workload
	Priority int       `json:"priority"`
	Tenant   string    `json:"tenant,omitempty"`

	PromptTokens int      `json:"promptTokens"` // estimated until the server reports
	CachedTokens *float64 `json:"cachedTokens"` // nil: not reported
	OutputTokens *float64 `json:"outputTokens"` // nil: not reported

	Waited *float64 `json:"waited"` // to be let in; nil: there was room
	TTFT   *float64 `json:"ttft"`   // the wait included; nil: no token yet
	Total  *float64 `json:"total"`  // nil: under way
	// Outcome is "queued", "running", "done", "cancelled", "refused" or "failed".
	Outcome string `json:"outcome"`
	// Reason is why it was refused, in a word, and RetryAfter what the client was told.
	Reason     string  `json:"reason,omitempty"`
	RetryAfter float64 `json:"retryAfter,omitempty"`
	Error      string  `json:"error,omitempty"`

	end         uint64            // its place among those that have ended
	ticket      *admission.Ticket // while it waits
	report      *admission.Report // of when it came; nil: it was not let in, or none is kept
	explanation *scheduling.Explanation
}

// requestLog follows requests by the hooks of their admission control and their
// scheduler and keeps the last ones, each with the explanation of its decision. All
// methods may be called from any goroutine.
type requestLog struct {
	mu    sync.Mutex
	last  uint64 // id
	open  map[*types.Request]*entry
	end   uint64 // how many have ended
	ended ring   // that went somewhere
	away  ring   // that did not
	count map[target]uint64
	bands map[int]*bandLog // by priority; there are no more than the manifests have
}

// target is what requests are counted by. There are no more of them than public
// models times endpoints, for models that no manifest names are refused.
type target struct{ endpoint, model string }

func newRequestLog() *requestLog {
	return &requestLog{open: map[*types.Request]*entry{}, count: map[target]uint64{}, bands: map[int]*bandLog{}}
}

// admissionHooks returns what the admission control is to call. It does so with its lock
// held: no method of a Ticket may be called while l.mu is.
func (l *requestLog) admissionHooks() admission.Hooks {
	return admission.Hooks{Queued: l.queued, Dispatched: l.letIn}
}

func (l *requestLog) queued(t *admission.Ticket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.newLocked(t.Request())
	e.Outcome, e.ticket = "queued", t
	l.open[t.Request()] = e
}

func (l *requestLog) letIn(t *admission.Ticket, waited time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bandLocked(t.Request().Priority).letIn(waited, time.Now())
	if e := l.open[t.Request()]; e != nil {
		ms := milliseconds(waited)
		e.Waited, e.ticket = &ms, nil
	}
}

// hooks returns what the scheduler is to call.
func (l *requestLog) hooks() scheduling.Hooks {
	return scheduling.Hooks{
		Scheduled:  l.scheduled,
		FirstToken: l.firstToken,
		Retried:    l.retried,
		Finished:   l.finished,
	}
}

func (l *requestLog) scheduled(ev scheduling.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.open[ev.Request] // if it has waited
	if e == nil {
		e = l.newLocked(ev.Request)
		l.open[ev.Request] = e
	}
	e.Endpoint, e.Outcome = ev.Endpoint.ID, "running"
	l.count[target{e.Endpoint, e.Model}]++
}

// refused is the director's OnRefused: it hears of every request that is not routed,
// whoever refused it. Those that were the client's own fault are not kept.
func (l *requestLog) refused(req *types.Request, _ types.NamespacedName, err *director.Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.open[req]
	delete(l.open, req)
	if e == nil {
		switch err.Status {
		case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusInternalServerError, director.StatusClientClosed:
			e = l.newLocked(req)
		default:
			return
		}
	}
	e.ticket, e.Total = nil, since(e.At)
	if e.Waited == nil {
		e.Waited = e.Total
	}
	band := l.bandLocked(req.Priority)
	switch err.Status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		e.Outcome, e.Reason, e.RetryAfter, e.Error = "refused", err.Code, err.RetryAfter.Seconds(), why(err)
		band.refuse(err.Code)
	case director.StatusClientClosed:
		e.Outcome = "cancelled"
		band.Cancelled++
	default:
		e.Outcome, e.Error = "failed", why(err)
		band.Failed++
	}
	l.endLocked(e)
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

// routed is the transport's OnRoute: it has the explanation of what scheduled
// was told just before.
func (l *requestLog) routed(_ *http.Request, r *director.Route) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.open[&r.Request]; e != nil {
		e.explanation, e.report = r.Explanation, r.Admission
	}
}

func (l *requestLog) firstToken(ev scheduling.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.open[ev.Request]; e != nil {
		e.TTFT = since(e.At)
	}
}

func (l *requestLog) retried(ev scheduling.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.open[ev.Request]; e != nil {
		e.Endpoint = ev.Endpoint.ID
		l.count[target{e.Endpoint, e.Model}]++
	}
}

func (l *requestLog) finished(ev scheduling.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, out := l.open[ev.Request], ev.Outcome
	if e == nil || out.Retried {
		return
	}
	delete(l.open, ev.Request)
	e.Total = since(e.At)
	if n, ok := out.Usage.PromptTokens.Value(); ok {
		e.PromptTokens = int(n)
	}
	e.CachedTokens, e.OutputTokens = pointer(out.Usage.CachedTokens), pointer(out.Usage.CompletionTokens)
	band := l.bandLocked(ev.Request.Priority)
	switch {
	case out.Cancelled:
		e.Outcome = "cancelled"
		band.Cancelled++
	case out.Failed():
		e.Outcome = "failed"
		band.Failed++
		if out.Err != nil {
			e.Error = out.Err.Error()
		}
	default:
		e.Outcome = "done"
		band.Served++
	}
	l.endLocked(e)
}

// newLocked returns the entry of a request that has just come. Caller must hold
// l.mu.
func (l *requestLog) newLocked(req *types.Request) *entry {
	l.last++
	return &entry{
		ID: l.last, At: time.Now(), Model: req.Model, Target: req.Target(), Priority: req.Priority, Tenant: req.FairnessID,
		PromptTokens: req.Prompt.Tokens, Yours: len(req.Header[workloadHeader]) == 0,
	}
}

// endLocked keeps an entry as the last one that ended. Caller must hold l.mu.
func (l *requestLog) endLocked(e *entry) {
	l.end++
	e.end = l.end
	if e.Endpoint == "" {
		l.away.add(e)
	} else {
		l.ended.add(e)
	}
}

// ring is the last logSize entries, in the order in which they ended.
type ring []*entry

func (r *ring) add(e *entry) {
	if len(*r) == logSize {
		*r = slices.Delete(*r, 0, 1)
	}
	*r = append(*r, e)
}

// last returns the last n.
func (r ring) last(n int) []*entry { return r[max(len(r)-n, 0):] }

// bandLocked returns the log of a priority. Caller must hold l.mu.
func (l *requestLog) bandLocked(priority int) *bandLog {
	b := l.bands[priority]
	if b == nil {
		b = new(bandLog)
		l.bands[priority] = b
	}
	return b
}

// band returns how long requests of a priority waited lately and since the start, and
// what became of them.
func (l *requestLog) band(priority int, at time.Time) (now, total waitFigures, counts bandCounts) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.bands[priority]
	if b == nil {
		return now, total, counts
	}
	counts = b.bandCounts
	counts.Reasons = maps.Clone(counts.Reasons)
	return b.now(at), b.total(), counts
}

// recent returns copies of up to n requests: the user's own that are under way, of those
// that wait the newest and the oldest, and then those that ended last, of which everything
// is known, and of which a third at most went nowhere.
func (l *requestLog) recent(n int) []entry {
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
	ended := slices.Concat(l.ended.last(n), l.away.last(n/3))
	slices.SortFunc(ended, func(a, b *entry) int { return cmp.Compare(b.end, a.end) })
	if few := n / 10; len(queued) > 2*few {
		queued = slices.Concat(queued[:few], queued[len(queued)-few:])
	}
	shown := slices.Concat(yours[:min(len(yours), n/2)], queued, ended)
	out := make([]entry, min(len(shown), n))
	for i := range out {
		out[i] = *shown[i]
	}
	return out
}

// get returns a copy of one request, with why it went where it went, which is nil if it
// was refused or waits.
func (l *requestLog) get(id uint64) (entry, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range slices.Concat(l.ended, l.away) {
		if e.ID == id {
			return *e, true
		}
	}
	for _, e := range l.open {
		if e.ID == id {
			return *e, true
		}
	}
	return entry{}, false
}

// counts returns how many requests of which model went to each endpoint.
func (l *requestLog) counts() map[target]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.count)
}

func since(t time.Time) *float64 {
	ms := float64(time.Since(t)) / float64(time.Millisecond)
	return &ms
}

func pointer(g types.Gauge) *float64 {
	if v, ok := g.Value(); ok {
		return &v
	}
	return nil
}
