package trail

import (
	"strings"
	"sync"
	"time"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/list"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Defaults of Options.
const (
	DefaultMaxSessions = 1000
	DefaultMaxSteps    = 64
)

// Options bound what a Trail keeps: about 250 bytes a step, so 16 MB by default. The zero value is good.
type Options struct {
	// MaxSessions is how many sessions are kept: those that had a request last. Default DefaultMaxSessions, at most
	// 1,000,000.
	MaxSessions int
	// MaxSteps is how many requests are kept of each: the last ones. Default DefaultMaxSteps, at most 10,000.
	MaxSteps int
}

// Trail keeps what became of sessions. Make it with New. All methods may be called from any goroutine.
type Trail struct {
	o Options

	mu       sync.Mutex
	sessions map[key]*session
	recent   list.List[session]       // the one used last first
	open     map[*types.Request]*Step // under way
}

// key is of a session or, where session is empty, of a program's requests that name none.
type key struct{ tenant, session, program string }

type session struct {
	key     key
	program string
	total   int // requests so far
	steps   []*Step
	links   list.Node[session]
}

// New returns an empty Trail, or an error that names the options that are out of range.
func New(o Options) (*Trail, error) {
	wrong := check.Checks{Package: "trail"}
	check.Default(&wrong, "MaxSessions", &o.MaxSessions, DefaultMaxSessions, 1, 1_000_000)
	check.Default(&wrong, "MaxSteps", &o.MaxSteps, DefaultMaxSteps, 1, 10_000)
	if err := wrong.Err(); err != nil {
		return nil, err
	}
	return &Trail{o: o, sessions: map[key]*session{}, open: map[*types.Request]*Step{}}, nil
}

// Hooks returns hooks for a scheduler that take note of what happens and then call those of next.
func (t *Trail) Hooks(next scheduling.Hooks) scheduling.Hooks {
	h := next
	h.Scheduled = before(next.Scheduled, t.scheduled)
	h.FirstToken = before(next.FirstToken, func(e scheduling.Event) {
		t.change(e.Request, func(s *Step) { s.TTFT = e.Request.Now.Sub(s.At) })
	})
	h.Retried = before(next.Retried, func(e scheduling.Event) {
		t.change(e.Request, func(s *Step) {
			if e.From != nil && len(s.Tried) < mostTried {
				s.Tried = append(s.Tried, e.From.ID)
			}
			s.sent(&e)
		})
	})
	h.Finished = before(next.Finished, func(e scheduling.Event) {
		if !e.Outcome.Retried {
			t.finish(e.Request, func(s *Step) { s.ended(&e.Outcome, e.Request.Now) })
		}
	})
	return h
}

// mostTried bounds the servers that are kept of those on which a request failed.
const mostTried = 8

func before(next, own func(scheduling.Event)) func(scheduling.Event) {
	if next == nil {
		return own
	}
	return func(e scheduling.Event) {
		own(e)
		next(e)
	}
}

func (t *Trail) scheduled(e scheduling.Event) {
	if !kept(e.Request) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.step(e.Request, e.At)
	s.sent(&e)
}

// Waited takes note that a request waited so long to be let in. It is for admission.Hooks.Dispatched.
func (t *Trail) Waited(req *types.Request, waited time.Duration) {
	if !kept(req) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.step(req, time.Now().Add(-waited))
	s.Waited = waited
}

// Refused takes note that a request was not routed, why, and with which status. It is for director.Options.OnRefused or, where
// there is no director, for scheduling.Hooks.Rejected.
func (t *Trail) Refused(req *types.Request, why string, status int) {
	if !kept(req) {
		return
	}
	t.mu.Lock()
	t.step(req, time.Now())
	t.mu.Unlock()
	t.finish(req, func(s *Step) { s.Outcome, s.Reason, s.Status = Refused, why, status })
}

// kept reports whether a request is one of those that are kept. Polls are not: there are so many that they would be all there is.
func kept(req *types.Request) bool {
	return (req.SessionID != "" || req.ProgramID != "") && req.Work.Kind != types.Fetches
}

// step returns the step of a request that is under way, a new one if it has just come. Caller must hold t.mu.
func (t *Trail) step(req *types.Request, at time.Time) *Step {
	if s := t.open[req]; s != nil {
		return s
	}
	s := &Step{
		At: at, ID: strings.Clone(req.ID), Model: strings.Clone(req.Model), Target: strings.Clone(req.Target()), Priority: req.Priority,
		PromptTokens: req.Prompt.Tokens, Outcome: Running,
	}
	of := t.sessionOf(req)
	of.total++
	s.Turn = of.total
	if len(of.steps) >= t.o.MaxSteps {
		copy(of.steps, of.steps[1:])
		of.steps = of.steps[:len(of.steps)-1]
	}
	of.steps = append(of.steps, s)
	if len(t.open) < mostOpen {
		t.open[req] = s
	}
	return s
}

// mostOpen bounds the requests under way that are followed.
const mostOpen = 1 << 17

// sessionOf returns what is kept of a request's session, as the one used last. Caller must hold t.mu.
func (t *Trail) sessionOf(req *types.Request) *session {
	k := key{tenant: req.FairnessID, session: req.SessionID}
	if k.session == "" {
		k.program = req.ProgramID
	}
	of := t.sessions[k]
	if of == nil {
		if len(t.sessions) >= t.o.MaxSessions {
			last := t.recent.Tail.Of
			t.recent.Remove(&last.links)
			delete(t.sessions, last.key)
		}
		of = &session{key: key{strings.Clone(k.tenant), strings.Clone(k.session), strings.Clone(k.program)}}
		t.sessions[of.key] = of
	} else {
		t.recent.Remove(&of.links)
	}
	if of.program != req.ProgramID {
		of.program = strings.Clone(req.ProgramID)
	}
	t.recent.PushFront(of, &of.links)
	return of
}

func (t *Trail) change(req *types.Request, f func(*Step)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.open[req]; s != nil {
		f(s)
	}
}

func (t *Trail) finish(req *types.Request, f func(*Step)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.open[req]; s != nil {
		delete(t.open, req)
		f(s)
	}
}

// Session returns what is kept of a tenant's session; false: nothing is.
func (t *Trail) Session(tenant, id string) (Story, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	of := t.sessions[key{tenant: tenant, session: id}]
	if of == nil || id == "" {
		return Story{}, false
	}
	return of.story(), true
}

// Program returns what is kept of a tenant's program: its sessions, the one used last first, and its requests without one,
// as of a session without a name. It looks at all sessions.
func (t *Trail) Program(tenant, id string) (stories []Story) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := t.recent.Head; n != nil; n = n.Next {
		if of := n.Of; id != "" && of.key.tenant == tenant && of.program == id {
			stories = append(stories, of.story())
		}
	}
	return stories
}

// Recent returns what is kept of a tenant's sessions, the one used last first, at most n, without their steps.
func (t *Trail) Recent(tenant string, n int) (stories []Story) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for node := t.recent.Head; node != nil && len(stories) < n; node = node.Next {
		if of := node.Of; of.key.tenant == tenant {
			stories = append(stories, Story{Session: of.key.session, Program: of.program, Requests: of.total})
		}
	}
	return stories
}

// story returns a copy. Caller must hold Trail.mu.
func (of *session) story() Story {
	s := Story{Session: of.key.session, Program: of.program, Requests: of.total, Steps: make([]Step, len(of.steps))}
	for i, one := range of.steps {
		s.Steps[i] = *one
		s.Steps[i].Tried = append([]string(nil), one.Tried...)
	}
	return s
}
