package scheduling_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
)

var ctx = context.Background()

// first picks the highest score, the first of equals: no randomness.
var first = scheduling.PickerFunc(func(_ context.Context, _ *types.Request, _ []*types.Endpoint, scores []float64) (int, error) {
	best := 0
	for i, s := range scores {
		if s > scores[best] {
			best = i
		}
	}
	return best, nil
})

// anyone picks at random.
var anyone = scheduling.PickerFunc(func(_ context.Context, req *types.Request, eps []*types.Endpoint, _ []float64) (int, error) {
	return req.Rand.IntN(len(eps)), nil
})

// byID scores endpoints from a map; those not in it have no opinion.
func byID(scores map[string]float64) scheduling.Scorer {
	return scheduling.EachScorer(func(_ *types.Request, ep *types.Endpoint) float64 {
		if v, ok := scores[ep.ID]; ok {
			return v
		}
		return math.NaN()
	})
}

// without strikes out the endpoints named.
func without(ids ...string) scheduling.Filter {
	return scheduling.FilterFunc(func(_ context.Context, _ *types.Request, eps []*types.Endpoint, keep []bool) error {
		for i, ep := range eps {
			for _, id := range ids {
				if ep.ID == id {
					keep[i] = false
				}
			}
		}
		return nil
	})
}

func endpoints(ids ...string) []*types.Endpoint {
	var eps []*types.Endpoint
	for _, id := range ids {
		eps = append(eps, schedulingtest.Endpoint(id))
	}
	return eps
}

func mustNew(t testing.TB, p scheduling.Profile) *scheduling.Scheduler {
	t.Helper()
	s, err := scheduling.New(p)
	require.NoError(t, err)
	return s
}

func ids(eps []*types.Endpoint) string {
	var s []string
	for _, ep := range eps {
		s = append(s, ep.ID)
	}
	return strings.Join(s, " ")
}

func TestSchedule(t *testing.T) {
	tests := []struct {
		name      string
		profile   scheduling.Profile
		want      string
		fallbacks string
	}{
		{"highest sum", scheduling.Profile{
			Scorers: []scheduling.Weighted{{Name: "x", Scorer: byID(map[string]float64{"a": 1, "b": .5, "c": 0}), Weight: 1}, {Name: "y", Scorer: byID(map[string]float64{"a": 0, "b": .5, "c": 1}), Weight: 2}},
		}, "c", ""},
		{"fallbacks in order of the sums", scheduling.Profile{
			Scorers:   []scheduling.Weighted{{Scorer: byID(map[string]float64{"a": .1, "b": .9, "c": .5}), Weight: 1}},
			Fallbacks: 5,
		}, "b", "c a"},
		{"filtered out", scheduling.Profile{
			Filters:   []scheduling.Named{{Name: "1", Filter: without("b")}, {Name: "2", Filter: without("d")}},
			Scorers:   []scheduling.Weighted{{Scorer: byID(map[string]float64{"a": .1, "b": .9, "c": .5}), Weight: 1}},
			Fallbacks: 2,
		}, "c", "a"},
		{"clamped", scheduling.Profile{
			Scorers: []scheduling.Weighted{{Name: "x", Scorer: byID(map[string]float64{"a": -5, "b": 7, "c": math.Inf(1)}), Weight: 1}, {Name: "y", Scorer: byID(map[string]float64{"a": 1, "b": 1, "c": 0}), Weight: .5}},
		}, "b", ""},
		{"no opinion is the mean", scheduling.Profile{
			// c gets (1+0)/2 for x: 0.5 + 0.6 beats a's 1 + 0 and b's 0 + 0.
			Scorers: []scheduling.Weighted{{Name: "x", Scorer: byID(map[string]float64{"a": 1, "b": 0}), Weight: 1}, {Name: "y", Scorer: byID(map[string]float64{"a": 0, "b": 0, "c": .6}), Weight: 1}},
		}, "c", ""},
		{"nobody has an opinion", scheduling.Profile{
			Scorers: []scheduling.Weighted{{Name: "x", Scorer: byID(nil), Weight: 5}, {Name: "y", Scorer: byID(map[string]float64{"a": 0, "b": 1, "c": 0}), Weight: 1}},
		}, "b", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.profile.Picker = first
			s := mustNew(t, tt.profile)
			eps := endpoints("a", "b", "c")
			d, err := s.Schedule(ctx, schedulingtest.Request("hi"), eps)
			require.NoError(t, err)
			if d.Endpoint.ID != tt.want || ids(d.Fallbacks) != tt.fallbacks {
				t.Errorf("Schedule = %s, fallbacks %q, want %s, %q", d.Endpoint.ID, ids(d.Fallbacks), tt.want, tt.fallbacks)
			}
			if ids(eps) != "a b c" {
				t.Errorf("the caller's list is now %s", ids(eps))
			}
		})
	}
}

func TestScheduleErrors(t *testing.T) {
	boom := errors.New("boom")
	fails := scheduling.FilterFunc(func(context.Context, *types.Request, []*types.Endpoint, []bool) error { return boom })
	sheds := scheduling.FilterFunc(func(context.Context, *types.Request, []*types.Endpoint, []bool) error {
		return fmt.Errorf("%w: full", scheduling.ErrSaturated)
	})
	badPick := scheduling.PickerFunc(func(context.Context, *types.Request, []*types.Endpoint, []float64) (int, error) { return 9, nil })
	done, cancel := context.WithCancel(ctx)
	cancel()
	tests := []struct {
		name    string
		ctx     context.Context
		profile scheduling.Profile
		eps     []*types.Endpoint
		is      error
		text    string
	}{
		{"no candidates", ctx, scheduling.Profile{Picker: first}, nil, scheduling.ErrNoEndpoint, "no candidates"},
		{"all filtered", ctx, scheduling.Profile{Picker: first, Filters: []scheduling.Named{{Name: "gate", Filter: without("a")}}}, endpoints("a"), scheduling.ErrNoEndpoint, `filter "gate" left none of 1`},
		{"filter error", ctx, scheduling.Profile{Picker: first, Filters: []scheduling.Named{{Name: "gate", Filter: fails}}}, endpoints("a"), boom, `filter "gate": boom`},
		{"shed", ctx, scheduling.Profile{Picker: first, Filters: []scheduling.Named{{Filter: sheds}}}, endpoints("a"), scheduling.ErrSaturated, "full"},
		{"picker out of range", ctx, scheduling.Profile{Picker: badPick}, endpoints("a"), nil, "index 9 of 1"},
		{"no ledger", ctx, scheduling.Profile{Picker: first}, []*types.Endpoint{{ID: "a"}}, nil, `"a" has no Load`},
		{"cancelled", done, scheduling.Profile{Picker: first}, endpoints("a"), context.Canceled, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rejected := error(nil)
			tt.profile.Hooks.Rejected = func(_ *types.Request, err error) { rejected = err }
			s := mustNew(t, tt.profile)
			d, err := s.Schedule(tt.ctx, schedulingtest.Request("hi"), tt.eps)
			if d != nil || err == nil {
				t.Fatalf("Schedule = %v, %v, want an error", d, err)
			}
			if tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error = %q, want one with %q that is %v", err, tt.text, tt.is)
			}
			if rejected != err {
				t.Errorf("Hooks.Rejected heard %v", rejected)
			}
			if s.Open() != 0 {
				t.Errorf("%d bookings are open", s.Open())
			}
			if ex, exErr := s.Explain(tt.ctx, schedulingtest.Request("hi"), tt.eps); exErr == nil || exErr.Error() != err.Error() || ex.Err == nil {
				t.Errorf("Explain = %v, want %v", exErr, err)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	ok := byID(nil)
	tests := []struct {
		name string
		p    scheduling.Profile
		text string
	}{
		{"no picker", scheduling.Profile{}, "no Picker"},
		{"nil filter", scheduling.Profile{Picker: first, Filters: []scheduling.Named{{}}}, "Filters[0]"},
		{"nil scorer", scheduling.Profile{Picker: first, Scorers: []scheduling.Weighted{{}}}, "Scorers[0]"},
		{"nil tracker", scheduling.Profile{Picker: first, Trackers: []scheduling.Tracker{nil}}, "Trackers[0]"},
		{"two scorers of a name", scheduling.Profile{Picker: first, Scorers: []scheduling.Weighted{{Scorer: ok}, {Scorer: ok}}}, `named "ScorerFunc"`},
		{"negative weight", scheduling.Profile{Picker: first, Scorers: []scheduling.Weighted{{Name: "q", Scorer: ok, Weight: -1}}}, `"q" has weight -1`},
		{"weight is NaN", scheduling.Profile{Picker: first, Scorers: []scheduling.Weighted{{Name: "q", Scorer: ok, Weight: math.NaN()}}}, "NaN"},
		{"fallbacks", scheduling.Profile{Picker: first, Fallbacks: 9}, "Fallbacks is 9"},
		{"ttl", scheduling.Profile{Picker: first, MetricsTTL: -1}, "MetricsTTL"},
		{"output", scheduling.Profile{Picker: first, OutputTokens: -1}, "OutputTokens"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := scheduling.New(tt.p); err == nil || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("New: %v, want an error with %q", err, tt.text)
			}
		})
	}
}

func TestScorerErrorDropsTheScorer(t *testing.T) {
	var heard *scheduling.PluginError
	s := mustNew(t, scheduling.Profile{
		Scorers: []scheduling.Weighted{
			{Name: "broken", Weight: 100, Scorer: scheduling.ScorerFunc(func(_ context.Context, _ *types.Request, _ []*types.Endpoint, scores []float64) error {
				scores[0] = 1
				return errors.New("no signal")
			})},
			{Name: "ok", Weight: 1, Scorer: byID(map[string]float64{"a": 0, "b": 1})},
		},
		Picker: first,
		Hooks:  scheduling.Hooks{PluginFailed: func(_ *types.Request, err *scheduling.PluginError) { heard = err }},
	})
	d, ex, err := s.ScheduleExplained(ctx, schedulingtest.Request("hi"), endpoints("a", "b"))
	if err != nil || d.Endpoint.ID != "b" {
		t.Fatalf("Schedule = %v, %v, want b", d, err)
	}
	if heard == nil || heard.Plugin != "broken" || heard.Stage != "scorer" {
		t.Errorf("PluginFailed heard %v", heard)
	}
	if len(ex.Dropped) != 1 || !strings.Contains(ex.Dropped[0], "no signal") {
		t.Errorf("Explanation.Dropped = %q", ex.Dropped)
	}
}

// recorder is a Tracker that writes down what it hears.
type recorder struct {
	mu  sync.Mutex
	log []string
}

func (r *recorder) say(s string) { r.mu.Lock(); r.log = append(r.log, s); r.mu.Unlock() }
func (r *recorder) Picked(_ *types.Request, ep *types.Endpoint) {
	r.say("picked " + ep.ID)
}
func (r *recorder) FirstToken(_ *types.Request, ep *types.Endpoint) { r.say("first " + ep.ID) }
func (r *recorder) Finished(_ *types.Request, ep *types.Endpoint, o types.Outcome) {
	r.say(fmt.Sprintf("finished %s %v", ep.ID, o.Retried))
}

func load(ep *types.Endpoint) [3]int64 {
	return [3]int64{ep.Load.Requests(), ep.Load.PrefillTokens(), ep.Load.ContextTokens()}
}

func TestDecisionLife(t *testing.T) {
	rec := &recorder{}
	s := mustNew(t, scheduling.Profile{Picker: first, Fallbacks: 1, Trackers: []scheduling.Tracker{rec, rec}})
	eps := endpoints("a", "b")
	a, b := eps[0], eps[1]
	req := schedulingtest.Request(strings.Repeat("x", 400)) // 100 tokens
	req.MaxTokens = 50
	check := func(when string, wantA, wantB [3]int64) {
		t.Helper()
		if load(a) != wantA || load(b) != wantB {
			t.Errorf("%s: ledgers are %v and %v, want %v and %v", when, load(a), load(b), wantA, wantB)
		}
	}
	d, err := s.Schedule(ctx, req, eps)
	require.NoError(t, err)
	check("scheduled", [3]int64{1, 100, 150}, [3]int64{})
	d.FirstToken()
	d.FirstToken()
	check("first token", [3]int64{1, 0, 150}, [3]int64{})
	d.Retry(nil, types.Outcome{Err: io.ErrUnexpectedEOF})
	d.Retry(b, types.Outcome{Err: io.ErrUnexpectedEOF})
	check("retried", [3]int64{}, [3]int64{1, 100, 150})
	if d.Current() != b || d.Endpoint != a {
		t.Errorf("after Retry: Current = %s, Endpoint = %s", d.Current().ID, d.Endpoint.ID)
	}
	d.FirstToken()
	d.Done(types.Outcome{Status: 200})
	d.Done(types.Outcome{Err: errors.New("late")})
	d.FirstToken()
	d.Retry(a, types.Outcome{Err: io.ErrUnexpectedEOF})
	check("done", [3]int64{}, [3]int64{})
	want := "picked a, first a, finished a true, picked b, first b, finished b false"
	if got := strings.Join(rec.log, ", "); got != want {
		t.Errorf("tracker heard %s\nwant %s", got, want)
	}
	if s.Open() != 0 {
		t.Errorf("Open = %d", s.Open())
	}
}

// cached is a scorer that knows the prefix cache.
type cached struct{ tokens int }

func (c cached) Score(_ context.Context, _ *types.Request, _ []*types.Endpoint, _ []float64) error {
	return nil
}
func (c cached) CachedTokens(*types.Request, *types.Endpoint) int { return c.tokens }

func TestCachedTokensAreNotOwed(t *testing.T) {
	for _, tt := range []struct{ cached, want int64 }{{0, 100}, {60, 40}, {100, 0}, {1000, 0}} {
		s := mustNew(t, scheduling.Profile{Picker: first, Scorers: []scheduling.Weighted{{Scorer: cached{int(tt.cached)}}}})
		ep := schedulingtest.Endpoint("a")
		d, err := s.Schedule(ctx, schedulingtest.Request(strings.Repeat("x", 400)), []*types.Endpoint{ep})
		require.NoError(t, err)
		require.Equal(t, tt.want, ep.Load.PrefillTokens(), "%d of 100 tokens cached owed", tt.cached)
		d.Done(types.Outcome{})
		if load(ep) != [3]int64{} {
			t.Errorf("after Done the ledger is %v", load(ep))
		}
	}
}

func TestForgottenBookingExpires(t *testing.T) {
	now := time.Unix(1000, 0)
	var ended []error
	s := mustNew(t, scheduling.Profile{
		Picker: first, BookingTTL: time.Minute, Now: func() time.Time { return now },
		Hooks: scheduling.Hooks{Finished: func(e scheduling.Event) { ended = append(ended, e.Outcome.Err) }},
	})
	eps := endpoints("a")
	leak := func() *scheduling.Decision {
		d, err := s.Schedule(ctx, schedulingtest.Request("hi"), eps)
		require.NoError(t, err)
		return d
	}
	leak()
	alive := leak()
	now = now.Add(50 * time.Second)
	alive.FirstToken() // a sign of life puts the expiry off
	now = now.Add(20 * time.Second)
	s.Expire(now)
	if got := eps[0].Load.Requests(); got != 1 || len(ended) != 1 || !errors.Is(ended[0], scheduling.ErrExpired) {
		t.Fatalf("after the time to live: %d requests in the ledger, ends %v, want 1 and ErrExpired", got, ended)
	}
	alive.Done(types.Outcome{})
	if load(eps[0]) != [3]int64{} || s.Open() != 0 {
		t.Errorf("in the end the ledger is %v, open %d", load(eps[0]), s.Open())
	}
}

func TestSameSeedSameDecisions(t *testing.T) {
	run := func(seed uint64) string {
		s := mustNew(t, scheduling.Profile{Picker: anyone, Seed: seed, Fallbacks: 2})
		eps, out := endpoints("a", "b", "c", "d", "e", "f"), ""
		for range 50 {
			d, err := s.Schedule(ctx, schedulingtest.Request("hi"), eps)
			require.NoError(t, err)
			out += d.Endpoint.ID + ids(d.Fallbacks) + ","
		}
		return out
	}
	if a, b := run(7), run(7); a != b {
		t.Errorf("the same seed gave\n%s\n%s", a, b)
	}
	if run(7) == run(8) {
		t.Error("two seeds gave the same 50 decisions")
	}
}

func TestExplainEqualsSchedule(t *testing.T) {
	s := mustNew(t, scheduling.Profile{
		Filters: []scheduling.Named{{Name: "gate", Filter: without("b")}},
		Scorers: []scheduling.Weighted{
			{Name: "some", Scorer: byID(map[string]float64{"a": .25, "c": 2}), Weight: 2},
			{Name: "coin", Weight: 1, Scorer: scheduling.EachScorer(func(r *types.Request, _ *types.Endpoint) float64 { return r.Rand.Float64() })},
		},
		Picker: anyone, Fallbacks: 2, Seed: 1,
	})
	eps := endpoints("a", "b", "c", "d")
	for i := range 50 {
		want, err := s.Explain(ctx, schedulingtest.Request("hi"), eps)
		require.NoError(t, err)
		if s.Open() != 0 || load(eps[0]) != [3]int64{} {
			t.Fatal("Explain booked something")
		}
		d, ex, err := s.ScheduleExplained(ctx, schedulingtest.Request("hi"), eps)
		require.NoError(t, err)
		if d.Endpoint != want.Endpoint || ids(d.Fallbacks) != ids(want.Fallbacks) || ex.String() != want.String() {
			t.Fatalf("decision %d: Schedule chose %s %q, Explain said %s %q\n%s%s", i, d.Endpoint.ID, ids(d.Fallbacks), want.Endpoint.ID, ids(want.Fallbacks), ex, want)
		}
		if c := want.Chosen(); c == nil || c.Endpoint != d.Endpoint {
			t.Fatalf("Chosen = %v", c)
		}
		d.Done(types.Outcome{})
	}

	ex, _ := s.Explain(ctx, schedulingtest.Request("hi"), eps)
	a, b, c, d := ex.Candidates[0], ex.Candidates[1], ex.Candidates[2], ex.Candidates[3]
	if b.FilteredBy != "gate" || len(b.Terms) != 0 {
		t.Errorf("b = %+v, want it filtered by gate", b)
	}
	if got := a.Terms[0]; got.Score != .25 || got.Used != .25 || got.Contribution != .5 || got.Scorer != "some" {
		t.Errorf("a's term = %+v", got)
	}
	if got := c.Terms[0]; got.Score != 2 || got.Used != 1 || got.Contribution != 2 {
		t.Errorf("c's term = %+v, want it clamped", got)
	}
	if got := d.Terms[0]; !got.Unknown || got.Used != (.25+1)/2 {
		t.Errorf("d's term = %+v, want the mean of the others", got)
	}
	for _, cand := range ex.Candidates {
		sum := 0.0
		for _, term := range cand.Terms {
			sum += term.Contribution
		}
		if math.Abs(sum-cand.Total) > 1e-12 {
			t.Errorf("%s: the terms sum to %v, Total is %v", cand.ID, sum, cand.Total)
		}
	}
}

func TestSchedulersSideBySide(t *testing.T) {
	eps := endpoints("a", "b")
	one := mustNew(t, scheduling.Profile{Picker: first})
	two := mustNew(t, scheduling.Profile{Picker: first})
	d1, _ := one.Schedule(ctx, schedulingtest.Request("hi"), eps)
	d2, _ := two.Schedule(ctx, schedulingtest.Request("hi"), eps)
	if eps[0].Load.Requests() != 2 || one.Open() != 1 || two.Open() != 1 {
		t.Errorf("ledger %d, open %d and %d", eps[0].Load.Requests(), one.Open(), two.Open())
	}
	d1.Done(types.Outcome{})
	d2.Done(types.Outcome{})
}

// Every ledger reads zero in the end, whatever happens at the same time.
func TestLedgersEndAtZero(t *testing.T) {
	var mu sync.Mutex
	now := time.Unix(1000, 0)
	s := mustNew(t, scheduling.Profile{
		Picker: anyone, Fallbacks: 2, BookingTTL: time.Second, Trackers: []scheduling.Tracker{&recorder{}},
		Now: func() time.Time { mu.Lock(); defer mu.Unlock(); now = now.Add(time.Microsecond); return now },
	})
	eps := schedulingtest.Fleet(8)
	for _, ep := range eps {
		ep.Load = types.NewLoad()
	}
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			rnd := types.NewRand(uint64(g))
			for range 300 {
				d, err := s.Schedule(ctx, schedulingtest.Request(strings.Repeat("x", rnd.IntN(4000))), eps)
				if err != nil {
					t.Error(err)
					return
				}
				var life sync.WaitGroup
				for range 1 + rnd.IntN(3) {
					what := rnd.IntN(5)
					life.Go(func() {
						switch what {
						case 0:
							d.FirstToken()
						case 1:
							d.Retry(d.Fallbacks[0], types.Outcome{Err: io.ErrUnexpectedEOF})
						case 2:
							d.Done(types.Outcome{Cancelled: true})
						case 3:
							d.FirstToken()
							d.Done(types.Outcome{})
						case 4: // forgotten: it must expire
						}
					})
				}
				life.Wait()
			}
		})
	}
	wg.Wait()
	s.Expire(now.Add(time.Hour))
	for _, ep := range eps {
		if load(ep) != [3]int64{} {
			t.Errorf("the ledger of %s is %v in the end", ep.ID, load(ep))
		}
	}
	if s.Open() != 0 {
		t.Errorf("%d bookings are open in the end", s.Open())
	}
}

func TestForget(t *testing.T) {
	f := &forgetful{}
	s := mustNew(t, scheduling.Profile{Picker: first, Scorers: []scheduling.Weighted{{Scorer: f}}})
	ep := schedulingtest.Endpoint("a")
	s.Forget(ep)
	if f.forgot != ep {
		t.Errorf("Forget reached %v", f.forgot)
	}
}

type forgetful struct {
	cached
	forgot *types.Endpoint
}

func (f *forgetful) Forget(ep *types.Endpoint) { f.forgot = ep }

// TestReserve: endpoints that have no place for a request are fallbacks after the others.
func TestReserve(t *testing.T) {
	for _, tt := range []struct {
		name           string
		fallbacks      int
		eps            []string
		reserve        []string // by the requests they have: one more each
		out            string   // struck out by a filter
		chosen, theirs string
	}{
		{"those with the fewest requests first", 3, []string{"a"}, []string{"x", "y", "z"}, "", "a", "x y z"},
		{"no more than the profile wants", 2, []string{"a"}, []string{"x", "y", "z"}, "", "a", "x y"},
		{"after the candidates", 2, []string{"a", "b"}, []string{"x", "y"}, "", "a", "b x"},
		{"none is needed", 1, []string{"a", "b"}, []string{"x"}, "", "a", "b"},
		{"none is wanted", 0, []string{"a"}, []string{"x"}, "", "a", ""},
		{"filters hold for them", 2, []string{"a"}, []string{"x", "y"}, "x", "a", "y"},
		{"filters leave none", 2, []string{"a"}, []string{"x"}, "x", "a", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := mustNew(t, scheduling.Profile{
				Picker: first, Fallbacks: tt.fallbacks,
				Filters: []scheduling.Named{{Name: "f", Filter: without(tt.out)}},
			})
			reserve := endpoints(tt.reserve...)
			for i, ep := range reserve {
				ep.Load.Book(types.Booking{Requests: int64(i + 1)})
			}
			slices.Reverse(reserve)
			req := schedulingtest.Request("hi")
			req.Reserve = slices.Clone(reserve)
			d, ex, err := s.ScheduleExplained(ctx, req, endpoints(tt.eps...))
			require.NoError(t, err)
			if d.Endpoint.ID != tt.chosen || ids(d.Fallbacks) != tt.theirs {
				t.Errorf("Schedule = %s, fallbacks %q, want %s, %q", d.Endpoint.ID, ids(d.Fallbacks), tt.chosen, tt.theirs)
			}
			if ids(ex.Fallbacks) != tt.theirs {
				t.Errorf("explained as %q", ids(ex.Fallbacks))
			}
			if !slices.Equal(req.Reserve, reserve) {
				t.Error("the caller's list was changed")
			}
		})
	}
}

// screened is a filter that says beforehand of which endpoints it keeps all.
type screened struct {
	screens func(o *scheduling.Overview) bool
	calls   *int
}

func (f screened) Screen(_ *types.Request, o *scheduling.Overview) bool { return f.screens(o) }

func (f screened) Filter(_ context.Context, _ *types.Request, eps []*types.Endpoint, keep []bool) error {
	*f.calls++
	for i, ep := range eps {
		keep[i] = ep.State == types.Ready
	}
	return nil
}

// A filter that keeps all endpoints is not called, one that may strike any is, wherever in
// the list that is and whatever was true before; and one that panics when it is asked is called.
func TestScreener(t *testing.T) {
	ready := func(o *scheduling.Overview) bool { return o.Ready }
	for name, tt := range map[string]struct {
		draining int // of 300 endpoints; -1: none
		screens  func(o *scheduling.Overview) bool
		calls    int
	}{
		"keeps all":         {-1, ready, 0},
		"strikes the first": {0, ready, 1},
		"strikes the last":  {299, ready, 1},
		"cannot tell":       {-1, func(*scheduling.Overview) bool { return false }, 1},
		"panics when asked": {7, func(*scheduling.Overview) bool { panic("no") }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			var failed *scheduling.PluginError
			s := mustNew(t, scheduling.Profile{
				Filters: []scheduling.Named{{Name: "fresh", Filter: plugins.Fresh{}}, {Name: "screened", Filter: screened{tt.screens, &calls}}}, Picker: first,
				Hooks: scheduling.Hooks{PluginFailed: func(_ *types.Request, err *scheduling.PluginError) { failed = err }},
			})
			eps := servers(300)
			_, err := s.Explain(ctx, schedulingtest.Request("hi"), eps)
			require.NoError(t, err)
			calls = 0
			if tt.draining >= 0 {
				ep := *eps[tt.draining]
				ep.State = types.Draining
				eps[tt.draining] = &ep
			}
			d, ex, err := s.ScheduleExplained(ctx, schedulingtest.Request("hi"), eps)
			require.NoError(t, err)
			d.Done(types.Outcome{})
			require.Equal(t, tt.calls, calls)
			for i, c := range ex.Candidates {
				require.Equal(t, i == tt.draining, c.FilteredBy == "screened", c.ID)
			}
			require.Equal(t, name == "panics when asked", failed != nil && failed.Plugin == "screened")
		})
	}
}

func TestOverviewOf(t *testing.T) {
	at := time.Unix(1000, 0)
	ep := func(change func(*types.Endpoint)) *types.Endpoint {
		e := types.NewEndpoint("a", "10.0.0.1:80")
		e.Metrics.UpdatedAt = at
		change(e)
		return e
	}
	plain := ep(func(*types.Endpoint) {})
	for name, tt := range map[string]struct {
		eps  []*types.Endpoint
		want scheduling.Overview
	}{
		"nobody":    {nil, scheduling.Overview{Ready: true, Awake: true}},
		"plain":     {[]*types.Endpoint{plain}, scheduling.Overview{Ready: true, Awake: true, OldestReading: at}},
		"draining":  {[]*types.Endpoint{plain, ep(func(e *types.Endpoint) { e.State = types.Draining })}, scheduling.Overview{Awake: true, OldestReading: at}},
		"asleep":    {[]*types.Endpoint{ep(func(e *types.Endpoint) { e.Metrics.Awake = types.Known(0) }), plain}, scheduling.Overview{Ready: true, OldestReading: at}},
		"models":    {[]*types.Endpoint{plain, ep(func(e *types.Endpoint) { e.Models = []string{} })}, scheduling.Overview{Ready: true, Awake: true, ModelsKnown: true, OldestReading: at}},
		"older":     {[]*types.Endpoint{plain, ep(func(e *types.Endpoint) { e.Metrics.UpdatedAt = at.Add(-1) })}, scheduling.Overview{Ready: true, Awake: true, OldestReading: at.Add(-1)}},
		"not read":  {[]*types.Endpoint{ep(func(e *types.Endpoint) { e.Metrics.UpdatedAt = time.Time{} })}, scheduling.Overview{Ready: true, Awake: true}},
		"some read": {[]*types.Endpoint{ep(func(e *types.Endpoint) { e.Metrics.UpdatedAt = time.Time{} }), plain}, scheduling.Overview{Ready: true, Awake: true, OldestReading: at}},
	} {
		require.Equal(t, tt.want, scheduling.OverviewOf(tt.eps), name)
	}
}

// A decision is settled when it has ended and the hooks have returned.
func TestSettled(t *testing.T) {
	var d *scheduling.Decision
	within := true
	s := mustNew(t, scheduling.Profile{Picker: first, Hooks: scheduling.Hooks{Finished: func(scheduling.Event) { within = d.Settled() }}})
	d, err := s.Schedule(ctx, schedulingtest.Request("hi"), servers(1))
	require.NoError(t, err)
	require.False(t, d.Settled())
	d.Done(types.Outcome{})
	require.False(t, within, "the hook is still reading")
	require.True(t, d.Settled())
}
