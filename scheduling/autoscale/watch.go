package autoscale

import (
	"context"
	"errors"
	"sync"

	"github.com/inferpick/inferpick/types"
)

// watcher is told whether a pool should have replicas.
type watcher struct {
	active chan bool // of one: the last that was not received
	last   bool
}

// tell puts a value in the place of one that was not received. Caller must hold Autoscaler.mu.
func (w *watcher) tell(active bool) {
	if w.last == active {
		return
	}
	w.last = active
	select {
	case <-w.active:
	default:
	}
	w.active <- active
}

// Watch returns a channel with what Active is: now, and each time that it changes, which is at once when a request
// comes for a pool for which no replica was recommended. Of several changes that nobody received only the last is
// kept. Call stop when done; the channel is not closed. Changes other than waking need Run. The error is
// ErrUnknownPool, wrapped.
func (a *Autoscaler) Watch(pool types.NamespacedName) (active <-chan bool, stop func(), err error) {
	if pool.Namespace == "" {
		pool.Namespace = types.DefaultNamespace
	}
	ctx, done := context.WithTimeout(context.Background(), 2*a.o.PeerTimeout)
	defer done()
	now, err := a.Active(ctx, pool)
	if err != nil && !errors.Is(err, ErrPartial) {
		return nil, nil, err
	}
	w := &watcher{active: make(chan bool, 1)}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.watchers[pool] == nil {
		a.watchers[pool] = map[*watcher]bool{}
	}
	a.watchers[pool][w] = true
	now = now || a.awake(a.picture.Load(), pool)
	w.last = !now
	w.tell(now)
	return w.active, sync.OnceFunc(func() { a.unwatch(pool, w) }), nil
}

func (a *Autoscaler) unwatch(pool types.NamespacedName, w *watcher) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.watchers[pool], w)
	if len(a.watchers[pool]) == 0 {
		delete(a.watchers, pool)
	}
}

// wake is told that something came for a pool for which nothing was recommended.
func (a *Autoscaler) wake(pool types.NamespacedName) {
	if _, scaled, known := a.policy(pool); known && !scaled {
		return
	}
	a.mu.Lock()
	a.woken[pool] = a.looks
	for w := range a.watchers[pool] {
		w.tell(true)
	}
	a.mu.Unlock()
	if p, ok := a.o.Peers.(teller); ok {
		p.tellSoon()
	}
	a.lookSoon()
}

// lookSoon has Run make recommendations at once.
func (a *Autoscaler) lookSoon() {
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

// tell tells watchers of a picture. What has woken meanwhile is awake. Caller must hold a.mu.
func (a *Autoscaler) tell(p *picture) {
	for name, all := range a.watchers {
		one, active := p.pools[name], a.awake(p, name)
		if one != nil && one.signals.Missing > 0 && !active {
			continue // a part says nothing
		}
		for w := range all {
			w.tell(active)
		}
	}
}

// awake reports whether a pool should have replicas by a picture, or has woken meanwhile. Caller must hold a.mu.
func (a *Autoscaler) awake(p *picture, pool types.NamespacedName) bool {
	_, woken := a.woken[pool]
	one := p.pools[pool]
	return woken || one != nil && one.Replicas > 0
}
