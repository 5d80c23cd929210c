package plugins

import (
	"sync"

	"github.com/inferpick/inferpick/types"
)

// endpointIndex gives each endpoint a small number, by the endpoint's identity, under
// which a plugin keeps what it knows of it. Most are found by types.Endpoint.Slot,
// without the cost of a map. The zero value is empty.
//
// Callers lock it themselves, so that one lock serves a pass over all endpoints.
type endpointIndex struct {
	mu sync.RWMutex

	// guarded by mu
	loads  []*types.Load // by number; nil: the number is free
	slots  []uint32      // by number
	bySlot []int32       // number + 1, by slot; 0: none
	byLoad map[*types.Load]int32
	unsure int // endpoints that are not found by their slot
	free   []int32
}

// maxSlots bounds the table of slots against an endpoint made by hand with a wild one.
const maxSlots = 1 << 20

// lookup returns the number of ep, or -1. Caller must hold mu.
func (x *endpointIndex) lookup(ep *types.Endpoint) int32 {
	if uint(ep.Slot) < uint(len(x.bySlot)) {
		if i := x.bySlot[ep.Slot] - 1; i >= 0 && x.loads[i] == ep.Load {
			return i
		}
	}
	if x.unsure == 0 {
		return -1
	}
	if i, ok := x.byLoad[ep.Load]; ok {
		return i
	}
	return -1
}

// enter gives ep a number if it has none. It returns -1 for an endpoint that has gone:
// it was forgotten, or is about to be. Caller must hold mu for writing.
func (x *endpointIndex) enter(ep *types.Endpoint) (i int32, isNew bool) {
	if i, ok := x.byLoad[ep.Load]; ok {
		return i, false
	}
	if ep.Load == nil || ep.Load.Retired() {
		return -1, false
	}
	if n := len(x.free); n > 0 {
		i, x.free = x.free[n-1], x.free[:n-1]
	} else {
		i = int32(len(x.loads))
		x.loads, x.slots = append(x.loads, nil), append(x.slots, 0)
	}
	x.loads[i], x.slots[i] = ep.Load, ep.Slot
	if x.byLoad == nil {
		x.byLoad = map[*types.Load]int32{}
	}
	x.byLoad[ep.Load] = i
	if ep.Slot >= maxSlots {
		x.unsure++
		return i, true
	}
	if n := int(ep.Slot) + 1; n > len(x.bySlot) {
		x.bySlot = append(x.bySlot, make([]int32, n-len(x.bySlot))...)
	}
	if x.bySlot[ep.Slot] != 0 {
		x.unsure++ // who had the slot, of another store perhaps, is found by the map from now on
	}
	x.bySlot[ep.Slot] = i + 1
	return i, true
}

// remove takes ep out and returns what number it had, or -1. Caller must hold mu for
// writing.
func (x *endpointIndex) remove(ep *types.Endpoint) int32 {
	i, ok := x.byLoad[ep.Load]
	if !ok {
		return -1
	}
	delete(x.byLoad, ep.Load)
	if slot := x.slots[i]; uint(slot) < uint(len(x.bySlot)) && x.bySlot[slot] == i+1 {
		x.bySlot[slot] = 0
	} else {
		x.unsure--
	}
	x.loads[i] = nil
	x.free = append(x.free, i)
	return i
}

// endpointTable keeps a T for each endpoint, which stays where it is. The zero value is
// empty. It is locked as endpointIndex is.
type endpointTable[T any] struct {
	endpointIndex
	values []*T // by number
}

// lookup returns what is kept for ep, or nil. Caller must hold mu.
func (t *endpointTable[T]) lookup(ep *types.Endpoint) *T {
	if i := t.endpointIndex.lookup(ep); i >= 0 {
		return t.values[i]
	}
	return nil
}

// enter returns what is kept for ep, entering it with init if it is new, and nil if it
// has gone. Caller must hold mu for writing.
func (t *endpointTable[T]) enter(ep *types.Endpoint, init func(*T)) *T {
	i, isNew := t.endpointIndex.enter(ep)
	if i < 0 {
		return nil
	}
	if isNew {
		v := new(T)
		init(v)
		if int(i) == len(t.values) {
			t.values = append(t.values, nil)
		}
		t.values[i] = v
	}
	return t.values[i]
}

// remove takes ep out and returns what was kept for it, or nil. Caller must hold mu
// for writing.
func (t *endpointTable[T]) remove(ep *types.Endpoint) *T {
	i := t.endpointIndex.remove(ep)
	if i < 0 {
		return nil
	}
	v := t.values[i]
	t.values[i] = nil
	return v
}
