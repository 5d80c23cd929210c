package fair

import (
	"github.com/inferpick/inferpick/internal/heap"
	"github.com/inferpick/inferpick/scheduling/admission/internal/accounts"
)

// This file is what other gateways let in. A tenant's counter is what all of them have served it: what is heard of
// is charged as if it had come, and been let in, here. Until it is heard, other gateways are taken to go on as they
// did of late, and where this one serves a tenant more than it did, or less, to do so too: else all would serve the
// same tenant until they hear of each other, and then all the other one.
//
// Each gateway lifts those tenants that come back to it, and hears of the others late, so that the distances between
// tenants are not the same in all gateways. Settle keeps them from growing apart.

// Flow is a tenant at one priority.
type Flow = flow

// Tenant returns the name of the flow.
func (f *flow) Tenant() string { return f.name }

// Band returns its band.
func (f *flow) Band() *Band { return f.band }

// Flow returns the flow that the item counts for, nil before Assign.
func (it *Item) Flow() *Flow { return it.flow }

// flowElsewhere is what a flow has beside while there are other gateways. All of it is in counter.
type flowElsewhere struct {
	fresh accounts.Fresh // what was let in here, and others do not know
	// What was let in here that they do know, and what they let in, as far as is known: of late.
	here, there float64

	// What was heard of it since Settle.
	heard  bool
	before float64 // its counter then
	one    float64 // by how much one request moved it
}

// bandElsewhere is what a band has beside while there are other gateways. The zero value is of none.
type bandElsewhere struct {
	Elsewhere
	active []*flow // that were served here or there of late
	heard  []*flow // that others have served, since Settle

	here, there float64 // weighted tokens let in, of late
	one         float64 // those of a request
}

// Elsewhere is what is known of other gateways.
type Elsewhere struct {
	Peers int
	// Epoch is the present one of accounts.Epochs.
	Epoch uint64
	// Kept is which part still counts of what was let in before the last Settle; and Unknown which part of all that
	// counts others do not know yet.
	Kept, Unknown float64
}

// times is how many times what is let in here other gateways let in.
func (e *bandElsewhere) times() float64 {
	peers := float64(e.Peers)
	return min((e.there+e.one*peers)/max(e.here+e.one, 1), peers)
}

// start takes note of what is let in here.
func (e *bandElsewhere) start(f *flow, tokens float64) {
	if e.Peers == 0 || tokens <= 0 {
		return
	}
	e.here += tokens
	e.one = tokens
	e.of(f).fresh.Add(tokens / f.weight)
	f.guess()
}

// of returns what is kept of a flow, and makes it if it is new.
func (e *bandElsewhere) of(f *flow) *flowElsewhere {
	if f.elsewhere == nil {
		f.elsewhere = new(flowElsewhere)
		f.elsewhere.fresh.Age(e.Epoch)
		e.active = append(e.active, f)
	}
	return f.elsewhere
}

// guess works out what others have let in that is not known here.
func (f *flow) guess() {
	e, all := f.elsewhere, &f.band.elsewhere
	f.beside = e.there*all.Unknown + (e.fresh.Sum()-e.here*all.Unknown)*all.times()
}

// Hear takes note of what another gateway has let in of a tenant, or put right. Call Settle when all were heard.
func (q *Queues) Hear(f *Flow, requests, tokens float64) {
	b := f.band
	if b.flows[f.name] != f {
		return // it was forgotten
	}
	if requests > 0 {
		b.lift(f, q.c.Credit)
	}
	e := b.elsewhere.of(f)
	if !e.heard {
		e.heard, e.before, e.one = true, f.counter, 0
		b.elsewhere.heard = append(b.elsewhere.heard, f)
	}
	if requests > 0 {
		e.one = tokens / f.weight / requests
	}
	b.elsewhere.there = max(b.elsewhere.there+tokens, 0)
	e.there = max(e.there+tokens/f.weight, 0)
	f.spend(tokens)
}

// Settle is called now and then with what is known of other gateways.
//
// It bounds how far what was heard has put tenants ahead of those that wait, or behind: by Credit, and three times what
// others serve one while messages are on their way. Less would be lost by chance; without the first bound a tenant
// that had other gateways for itself would wait here for as long, and without the second one that was charged too
// much there would be preferred here for as long.
func (q *Queues) Settle(e Elsewhere) {
	q.elsewhere = e
	for _, b := range q.bands {
		b.elsewhere.Elsewhere = e
		b.hearAll(q.c.Credit)
		b.age()
	}
}

func (b *Band) hearAll(credit float64) {
	all := &b.elsewhere
	onTheWay := 0.0
	for _, f := range all.active {
		onTheWay = max(onTheWay, f.elsewhere.there*all.Unknown)
	}
	slack := credit + 3*onTheWay
	for _, f := range all.heard {
		if b.flows[f.name] != f {
			continue
		}
		e := f.elsewhere
		if least, some := b.leastBut(f); some {
			least -= f.beside
			f.move(min(max(f.counter, min(e.before, least-slack)), least+slack))
		}
		if e.one > 0 {
			b.virtual = max(b.virtual, f.at()-e.one)
		}
	}
	for _, f := range all.heard {
		f.elsewhere.heard = false
	}
	clear(all.heard)
	all.heard = all.heard[:0]
}

// age lets what was let in of late count less: of what was let in here others know more.
func (b *Band) age() {
	all := &b.elsewhere
	all.here *= all.Kept
	all.there *= all.Kept
	rest := all.active[:0]
	for _, f := range all.active {
		e := f.elsewhere
		e.here = e.here*all.Kept + e.fresh.Age(all.Epoch)
		e.there *= all.Kept
		if all.Peers > 0 && (e.here+e.there+e.fresh.Sum())*f.weight > 1 {
			f.guess()
			rest = append(rest, f)
		} else {
			f.beside, f.elsewhere = 0, nil
		}
		f.move(f.counter)
	}
	clear(all.active[len(rest):])
	all.active = rest
}

// leastBut returns where the first of the tenants is that wait, but for one; false: no other waits.
func (b *Band) leastBut(f *flow) (least float64, some bool) {
	for _, q := range b.queues {
		for i := range q.heap[:min(len(q.heap), 1+heap.Width)] { // the first, and those that come after it
			if other := q.heap[i].Of.flow; other != f && (!some || other.at() < least) {
				least, some = other.at(), true
			}
		}
	}
	return least, some
}

// Flows calls f for each tenant, until it returns false: those first that have something under way, or had last.
func (q *Queues) Flows(f func(*Flow) bool) {
	for _, b := range q.bands {
		for _, one := range b.flows {
			if !one.resting && !f(one) {
				return
			}
		}
		for n := b.idle.Tail; n != nil; n = n.Prev {
			if !f(n.Of) {
				return
			}
		}
	}
}

// Ahead returns how far the tenant is ahead of those that were let in last, in its counter, and its outputs of
// late; 0: not known.
func (f *flow) Ahead() (ahead, output float64) { return f.counter - f.band.virtual, f.output }

// Recall makes a new flow what it was, by Ahead, in another run of the program.
func (q *Queues) Recall(f *Flow, ahead, output float64) {
	f.move(f.band.virtual + max(ahead, -q.c.Credit))
	f.output = output
}

// Output returns the mean of all outputs, 0 if it is not known.
func (q *Queues) Output() float64 { return q.output }

// RecallOutput sets it, unless it is known.
func (q *Queues) RecallOutput(output float64) {
	if q.output == 0 {
		q.output = output
	}
}
