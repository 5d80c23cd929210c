package promtext

import "fmt"

// Set is a fixed set of metric names to look for. It is immutable: any number of
// Scanners may share one, in any number of goroutines.
type Set struct {
	index map[string]int
	names []string

	// lengths is a filter in front of the map: by the last byte of a name, the
	// lengths (modulo 64) that wanted names with that last byte have. Nearly all
	// names of a page fall through it.
	lengths [256]uint64
}

// NewSet returns the set of the given names. A name's index in the arguments is
// what Scanner.Index reports. It panics if a name is empty or given twice: two
// indices for one name is a mistake of whoever wires it.
func NewSet(names ...string) *Set {
	s := &Set{index: make(map[string]int, len(names)), names: append([]string(nil), names...)}
	for i, name := range names {
		if name == "" {
			panic(fmt.Sprintf("promtext: NewSet: name %d is empty", i))
		}
		if _, twice := s.index[name]; twice {
			panic(fmt.Sprintf("promtext: NewSet: name %q is given twice", name))
		}
		s.index[name] = i
		s.lengths[name[len(name)-1]] |= 1 << (len(name) & 63)
	}
	return s
}

// Len returns the number of names.
func (s *Set) Len() int { return len(s.names) }

// Name returns the name with the given index.
func (s *Set) Name(i int) string { return s.names[i] }

// find returns the index of name, -1 if it is not wanted. name is not empty.
func (s *Set) find(name []byte) int {
	if s.lengths[name[len(name)-1]]&(1<<(len(name)&63)) == 0 {
		return -1
	}
	if i, ok := s.index[string(name)]; ok {
		return i
	}
	return -1
}
