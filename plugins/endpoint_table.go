package plugins

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/inferpick/inferpick/types"
)

// endpointTable holds a T, which does not move, for each endpoint. Most are found by
// types.Endpoint.Slot, without the cost of a map. Lookups need no lock, since each change
// publishes a new view. The zero value is empty.
type endpointTable[T any] struct {
	view atomic.Pointer[tableView[T]] // never changes once it is published

	mu sync.RWMutex

	// guarded by mu
	numbers map[*types.Load]int32
	slots   []uint32 // by number
	free    []int32  // numbers
}

// tableView is a table at one time.
type tableView[T any] struct {
	bySlot []tableSlot[T]
	unsure map[*types.Load]*T // those not found by slot
	values []*T               // by number; nil: the number is free
}

type tableSlot[T any] struct {
	load  *types.Load
	value *T
}

// maxSlots bounds the table in case an endpoint made by hand has a huge slot.
const maxSlots = 1 << 20

// lookup returns the value of ep, or nil.
func (t *endpointTable[T]) lookup(ep *types.Endpoint) *T { return t.view.Load().lookup(ep) }

// all returns the values by number, nil for free numbers.
func (t *endpointTable[T]) all() []*T {
	if v := t.view.Load(); v != nil {
		return v.values
	}
	return nil
}

// lookup returns the value of ep, or nil. v may be nil.
func (v *tableView[T]) lookup(ep *types.Endpoint) *T {
	if v == nil {
		return nil
	}
	if uint(ep.Slot) < uint(len(v.bySlot)) {
		if s := &v.bySlot[ep.Slot]; s.load == ep.Load {
			return s.value
		}
	}
	return v.unsure[ep.Load]
}

// change publishes a copy of the view, changed by f. Caller must hold mu for writing.
func (t *endpointTable[T]) change(f func(*tableView[T])) {
	next := new(tableView[T])
	if v := t.view.Load(); v != nil {
		*next = tableView[T]{slices.Clone(v.bySlot), maps.Clone(v.unsure), slices.Clone(v.values)}
	}
	f(next)
	t.view.Store(next)
}

// enter returns the value of ep, which it adds and initializes with init if there is none. It
// returns nil for an endpoint that was removed. Caller must hold mu for writing.
func (t *endpointTable[T]) enter(ep *types.Endpoint, init func(*T)) *T {
	t.enterAll([]*types.Endpoint{ep}, func(_ *types.Endpoint, v *T) { init(v) })
	return t.lookup(ep)
}

// enterAll adds those of eps that are new and not removed. Caller must hold mu for writing.
func (t *endpointTable[T]) enterAll(eps []*types.Endpoint, init func(*types.Endpoint, *T)) {
	isNew := func(ep *types.Endpoint) bool {
		_, known := t.numbers[ep.Load]
		return !known && ep.Load != nil && !ep.Load.Retired()
	}
	if !slices.ContainsFunc(eps, isNew) {
		return
	}
	t.change(func(v *tableView[T]) {
		for _, ep := range eps {
			if !isNew(ep) {
				continue
			}
			value := new(T)
			init(ep, value)
			t.number(v, ep, value)
			v.place(ep, value)
		}
	})
}

// number assigns ep a number. Caller must hold mu for writing.
func (t *endpointTable[T]) number(v *tableView[T], ep *types.Endpoint, value *T) {
	var i int32
	if n := len(t.free); n > 0 {
		i, t.free = t.free[n-1], t.free[:n-1]
	} else {
		i = int32(len(v.values))
		v.values, t.slots = append(v.values, nil), append(t.slots, 0)
	}
	v.values[i], t.slots[i] = value, ep.Slot
	if t.numbers == nil {
		t.numbers = map[*types.Load]int32{}
	}
	t.numbers[ep.Load] = i
}

// place makes value findable. An endpoint that had the same slot, as from another store, is found
// by the map from then on.
func (v *tableView[T]) place(ep *types.Endpoint, value *T) {
	load := ep.Load
	if ep.Slot < maxSlots {
		if n := int(ep.Slot) + 1; n > len(v.bySlot) {
			v.bySlot = append(v.bySlot, make([]tableSlot[T], n-len(v.bySlot))...)
		}
		s := &v.bySlot[ep.Slot]
		s.load, load = load, s.load
		s.value, value = value, s.value
	}
	if load == nil {
		return
	}
	if v.unsure == nil {
		v.unsure = map[*types.Load]*T{}
	}
	v.unsure[load] = value
}

// remove removes ep and returns its value, or nil. Caller must hold mu for writing.
func (t *endpointTable[T]) remove(ep *types.Endpoint) (value *T) {
	i, known := t.numbers[ep.Load]
	if !known {
		return nil
	}
	delete(t.numbers, ep.Load)
	t.free = append(t.free, i)
	slot := t.slots[i]
	t.change(func(v *tableView[T]) {
		value, v.values[i] = v.values[i], nil
		delete(v.unsure, ep.Load)
		if uint(slot) < uint(len(v.bySlot)) && v.bySlot[slot].load == ep.Load {
			v.bySlot[slot] = tableSlot[T]{}
		}
	})
	return value
}
