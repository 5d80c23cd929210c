package admission

// deadlines is all requests that wait, as a heap by deadline. The deadlines are beside the
// tickets, so that comparing touches no other memory.
type deadlines []due

type due struct {
	at int64
	t  *Ticket
}

func (h *deadlines) add(t *Ticket) {
	*h = append(*h, due{})
	h.up(len(*h)-1, due{t.deadline, t})
}

func (h *deadlines) remove(t *Ticket) {
	i, last := t.due, len(*h)-1
	moved := (*h)[last]
	(*h)[last] = due{}
	*h = (*h)[:last]
	if i == last {
		return
	}
	if i > 0 && moved.at < (*h)[(i-1)/heapWidth].at {
		h.up(i, moved)
	} else {
		h.down(i, moved)
	}
}

func (h deadlines) up(i int, d due) {
	for i > 0 {
		parent := (i - 1) / heapWidth
		if d.at >= h[parent].at {
			break
		}
		h[i] = h[parent]
		h[i].t.due = i
		i = parent
	}
	h[i] = d
	d.t.due = i
}

func (h deadlines) down(i int, d due) {
	for {
		first := heapWidth*i + 1
		if first >= len(h) {
			break
		}
		least := first
		for child := first + 1; child < min(first+heapWidth, len(h)); child++ {
			if h[child].at < h[least].at {
				least = child
			}
		}
		if h[least].at >= d.at {
			break
		}
		h[i] = h[least]
		h[i].t.due = i
		i = least
	}
	h[i] = d
	d.t.due = i
}
