package admission

import (
	"math"
	"slices"
	"strings"
	"time"
)

// band is the requests of one priority: its tenants, and for each lane a queue.
type band struct {
	*Band
	label    *label
	priority int
	ceiling  int // index in Controller.ceilings, as is modest
	modest   int
	quantum  float64
	edf      bool
	locality bool

	flows   map[string]*flow
	idle    flowList // flows with nothing under way, the longest idle first
	byLen   []flowList
	longest int // the largest index of byLen that is not empty

	virtual float64 // what a tenant that comes back starts from
	credit  float64 // weighted tokens that the floor owes the band
	queued  int
	bytes   int64
	open    int // let in and not ended
	queues  []*queue

	counts BandCounts
}

// label is what a band is called. It does not change.
type label struct {
	name     string
	priority int
}

// queue is the requests of one priority and one lane: a heap of tenants.
type queue struct {
	lane   *lane
	band   *band
	queued int
	heap   []entry
	last   *share // that was served last
	shares int    // that point here
}

// entry is a tenant's place in a queue's heap, with what it is ordered by beside it, so
// that comparing touches no other memory.
type entry struct {
	key   float64
	seq   uint64
	share *share
}

func (e *entry) before(o *entry) bool {
	return e.key < o.key || e.key == o.key && e.seq < o.seq
}

// flow is a tenant at one priority.
type flow struct {
	band   *band
	name   string
	weight float64

	counter  float64 // weighted tokens that it was served, by VTC
	output   float64 // mean tokens of its outputs; 0: not known
	queued   int
	inFlight int
	served   float64 // weighted tokens, of requests that have ended and of those under way

	shares []*share // one for each queue that it has waited in
	first  share    // memory of the first of them
	room   [1]*share

	// In byLen while something waits, in idle while nothing is under way.
	next, prev *flow
	resting    bool // in idle
	idleSince  time.Time
}

// share is a tenant's part of a queue.
type share struct {
	flow  *flow
	queue *queue
	n     int
	// All its requests in order of arrival.
	head, tail *Ticket
	byDeadline []*Ticket         // a heap, if the order is EarliestDeadline
	groups     map[uint64]*group // by how prompts begin, if fairness is PrefixLocality
	group      *group            // that was served last
	left       float64           // weighted tokens until it is another group's turn
	index      int               // in queue.heap; -1: nothing waits
}

// group is requests of a share whose prompts begin alike, in order of arrival.
type group struct {
	key        uint64
	head, tail *Ticket
}

// flowList is a list of flows, linked through them.
type flowList struct{ head, tail *flow }

func (l *flowList) push(f *flow) {
	f.prev, f.next = l.tail, nil
	if l.tail != nil {
		l.tail.next = f
	} else {
		l.head = f
	}
	l.tail = f
}

func (l *flowList) remove(f *flow) {
	if f.prev != nil {
		f.prev.next = f.next
	} else {
		l.head = f.next
	}
	if f.next != nil {
		f.next.prev = f.prev
	} else {
		l.tail = f.prev
	}
	f.prev, f.next = nil, nil
}

// key is what tenants are ordered by: with a quantum, those within the same one are
// alike.
func (f *flow) key() float64 {
	if q := f.band.quantum; q > 0 {
		return math.Floor(f.counter / q)
	}
	return f.counter
}

// entry returns the share's place in the order.
func (s *share) entry() entry { return entry{s.flow.key(), s.first().seq, s} }

// before reports whether s is to be served before o.
func (s *share) before(o *share) bool {
	a, b := s.entry(), o.entry()
	return a.before(&b)
}

// first returns the request that is next, not regarding groups.
func (s *share) first() *Ticket {
	if s.queue.band.edf {
		return s.byDeadline[0]
	}
	return s.head
}

// next returns the request that is next.
func (s *share) next() *Ticket {
	if g := s.group; g != nil && g.head != nil && s.left > 0 {
		return g.head
	}
	return s.first()
}

// top returns the share to be served next, nil if nothing waits.
func (q *queue) top() *share {
	if len(q.heap) == 0 {
		return nil
	}
	top := &q.heap[0]
	if q.band.quantum > 0 && q.last != nil && q.last.index >= 0 && q.last.flow.key() <= top.key {
		return q.last
	}
	return top.share
}

// fix restores the order of the heap after the share's key changed.
func (q *queue) fix(s *share) {
	if s.index < 0 {
		return
	}
	e := s.entry()
	if old := &q.heap[s.index]; e.before(old) {
		q.up(s.index, e)
	} else if old.before(&e) {
		q.down(s.index, e)
	}
}

// The heap has four children a node: half as many levels as one with two.
const heapWidth = 4

// up puts e where index i is, or further up.
func (q *queue) up(i int, e entry) {
	h := q.heap
	for i > 0 {
		parent := (i - 1) / heapWidth
		if !e.before(&h[parent]) {
			break
		}
		h[i] = h[parent]
		h[i].share.index = i
		i = parent
	}
	h[i] = e
	e.share.index = i
}

// down puts e where index i is, or further down.
func (q *queue) down(i int, e entry) {
	h := q.heap
	for {
		first := heapWidth*i + 1
		if first >= len(h) {
			break
		}
		least := first
		for child := first + 1; child < min(first+heapWidth, len(h)); child++ {
			if h[child].before(&h[least]) {
				least = child
			}
		}
		if !h[least].before(&e) {
			break
		}
		h[i] = h[least]
		h[i].share.index = i
		i = least
	}
	h[i] = e
	e.share.index = i
}

// enter adds a share in which something waits now.
func (q *queue) enter(s *share) {
	q.heap = append(q.heap, entry{})
	q.up(len(q.heap)-1, s.entry())
}

// leave takes out a share in which nothing waits any more.
func (q *queue) leave(s *share) {
	i, last := s.index, len(q.heap)-1
	moved := q.heap[last]
	q.heap[last] = entry{}
	q.heap = q.heap[:last]
	s.index = -1
	if i == last {
		return
	}
	if i > 0 && moved.before(&q.heap[(i-1)/heapWidth]) {
		q.up(i, moved)
	} else {
		q.down(i, moved)
	}
}

// add puts a request into its tenant's queue. Requests come in order of their numbers,
// but for those whose priority was changed.
func (b *band) add(t *Ticket) {
	s := t.share
	before := s.tail
	for before != nil && before.seq > t.seq {
		before = before.prev
	}
	s.insert(t, before)
	if b.edf {
		s.pushDeadline(t)
	}
	if b.locality {
		s.insertGroup(t)
	}
	s.n++
	s.queue.queued++
	s.queue.lane.queued++
	b.queued++
	b.bytes += t.bytes
	b.lengthen(s.flow, 1)
	if s.index < 0 {
		s.queue.enter(s)
	} else {
		s.queue.fix(s)
	}
}

// remove takes a request out of its tenant's queue. The tenant's place among the others is
// not put right: fix does.
func (b *band) remove(t *Ticket) {
	s := t.share
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		s.head = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	} else {
		s.tail = t.prev
	}
	t.prev, t.next = nil, nil
	if b.edf {
		s.removeDeadline(t)
	}
	if b.locality {
		s.removeGroup(t)
	}
	s.n--
	s.queue.queued--
	s.queue.lane.queued--
	b.queued--
	b.bytes -= t.bytes
	b.lengthen(s.flow, -1)
	if s.n == 0 {
		s.queue.leave(s)
	}
}

// insert links t behind before, which is nil for the front.
func (s *share) insert(t, before *Ticket) {
	t.prev = before
	if before != nil {
		t.next = before.next
		before.next = t
	} else {
		t.next = s.head
		s.head = t
	}
	if t.next != nil {
		t.next.prev = t
	} else {
		s.tail = t
	}
}

func (s *share) insertGroup(t *Ticket) {
	g := s.groups[t.prefix]
	if g == nil {
		if s.groups == nil {
			s.groups = map[uint64]*group{}
		}
		g = &group{key: t.prefix}
		s.groups[t.prefix] = g
	}
	t.group = g
	before := g.tail
	for before != nil && before.seq > t.seq {
		before = before.gprev
	}
	t.gprev = before
	if before != nil {
		t.gnext = before.gnext
		before.gnext = t
	} else {
		t.gnext = g.head
		g.head = t
	}
	if t.gnext != nil {
		t.gnext.gprev = t
	} else {
		g.tail = t
	}
}

func (s *share) removeGroup(t *Ticket) {
	g := t.group
	if t.gprev != nil {
		t.gprev.gnext = t.gnext
	} else {
		g.head = t.gnext
	}
	if t.gnext != nil {
		t.gnext.gprev = t.gprev
	} else {
		g.tail = t.gprev
	}
	t.group, t.gprev, t.gnext = nil, nil, nil
	if g.head == nil {
		delete(s.groups, g.key)
		if s.group == g {
			s.group = nil
		}
	}
}

// The heap of a share's requests by deadline.

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

// lengthen keeps byLen: lengths change by one, so that the longest queue of a tenant is
// found without a search.
func (b *band) lengthen(f *flow, by int) {
	if f.queued > 0 {
		b.byLen[f.queued].remove(f)
	} else {
		b.wake(f)
	}
	f.queued += by
	if f.queued > 0 {
		for len(b.byLen) <= f.queued {
			b.byLen = append(b.byLen, flowList{})
		}
		b.byLen[f.queued].push(f)
		b.longest = max(b.longest, f.queued)
	}
	if b.longest > 0 && b.byLen[b.longest].head == nil {
		b.longest--
	}
}

// hog returns the request that came last of the tenant that has the most in the band's
// queues; nil if nothing waits.
func (b *band) hog() *Ticket {
	if b.longest == 0 {
		return nil
	}
	var newest *Ticket
	for _, s := range b.byLen[b.longest].head.shares {
		if s.tail != nil && (newest == nil || s.tail.seq > newest.seq) {
			newest = s.tail
		}
	}
	return newest
}

// flowOf returns the tenant's flow, and makes it if it is new. At most so many are
// kept; those of more share that of requests without a tenant.
func (b *band) flowOf(tenant string, o *Options, now time.Time) *flow {
	if _, ok := o.Tenants[tenant]; !ok && len(o.Tenants) > 0 || o.Fairness == FirstCome {
		tenant = ""
	}
	f := b.flows[tenant]
	if f == nil {
		b.forget(now, o, false)
		if len(b.flows) >= o.MaxFlows && tenant != "" && !b.forget(now, o, true) {
			return b.flowOf("", o, now)
		}
		f = &flow{band: b, name: strings.Clone(tenant), counter: b.virtual - o.Credit}
		b.flows[f.name] = f
	}
	f.weight = o.weightOf(f.name)
	return f
}

// weightOf returns the weight of a tenant by the name of its flow.
func (o *Options) weightOf(name string) float64 {
	if t, ok := o.Tenants[name]; ok && o.Fairness != FirstCome {
		return t.Weight
	}
	return 1
}

// wake takes a flow out of the idle ones.
func (b *band) wake(f *flow) {
	if f.resting {
		b.idle.remove(f)
		f.resting = false
	}
}

// rest puts a flow with nothing under way among the idle ones.
func (b *band) rest(f *flow, now time.Time) {
	if f.queued == 0 && f.inFlight == 0 && !f.resting {
		f.resting, f.idleSince = true, now
		b.idle.push(f)
	}
}

// forget drops the flow that has been idle the longest if nothing is lost by that: it
// would start anew where it is, or its time is over, or must is set. It reports whether
// it did. Called for each new flow, it keeps up with them.
func (b *band) forget(now time.Time, o *Options, must bool) bool {
	forgot := false
	for range 2 {
		f := b.idle.head
		if f == nil || !must && f.counter > b.virtual-o.Credit && now.Sub(f.idleSince) < o.FlowIdle {
			break
		}
		b.wake(f)
		for _, s := range f.shares {
			s.queue.shares--
		}
		delete(b.flows, f.name)
		forgot, must = true, false
	}
	return forgot
}

// lift takes from a tenant that comes back what it would have had while it was away,
// but for the credit: VTC's rule. It reports whether the tenant is behind those that wait
// or were let in last.
func (b *band) lift(f *flow, credit float64) (behind bool) {
	if f.queued > 0 {
		return false
	}
	base := b.virtual
	if b.queued > 0 {
		base = math.Inf(1)
		for _, q := range b.queues {
			if len(q.heap) > 0 {
				base = min(base, q.heap[0].share.flow.counter)
			}
		}
	}
	f.counter = max(f.counter, base-credit)
	return f.counter < base
}

// spend adds to what a tenant was served, or takes off.
func (f *flow) spend(tokens float64) {
	f.counter += tokens / f.weight
	f.served += tokens
	for _, s := range f.shares {
		s.queue.fix(s)
	}
}

// shareOf returns the flow's part of a queue.
func (f *flow) shareOf(q *queue) *share {
	for _, s := range f.shares {
		if s.queue == q {
			return s
		}
	}
	s := &f.first
	if s.queue != nil {
		s = new(share)
	}
	*s = share{flow: f, queue: q, index: -1}
	if f.shares == nil {
		f.shares = f.room[:0]
	}
	f.shares = append(f.shares, s)
	q.shares++
	return s
}

// drop takes out a queue in which nothing waits.
func (b *band) drop(q *queue) {
	b.queues = slices.DeleteFunc(b.queues, func(other *queue) bool { return other == q })
	if q.shares == 0 {
		return
	}
	for _, f := range b.flows {
		f.shares = slices.DeleteFunc(f.shares, func(s *share) bool { return s.queue == q })
		if f.first.queue == q {
			f.first = share{}
		}
	}
}

// queueFor returns the band's queue of a lane.
func (b *band) queueFor(l *lane) *queue {
	for _, q := range l.queues {
		if q.band == b {
			return q
		}
	}
	q := &queue{lane: l, band: b}
	i := 0
	for i < len(l.queues) && l.queues[i].band.priority > b.priority {
		i++
	}
	l.queues = slices.Insert(l.queues, i, q)
	b.queues = append(b.queues, q)
	return q
}
