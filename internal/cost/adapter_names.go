package cost

import (
	"maps"
	"strings"
	"sync/atomic"
)

// AdapterID stands for the name of a LoRA adapter; 0: none.
type AdapterID int32

// AdapterNames gives IDs to the adapters that engines listed, as long as they do: of too many
// names the one that was listed the longest ago is forgotten. A target model is taken for an
// adapter from when any engine has listed it: to take a base model for one would keep its
// requests together. The zero value is empty.
type AdapterNames struct {
	byName atomic.Pointer[map[string]AdapterID] // what it points to does not change
	names  []listedName                         // by ID less 1
	clock  uint64                               // of listings
}

type listedName struct {
	name   string
	listed uint64
}

// Of returns the ID of an adapter, 0 if the name is none. It needs no lock.
func (a *AdapterNames) Of(name string) AdapterID {
	if m := a.byName.Load(); m != nil {
		return (*m)[name]
	}
	return 0
}

// List returns the ID of an adapter that was just listed. If it takes that of another, forgot
// says so: what is known of that ID is of no use any more. One goroutine at a time may call it.
func (a *AdapterNames) List(name string) (id AdapterID, forgot bool) {
	a.clock++
	id = a.Of(name)
	if id == 0 {
		id, forgot = a.enter(name)
	}
	a.names[id-1].listed = a.clock
	return id, forgot
}

// enter gives a name an ID.
func (a *AdapterNames) enter(name string) (id AdapterID, forgot bool) {
	next := map[string]AdapterID{}
	if m := a.byName.Load(); m != nil {
		next = maps.Clone(*m)
	}
	if len(a.names) < maxAdapterNames {
		a.names = append(a.names, listedName{})
		id = AdapterID(len(a.names))
	} else {
		oldest := 0
		for i := range a.names {
			if a.names[i].listed < a.names[oldest].listed {
				oldest = i
			}
		}
		delete(next, a.names[oldest].name)
		id, forgot = AdapterID(oldest+1), true
	}
	name = strings.Clone(name)
	a.names[id-1].name, next[name] = name, id
	a.byName.Store(&next)
	return id, forgot
}
