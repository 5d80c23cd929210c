package admission

import (
	"github.com/inferpick/inferpick/scheduling/admission/internal/room"
	"github.com/inferpick/inferpick/types"
)

// booked takes note of where a ticket is booked.
func (d *desk) booked(t *Ticket, ep *types.Endpoint) {
	if ep == nil || !t.isOpen() {
		return
	}
	x, from := d.cellOf(ep), d.cellOf(t.ep)
	t.booking.Leave()
	t.booking = room.Booking{Since: d.now}
	t.at, t.ep, t.state = x, ep, running
	if ep.Load != nil {
		known := ep.Load.Known()
		t.booking.Ahead, t.booking.With = known.PrefillTokens, float64(known.Requests)
	}
	d.live(t, d.now)
	d.enlist(t)
	if x == nil {
		d.landed(t)
	} else {
		if d.detector.served != nil {
			d.measure(x)
		}
		// The first token will be seen if the answer is streamed; else it is presumed.
		x.room.Book(&t.booking, !t.req.Stream)
		d.mayChange(x)
		d.later(x, news{booked: t})
	}
	if from != x {
		d.later(from, news{})
	}
	d.changed = true
}

// firstToken takes note of a ticket's.
func (d *desk) firstToken(t *Ticket) {
	b := &t.booking
	if t.state != running || b.First {
		return
	}
	b.First = true
	took := d.now - b.Since
	d.ttft.Learn(took)
	t.Alive()
	var n news
	if d.detector.first != nil || d.detector.served != nil {
		n = news{first: true, served: Served{At: d.date(), Took: took, Ahead: b.Ahead, With: b.With, Prompt: float64(t.req.Prompt.Tokens)}}
	}
	b.HasFirst()
	d.later(d.cellAt(t), n)
	d.changed = true
}

// done ends a ticket, once.
func (d *desk) done(t *Ticket, out types.Outcome) {
	switch t.state {
	case ended:
		return
	case waiting:
		d.queues.Remove(&t.item, d.now)
		t.state = ended
		d.refund(t)
		d.countsOf(t).Cancelled++
		d.note(event{kind: toldCancelled, t: t, waited: d.now - t.item.Arrived})
	default:
		x, n := d.cellAt(t), d.whatItShows(t, &out)
		d.finish(t, &out)
		d.later(x, n)
	}
	d.changed = true
}

// whatItShows is what the end of a ticket shows of the endpoint it was booked at.
func (d *desk) whatItShows(t *Ticket, out *types.Outcome) (n news) {
	if t.at == nil || d.detector.served == nil {
		return n
	}
	d.measure(t.at)
	if !out.Busy() && !out.Served() {
		return n // of one that failed, or was given up, the time says nothing
	}
	b := &t.booking
	return news{ended: true, served: Served{
		Ended: true, Busy: out.Busy(), At: d.date(), Took: d.now - b.Since, Ahead: b.Ahead, With: b.Beside(d.now),
		Prompt:   out.Usage.PromptTokens.Or(float64(t.req.Prompt.Tokens)) + denoise(&t.req.Work),
		Output:   out.Usage.CompletionTokens.Or(max(t.item.Output, float64(out.Tokens))),
		Denoises: t.req.Work.Kind == types.Denoises,
	}}
}

// cellAt returns the cell of the endpoint that a ticket is booked at, nil if that is not in
// the pool.
func (d *desk) cellAt(t *Ticket) *cell {
	if t.at != nil && t.at.room.Member() {
		return t.at
	}
	return d.cellOf(t.ep)
}

// finish ends a ticket that was let in.
func (d *desk) finish(t *Ticket, out *types.Outcome) {
	d.landed(t)
	t.unlist()
	if x := d.cellAt(t); x != nil {
		x.since.Finished++
	}
	t.booking.Leave()
	d.unlive(t)
	t.at, t.revoke, t.state = nil, nil, ended
	d.correct(t, out)
	if d.o.Hooks.Finished != nil {
		d.note(event{kind: toldFinished, t: t, out: *out})
	}
	t.ep = nil
	d.changed = true
}

// correct makes the charge what the request really took.
func (d *desk) correct(t *Ticket, out *types.Outcome) {
	expected := t.expected()
	in, output := float64(t.req.Prompt.Tokens), t.item.Output
	if v, ok := out.Usage.PromptTokens.Value(); ok && v >= 0 {
		in = v
	}
	if v, ok := out.Usage.CompletionTokens.Value(); ok && v >= 0 {
		output = v
		if teaches(&t.req.Work) {
			d.queues.Learn(&t.item, output)
		}
	} else if !t.booking.First && (out.Cancelled || out.Failed()) {
		output = 0
		if t.ep == nil {
			in, t.item.Beside = 0, 0 // it never got to a server
		}
	}
	correction := d.queues.End(&t.item, in, output, d.now)
	d.countsOf(t).Tokens += correction
	d.charge(t, 0, correction)
	correct(t.spent, expected, in+output+t.item.Beside, d.now)
	t.spent = nil
}

// endForgotten ends tickets whose owners have done nothing with them for too long.
func (d *desk) endForgotten() {
	for t := d.forgotten(d.now, d.o.TicketTTL); t != nil; t = d.forgotten(d.now, d.o.TicketTTL) {
		d.finish(t, &types.Outcome{Err: ErrForgotten})
	}
	d.dispatch()
}

// onRevoke keeps how a running ticket can be ended.
func (d *desk) onRevoke(t *Ticket, f func(*Refusal)) {
	if !t.isOpen() {
		return
	}
	if t.revoke = f; f != nil {
		d.enlist(t)
	} else if t.openIn == &d.revocable[d.queues.ClassOf(t.item.Priority)] {
		t.unlist()
	}
}
