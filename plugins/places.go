package plugins

import (
	"time"

	"github.com/inferpick/inferpick/types"
)

// LimitUnmet bounds the endpoints that a plugin has heard of from peers or a snapshot, and has not met in
// a request. Each is forgotten after ten minutes.
const LimitUnmet = 4096

const (
	unmetFor = 10 * time.Minute
	// goneFor is how long what peers say of an endpoint that was removed is ignored: they may not know
	// yet.
	goneFor = 10 * time.Second
)

// places finds endpoints by their IDs, which is how peers and snapshots name them. T is what a plugin
// knows about one. The zero value is empty. It is guarded by whoever has it.
type places[T any] struct {
	byID   map[string]*place[T]
	byLoad map[*types.Load]*place[T]
	unmet  int // heard of only
	gone   int
	swept  time.Time
}

// place is an endpoint.
type place[T any] struct {
	id    string
	ep    *types.Endpoint // what plugins need of it: ID, Load and Slot; nil: it was not met, or has gone
	gone  bool
	since time.Time // ep is nil: when it was last heard of, or when that it has gone was noticed
	value T
}

// meet returns the place of an endpoint.
func (s *places[T]) meet(ep *types.Endpoint) *place[T] {
	if p := s.byLoad[ep.Load]; p != nil {
		return p
	}
	p := s.byID[ep.ID]
	if p == nil || p.ep != nil { // another one of that name may not have been forgotten yet
		p = s.add(ep.ID)
	} else {
		s.count(p, -1)
	}
	p.ep, p.gone, p.since = &types.Endpoint{ID: ep.ID, Load: ep.Load, Slot: ep.Slot}, false, time.Time{}
	if s.byLoad == nil {
		s.byLoad = map[*types.Load]*place[T]{}
	}
	s.byLoad[ep.Load] = p
	return p
}

// named returns the place of an endpoint that a peer names, or nil if there is no room, or it has gone.
func (s *places[T]) named(id string, now time.Time) *place[T] {
	p := s.byID[id]
	switch {
	case p == nil:
		if s.unmet+s.gone >= LimitUnmet {
			s.tidy(now)
		}
		if s.unmet+s.gone >= LimitUnmet {
			return nil
		}
		p = s.add(id)
		s.count(p, 1)
	case p.ep != nil:
		return p
	case p.gone:
		if s.passed(p, now) {
			s.count(p, -1)
			p.gone = false
			s.count(p, 1)
			break
		}
		return nil
	}
	p.since = now
	return p
}

// forget notes that an endpoint has gone, or restarted.
func (s *places[T]) forget(load *types.Load) {
	p := s.byLoad[load]
	if p == nil {
		return
	}
	delete(s.byLoad, load)
	if s.byID[p.id] != p {
		return
	}
	if s.unmet+s.gone >= LimitUnmet {
		delete(s.byID, p.id)
		return
	}
	var none T
	p.ep, p.gone, p.value = nil, true, none
	s.count(p, 1)
}

// tidy removes what was not met in time. To be called often.
func (s *places[T]) tidy(now time.Time) {
	if s.unmet+s.gone > 0 && now.Sub(s.swept) >= time.Second {
		s.swept = now
		s.sweep(now)
	}
}

// sweep removes what was not met in time.
func (s *places[T]) sweep(now time.Time) {
	for id, p := range s.byID {
		if p.ep == nil && s.passed(p, now) {
			s.count(p, -1)
			delete(s.byID, id)
		}
	}
}

// passed reports whether the time of a place that was not met, or has gone, is over.
func (s *places[T]) passed(p *place[T], now time.Time) bool {
	if p.since.IsZero() {
		p.since = now
	}
	if p.gone {
		return now.Sub(p.since) >= goneFor
	}
	return now.Sub(p.since) >= unmetFor
}

func (s *places[T]) add(id string) *place[T] {
	if s.byID == nil {
		s.byID = map[string]*place[T]{}
	}
	p := &place[T]{id: id}
	s.byID[id] = p
	return p
}

// count adds n to the places like p, whose ep is nil.
func (s *places[T]) count(p *place[T], n int) {
	if p.gone {
		s.gone += n
	} else {
		s.unmet += n
	}
}
