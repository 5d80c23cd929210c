package telemetry

import (
	"maps"
	"sync"
	"sync/atomic"
)

// table is a map that is read for every event and grows seldom: a reader takes
// one atomic load, a writer copies.
type table[K comparable, V any] struct {
	mu sync.Mutex // held by writers
	m  atomic.Pointer[map[K]V]
}

// all returns what is in the table, which must not be modified.
func (t *table[K, V]) all() map[K]V {
	if m := t.m.Load(); m != nil {
		return *m
	}
	return nil
}

func (t *table[K, V]) get(k K) (V, bool) {
	v, ok := t.all()[k]
	return v, ok
}

// add returns what is at k, made by make if nothing was, with the key to keep it
// under. If the table holds most already, it returns false instead. Callers look
// with get first.
func (t *table[K, V]) add(k K, most int, make func(K) (K, V)) (V, bool) {
	// A table that is full stays so as a rule: then nobody waits for anybody.
	if len(t.all()) >= most {
		return t.get(k)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.all()
	if v, ok := old[k]; ok || len(old) >= most {
		return v, ok
	}
	k, v := make(k)
	m := maps.Clone(old)
	if m == nil {
		m = map[K]V{}
	}
	m[k] = v
	t.m.Store(&m)
	return v, true
}

// edit changes the table by change, which gets a copy.
func (t *table[K, V]) edit(change func(map[K]V)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := maps.Clone(t.all())
	change(m)
	t.m.Store(&m)
}
