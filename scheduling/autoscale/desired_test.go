package autoscale_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/types"
)

var (
	pool  = types.NamespacedName{Namespace: types.DefaultNamespace, Name: "llama"}
	speed = types.Speed{Token: 5e-5, Step: .01, Sequence: 5e-5}
	start = time.Unix(1_000_000_000, 0).UTC()
)

// some is how often something is tried at random: less in a short run, or under the race detector.
func some(n int) int {
	if testing.Short() || raceEnabled {
		return max(n/10, 1)
	}
	return n
}

// load returns the signals of a pool of ready replicas for which so much work comes in a second.
func load(at time.Time, ready int, work float64) autoscale.Signals {
	s := autoscale.NewSignals(pool, "", at)
	s.Ready, s.Starting, s.Speed, s.Idle = ready, 0, speed, 0
	s.ArrivalWork, s.RecentWork, s.WorkNoise, s.RecentNoise = autoscale.Figure(work), autoscale.Figure(work), autoscale.Figure(.02*work), autoscale.Figure(.05*work)
	s.Backlog, s.Running = 0, int64(10*ready)
	return s
}

// world calls Desired each second.
type world struct {
	t      *testing.T
	policy autoscale.Policy
	h      autoscale.History
	at     time.Time
	// what came, averaged as a Collector does
	lately, recently float64
}

// round are numbers of a law that are easy to reckon with, whatever the defaults are.
var round = autoscale.Tuning{
	Utilization: .7, KVTarget: .8, SlotsTarget: .8, Slack: .1, Drain: 24 * time.Second, Window: 90 * time.Second, Brief: 15 * time.Second, Trend: 3 * time.Minute, TrendMost: .5,
	Spare: 1, Surprise: 3, Margin: .1, StepUp: 4, SLOStep: .25, SLOMet: .9,
}

func newWorld(t *testing.T, p autoscale.Policy) *world {
	if drain := p.Drain; p.Tuning == (autoscale.Tuning{Drain: drain}) {
		p.Tuning = round
		if drain > 0 {
			p.Drain = drain
		}
	}
	require.NoError(t, p.Validate())
	return &world{t: t, policy: p, at: start}
}

// step asks once, a second later.
func (w *world) step(s autoscale.Signals) autoscale.Recommendation {
	w.at = w.at.Add(time.Second)
	s.At = w.at
	r := autoscale.Desired(s, w.policy, &w.h)
	require.NotEmpty(w.t, r.Reason)
	require.NotEmpty(w.t, r.Term)
	require.GreaterOrEqual(w.t, r.Replicas, 0)
	require.LessOrEqual(w.t, r.Replicas, max(w.policy.Max, autoscale.DefaultMax))
	return r
}

// works asks for so many seconds in which so much work comes.
func (w *world) works(n, ready int, work float64) (r autoscale.Recommendation) {
	if w.lately == 0 {
		w.lately, w.recently = work, work
	}
	for range n {
		w.lately += (work - w.lately) * (1 - math.Exp(-1./60))
		w.recently += (work - w.recently) * (1 - math.Exp(-1./10))
		s := load(start, ready, w.lately)
		s.RecentWork = autoscale.Figure(w.recently)
		r = w.step(s)
	}
	return r
}

// steps asks for so many seconds and returns the last answer.
func (w *world) steps(n int, s autoscale.Signals) (r autoscale.Recommendation) {
	for range n {
		r = w.step(s)
	}
	return r
}

func term(t *testing.T, r autoscale.Recommendation, name string) autoscale.Term {
	for _, one := range r.Terms {
		if one.Name == name {
			return one
		}
	}
	t.Fatalf("there is no term %s in %+v", name, r.Terms)
	return autoscale.Term{}
}

// What each term asks for, by its formula.
func TestTerms(t *testing.T) {
	const usable = 1 - .01/.1 // of a replica: a step of 10 ms at a target of 100 ms
	u := round.Utilization
	tests := []struct {
		name   string
		change func(*autoscale.Signals)
		policy autoscale.Policy
		term   string
		want   float64
	}{
		{"work over what a replica does", func(s *autoscale.Signals) {}, autoscale.Policy{}, "demand", 3 / (u * usable)},
		{"a target of its own", func(s *autoscale.Signals) { s.TPOT.Target = .02 }, autoscale.Policy{}, "demand", 3 / (u * .5)},
		{"a target that no server meets", func(s *autoscale.Signals) { s.TPOT.Target = .001 }, autoscale.Policy{}, "demand", 3 / (u * .2)},
		{"the steps that answers take", func(s *autoscale.Signals) { s.ArrivalOutput, s.Slots = 10_000, 10 }, autoscale.Policy{}, "demand", 3 + .01*10_000/(.8*10)},
		{"answers that fill the KV cache", func(s *autoscale.Signals) {
			s.ArrivalOutput, s.KVTokens, s.ContextTokens = 10_000, 10_000, s.Running*1000
		}, autoscale.Policy{}, "demand", 3 + .01*10_000/(.8*10)},
		{"a surprise", func(s *autoscale.Signals) { s.RecentWork = 6 }, autoscale.Policy{}, "demand", 6 / (u * usable)},
		{"chance is no surprise", func(s *autoscale.Signals) { s.RecentWork, s.RecentNoise = 6, 2 }, autoscale.Policy{}, "demand", 3 / (u * usable)},
		{"what waits, over the time to drain it", func(s *autoscale.Signals) { s.Backlog = 500 }, autoscale.Policy{StartUp: 10 * time.Second, Tuning: autoscale.Tuning{Drain: 50 * time.Second}}, "backlog",
			3/usable + (500/usable+(3/usable-4)*10)/50},
		{"requests that hold places", func(s *autoscale.Signals) {
			s.Arrivals, s.ArrivalOutput, s.Slots, s.Queued, s.Waiting = 10, 4000, 10, 20, 5
		}, autoscale.Policy{StartUp: 10 * time.Second, Tuning: autoscale.Tuning{Drain: 50 * time.Second}}, "backlog",
			7 + (40*.7+(7-4)*10)/50},
		{"what comes before replicas can, as long as it may wait", func(s *autoscale.Signals) { s.RecentWork, s.ArrivalWork, s.MaxWait = 13, 13, time.Minute }, autoscale.Policy{StartUp: 100 * time.Second, Tuning: autoscale.Tuning{Drain: 100 * time.Second}}, "backlog",
			13/usable + 60*(13/usable-4)/100},
		{"or until replicas come", func(s *autoscale.Signals) { s.RecentWork, s.ArrivalWork, s.MaxWait = 13, 13, time.Hour }, autoscale.Policy{StartUp: 100 * time.Second, Tuning: autoscale.Tuning{Drain: 100 * time.Second}}, "backlog",
			13/usable + (13/usable - 4)},
		{"KV caches", func(s *autoscale.Signals) { s.KVUsed = .6 }, autoscale.Policy{}, "kv", 4 * .6 / .8},
		{"requests that run", func(s *autoscale.Signals) { s.Slots, s.Batch, s.Waiting = 32, 24, 8 }, autoscale.Policy{}, "concurrency", 4 * 24 / (.8 * 32)},
		{"little more than what comes", func(s *autoscale.Signals) { s.Slots, s.Batch, s.ArrivalWork, s.RecentWork = 32, 32, 1.9, 1.9 }, autoscale.Policy{}, "concurrency", 1.1 * 1.9 / (u * usable)},
		{"no more than twice as many", func(s *autoscale.Signals) { s.Slots, s.Batch, s.Speed = 32, 1000, types.Speed{} }, autoscale.Policy{}, "concurrency", 8},
		{"those that wait where seconds are not known", func(s *autoscale.Signals) { s.Speed, s.Queued, s.Running = types.Speed{}, 20, 40 }, autoscale.Policy{}, "concurrency", 4 * 1.5},
		{"something to spare", func(s *autoscale.Signals) { s.Duration, s.WorkNoise = 30, .3 }, autoscale.Policy{}, "demand", 3/(u*usable) + 3/usable*.1*2},
		{"what waits for a first replica", func(s *autoscale.Signals) {
			s.Ready, s.Speed, s.Queued, s.Running, s.Slots = 0, types.Speed{}, 50, 0, 16
		}, autoscale.Policy{}, "concurrency", 50 / (.8 * 16)},
		{"no more of it than comes in a minute", func(s *autoscale.Signals) {
			s.Ready, s.Speed, s.Queued, s.Running, s.Slots, s.Arrivals = 0, types.Speed{}, 500, 0, 16, 2
		}, autoscale.Policy{}, "concurrency", 60 * 2 / (.8 * 16)},
		{"no more than twice what comes", func(s *autoscale.Signals) { s.Ready, s.Backlog = 1, 200 }, autoscale.Policy{StartUp: 5 * time.Minute}, "backlog", 2 * 3 / usable},
		{"unknown", func(s *autoscale.Signals) { s.ArrivalWork = autoscale.Unknown() }, autoscale.Policy{}, "demand", math.NaN()},
		{"unknown", func(s *autoscale.Signals) { s.Backlog = autoscale.Unknown() }, autoscale.Policy{}, "backlog", math.NaN()},
		{"unknown", func(s *autoscale.Signals) {}, autoscale.Policy{}, "kv", math.NaN()},
	}
	for _, tt := range tests {
		t.Run(tt.term+"/"+tt.name, func(t *testing.T) {
			w := newWorld(t, tt.policy)
			s := load(start, 4, 3)
			tt.change(&s)
			got := term(t, w.step(s), tt.term)
			require.NotEmpty(t, got.Why)
			if tt.want != tt.want {
				require.False(t, got.Replicas.Known(), "%v", got)
				return
			}
			require.InEpsilon(t, tt.want, float64(got.Replicas), 1e-9, "%v", got)
		})
	}
}

// Up at once, down when the window is over, and why.
func TestUpAndDown(t *testing.T) {
	w := newWorld(t, autoscale.Policy{StartUp: 60 * time.Second, Max: 1000})
	r := w.works(300, 4, 2)
	require.Equal(t, 4, r.Replicas, "%s: %s", r.Term, r.Reason)
	r = w.works(10, 4, 25)
	require.Equal(t, 16, r.Replicas)
	require.Equal(t, autoscale.RuleStep, r.Term)
	want := int(math.Ceil(25/(.9*round.Utilization) - round.Slack))
	r = w.works(60, 16, 25)
	require.InDelta(t, want+3, r.Replicas, 1, "and some for what waits")
	require.Equal(t, autoscale.TermBacklog, r.Term)
	r = w.works(2, want, 25)
	require.Equal(t, want, r.Replicas, "that goes at once when nothing waits")
	r = w.works(300, want, 25)
	require.Equal(t, want, r.Replicas, "it is no trend, but %s: %s", r.Term, r.Reason)
	r = w.works(60, want, 2)
	require.Equal(t, want, r.Replicas, "a window of one and a half times the start-up time")
	require.Equal(t, autoscale.RuleWindow, r.Term)
	r = w.works(400, want, 2)
	require.Equal(t, 4, r.Replicas)
}

func TestMinAndMax(t *testing.T) {
	w := newWorld(t, autoscale.Policy{Min: 3, Max: 5})
	r := w.step(load(start, 3, 100))
	require.Equal(t, 5, r.Replicas)
	require.Equal(t, autoscale.RuleMax, r.Term)
	r = w.steps(1000, load(start, 5, .1))
	require.Equal(t, 3, r.Replicas)
	require.Equal(t, autoscale.RuleMin, r.Term)
}

// Nothing for as long as it takes, then none; and one as soon as something comes.
func TestZero(t *testing.T) {
	p := autoscale.Policy{ToZero: true, IdleAfter: 5 * time.Minute, StartUp: time.Minute}
	w := newWorld(t, p)
	s := load(start, 2, 1)
	w.steps(600, s)
	s.ArrivalWork, s.RecentWork, s.Running = 0, 0, 0
	for i := range 299 {
		s.Idle = time.Duration(i+1) * time.Second
		require.NotZero(t, w.step(s).Replicas, "idle for %v", s.Idle)
	}
	s.Idle = 5 * time.Minute
	r := w.step(s)
	require.Zero(t, r.Replicas)
	require.Equal(t, autoscale.RuleIdle, r.Term)
	for s.Ready = 1; s.Ready >= 0; s.Ready-- {
		s.Idle += time.Minute
		require.Zero(t, w.step(s).Replicas, "while they go, and when they are gone")
	}
	s.Ready, s.Idle, s.Queued = 0, 0, 1
	r = w.step(s)
	require.Equal(t, 1, r.Replicas)
	require.Equal(t, autoscale.RuleWake, r.Term)
	s.Queued = 0 // its client went away
	require.Equal(t, 1, w.step(s).Replicas, "something came of late")

	t.Run("what was not seen was not quiet", func(t *testing.T) {
		for _, away := range []bool{true, false} {
			w := newWorld(t, p)
			s := load(start, 2, 1)
			w.steps(600, s)
			s.ArrivalWork, s.RecentWork, s.Running, s.Idle = 0, 0, 0, -1 // as a gateway that has begun has it
			if away {
				w.steps(100, s)
				w.at = w.at.Add(10 * time.Minute)
			} else {
				s.Missing = 1
				w.steps(700, s)
				s.Missing = 0
			}
			require.NotZero(t, w.step(s).Replicas, "away: %v", away)
			w.steps(150, s)
			require.NotZero(t, w.h.Last, "away: %v", away)
			w.steps(151, s)
			require.Zero(t, w.h.Last, "five minutes in all, away: %v", away)
		}
	})
	t.Run("what is known of speeds counts at once", func(t *testing.T) {
		s.Queued, s.ArrivalWork, s.RecentWork = 100, 2, 2
		require.InDelta(t, 4, w.step(s).Replicas, 1)
	})
	t.Run("without leave there is always one", func(t *testing.T) {
		w := newWorld(t, autoscale.Policy{})
		s := load(start, 1, 0)
		s.Running, s.Idle = 0, 24*time.Hour
		require.Equal(t, 1, w.steps(2000, s).Replicas)
	})
	t.Run("a gateway that begins wakes nobody", func(t *testing.T) {
		w := newWorld(t, p)
		s := autoscale.NewSignals(pool, "", start)
		s.Starting = 0
		require.Zero(t, w.steps(100, s).Replicas)
		s.Missing = 1
		require.Zero(t, w.steps(100, s).Replicas, "nor because of a gateway that does not answer")
	})
	t.Run("a gateway that begins sends nobody away before it knows", func(t *testing.T) {
		w := newWorld(t, p)
		s := load(start, 3, 0)
		s.Running, s.Idle = 0, -1
		require.Equal(t, 3, w.steps(60, s).Replicas)
		require.Equal(t, 1, w.steps(120, s).Replicas)
		require.Zero(t, w.steps(150, s).Replicas)
	})
}

// What is not known is not 0.
func TestHolds(t *testing.T) {
	for name, change := range map[string]func(*autoscale.Signals){
		"gateways": func(s *autoscale.Signals) { s.Missing = 1 },
		"speeds":   func(s *autoscale.Signals) { s.ArrivalWork = autoscale.Unknown() },
		"all": func(s *autoscale.Signals) {
			*s = autoscale.NewSignals(pool, "", s.At)
			s.Ready, s.Running = 8, 1
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, autoscale.Policy{})
			require.Equal(t, 8, w.steps(300, load(start, 8, 4.9)).Replicas)
			s := load(start, 8, .5)
			change(&s)
			r := w.steps(2000, s)
			require.Equal(t, 8, r.Replicas, "%s: %s", r.Term, r.Reason)
			require.Equal(t, autoscale.RuleHold, r.Term)
			require.Equal(t, s.Missing > 0, r.Partial)
		})
	}
	t.Run("a part may ask for more", func(t *testing.T) {
		w := newWorld(t, autoscale.Policy{})
		s := load(start, 8, 10)
		s.Missing = 1
		require.Equal(t, 16, w.step(s).Replicas)
	})
	t.Run("a policy that is wrong", func(t *testing.T) {
		w := newWorld(t, autoscale.Policy{})
		w.policy.Max = -1
		w.at = w.at.Add(time.Second)
		r := autoscale.Desired(load(w.at, 8, 100), w.policy, &w.h)
		require.Equal(t, 8, r.Replicas)
		require.Contains(t, r.Reason, "max is -1")
	})
}

// A pool for which more replicas are started is not given more for the same.
func TestStartingCounts(t *testing.T) {
	for _, known := range []bool{true, false} {
		w := newWorld(t, autoscale.Policy{StartUp: 120 * time.Second, Max: 1000, Tuning: autoscale.Tuning{Drain: 48 * time.Second}})
		w.works(200, 4, 2)
		most := 0
		for range 120 {
			w.lately += (10 - w.lately) / 60
			w.recently += (10 - w.recently) / 10
			s := load(start, 4, w.lately)
			s.Starting, s.RecentWork = -1, autoscale.Figure(w.recently)
			if known {
				s.Starting = max(most-4, 0)
			}
			most = max(most, w.step(s).Replicas)
		}
		require.LessOrEqual(t, most, 20, "10 s of work a second need 16, and some for what waits; starting known: %v", known)
		require.GreaterOrEqual(t, most, 15)
	}
}

// How long replicas take to start is learned from how long it takes until there are as many as were recommended.
func TestStartUpIsLearned(t *testing.T) {
	w := newWorld(t, autoscale.Policy{})
	require.Equal(t, autoscale.DefaultStartUp, w.steps(10, load(start, 4, 2)).StartUp)
	ready, due := 4, time.Time{}
	var r autoscale.Recommendation
	for i := range 3600 {
		s := load(start, ready, 2+float64(i)/300)
		s.Starting = -1
		r = w.step(s)
		switch {
		case r.Replicas <= ready:
			due = time.Time{}
		case due.IsZero():
			due = w.at.Add(45 * time.Second)
		case !w.at.Before(due):
			ready, due = r.Replicas, time.Time{}
		}
	}
	require.InDelta(t, 45, r.StartUp.Seconds(), 5)
}

// A surge that is over before a replica could have started finds, the next time, those that it needed.
func TestReserve(t *testing.T) {
	w := newWorld(t, autoscale.Policy{StartUp: 2 * time.Minute})
	surge := func(ready int) (r autoscale.Recommendation) {
		for range 40 {
			s := load(start, ready, 5)
			s.RecentWork, s.Backlog = 10, autoscale.Figure(10*max(11-ready, 0))
			r = w.step(s)
		}
		return r
	}
	quiet := load(start, 4, 1.2)
	require.Equal(t, 3, w.steps(300, quiet).Replicas)
	require.Greater(t, surge(4).Replicas, 11)
	r := w.steps(600, quiet)
	require.Equal(t, 12, r.Replicas, "10 s of work take 11.1 with nothing to spare")
	require.Equal(t, autoscale.RuleReserve, r.Term)
	surge(12)
	require.Equal(t, 12, w.steps(14*60, quiet).Replicas, "it came again")
	require.Equal(t, 3, w.steps(3*60, quiet).Replicas, "and no more")

	t.Run("one that stays is none", func(t *testing.T) {
		w := newWorld(t, autoscale.Policy{StartUp: 20 * time.Second})
		w.steps(300, quiet)
		for range 60 {
			s := load(start, 4, 5)
			s.RecentWork, s.Backlog = 10, 100
			w.step(s)
		}
		require.Equal(t, 3, w.steps(300, quiet).Replicas)
	})
	t.Run("nothing is kept where nothing comes", func(t *testing.T) {
		w := newWorld(t, autoscale.Policy{StartUp: 2 * time.Minute, ToZero: true, IdleAfter: time.Minute})
		w.steps(300, quiet)
		for range 40 {
			s := load(start, 4, 5)
			s.RecentWork, s.Backlog = 10, 100
			w.step(s)
		}
		require.NotZero(t, w.steps(60, quiet).Replicas)
		none := load(start, 12, 0)
		none.Running, none.Idle = 0, 2*time.Minute
		require.Zero(t, w.step(none).Replicas)
	})
}

// Targets that are missed although there are as many replicas as were recommended teach that more are needed, and that
// is forgotten slowly.
func TestBias(t *testing.T) {
	w := newWorld(t, autoscale.Policy{StartUp: time.Minute})
	miss := func(ready int, met float64) autoscale.Signals {
		s := load(start, ready, 3.1)
		s.TTFT = autoscale.Latency{P90: 3, Target: 2, Met: autoscale.Figure(met), N: 200}
		return s
	}
	require.Equal(t, 5, w.steps(60, miss(5, .5)).Replicas, "not yet")
	r := w.steps(60, miss(5, .5))
	require.Equal(t, 6, r.Replicas)
	require.Equal(t, autoscale.TermSLO, r.Term)
	require.Equal(t, 6, w.steps(300, miss(5, .5)).Replicas, "not while they start")
	require.Equal(t, 6, w.steps(80, miss(6, .5)).Replicas, "nor before it is seen what they are worth")
	require.Equal(t, 8, w.steps(100, miss(6, .5)).Replicas)
	require.Equal(t, 8, w.steps(300, miss(8, 1)).Replicas)
	require.Equal(t, 6, w.steps(6*3600, miss(8, 1)).Replicas, "4.9 and the margin")

	few := newWorld(t, autoscale.Policy{StartUp: time.Minute})
	s := miss(5, 0)
	s.TTFT.N = 10
	require.Equal(t, 5, few.steps(1000, s).Replicas, "ten requests say nothing")
}

// A trend is followed for as long as replicas take to start.
func TestTrend(t *testing.T) {
	w := newWorld(t, autoscale.Policy{StartUp: 3 * time.Minute, Max: 1000})
	var behind, ahead float64
	for i := range 1200 {
		work := 5 + float64(i)/60 // a replica and a half more each minute
		s := load(start, 1000, work-1)
		s.RecentWork = autoscale.Figure(work)
		s.WorkNoise, s.RecentNoise = .2, .5
		d := term(t, w.step(s), "demand").Replicas
		behind, ahead = work/(.9*round.Utilization), float64(d)
	}
	require.InDelta(t, behind+3/(.9*round.Utilization), ahead, 1, "what is needed when they serve")
}

// Noise that is within chance, on a constant load, moves a recommendation hardly ever.
func TestNoFlapping(t *testing.T) {
	for _, replicas := range []float64{2.5, 5.02, 20, 77.7} {
		t.Run(fmt.Sprint(replicas), func(t *testing.T) {
			w := newWorld(t, autoscale.Policy{StartUp: 2 * time.Minute, Max: 1000, Tuning: autoscale.Tuning{Utilization: autoscale.DefaultUtilization}})
			rng := rand.New(rand.NewPCG(1, uint64(replicas*100)))
			mean := replicas * .9 * autoscale.DefaultUtilization
			// Two averages of the same noise, as a Collector makes them, of some requests per second and replica.
			perSecond := .35 * math.Sqrt(mean)
			var lately, recently = mean, mean
			last, changes, reversals, up := int(math.Ceil(replicas)), 0, 0, false
			for range some(6 * 3600) {
				x := mean + perSecond*rng.NormFloat64()
				lately += (x - lately) / 60
				recently += (x - recently) / 10
				s := load(start, last, mean)
				s.ArrivalWork, s.RecentWork = autoscale.Figure(max(lately, 0)), autoscale.Figure(max(recently, 0))
				s.WorkNoise, s.RecentNoise = autoscale.Figure(perSecond/math.Sqrt(120)), autoscale.Figure(perSecond/math.Sqrt(20))
				if n := w.step(s).Replicas; n != last {
					if changes > 0 && (n > last) != up {
						reversals++
					}
					up, last = n > last, n
					changes++
				}
			}
			require.LessOrEqual(t, reversals, 6, "in six hours")
		})
	}
}

// signals returns some of a pool at random, or unknown.
func signals(rng *rand.Rand, at time.Time) autoscale.Signals {
	maybe := func(most float64) autoscale.Figure {
		switch rng.IntN(10) {
		case 0:
			return autoscale.Unknown()
		case 1:
			return 0
		}
		return autoscale.Figure(most * rng.Float64())
	}
	s := autoscale.NewSignals(pool, "", at)
	s.Ready, s.Starting = rng.IntN(30), rng.IntN(8)-1
	s.Queued, s.Running, s.PrefillTokens, s.ContextTokens = int64(rng.IntN(3)*rng.IntN(100)), int64(rng.IntN(400)), int64(rng.IntN(1e5)), int64(rng.IntN(1e6))
	s.ArrivalWork, s.RecentWork, s.WorkNoise, s.RecentNoise = maybe(20), maybe(20), maybe(1), maybe(2)
	s.Backlog, s.KVUsed, s.Batch, s.Waiting, s.Slots = maybe(200), maybe(1), maybe(100), maybe(50), maybe(256)
	s.KVTokens, s.ArrivalOutput = maybe(1e6), maybe(20_000)
	if rng.IntN(8) > 0 {
		s.Speed = types.Speed{Token: 1e-4 * rng.Float64(), Step: .03 * rng.Float64(), Sequence: 1e-4 * rng.Float64()}
	}
	s.TTFT = autoscale.Latency{P90: maybe(10), Target: maybe(2), Met: maybe(1), N: int64(rng.IntN(100))}
	s.TPOT = autoscale.Latency{P90: maybe(.1), Target: maybe(.1), Met: maybe(1), N: int64(rng.IntN(100))}
	s.Idle = time.Duration(rng.IntN(1000)-1) * time.Second
	if rng.IntN(10) == 0 {
		s.Missing = 1
	}
	if rng.IntN(5) == 0 {
		for i := range 3 {
			v := autoscale.Variant{Name: fmt.Sprint("v", i), Ready: rng.IntN(10), Starting: rng.IntN(3) - 1, CostPerHour: 10 * rng.Float64()}
			if rng.IntN(3) > 0 {
				v.Speed = types.Speed{Token: 1e-4 * rng.Float64(), Step: .2 * rng.Float64(), Sequence: 1e-4 * rng.Float64()}
			}
			s.Variants = append(s.Variants, v)
		}
	}
	return s
}

// Whatever happens it stays within bounds, and what is remembered makes the same decisions after it was saved and read.
func TestAnything(t *testing.T) {
	for seed := range uint64(some(60)) {
		rng := rand.New(rand.NewPCG(seed, 3))
		p := autoscale.Policy{Min: 1 + rng.IntN(3), Max: 5 + rng.IntN(50), ToZero: rng.IntN(2) == 0, StartUp: time.Duration(rng.IntN(3)) * time.Minute}
		var kept, saved autoscale.History
		at := start
		for range 500 {
			switch rng.IntN(50) {
			case 0:
				at = at.Add(-time.Duration(rng.IntN(1e4)) * time.Second)
			case 1:
				at = at.Add(time.Duration(rng.IntN(1e5)) * time.Second)
			default:
				at = at.Add(time.Duration(rng.IntN(3000)) * time.Millisecond)
			}
			s := signals(rng, at)
			got := autoscale.Desired(s, p, &kept)
			require.LessOrEqual(t, got.Replicas, max(p.Max, saturatedBy(got)), "%+v", got)
			if got.Replicas < p.Min {
				require.True(t, p.ToZero && got.Replicas == 0, "%+v", got)
			}
			for _, term := range got.Terms {
				require.False(t, term.Replicas < 0 || math.IsInf(float64(term.Replicas), 0), "%+v", term)
			}
			sum := 0
			for _, v := range got.Variants {
				require.GreaterOrEqual(t, v.Replicas, 0)
				sum += v.Replicas
			}
			if len(got.Variants) > 0 {
				require.Equal(t, sum, got.Replicas)
			}
			data, err := json.Marshal(saved)
			require.NoError(t, err)
			require.Less(t, len(data), 8<<10)
			saved = autoscale.History{}
			require.NoError(t, json.Unmarshal(data, &saved))
			again := autoscale.Desired(s, p, &saved)
			require.Empty(t, cmp.Diff(got, again, sameFigures))
		}
	}
}

var sameFigures = cmp.Comparer(func(a, b autoscale.Figure) bool { return a == b || a != a && b != b })

// saturatedBy is how many replicas there may be beyond Max: of variants, those of a kind of which some start do not go.
func saturatedBy(r autoscale.Recommendation) int {
	if len(r.Variants) > 0 {
		return 1 << 20
	}
	return 0
}

// More load never asks for fewer replicas, by any of what asks.
func TestMonotone(t *testing.T) {
	more := map[string]func(*autoscale.Signals){
		"work":    func(s *autoscale.Signals) { s.ArrivalWork *= 1.3; s.RecentWork *= 1.3 },
		"recent":  func(s *autoscale.Signals) { s.RecentWork *= 1.5 },
		"backlog": func(s *autoscale.Signals) { s.Backlog = s.Backlog*1.5 + 10 },
		"kv":      func(s *autoscale.Signals) { s.KVUsed = min(s.KVUsed*1.2, 1) },
		"batch":   func(s *autoscale.Signals) { s.Batch *= 1.4 },
		"waiting": func(s *autoscale.Signals) { s.Waiting += 20 },
	}
	for seed := range uint64(some(400)) {
		rng := rand.New(rand.NewPCG(seed, 9))
		s := signals(rng, start)
		s.Variants = nil
		for name, change := range more {
			var a, b autoscale.History
			fewer := autoscale.Desired(s, autoscale.Policy{Max: 10_000}, &a)
			up := s
			change(&up)
			got := autoscale.Desired(up, autoscale.Policy{Max: 10_000}, &b)
			require.GreaterOrEqual(t, got.Replicas, fewer.Replicas, "seed %d, more %s\n%+v\n%+v", seed, name, fewer, got)
		}
	}
}

// N times the load on N times the replicas asks for N times as many, by each term.
func TestScale(t *testing.T) {
	const n = 16
	for seed := range uint64(some(200)) {
		rng := rand.New(rand.NewPCG(seed, 5))
		p := autoscale.Policy{Max: 100_000, StartUp: time.Minute}
		one, many := newWorld(t, p), newWorld(t, p)
		for range 20 {
			s := signals(rng, start)
			s.Variants, s.Missing = nil, 0
			s.Ready++
			if s.Starting < 0 {
				s.Starting = 0
			}
			big := s
			big.Ready, big.Starting = n*s.Ready, n*s.Starting
			for _, f := range []*autoscale.Figure{&big.ArrivalWork, &big.RecentWork, &big.WorkNoise, &big.RecentNoise, &big.Backlog, &big.ArrivalOutput} {
				*f *= n
			}
			big.Queued, big.Running, big.PrefillTokens, big.ContextTokens = n*s.Queued, n*s.Running, n*s.PrefillTokens, n*s.ContextTokens
			// What was recommended decides whether targets missed say anything, and comes in whole numbers.
			s.TTFT, s.TPOT, big.TTFT, big.TPOT = autoscale.Latency{Target: 1}, autoscale.Latency{Target: .1}, autoscale.Latency{Target: 1}, autoscale.Latency{Target: .1}
			a, b := one.step(s), many.step(big)
			for i := range a.Terms {
				require.InDelta(t, n*float64(a.Terms[i].Replicas.Or(0)), b.Terms[i].Replicas.Or(0), 1e-6*n*a.Terms[i].Replicas.Or(1)+1e-6, "%+v\n%+v", a.Terms[i], b.Terms[i])
			}
		}
	}
}

// The same signals once more, at the same time, change nothing.
func TestIdempotent(t *testing.T) {
	for seed := range uint64(some(50)) {
		rng := rand.New(rand.NewPCG(seed, 7))
		var h autoscale.History
		at := start
		for range 100 {
			at = at.Add(time.Second)
			s := signals(rng, at)
			first := autoscale.Desired(s, autoscale.Policy{}, &h)
			require.Equal(t, first.Replicas, autoscale.Desired(s, autoscale.Policy{}, &h).Replicas, "seed %d", seed)
		}
	}
}

// The clock of the machine may be set, and the process may be stopped: nothing falls because of it.
func TestClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{-time.Hour, -time.Minute, 10 * time.Minute, 100 * time.Hour} {
		w := newWorld(t, autoscale.Policy{StartUp: time.Minute})
		w.steps(300, load(start, 8, 5))
		w.at = w.at.Add(jump)
		for range 60 {
			require.Equal(t, 8, w.step(load(start, 8, 1)).Replicas, "%v", jump)
		}
		require.Equal(t, 3, w.steps(60, load(start, 8, 1)).Replicas, "%v", jump)
	}
}

// The dearest go first, the cheapest come first, and none of which some start goes.
func TestVariants(t *testing.T) {
	fast, slow := types.Speed{Token: 25e-6, Step: .005, Sequence: 25e-6}, types.Speed{Token: 1e-4, Step: .02, Sequence: 1e-4}
	kinds := func(big, small, starting int) []autoscale.Variant {
		return []autoscale.Variant{
			{Name: "big", Ready: big, CostPerHour: 10, Speed: fast, Starting: starting},
			{Name: "small", Ready: small, CostPerHour: 2, Speed: slow},
		}
	}
	ask := func(policy autoscale.Policy, ready int, work float64, v []autoscale.Variant) map[string]int {
		w := newWorld(t, policy)
		s := load(start, ready, work)
		s.Variants = v
		r := w.steps(1200, s)
		by := map[string]int{}
		for _, v := range r.Variants {
			by[v.Name] = v.Replicas
		}
		return by
	}
	// In units of what one of mean speed does a big one does 1.9/.9 and a small one .8/.9·.5.
	require.Equal(t, map[string]int{"big": 2, "small": 13}, ask(autoscale.Policy{}, 4, 6, kinds(2, 2, 0)), "the small are cheaper for what they do")
	require.Equal(t, map[string]int{"big": 0, "small": 3}, ask(autoscale.Policy{}, 4, .1, kinds(2, 3, 0)))
	require.Equal(t, map[string]int{"big": 3, "small": 0}, ask(autoscale.Policy{}, 4, .1, kinds(2, 3, 1)), "one starts: of its kind none goes")
	strict := autoscale.Policy{TPOT: 18 * time.Millisecond}
	got := ask(strict, 4, 6, kinds(2, 2, 0))
	require.Greater(t, got["big"], 2)
	require.LessOrEqual(t, got["small"], 2, "those cannot meet the target")
	require.Empty(t, ask(autoscale.Policy{}, 4, 6, nil))
}
