package admission_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

func TestTicketCallsThatComeTooLateDoNothing(t *testing.T) {
	r := newRig(t, 2, admission.Options{})
	c := r.offer(request("r", 0, "t"))
	c.FirstToken() // it is not booked yet
	c.Booked(r.eps[0])
	c.FirstToken()
	c.FirstToken()
	c.Done(types.Outcome{Usage: types.Usage{CompletionTokens: types.Known(7)}})
	before := r.c.Stats()
	r.heard()
	c.Done(types.Outcome{Usage: types.Usage{CompletionTokens: types.Known(1000)}})
	c.Booked(r.eps[1])
	c.FirstToken()
	c.SetPriority(5)
	c.OnRevoke(func(*admission.Refusal) { t.Error("revoked") })
	after := r.c.Stats()
	equal(t, "stats", fmt.Sprint(after), fmt.Sprint(before))
	equal(t, "running", after.Bands[0].Running, 0)
	equal(t, "tokens", after.Bands[0].Tokens, 100+2*7)
	equal(t, "verdict", c.Explain().Verdict, "admitted")
	if log := r.heard(); len(log) != 0 {
		t.Errorf("hooks heard %v", log)
	}
	if got := c.Candidates(nil, r.eps); !slices.Equal(got, r.eps) {
		t.Errorf("candidates %v", got)
	}
	r.check()

	r.fill(0, 1)
	r.fill(1, 1)
	w := r.offer(request("w", 0, "t"))
	w.Booked(r.eps[0]) // it waits
	w.FirstToken()
	w.OnRevoke(func(*admission.Refusal) {})
	require.True(t, w.Waiting(), "what waits does not any more")
	w.Done(types.Outcome{})
	w.Done(types.Outcome{})
	equal(t, "told", w.told, 0)
	equal(t, "cancelled", r.c.Stats().Bands[0].Cancelled, 1)
	r.check()
}

func TestChargeIsPutRight(t *testing.T) {
	known := types.Known
	for _, tt := range []struct {
		name   string
		booked bool
		first  bool
		out    types.Outcome
		want   float64 // of 100 of the prompt and twice the output, expected to be 50
	}{
		{"nothing is reported", true, true, types.Outcome{}, 200},
		{"the output is", true, true, types.Outcome{Usage: types.Usage{CompletionTokens: known(10)}}, 120},
		{"both are", true, true, types.Outcome{Usage: types.Usage{PromptTokens: known(90), CompletionTokens: known(0)}}, 90},
		{"it failed after the first token", true, true, types.Outcome{Status: 500}, 200},
		{"it failed before", true, false, types.Outcome{Status: 500}, 100},
		{"its client went away before the first token", true, false, types.Outcome{Cancelled: true}, 100},
		{"it never got to a server", false, false, types.Outcome{Cancelled: true}, 0},
		{"it never did, and nobody says why", false, false, types.Outcome{}, 200},
		{"nonsense is reported", true, true, types.Outcome{Usage: types.Usage{PromptTokens: known(-5), CompletionTokens: known(-5)}}, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, 1, admission.Options{Tuning: admission.Tuning{OutputTokens: 50}})
			c := r.offer(request("r", 0, "t"))
			if tt.booked {
				c.Booked(r.eps[0])
			}
			if tt.first {
				c.FirstToken()
			}
			c.Done(tt.out)
			equal(t, "tokens", r.c.Stats().Bands[0].Tokens, tt.want)
			equal(t, "charge", c.Charge(), tt.want)
		})
	}
}

func TestExpectedOutputIsLearned(t *testing.T) {
	r := newRig(t, 1, admission.Options{Tuning: admission.Tuning{OutputTokens: 50}})
	charge := func(tenant string, maxTokens int, output float64) float64 {
		req := request("r", 0, tenant)
		req.MaxTokens = maxTokens
		c := r.offer(req)
		expected := c.Charge()
		c.Booked(r.eps[0])
		c.Done(types.Outcome{Usage: types.Usage{CompletionTokens: types.Known(output)}})
		return expected
	}
	equal(t, "at first", charge("a", 0, 1000), 100+2*50)
	equal(t, "another tenant, by all", charge("b", 0, 10), 100+2*1000)
	equal(t, "its own", charge("b", 0, 10), 100+2*10)
	equal(t, "that of the first", charge("a", 0, 1000), 100+2*1000)
	equal(t, "no more than it may", charge("a", 30, 30), 100+2*30)
}

func TestSetPriority(t *testing.T) {
	r := newRig(t, 1, admission.Options{})
	r.fill(0, 1)
	a, b, c, d := r.offer(request("a", 0, "")), r.offer(request("b", 0, "")), r.offer(request("c", 0, "")), r.offer(request("d", 0, ""))
	c.SetPriority(100)
	equal(t, "band", c.Band(), "critical")
	equal(t, "priority", c.Priority(), 100)
	a.SetPriority(5)
	a.SetPriority(0) // it goes where it would be had it come so
	d.SetPriority(-100)
	if d.refusal == nil || d.refusal.Reason != admission.Saturated || d.told != 1 {
		t.Errorf("one that may not wait any more was told %d times: %v", d.told, d.err)
	}
	r.check()
	if got, want := r.drain(), []string{"c", "a", "b"}; !slices.Equal(got, want) {
		t.Errorf("let in %v, want %v", got, want)
	}
	equal(t, "queued", b.queued, true)

	// What a higher priority has room for goes at once, and a shorter wait counts from
	// the arrival on.
	r.fill(0, 0.9)
	e := r.offer(request("e", 0, ""))
	e.SetPriority(100)
	if !e.admitted() || e.told != 1 {
		t.Errorf("waits though its priority has room: %v", e.err)
	}
	r.run(e)
	r.fill(0, 1)
	f := r.offer(request("f", 100, ""))
	r.clock.pass(29 * time.Second)
	f.SetPriority(0)
	r.clock.pass(time.Second - 1)
	equal(t, "waits", f.Waiting(), true)
	r.clock.pass(1)
	if f.refusal == nil || f.refusal.Reason != admission.TimedOut || f.refusal.Waited != 30*time.Second {
		t.Errorf("got %+v, want %s after 30 s", f.refusal, admission.TimedOut)
	}
	r.check()
}

// slots is a Detector of endpoints with a number of places.
type slots map[*types.Load]float64

func (s slots) Fill(q admission.Query, ep *types.Endpoint) float64  { return s[ep.Load] }
func (s slots) Slots(q admission.Query, ep *types.Endpoint) float64 { return s[ep.Load] }

func TestCandidates(t *testing.T) {
	s := slots{}
	r := newRig(t, 3, admission.Options{Detector: s})
	set := func(fills ...float64) {
		for i, f := range fills {
			s[r.eps[i].Load] = f
			r.c.Put(r.eps[i])
		}
	}
	set(0, 0.5, 0)
	c := r.offer(request("r", 0, ""))
	want := func(what string, c *call, idx ...int) {
		t.Helper()
		var eps []*types.Endpoint
		for _, i := range idx {
			eps = append(eps, r.eps[i])
		}
		if got := c.Candidates(nil, r.eps); !slices.Equal(got, eps) {
			t.Errorf("%s: %v, want %v", what, got, eps)
		}
	}
	want("all have a place", c, 0, 1, 2)
	set(0, 0.8, 1)
	want("one has", c, 0)
	set(0.9, 0.79, 1)
	want("another has", c, 1)
	set(0.9, 0.9, 1)
	want("none has", c, 0, 1, 2)
	high := r.offer(request("r", 100, ""))
	want("of a higher band two have", high, 0, 1)
	dst := r.eps[:0:0]
	dst = append(dst, r.eps[2])
	if got := high.Candidates(dst, r.eps); !slices.Equal(got, []*types.Endpoint{r.eps[2], r.eps[0], r.eps[1]}) {
		t.Errorf("appended to what is there: %v", got)
	}
	if got := high.Candidates(nil, r.eps[2:]); !slices.Equal(got, r.eps[2:]) {
		t.Errorf("of those without a place: %v", got)
	}

	// A Detector that knows no places leaves none out.
	r = newRig(t, 2, admission.Options{})
	r.fill(0, 1)
	if got := r.offer(request("r", 0, "")).Candidates(nil, r.eps); !slices.Equal(got, r.eps) {
		t.Errorf("without places: %v", got)
	}
}

// TestWhatIsForgottenMayBeAskedAbout keeps tickets longer than the Controller keeps their
// bands and lanes, and changes the ceilings meanwhile.
func TestWhatIsForgottenMayBeAskedAbout(t *testing.T) {
	s := slots{}
	few := []admission.Band{{Name: "all", Ceiling: 1}}
	many := []admission.Band{
		{Name: "a", Priority: 3, Ceiling: 1}, {Name: "b", Priority: 2, Ceiling: 0.9}, {Name: "c", Priority: 1, Ceiling: 0.8}, {Name: "d", Priority: 0, Ceiling: 0.7},
	}
	r := newRig(t, 2, admission.Options{Detector: s, Bands: few, Tuning: admission.Tuning{MaxLanes: 1}})
	lane := func(name string) admission.Arrival {
		return admission.Arrival{Request: request("r", 0, ""), Candidates: name, Match: func(*types.Endpoint) bool { return true }}
	}
	c := r.offerAs(lane("one"))
	c.Booked(r.eps[0])
	r.run(r.offerAs(lane("another"))) // the first is forgotten
	require.NoError(t, r.c.Configure(r.with(admission.Options{Detector: s, Bands: many, Tuning: admission.Tuning{MaxLanes: 1}})))
	s[r.eps[0].Load] = 1
	r.c.Put(r.eps[0])
	if got := c.Candidates(nil, r.eps); !slices.Equal(got, r.eps[1:]) {
		t.Errorf("candidates %v, want that which has a place", got)
	}
	c.Done(types.Outcome{})
	c.Candidates(nil, r.eps)
	c.Explain()
	r.check()

	r = newRig(t, 1, admission.Options{Detector: s, Bands: many, Tuning: admission.Tuning{MaxBands: 1}})
	s[r.eps[0].Load] = 1
	r.c.Put(r.eps[0])
	c = r.offer(request("r", 0, ""))
	c.Done(types.Outcome{})
	r.offer(request("r", 5, "")) // its band is forgotten
	require.NoError(t, r.c.Configure(r.with(admission.Options{Detector: s, Bands: few, Tuning: admission.Tuning{MaxBands: 1}})))
	c.Explain()
	c.Candidates(nil, r.eps)
	equal(t, "band", c.Band(), "d")
	r.check()
}

func TestHooksHearInOrder(t *testing.T) {
	r := newRig(t, 1, admission.Options{MaxRequests: 2, Revoke: true})
	first := r.offer(request("first", -100, ""))
	first.OnRevoke(func(*admission.Refusal) { first.Done(types.Outcome{Cancelled: true}) }) // from within Offer
	first.Booked(r.eps[0])
	r.fill(0, 1)
	r.offer(request("a", 0, ""))
	r.offer(request("b", 100, ""))
	r.offer(request("c", 100, "")).Done(types.Outcome{})
	r.offer(request("low", -100, ""))
	r.drain()
	r.c.Close()
	r.offer(request("late", 0, ""))
	want := []string{
		"dispatched first",
		"queued a", "queued b", "asked to end first", "finished first",
		"displaced a", "queued c", "cancelled c",
		"saturated low",
		"dispatched b", "finished b",
		"shutting_down late",
	}
	if got := r.heard(); !slices.Equal(got, want) {
		t.Errorf("hooks heard\n%q, want\n%q", got, want)
	}
	r.check()
}

// TestGrantsThatAreNeverBooked: a caller that forgets a ticket holds the others up for a
// while, and not for ever.
func TestGrantsThatAreNeverBooked(t *testing.T) {
	r := newRig(t, 1, admission.Options{})
	lost := r.offer(request("lost", 0, ""))
	r.fill(0, 1)
	c := r.offer(request("r", 0, ""))
	r.fill(0, 0)
	require.True(t, c.Waiting(), "let in to the room that another may take")
	r.clock.pass(admission.DefaultGrantTTL + 1)
	r.c.Put(r.eps[0])
	require.True(t, c.admitted(), "waits for a ticket that nobody books")
	lost.Booked(r.eps[0])
	c.Booked(r.eps[0])
	lost.Done(types.Outcome{})
	c.Done(types.Outcome{})
	equal(t, "running", r.c.Stats().Bands[0].Running, 0)
	r.check()
}

// TestNoMoreThanThereIsRoomAreLetInAtOnce: each of those let in and not yet booked may take
// the one place.
func TestNoMoreThanThereIsRoomAreLetInAtOnce(t *testing.T) {
	r := newRig(t, 3, admission.Options{Fairness: admission.FirstCome})
	for i := range 3 {
		r.fill(i, 1)
	}
	var calls []*call
	for range 5 {
		calls = append(calls, r.offer(request("r", 0, "")))
	}
	in := func() (n int) {
		for _, c := range calls {
			if c.admitted() {
				n++
			}
		}
		return n
	}
	r.fill(0, 0)
	equal(t, "with room at one endpoint", in(), 1)
	r.fill(1, 0)
	equal(t, "at two", in(), 2)
	r.fills[r.eps[0].Load] = 1
	calls[0].Booked(r.eps[0])
	equal(t, "one is booked, and its endpoint is full", in(), 2)
	calls[1].Booked(r.eps[1])
	equal(t, "another is, and its endpoint is not", in(), 3)
	r.check()
}

// TestTrapBurstPassesOnePlace: requests that come all at once, before any is booked, do not
// all see the same free places.
func TestTrapBurstPassesOnePlace(t *testing.T) {
	const places, burst = 8, 100
	c, err := admission.New(admission.Options{Detector: admission.Concurrency{Requests: places}})
	require.NoError(t, err)
	defer c.Close()
	ep := types.NewEndpoint("e", "10.0.0.1:8000")
	c.SetEndpoints([]*types.Endpoint{ep})
	book := func(one *admission.Ticket) {
		ep.Load.Book(types.Booking{Requests: 1})
		one.Booked(ep)
	}
	var in []*admission.Ticket // let in and not booked
	offer := func() {
		var one *admission.Ticket
		one, queued, err := c.Offer(admission.Arrival{Request: request("r", 0, "")}, func(err error) {
			if err == nil {
				in = append(in, one)
			}
		})
		require.NoError(t, err)
		if !queued {
			in = append(in, one)
		}
	}
	offer()
	book(in[0]) // what one fills is known
	in = in[:0]
	for range burst {
		offer()
	}
	if len(in) == 0 || len(in) >= places {
		t.Errorf("%d of a burst pass before any is booked, there are %d places", len(in), places-1)
	}
	for len(in) > 0 {
		one := in[0]
		in = in[1:]
		book(one)
	}
	if n := ep.Load.Requests(); n < places-1 || n > places+1 {
		t.Errorf("%d requests are booked, want about %d", n, places)
	}
	equal(t, "the others wait", c.Stats().Queued, burst+1-int(ep.Load.Requests()))
}

// TestThatCannotBeEndedAnyMore is not asked to, wherever it is: another one is, which may.
func TestThatCannotBeEndedAnyMore(t *testing.T) {
	r := newRig(t, 1, admission.Options{MaxRequests: 1, Revoke: true})
	var calls []*call
	for _, name := range []string{"may", "may not", "is not booked"} {
		c := r.offer(request(name, -100, ""))
		c.OnRevoke(func(*admission.Refusal) { c.Done(types.Outcome{Cancelled: true}) })
		if name != "is not booked" {
			c.Booked(r.eps[0])
		}
		if name != "may" {
			c.OnRevoke(nil)
			c.OnRevoke(nil)
		}
		calls = append(calls, c)
	}
	calls[2].Booked(r.eps[0])
	r.fill(0, 1)
	r.offer(request("urgent", 100, ""))
	r.drain()
	require.Contains(t, r.heard(), "asked to end may")
	r.offer(request("next", 100, ""))
	r.drain()
	require.NotContains(t, r.heard(), "asked to end may not")
	require.NotContains(t, r.heard(), "asked to end is not booked")
	r.c.Close()
	for _, c := range calls {
		c.Done(types.Outcome{})
	}
	r.check()
}
