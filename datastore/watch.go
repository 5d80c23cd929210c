package datastore

import (
	"slices"
	"sync"

	"github.com/inferpick/inferpick/types"
)

// EventKind says what happened to an endpoint.
type EventKind uint8

const (
	// Added: the endpoint is new, or was there before Watch was called.
	Added EventKind = iota
	// Changed: its spec or its state is another. Readings are no change.
	Changed
	// Removed: it has gone. One of the same ID that comes later is another.
	Removed
	// Restarted: the server process started anew, so its caches are empty.
	Restarted
)

// String returns the name of the kind in lower case.
func (k EventKind) String() string {
	switch k {
	case Added:
		return "added"
	case Changed:
		return "changed"
	case Removed:
		return "removed"
	case Restarted:
		return "restarted"
	}
	return "invalid"
}

// Event is one thing that happened to an endpoint.
type Event struct {
	Kind EventKind
	Pool types.NamespacedName
	// Endpoint is the reading at that time. Its Load is the identity of the
	// endpoint through all events.
	Endpoint *types.Endpoint
	Spec     EndpointSpec
}

// Watch calls fn for each endpoint that is there now, with Added, and from then
// on for everything that happens, in order, one call at a time.
//
// The calls are made by the goroutines that change the store, after the change
// can be seen: fn should be quick, for example start or stop something. It may
// call any method of the Store: what it changes is told after it has returned.
// It must not wait for another goroutine that changes the store.
//
// After stop has returned fn is not called any more, and no call is under way;
// so fn itself must not call stop. Calling stop again does nothing.
func (s *Store) Watch(fn func(Event)) (stop func()) {
	s.mu.Lock()
	w := newWatcher(fn)
	for _, p := range s.sortedLocked() {
		for _, c := range p.cells {
			w.queue = append(w.queue, eventOf(c, Added))
		}
	}
	s.watchers.addLocked(w)
	s.mu.Unlock()
	w.deliver()

	return func() {
		s.mu.Lock()
		s.watchers.removeLocked(w)
		s.mu.Unlock()
		w.stop()
	}
}

// PoolEvent is one thing that happened to a pool.
type PoolEvent struct {
	// Kind is Added, also for a pool that was there before WatchPools was called, or
	// Removed. One of the same name that comes later is another, without the endpoints
	// that the first one had.
	Kind EventKind
	Pool types.NamespacedName
}

// WatchPools calls fn for each pool that is there now, with Added, and from then on for
// each that comes or goes, as Watch does for endpoints and under the same rules.
//
// It is for those who feed a store: when a pool is deleted its endpoints go with it. A
// source gives them again when it is told that the pool was added, from fn or from a
// goroutine that fn wakes, with SetEndpoints or UpsertEndpoint; what is there already
// does no harm. A source that only gives what has changed at its own side, and does not
// watch, leaves a pool empty that was deleted and made again. FileSource and DNSSource
// watch while they run.
func (s *Store) WatchPools(fn func(PoolEvent)) (stop func()) {
	s.mu.Lock()
	w := newWatcher(fn)
	for _, p := range s.sortedLocked() {
		w.queue = append(w.queue, PoolEvent{Added, p.name})
	}
	s.onPools.addLocked(w)
	s.mu.Unlock()
	w.deliver()

	return func() {
		s.mu.Lock()
		s.onPools.removeLocked(w)
		s.mu.Unlock()
		w.stop()
	}
}

// wakeOnPools returns a channel that has something in it after a pool has come.
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

// eventLocked queues an event for every watcher. Caller must hold s.mu, which
// puts events in order, and calls deliver after.
func (s *Store) eventLocked(c *cell, kind EventKind) {
	if len(s.watchers.all) > 0 {
		s.watchers.queueLocked(eventOf(c, kind))
	}
}

// tell queues and delivers an event, unless the endpoint has gone meanwhile.
func (s *Store) tell(c *cell, kind EventKind) {
	s.mu.Lock()
	if !c.removed {
		s.eventLocked(c, kind)
	}
	s.mu.Unlock()
	s.deliver()
}

// deliver hands out what is queued. Caller must not hold s.mu.
func (s *Store) deliver() {
	s.mu.Lock()
	watchers, onPools := s.watchers.all, s.onPools.all // never changed in place
	s.mu.Unlock()
	for _, w := range watchers {
		w.deliver()
	}
	for _, w := range onPools {
		w.deliver()
	}
}

func eventOf(c *cell, kind EventKind) Event {
	return Event{Kind: kind, Pool: c.pool.name, Endpoint: c.newest.Load(), Spec: c.specLocked()}
}

// watchers are those who are told of one kind of events. Guarded by Store.mu.
type watchers[E any] struct{ all []*watcher[E] }

func (ws *watchers[E]) addLocked(w *watcher[E]) { ws.all = append(slices.Clip(ws.all), w) }

func (ws *watchers[E]) removeLocked(w *watcher[E]) {
	ws.all = slices.DeleteFunc(slices.Clone(ws.all), func(other *watcher[E]) bool { return other == w })
}

func (ws *watchers[E]) queueLocked(ev E) {
	for _, w := range ws.all {
		w.mu.Lock()
		if !w.stopped {
			w.queue = append(w.queue, ev)
		}
		w.mu.Unlock()
	}
}

// watcher is a queue that whoever adds to it empties, unless somebody is doing
// so already. No goroutine is needed, and a call from inside fn cannot deadlock.
type watcher[E any] struct {
	fn func(E)

	mu      sync.Mutex
	idle    sync.Cond // busy became false
	queue   []E
	busy    bool // somebody is calling fn
	stopped bool
}

func newWatcher[E any](fn func(E)) *watcher[E] {
	w := &watcher[E]{fn: fn}
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
	// Also when fn panics: the panic is the caller's, later events go on.
	defer func() {
		w.busy = false
		w.idle.Broadcast()
	}()
	for len(w.queue) > 0 {
		ev := w.queue[0]
		var none E
		w.queue[0] = none
		w.queue = w.queue[1:]
		w.call(ev)
	}
}

// call calls fn without the lock. Caller must hold w.mu.
func (w *watcher[E]) call(ev E) {
	w.mu.Unlock()
	defer w.mu.Lock()
	w.fn(ev)
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

// readingWatcher is who is told of readings.
type readingWatcher struct {
	fn func(types.NamespacedName, *types.Endpoint)
}

// WatchReadings calls fn for each new reading, and each new list of models (SetModels),
// with the pool of the endpoint, from the goroutine that brings it, and by many at once:
// for those who act on what servers report without waiting for a request to look. fn must
// be quick. Readings of one endpoint may come out of order: their UpdatedAt tells. A call that had begun, or was
// about to, when stop is called may still be made after it has returned.
func (s *Store) WatchReadings(fn func(pool types.NamespacedName, ep *types.Endpoint)) (stop func()) {
	w := &readingWatcher{fn}
	s.changeReaders(func(now []*readingWatcher) []*readingWatcher { return append(slices.Clip(now), w) })
	return func() {
		s.changeReaders(func(now []*readingWatcher) []*readingWatcher {
			return slices.DeleteFunc(slices.Clone(now), func(other *readingWatcher) bool { return other == w })
		})
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
		w.fn(pool, ep)
	}
}
