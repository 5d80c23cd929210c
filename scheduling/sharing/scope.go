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
	snapshots []SnapshotPart
}

func partsOf(all []any) (p parts) {
	for _, part := range all {
		p.loads = appendIf(p.loads, part)
		p.prefixes = appendIf(p.prefixes, part)
		p.ejections = appendIf(p.ejections, part)
		p.bindings = appendIf(p.bindings, part)
		p.accounts = appendIf(p.accounts, part)
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

func newScope(s Scope) *scope {
	return &scope{Scope: s, hash: prefixindex.Seed("sharing", s.Name), parts: partsOf(s.Parts), byKey: map[uint64]*place{}, byID: map[string]*place{}}
}

// keyOf returns the name of an endpoint in messages.
func keyOf(ep *types.Endpoint) uint64 {
	var rank [16]byte
	binary.BigEndian.PutUint64(rank[:], uint64(ep.Rank.Index))
	binary.BigEndian.PutUint64(rank[8:], uint64(ep.Rank.Of))
	return prefixindex.Seed(ep.Address, string(rank[:]))
}

// look takes over which endpoints there are now.
func (s *scope) look() {
	if s.Endpoints == nil {
		return
	}
	eps := s.Endpoints()
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
		p.ep = ep
		places = append(places, p)
		s.byKey[p.key] = p
		s.byID[ep.ID] = p
	}
	s.places = places
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
		if !p.stale {
			continue
		}
		if sum := p.sum(now, ttl); sum != p.ep.Load.Peers() {
			p.ep.Load.SetPeers(sum)
			changed = append(changed, p.ep)
		}
	}
	return changed
}
