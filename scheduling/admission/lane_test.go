package admission_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

func only(name string, eps ...*types.Endpoint) admission.Arrival {
	return admission.Arrival{Request: request("r", 0, "t"), Candidates: name, Match: func(ep *types.Endpoint) bool {
		for _, e := range eps {
			if e.Load == ep.Load {
				return true
			}
		}
		return false
	}}
}

func TestRoomIsThatOfTheCandidates(t *testing.T) {
	r := newRig(t, 3, admission.Options{WaitForEndpoints: time.Minute})
	r.fill(0, 1)
	r.fill(1, 1)
	first, others := r.offerAs(only("first", r.eps[0])), r.offerAs(only("others", r.eps[1], r.eps[2]))
	if !first.queued || !others.admitted() {
		t.Error("room elsewhere is taken as room, or room as none")
	}
	others.Booked(r.eps[2])
	none := r.offerAs(only("none"))
	equal(t, "candidates", first.Explain().Candidates, 1)
	equal(t, "candidates", none.Explain().Candidates, 0)
	all := r.offer(request("r", 0, "t"))
	require.True(t, all.admitted(), "what may go anywhere waits behind what may not")
	all.Booked(r.eps[2])
	r.fill(0, 0)
	require.True(t, first.admitted(), "not let in though its candidate has room")
	first.Booked(r.eps[0])
	r.check()
}

// TestPreferredCandidatesMayGo: what waits for an endpoint with an adapter goes anywhere
// once none has it.
func TestPreferredCandidatesMayGo(t *testing.T) {
	r := newRig(t, 2, admission.Options{})
	r.fill(0, 1)
	has := true
	a := admission.Arrival{
		Request: request("r", 0, "t"), Candidates: "adapter", Preferred: true,
		Match: func(ep *types.Endpoint) bool { return has && ep.Load == r.eps[0].Load },
	}
	c := r.offerAs(a)
	equal(t, "candidates", c.Explain().Candidates, 1)
	require.True(t, c.queued, "let in to an endpoint that is not preferred")
	has = false
	r.c.Put(r.eps[0])
	require.True(t, c.admitted(), "waits though no endpoint has the adapter any more, and another has room")
	c.Booked(r.eps[1])
	if late := r.offerAs(a); !late.admitted() {
		t.Error("one that comes later waits")
	}
	r.check()
}

// TestMatchIsAskedAgainOfEachReading: labels and models of an endpoint may change.
func TestMatchIsAskedAgainOfEachReading(t *testing.T) {
	r := newRig(t, 2, admission.Options{WaitForEndpoints: time.Minute})
	c := r.offerAs(admission.Arrival{Request: request("r", 0, "t"), Candidates: "gpu", Match: func(ep *types.Endpoint) bool { return ep.Labels["gpu"] != "" }})
	require.True(t, c.queued, "let in to an endpoint that does not match")
	ep := *r.eps[1]
	ep.Labels = map[string]string{"gpu": "a"}
	r.c.Put(&ep)
	require.True(t, c.admitted(), "waits though an endpoint matches now")
	r.check()
}

// TestMatchWithoutANameIsOfTheWholePool: what has no name cannot be told from other such,
// and must not restrict those.
func TestMatchWithoutANameIsOfTheWholePool(t *testing.T) {
	targets := &targetDetector{room: 0}
	r := newRig(t, 2, admission.Options{Detector: targets})
	arrival := func(match bool) admission.Arrival {
		req := request("r", 0, "t")
		req.SLO.TTFT = time.Second
		a := admission.Arrival{Request: req}
		if match {
			a.Match = only("", r.eps[0]).Match
		}
		return a
	}
	equal(t, "candidates", r.c.Explain(arrival(true)).Candidates, 2)
	equal(t, "candidates", r.c.Explain(arrival(false)).Candidates, 2)
}

// targetDetector has room for targets of at least that.
type targetDetector struct{ room time.Duration }

func (d *targetDetector) UsesTarget() bool { return true }
func (d *targetDetector) Fill(q admission.Query, _ *types.Endpoint) float64 {
	if q.TTFT != 0 && q.TTFT < d.room {
		return 1
	}
	return 0
}

func TestTargetsHaveRoomOfTheirOwn(t *testing.T) {
	d := &targetDetector{room: 500 * time.Millisecond}
	r := newRig(t, 1, admission.Options{Detector: d})
	offer := func(ttft time.Duration) *call {
		req := request("r", 0, "t")
		req.SLO.TTFT = ttft
		return r.offer(req)
	}
	for _, tt := range []struct {
		ttft time.Duration
		in   bool
	}{{0, true}, {time.Second, true}, {600 * time.Millisecond, true}, {511 * time.Millisecond, false}, {100 * time.Millisecond, false}, {1, false}} {
		c := offer(tt.ttft)
		require.Equal(t, tt.in, c.admitted(), "a target of %v: let in", tt.ttft)
		if c.admitted() {
			r.run(c)
		}
	}
	equal(t, "waiting", r.c.Stats().Queued, 3)
	d.room = 0
	r.let = nil
	r.c.Put(r.eps[0])
	for len(r.let) > 0 {
		in := r.let[0]
		r.let = r.let[1:]
		in.Booked(r.eps[0])
		in.Done(types.Outcome{})
	}
	equal(t, "waiting", r.c.Stats().Queued, 0)
	r.check()
}

func TestWhereLanesAreFewTheWholePoolCounts(t *testing.T) {
	r := newRig(t, 2, admission.Options{Tuning: admission.Tuning{MaxLanes: 1}})
	r.fill(0, 1)
	r.fill(1, 1)
	a := r.offerAs(only("first", r.eps[0]))
	b := r.offerAs(only("second", r.eps[1]))
	equal(t, "candidates of the first", a.Explain().Candidates, 1)
	equal(t, "candidates of one more", b.Explain().Candidates, 2)
	a.Done(types.Outcome{})
	c := r.offerAs(only("third", r.eps[1]))
	equal(t, "candidates once nothing waits in the first", c.Explain().Candidates, 1)
	r.check()
}

// learner notes what it is told.
type learner struct{ log []string }

func (l *learner) Fill(admission.Query, *types.Endpoint) float64 { return 0 }
func (l *learner) FirstToken(ep *types.Endpoint, tokens int64, took time.Duration) {
	l.log = append(l.log, fmt.Sprintf("%s: first token of %d after %v", ep.ID, tokens, took))
}
func (l *learner) Reading(ep *types.Endpoint, since admission.Since) {
	l.log = append(l.log, fmt.Sprintf("%s: %d have ended", ep.ID, since.Finished))
}
func (l *learner) Forget(ep *types.Endpoint) { l.log = append(l.log, ep.ID+": gone") }

func TestDetectorsLearn(t *testing.T) {
	l := new(learner)
	r := newRig(t, 2, admission.Options{Detector: admission.Max{admission.Concurrency{}, l}})
	r.eps[0].Load.Book(types.Booking{Requests: 1, PrefillTokens: 700})
	c := r.offer(request("r", 0, "t"))
	c.Booked(r.eps[0])
	r.clock.pass(time.Second)
	c.FirstToken()
	c.Done(types.Outcome{})
	r.run(r.offer(request("r", 0, "t")))
	reading := func(at time.Duration) {
		ep := *r.eps[0]
		ep.Metrics.UpdatedAt = r.clock.now.Add(at)
		r.c.Put(&ep)
	}
	reading(time.Second)
	reading(time.Second) // the same once more
	reading(0)           // an older one
	reading(2 * time.Second)
	r.c.Remove(r.eps[1])
	r.c.SetEndpoints(nil)
	want := []string{"e0: first token of 700 after 1s", "e0: 2 have ended", "e0: 0 have ended", "e1: gone", "e0: gone"}
	equal(t, "told", fmt.Sprintf("%q", l.log), fmt.Sprintf("%q", want))
	r.check()
}

// TestTrapReadingsBecomeTooOld: a server that reported that it was full, and then nothing
// any more, is not full for ever, though nothing happens there.
func TestTrapReadingsBecomeTooOld(t *testing.T) {
	const ttl = 5 * time.Second
	r := newRig(t, 2, admission.Options{Detector: admission.Utilization{Queue: 4, KVUsage: 1}, Tuning: admission.Tuning{MetricsTTL: ttl}})
	full := func(i int) {
		r.c.Put(r.eps[i].WithMetrics(types.Metrics{Waiting: types.Known(9), UpdatedAt: r.clock.now}))
	}
	full(0)
	r.clock.pass(time.Second)
	full(1)
	c := r.offer(request("waits", 0, ""))
	r.clock.pass(ttl - time.Second)
	require.True(t, c.Waiting(), "let in by a reading that is not too old")
	r.clock.pass(2 * ttl)
	require.True(t, c.admitted(), "waits for a server that reports nothing any more")
	c.Booked(r.eps[0])
	c.Done(types.Outcome{})

	full(0)
	full(1)
	r.clock.pass(4 * ttl)
	if c := r.offer(request("comes later", -100, "")); !c.admitted() {
		t.Errorf("refused because of servers that report nothing any more: %v", c.err)
	}
	r.check()
}

// TestTrapReadingsCountByTheirTime: an old reading that comes late changes nothing.
func TestTrapReadingsCountByTheirTime(t *testing.T) {
	r := newRig(t, 1, admission.Options{Detector: admission.Utilization{Queue: 4, KVUsage: 1}})
	reading := func(at time.Duration, waiting float64) {
		ep := r.eps[0].WithMetrics(types.Metrics{Waiting: types.Known(waiting), UpdatedAt: r.clock.now.Add(at)})
		r.c.Put(ep)
	}
	reading(2*time.Second, 4)
	c := r.offer(request("r", 0, "t"))
	reading(time.Second, 0)
	if !c.queued || !c.Waiting() {
		t.Error("let in by an old reading")
	}
	reading(3*time.Second, 0)
	require.False(t, c.Waiting(), "not let in by a new one")
	r.check()
}

// TestLearnedBacklog: what a backlog may be follows how fast prompts are worked off, within
// its bounds.
func TestLearnedBacklog(t *testing.T) {
	ep := types.NewEndpoint("e", "10.0.0.1:8000")
	ep.Load.Book(types.Booking{Requests: 1, PrefillTokens: 4000})
	fill := func(b *admission.LearnedBacklog) float64 { return b.Fill(admission.Query{}, ep) }
	d := &admission.LearnedBacklog{Time: time.Second, Least: 2000, Most: 40_000}
	equal(t, "before anything is known", fill(d), 0.1)
	for range 300 {
		d.FirstToken(ep, 8000, time.Second)
		d.FirstToken(ep, 100, time.Hour) // too few to learn from
	}
	if f := fill(d); f < 0.45 || f > 0.55 {
		t.Errorf("at 8,000 tokens a second: %v full, want about 0.5", f)
	}
	for range 300 {
		d.FirstToken(ep, 2000, 100*time.Second)
	}
	equal(t, "at hardly any a second", fill(d), 2.0)
	for range 1000 {
		d.FirstToken(ep, 1_000_000, time.Second)
	}
	equal(t, "at very many", fill(d), 0.1)
}
