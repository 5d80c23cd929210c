// Package slots hands out small numbers.
package slots

import "container/heap"

// Set hands out numbers, always the smallest that is free, so that they stay dense. The
// zero value has handed out none. Callers lock it themselves.
type Set struct {
	next uint32 // never handed out
	free lowest
}

// Take returns a number that nobody has.
func (s *Set) Take() uint32 {
	if len(s.free) > 0 {
		return heap.Pop(&s.free).(uint32)
	}
	s.next++
	return s.next - 1
}

// Give takes a number back.
func (s *Set) Give(n uint32) { heap.Push(&s.free, n) }

// lowest is a heap of numbers.
type lowest []uint32

func (h lowest) Len() int           { return len(h) }
func (h lowest) Less(i, j int) bool { return h[i] < h[j] }
func (h lowest) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *lowest) Push(x any)        { *h = append(*h, x.(uint32)) }
func (h *lowest) Pop() any {
	last := len(*h) - 1
	n := (*h)[last]
	*h = (*h)[:last]
	return n
}
