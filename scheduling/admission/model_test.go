package admission_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

var modelSeeds = flag.Int("model.seeds", 20, "how many random histories TestModel tries for each order")

// TestModel does random things to a Controller and to a naive one, and compares what they
// do, and what they say of themselves, after each.
func TestModel(t *testing.T) {
	oneGoroutine(t)
	seeds, steps := *modelSeeds, 350
	if testing.Short() {
		seeds = min(seeds, 8)
	}
	for _, fairness := range []admission.Fairness{admission.VirtualTokens, admission.PrefixLocality, admission.FirstCome} {
		for _, order := range []admission.Order{admission.FIFO, admission.EarliestDeadline} {
			t.Run(fmt.Sprintf("fairness=%v/order=%v", fairness, order), func(t *testing.T) {
				all := tally{}
				for seed := range seeds {
					w := newWorld(t, uint64(seed), fairness, order)
					for range steps * (1 + seed%10/9*4) { // now and then a long one
						w.do()
					}
					w.end()
					all.add(w.tally)
				}
				if seeds >= 20 {
					all.check(t)
				}
			})
		}
	}
}

// tally is how often things happened: a test in which they never do says nothing.
type tally map[string]int

func (a tally) add(b tally) {
	for k, n := range b {
		a[k] += n
	}
}

func (a tally) check(t *testing.T) {
	t.Helper()
	for _, k := range []string{
		"taken out", "queued", "dispatched", "dispatched later", "cancelled", "finished",
		string(admission.Saturated), string(admission.QueueFull), string(admission.Displaced),
		string(admission.TimedOut), string(admission.NoEndpoint), string(admission.Closed),
	} {
		if a[k] < 3 {
			t.Errorf("%q happened %d times in all: the test is no test of it", k, a[k])
		}
	}
}

// world is a Controller and a naive one to which the same is done.
type world struct {
	t       *testing.T
	seed    uint64
	step    int
	what    string // what was done last
	rng     *rand.Rand
	clock   *fakeClock
	c       *admission.Controller
	m       *naive
	o       admission.Options
	servers []*server
	byLoad  map[*types.Load]*server
	reqs    map[*types.Request]*req
	all     []*req
	live    []*req // waiting, granted or running
	events  []event
	tally   tally
	loose   bool // the options change on the way
}

func newWorld(t *testing.T, seed uint64, fairness admission.Fairness, order admission.Order) *world {
	t.Helper()
	w := &world{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, uint64(fairness)<<8|uint64(order))), clock: newClock(), tally: tally{},
		byLoad: map[*types.Load]*server{}, reqs: map[*types.Request]*req{},
	}
	w.loose = seed%4 == 3
	w.o = w.options(fairness, order)
	c, err := admission.New(w.o)
	require.NoError(t, err, "seed %d", seed)
	w.c, w.m = c, newNaive(w.o, w.clock.now.UnixNano())
	for i := range 6 {
		s := &server{tag: string("abc"[i%3]), places: 1 + w.rng.IntN(5)}
		s.ep = types.NewEndpoint(fmt.Sprintf("%s-%d", s.tag, i), "10.0.0.1:8000")
		w.servers = append(w.servers, s)
		w.byLoad[s.ep.Load] = s
	}
	w.setEndpoints()
	w.compare()
	return w
}

func pick[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

func (w *world) options(fairness admission.Fairness, order admission.Order) admission.Options {
	rng := w.rng
	o := admission.Options{
		Detector: admission.DetectorFunc(func(_ admission.Query, ep *types.Endpoint) float64 { return w.byLoad[ep.Load].fill() }),
		Bands: []admission.Band{
			{Name: "critical", Priority: 100, Ceiling: pick(rng, 1.0, 1.5), ModestCeiling: 1.5, MaxWait: time.Minute, Displace: rng.IntN(4) > 0},
			{Name: "standard", Priority: 0, Ceiling: pick(rng, 0.7, 1.0), ModestCeiling: pick(rng, 1.0, 1.2), MaxWait: 20 * time.Second, Floor: pick(rng, 0, 0, 0.1, 0.4)},
			{Name: "low", Priority: pick(rng, -50, math.MinInt), Ceiling: pick(rng, 0.5, 0.7), ModestCeiling: pick(rng, 0.7, 0.9), MaxWait: 5 * time.Second, MaxRequests: pick(rng, -1, -1, 0)},
		},
		MaxRequests:      pick(rng, 4, 6, 20),
		Fairness:         fairness,
		WaitForEndpoints: pick(rng, 0, 3*time.Second),
		Hooks: admission.Hooks{
			Queued: func(t *admission.Ticket) { w.hear("queued", t, "", 0) },
			Dispatched: func(t *admission.Ticket, waited time.Duration) {
				w.hear("dispatched", t, "", waited)
				if waited > 0 {
					w.tally["dispatched later"]++
				}
			},
			Refused: func(t *admission.Ticket, r *admission.Refusal) {
				w.hear("refused", t, r.Reason, r.Waited)
				w.tally[string(r.Reason)]++
				if r.Detail == "" || r.Band == "" {
					w.failf("%#v says too little", r)
				}
				again := !r.Reason.Unavailable() || r.Reason == admission.NoEndpoint && w.m.o.WaitForEndpoints > 0
				if !again && r.RetryAfter != 0 || again && (r.RetryAfter < time.Second || r.RetryAfter > time.Minute) {
					w.failf("refused for %s, to come again after %v", r.Reason, r.RetryAfter)
				}
			},
			Cancelled: func(t *admission.Ticket, waited time.Duration) { w.hear("cancelled", t, "", waited) },
			Finished:  func(t *admission.Ticket, _ types.Outcome) { w.hear("finished", t, "", 0) },
		},
		Tuning: admission.Tuning{MaxBytes: pick[int64](rng, 100, 200, 2000), MaxBands: pick(rng, 3, 5, 20), MaxLanes: pick(rng, 1, 2, 10), MaxFlows: pick(rng, 2, 3, 1000), Order: order, InputWeight: 1, OutputWeight: 2, Credit: pick(rng, -1.0, 300, 2000), Quantum: pick(rng, 200.0, 2000), FlowIdle: 1000 * time.Hour, OutputTokens: 50, MaxRetryAfter: time.Minute, Clock: w.clock},
	}
	if w.loose { // who loses its place after a change of options is another question
		o.MaxRequests, o.MaxBytes = 1000, 1<<20
	} else if rng.IntN(2) == 0 {
		o.Bands[1].MaxRequests, o.Bands[1].MaxBytes = pick(rng, 0, 2, 4), pick[int64](rng, 0, 60)
	}
	if rng.IntN(2) == 0 {
		o.Tenants = map[string]admission.Tenant{"a": {Weight: 1}, "b": {Weight: 4}, "c": {Weight: 0.5}}
	}
	return o
}

func (w *world) hear(kind string, t *admission.Ticket, why admission.Reason, waited time.Duration) {
	w.events = append(w.events, event{kind, w.reqs[t.Request()].id, why, waited})
	w.tally[kind]++
}

func (w *world) failf(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("seed %d, step %d, %s: %s", w.seed, w.step, w.what, fmt.Sprintf(format, args...))
}

// some returns one of the requests under way that are in a state, or nil.
func (w *world) some(states ...string) *req {
	var in []*req
	for _, r := range w.live {
		if slices.Contains(states, r.state) {
			in = append(in, r)
		}
	}
	if len(in) == 0 {
		return nil
	}
	return in[w.rng.IntN(len(in))]
}

// do does one thing to both, and compares.
func (w *world) do() {
	w.step++
	w.pass(time.Duration(1 + w.rng.IntN(2_000_000))) // no two things happen at one instant
	switch n := w.rng.IntN(100); {
	case n < 34:
		w.arrive()
	case n < 42:
		w.giveUp(w.some("waiting"))
	case n < 46:
		w.setPriority(w.some("waiting", "running"))
	case n < 64:
		w.book(w.some("granted"))
	case n < 66:
		w.book(w.some("running")) // it went on to another endpoint
	case n < 70:
		w.firstToken(w.some("running"))
	case n < 84:
		w.finish(w.some("running"))
	case n < 85:
		w.finish(w.some("granted"))
	case n < 86:
		if len(w.all) > 0 {
			w.finish(w.all[w.rng.IntN(len(w.all))]) // perhaps for a second time
		}
	case n < 91:
		w.reading()
	case n < 92:
		w.takeOut()
	case n < 93:
		w.addOrRemove()
	case n < 94:
		w.setEndpoints()
	case n < 96:
		w.wait(time.Duration(w.rng.Int64N(int64(3 * time.Second))))
	case n < 97:
		w.wait(time.Duration(w.rng.Int64N(int64(40 * time.Second))))
	case n < 98:
		if w.loose {
			w.configure()
		}
	default:
		w.explain()
	}
	w.live = slices.DeleteFunc(w.live, func(r *req) bool { return r.state == "ended" })
	w.compare()
}

func (w *world) newReq() *req {
	rng := w.rng
	prefix := fmt.Sprint(rng.IntN(3))
	r := &req{
		id: len(w.all), lane: pick(rng, "", "", "a", "b", "ab", "bc"), prefix: "p" + prefix,
		maxWait: pick(rng, 0, 0, 2*time.Second, time.Hour),
		r: &types.Request{
			Priority:   pick(rng, 100, 0, 0, 0, 0, 1, 5, -1, -50, -51, -100, 99, 101, math.MaxInt, math.MinInt),
			FairnessID: pick(rng, "a", "a", "a", "b", "c", "d", "e", ""),
			MaxTokens:  pick(rng, 0, 0, 10, 1000),
			Body:       []byte(prefix + strings.Repeat("x", rng.IntN(40))),
			Prompt:     types.Prompt{Tokens: rng.IntN(500), Spans: []types.Span{{Start: 0, End: 1}}},
		},
	}
	w.all = append(w.all, r)
	w.reqs[r.r] = r
	return r
}

func (w *world) arrival(r *req) admission.Arrival {
	a := admission.Arrival{Request: r.r, MaxWait: r.maxWait, Candidates: r.lane}
	if r.lane != "" {
		a.Match = func(ep *types.Endpoint) bool { return matches(r.lane, w.byLoad[ep.Load]) }
	}
	return a
}

func (w *world) arrive() {
	r := w.newReq()
	w.what = fmt.Sprintf("request %d arrives", r.id)
	ticket, queued, err := w.c.Offer(w.arrival(r), func(err error) { r.told++; r.toldErr = err })
	w.m.arrive(r)
	if err != nil {
		var refusal *admission.Refusal
		if !errors.As(err, &refusal) || refusal.Reason != r.refused || ticket != nil || queued {
			w.failf("%v, want %q", err, r.refused)
		}
		if refusal.Tenant != r.r.FairnessID || refusal.Priority != r.r.Priority {
			w.failf("%#v is of %q, %d", refusal, r.r.FairnessID, r.r.Priority)
		}
		return
	}
	if r.refused != "" {
		w.failf("let in, want %q", r.refused)
	}
	if queued != (r.seq != 0) {
		w.failf("queued is %v", queued)
	}
	r.ticket = ticket
	w.live = append(w.live, r)
}

func (w *world) giveUp(r *req) {
	if r == nil {
		return
	}
	w.what = fmt.Sprintf("request %d is given up", r.id)
	r.ticket.Done(types.Outcome{Cancelled: true})
	w.m.done(r, types.Outcome{Cancelled: true})
}

func (w *world) setPriority(r *req) {
	if r == nil {
		return
	}
	p := pick(w.rng, 100, 101, 1, 0, -1, -50, -1000)
	w.what = fmt.Sprintf("request %d gets priority %d", r.id, p)
	r.ticket.SetPriority(p)
	w.m.setPriority(r, p)
}

func (w *world) book(r *req) {
	if r == nil {
		return
	}
	s := w.servers[w.rng.IntN(len(w.servers))]
	w.what = fmt.Sprintf("request %d is booked at %s", r.id, s.ep.ID)
	if r.at != nil {
		r.at.booked--
	}
	s.booked++
	r.ticket.Booked(s.ep)
	w.m.book(r, s)
}

func (w *world) firstToken(r *req) {
	if r == nil {
		return
	}
	w.what = fmt.Sprintf("request %d has its first token", r.id)
	r.ticket.FirstToken()
	w.m.firstToken(r)
}

func (w *world) finish(r *req) {
	if r == nil || r.ticket == nil {
		return
	}
	w.what = fmt.Sprintf("request %d (%s) ends", r.id, r.state)
	var out types.Outcome
	switch w.rng.IntN(5) {
	case 0:
		out.Cancelled = true
	case 1:
		out.Status = 500
	case 2:
		out.Usage = types.Usage{CompletionTokens: types.Known(float64(w.rng.IntN(300)))}
	default:
		out.Usage = types.Usage{PromptTokens: types.Known(float64(r.r.Prompt.Tokens + w.rng.IntN(9))), CompletionTokens: types.Known(float64(w.rng.IntN(100)))}
	}
	if r.at != nil && r.state == "running" {
		r.at.booked--
	}
	r.ticket.Done(out)
	w.m.done(r, out)
	if w.rng.IntN(4) == 0 { // what comes too late does nothing
		r.ticket.Done(out)
		r.ticket.Booked(w.servers[0].ep)
		r.ticket.FirstToken()
		r.ticket.SetPriority(7)
		r.ticket.OnRevoke(func(*admission.Refusal) { w.failf("a request that has ended is revoked") })
	}
}

// reading is something new of a server: others' requests, its state.
func (w *world) reading() {
	s := w.servers[w.rng.IntN(len(w.servers))]
	w.what = fmt.Sprintf("a reading of %s", s.ep.ID)
	s.others = w.rng.IntN(4)
	s.unknown = w.rng.IntN(8) == 0
	ep := *s.ep
	if w.rng.IntN(6) == 0 {
		ep.State = pick(w.rng, types.Ready, types.Ready, types.Draining)
	}
	if w.rng.IntN(2) == 0 {
		w.c.Update(&ep)
		if !slices.Contains(w.m.eps, s) {
			s.ep = &ep
			return
		}
	} else {
		w.c.Put(&ep)
	}
	w.m.put(s, &ep)
}

// takeOut takes a server out or in. Whoever does so has something happen there.
func (w *world) takeOut() {
	s := w.servers[w.rng.IntN(len(w.servers))]
	var until time.Time
	s.outUntil = 0
	if d := pick(w.rng, 0, time.Millisecond, time.Second, 30*time.Second); d > 0 {
		until = w.clock.now.Add(d)
		s.outUntil = until.UnixNano()
	}
	w.what = fmt.Sprintf("%s is taken out until %v", s.ep.ID, until)
	s.ep.Load.TakeOut(until)
	w.tally["taken out"]++
	w.c.Update(s.ep)
	if slices.Contains(w.m.eps, s) {
		w.m.put(s, s.ep)
	}
}

func (w *world) addOrRemove() {
	s := w.servers[w.rng.IntN(len(w.servers))]
	if slices.Contains(w.m.eps, s) {
		w.what = fmt.Sprintf("%s goes", s.ep.ID)
		w.c.Remove(s.ep)
		w.m.remove(s)
		return
	}
	w.what = fmt.Sprintf("%s comes", s.ep.ID)
	w.c.Put(s.ep)
	w.m.put(s, s.ep)
}

func (w *world) setEndpoints() {
	var eps []*types.Endpoint
	var servers []*server
	none := w.rng.IntN(3) == 0
	for _, s := range w.servers {
		if !none && w.rng.IntN(2) == 0 {
			eps, servers = append(eps, s.ep), append(servers, s)
		}
	}
	w.what = fmt.Sprintf("%d endpoints are set", len(eps))
	w.c.SetEndpoints(eps)
	w.m.set(servers)
}

// wait lets time pass, and books what was let in meanwhile: a Controller does not wait for
// ever until it is.
func (w *world) wait(d time.Duration) {
	const often = admission.DefaultGrantTTL / 2
	for ; ; d -= often {
		for r := w.some("granted"); r != nil; r = w.some("granted") {
			w.book(r)
		}
		if d <= 0 {
			return
		}
		w.what = fmt.Sprintf("%v pass", d)
		w.pass(min(d, often))
	}
}

func (w *world) pass(d time.Duration) {
	w.clock.pass(d)
	w.m.advance(w.clock.now.UnixNano())
}

func (w *world) configure() {
	w.what = "the options change"
	o := w.options(pick(w.rng, admission.VirtualTokens, admission.PrefixLocality, admission.FirstCome), pick(w.rng, admission.FIFO, admission.EarliestDeadline))
	o.MaxLanes = w.o.MaxLanes // of the others there may be more than the new bound
	if err := w.c.Configure(o); err != nil {
		w.failf("%v", err)
	}
	w.m.configure(o)
}

func (w *world) explain() {
	if r := w.some("waiting"); r != nil {
		w.what = fmt.Sprintf("request %d is explained", r.id)
		got := r.ticket.Explain()
		higher := len(w.m.those(func(o *req) bool { return o.band.priority > r.band.priority }))
		if got.Verdict != "queued" || got.Higher != higher || got.Tenant != r.flow.name || got.Counter != r.flow.counter {
			w.failf("%v, want %d higher, tenant %q, counter %v", got, higher, r.flow.name, r.flow.counter)
		}
		if got.Candidates != len(w.m.members(r.share.lane)) || got.Room != w.m.room(r.share.lane, r.ceiling()) || got.Left != time.Duration(r.deadline-w.m.now) {
			w.failf("%v of %v", got, r)
		}
	}
	r := w.newReq()
	w.what = fmt.Sprintf("what would become of request %d is explained", r.id)
	got := w.c.Explain(w.arrival(r))
	m := w.m
	r.band = m.bandOf(r.r.Priority)
	r.flow = m.flowOf(r.band, r.r.FairnessID)
	l := m.laneOf(r.lane)
	counter := r.flow.counter
	r.modest = m.lift(r.band, r.flow)
	r.flow.counter = counter
	m.rest(r.band, r.flow)
	want := "queued"
	switch members := len(m.members(l)); {
	case members > 0 && !m.busy(l, r.band) && m.passes(l, r.ceiling()):
		want = "admitted"
	case members == 0 && m.o.WaitForEndpoints == 0, members > 0 && r.band.cfg.MaxRequests < 0:
		want = "refused"
	case !m.fits(r):
		want = "refused"
	}
	if got.Verdict != want {
		w.failf("%v, want %s", got, want)
	}
	r.state = "ended"
}

// sorted puts refusals that came in a row into an order: which of them comes first is not
// said.
func sorted(events []event) []event {
	events = slices.Clone(events)
	for i := 0; i < len(events); {
		j := i
		for j < len(events) && events[j].kind == "refused" {
			j++
		}
		slices.SortFunc(events[i:j], func(a, b event) int { return a.id - b.id })
		i = max(j, i+1)
	}
	return events
}

func (w *world) compare() {
	w.t.Helper()
	if got, want := sorted(w.events), sorted(w.m.events); !slices.Equal(got, want) {
		w.failf("\ngot  %v\nwant %v", got, want)
	}
	w.events, w.m.events = w.events[:0], w.m.events[:0]
	for _, r := range append(slices.Clone(w.live), w.all[max(len(w.all)-3, 0):]...) {
		if r.told != r.toldOf {
			w.failf("request %d was told %d times, want %d", r.id, r.told, r.toldOf)
		}
		if r.toldOf == 1 && (r.toldErr != nil) != (r.refused != "") {
			w.failf("request %d was told %v, want %q", r.id, r.toldErr, r.refused)
		}
		if r.ticket != nil && r.ticket.Waiting() != (r.state == "waiting") {
			w.failf("request %d waits: %v, and is %s", r.id, r.ticket.Waiting(), r.state)
		}
	}
	w.compareStats()
	if w.step%4 == 0 {
		if err := w.c.CheckInvariants(true); err != nil {
			w.failf("now or up to three steps ago: %v", err)
		}
	}
	// Nobody waits who could go.
	if len(w.m.granted) > 0 {
		return
	}
	for _, b := range w.m.bands {
		for _, l := range w.m.allLanes() {
			if s := w.m.turn(b, l); s != nil {
				r := w.m.next(s)
				if n := w.m.room(l, r.ceiling()); n > 0 {
					w.failf("request %d waits, it is its turn, and there is room for it at %d endpoints", r.id, n)
				}
			}
		}
	}
}

func (w *world) compareStats() {
	w.t.Helper()
	got, m := w.c.Stats(), w.m
	oldest := func(rs []*req) (d time.Duration) {
		for _, r := range rs {
			d = max(d, time.Duration(m.now-r.arrived))
		}
		return d
	}
	if got.Queued != len(m.waiting) || got.Bytes != sum(m.waiting) || got.Endpoints != len(m.members(m.whole)) || got.Oldest != oldest(m.waiting) {
		w.failf("stats %+v, want %d queued, %d bytes, %d endpoints, oldest %v", got, len(m.waiting), sum(m.waiting), len(m.members(m.whole)), oldest(m.waiting))
	}
	if len(got.Bands) != len(m.bands) {
		w.failf("%d bands, want %d", len(got.Bands), len(m.bands))
	}
	for i, b := range m.bands {
		g := got.Bands[i]
		waiting := m.ofBand(b)
		want := admission.BandStats{
			Name: b.cfg.Name, Priority: b.priority, Ceiling: b.cfg.Ceiling, Room: m.room(m.whole, b.cfg.Ceiling),
			Queued: len(waiting), Bytes: sum(waiting), Oldest: oldest(waiting), Running: b.open, Tenants: len(b.flows),
			BandCounts: admission.BandCounts{Dispatched: b.dispatched, Cancelled: b.cancelled},
		}
		counters := map[string]float64{}
		for _, f := range b.flows {
			counters[f.name] = f.counter
		}
		if got := w.c.Counters(b.priority); !maps.Equal(got, counters) {
			w.failf("priority %d: counters %v, want %v", b.priority, got, counters)
		}
		refused, tokens := g.Refused, g.Tokens
		g.Refused, g.Tokens = nil, 0
		if !reflect.DeepEqual(g, want) || !maps.Equal(refused, b.refused) || math.Abs(tokens-b.tokens) > 1e-6*(1+b.tokens) {
			w.failf("band\n%+v %v %v, want\n%+v %v %v", g, refused, tokens, want, b.refused, b.tokens)
		}
	}
}

// end lets everything come to its end, and looks that nothing is left.
func (w *world) end() {
	w.step++
	if w.seed%2 == 0 {
		w.what = "close"
		w.c.Close()
		w.m.close()
		w.compare()
		w.arrive()
		w.compare()
	} else {
		w.wait(2 * time.Minute)
		w.compare()
	}
	for _, r := range slices.Clone(w.live) {
		for r.state == "granted" || r.state == "running" {
			w.finish(r)
			w.compare()
		}
	}
	if s := w.c.Stats(); s.Queued != 0 || s.Bytes != 0 {
		w.failf("at the end %d wait, %d bytes", s.Queued, s.Bytes)
	}
	for _, b := range w.c.Stats().Bands {
		if b.Queued != 0 || b.Bytes != 0 || b.Running != 0 {
			w.failf("at the end: %+v", b)
		}
	}
	for _, r := range w.all {
		if r.told != r.toldOf || r.told > 1 || r.state != "ended" {
			w.failf("request %d is %s and was told %d times, want %d", r.id, r.state, r.told, r.toldOf)
		}
	}
	for _, s := range w.servers {
		if s.booked != 0 {
			w.failf("%d are booked at %s", s.booked, s.ep.ID)
		}
	}
}
