package admission_test

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
)

// naive is what a Controller does, written down as plainly as it can be: what waits is one
// slice, and whatever is asked is looked for in it.
type naive struct {
	perBooking float64           // by how much a request fills an endpoint
	o          admission.Options // bands from the highest to the lowest, nothing left to defaults
	now        int64

	eps     []*server // in the pool
	bands   []*nband  // by priority, highest first
	lanes   []*nlane  // but for the whole pool
	whole   *nlane
	waiting []*req // by number
	granted []*req // and not yet booked
	seq     uint64
	lengths int     // counts changes of how much of a tenant waits
	output  float64 // mean tokens of outputs
	closed  bool

	events []event
}

// event is something that hooks hear of.
type event struct {
	kind   string
	id     int
	why    admission.Reason
	waited time.Duration
}

func (e event) String() string {
	return fmt.Sprintf("%s %d %s after %v", e.kind, e.id, e.why, e.waited)
}

// server is an endpoint: how full it is depends on what is booked and on what others send.
type server struct {
	ep      *types.Endpoint
	tag     string // lanes match by it
	booked  int
	others  int
	places  int
	unknown bool

	outUntil int64
}

func (s *server) fill() float64 {
	if s.unknown {
		return math.NaN()
	}
	return float64(s.booked+s.others) / float64(s.places)
}

type req struct {
	id      int
	r       *types.Request
	ticket  *admission.Ticket
	maxWait time.Duration
	lane    string // name of the candidates
	prefix  string

	// As the naive one sees it.
	state    string // "waiting", "granted", "running", "ended"
	priority int
	band     *nband
	flow     *nflow
	share    *nshare
	seq      uint64
	arrived  int64
	deadline int64
	letIn    int64
	charge   float64
	expected float64
	at       *server
	first    bool
	modest   bool
	toldOf   int // how often it should have been told
	refused  admission.Reason

	// As it happened.
	told    int
	toldErr error
}

func (r *req) bytes() int64 { return int64(len(r.r.Body)) }

type nband struct {
	priority int
	cfg      *admission.Band
	flows    []*nflow
	idle     []*nflow
	last     map[*nlane]*nshare
	virtual  float64
	credit   float64
	open     int

	dispatched, cancelled uint64
	refused               map[admission.Reason]uint64
	tokens                float64
}

type nflow struct {
	name     string
	weight   float64
	counter  float64
	output   float64
	inFlight int
	lenAt    int
	shares   []*nshare
}

type nshare struct {
	flow  *nflow
	lane  *nlane
	group string // that it goes on with; empty: none
	left  float64
}

type nlane struct {
	name    string // empty: the whole pool
	touched int64
}

func (l *nlane) has(s *server) bool { return l.name == "" || matches(l.name, s) }

// matches is what the lanes of these tests match by.
func matches(lane string, s *server) bool {
	for _, tag := range lane {
		if string(tag) == s.tag {
			return true
		}
	}
	return false
}

func newNaive(o admission.Options, now int64) *naive {
	o.Credit = max(o.Credit, 0)
	return &naive{o: o, now: now, whole: &nlane{}}
}

// Room.

// members are the candidates of a lane: those that are not out, if there are any.
func (m *naive) members(l *nlane) (in []*server) {
	var out []*server
	for _, s := range m.eps {
		switch {
		case s.ep.State != types.Ready || !l.has(s):
		case m.now < s.outUntil:
			out = append(out, s)
		default:
			in = append(in, s)
		}
	}
	if len(in) == 0 {
		return out
	}
	return in
}

func (m *naive) room(l *nlane, ceiling float64) int {
	in := m.members(l)
	known, room := 0, 0
	for _, s := range in {
		if f := s.fill(); f == f {
			known++
			if f < ceiling {
				room++
			}
		}
	}
	if known == 0 {
		return len(in)
	}
	return room
}

// What waits.

func (m *naive) those(keep func(*req) bool) (out []*req) {
	for _, r := range m.waiting {
		if keep(r) {
			out = append(out, r)
		}
	}
	return out
}

func (m *naive) ofBand(b *nband) []*req { return m.those(func(r *req) bool { return r.band == b }) }
func (m *naive) ofFlow(f *nflow) []*req { return m.those(func(r *req) bool { return r.flow == f }) }
func (m *naive) ofShare(s *nshare) []*req {
	return m.those(func(r *req) bool { return r.share == s })
}

func sum(rs []*req) (bytes int64) {
	for _, r := range rs {
		bytes += r.bytes()
	}
	return bytes
}

// Bands, flows and lanes, and how they are forgotten.

func (m *naive) settings(priority int) *admission.Band {
	for i := range m.o.Bands {
		if priority >= m.o.Bands[i].Priority {
			return &m.o.Bands[i]
		}
	}
	return &m.o.Bands[len(m.o.Bands)-1]
}

func (m *naive) bandOf(priority int) *nband {
	find := func() *nband {
		for _, b := range m.bands {
			if b.priority == priority {
				return b
			}
		}
		return nil
	}
	if b := find(); b != nil {
		return b
	}
	if len(m.bands) >= m.o.MaxBands {
		forgot := false
		for i, b := range m.bands {
			if len(m.ofBand(b)) == 0 && b.open == 0 {
				m.bands = slices.Delete(m.bands, i, i+1)
				forgot = true
				break
			}
		}
		if !forgot {
			s := m.settings(priority)
			priority = s.Priority
			if s == &m.o.Bands[len(m.o.Bands)-1] {
				priority = math.MinInt
			}
			if b := find(); b != nil {
				return b
			}
		}
	}
	b := &nband{priority: priority, cfg: m.settings(priority), last: map[*nlane]*nshare{}, refused: map[admission.Reason]uint64{}}
	m.bands = append(m.bands, b)
	slices.SortFunc(m.bands, func(a, b *nband) int {
		if a.priority > b.priority {
			return -1
		}
		return 1
	})
	return b
}

func (m *naive) flowOf(b *nband, tenant string) *nflow {
	if _, known := m.o.Tenants[tenant]; !known && len(m.o.Tenants) > 0 || m.o.Fairness == admission.FirstCome {
		tenant = ""
	}
	for _, f := range b.flows {
		if f.name == tenant {
			f.weight = m.weightOf(tenant)
			return f
		}
	}
	m.forget(b, false)
	if len(b.flows) >= m.o.MaxFlows && tenant != "" && !m.forget(b, true) {
		return m.flowOf(b, "")
	}
	f := &nflow{name: tenant, weight: m.weightOf(tenant), counter: b.virtual - m.o.Credit}
	b.flows = append(b.flows, f)
	return f
}

func (m *naive) weightOf(tenant string) float64 {
	if t, known := m.o.Tenants[tenant]; known && m.o.Fairness != admission.FirstCome {
		return t.Weight
	}
	return 1
}

func (m *naive) forget(b *nband, must bool) (forgot bool) {
	for range 2 {
		if len(b.idle) == 0 {
			break
		}
		f := b.idle[0]
		if !must && f.counter > b.virtual-m.o.Credit {
			break // none has been idle for FlowIdle in these tests
		}
		b.idle = b.idle[1:]
		b.flows = slices.DeleteFunc(b.flows, func(o *nflow) bool { return o == f })
		forgot, must = true, false
	}
	return forgot
}

func (m *naive) rest(b *nband, f *nflow) {
	if len(m.ofFlow(f)) == 0 && f.inFlight == 0 && !slices.Contains(b.idle, f) {
		b.idle = append(b.idle, f)
	}
}

func (m *naive) awake(b *nband, f *nflow) {
	b.idle = slices.DeleteFunc(b.idle, func(o *nflow) bool { return o == f })
}

func (m *naive) laneOf(name string) *nlane {
	if name == "" {
		return m.whole
	}
	i := slices.IndexFunc(m.lanes, func(l *nlane) bool { return l.name == name })
	if i < 0 {
		if len(m.lanes) >= m.o.MaxLanes && !m.forgetLane() {
			return m.whole
		}
		m.lanes = append(m.lanes, &nlane{name: name})
		i = len(m.lanes) - 1
	}
	m.lanes[i].touched = m.now
	return m.lanes[i]
}

func (m *naive) forgetLane() bool {
	var oldest *nlane
	for _, l := range m.lanes {
		if len(m.those(func(r *req) bool { return r.share.lane == l })) == 0 && (oldest == nil || l.touched < oldest.touched) {
			oldest = l
		}
	}
	if oldest == nil {
		return false
	}
	m.lanes = slices.DeleteFunc(m.lanes, func(l *nlane) bool { return l == oldest })
	for _, b := range m.bands {
		for _, f := range b.flows {
			f.shares = slices.DeleteFunc(f.shares, func(s *nshare) bool { return s.lane == oldest })
		}
	}
	return true
}

func (f *nflow) shareOf(l *nlane) *nshare {
	for _, s := range f.shares {
		if s.lane == l {
			return s
		}
	}
	s := &nshare{flow: f, lane: l}
	f.shares = append(f.shares, s)
	return s
}

// Who is next.

func (m *naive) key(f *nflow) float64 {
	if m.o.Fairness == admission.PrefixLocality {
		return math.Floor(f.counter / m.o.Quantum)
	}
	return f.counter
}

// first is the request of a share that its place is by.
func (m *naive) first(s *nshare) *req {
	var first *req
	for _, r := range m.ofShare(s) {
		if first == nil || m.o.Order == admission.EarliestDeadline && r.deadline < first.deadline {
			first = r
		}
	}
	return first
}

// next is the request of a share that goes first.
func (m *naive) next(s *nshare) *req {
	if s.group != "" && s.left > 0 {
		for _, r := range m.ofShare(s) {
			if r.prefix == s.group {
				return r
			}
		}
	}
	return m.first(s)
}

func (m *naive) before(a, b *nshare) bool {
	ka, kb := m.key(a.flow), m.key(b.flow)
	return ka < kb || ka == kb && m.first(a).seq < m.first(b).seq
}

// sharesOf are the shares of a band in which something waits, for one lane or for all.
func (m *naive) sharesOf(b *nband, l *nlane) (out []*nshare) {
	for _, r := range m.waiting {
		if r.band == b && (l == nil || r.share.lane == l) && !slices.Contains(out, r.share) {
			out = append(out, r.share)
		}
	}
	return out
}

func (m *naive) least(b *nband, l *nlane) *nshare {
	var least *nshare
	for _, s := range m.sharesOf(b, l) {
		if least == nil || m.before(s, least) {
			least = s
		}
	}
	return least
}

func (m *naive) allLanes() []*nlane { return append([]*nlane{m.whole}, m.lanes...) }

// turn is the share of a band and a lane that is next, nil if nothing waits there.
func (m *naive) turn(b *nband, l *nlane) *nshare {
	s := m.least(b, l)
	if last := b.last[l]; s != nil && m.o.Fairness == admission.PrefixLocality && last != nil && len(m.ofShare(last)) > 0 && m.key(last.flow) <= m.key(s.flow) {
		return last
	}
	return s
}

func (m *naive) best(b *nband, owed bool) *nshare {
	var best *nshare
	for _, l := range m.allLanes() {
		s := m.turn(b, l)
		if s == nil {
			continue
		}
		ceiling := m.next(s).ceiling()
		if owed {
			ceiling = m.o.Bands[0].ModestCeiling
		}
		if m.mayGrant(l, ceiling) <= len(m.granted) {
			continue
		}
		if best == nil || m.before(s, best) {
			best = s
		}
	}
	return best
}

// passes reports whether there is room for one that comes and nothing before it.
func (m *naive) passes(l *nlane, ceiling float64) bool {
	return m.room(l, ceiling) > 0 && (m.perBooking == 0 || m.mayGrant(l, ceiling) > len(m.granted))
}

// mayGrant is how many may be on their way from a queue to an endpoint at a time.
func (m *naive) mayGrant(l *nlane, ceiling float64) int {
	room := m.room(l, ceiling)
	var known, sum int64
	for _, s := range m.members(l) {
		if f := s.fill(); f == f {
			known++
			sum += int64(min(f, 1) * (1 << 30))
		}
	}
	if room == 0 || known == 0 || m.perBooking == 0 {
		return room
	}
	free := ceiling*float64(known) - float64(sum)/(1<<30)
	return max(room, int(min(free/(2*m.perBooking), 1000)))
}

func (m *naive) choose() (*nband, *nshare) {
	for _, b := range slices.Backward(m.bands) {
		if b.cfg.Floor > 0 && b.credit > 0 {
			if s := m.best(b, true); s != nil && b.credit >= m.next(s).charge {
				return b, s
			}
		}
	}
	for _, b := range m.bands {
		if s := m.best(b, false); s != nil {
			return b, s
		}
	}
	return nil, nil
}

func (m *naive) dispatch() {
	for {
		b, s := m.choose()
		if s == nil {
			return
		}
		r := m.next(s)
		if m.o.Fairness == admission.PrefixLocality {
			if s.group != r.prefix {
				s.group, s.left = r.prefix, m.o.Quantum
			}
			s.left -= r.charge
		}
		m.out(r)
		b.last[s.lane] = s
		m.grant(r, time.Duration(m.now-r.arrived))
		r.toldOf++
	}
}

// out takes a request from those that wait.
func (m *naive) out(r *req) {
	m.waiting = slices.DeleteFunc(m.waiting, func(o *req) bool { return o == r })
	m.length(r.flow)
	if s := r.share; s.group == r.prefix && !slices.ContainsFunc(m.ofShare(s), func(o *req) bool { return o.prefix == r.prefix }) {
		s.group = ""
	}
	r.share = nil
	m.rest(r.band, r.flow)
}

func (m *naive) length(f *nflow) {
	m.lengths++
	f.lenAt = m.lengths
}

func (m *naive) grant(r *req, waited time.Duration) {
	b, f := r.band, r.flow
	r.state, r.letIn = "granted", m.now
	m.granted = append(m.granted, r)
	b.open++
	m.awake(b, f)
	f.inFlight++
	b.virtual = max(b.virtual, f.counter)
	f.counter += r.charge / f.weight
	for _, o := range m.bands {
		switch {
		case o.cfg.Floor == 0:
		case len(m.ofBand(o)) == 0:
			o.credit = 0
		default:
			wait := 0
			for _, p := range m.bands {
				if p.cfg == o.cfg && len(m.ofBand(p)) > 0 {
					wait++
				}
			}
			o.credit += o.cfg.Floor * r.charge / float64(wait)
			if o == b {
				o.credit = max(o.credit-r.charge, 0)
			}
		}
	}
	b.dispatched++
	b.tokens += r.charge
	m.events = append(m.events, event{"dispatched", r.id, "", waited})
}

// lift is for a tenant of which something comes, and reports whether it is modest.
func (m *naive) lift(b *nband, f *nflow) bool {
	only := false
	if len(b.flows) == 1 {
		above, all := 0, 0
		for _, other := range m.bands {
			all += other.open
			if other.priority > b.priority {
				above += other.open
			}
		}
		only = float64(above) <= 0.4*float64(all)
	}
	if len(m.ofFlow(f)) > 0 {
		return only
	}
	base := b.virtual
	if len(m.ofBand(b)) > 0 {
		base = math.Inf(1)
		for _, l := range m.allLanes() {
			if s := m.least(b, l); s != nil {
				base = min(base, s.flow.counter)
			}
		}
	}
	f.counter = max(f.counter, base-m.o.Credit)
	if len(b.flows) == 1 {
		return only
	}
	return f.counter < base
}

// ceiling is how full an endpoint may be to have room for a request.
func (r *req) ceiling() float64 {
	if r.modest {
		return r.band.cfg.ModestCeiling
	}
	return r.band.cfg.Ceiling
}

// What happens.

func (m *naive) arrive(r *req) {
	r.arrived, r.priority = m.now, r.r.Priority
	b := m.bandOf(r.priority)
	r.band = b
	if m.closed {
		m.refuse(r, admission.Closed)
		return
	}
	f := m.flowOf(b, r.r.FairnessID)
	r.flow = f
	m.estimate(r)
	l := m.laneOf(r.lane)
	members := len(m.members(l))
	r.modest = m.lift(b, f)
	if members > 0 && !m.busy(l, b) && m.passes(l, r.ceiling()) {
		m.grant(r, 0)
		return
	}
	wait := b.cfg.MaxWait
	if r.maxWait > 0 {
		wait = min(wait, r.maxWait)
	}
	if members == 0 {
		if m.o.WaitForEndpoints == 0 {
			m.refuse(r, admission.NoEndpoint)
			return
		}
		wait = m.o.WaitForEndpoints
		if r.maxWait > 0 {
			wait = min(wait, r.maxWait)
		}
	} else if b.cfg.MaxRequests < 0 {
		m.refuse(r, admission.Saturated)
		return
	}
	if !m.makeRoom(r) {
		m.refuse(r, m.whyFull(l))
		return
	}
	m.seq++
	r.seq = m.seq
	r.deadline = r.arrived + int64(wait)
	m.enqueue(r, l)
	m.events = append(m.events, event{"queued", r.id, "", 0})
	m.dispatch()
}

func (m *naive) whyFull(l *nlane) admission.Reason {
	if len(m.members(l)) == 0 {
		return admission.NoEndpoint
	}
	return admission.QueueFull
}

func (m *naive) enqueue(r *req, l *nlane) {
	r.modest = m.lift(r.band, r.flow)
	m.awake(r.band, r.flow)
	r.state = "waiting"
	r.share = r.flow.shareOf(l)
	i := slices.IndexFunc(m.waiting, func(o *req) bool { return o.seq > r.seq })
	if i < 0 {
		i = len(m.waiting)
	}
	m.waiting = slices.Insert(m.waiting, i, r)
	m.length(r.flow)
}

// busy reports whether something of the band or a higher one waits in the lane.
func (m *naive) busy(l *nlane, b *nband) bool {
	return len(m.those(func(r *req) bool { return r.share.lane == l && r.band.priority >= b.priority })) > 0
}

func (m *naive) estimate(r *req) {
	out := r.flow.output
	if out == 0 {
		out = m.output
	}
	if out == 0 {
		out = float64(m.o.OutputTokens)
	}
	if r.r.MaxTokens > 0 {
		out = min(out, float64(r.r.MaxTokens))
	}
	r.expected = out
	r.charge = m.o.InputWeight*float64(r.r.Prompt.Tokens) + m.o.OutputWeight*out
}

func (m *naive) makeRoom(r *req) bool {
	b := r.band
	requests, bytes := b.cfg.MaxRequests, b.cfg.MaxBytes
	if requests <= 0 {
		requests = m.o.MaxRequests
	}
	if bytes == 0 {
		bytes = m.o.MaxBytes
	}
	if r.bytes() > min(bytes, m.o.MaxBytes) {
		return false
	}
	full := func(rs []*req, requests int, bytes int64) bool {
		return len(rs) >= requests || sum(rs)+r.bytes() > bytes
	}
	own := func() *req {
		v := m.hog(b)
		if v == nil || len(m.ofFlow(v.flow)) <= len(m.ofFlow(r.flow))+1 {
			return nil
		}
		return v
	}
	for full(m.ofBand(b), requests, bytes) {
		v := own()
		if v == nil {
			return false
		}
		m.refuseWaiting(v, admission.Displaced)
	}
	for full(m.waiting, m.o.MaxRequests, m.o.MaxBytes) {
		var v *req
		if b.cfg.Displace {
			for _, lower := range slices.Backward(m.bands) {
				if lower.priority < b.priority && v == nil {
					v = m.hog(lower)
				}
			}
		}
		if v == nil {
			v = own()
		}
		if v == nil {
			return false
		}
		m.refuseWaiting(v, admission.Displaced)
	}
	return true
}

// fits reports whether makeRoom would have a place to begin with: room, or somebody who
// loses his.
func (m *naive) fits(r *req) bool {
	b := r.band
	requests, bytes := b.cfg.MaxRequests, b.cfg.MaxBytes
	if requests <= 0 {
		requests = m.o.MaxRequests
	}
	if bytes == 0 {
		bytes = m.o.MaxBytes
	}
	own := false
	if v := m.hog(b); v != nil {
		own = len(m.ofFlow(v.flow)) > len(m.ofFlow(r.flow))+1
	}
	lower := b.cfg.Displace && len(m.those(func(o *req) bool { return o.band.priority < b.priority })) > 0
	in := m.ofBand(b)
	switch {
	case r.bytes() > min(bytes, m.o.MaxBytes):
		return false
	case !own && (len(in) >= requests || sum(in)+r.bytes() > bytes):
		return false
	}
	return own || lower || len(m.waiting) < m.o.MaxRequests && sum(m.waiting)+r.bytes() <= m.o.MaxBytes
}

// hog is the last request of the tenant of which the most waits; of several that for which
// this has been so the longest.
func (m *naive) hog(b *nband) *req {
	var hog *nflow
	for _, r := range m.ofBand(b) {
		n, most := len(m.ofFlow(r.flow)), 0
		if hog != nil {
			most = len(m.ofFlow(hog))
		}
		if n > most || n == most && r.flow.lenAt < hog.lenAt {
			hog = r.flow
		}
	}
	if hog == nil {
		return nil
	}
	all := m.ofFlow(hog)
	return all[len(all)-1]
}

func (m *naive) refuse(r *req, why admission.Reason) {
	r.state, r.refused = "ended", why
	if r.flow != nil {
		m.rest(r.band, r.flow)
	}
	r.band.refused[why]++
	m.events = append(m.events, event{"refused", r.id, why, time.Duration(m.now - r.arrived)})
}

func (m *naive) refuseWaiting(r *req, why admission.Reason) {
	m.out(r)
	r.toldOf++
	m.refuse(r, why)
}

func (m *naive) book(r *req, s *server) {
	m.granted = slices.DeleteFunc(m.granted, func(o *req) bool { return o == r })
	r.state, r.at, r.first = "running", s, false
	if f := s.fill(); slices.Contains(m.eps, s) && s.ep.State == types.Ready && f > 0 && !math.IsInf(f, 1) {
		f /= float64(max(s.ep.Load.Prefilling(), 1))
		if m.perBooking == 0 {
			m.perBooking = f
		} else {
			m.perBooking += 0.1 * (f - m.perBooking)
		}
	}
	m.dispatch()
}

func (m *naive) firstToken(r *req) {
	if r.state == "running" && !r.first {
		r.first = true
		m.dispatch()
	}
}

func (m *naive) done(r *req, out types.Outcome) {
	switch r.state {
	case "ended":
		return
	case "waiting":
		m.out(r)
		r.state = "ended"
		r.band.cancelled++
		m.events = append(m.events, event{"cancelled", r.id, "", time.Duration(m.now - r.arrived)})
	default:
		m.granted = slices.DeleteFunc(m.granted, func(o *req) bool { return o == r })
		r.state = "ended"
		b, f := r.band, r.flow
		b.open--
		f.inFlight--
		in, output := float64(r.r.Prompt.Tokens), r.expected
		if v, ok := out.Usage.PromptTokens.Value(); ok {
			in = v
		}
		if v, ok := out.Usage.CompletionTokens.Value(); ok {
			output = v
			average(&f.output, v, 0.05)
			average(&m.output, v, 0.05/5)
		} else if !r.first && (out.Cancelled || out.Failed()) {
			output = 0
			if r.at == nil {
				in = 0
			}
		}
		took := m.o.InputWeight*in + m.o.OutputWeight*output
		b.tokens += took - r.charge
		f.counter += (took - r.charge) / f.weight
		m.rest(b, f)
		m.events = append(m.events, event{"finished", r.id, "", 0})
	}
	m.dispatch()
}

func average(mean *float64, v, rate float64) {
	if *mean == 0 {
		*mean = v
	} else {
		*mean += rate * (v - *mean)
	}
}

func (m *naive) setPriority(r *req, priority int) {
	if r.state != "waiting" || r.priority == priority {
		return
	}
	l := r.share.lane
	m.out(r)
	r.band = m.bandOf(priority)
	r.priority = priority
	r.flow = m.flowOf(r.band, r.r.FairnessID)
	switch {
	case r.band.cfg.MaxRequests < 0 && len(m.members(l)) > 0:
		r.toldOf++
		m.refuse(r, admission.Saturated)
	case !m.makeRoom(r):
		r.toldOf++
		m.refuse(r, m.whyFull(l))
	default:
		r.deadline = min(r.deadline, r.arrived+int64(r.band.cfg.MaxWait))
		m.enqueue(r, l)
	}
	m.dispatch()
}

// advance lets time pass: what is due is refused at its instant.
func (m *naive) advance(to int64) {
	for {
		at := int64(math.MaxInt64)
		for _, r := range m.waiting {
			at = min(at, r.deadline)
		}
		for _, s := range m.eps {
			if s.outUntil > m.now {
				at = min(at, s.outUntil)
			}
		}
		if at > to {
			break
		}
		m.now = max(m.now, at) // of a priority that waits less long it may be over already
		due := m.those(func(r *req) bool { return r.deadline <= m.now })
		slices.SortStableFunc(due, func(a, b *req) int { return cmp.Compare(a.deadline, b.deadline) })
		for _, r := range due {
			why := admission.TimedOut
			if len(m.members(r.share.lane)) == 0 {
				why = admission.NoEndpoint
			}
			m.refuseWaiting(r, why)
		}
		m.dispatch()
	}
	m.now = to
}

// put is a reading of a server, whether it is new or not.
func (m *naive) put(s *server, ep *types.Endpoint) {
	changed := s.ep.State != ep.State
	s.ep = ep
	if !slices.Contains(m.eps, s) {
		m.eps = append(m.eps, s)
		changed = true
	}
	m.dispatch()
	if changed {
		m.endWaits()
	}
}

func (m *naive) remove(s *server) {
	if i := slices.Index(m.eps, s); i >= 0 {
		m.eps = slices.Delete(m.eps, i, i+1)
		m.dispatch()
		m.endWaits()
	}
}

func (m *naive) set(eps []*server) {
	m.eps = slices.Clone(eps)
	m.dispatch()
	m.endWaits()
}

// endWaits refuses what may not wait in the pool as it is.
func (m *naive) endWaits() {
	if m.o.WaitForEndpoints > 0 && len(m.members(m.whole)) == 0 {
		return
	}
	why := map[*req]admission.Reason{}
	gone := m.those(func(r *req) bool {
		members := len(m.members(r.share.lane))
		switch {
		case members == 0 && m.o.WaitForEndpoints == 0:
			why[r] = admission.NoEndpoint
		case members > 0 && r.band.cfg.MaxRequests < 0 && m.room(r.share.lane, r.band.cfg.Ceiling) == 0:
			why[r] = admission.Saturated
		}
		return why[r] != ""
	})
	for _, r := range gone {
		m.refuseWaiting(r, why[r])
	}
}

func (m *naive) configure(o admission.Options) {
	m.o = o
	m.o.Credit = max(o.Credit, 0)
	for _, b := range m.bands {
		b.cfg = m.settings(b.priority)
		for _, f := range b.flows {
			f.weight = m.weightOf(f.name)
		}
		for _, s := range m.sharesOf(b, nil) {
			s.group = ""
		}
	}
	m.dispatch()
}

func (m *naive) close() {
	m.closed = true
	for len(m.waiting) > 0 {
		m.refuseWaiting(m.waiting[0], admission.Closed)
	}
}
