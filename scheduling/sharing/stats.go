package sharing

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/inferpick/inferpick/types"
)

// Stats is what a Group is like at a moment. Counters are since New.
type Stats struct {
	// Peers are those that are alive and those that have gone within the last minute, by name.
	Peers []PeerStats
	// Told is what this gateway said, and Heard what came from peers, that which was ignored included.
	Told, Heard Traffic
	Ignored     Ignored
	// Failed counts messages that the Transport could not send, Panics those of parts.
	Failed, Panics uint64
	// LongNotes counts how often the note of a part became longer than MaxNote: until it is shorter peers hear that
	// it says nothing.
	LongNotes uint64
	// Without is what is switched off.
	Without Kinds
}

// Alive returns how many peers there are.
func (s Stats) Alive() (n int) {
	for i := range s.Peers {
		if s.Peers[i].Alive {
			n++
		}
	}
	return n
}

// PeerStats is what is known of a peer.
type PeerStats struct {
	// Name is what it calls itself, or, as long as it does not, From: where its last message came from. Both
	// are for people to see: several may have the same.
	Name, From string
	// Age is how long ago its newest message came.
	Age   time.Duration
	Alive bool
	// Held is what it has in flight, in sum over the endpoints of this gateway, as far as that counts.
	Held types.Booking
	Traffic
	// Messages that came too late or too many, or could not be read to the end; and parts of messages about
	// scopes that this gateway does not have.
	Old, Flooded, Broken, Elsewhere uint64
}

// Traffic counts messages.
type Traffic struct{ Messages, Bytes uint64 }

// Ignored counts what was ignored, by why.
type Ignored struct {
	Old       uint64 // messages that came after newer ones of their peer; some kinds count nevertheless
	Flooded   uint64 // messages beyond Options.MaxRate
	Broken    uint64 // messages that could not be read, or not to the end
	Versions  uint64 // messages of another version
	Unsigned  uint64 // messages that Options.Key has not signed
	Refused   uint64 // messages of peers beyond Options.MaxPeers
	Elsewhere uint64 // parts of messages, about scopes that this gateway does not have
	Notes     uint64 // notes of which no part here knows the name
	Unknown   uint64 // what was said of endpoints that this gateway does not have
}

// goneShown is for how long a peer that has gone is among Stats.Peers.
const goneShown = time.Minute

// Stats returns what the Group is like at now. It must not be called by a part. A nil Group has no peers.
func (g *Group) Stats(now time.Time) Stats {
	if g == nil {
		return Stats{}
	}
	g.turn.Lock()
	defer g.turn.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sumHeld(now)
	c, sum := &g.counts, g.peers.forgotten
	s := Stats{Told: Traffic{c.messages, c.bytes}, Failed: c.failed, Panics: c.panics, LongNotes: c.longNotes, Without: g.o.Without}
	for _, at := range g.peers.of {
		sum.add(&at.counts)
		if at.alive || !at.heard.IsZero() && now.Sub(at.heard) < goneShown {
			s.Peers = append(s.Peers, at.stats(now))
		}
	}
	s.Heard = Traffic{sum.messages, sum.bytes}
	s.Ignored = Ignored{
		Old: sum.old, Flooded: sum.flooded, Broken: sum.broken + c.broken, Versions: c.versions, Unsigned: c.unsigned,
		Refused: g.peers.refused, Elsewhere: sum.elsewhere, Notes: c.notes, Unknown: c.unknown,
	}
	slices.SortFunc(s.Peers, func(a, b PeerStats) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.From, b.From), cmp.Compare(a.Age, b.Age))
	})
	return s
}

// stats returns what is known of a peer. Caller must hold Group.turn and mu.
func (p *peer) stats(now time.Time) PeerStats {
	c := &p.counts
	return PeerStats{
		Name: cmp.Or(p.name, p.from), From: p.from, Age: now.Sub(p.heard), Alive: p.alive, Held: p.held,
		Traffic: Traffic{c.messages, c.bytes}, Old: c.old, Flooded: c.flooded, Broken: c.broken, Elsewhere: c.elsewhere,
	}
}

// add adds o.
func (c *peerCounts) add(o *peerCounts) {
	c.messages += o.messages
	c.bytes += o.bytes
	c.old += o.old
	c.flooded += o.flooded
	c.broken += o.broken
	c.elsewhere += o.elsewhere
}

// sumHeld works out what each peer has in flight. An endpoint of several scopes counts once. Caller must hold g.turn
// and g.mu.
func (g *Group) sumHeld(now time.Time) {
	for _, p := range g.peers.of {
		p.held = types.Booking{}
	}
	for i, s := range g.scopes {
		for _, p := range s.places {
			if len(p.heard) == 0 || heardIn(g.scopes[:i], p) {
				continue
			}
			for k := range p.heard {
				c := &p.heard[k]
				c.peer.held = c.peer.held.Plus(c.counts(now, g.o.TTL))
			}
		}
	}
}

// heardIn reports whether peers said something of the endpoint of a place in one of some scopes.
func heardIn(scopes []*scope, p *place) bool {
	return slices.ContainsFunc(scopes, func(s *scope) bool {
		other := s.byKey[p.key]
		return other != nil && other.ep.Load == p.ep.Load && len(other.heard) > 0
	})
}

// counts returns what a claim is worth at now.
func (c *claim) counts(now time.Time, ttl time.Duration) types.Booking {
	switch f := c.peer.fade(now, ttl); {
	case c.peer.left:
		return types.Booking{}
	case f < 1:
		return scaled(c.Booking, f)
	}
	return c.Booking
}

// Claim is what a peer says of an endpoint.
type Claim struct {
	// Name and From are as in PeerStats.
	Name, From string
	// Age is how long ago it was said.
	Age time.Duration
	// Counts is how far it counts: 1 while the peer is heard, and less when that was too long ago.
	Counts float64
	// Booking is what the peer says that it has in flight there.
	types.Booking
}

// String returns the claim in a few words.
func (c Claim) String() string {
	s := fmt.Sprintf("%s: %d in flight, %d prompt tokens owed, %v ago", c.Name, c.Requests, c.PrefillTokens, c.Age.Round(time.Millisecond))
	if c.Counts < 1 {
		s += fmt.Sprintf(", counts %.0f %%", 100*c.Counts)
	}
	return s
}

// Explain returns what peers say of an endpoint at now, by name: the sum of it, as far as it counts, is
// types.Load.Peers. A peer that has nothing there is not among them. It must not be called by a part.
func (g *Group) Explain(ep *types.Endpoint, now time.Time) (claims []Claim) {
	if g == nil || ep == nil || ep.Load == nil {
		return nil
	}
	g.turn.Lock()
	defer g.turn.Unlock()
	p := g.placeOf(ep)
	if p == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range p.heard {
		c := &p.heard[i]
		if c.Booking == (types.Booking{}) {
			continue
		}
		claims = append(claims, Claim{
			Name: cmp.Or(c.peer.name, c.peer.from), From: c.peer.from, Age: now.Sub(c.at), Counts: c.peer.fade(now, g.o.TTL), Booking: c.Booking,
		})
	}
	slices.SortFunc(claims, func(a, b Claim) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.From, b.From), cmp.Compare(a.Age, b.Age))
	})
	return claims
}

// placeOf returns where an endpoint is in the first scope that has it, nil if none has. Caller must hold g.turn.
func (g *Group) placeOf(ep *types.Endpoint) *place {
	for _, s := range g.scopes {
		p := s.byID[ep.ID]
		if p == nil || p.ep.Load != ep.Load { // IDs are unique within a pool only
			i := slices.IndexFunc(s.places, func(p *place) bool { return p.ep.Load == ep.Load })
			if i < 0 {
				continue
			}
			p = s.places[i]
		}
		return cmp.Or(p.first, p)
	}
	return nil
}
