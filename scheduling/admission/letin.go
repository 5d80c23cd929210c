package admission

import (
	"time"

	"github.com/inferpick/inferpick/internal/list"
)

// DefaultGrantTTL is how long a request that was let in may be neither booked nor done
// before its owner is taken to have forgotten it, and it is ended. It bounds a mistake in
// the program, and is no option; for those that were booked Tuning.TicketTTL is.
const DefaultGrantTTL = 10 * time.Second

// letIn is the tickets that were let in and have not ended.
type letIn struct {
	grants    list.List[Ticket] // not yet booked, the oldest first
	granted   int               // how many those are
	active    list.List[Ticket] // booked, by when there was a sign of life
	revocable []list.List[Ticket]
}

// grant adds a ticket.
func (l *letIn) grant(t *Ticket, now time.Duration) {
	t.state, t.letInAt = granted, now
	l.granted++
	t.enlist(&l.grants)
}

// landed takes a ticket off those that are not yet booked; false: it is none of them.
func (l *letIn) landed(t *Ticket) bool {
	if t.openIn != &l.grants {
		return false
	}
	t.unlist()
	l.granted--
	return true
}

// live puts a booked ticket behind those that gave a sign of life earlier.
func (l *letIn) live(t *Ticket, now time.Duration) {
	l.unlive(t)
	t.seenAt = now
	l.active.Push(t, &t.inBooked)
}

func (l *letIn) unlive(t *Ticket) {
	if t.inBooked.Of != nil {
		l.active.Remove(&t.inBooked)
	}
}

// forgotten returns a ticket whose owner has done nothing with it for too long, nil if there
// is none.
func (l *letIn) forgotten(now, ticketTTL time.Duration) *Ticket {
	if n := l.grants.Head; n != nil && now-n.Of.letInAt > DefaultGrantTTL {
		return n.Of
	}
	for n := l.active.Head; n != nil && now-n.Of.seenAt > ticketTTL; n = l.active.Head {
		if !n.Of.alive.Swap(false) {
			return n.Of
		}
		l.live(n.Of, now)
	}
	return nil
}

// setClasses makes so many lists of what may be revoked, and returns what was in those
// before.
func (l *letIn) setClasses(n int) (before []*Ticket) {
	for i := range l.revocable {
		for head := &l.revocable[i].Head; *head != nil; {
			t := (*head).Of
			t.unlist()
			before = append(before, t)
		}
	}
	l.revocable = make([]list.List[Ticket], n)
	return before
}
