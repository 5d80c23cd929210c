package plugins

import (
	"sync"

	"github.com/inferpick/inferpick/types"
)

// endpointTable keeps a T for each endpoint, by the endpoint's identity. Most are
// found by types.Endpoint.Slot, without the cost of a map. The zero value is empty.
//
// Callers lock it themselves, so that one lock serves a pass over all endpoints.
type endpointTable[T any] struct {
	mu sync.RWMutex

	// guarded by mu
	known    map[*types.Load]*tableEntry[T]
	hints    []*tableEntry[T] // by slot
	unhinted int              // how many of known are not in hints
}

type tableEntry[T any] struct {
	load   *types.Load
	value  T
	slot   uint32
	hinted bool // is in hints at slot
}

// lookup returns what is kept for ep, or nil. Caller must hold mu.
func (t *endpointTable[T]) lookup(ep *types.Endpoint) *T {
	if int(ep.Slot) < len(t.hints) {
		if e := t.hints[ep.Slot]; e != nil && e.load == ep.Load {
			return &e.value
		}
	}
	if t.unhinted == 0 {
		return nil
	}
	if e := t.known[ep.Load]; e != nil {
		return &e.value
	}
	return nil
}

// enter returns what is kept for ep, entering it with init if it is new. It returns
// nil for an endpoint that has gone: Forget has been here, or is about to come.
// Caller must hold mu for writing.
func (t *endpointTable[T]) enter(ep *types.Endpoint, init func(*T)) *T {
	if e := t.known[ep.Load]; e != nil {
		return &e.value
	}
	if ep.Load == nil || ep.Load.Retired() {
		return nil
	}
	e := &tableEntry[T]{load: ep.Load}
	init(&e.value)
	if t.known == nil {
		t.known = map[*types.Load]*tableEntry[T]{}
	}
	t.known[ep.Load] = e
	t.hint(ep.Slot, e)
	return &e.value
}

// maxHints bounds the table against an endpoint made by hand with a wild slot.
const maxHints = 1 << 20

// hint enters e in the table by slot. If the slot is taken, by an endpoint that has
// gone or one of another store, e takes it over.
func (t *endpointTable[T]) hint(slot uint32, e *tableEntry[T]) {
	if slot >= maxHints {
		t.unhinted++
		return
	}
	if n := int(slot) + 1; n > len(t.hints) {
		t.hints = append(t.hints, make([]*tableEntry[T], n-len(t.hints))...)
	}
	if old := t.hints[slot]; old != nil {
		old.hinted = false
		t.unhinted++
	}
	t.hints[slot], e.slot, e.hinted = e, slot, true
}

// remove takes ep out and returns what was kept for it, or nil. Caller must hold mu
// for writing.
func (t *endpointTable[T]) remove(ep *types.Endpoint) *T {
	e := t.known[ep.Load]
	if e == nil {
		return nil
	}
	delete(t.known, ep.Load)
	if e.hinted {
		t.hints[e.slot] = nil
	} else {
		t.unhinted--
	}
	return &e.value
}
