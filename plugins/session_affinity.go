package plugins

import (
	"container/list"
	"context"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Defaults and limit of SessionAffinity.
const (
	DefaultMaxSessions = 65536
	LimitMaxSessions   = 16 << 20
	DefaultSessionTTL  = 10 * time.Minute
)

// SessionOptions configure SessionAffinity. The zero value is good.
type SessionOptions struct {
	// MaxSessions bounds how many sessions are remembered; beyond it the one
	// longest unused is forgotten. Default DefaultMaxSessions, about 130 bytes
	// each; at most LimitMaxSessions.
	MaxSessions int
	// TTL is how long a session is remembered after its last request. Default
	// DefaultSessionTTL.
	TTL time.Duration
}

// SessionAffinity is a Scorer that prefers the endpoint that served the
// session's last request: 1 there, 0 elsewhere, no opinion for requests without
// a session, of a new one, or if that endpoint is not a candidate. Sessions of
// different tenants are different.
//
// It is a Tracker: wire a pointer to it, made by NewSessionAffinity. Safe for use
// by several Schedulers, which then share their sessions.
type SessionAffinity struct {
	max  int
	ttl  time.Duration
	seed maphash.Seed

	mu sync.Mutex
	// guarded by mu
	byID   map[uint64]*list.Element
	recent *list.List // of *session, the most recent in front
}

type session struct {
	id   uint64
	at   *types.Load // the endpoint, by its identity
	used time.Time
}

// NewSessionAffinity returns a SessionAffinity, or what is wrong with o.
func NewSessionAffinity(o SessionOptions) (*SessionAffinity, error) {
	if o.MaxSessions < 0 || o.MaxSessions > LimitMaxSessions {
		return nil, fmt.Errorf("plugins: MaxSessions is %d, want 1 to %d, or 0 for the default %d", o.MaxSessions, LimitMaxSessions, DefaultMaxSessions)
	}
	if o.TTL < 0 {
		return nil, fmt.Errorf("plugins: session TTL is %v, want more than 0, or 0 for the default %v", o.TTL, DefaultSessionTTL)
	}
	s := &SessionAffinity{max: o.MaxSessions, ttl: o.TTL, seed: maphash.MakeSeed(), byID: map[uint64]*list.Element{}, recent: list.New()}
	if s.max == 0 {
		s.max = DefaultMaxSessions
	}
	if s.ttl == 0 {
		s.ttl = DefaultSessionTTL
	}
	return s, nil
}

// Score implements scheduling.Scorer.
func (s *SessionAffinity) Score(_ context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
	home := s.home(req)
	if home == nil {
		return nil
	}
	for i, ep := range eps {
		if ep.Load == home {
			clear(scores)
			scores[i] = 1
			return nil
		}
	}
	return nil
}

// Describe implements scheduling.Describer.
func (s *SessionAffinity) Describe(req *types.Request, ep *types.Endpoint) string {
	switch home := s.home(req); {
	case req.SessionID == "":
		return "no session"
	case home == nil:
		return "new session"
	case home == ep.Load:
		return "served the session's last request"
	}
	return ""
}

// Picked implements scheduling.Tracker.
func (s *SessionAffinity) Picked(req *types.Request, ep *types.Endpoint) {
	if req.SessionID == "" || ep.Load == nil {
		return
	}
	id := s.idOf(req)
	s.mu.Lock()
	defer s.mu.Unlock()
	if ep.Load.Retired() {
		return
	}
	if e, ok := s.byID[id]; ok {
		se := e.Value.(*session)
		se.at, se.used = ep.Load, req.Now
		s.recent.MoveToFront(e)
		return
	}
	if s.recent.Len() >= s.max {
		s.removeLocked(s.recent.Back())
	}
	s.byID[id] = s.recent.PushFront(&session{id, ep.Load, req.Now})
}

// FirstToken implements scheduling.Tracker.
func (s *SessionAffinity) FirstToken(*types.Request, *types.Endpoint) {}

// Finished implements scheduling.Tracker. A session does not stick to an
// endpoint that failed it.
func (s *SessionAffinity) Finished(req *types.Request, ep *types.Endpoint, out types.Outcome) {
	if req.SessionID == "" || !(out.Failed() || out.Retried) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.byID[s.idOf(req)]; ok && e.Value.(*session).at == ep.Load {
		s.removeLocked(e)
	}
}

// Forget implements scheduling.Forgetter.
func (s *SessionAffinity) Forget(ep *types.Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.recent.Front(); e != nil; {
		next := e.Next()
		if e.Value.(*session).at == ep.Load {
			s.removeLocked(e)
		}
		e = next
	}
}

// Len returns the number of sessions remembered.
func (s *SessionAffinity) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.recent.Len()
}

// removeLocked forgets one session. Caller must hold s.mu.
func (s *SessionAffinity) removeLocked(e *list.Element) {
	s.recent.Remove(e)
	delete(s.byID, e.Value.(*session).id)
}

// home returns where the request's session was last, nil if that is unknown.
func (s *SessionAffinity) home(req *types.Request) *types.Load {
	if req.SessionID == "" {
		return nil
	}
	id := s.idOf(req)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.byID[id]
	if !ok {
		return nil
	}
	se := e.Value.(*session)
	if req.Now.Sub(se.used) > s.ttl {
		return nil
	}
	return se.at
}

// idOf keys a session by a hash: an id is the client's, and may be of any length.
func (s *SessionAffinity) idOf(req *types.Request) uint64 {
	var h maphash.Hash
	h.SetSeed(s.seed)
	h.WriteString(req.FairnessID)
	h.WriteByte(0)
	h.WriteString(req.SessionID)
	return h.Sum64()
}

var (
	_ scheduling.Scorer    = (*SessionAffinity)(nil)
	_ scheduling.Describer = (*SessionAffinity)(nil)
	_ scheduling.Tracker   = (*SessionAffinity)(nil)
	_ scheduling.Forgetter = (*SessionAffinity)(nil)
)
