package sharing

import (
	"fmt"
	"slices"
	"time"

	"github.com/inferpick/inferpick/types"
)

// This file is which scopes there are. They may change while a Group runs.

// Add shares a scope from now on. The error says what is wrong with it.
func (g *Group) Add(s Scope) error {
	return g.put(s, func(old int) error {
		if old >= 0 {
			return fmt.Errorf("sharing: there is a scope %q already", s.Name)
		}
		return nil
	})
}

// Set shares a scope from now on, in place of the one of that name, if there is one: what was heard of endpoints
// that both have stays. The error says what is wrong with it.
func (g *Group) Set(s Scope) error { return g.put(s, func(int) error { return nil }) }

// put shares a scope, unless check refuses. That is told where the scope of the same name is, -1 if there is none.
func (g *Group) put(s Scope, check func(old int) error) error {
	if s.Name == "" {
		return fmt.Errorf("sharing: the scope has no Name")
	}
	n := newScope(s)
	g.turn.Lock()
	defer g.turn.Unlock()
	i := slices.IndexFunc(g.scopes, func(old *scope) bool { return old.hash == n.hash })
	if err := check(i); err != nil {
		return err
	}
	if i < 0 {
		i = len(g.scopes)
		g.scopes = append(g.scopes, n)
	} else if old := g.scopes[i]; n.Endpoints != nil {
		n.eps, n.places, n.byKey, n.byID = old.eps, old.places, old.byKey, old.byID
	}
	n.look()
	g.scopes[i] = n
	g.tellAlive(n, g.alive)
	g.tellChanged(n, n.eps, time.Now())
	return nil
}

// Remove shares a scope no longer: what peers have at its endpoints counts for nothing from now on. It does nothing
// if there is no such scope.
func (g *Group) Remove(name string) {
	hash := hashOf(name)
	g.turn.Lock()
	defer g.turn.Unlock()
	i := slices.IndexFunc(g.scopes, func(s *scope) bool { return s.hash == hash })
	if i < 0 {
		return
	}
	s := g.scopes[i]
	for _, p := range s.places {
		p.heard, p.stale = nil, true
	}
	g.settle(s, time.Now())
	g.scopes = slices.Delete(g.scopes, i, i+1)
}

// tellChanged tells the parts of a scope that what peers have at endpoints has changed.
func (g *Group) tellChanged(s *scope, eps []*types.Endpoint, now time.Time) {
	for _, part := range s.parts.loads {
		g.call(func() { part.PeersChanged(eps, now) })
	}
}
