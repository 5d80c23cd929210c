// Package fair decides which request is next: by priority, with floors, then among tenants
// by the tokens that they were served (a virtual token counter, or deficit longest prefix
// match), then among one tenant's by arrival or deadline. It has no lock and no clock:
// callers guard it, and instants are theirs.
//
// A request's life in it is Rank, Assign, Estimate, then Add and Take or Remove if it waits,
// Start when it is let in, and End.
package fair

import (
	"iter"
	"slices"
	"time"

	"github.com/inferpick/inferpick/internal/heap"
)

// Queues are the requests that wait, and the account of those that were let in. Make them
// with New.
type Queues struct {
	c         Config
	bands     []*Band // by priority, highest first
	queued    int
	bytes     int64
	running   int
	seq       uint64
	deadlines heap.Heap[Item] // all that wait
	output    float64         // mean tokens of outputs; 0: not known
	elsewhere Elsewhere
}

// New returns empty Queues.
func New(c Config) *Queues { return &Queues{c: c} }

// Len returns how many items wait.
func (q *Queues) Len() int { return q.queued }

// Bytes returns the bytes of what waits.
func (q *Queues) Bytes() int64 { return q.bytes }

// Bands returns the bands, highest priority first. Callers must not change the list.
func (q *Queues) Bands() []*Band { return q.bands }

// ClassOf returns the index in Config.Classes of the class of a priority.
func (q *Queues) ClassOf(priority int) int { return q.c.ClassOf(priority) }

// Due returns the item with the earliest deadline of those that wait, nil if none does.
func (q *Queues) Due() *Item {
	if len(q.deadlines) == 0 {
		return nil
	}
	return q.deadlines[0].Of
}

// All returns what waits, in no order.
func (q *Queues) All() iter.Seq[*Item] {
	return func(yield func(*Item) bool) {
		for _, d := range q.deadlines {
			if !yield(d.Of) {
				return
			}
		}
	}
}

// QueuedFrom returns how many wait at a priority or a higher one.
func (q *Queues) QueuedFrom(priority int) (n int) {
	for _, b := range q.bands {
		if b.Priority >= priority {
			n += b.Queued
		}
	}
	return n
}

// Configure changes the order, also of what waits.
func (q *Queues) Configure(c Config) {
	waiting := make([][]*Item, len(q.bands))
	for i, b := range q.bands {
		for _, queue := range b.queues {
			for _, e := range slices.Clone(queue.heap) {
				for s := e.Of; s.Head != nil; {
					waiting[i] = append(waiting[i], s.Head.Of)
					b.remove(s.Head.Of, &q.c)
				}
			}
		}
	}
	q.c = c
	for i, b := range q.bands {
		b.Class = c.ClassOf(b.Priority)
		for _, queue := range b.queues {
			queue.quantum = q.quantum()
		}
		for _, f := range b.flows {
			f.weight = c.weightOf(f.name)
			if c.Programs == NoPrograms {
				f.programs = flowPrograms{}
			}
		}
		if c.Programs == NoPrograms {
			b.programs = 0
		}
		for _, it := range waiting[i] {
			if c.Programs == NoPrograms {
				it.program = nil
			}
			q.place(it)
			b.add(it, &q.c)
		}
	}
}

func (q *Queues) quantum() float64 {
	if q.c.Prefix == nil {
		return 0
	}
	return q.c.Quantum
}

// place finds where in its band's queues an item belongs.
func (q *Queues) place(it *Item) {
	it.share = it.flow.shareOf(it.band.queueFor(it.Lane, q.quantum()))
	if q.c.Prefix != nil {
		it.prefix = q.c.Prefix(it)
	}
}

// Rank gives an item that does not wait the band of its priority.
func (q *Queues) Rank(it *Item) { it.band = q.Band(it.Priority) }

// Assign gives an item that has a band its tenant, and the program of this that it names, if it does.
func (q *Queues) Assign(it *Item, tenant, program string, now time.Duration) {
	it.flow = it.band.flowOf(tenant, &q.c, now)
	if program != "" && it.flow.name != tenant { // several tenants share it
		program += "\x00" + tenant
	}
	it.program = it.flow.programOf(program, &q.c, now)
}

// Lift takes note of a tenant that has something to send, and sets Modest: the tenant is
// behind those that wait or were let in last; or the only one, unless the bands above have
// so much under way that they need all that is kept.
func (q *Queues) Lift(it *Item) {
	b := it.band
	it.Modest = b.lift(it.flow, q.c.Credit)
	if it.program != nil {
		it.program.lift(&q.c)
	}
	if len(b.flows) >= 2 {
		return
	}
	above := 0
	for _, other := range q.bands {
		if other.Priority > b.Priority {
			above += other.Running
		}
	}
	it.Modest = float64(above) <= muchAbove*float64(q.running)
}

// muchAbove is the part of what is under way from which on the bands above have much.
const muchAbove = 0.4

// Try calls f as if an item's tenant had been lifted, and changes nothing.
func (q *Queues) Try(it *Item, f func()) {
	defer func(counter float64) { it.flow.counter = counter }(it.flow.counter)
	if p := it.program; p != nil {
		defer func(counter float64) { p.counter = counter }(p.counter)
	}
	q.Lift(it)
	f()
}

// Add puts an item into the queue of its place, by its number, which a new one is given.
func (q *Queues) Add(it *Item) {
	if it.Seq == 0 {
		q.seq++
		it.Seq = q.seq
	}
	q.place(it)
	q.Lift(it)
	it.band.add(it, &q.c)
	q.queued++
	q.bytes += it.Bytes
	q.deadlines.Push(heap.Item[Item]{Key: int64(it.Deadline), Seq: it.Seq, At: &it.due, Of: it})
}

// Remove takes an item that waits out of the queue.
func (q *Queues) Remove(it *Item, now time.Duration) {
	s := it.share
	q.takeOut(it, now)
	s.queue.fix(s)
}

// Take is Remove for an item that Next returned; call Start next.
func (q *Queues) Take(it *Item, now time.Duration) {
	s := it.share
	if q.c.Prefix != nil {
		s.follow(it, q.c.Quantum)
	}
	if s.sinceOldest++; it == s.Head.Of {
		s.sinceOldest = 0
	}
	q.takeOut(it, now)
	s.queue.last = s
}

func (q *Queues) takeOut(it *Item, now time.Duration) {
	it.band.remove(it, &q.c)
	it.band.rest(it.flow, now)
	if it.program != nil {
		it.program.rest(now)
	}
	it.share = nil
	q.queued--
	q.bytes -= it.Bytes
	q.deadlines.Remove(it.due)
}

// Start charges an item's tenant: it is let in.
func (q *Queues) Start(it *Item) {
	b, f := it.band, it.flow
	b.Running++
	q.running++
	b.wake(f)
	f.running++
	b.virtual = max(b.virtual, f.at())
	b.elsewhere.start(f, it.Charge)
	if it.program != nil {
		it.program.start(it.Charge, &q.c)
	}
	f.spend(it.Charge)
	q.payFloors(b, it.Charge)
}

// End puts an item's charge right: it has taken so many tokens of prompt and output. It
// returns by how much the charge was changed.
func (q *Queues) End(it *Item, prompt, output float64, now time.Duration) (correction float64) {
	real := q.charge(prompt, output) + it.Beside
	correction = real - it.Charge
	it.Charge = real
	it.band.Running--
	q.running--
	it.flow.running--
	if it.program != nil {
		it.program.end(correction, &q.c, now)
	}
	it.flow.spend(correction)
	it.band.rest(it.flow, now)
	return correction
}

// Drop forgets an item that was assigned and is neither added nor started.
func (q *Queues) Drop(it *Item, now time.Duration) {
	if it.flow != nil {
		it.band.rest(it.flow, now)
	}
	if it.program != nil {
		it.program.rest(now)
	}
}

// DropLane forgets a lane in which nothing waits.
func (q *Queues) DropLane(l *Lane) {
	for _, queue := range l.queues {
		queue.band.drop(queue)
	}
}

// Band returns the queues of a priority, and makes them if they are new. If there are
// too many, it is those of the lowest priority that belongs to the same Class: nobody is
// raised.
func (q *Queues) Band(priority int) *Band {
	b, i := q.find(priority)
	if b != nil {
		return b
	}
	if len(q.bands) >= q.c.MaxBands {
		if q.forgetBand() {
			_, i = q.find(priority)
		} else {
			priority = q.c.Classes[q.c.ClassOf(priority)].Priority
			if b, i = q.find(priority); b != nil {
				return b
			}
		}
	}
	b = &Band{Priority: priority, Class: q.c.ClassOf(priority), flows: map[string]*flow{}}
	b.elsewhere.Elsewhere = q.elsewhere
	q.bands = slices.Insert(q.bands, i, b)
	return b
}

// find returns the queues of a priority, or nil and where they belong.
func (q *Queues) find(priority int) (*Band, int) {
	for i, b := range q.bands {
		if b.Priority <= priority {
			if b.Priority == priority {
				return b, i
			}
			return nil, i
		}
	}
	return nil, len(q.bands)
}

// forgetBand drops one in which nothing is under way.
func (q *Queues) forgetBand() bool {
	for i, b := range q.bands {
		if b.Queued > 0 || b.Running > 0 {
			continue
		}
		for _, empty := range b.queues {
			empty.lane.queues = slices.DeleteFunc(empty.lane.queues, func(other *queue) bool { return other == empty })
		}
		b.Class = 0 // items that have ended may still be asked about
		q.bands = slices.Delete(q.bands, i, i+1)
		return true
	}
	return false
}
