package sharing

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/inferpick/inferpick/types"
)

// This file is which scopes there are. They may change while a Group runs.

var errNameless = errors.New("sharing: the scope has no Name")

// Add shares a scope from now on. The error says what is wrong with it.
func (g *Group) Add(s Scope) error {
	if s.Name == "" {
		return errNameless
	}
	g.turn.Lock()
	defer g.turn.Unlock()
	if g.scopeOf(hashOf(s.Name)) != nil {
		return fmt.Errorf("sharing: there is a scope %q already", s.Name)
	}
	n, err := g.newScope(s)
	if err != nil {
		return err
	}
	g.put(n)
	return nil
}

// Set shares a scope from now on, in place of the one of that name, if there is one: what was heard of endpoints
// that both have stays. With the same Parts it costs little. The error says what is wrong with the scope.
func (g *Group) Set(s Scope) error {
	g.turn.Lock()
	defer g.turn.Unlock()
	return g.set(s)
}

// set is Set. Caller must hold g.turn.
func (g *Group) set(s Scope) error {
	if s.Name == "" {
		return errNameless
	}
	old := g.scopeOf(hashOf(s.Name))
	if old != nil && sameParts(old.Parts, s.Parts) && (old.Endpoints == nil) == (s.Endpoints == nil) {
		old.Endpoints = s.Endpoints
		return nil
	}
	n, err := g.newScope(s)
	if err != nil {
		return err
	}
	g.put(n)
	return nil
}

// sameParts reports whether parts are the same ones, as far as that can be told.
func sameParts(a, b []any) (same bool) {
	defer func() { _ = recover() }() // a part that cannot be compared
	return slices.Equal(a, b)
}

// Keep is Set of each of scopes, and Remove of those that were in the last call of Keep and are not in this one: for
// pools that come and go. The error says what is wrong with a scope; the others are shared.
func (g *Group) Keep(scopes ...Scope) error {
	g.turn.Lock()
	defer g.turn.Unlock()
	var errs []error
	var kept []string
	for _, s := range scopes {
		errs = append(errs, g.set(s))
		kept = append(kept, s.Name)
	}
	for _, name := range g.kept {
		if !slices.Contains(kept, name) {
			g.remove(name)
		}
	}
	g.kept = kept
	return errors.Join(errs...)
}

// put shares a scope in place of the one of that name. Caller must hold g.turn.
func (g *Group) put(n *scope) {
	i := slices.IndexFunc(g.scopes, func(old *scope) bool { return old.hash == n.hash })
	if i < 0 {
		i = len(g.scopes)
		g.scopes = append(g.scopes, n)
	} else {
		old := g.scopes[i]
		if n.Endpoints != nil {
			n.eps, n.places, n.byKey, n.byID = old.eps, old.places, old.byKey, old.byID
		}
		n.follow(old)
	}
	g.look(n)
	g.scopes[i] = n
	g.tellAlive(n, g.alive)
	busy := slices.DeleteFunc(slices.Clone(n.eps), func(ep *types.Endpoint) bool { return ep.Load.Peers() == types.Booking{} })
	if len(busy) > 0 {
		g.tellChanged(n, busy, g.now)
	}
}

// Remove shares a scope no longer: what peers have at its endpoints counts for nothing from now on. It does nothing
// if there is no such scope.
func (g *Group) Remove(name string) {
	g.turn.Lock()
	defer g.turn.Unlock()
	g.remove(name)
}

// remove is Remove. Caller must hold g.turn.
func (g *Group) remove(name string) {
	s := g.scopeOf(hashOf(name))
	if s == nil {
		return
	}
	s.doubt()
	for _, p := range s.places {
		p.heard = nil
	}
	g.settle(s, g.now)
	g.scopes = slices.DeleteFunc(g.scopes, func(other *scope) bool { return other == s })
	for _, other := range g.scopes { // that may have the same endpoints
		other.doubt()
		g.settle(other, g.now)
	}
}

// tellChanged tells the parts of a scope that what peers have at endpoints has changed.
func (g *Group) tellChanged(s *scope, eps []*types.Endpoint, now time.Time) {
	for _, part := range s.parts.loads {
		g.call(func() { part.PeersChanged(eps, now) })
	}
}
