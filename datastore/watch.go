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
	w := &watcher{fn: fn}
	w.idle.L = &w.mu

	s.mu.Lock()
	for _, p := range s.sortedLocked() {
		for _, c := range p.cells {
			w.queue = append(w.queue, eventOf(c, Added))
		}
	}
	s.watchers = append(slices.Clip(s.watchers), w)
	s.mu.Unlock()
	w.deliver()

	return func() {
		s.mu.Lock()
		s.watchers = slices.DeleteFunc(slices.Clone(s.watchers), func(other *watcher) bool { return other == w })
		s.mu.Unlock()
		w.stop()
	}
}

// eventLocked queues an event for every watcher. Caller must hold s.mu, which
// puts events in order, and calls deliver after.
func (s *Store) eventLocked(c *cell, kind EventKind) {
	if len(s.watchers) == 0 {
		return
	}
	ev := eventOf(c, kind)
	for _, w := range s.watchers {
		w.mu.Lock()
		if !w.stopped {
			w.queue = append(w.queue, ev)
		}
		w.mu.Unlock()
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
	watchers := s.watchers // never changed in place
	s.mu.Unlock()
	for _, w := range watchers {
		w.deliver()
	}
}

func eventOf(c *cell, kind EventKind) Event {
	return Event{Kind: kind, Pool: c.pool.name, Endpoint: c.newest.Load(), Spec: c.specLocked()}
}

// watcher is a queue that whoever adds to it empties, unless somebody is doing
// so already. No goroutine is needed, and a call from inside fn cannot deadlock.
type watcher struct {
	fn func(Event)

	mu      sync.Mutex
	idle    sync.Cond // busy became false
	queue   []Event
	busy    bool // somebody is calling fn
	stopped bool
}

func (w *watcher) deliver() {
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
		w.queue[0] = Event{}
		w.queue = w.queue[1:]
		w.call(ev)
	}
}

// call calls fn without the lock. Caller must hold w.mu.
func (w *watcher) call(ev Event) {
	w.mu.Unlock()
	defer w.mu.Lock()
	w.fn(ev)
}

func (w *watcher) stop() {
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

// WatchReadings calls fn for each new reading, with the pool of the endpoint, from the
// goroutine that brings it, and by many at once: for those who act on what servers
// report without waiting for a request to look. fn must be quick. Readings of one
// endpoint may come out of order: their UpdatedAt tells. A call that had begun, or was
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
