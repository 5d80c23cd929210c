package sharing

import (
	"errors"
	"math"
	"strings"
	"time"
	"unicode"

	"github.com/inferpick/inferpick/types"
)

// Hear takes over a message of a peer, which came from there as far as people are concerned. What is wrong with it
// is counted, and ignored. msg is not kept.
func (g *Group) Hear(from string, msg []byte, now time.Time) {
	g.turn.Lock()
	defer g.turn.Unlock()
	g.now = now
	m, err := readMessage(msg, g.mac)
	if err != nil {
		g.ignore(from, err)
		return
	}
	if m.origin == g.origin {
		return
	}
	peer, newest := g.met(from, &m, len(msg), now)
	if peer == nil {
		return
	}
	err = m.each(func(k kind, hash uint64, r reader) error { return g.hearSection(peer, &m, k, hash, r, newest, now) })
	if err != nil {
		g.mu.Lock()
		peer.counts.broken++
		g.mu.Unlock()
		g.log("a message "+err.Error(), from)
	}
	for _, s := range g.scopes {
		g.settle(s, now)
	}
	if peer.left {
		g.expire(now)
	}
}

// ignore counts a message that cannot be read.
func (g *Group) ignore(from string, err error) {
	g.count(func(c *groupCounts) {
		switch {
		case errors.Is(err, errVersion):
			c.versions++
		case errors.Is(err, errMAC):
			c.unsigned++
		default:
			c.broken++
		}
	})
	g.log("a message "+err.Error(), from)
}

// met returns whose message it is, nil if it is not to be read, and whether none that is newer was read.
func (g *Group) met(from string, m *message, size int, now time.Time) (*peer, bool) {
	g.mu.Lock()
	peer := g.peers.meet(m.origin, g.o.MaxPeers)
	if peer == nil {
		g.mu.Unlock()
		g.log("there are too many peers", from)
		return nil, false
	}
	peer.from = from
	read, newest, came := g.peers.hears(peer, m, size, float64(g.o.MaxRate), g.o.MaxPeers, now)
	alive := len(g.peers.list)
	g.mu.Unlock()
	if came {
		g.o.Logger.Info("sharing: a peer has come", "from", from)
		g.alivePeers(alive)
	}
	if !read {
		return nil, false
	}
	return peer, newest
}

// hearSection takes over what is in a section. Of kinds whose newest value counts, what is older is passed over.
func (g *Group) hearSection(from *peer, m *message, k kind, hash uint64, r reader, newest bool, now time.Time) error {
	switch k {
	case kindHello, kindLeave:
		return g.hearHello(from, k, r)
	case kindWant:
		return g.hearWant(from, r, now)
	case kindPage:
		return g.hearPage(from, r, now)
	}
	s := g.scopeOf(hash)
	if s == nil {
		g.mu.Lock()
		from.counts.elsewhere++
		g.mu.Unlock()
		return nil
	}
	off := &g.o.Without
	switch {
	case k == kindLoad && !off.Load:
		return g.hearLoads(from, m.tick, s, r, now)
	case k == kindDenoise && !off.Load:
		return g.hearDenoise(from, m.tick, s, r)
	case k == kindPlacement && !off.Placements:
		return g.hearPlacements(s, r, now)
	case k == kindEjection && newest && !off.Ejections:
		return g.hearEjections(from, s, r, now)
	case k == kindBinding && !off.Bindings:
		return g.hearBindings(s, r, now)
	case k == kindAccount && newest && !off.Accounts:
		return g.hearAccounts(from, s, r)
	case k == kindNote && !off.Notes:
		return g.hearNotes(from, m.tick, s, r, now)
	}
	return nil
}

func (g *Group) scopeOf(hash uint64) *scope {
	for _, s := range g.scopes {
		if s.hash == hash {
			return s
		}
	}
	return nil
}

func (g *Group) hearHello(from *peer, k kind, r reader) error {
	name := r.Bytes(int(r.Count("length of the name", mostName)))
	if err := r.Err(); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if from.name != string(name) {
		from.name = strings.Map(func(c rune) rune {
			if unicode.IsPrint(c) {
				return c
			}
			return -1
		}, string(name))
	}
	from.left = from.left || k == kindLeave
	return nil
}

// unknown counts an endpoint that is none of this gateway's.
func (g *Group) unknown() { g.count(func(c *groupCounts) { c.unknown++ }) }

func (g *Group) hearLoads(from *peer, tick uint64, s *scope, r reader, now time.Time) error {
	for r.More() {
		key, b := r.load()
		if r.Err() != nil {
			break
		}
		if p := s.byKey[key]; p != nil {
			p.hears(from, tick, b, now)
		} else {
			g.unknown()
		}
	}
	return r.Err()
}

func (g *Group) hearDenoise(from *peer, tick uint64, s *scope, r reader) error {
	for r.More() {
		key, tokens := r.Uint64(), int64(r.Count("tokens of latents", mostDenoise))
		if r.Err() != nil {
			break
		}
		if p := s.byKey[key]; p != nil {
			p.hearsDenoise(from, tick, tokens)
		} else {
			g.unknown()
		}
	}
	return r.Err()
}

func (g *Group) hearPlacements(s *scope, r reader, now time.Time) error {
	var room [mostAnchors]uint64
	for r.More() {
		key := r.Uint64()
		anchors := room[:r.Count("number of anchors", mostAnchors)]
		for i := range anchors {
			anchors[i] = r.Uint64()
		}
		if r.Err() != nil {
			break
		}
		at := s.byKey[key]
		if at == nil {
			g.unknown()
			continue
		}
		for _, part := range s.parts.prefixes {
			for ep := range at.endpoints {
				g.call(func() { part.HearPlacement(types.Placement{Endpoint: ep.ID, Anchors: anchors}, now) })
			}
		}
	}
	return r.Err()
}

func (g *Group) hearEjections(from *peer, s *scope, r reader, now time.Time) error {
	for r.More() {
		key := r.Uint64()
		e := types.Ejected{Number: r.Uint64()}
		e.Refused = r.Byte()&refused != 0
		e.Left = time.Duration(r.Count("milliseconds", mostMillis)) * time.Millisecond
		if r.Err() != nil {
			break
		}
		at := s.byKey[key]
		if at == nil {
			g.unknown()
			continue
		}
		for ep := range at.endpoints {
			e.Endpoint = ep.ID
			for _, part := range s.parts.ejections {
				g.call(func() { part.HearEjection(from.number, e, now) })
			}
		}
	}
	return r.Err()
}

func (g *Group) hearBindings(s *scope, r reader, now time.Time) error {
	for r.More() {
		b, key := types.Binding{Key: r.Uint64()}, r.Uint64()
		b.Version = r.Uint64()
		b.Age = time.Duration(r.Count("milliseconds", mostMillis)) * time.Millisecond
		if r.Err() != nil {
			break
		}
		at := s.byKey[key]
		if at == nil {
			g.unknown()
			continue
		}
		b.Endpoint = at.ep.ID
		for _, part := range s.parts.bindings {
			g.call(func() { part.HearBinding(b, now) })
		}
	}
	return r.Err()
}

func (g *Group) hearAccounts(from *peer, s *scope, r reader) error {
	for r.More() {
		a := types.Account{Key: r.Uint64(), Requests: r.float64(), Tokens: r.float64(), RequestsLeft: r.float64(), TokensLeft: r.float64()}
		if r.Err() != nil {
			break
		}
		if math.IsNaN(a.Requests) || math.IsNaN(a.Tokens) || math.IsInf(a.Requests, 0) || math.IsInf(a.Tokens, 0) {
			return errors.New("has a charge that is no number")
		}
		for _, part := range s.parts.accounts {
			g.call(func() { part.HearAccount(from.number, a) })
		}
	}
	return r.Err()
}
