package sharing

import (
	"encoding/binary"
	"time"

	"github.com/inferpick/inferpick/internal/prefixindex"
	"github.com/inferpick/inferpick/types"
)

// Scope is what gateways share something of: a pool, or what one Scheduler schedules.
type Scope struct {
	// Name is the same in all gateways, and no other scope of the Group has it. Required.
	Name string
	// Endpoints returns the endpoints as they are now; it is called often. Gateways take those to be the same
	// that have the same address and rank. Nil: there are none.
	Endpoints func() []*types.Endpoint
	// Parts are plugins and controllers of admission: see PartsOf. What is none of the interfaces of this
	// package is passed over.
	Parts []any
}

// scope is a Scope with what is known of it.
type scope struct {
	Scope
	hash   uint64
	parts  parts
	notes  []*note
	eps    []*types.Endpoint // as Endpoints returned them last
	places []*place
	byKey  map[uint64]*place
	byID   map[string]*place
}

// parts are the parts of a scope by what they can do.
type parts struct {
	loads     []LoadPart
	prefixes  []PrefixPart
	ejections []EjectionPart
	bindings  []BindingPart
	accounts  []AccountPart
	notes     []NotePart
	alive     []AlivePart
	snapshots []SnapshotPart
}

func partsOf(all []any) (p parts) {
	for _, part := range all {
		p.loads = appendIf(p.loads, part)
		p.prefixes = appendIf(p.prefixes, part)
		p.ejections = appendIf(p.ejections, part)
		p.bindings = appendIf(p.bindings, part)
		p.accounts = appendIf(p.accounts, part)
		p.notes = appendIf(p.notes, part)
		p.alive = appendIf(p.alive, part)
		p.snapshots = appendIf(p.snapshots, part)
	}
	return p
}

func appendIf[T any](list []T, part any) []T {
	if v, ok := part.(T); ok {
		list = append(list, v)
	}
	return list
}

func hashOf(name string) uint64 { return prefixindex.Seed("sharing", name) }

// newScope returns what is known of a Scope. The error says what is wrong with its parts. Caller must hold g.turn.
func (g *Group) newScope(of Scope) (s *scope, err error) {
	s = &scope{Scope: of, hash: hashOf(of.Name), parts: partsOf(of.Parts), byKey: map[uint64]*place{}, byID: map[string]*place{}}
	s.notes, err = g.notesOf(of.Name, s.parts.notes)
	return s, err
}

// keyOf returns the name of an endpoint in messages.
func keyOf(ep *types.Endpoint) uint64 {
	var rank [16]byte
	binary.BigEndian.PutUint64(rank[:], uint64(ep.Rank.Index))
	binary.BigEndian.PutUint64(rank[8:], uint64(ep.Rank.Of))
	return prefixindex.Seed(ep.Address, string(rank[:]))
}

// look takes over which endpoints a scope has now; those of before, if its function panics. Caller must hold g.turn.
func (g *Group) look(s *scope) {
	if s.Endpoints == nil {
		return
	}
	var eps []*types.Endpoint
	if g.panics.Call("Scope.Endpoints", func() { eps = s.Endpoints() }) {
		s.take(eps)
	}
}

// take takes over endpoints.
func (s *scope) take(eps []*types.Endpoint) {
	if len(eps) == len(s.eps) {
		same := true
		for i, ep := range eps {
			if ep != s.eps[i] {
				if ep.Load != s.eps[i].Load {
					same = false
					break
				}
				s.places[i].ep = ep
			}
		}
		if same {
			s.eps = eps
			return
		}
	}
	s.eps = eps
	s.lookAnew()
}

// lookAnew finds the places of endpoints of which some are others than before.
func (s *scope) lookAnew() {
	old := make(map[*types.Load]*place, len(s.places))
	for _, p := range s.places {
		old[p.ep.Load] = p
	}
	clear(s.byKey)
	clear(s.byID)
	places := make([]*place, 0, len(s.eps))
	for _, ep := range s.eps {
		p := old[ep.Load]
		if p == nil {
			p = &place{key: keyOf(ep)}
		}
		s.enter(p, ep)
		places = append(places, p)
		s.byID[ep.ID] = p
	}
	s.places = places
}

// enter makes a place that of an endpoint: the first of its server, or a twin of that.
func (s *scope) enter(p *place, ep *types.Endpoint) {
	was := p.first
	p.ep, p.twins, p.first = ep, nil, s.byKey[p.key]
	switch {
	case p.first == nil:
		s.byKey[p.key] = p
		p.stale = p.stale || was != nil
	case p.first != was:
		p.heard = nil
		p.first.stale = p.first.stale || len(p.first.heard) > 0
		fallthrough
	default:
		p.first.twins = append(p.first.twins, p)
	}
}

// doubt has settle look at all that was heard.
func (s *scope) doubt() {
	for _, p := range s.places {
		p.stale = p.stale || len(p.heard) > 0
	}
}

// settle works out what peers have at endpoints of which they said something, and returns those where that has
// changed.
func (s *scope) settle(now time.Time, ttl time.Duration, changed []*types.Endpoint) []*types.Endpoint {
	for _, p := range s.places {
		if !p.stale || p.first != nil {
			continue
		}
		sum := p.sum(now, ttl)
		for ep := range p.endpoints {
			if sum != ep.Load.Peers() {
				ep.Load.SetPeers(sum)
				changed = append(changed, ep)
			}
		}
	}
	return changed
}
