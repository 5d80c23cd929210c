package admission

import "math"

// heap keeps values in order of a key, and of a number where that is the same. Both are
// beside the value, so that comparing touches no other memory, and each value is told
// where it is.
type heap[T any] []item[T]

type item[T any] struct {
	key int64
	seq uint64
	at  *int // the value's place in the heap; -1: it is in none
	of  *T
}

func (i *item[T]) before(o *item[T]) bool {
	return i.key < o.key || i.key == o.key && i.seq < o.seq
}

// ordered is a number as a key: keys are in the order of the numbers.
func ordered(f float64) int64 {
	bits := int64(math.Float64bits(f + 0)) // no negative zero
	if bits < 0 {
		bits ^= math.MaxInt64
	}
	return bits
}

// heapWidth is how many children a node has: with four there are half as many levels as
// with two.
const heapWidth = 4

// push adds a value.
func (h *heap[T]) push(i item[T]) {
	*h = append(*h, item[T]{})
	h.up(len(*h)-1, i)
}

// fix puts the value at index n where it belongs now.
func (h heap[T]) fix(n int, i item[T]) {
	if n > 0 && i.before(&h[(n-1)/heapWidth]) {
		h.up(n, i)
	} else {
		h.down(n, i)
	}
}

// remove takes out the value at index n.
func (h *heap[T]) remove(n int) {
	last := len(*h) - 1
	*(*h)[n].at = -1
	moved := (*h)[last]
	(*h)[last] = item[T]{}
	*h = (*h)[:last]
	if n != last {
		h.fix(n, moved)
	}
}

// up puts i where index n is, or further up.
func (h heap[T]) up(n int, i item[T]) {
	for n > 0 {
		parent := (n - 1) / heapWidth
		if !i.before(&h[parent]) {
			break
		}
		h[n] = h[parent]
		*h[n].at = n
		n = parent
	}
	h[n] = i
	*i.at = n
}

// down puts i where index n is, or further down.
func (h heap[T]) down(n int, i item[T]) {
	for {
		first := heapWidth*n + 1
		if first >= len(h) {
			break
		}
		least := first
		for child := first + 1; child < min(first+heapWidth, len(h)); child++ {
			if h[child].before(&h[least]) {
				least = child
			}
		}
		if !h[least].before(&i) {
			break
		}
		h[n] = h[least]
		*h[n].at = n
		n = least
	}
	h[n] = i
	*i.at = n
}
