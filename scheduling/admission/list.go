package admission

// list is a list of values that are linked through links of their own. A value may be in
// several lists, by different links: at says by which.
type list[T any] struct{ head, tail *T }

type links[T any] struct{ prev, next *T }

// insert links v behind before, which is nil for the front.
func (l *list[T]) insert(v, before *T, at func(*T) *links[T]) {
	here := at(v)
	here.prev = before
	if before != nil {
		here.next = at(before).next
		at(before).next = v
	} else {
		here.next = l.head
		l.head = v
	}
	if here.next != nil {
		at(here.next).prev = v
	} else {
		l.tail = v
	}
}

// push links v behind the last.
func (l *list[T]) push(v *T, at func(*T) *links[T]) { l.insert(v, l.tail, at) }

// remove takes v out.
func (l *list[T]) remove(v *T, at func(*T) *links[T]) {
	here := at(v)
	if here.prev != nil {
		at(here.prev).next = here.next
	} else {
		l.head = here.next
	}
	if here.next != nil {
		at(here.next).prev = here.prev
	} else {
		l.tail = here.prev
	}
	*here = links[T]{}
}

// The links by which tickets, flows and meters are in their lists.

func inShare(t *Ticket) *links[Ticket] { return &t.inShare }
func inGroup(t *Ticket) *links[Ticket] { return &t.inGroup }
func letIn(t *Ticket) *links[Ticket]   { return &t.letIn }
func ofFlow(f *flow) *links[flow]      { return &f.links }
func ofMeter(m *meter) *links[meter]   { return &m.links }

// inOrder inserts a ticket by its number. Tickets come in that order, but for those whose
// priority was changed.
func inOrder(l *list[Ticket], t *Ticket, at func(*Ticket) *links[Ticket]) {
	before := l.tail
	for before != nil && before.seq > t.seq {
		before = at(before).prev
	}
	l.insert(t, before, at)
}
