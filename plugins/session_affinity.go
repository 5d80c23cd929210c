package plugins

import (
	"context"
	"time"

	"github.com/inferpick/inferpick/types"
)

// Defaults of SessionAffinity.
const (
	DefaultMaxSessions = 65536
	DefaultSessionTTL  = 10 * time.Minute
)

// SessionOptions configure SessionAffinity. The zero value works.
type SessionOptions struct {
	// MaxSessions bounds the number of remembered sessions and responses; beyond it the least
	// recently used one is forgotten. Default DefaultMaxSessions, at most LimitMaxSessions. Each
	// takes about 130 bytes.
	MaxSessions int `json:"maxSessions,omitempty"`
	// TTL is how long a session or response is remembered after its last use. Default
	// DefaultSessionTTL.
	TTL time.Duration `json:"ttl,omitempty"`
}

// SessionAffinity is a Scorer that prefers the endpoint that gave the response that the request
// continues (types.Request.PreviousID), or else the one that served the session's last request: 1
// there, 0 elsewhere. It has no opinion if there is no such endpoint among the candidates. Sessions
// and responses are kept apart by tenant.
//
// A session follows its last request, unless that failed. A response stays where it was given. Other
// scorers may outweigh this preference; PreviousAnswer is the corresponding constraint.
//
// Create it with NewSessionAffinity. It is a Tracker. It may be used by several Schedulers, which
// then share their sessions.
type SessionAffinity struct {
	pickedOnly
	table *stickTable
}

// NewSessionAffinity returns a SessionAffinity, or an error that lists all invalid options.
func NewSessionAffinity(o SessionOptions) (*SessionAffinity, error) {
	t, err := newStickTable("maxSessions", o.MaxSessions, DefaultMaxSessions, o.TTL, DefaultSessionTTL)
	if err != nil {
		return nil, err
	}
	return &SessionAffinity{table: t}, nil
}

// Score implements scheduling.Scorer.
func (s *SessionAffinity) Score(_ context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
	at := s.table.answerAt(req)
	if at == nil {
		at = s.session(req)
	}
	if at == nil {
		return nil
	}
	for i, ep := range eps {
		if ep.Load == at {
			clear(scores)
			scores[i] = 1
			return nil
		}
	}
	return nil
}

// Describe implements scheduling.Describer.
func (s *SessionAffinity) Describe(req *types.Request, ep *types.Endpoint) string {
	if at := s.table.answerAt(req); at != nil {
		return describeAnswer(at, ep)
	}
	switch at := s.session(req); {
	case req.SessionID == "":
		return "no session"
	case at == nil:
		return "new session"
	case at == ep.Load:
		return "served the session's last request"
	}
	return ""
}

// Picked implements scheduling.Tracker.
func (s *SessionAffinity) Picked(req *types.Request, ep *types.Endpoint) {
	if req.SessionID != "" {
		s.table.put(s.table.idOf(sessionKind, req.FairnessID, req.SessionID), ep.Load, req.Now)
	}
	s.table.keepAnswer(req, ep)
}

// Finished implements scheduling.Tracker. A session does not stay with an endpoint that failed it.
func (s *SessionAffinity) Finished(req *types.Request, ep *types.Endpoint, out types.Outcome) {
	if req.SessionID != "" && (out.Failed() || out.Retried) {
		s.table.drop(s.table.idOf(sessionKind, req.FairnessID, req.SessionID), ep.Load)
	}
	s.table.addAnswer(req, ep, out)
}

// Forget implements scheduling.Forgetter.
func (s *SessionAffinity) Forget(ep *types.Endpoint) { s.table.forget(ep.Load) }

// Len returns the number of remembered sessions and responses.
func (s *SessionAffinity) Len() int { return s.table.len() }

// session returns the last endpoint of the request's session, or nil.
func (s *SessionAffinity) session(req *types.Request) *types.Load {
	if req.SessionID == "" {
		return nil
	}
	return s.table.get(s.table.idOf(sessionKind, req.FairnessID, req.SessionID), req.Now)
}
