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
	// takes about 150 bytes. Those that other gateways tell of take at most half of it from those
	// used here.
	MaxSessions int `json:"maxSessions,omitempty"`
	// TTL is how long a session or response is remembered after its last use. Default
	// DefaultSessionTTL.
	TTL time.Duration `json:"ttl,omitempty"`
	// MaxUntold bounds how many of them wait to be told to other gateways; beyond it the oldest is not
	// told. Default DefaultMaxUntold, at most LimitMaxSessions.
	MaxUntold int `json:"maxUntold,omitempty"`
}

// SessionAffinity is a Scorer that prefers the endpoint that gave the response that the request
// continues (types.Request.PreviousID), or else the one that served the session's last request: 1
// there, 0 elsewhere. It has no opinion if there is no such endpoint among the candidates. Sessions
// and responses are kept apart by tenant.
//
// A session follows its last request, unless that failed. A response stays where it was given. Other
// scorers may outweigh this preference; PreviousAnswer is the corresponding constraint.
//
// Gateways that share what they know (package scheduling/sharing) tell each other of sessions and
// responses: it is a sharing.BindingPart and, for those that restart, a sharing.SnapshotPart.
//
// Create it with NewSessionAffinity. It is a Tracker. It may be used by several Schedulers, which
// then share their sessions.
type SessionAffinity struct {
	pickedOnly
	*stickTable
}

// NewSessionAffinity returns a SessionAffinity, or an error that lists all invalid options.
func NewSessionAffinity(o SessionOptions) (*SessionAffinity, error) {
	t, err := newStickTable("session-affinity", bothKinds, "maxSessions",
		stickBounds{o.MaxSessions, o.TTL, o.MaxUntold, 0}, stickBounds{DefaultMaxSessions, DefaultSessionTTL, DefaultMaxUntold, 0})
	if err != nil {
		return nil, err
	}
	return &SessionAffinity{stickTable: t}, nil
}

// Score implements scheduling.Scorer.
func (s *SessionAffinity) Score(_ context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
	at := s.answerAt(req)
	if !at.known() {
		at = s.session(req)
	}
	if i := s.find(at, eps); i >= 0 {
		clear(scores)
		scores[i] = 1
	}
	return nil
}

// Describe implements scheduling.Describer.
func (s *SessionAffinity) Describe(req *types.Request, ep *types.Endpoint) string {
	if at := s.answerAt(req); at.known() {
		return describeAnswer(at, ep)
	}
	switch at := s.session(req); {
	case req.SessionID == "":
		return "no session"
	case !at.known():
		return "new session"
	case at.is(ep):
		return "served the session's last request"
	}
	return ""
}

// Picked implements scheduling.Tracker.
func (s *SessionAffinity) Picked(req *types.Request, ep *types.Endpoint) {
	if req.SessionID != "" {
		s.put(keyOf(sessionKind, req.FairnessID, req.SessionID), ep, req, false)
	}
	s.keepAnswer(req, ep)
}

// Finished implements scheduling.Tracker. A session does not stay with an endpoint that failed it.
func (s *SessionAffinity) Finished(req *types.Request, ep *types.Endpoint, out types.Outcome) {
	if req.SessionID != "" && (out.Failed() || out.Retried) {
		s.drop(keyOf(sessionKind, req.FairnessID, req.SessionID), ep)
	}
	s.addAnswer(req, ep, out)
}

// Answered implements scheduling.AnswerTracker.
func (s *SessionAffinity) Answered(req *types.Request, ep *types.Endpoint, out types.Outcome) {
	s.addAnswer(req, ep, out)
}

// Forget implements scheduling.Forgetter.
func (s *SessionAffinity) Forget(ep *types.Endpoint) { s.forget(ep) }

// session returns the last endpoint of the request's session, if it is known.
func (s *SessionAffinity) session(req *types.Request) found {
	if req.SessionID == "" {
		return found{}
	}
	return s.get(keyOf(sessionKind, req.FairnessID, req.SessionID), req.Now)
}
