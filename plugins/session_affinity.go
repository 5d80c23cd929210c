package plugins

import (
	"context"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Defaults of SessionAffinity.
const (
	DefaultMaxSessions = 65536
	DefaultSessionTTL  = 10 * time.Minute
)

// SessionOptions configure SessionAffinity. The zero value is good.
type SessionOptions struct {
	// MaxSessions bounds how many sessions and answers are remembered; beyond it the one
	// longest unused is forgotten. Default DefaultMaxSessions, about 130 bytes
	// each; at most LimitMaxSessions.
	MaxSessions int `json:"maxSessions,omitempty"`
	// TTL is how long a session is remembered after its last request, and an answer after
	// it was given or continued. Default DefaultSessionTTL.
	TTL time.Duration `json:"ttl,omitempty"`
}

// SessionAffinity is a Scorer that prefers the endpoint that gave the answer which the
// request continues (types.Request.PreviousID), or else the one that served the session's
// last request: 1 there, 0 elsewhere. It has no opinion of requests without a session, of
// a new one, or if that endpoint is not a candidate. Sessions and answers of different
// tenants are different.
//
// A session is where its last request went, as long as it does not fail there. An answer
// stays where it was given, however often it is continued. That is a preference, which
// others may outweigh; PreviousAnswer makes it a must.
//
// It is a Tracker: wire a pointer to it, made by NewSessionAffinity. Safe for use
// by several Schedulers, which then share their sessions.
type SessionAffinity struct{ table *stickTable }

// NewSessionAffinity returns a SessionAffinity, or what is wrong with o.
func NewSessionAffinity(o SessionOptions) (*SessionAffinity, error) {
	t, err := newStickTable("maxSessions", o.MaxSessions, DefaultMaxSessions, o.TTL, DefaultSessionTTL)
	if err != nil {
		return nil, err
	}
	return &SessionAffinity{t}, nil
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

// FirstToken implements scheduling.Tracker.
func (s *SessionAffinity) FirstToken(*types.Request, *types.Endpoint) {}

// Finished implements scheduling.Tracker. A session does not stick to an
// endpoint that failed it.
func (s *SessionAffinity) Finished(req *types.Request, ep *types.Endpoint, out types.Outcome) {
	if req.SessionID != "" && (out.Failed() || out.Retried) {
		s.table.drop(s.table.idOf(sessionKind, req.FairnessID, req.SessionID), ep.Load)
	}
	s.table.addAnswer(req, ep, out)
}

// Forget implements scheduling.Forgetter.
func (s *SessionAffinity) Forget(ep *types.Endpoint) { s.table.forget(ep.Load) }

// Len returns the number of sessions and answers remembered.
func (s *SessionAffinity) Len() int { return s.table.len() }

// session returns where the request's session was last, nil if that is unknown.
func (s *SessionAffinity) session(req *types.Request) *types.Load {
	if req.SessionID == "" {
		return nil
	}
	return s.table.get(s.table.idOf(sessionKind, req.FairnessID, req.SessionID), req.Now)
}

var (
	_ scheduling.Scorer    = (*SessionAffinity)(nil)
	_ scheduling.Describer = (*SessionAffinity)(nil)
	_ scheduling.Tracker   = (*SessionAffinity)(nil)
	_ scheduling.Forgetter = (*SessionAffinity)(nil)
)
