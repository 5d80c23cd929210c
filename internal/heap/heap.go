// Package heap is a priority queue whose values know their places in it, so that any of
// them can be moved or taken out.
package heap

import "math"

// Heap keeps values in order of a key, and of a number where that is the same. Both are
// beside the value, so that comparing touches no other memory, and each value is told
// where it is.
type Heap[T any] []Item[T]

// Item is a value in a Heap.
type Item[T any] struct {
	Key int64
	Seq uint64
	At  *int // where the value keeps its place in the heap; -1: it is in none
	Of  *T
}

// Before reports whether i goes before o.
func (i *Item[T]) Before(o *Item[T]) bool {
	return i.Key < o.Key || i.Key == o.Key && i.Seq < o.Seq
}

// Ordered is a number as a key: keys are in the order of the numbers.
func Ordered(f float64) int64 {
	bits := int64(math.Float64bits(f + 0)) // no negative zero
	if bits < 0 {
		bits ^= math.MaxInt64
	}
	return bits
}

// Width is how many children a node has: with four there are half as many levels as
// with two.
const Width = 4

// Push adds a value.
func (h *Heap[T]) Push(i Item[T]) {
	*h = append(*h, Item[T]{})
	h.up(len(*h)-1, i)
}

// Fix puts the value at index n where it belongs now.
func (h Heap[T]) Fix(n int, i Item[T]) {
	if n > 0 && i.Before(&h[(n-1)/Width]) {
		h.up(n, i)
	} else {
		h.down(n, i)
	}
}

// Remove takes out the value at index n.
func (h *Heap[T]) Remove(n int) {
	last := len(*h) - 1
	*(*h)[n].At = -1
	moved := (*h)[last]
	(*h)[last] = Item[T]{}
	*h = (*h)[:last]
	if n != last {
		h.Fix(n, moved)
	}
}

// up puts i where index n is, or further up.
func (h Heap[T]) up(n int, i Item[T]) {
	for n > 0 {
		parent := (n - 1) / Width
		if !i.Before(&h[parent]) {
			break
		}
		h[n] = h[parent]
		*h[n].At = n
		n = parent
	}
	h[n] = i
	*i.At = n
}

// down puts i where index n is, or further down.
func (h Heap[T]) down(n int, i Item[T]) {
	for {
		first := Width*n + 1
		if first >= len(h) {
			break
		}
		least := first
		for child := first + 1; child < min(first+Width, len(h)); child++ {
			if h[child].Before(&h[least]) {
				least = child
			}
		}
		if !h[least].Before(&i) {
			break
		}
		h[n] = h[least]
		*h[n].At = n
		n = least
	}
	h[n] = i
	*i.At = n
}
