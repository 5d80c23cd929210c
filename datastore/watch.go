package datastore

import (
	"slices"
	"sync"

	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/types"
)

// EventKind says what happened to an endpoint or a pool.
type EventKind uint8

const (
	// Added: the endpoint is new, or existed when Watch was called.
	Added EventKind = iota
	// Changed: its spec or state changed, or the manifest of a pool. New readings are not
	// reported.
	Changed
	// Removed: it is gone. A later endpoint with the same ID is a different one.
	Removed
	// Restarted: the server process restarted, so its caches are empty.
	Restarted
)

// String returns "added", "changed", "removed" or "restarted".
func (k EventKind) String() string { return nameOfValue(k, "added", "changed", "removed", "restarted") }

// Event is a change of an endpoint.
type Event struct {
	Kind EventKind
	Pool types.NamespacedName
	// Endpoint is its reading at that time. Its Load identifies the endpoint across events.
	Endpoint *types.Endpoint
	Spec     EndpointSpec
}

// Watch calls fn with Added for each existing endpoint, and then for every event, in order and
// one call at a time.
//
// The goroutines that change the store make the calls, once the change is visible, so fn should
// be quick. It may call any method of the Store; the resulting events follow after it has
// returned. It must not wait for another goroutine that changes the store. If it panics,
// Options.Logger hears of it, and the next event comes as if it had returned.
//
// Once stop has returned, fn is not running and will not be called again; fn itself must
// therefore not call stop. Further calls of stop do nothing.
func (s *Store) Watch(fn func(Event)) (stop func()) {
	return watch(s, &s.watchers, fn, func(p *poolState) (events []Event) {
		for _, c := range p.cells {
			events = append(events, eventOf(c, Added))
		}
		return events
	})
}

// PoolEvent is a change of a pool.
type PoolEvent struct {
	// Kind is Added, also for pools that existed when WatchPools was called, Changed, if the pool
	// has another manifest, or Removed. A later pool with the same name is a different one and
	// does not have the first one's endpoints.
	Kind EventKind
	Pool types.NamespacedName
}

// WatchPools calls fn with Added for each existing pool, and then for each that is created,
// changed or deleted, under the same rules as Watch.
//
// It is for sources of endpoints, and for what is there once a pool. Deleting a pool deletes its endpoints; if the pool is created
// again, its source must set them again with SetEndpoints or UpsertEndpoint, from fn or from a
// goroutine that fn wakes. Setting what is there already does no harm. FileSource and DNSSource
// watch pools while they run.
func (s *Store) WatchPools(fn func(PoolEvent)) (stop func()) {
	return watch(s, &s.onPools, fn, func(p *poolState) []PoolEvent { return []PoolEvent{{Added, p.name}} })
}

// watch adds a watcher to ws, whose first events are those of the existing pools.
func watch[E any](s *Store, ws *watchers[E], fn func(E), existing func(*poolState) []E) (stop func()) {
	s.mu.Lock()
	w := newWatcher(s.panics, fn)
	for _, p := range s.sortedLocked() {
		w.queue = append(w.queue, existing(p)...)
	}
	ws.all = append(slices.Clip(ws.all), w)
	s.mu.Unlock()
	w.deliver()

	return func() {
		s.mu.Lock()
		ws.all = without(ws.all, w)
		s.mu.Unlock()
		w.stop()
	}
}

// without returns a copy of s that lacks v.
func without[T comparable](s []T, v T) []T {
	return slices.DeleteFunc(slices.Clone(s), func(other T) bool { return other == v })
}

// wakeOnPools returns a channel that receives a value after a pool was added.
func (s *Store) wakeOnPools() (wake <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	return c, s.WatchPools(func(ev PoolEvent) {
		if ev.Kind != Added {
			return
		}
		select {
		case c <- struct{}{}:
		default:
		}
	})
}

// eventLocked queues an event for all watchers. Caller must hold s.mu, which orders the events,
// and call deliver afterwards.
func (s *Store) eventLocked(c *cell, kind EventKind) {
	if len(s.watchers.all) > 0 {
		s.watchers.queueLocked(eventOf(c, kind))
	}
}

// tell queues and delivers an event, unless the endpoint was removed meanwhile.
func (s *Store) tell(c *cell, kind EventKind) {
	s.mu.Lock()
	if !c.removed {
		s.eventLocked(c, kind)
	}
	s.mu.Unlock()
	s.deliver()
}

// deliver delivers queued events. Caller must not hold s.mu.
func (s *Store) deliver() {
	s.mu.Lock()
	watchers, onPools, onManifests := s.watchers.all, s.onPools.all, s.onManifests.all // never changed in place
	s.mu.Unlock()
	for _, w := range watchers {
		w.deliver()
	}
	for _, w := range onPools {
		w.deliver()
	}
	for _, w := range onManifests {
		w.deliver()
	}
}

func eventOf(c *cell, kind EventKind) Event {
	return Event{Kind: kind, Pool: c.pool.name, Endpoint: c.newest.Load(), Spec: c.specLocked()}
}

// watchers are those of one type of event. Guarded by Store.mu; all is never changed in place.
type watchers[E any] struct{ all []*watcher[E] }

func (ws *watchers[E]) queueLocked(ev E) {
	for _, w := range ws.all {
		w.mu.Lock()
		if !w.stopped {
			w.queue = append(w.queue, ev)
		}
		w.mu.Unlock()
	}
}

// watcher is a queue that is drained by whoever adds to it, unless another goroutine is doing so
// already. It needs no goroutine, and a call from inside fn cannot deadlock.
type watcher[E any] struct {
	fn     func(E)
	panics *guard.Teller

	mu      sync.Mutex
	idle    sync.Cond // busy became false
	queue   []E
	busy    bool // a goroutine is calling fn
	stopped bool
}

func newWatcher[E any](panics *guard.Teller, fn func(E)) *watcher[E] {
	w := &watcher[E]{fn: fn, panics: panics}
	w.idle.L = &w.mu
	return w
}

func (w *watcher[E]) deliver() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy {
		return
	}
	w.busy = true
	// Also if fn ends its goroutine: later events are still delivered.
	defer func() {
		w.busy = false
		w.idle.Broadcast()
	}()
	for len(w.queue) > 0 {
		ev := w.queue[0]
		w.queue[0] = *new(E)
		w.queue = w.queue[1:]
		w.call(ev)
	}
}

// call calls fn without the lock. Caller must hold w.mu.
func (w *watcher[E]) call(ev E) {
	w.mu.Unlock()
	defer w.mu.Lock()
	w.panics.Call("the function of a watch", func() { w.fn(ev) })
}

func (w *watcher[E]) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.queue = nil
	for w.busy {
		w.idle.Wait()
	}
}

// readingWatcher is a callback for readings; its address identifies it.
type readingWatcher struct {
	fn func(types.NamespacedName, *types.Endpoint)
}

// WatchReadings calls fn for each new reading and each new list of models (see SetModels), from
// the goroutine that provides it and therefore concurrently. fn must be quick. Readings of one
// endpoint may arrive out of order, as their UpdatedAt tells. A call that is just being made when
// stop is called may continue after stop has returned.
func (s *Store) WatchReadings(fn func(pool types.NamespacedName, ep *types.Endpoint)) (stop func()) {
	w := &readingWatcher{fn}
	s.changeReaders(func(now []*readingWatcher) []*readingWatcher { return append(slices.Clip(now), w) })
	return func() {
		s.changeReaders(func(now []*readingWatcher) []*readingWatcher { return without(now, w) })
	}
}

func (s *Store) changeReaders(change func([]*readingWatcher) []*readingWatcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var now []*readingWatcher
	if p := s.readers.Load(); p != nil {
		now = *p
	}
	now = change(now)
	s.readers.Store(&now)
}

func (s *Store) tellReaders(pool types.NamespacedName, ep *types.Endpoint) {
	p := s.readers.Load()
	if p == nil {
		return
	}
	for _, w := range *p {
		s.panics.Call("the function of WatchReadings", func() { w.fn(pool, ep) })
	}
}
