package simulation_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
)

// scaler is a Scaler, Waker, Sampler and Watcher made of functions.
type scaler struct {
	scale   func(*simulation.Observation) int
	wake    func(*simulation.Observation) int
	sampled int
	hooks   int // events that its hooks heard of
	watched []string
}

func (s *scaler) Scale(o *simulation.Observation) int { return s.scale(o) }
func (s *scaler) Sample(*simulation.Observation)      { s.sampled++ }
func (s *scaler) Wake(o *simulation.Observation) int {
	if s.wake == nil {
		return o.Target
	}
	return s.wake(o)
}

func (s *scaler) Watch(gateway string, p *scheduling.Profile, o *admission.Options) {
	s.watched = append(s.watched, gateway)
	p.Hooks.Scheduled = func(scheduling.Event) { s.hooks++ }
	if o != nil {
		o.Hooks.Queued = func(*admission.Ticket) { s.hooks++ }
	}
}

var (
	_ simulation.Waker   = (*scaler)(nil)
	_ simulation.Sampler = (*scaler)(nil)
	_ simulation.Watcher = (*scaler)(nil)
)

func stays(o *simulation.Observation) int { return o.Target }

func scaled(s *scaler) simulation.Config {
	return simulation.Config{
		Fleet:     simulation.Uniform(2, engine.Config{MaxSeqs: 8}),
		Workload:  simulation.ShareGPT{Rate: 4},
		Policy:    simulation.Policy{Name: "least", Profile: plugins.LeastRequests},
		Admission: func() admission.Options { return admission.Options{WaitForEndpoints: 5 * time.Minute} },
		Scaling: &simulation.Scaling{
			Scaler: func() (simulation.Scaler, error) { return s, nil }, Template: simulation.Replica{Engine: engine.Config{MaxSeqs: 8}},
			Startup: simulation.Span{From: 20 * time.Second, To: 40 * time.Second},
		},
		Goodput:  types.SLO{TTFT: time.Second},
		Duration: 4 * time.Minute, Seed: 5,
	}
}

// A Scaler that changes nothing changes nothing: every figure is that of the same run without one, to the last bit.
func TestScalingThatStays(t *testing.T) {
	for seed := range uint64(3) {
		c := scaled(&scaler{scale: stays})
		c.Seed, c.Gateways = seed, 1+int(seed)
		with := mustRun(t, c)
		report := with.Scaling
		c.Scaling = nil
		without := mustRun(t, c)
		require.InDelta(t, 2*c.Duration.Hours(), report.Hours, 1e-9)
		require.Zero(t, report.Ordered+report.Removed+report.Reversals+report.ColdStarts)
		require.Equal(t, 2, report.Peak)
		with.Scaling = nil
		require.Equal(t, without, with)
	}
}

func TestScalingRepeats(t *testing.T) {
	run := func(seed uint64) *simulation.Report {
		c := scaled(&scaler{scale: func(o *simulation.Observation) int { return 1 + o.InFlight/4 }})
		c.Seed, c.Gateways = seed, 2
		return mustRun(t, c)
	}
	first := run(1)
	require.Equal(t, first, run(1))
	require.NotEqual(t, first.Scaling, run(2).Scaling)
	require.Positive(t, first.Scaling.Ordered)
	require.Positive(t, first.Scaling.Removed)
	require.Positive(t, first.Scaling.Reversals)
	require.Equal(t, first.Arrived, first.Completed+first.Failed+first.Shed)
}

// A replica costs from its order until the last of its jobs has ended, and serves after its start-up time.
func TestScalingHours(t *testing.T) {
	at := func(o *simulation.Observation) int {
		switch {
		case o.At < time.Minute:
			return 2
		case o.At < 2*time.Minute:
			return 5
		}
		return 1
	}
	var ready []int
	c := scaled(&scaler{scale: func(o *simulation.Observation) int {
		ready = append(ready, o.Ready)
		require.Equal(t, o.Target, o.Ready+o.Starting)
		require.Len(t, o.Servers, o.Ready)
		return at(o)
	}})
	c.Scaling.Startup = simulation.Span{From: 25 * time.Second, To: 25 * time.Second}
	r := mustRun(t, c)
	require.Equal(t, []int{2, 2, 2, 2, 2, 5, 5, 5, 1}, ready[:9])
	// 2 for a minute, 5 for another, 1 for the last two: and what drains.
	least := (2*60 + 5*60 + 1*120) / 3600.
	require.Greater(t, r.Scaling.Hours, least)
	require.Less(t, r.Scaling.Hours, least+4*20/3600.)
	require.Equal(t, []int{3, 4, 1, 5}, []int{r.Scaling.Ordered, r.Scaling.Removed, r.Scaling.Reversals, r.Scaling.Peak})
	require.Zero(t, r.Failed)

	// With a grace of no time at all, what is under way fails.
	c.Scaling.Grace = time.Nanosecond
	killed := mustRun(t, c)
	require.InDelta(t, least, killed.Scaling.Hours, 1e-6)
	require.Positive(t, killed.Scaling.Killed)
	require.Positive(t, killed.Failed)
}

// Those that do not serve yet go first: they cost until then, and never serve.
func TestScalingCancelsOrders(t *testing.T) {
	c := scaled(&scaler{scale: func(o *simulation.Observation) int {
		if o.At == time.Minute {
			return 6
		}
		return 2
	}})
	r := mustRun(t, c)
	require.InDelta(t, (2*240+4*15)/3600., r.Scaling.Hours, 1e-9)
	require.Len(t, r.Replicas, 2)
}

func TestScalingVictim(t *testing.T) {
	for _, v := range []simulation.Victim{simulation.Youngest, simulation.LeastLoaded} {
		names := map[string]bool{}
		c := scaled(&scaler{scale: func(o *simulation.Observation) int {
			if o.At >= 2*time.Minute {
				for _, s := range o.Servers {
					names[s.Name] = true
				}
				return 2
			}
			return 3
		}})
		// The first replica is so much faster that it has the fewest jobs by far.
		c.Fleet.Replicas[0].Engine.Calibration = engine.Llama31H100()
		c.Fleet.Replicas[0].Engine.Calibration.Speed = 1000
		c.Policy.Profile = plugins.RoundRobinProfile
		c.Scaling.Victim = v
		clear(names)
		r := mustRun(t, c)
		require.Len(t, r.Replicas, 3)
		last := r.Timeline[len(r.Timeline)*7/8]
		if v == simulation.Youngest {
			require.Zero(t, last.Running[2])
		} else {
			require.Positive(t, last.Running[2])
		}
	}
}

// With no replica, jobs wait at the gateway until one serves; a Waker hears of the first at once.
func TestScalingFromZero(t *testing.T) {
	for _, wakes := range []bool{false, true} {
		s := &scaler{scale: func(o *simulation.Observation) int {
			if o.Queued > 0 {
				require.Positive(t, o.QueuedTokens)
				require.Positive(t, o.Oldest)
				return 1
			}
			return o.Target
		}}
		if wakes {
			s.wake = func(*simulation.Observation) int { return 1 }
		}
		c := scaled(s)
		c.Fleet = simulation.Fleet{}
		c.Scaling.Startup = simulation.Span{From: 10 * time.Second, To: 10 * time.Second}
		c.Workload = script{jobs: []simulation.Job{job(3*time.Second, 1, 100, 10), job(4*time.Second, 2, 100, 10), job(time.Minute, 3, 100, 10)}}
		c.Duration = 90 * time.Second
		r := mustRun(t, c)
		require.Equal(t, 3, r.Completed)
		require.Equal(t, 1, r.Scaling.ColdStarts)
		ordered := 15.
		if wakes {
			ordered = 3
		}
		require.InDelta(t, ordered+10-3, r.TTFT.Max, .1)
		require.InDelta(t, (90-ordered)/3600, r.Scaling.Hours, 1e-6)
	}
}

// Nobody can ask for what Scaling has not got: its hooks are heard, its samples come, and what it is told adds up.
func TestScalingObservation(t *testing.T) {
	seen := false
	s := &scaler{}
	s.scale = func(o *simulation.Observation) int {
		require.Equal(t, o.Now.Unix(), int64(1735689600+o.At.Seconds()))
		require.Len(t, o.Gateways, 2)
		if o.At == 2*time.Minute {
			seen = true
			require.Positive(t, o.InFlight)
			require.Positive(t, o.ContextTokens)
			require.Greater(t, o.Arrived, o.Answered)
			require.Greater(t, o.Tokens, o.Arrived)
			require.Greater(t, o.TTFT(time.Minute, .9), o.TTFT(time.Minute, .5))
			require.Greater(t, o.TPOT(time.Minute, .9), 0.)
			require.Greater(t, o.TTFT(time.Minute, .99), 0.)
			require.IsType(t, 0., o.Saturation)
			for _, one := range o.Servers {
				require.Positive(t, one.Running)
				require.Positive(t, one.KVUsage)
				require.LessOrEqual(t, one.Age, 100*time.Millisecond)
			}
		}
		require.NotEqual(t, o.TTFT(0, .5), o.TTFT(0, .5), "nothing came at this very moment")
		return o.Target
	}
	c := scaled(s)
	c.Gateways = 2
	r := mustRun(t, c)
	require.True(t, seen)
	require.Equal(t, []string{"g0", "g1"}, s.watched)
	require.GreaterOrEqual(t, s.hooks, r.Completed)
	require.GreaterOrEqual(t, s.sampled, 240)
	arrived, met := 0, 0
	for _, one := range r.Scaling.Timeline {
		arrived, met = arrived+one.Arrived, met+one.Met
	}
	require.InDelta(t, r.Arrived, arrived, 4, "those after the last sample")
	require.InDelta(t, r.Goodput, float64(met)/float64(arrived), .01)
}

func TestRecovery(t *testing.T) {
	r := simulation.ScalingReport{Every: 15}
	for i, met := range []int{9, 9, 2, 2, 9, 2, 9, 9, 10, 9, 9, 9, 9} {
		r.Timeline = append(r.Timeline, simulation.ScalingSample{At: float64(15 * (i + 1)), Arrived: 10, Met: met})
	}
	require.Equal(t, 60., r.Recovery(30*time.Second, .9))
	require.Equal(t, -1., r.Recovery(30*time.Second, .95))
	r.Timeline[3].Arrived, r.Timeline[3].Met = 0, 0
	require.Equal(t, 0., r.Recovery(135*time.Second, .9))
}

func TestScalingValidate(t *testing.T) {
	for _, bad := range []func(*simulation.Scaling){
		func(s *simulation.Scaling) { s.Scaler = nil },
		func(s *simulation.Scaling) { s.Every = -1 },
		func(s *simulation.Scaling) { s.Startup = simulation.Span{From: 2, To: 1} },
		func(s *simulation.Scaling) { s.Min, s.Max = 4, 3 },
		func(s *simulation.Scaling) { s.Victim = 9 },
		func(s *simulation.Scaling) { s.Template.Name = "x" },
		func(s *simulation.Scaling) { s.Template.Role = "prefill" },
		func(s *simulation.Scaling) {
			s.Scaler = func() (simulation.Scaler, error) { return nil, errors.New("no") }
		},
	} {
		c := scaled(&scaler{scale: stays})
		bad(c.Scaling)
		_, err := simulation.Run(ctx, c)
		require.ErrorContains(t, err, "Scaling")
	}
}
