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
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// logSize is how many requests a requestLog keeps.
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

	PromptTokens int      `json:"promptTokens"` // estimated until the server reports
	CachedTokens *float64 `json:"cachedTokens"` // nil: not reported
	OutputTokens *float64 `json:"outputTokens"` // nil: not reported

	TTFT  *float64 `json:"ttft"`  // from the decision; nil: no token yet
	Total *float64 `json:"total"` // nil: under way
	// Outcome is "running", "done", "cancelled", "shed" or "failed".
	Outcome string `json:"outcome"`
	Error   string `json:"error,omitempty"`

	explanation *scheduling.Explanation
}

// requestLog follows requests by the hooks of their scheduler and keeps the last
// ones, each with the explanation of its decision. All methods may be called from
// any goroutine.
type requestLog struct {
	mu    sync.Mutex
	last  uint64 // id
	open  map[*types.Request]*entry
	ended []*entry // the last logSize, in the order in which they ended
	count map[target]uint64
}

// target is what requests are counted by. There are no more of them than public
// models times endpoints, for models that no manifest names are refused.
type target struct{ endpoint, model string }

func newRequestLog() *requestLog {
	return &requestLog{open: map[*types.Request]*entry{}, count: map[target]uint64{}}
}

// hooks returns what the scheduler is to call.
func (l *requestLog) hooks() scheduling.Hooks {
	return scheduling.Hooks{
		Scheduled:  l.scheduled,
		Rejected:   l.rejected,
		FirstToken: l.firstToken,
		Retried:    l.retried,
		Finished:   l.finished,
	}
}

func (l *requestLog) scheduled(d *scheduling.Decision) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.newLocked(d.Request)
	e.Endpoint, e.Outcome = d.Endpoint.ID, "running"
	l.open[d.Request] = e
	l.count[target{e.Endpoint, e.Model}]++
}

func (l *requestLog) rejected(req *types.Request, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.newLocked(req)
	e.Outcome, e.Error = "failed", err.Error()
	if errors.Is(err, scheduling.ErrSaturated) {
		e.Outcome = "shed"
	}
	l.endLocked(e)
}

// routed is the transport's OnRoute: it has the explanation of what scheduled
// was told just before.
func (l *requestLog) routed(_ *http.Request, r *director.Route) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.open[&r.Request]; e != nil {
		e.explanation = r.Explanation
	}
}

func (l *requestLog) firstToken(d *scheduling.Decision, _ *types.Endpoint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.open[d.Request]; e != nil {
		e.TTFT = since(e.At)
	}
}

func (l *requestLog) retried(d *scheduling.Decision, _, to *types.Endpoint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.open[d.Request]; e != nil {
		e.Endpoint = to.ID
		l.count[target{to.ID, e.Model}]++
	}
}

func (l *requestLog) finished(d *scheduling.Decision, _ *types.Endpoint, out types.Outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.open[d.Request]
	if e == nil || out.Retried {
		return
	}
	delete(l.open, d.Request)
	e.Total = since(e.At)
	if n, ok := out.Usage.PromptTokens.Value(); ok {
		e.PromptTokens = int(n)
	}
	e.CachedTokens, e.OutputTokens = pointer(out.Usage.CachedTokens), pointer(out.Usage.CompletionTokens)
	switch {
	case out.Cancelled:
		e.Outcome = "cancelled"
	case out.Failed():
		e.Outcome = "failed"
		if out.Err != nil {
			e.Error = out.Err.Error()
		}
	default:
		e.Outcome = "done"
	}
	l.endLocked(e)
}

// newLocked returns the entry of a request that has just come. Caller must hold
// l.mu.
func (l *requestLog) newLocked(req *types.Request) *entry {
	l.last++
	return &entry{
		ID: l.last, At: time.Now(), Model: req.Model, Target: req.Target(), Priority: req.Priority,
		PromptTokens: req.Prompt.Tokens, Yours: len(req.Header[workloadHeader]) == 0,
	}
}

// endLocked keeps an entry as the last one that ended. Caller must hold l.mu.
func (l *requestLog) endLocked(e *entry) {
	if len(l.ended) == logSize {
		l.ended = slices.Delete(l.ended, 0, 1)
	}
	l.ended = append(l.ended, e)
}

// recent returns copies of up to n requests, newest first: the user's own that are
// under way, and then those that ended last, of which everything is known.
func (l *requestLog) recent(n int) []entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]entry, 0, n)
	for _, e := range l.open {
		if e.Yours {
			out = append(out, *e)
		}
	}
	slices.SortFunc(out, func(a, b entry) int { return cmp.Compare(b.ID, a.ID) })
	out = out[:min(len(out), n/2)]
	for i := len(l.ended) - 1; i >= 0 && len(out) < n; i-- {
		out = append(out, *l.ended[i])
	}
	return out
}

// get returns a copy of one request and why it went where it went, which is nil if
// it was refused.
func (l *requestLog) get(id uint64) (entry, *scheduling.Explanation, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.ended {
		if e.ID == id {
			return *e, e.explanation, true
		}
	}
	for _, e := range l.open {
		if e.ID == id {
			return *e, e.explanation, true
		}
	}
	return entry{}, nil, false
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
