package admission

import (
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/inferpick/inferpick/types"
)

// Controller lets requests into one pool. Make it with New. All methods may be called
// from any goroutine. It starts none; with the real clock a timer runs while requests
// wait.
type Controller struct {
	mu sync.Mutex
	// all guarded by mu
	o          Options
	ceilings   []float64 // of the bands, each once
	usesTarget bool
	byDefault  bool // the detector is that of Default
	closed     bool

	cells   []*cell // by index; nil: free
	byLoad  map[*types.Load]*cell
	mark    uint64
	whole   *lane     // the whole pool
	renewed time.Time // when it was last seen to that readings become too old
	lanes   map[laneKey]*lane

	bands     []*band // by priority, highest first
	queued    int
	bytes     int64
	seq       uint64
	deadlines deadlines
	stopTimer func()
	wakeAt    int64 // when the timer goes off; 0: it does not run

	grants  ticketList // let in and not yet booked, the oldest first
	granted int
	// perBooking is by how much one request fills an endpoint; 0: not known.
	perBooking float64
	revocable  []ticketList // by index in o.Bands
	budgets    budgets

	drained  pace    // requests let in
	output   float64 // mean tokens of outputs; 0: not known
	ttft     float64 // mean seconds from booking to first token
	ttftDev  float64 // mean deviation of that
	prefixes maphash.Seed

	// To be done once the lock is released.
	notes, lastNote *Ticket  // to be told
	revocations     []func() // to be called
}

// New returns a Controller with no endpoints: call SetEndpoints. An error names each
// field that is wrong, and the rule.
func New(o Options) (*Controller, error) {
	given := o.Detector != nil
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Controller{byLoad: map[*types.Load]*cell{}, lanes: map[laneKey]*lane{}, whole: new(lane), prefixes: maphash.MakeSeed(), byDefault: !given}
	c.configure(o)
	return c, nil
}

// Configure changes the options, also of what waits: requests keep their places and
// deadlines. What has no room any more by the new bounds is refused as it comes; what
// waits stays. With an error nothing is changed.
func (c *Controller) Configure(o Options) error {
	given := o.Detector != nil
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.unlock()
	if !given && c.byDefault {
		o.Detector = c.o.Detector // with what it has learned
	}
	c.byDefault = !given
	c.configure(o)
	c.dispatch(c.o.Clock.Now())
	return nil
}

func (c *Controller) configure(o Options) {
	c.o = o
	c.ceilings = nil
	for i := range o.Bands {
		for _, ceiling := range []float64{o.Bands[i].ModestCeiling, o.Bands[i].Ceiling} {
			if !slices.Contains(c.ceilings, ceiling) {
				c.ceilings = append(c.ceilings, ceiling)
			}
		}
	}
	t, ok := o.Detector.(TargetDetector)
	c.usesTarget = ok && t.UsesTarget()
	c.budgets.configure(o.Budgets)
	before := c.revocable
	c.revocable = make([]ticketList, len(o.Bands))
	for i := range before {
		for t := before[i].head; t != nil; t = before[i].head {
			t.unlist()
			c.enlist(t)
		}
	}
	for _, b := range c.bands {
		c.settle(b)
	}
	c.fillLane(c.whole)
	for _, l := range c.lanes {
		c.fillLane(l)
	}
}

// settle gives a band its settings, and its queues the order that they ask for.
func (c *Controller) settle(b *band) {
	i := c.settingsOf(b.priority)
	b.Band = &c.o.Bands[i]
	b.label = &label{b.Name, b.priority}
	b.ceiling, b.modest = slices.Index(c.ceilings, b.Ceiling), slices.Index(c.ceilings, b.ModestCeiling)
	var wait []*Ticket
	for _, q := range b.queues {
		for _, e := range slices.Clone(q.heap) {
			for s := e.share; s.head != nil; {
				wait = append(wait, s.head)
				b.remove(s.head)
			}
		}
	}
	b.edf = c.o.Order == EarliestDeadline
	b.locality = c.o.Fairness == PrefixLocality
	b.quantum = 0
	if b.locality {
		b.quantum = c.o.Quantum
	}
	for _, f := range b.flows {
		f.weight = c.o.weightOf(f.name)
	}
	for _, t := range wait {
		t.label.Store(b.label)
		c.place(t, b, t.share.queue.lane)
		b.add(t)
	}
}

// settingsOf returns the index in o.Bands of the band that a priority belongs to.
func (c *Controller) settingsOf(priority int) int {
	for i := range c.o.Bands {
		if priority >= c.o.Bands[i].Priority {
			return i
		}
	}
	return len(c.o.Bands) - 1
}

// bandOf returns the queues of a priority, and makes them if they are new. If there are
// too many, it is those of the lowest priority that belongs to the same Band: nobody is
// raised.
func (c *Controller) bandOf(priority int) *band {
	b, i := c.findBand(priority)
	if b != nil {
		return b
	}
	if len(c.bands) >= c.o.MaxBands {
		if c.forgetBand() {
			_, i = c.findBand(priority)
		} else {
			priority = c.o.Bands[c.settingsOf(priority)].Priority
			if b, i = c.findBand(priority); b != nil {
				return b
			}
		}
	}
	b = &band{priority: priority, flows: map[string]*flow{}}
	c.settle(b)
	c.bands = slices.Insert(c.bands, i, b)
	return b
}

// findBand returns the queues of a priority, or nil and where they belong.
func (c *Controller) findBand(priority int) (*band, int) {
	for i, b := range c.bands {
		if b.priority <= priority {
			if b.priority == priority {
				return b, i
			}
			return nil, i
		}
	}
	return nil, len(c.bands)
}

// forgetBand drops one in which nothing is under way.
func (c *Controller) forgetBand() bool {
	for i, b := range c.bands {
		if b.queued > 0 || b.open > 0 {
			continue
		}
		for _, q := range b.queues {
			q.lane.queues = slices.DeleteFunc(q.lane.queues, func(other *queue) bool { return other == q })
		}
		b.ceiling, b.modest = 0, 0 // requests that have ended may still be asked about
		c.bands = slices.Delete(c.bands, i, i+1)
		return true
	}
	return false
}

// Close refuses everything that waits, and everything that comes. Requests that were
// let in go on.
func (c *Controller) Close() {
	c.mu.Lock()
	defer c.unlock()
	c.closed = true
	now := c.o.Clock.Now()
	for len(c.deadlines) > 0 {
		c.refuseWaiting(c.deadlines[0].t, Closed, "the gateway is shutting down", now)
	}
	if c.stopTimer != nil {
		c.stopTimer()
		c.stopTimer, c.wakeAt = nil, 0
	}
}

// unlock releases the lock and tells those who wait for news.
func (c *Controller) unlock() {
	first, revocations := c.notes, c.revocations
	c.notes, c.lastNote, c.revocations = nil, nil, nil
	c.mu.Unlock()
	for t := first; t != nil; {
		next := t.note
		t.note = nil
		if t.wake != nil {
			t.wake <- struct{}{}
		} else if t.ready != nil {
			t.ready(asError(t.refusal))
		}
		t = next
	}
	for _, revoke := range revocations {
		revoke()
	}
}

func asError(r *Refusal) error {
	if r == nil {
		return nil
	}
	return r
}

// tell notes that a ticket no longer waits.
func (c *Controller) tell(t *Ticket) {
	if c.lastNote == nil {
		c.notes = t
	} else {
		c.lastNote.note = t
	}
	c.lastNote = t
}

// enter lets an arrival in, queues it or refuses it.
func (c *Controller) enter(a *Arrival, t *Ticket) error {
	now := c.o.Clock.Now()
	req := a.Request
	t.c, t.req, t.priority = c, req, req.Priority
	t.arrived = now.UnixNano()
	t.bytes = int64(len(req.Body))
	c.renew(now)
	b := c.bandOf(req.Priority)
	t.band = b
	t.label.Store(b.label)
	if c.closed {
		return c.refuse(t, Closed, "the gateway is shutting down", now)
	}
	t.flow = b.flowOf(req.FairnessID, &c.o, now)
	c.estimate(t)
	if r := c.budgets.spend(t, now); r != nil {
		return c.refused(t, r)
	}
	l := c.laneOf(a, now)
	t.lane = l
	t.modest = c.comesBack(b, t.flow)
	if c.passes(t, l) {
		c.grant(t, now)
		return nil
	}
	wait, refusal := c.mayWait(a, t, l, now)
	if refusal != nil {
		return c.refused(t, refusal)
	}
	c.seq++
	t.seq = c.seq
	t.deadline = after(t.arrived, wait)
	c.place(t, b, l)
	c.queue(t, now)
	if h := c.o.Hooks.Queued; h != nil {
		h(t)
	}
	if c.o.Revoke && b.Displace && c.seen(l).members > 0 {
		c.revokeFor(t)
	}
	// There may be room that nobody was woken for yet: who is first takes it.
	c.dispatch(now)
	return nil
}

// comesBack lifts a tenant that has something to send, and reports whether it is modest:
// behind those that wait or were let in last; or the only one, unless the bands above have
// so much under way that they need all that is kept.
func (c *Controller) comesBack(b *band, f *flow) (modest bool) {
	behind := b.lift(f, c.o.Credit)
	if len(b.flows) >= 2 {
		return behind
	}
	above, all := 0, 0
	for _, other := range c.bands {
		all += other.open
		if other.priority > b.priority {
			above += other.open
		}
	}
	return float64(above) <= muchAbove*float64(all)
}

// muchAbove is the part of what is under way from which on the bands above have much.
const muchAbove = 0.4

// passes reports whether a request may go at once.
func (c *Controller) passes(t *Ticket, l *lane) bool {
	return c.seen(l).roomAt(t.ceiling()) > 0 && !l.busyFrom(t.band.priority)
}

// after is an instant some time later.
func after(at int64, d time.Duration) int64 {
	if at > math.MaxInt64-int64(d) {
		return math.MaxInt64
	}
	return at + int64(d)
}

// place finds where in a band's queues a ticket belongs.
func (c *Controller) place(t *Ticket, b *band, l *lane) {
	q := b.queueFor(l)
	t.share = t.flow.shareOf(q)
	if b.locality {
		t.prefix = c.prefixOf(t.req)
	}
}

// queue puts a ticket into the queue of its place.
func (c *Controller) queue(t *Ticket, now time.Time) {
	t.modest = c.comesBack(t.band, t.flow)
	t.state = waiting
	t.band.add(t)
	c.queued++
	c.bytes += t.bytes
	c.deadlines.add(t)
	c.arm(now)
}

// leave takes a ticket that waits out of the queue.
func (c *Controller) leave(t *Ticket, now time.Time) {
	s := t.share
	c.takeOut(t, now)
	s.queue.fix(s)
}

// takeOut is leave for a ticket whose tenant is charged next, which puts its place right.
func (c *Controller) takeOut(t *Ticket, now time.Time) {
	t.band.remove(t)
	t.band.rest(t.flow, now)
	t.share = nil
	c.queued--
	c.bytes -= t.bytes
	c.deadlines.remove(t)
}

// mayWait returns how long an arrival for which there is no room may wait, or why it
// may not.
func (c *Controller) mayWait(a *Arrival, t *Ticket, l *lane, now time.Time) (time.Duration, *Refusal) {
	b := t.band
	if c.seen(l).members == 0 {
		if c.o.WaitForEndpoints == 0 {
			return 0, c.refusal(t, NoEndpoint, "no endpoint could serve it", now)
		}
	} else if !b.waits() {
		return 0, c.refusal(t, Saturated, c.describe(l, b), now)
	}
	if r := c.makeRoom(t, now); r != nil {
		return 0, r
	}
	return c.mostWait(a, b, l), nil
}

// mostWait returns how long an arrival may wait.
func (c *Controller) mostWait(a *Arrival, b *band, l *lane) time.Duration {
	wait := b.MaxWait
	switch slo := a.Request.SLO.TTFT; {
	case a.MaxWait > 0:
		wait = min(wait, a.MaxWait)
	case slo > 0:
		wait = min(wait, max(slo-c.expectedTTFT(), slo/2))
	}
	if c.seen(l).members == 0 {
		wait = min(wait, c.o.WaitForEndpoints)
	}
	return wait
}

// fits reports whether there is room for one more in the queue, or would be.
func (c *Controller) fits(t *Ticket) bool {
	b := t.band
	requests, bytes := c.bounds(b)
	inBand := b.queued < requests && b.bytes+t.bytes <= bytes
	inAll := c.queued < c.o.MaxRequests && c.bytes+t.bytes <= c.o.MaxBytes
	hog := b.hog()
	ownGives := hog != nil && hog.flow.queued > t.flow.queued+1
	return (inBand || ownGives) && (inAll || c.lowestBelow(t) != nil) && t.bytes <= min(bytes, c.o.MaxBytes)
}

// bounds are those of what waits in a band.
func (c *Controller) bounds(b *band) (requests int, bytes int64) {
	requests, bytes = b.MaxRequests, b.MaxBytes
	if requests <= 0 {
		requests = c.o.MaxRequests
	}
	if bytes == 0 {
		bytes = c.o.MaxBytes
	}
	return requests, bytes
}

// describe says how full a lane is, as a band sees it.
func (c *Controller) describe(l *lane, b *band) string {
	by := c.seen(l)
	if by.roomAt(b.ceiling) > 0 {
		return fmt.Sprintf("%d requests of its priority or a higher one wait for %d endpoints", c.before(l, b), by.members)
	}
	return fmt.Sprintf("none of %d endpoints is less than %g full", by.members, b.Ceiling)
}

// before counts the requests of a lane that wait at the priority of a band or a higher.
func (c *Controller) before(l *lane, b *band) int {
	n := 0
	for _, q := range l.queues {
		if q.band.priority >= b.priority {
			n += q.queued
		}
	}
	return n
}

// makeRoom sees to it that there is room for one more in the queue: of a tenant that
// has more in it, or of a lower band, the last one loses its place. It returns why
// there is none.
func (c *Controller) makeRoom(t *Ticket, now time.Time) *Refusal {
	b := t.band
	requests, bytes := c.bounds(b)
	if t.bytes > bytes || t.bytes > c.o.MaxBytes {
		return c.refusal(t, QueueFull, fmt.Sprintf("its body of %d bytes is larger than the queue", t.bytes), now)
	}
	for b.queued >= requests || b.bytes+t.bytes > bytes {
		victim := b.hog()
		if victim == nil || victim.flow.queued <= t.flow.queued+1 {
			return c.refusal(t, QueueFull, fmt.Sprintf("%d requests of %d bytes wait at priority %d, of at most %d and %d", b.queued, b.bytes, b.priority, requests, bytes), now)
		}
		c.refuseWaiting(victim, Displaced, "a tenant with fewer in the queue took its place", now)
	}
	for c.queued >= c.o.MaxRequests || c.bytes+t.bytes > c.o.MaxBytes {
		victim := c.lowestBelow(t)
		if victim == nil {
			return c.refusal(t, QueueFull, fmt.Sprintf("%d requests of %d bytes wait, of at most %d and %d", c.queued, c.bytes, c.o.MaxRequests, c.o.MaxBytes), now)
		}
		c.refuseWaiting(victim, Displaced, "another request took its place", now)
	}
	return nil
}

// lowestBelow returns the request that loses its place to t when all bands together are
// full: one of a lower band, if t's may displace those, or of its own, if another tenant
// has more there.
func (c *Controller) lowestBelow(t *Ticket) *Ticket {
	b := t.band
	if b.Displace {
		for i := len(c.bands) - 1; i >= 0 && c.bands[i].priority < b.priority; i-- {
			if victim := c.bands[i].hog(); victim != nil {
				return victim
			}
		}
	}
	if victim := b.hog(); victim != nil && victim.flow.queued > t.flow.queued+1 {
		return victim
	}
	return nil
}

// grant lets a request in, and charges its tenant.
func (c *Controller) grant(t *Ticket, now time.Time) {
	b, f := t.band, t.flow
	t.state = granted
	c.granted++
	c.grants.push(t)
	b.open++
	b.wake(f)
	f.inFlight++
	b.virtual = max(b.virtual, f.counter)
	f.spend(t.charge)
	c.payFloors(b, t.charge)
	t.letInAt = now.UnixNano()
	c.drained.add(t.letInAt)
	waited := time.Duration(now.UnixNano() - t.arrived)
	b.counts.Dispatched++
	b.counts.Tokens += t.charge
	if h := c.o.Hooks.Dispatched; h != nil {
		if t.seq == 0 {
			waited = 0
		}
		h(t, waited)
	}
}

// landed takes a ticket off those that are let in and not yet booked.
func (c *Controller) landed(t *Ticket) {
	if t.state == granted && t.list == &c.grants {
		t.unlist()
		c.granted--
	}
}

// maxOwed bounds the weighted tokens that a floor owes a band: what it could not be given,
// for there was no room where its requests may go, is not made up for all at once.
const maxOwed = 65_536

// payFloors gives every band with a floor that waits its part of what was let in: the
// priorities in it that wait share that.
func (c *Controller) payFloors(to *band, tokens float64) {
	for i, end := 0, 0; i < len(c.bands); i = end {
		wait := 0
		for end = i; end < len(c.bands) && c.bands[end].Band == c.bands[i].Band; end++ {
			if c.bands[end].queued > 0 {
				wait++
			}
		}
		if c.bands[i].Floor == 0 {
			continue
		}
		for _, b := range c.bands[i:end] {
			if b.queued == 0 {
				b.credit = 0
				continue
			}
			b.credit = min(b.credit+b.Floor*tokens/float64(wait), maxOwed)
			if b == to {
				b.credit = max(b.credit-tokens, 0)
			}
		}
	}
}

// dispatch lets in whoever is next, for as long as there is room. Of those let in and
// not yet booked, each may take the room that an endpoint has: no more are let in than
// there are endpoints with room.
func (c *Controller) dispatch(now time.Time) {
	if c.queued == 0 {
		return
	}
	c.forgetGrants(now)
	for {
		s := c.choose()
		if s == nil {
			return
		}
		t := s.next()
		if c.o.Fairness == PrefixLocality {
			s.follow(t, c.o.Quantum)
		}
		c.takeOut(t, now)
		s.queue.last = s
		c.grant(t, now)
		c.tell(t)
	}
}

// follow notes which group the share goes on with.
func (s *share) follow(t *Ticket, quantum float64) {
	if s.group != t.group {
		s.group, s.left = t.group, quantum
	}
	s.left -= t.charge
}

// forgetGrants stops waiting for tickets whose owners have done nothing with them for
// too long.
func (c *Controller) forgetGrants(now time.Time) {
	for t := c.grants.head; t != nil && now.UnixNano()-t.letInAt > int64(DefaultGrantTTL); t = c.grants.head {
		t.unlist()
		c.granted--
	}
}

// choose returns the share whose request is let in next, nil if there is no room for
// any that waits.
func (c *Controller) choose() *share {
	for i := len(c.bands) - 1; i >= 0; i-- {
		b := c.bands[i]
		if b.Floor > 0 && b.queued > 0 && b.credit > 0 {
			if s := c.best(b, true); s != nil && b.credit >= s.next().charge {
				return s
			}
		}
	}
	for _, b := range c.bands {
		if b.queued > 0 {
			if s := c.best(b, false); s != nil {
				return s
			}
		}
	}
	return nil
}

// best returns the share of a band that is next, among the lanes that have room for it:
// as the band has it, or, if it is owed, as the highest has it.
func (c *Controller) best(b *band, owed bool) *share {
	var best *share
	for _, q := range b.queues {
		s := q.top()
		if s == nil {
			continue
		}
		ceiling := s.next().ceiling()
		if owed {
			ceiling = 0
		}
		if c.mayGrant(c.seen(q.lane), ceiling) > c.granted && (best == nil || s.before(best)) {
			best = s
		}
	}
	return best
}

// mayGrant returns how many may be let in from a queue and not be booked yet: each takes
// room of which nothing is seen. An endpoint with room has it for one more; where there is
// much more room than a request takes, half of it may be on its way.
func (c *Controller) mayGrant(l *lane, ceiling int) int {
	room := l.roomAt(ceiling)
	if room == 0 || l.known == 0 || c.perBooking == 0 {
		return room
	}
	free := c.ceilings[ceiling]*float64(l.known) - float64(l.sum)/fixedOne
	return max(room, int(min(free/(2*c.perBooking), maxGranted)))
}

const maxGranted = 1000

// learnBooking keeps how much a request fills an endpoint, at most: by those that have no
// first token yet, as if these were all that fills it.
func (c *Controller) learnBooking(cell *cell) {
	if fill := c.whole.fills[cell.index]; fill > 0 && !math.IsInf(fill, 1) {
		average(&c.perBooking, fill/float64(max(cell.ep.Load.Prefilling(), 1)), 0.1)
	}
}

// finish ends a ticket that was let in.
func (c *Controller) finish(t *Ticket, out *types.Outcome, now time.Time) {
	c.landed(t)
	t.unlist()
	t.state = ended
	t.revoke = nil
	b, f := t.band, t.flow
	b.open--
	f.inFlight--
	c.correct(t, out)
	b.rest(f, now)
	if cell := c.cellOf(t.ep); cell != nil {
		cell.since.Finished++
	}
	c.happened(t.ep, now)
	if h := c.o.Hooks.Finished; h != nil {
		h(t, *out)
	}
	t.ep = nil
}

// estimate works out what a request will be charged.
func (c *Controller) estimate(t *Ticket) {
	out := t.flow.output
	if out == 0 {
		out = c.output
	}
	if out == 0 {
		out = float64(c.o.OutputTokens)
	}
	if m := t.req.MaxTokens; m > 0 {
		out = min(out, float64(m))
	}
	t.output = out
	t.charge = c.o.InputWeight*float64(t.req.Prompt.Tokens) + c.o.OutputWeight*out
}

// correct makes the charge what the request really took.
func (c *Controller) correct(t *Ticket, out *types.Outcome) {
	in, output := float64(t.req.Prompt.Tokens), t.output
	reported := false
	if v, ok := out.Usage.PromptTokens.Value(); ok && v >= 0 {
		in = v
	}
	if v, ok := out.Usage.CompletionTokens.Value(); ok && v >= 0 {
		output, reported = v, true
	} else if !t.first && (out.Cancelled || out.Failed()) {
		output = 0
		if t.ep == nil {
			in = 0 // it never got to a server
		}
	}
	if reported {
		const rate = 0.05
		average(&t.flow.output, output, rate)
		average(&c.output, output, rate/5)
	}
	real := c.o.InputWeight*in + c.o.OutputWeight*output
	t.band.counts.Tokens += real - t.charge
	t.flow.spend(real - t.charge)
	t.charge = real
	c.budgets.correct(t, in+output)
}

func average(mean *float64, v, rate float64) {
	if *mean == 0 {
		*mean = v
	} else {
		*mean += rate * (v - *mean)
	}
}

// learnTTFT keeps the mean and deviation of times to first token, as TCP does of round
// trips.
func (c *Controller) learnTTFT(took time.Duration) {
	v := took.Seconds()
	if c.ttft == 0 {
		c.ttft, c.ttftDev = v, v/2
		return
	}
	c.ttftDev += 0.05 * (math.Abs(v-c.ttft) - c.ttftDev)
	c.ttft += 0.02 * (v - c.ttft)
}

// expectedTTFT is what nine in ten requests do not exceed.
func (c *Controller) expectedTTFT() time.Duration {
	return time.Duration((c.ttft + 2*c.ttftDev) * float64(time.Second))
}

// reprioritize moves a ticket that waits to where one of another priority belongs.
func (c *Controller) reprioritize(t *Ticket, priority int, now time.Time) {
	lane := t.share.queue.lane
	c.leave(t, now)
	b := c.bandOf(priority)
	t.priority, t.band = priority, b
	t.label.Store(b.label)
	t.flow = b.flowOf(t.req.FairnessID, &c.o, now)
	if !b.waits() && c.seen(lane).members > 0 {
		c.settleRefusal(t, c.refusal(t, Saturated, c.describe(lane, b), now), now)
		return
	}
	if r := c.makeRoom(t, now); r != nil {
		c.settleRefusal(t, r, now)
		return
	}
	t.deadline = min(t.deadline, after(t.arrived, b.MaxWait))
	c.place(t, b, lane)
	c.queue(t, now)
}

// revokeFor asks one running request of a lower band to end, where the place would be of
// use: the one that was let in last.
func (c *Controller) revokeFor(t *Ticket) {
	for i := len(c.revocable) - 1; i >= 0; i-- {
		for victim := c.revocable[i].tail; victim != nil; victim = victim.lprev {
			if victim.priority < t.priority && c.serves(t.lane, victim.ep) {
				c.revoke(victim, t.priority)
				return
			}
		}
	}
}

// serves reports whether an endpoint is one of a lane's candidates.
func (c *Controller) serves(l *lane, ep *types.Endpoint) bool {
	cell := c.cellOf(ep)
	return cell != nil && c.seen(l).fills[cell.index] != notMember
}

func (c *Controller) revoke(victim *Ticket, priority int) {
	victim.unlist()
	r := c.refusal(victim, Revoked, fmt.Sprintf("a request of priority %d needed its place", priority), c.o.Clock.Now())
	victim.refusal = r
	f := victim.revoke
	c.revocations = append(c.revocations, func() { f(r) })
	victim.band.counts.refused(Revoked)
	if h := c.o.Hooks.Revoked; h != nil {
		h(victim)
	}
}

// enlist puts a running ticket among those that may be revoked.
func (c *Controller) enlist(t *Ticket) {
	if c.o.Revoke && t.state == running && t.revoke != nil && t.priority < 0 && t.list == nil && t.refusal == nil {
		c.revocable[c.settingsOf(t.priority)].push(t)
	}
}

// prefixOf returns a number that prompts have in common that begin alike.
func (c *Controller) prefixOf(req *types.Request) uint64 {
	const head = 1024 // bytes
	var h maphash.Hash
	h.SetSeed(c.prefixes)
	h.WriteString(req.Target())
	h.WriteString(req.CacheSalt)
	left := head
	for _, span := range req.Prompt.Spans {
		if span.Start < 0 || span.End > len(req.Body) || span.Start > span.End {
			break
		}
		part := req.Body[span.Start:span.End]
		part = part[:min(len(part), left)]
		h.Write(part)
		if left -= len(part); left == 0 {
			break
		}
	}
	return h.Sum64()
}
