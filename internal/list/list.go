// Package list is a doubly linked list whose nodes are part of the values in it, so that
// putting a value in and taking it out allocates nothing.
package list

// List is a list of values, each linked through a Node that is a part of it: one for each
// list that a value may be in at a time. The zero value is empty. Callers change it by its
// methods only, and must guard it.
type List[T any] struct{ Head, Tail *Node[T] }

// Node is a value's place in a List. The zero value is in none.
type Node[T any] struct {
	Prev, Next *Node[T]
	Of         *T // the value it is part of; nil: the node is in no list
}

// Insert links v, by its node n, behind before, which is nil for the front.
func (l *List[T]) Insert(v *T, n, before *Node[T]) {
	n.Of, n.Prev = v, before
	if before != nil {
		n.Next = before.Next
		before.Next = n
	} else {
		n.Next = l.Head
		l.Head = n
	}
	if n.Next != nil {
		n.Next.Prev = n
	} else {
		l.Tail = n
	}
}

// Push links v, by its node n, behind the last.
func (l *List[T]) Push(v *T, n *Node[T]) { l.Insert(v, n, l.Tail) }

// PushFront links v, by its node n, before the first.
func (l *List[T]) PushFront(v *T, n *Node[T]) { l.Insert(v, n, nil) }

// Remove takes out the value of a node.
func (l *List[T]) Remove(n *Node[T]) {
	if n.Prev != nil {
		n.Prev.Next = n.Next
	} else {
		l.Head = n.Next
	}
	if n.Next != nil {
		n.Next.Prev = n.Prev
	} else {
		l.Tail = n.Prev
	}
	*n = Node[T]{}
}
