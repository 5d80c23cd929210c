package admission

// earlier is the order of a share's requests by deadline, which are kept as a heap.
func earlier(a, b *Ticket) bool {
	if a.deadline != b.deadline {
		return a.deadline < b.deadline
	}
	return a.seq < b.seq
}

func (s *share) pushDeadline(t *Ticket) {
	t.place = len(s.byDeadline)
	s.byDeadline = append(s.byDeadline, t)
	s.fixDeadline(t.place)
}

func (s *share) removeDeadline(t *Ticket) {
	i, last := t.place, len(s.byDeadline)-1
	h := s.byDeadline
	h[i] = h[last]
	h[i].place = i
	h[last] = nil
	s.byDeadline = h[:last]
	if i != last {
		s.fixDeadline(i)
	}
}

func (s *share) fixDeadline(i int) {
	h := s.byDeadline
	swap := func(a, b int) {
		h[a], h[b] = h[b], h[a]
		h[a].place, h[b].place = a, b
	}
	for i > 0 && earlier(h[i], h[(i-1)/2]) {
		swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h); child++ {
			if earlier(h[child], h[least]) {
				least = child
			}
		}
		if least == i {
			return
		}
		swap(i, least)
		i = least
	}
}
