// Package metrictest has a metric.Source for tests, which says what it is told to.
package metrictest

import (
	"context"
	"fmt"
	"sync"

	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/types"
)

// Source is a metric.Source of pools that Set makes. The zero value has none. Its methods may be called from any
// goroutine.
type Source struct {
	mu      sync.Mutex
	pools   map[types.NamespacedName]*pool
	missing int
}

type pool struct {
	whole    autoscale.Signals
	models   map[string]autoscale.Signals
	replicas int
	active   bool
	watchers map[chan bool]bool
}

// Set says what is known of a pool: its signals, how many replicas are recommended, and whether it is active.
func (s *Source) Set(name types.NamespacedName, whole autoscale.Signals, replicas int, active bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pools[name]
	if p == nil {
		p = &pool{models: map[string]autoscale.Signals{}, watchers: map[chan bool]bool{}}
		if s.pools == nil {
			s.pools = map[types.NamespacedName]*pool{}
		}
		s.pools[name] = p
	}
	p.whole, p.replicas = whole, replicas
	if p.active != active {
		p.active = active
		for c := range p.watchers {
			put(c, active)
		}
	}
}

// put leaves in a channel with room for one the last value alone.
func put(c chan bool, v bool) {
	select {
	case <-c:
	default:
	}
	c <- v
}

// SetModel says what is known of a model of a pool that there is.
func (s *Source) SetModel(name types.NamespacedName, model string, signals autoscale.Signals) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pools[name].models[model] = signals
}

// Remove makes a pool unknown.
func (s *Source) Remove(name types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pools, name)
}

// Miss says how many gateways do not answer from now on.
func (s *Source) Miss(gateways int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.missing = gateways
}

// Watchers returns how many watch a pool.
func (s *Source) Watchers(name types.NamespacedName) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pools[name]; p != nil {
		return len(p.watchers)
	}
	return 0
}

// find returns a pool, and an error with it if gateways are missing. Caller must hold s.mu.
func (s *Source) find(name types.NamespacedName) (*pool, error) {
	p := s.pools[name]
	switch {
	case p == nil:
		return nil, fmt.Errorf("%w: %s", autoscale.ErrUnknownPool, name)
	case s.missing > 0:
		return p, fmt.Errorf("%w: %d are missing", autoscale.ErrPartial, s.missing)
	}
	return p, nil
}

// Signals implements metric.Source.
func (s *Source) Signals(_ context.Context, name types.NamespacedName, model string) (autoscale.Signals, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.find(name)
	switch {
	case p == nil:
		return autoscale.Signals{}, err
	case model == "":
		return p.whole, err
	}
	return p.models[model], err
}

// Desired implements metric.Source.
func (s *Source) Desired(_ context.Context, name types.NamespacedName) (autoscale.Recommendation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.find(name)
	if p == nil {
		return autoscale.Recommendation{}, err
	}
	return autoscale.Recommendation{Replicas: p.replicas, Partial: err != nil}, err
}

// Active implements metric.Source.
func (s *Source) Active(_ context.Context, name types.NamespacedName) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.find(name)
	if p == nil {
		return false, err
	}
	return p.active, err
}

// Watch implements metric.Source.
func (s *Source) Watch(name types.NamespacedName) (<-chan bool, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pools[name]
	if p == nil {
		return nil, nil, fmt.Errorf("%w: %s", autoscale.ErrUnknownPool, name)
	}
	c := make(chan bool, 1)
	c <- p.active
	p.watchers[c] = true
	return c, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(p.watchers, c)
	}, nil
}
