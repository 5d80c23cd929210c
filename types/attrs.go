package types

// Attrs is a small set of values under typed keys: what plugins leave for each
// other. The zero value is empty and ready.
//
// The Attrs of a Request belong to the goroutine that schedules it. The Attrs
// of an Endpoint are fixed once the endpoint is published: set them before.
type Attrs struct {
	n     int
	first [4]attr // most requests carry one or two: no allocation
	more  []attr
}

type attr struct {
	key   any // *Key[T]; compared by identity
	value any
}

// Key names one value of type T in Attrs. Two keys are different even if they
// have the same name: a plugin makes its key once and shares the variable with
// whom it wants to share the value.
type Key[T any] struct{ name string }

// NewKey returns a new key. The name is for people only.
func NewKey[T any](name string) *Key[T] { return &Key[T]{name} }

// String returns the name given to NewKey.
func (k *Key[T]) String() string { return k.name }

// Get returns the value of k in a, and whether there is one.
func (k *Key[T]) Get(a *Attrs) (T, bool) {
	if e := a.find(k); e != nil {
		return e.value.(T), true
	}
	var zero T
	return zero, false
}

// Set puts v under k in a, in place of an earlier value. It allocates unless T
// is a pointer, and beyond four keys.
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
