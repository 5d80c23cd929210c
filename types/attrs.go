package types

// Attrs is a small set of values under typed keys, for plugins to share data. The zero
// value is empty and ready to use.
//
// The Attrs of a Request belong to the goroutine that schedules it. Those of an Endpoint
// must not change once the endpoint is published.
type Attrs struct {
	n     int
	first [4]attr // most requests carry one or two: no allocation
	more  []attr
}

type attr struct {
	key   any // *Key[T]; compared by identity
	value any
}

// Key identifies a value of type T in Attrs. Keys are compared by identity, not by name:
// create a key once and share the variable with the plugins that may use the value.
type Key[T any] struct{ name string }

// NewKey returns a new key. The name appears in output only.
func NewKey[T any](name string) *Key[T] { return &Key[T]{name} }

// String returns the name given to NewKey.
func (k *Key[T]) String() string { return k.name }

// Get returns the value stored under k in a, and whether there is one.
func (k *Key[T]) Get(a *Attrs) (T, bool) {
	if e := a.find(k); e != nil {
		return e.value.(T), true
	}
	var zero T
	return zero, false
}

// Set stores v under k in a, replacing any earlier value. It allocates if T is not a
// pointer or if a already holds four keys.
func (k *Key[T]) Set(a *Attrs, v T) {
	if e := a.find(k); e != nil {
		e.value = v
		return
	}
	if a.n < len(a.first) {
		a.first[a.n] = attr{k, v}
		a.n++
		return
	}
	a.more = append(a.more, attr{k, v})
}

func (a *Attrs) find(key any) *attr {
	for i := range a.first[:a.n] {
		if a.first[i].key == key {
			return &a.first[i]
		}
	}
	for i := range a.more {
		if a.more[i].key == key {
			return &a.more[i]
		}
	}
	return nil
}
