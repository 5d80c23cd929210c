package admission

// list is a list of values, linked through nodes that are part of them: one for each list
// that a value may be in at a time.
type list[T any] struct{ head, tail *node[T] }

type node[T any] struct {
	prev, next *node[T]
	of         *T // the value it is part of
}

// insert links v, by its node n, behind before, which is nil for the front.
func (l *list[T]) insert(v *T, n, before *node[T]) {
	n.of, n.prev = v, before
	if before != nil {
		n.next = before.next
		before.next = n
	} else {
		n.next = l.head
		l.head = n
	}
	if n.next != nil {
		n.next.prev = n
	} else {
		l.tail = n
	}
}

// push links v, by its node n, behind the last.
func (l *list[T]) push(v *T, n *node[T]) { l.insert(v, n, l.tail) }

// remove takes out the value of a node.
func (l *list[T]) remove(n *node[T]) {
	if n.prev != nil {
		n.prev.next = n.next
	} else {
		l.head = n.next
	}
	if n.next != nil {
		n.next.prev = n.prev
	} else {
		l.tail = n.prev
	}
	*n = node[T]{}
}

// inOrder inserts a ticket by its number. Tickets come in that order, but for those whose
// priority was changed.
func inOrder(l *list[Ticket], t *Ticket, n *node[Ticket]) {
	before := l.tail
	for before != nil && before.of.seq > t.seq {
		before = before.prev
	}
	l.insert(t, n, before)
}
