package simulation_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

var ctx = context.Background()

// script is a workload of jobs that are written down.
type script struct {
	jobs []simulation.Job
	then func(j *simulation.Job, at time.Duration) (simulation.Job, bool)
}

func (s script) Validate() error { return nil }
func (s script) Start(uint64) simulation.Source {
	return &scripted{script: s}
}

type scripted struct {
	script
	next int
}

func (s *scripted) Next() (simulation.Job, bool) {
	if s.next == len(s.jobs) {
		return simulation.Job{}, false
	}
	s.next++
	return s.jobs[s.next-1], true
}

func (s *scripted) Done(j *simulation.Job, at time.Duration, served bool) (simulation.Job, bool) {
	if s.then == nil || !served {
		return simulation.Job{}, false
	}
	return s.then(j, at)
}

// poisson is n jobs of 100 tokens in and 20 out, at a rate, all different.
func poisson(n int, rate float64) script {
	rnd := types.NewRand(3)
	at, jobs := 0.0, []simulation.Job(nil)
	for i := range n {
		at -= math.Log(1-rnd.Float64()) / rate
		jobs = append(jobs, job(time.Duration(at*1e9), uint64(i+1), 100, 20))
	}
	return script{jobs: jobs}
}

func job(at time.Duration, id uint64, prompt, output int) simulation.Job {
	return simulation.Job{Arrival: at, Content: []simulation.Segment{{ID: id, Tokens: prompt}}, Output: output}
}

func roundRobin() simulation.Policy {
	return simulation.Policy{Name: "round-robin", Profile: plugins.RoundRobinProfile}
}

func mustRun(t testing.TB, c simulation.Config) *simulation.Report {
	t.Helper()
	r, err := simulation.Run(ctx, c)
	require.NoError(t, err)
	return r
}

func near(got, want float64) bool { return math.Abs(got-want) <= 0.002*math.Abs(want)+1e-9 }

// One request alone: TTFT is the API, one prefill; each further token one step.
func TestOneRequestAlone(t *testing.T) {
	c := engine.Llama31H100()
	r := mustRun(t, simulation.Config{
		Fleet: simulation.Uniform(1, engine.Config{Calibration: c}), Workload: script{jobs: []simulation.Job{job(time.Second, 1, 1000, 11)}},
		Policy: roundRobin(), Duration: 2 * time.Second,
	})
	prefill := c.Fixed + c.PerSequence + math.Hypot(c.WeightFloor, 1000*c.PerToken) + c.PrefillAttention*1000*500
	if want := 0.005 + prefill; !near(r.TTFT.P50, want) {
		t.Errorf("TTFT = %v, want %v", r.TTFT.P50, want)
	}
	step := c.Fixed + c.PerSequence + math.Hypot(c.WeightFloor, c.PerToken) + 1005*c.PerContextToken
	if !near(r.TPOT.P50, step) {
		t.Errorf("TPOT = %v, want %v", r.TPOT.P50, step)
	}
	if r.Arrived != 1 || r.Completed != 1 || !r.Steady {
		t.Errorf("report = %+v", r)
	}
}

// The second of two equal prompts finds all but the last block of the first.
func TestPrefixIsFoundAndReported(t *testing.T) {
	r := mustRun(t, simulation.Config{
		Fleet:    simulation.Uniform(4, engine.Config{}),
		Workload: script{jobs: []simulation.Job{job(0, 7, 1600, 5), job(time.Second, 7, 1600, 5)}},
		Policy:   simulation.Policy{Name: "classic", Profile: plugins.Classic}, Duration: 2 * time.Second, ExplainJob: 2,
	})
	if want := float64(99*16) / 3200; !near(r.PrefixHits, want) {
		t.Errorf("PrefixHits = %v, want %v", r.PrefixHits, want)
	}
	if r.Explanation == nil || r.Explanation.Chosen() == nil || !strings.Contains(r.Explanation.String(), "25 of 25 blocks cached") {
		t.Errorf("the second decision is explained as\n%v", r.Explanation)
	}
}

func TestSameSeedSameReport(t *testing.T) {
	run := func(seed uint64) string {
		r := mustRun(t, simulation.Config{
			Fleet: simulation.Uniform(4, engine.Config{}), Workload: poisson(3000, 100), Gateways: 3,
			Policy: simulation.Policy{Name: "x", Profile: plugins.ClassicWithInFlight}, Duration: time.Minute, Seed: seed,
		})
		b, err := json.Marshal(r)
		require.NoError(t, err)
		return string(b)
	}
	if a, b := run(1), run(1); a != b {
		t.Errorf("the same seed gave\n%.300s\n%.300s", a, b)
	}
	if run(1) == run(2) {
		t.Error("two seeds gave the same report")
	}
}

// Replicas of one configuration draw different noise, after a restart too, and the
// run's seed and the configuration's own both count.
func TestNoiseIsEachReplicasOwn(t *testing.T) {
	run := func(seed uint64, noise engine.Noise, replicas int, faults ...simulation.Fault) simulation.Distribution {
		// Two jobs with nothing in common but their size: one at each of two replicas, or
		// one after the other at one.
		at := time.Duration(2/replicas-1) * 10 * time.Second
		return mustRun(t, simulation.Config{
			Fleet:    simulation.Uniform(replicas, engine.Config{Noise: noise}),
			Workload: script{jobs: []simulation.Job{job(0, 1, 100, 20), job(at, 2, 100, 20)}},
			Policy:   roundRobin(), Duration: time.Minute, Seed: seed, Faults: faults,
		}).E2E
	}
	noisy := engine.Noise{Spread: 0.25, StallEvery: 10, Stall: 50 * time.Millisecond}
	restart := simulation.Fault{At: 5 * time.Second, Kind: simulation.Restart}
	for name, run := range map[string]func(uint64, engine.Noise) simulation.Distribution{
		"two replicas": func(seed uint64, n engine.Noise) simulation.Distribution { return run(seed, n, 2) },
		"a restart":    func(seed uint64, n engine.Noise) simulation.Distribution { return run(seed, n, 1, restart) },
	} {
		if d := run(1, engine.Noise{Seed: 5}); d.Count != 2 || d.Mean != d.Max {
			t.Errorf("%s without noise: %+v, want two jobs that take the same time", name, d)
		}
		d := run(1, noisy)
		if d.Count != 2 || d.Max-d.Mean < 0.001 {
			t.Errorf("%s: %+v, want two jobs that do not take the same time", name, d)
		}
		if again := run(1, noisy); again != d {
			t.Errorf("%s: %+v, and again %+v", name, d, again)
		}
		seeded := noisy
		seeded.Seed = 1
		if other := run(2, noisy); other == d {
			t.Errorf("%s: another seed of the run gives the same: %+v", name, d)
		}
		if other := run(1, seeded); other == d {
			t.Errorf("%s: another seed of the noise gives the same: %+v", name, d)
		}
	}
}

func TestEveryJobEndsOnce(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*simulation.Config)
		check  func(*simulation.Report) error
	}{
		{"plain", func(*simulation.Config) {}, func(r *simulation.Report) error {
			if r.Completed != 2000 {
				return fmt.Errorf("%d completed", r.Completed)
			}
			return nil
		}},
		{"a replica dies and comes back", func(c *simulation.Config) {
			c.Faults = []simulation.Fault{{At: 3 * time.Second, Kind: simulation.Die, Index: 0}, {At: 6 * time.Second, Kind: simulation.Restart, Index: 0}}
		}, func(r *simulation.Report) error {
			if r.Failed == 0 || r.Failed > 60 || r.Replicas[0].Jobs < 300 {
				return fmt.Errorf("%d failed, %d at the replica that died", r.Failed, r.Replicas[0].Jobs)
			}
			return nil
		}},
		{"a replica hangs", func(c *simulation.Config) {
			c.Faults = []simulation.Fault{{At: 3 * time.Second, Kind: simulation.Hang, Index: 1, For: 4 * time.Second}}
		}, func(r *simulation.Report) error {
			if r.Completed != 2000 || r.E2E.Max < 3.5 {
				return fmt.Errorf("%d completed, longest %v", r.Completed, r.E2E.Max)
			}
			return nil
		}},
		{"removed and added", func(c *simulation.Config) {
			c.Faults = []simulation.Fault{{At: 3 * time.Second, Kind: simulation.Remove, Index: 0}, {At: 5 * time.Second, Kind: simulation.Add, Replica: simulation.Replica{Name: "new"}}}
		}, func(r *simulation.Report) error {
			if r.Completed != 2000 || len(r.Replicas) != 5 || r.Replicas[4].Jobs < 200 || r.Replicas[0].Jobs > 200 {
				return fmt.Errorf("%d completed, replicas %+v", r.Completed, r.Replicas)
			}
			return nil
		}},
		{"clients give up", func(c *simulation.Config) {
			s := poisson(2000, 100)
			for i := range s.jobs {
				if i%2 == 0 {
					s.jobs[i].Patience = time.Millisecond
				}
			}
			c.Workload = s
		}, func(r *simulation.Report) error {
			if r.Cancelled != 1000 || r.Completed != 1000 {
				return fmt.Errorf("%d cancelled, %d completed", r.Cancelled, r.Completed)
			}
			return nil
		}},
		{"no scraping", func(c *simulation.Config) { c.Scrape.Period = -1 }, func(r *simulation.Report) error {
			if r.Completed != 2000 {
				return fmt.Errorf("%d completed", r.Completed)
			}
			return nil
		}},
		{"bounded by jobs", func(c *simulation.Config) { c.Jobs = 500 }, func(r *simulation.Report) error {
			if r.Completed != 500 {
				return fmt.Errorf("%d completed", r.Completed)
			}
			return nil
		}},
		{"closed loop", func(c *simulation.Config) { c.ClosedLoop = 8 }, func(r *simulation.Report) error {
			if r.Completed < 1000 || r.OfferedRate > 400 {
				return fmt.Errorf("%d completed at %v/s", r.Completed, r.OfferedRate)
			}
			return nil
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := simulation.Config{
				Fleet: simulation.Uniform(4, engine.Config{}), Workload: poisson(2000, 100),
				Policy: roundRobin(), Duration: 30 * time.Second,
			}
			tt.change(&c)
			r := mustRun(t, c)
			if sum := r.Completed + r.Failed + r.Shed + r.Cancelled + r.Unfinished; sum != r.Arrived {
				t.Errorf("%d arrived, %d ended", r.Arrived, sum)
			}
			require.NoError(t, tt.check(r))
		})
	}
}

// A turn follows the one before, and finds it in the cache.
func TestFollowingJobs(t *testing.T) {
	turns := 0
	w := script{jobs: []simulation.Job{{Content: []simulation.Segment{{ID: 1, Tokens: 320}}, Output: 160, OutputID: 2}}}
	w.then = func(j *simulation.Job, at time.Duration) (simulation.Job, bool) {
		if turns++; turns > 1 {
			return simulation.Job{}, false
		}
		return simulation.Job{Arrival: at + time.Second, Content: append(j.Content, simulation.Segment{ID: 2, Tokens: 160}, simulation.Segment{ID: 3, Tokens: 320}), Output: 1}, true
	}
	r := mustRun(t, simulation.Config{Fleet: simulation.Uniform(1, engine.Config{}), Workload: w, Policy: roundRobin(), Duration: time.Minute})
	// The last token of the output is never computed, so its block is not there.
	if want := float64(29*16) / (320 + 800); r.Completed != 2 || !near(r.PrefixHits, want) {
		t.Errorf("%d completed, hits %v, want 2 and %v", r.Completed, r.PrefixHits, want)
	}
}

func TestOverloadIsSaid(t *testing.T) {
	w := poisson(20000, 400)
	for i := range w.jobs {
		w.jobs[i].Priority = types.PriorityCritical // others are shed when queues are very long
	}
	c := simulation.Config{
		Fleet: simulation.Uniform(1, engine.Config{MaxSeqs: 8}), Workload: w, Policy: roundRobin(), Duration: 30 * time.Second,
	}
	if r := mustRun(t, c); r.Steady || !strings.Contains(r.Why, "never reached a steady state") {
		t.Errorf("steady %v, %q", r.Steady, r.Why)
	}
	c.Workload = poisson(20000, 10)
	if r := mustRun(t, c); !r.Steady {
		t.Errorf("at a low load: %q", r.Why)
	}
}

func TestImpossible(t *testing.T) {
	for text, c := range map[string]simulation.Config{
		"more than the KV cache": {Fleet: simulation.Uniform(2, engine.Config{Blocks: 10}), Workload: script{jobs: []simulation.Job{job(0, 1, 150, 11)}}},
		`adapter "x"`: {Fleet: simulation.Fleet{Replicas: []simulation.Replica{{Adapters: []string{"y"}}}},
			Workload: script{jobs: []simulation.Job{{Content: []simulation.Segment{{ID: 1, Tokens: 9}}, Output: 1, Adapter: "x"}}}},
		"0 prompt": {Fleet: simulation.Uniform(1, engine.Config{}), Workload: script{jobs: []simulation.Job{{Output: 1}}}},
	} {
		c.Policy, c.Duration = roundRobin(), time.Second
		if _, err := simulation.Run(ctx, c); !errors.Is(err, simulation.ErrImpossible) || !strings.Contains(err.Error(), text) {
			t.Errorf("Run: %v, want ErrImpossible with %q", err, text)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	good := simulation.Config{Fleet: simulation.Uniform(1, engine.Config{}), Workload: poisson(1, 1), Policy: roundRobin(), Duration: time.Second}
	for text, change := range map[string]func(*simulation.Config){
		"no replicas": func(c *simulation.Config) { c.Fleet = simulation.Fleet{} },
		"Workload":    func(c *simulation.Config) { c.Workload = nil },
		"both or":     func(c *simulation.Config) { c.Policy.Profile = nil },
		"Duration":    func(c *simulation.Config) { c.Duration = 0 },
		"negative":    func(c *simulation.Config) { c.Gateways = -1 },
		"jitter":      func(c *simulation.Config) { c.Scrape.Jitter = 2 },
		"Faults[0]":   func(c *simulation.Config) { c.Faults = []simulation.Fault{{At: -1}} },
		"names replica 7": func(c *simulation.Config) {
			c.Faults = []simulation.Fault{{Index: 7}}
			c.Workload = poisson(100, 100)
		},
		"no Picker": func(c *simulation.Config) {
			c.Policy.Profile = func() scheduling.Profile { return scheduling.Profile{} }
		},
		"replica": func(c *simulation.Config) { c.Fleet = simulation.Uniform(1, engine.Config{Blocks: -1}) },
		"replica r0: engine: Noise.Spread": func(c *simulation.Config) {
			c.Fleet = simulation.Uniform(1, engine.Config{Noise: engine.Noise{Spread: -1}})
		},
	} {
		c := good
		change(&c)
		if _, err := simulation.Run(ctx, c); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("Run: %v, want an error with %q", err, text)
		}
	}
	stopped, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := simulation.Run(stopped, good); !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v, want context.Canceled", err)
	}
}

// BenchmarkRun is the whole simulator on one core: 10 replicas of Llama-2-7B under
// ShareGPT's lengths at 260 requests/s, nine tenths of what they can serve. The
// aim is 1,000,000 requests in 3 minutes, 180 µs each, and memory that does not
// grow with the run: "peak" is the heap at its largest, seen once in a while.
func BenchmarkRun(b *testing.B) {
	for _, bench := range []struct {
		policy simulation.Policy
		jobs   int
	}{
		{roundRobin(), 100_000},
		{simulation.Policy{Name: "classic", Profile: plugins.Classic}, 100_000},
		{simulation.Policy{Name: "in-flight", Profile: plugins.ClassicWithInFlight}, 100_000},
		{simulation.Policy{Name: "in-flight", Profile: plugins.ClassicWithInFlight}, 1_000_000},
	} {
		b.Run(fmt.Sprintf("policy=%s/requests=%d", bench.policy.Name, bench.jobs), func(b *testing.B) {
			jobs, peak, n := 0, uint64(0), 0
			for b.Loop() {
				r := mustRun(b, simulation.Config{
					Fleet:    simulation.Uniform(10, engine.Config{Calibration: engine.Llama2H100()}),
					Workload: simulation.ShareGPT{Rate: 260}, Policy: bench.policy, Jobs: bench.jobs,
					Progress: func(simulation.Progress) {
						if n++; n%64 == 0 {
							var m runtime.MemStats
							runtime.ReadMemStats(&m)
							peak = max(peak, m.HeapAlloc)
						}
					},
				})
				jobs += r.Completed
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(jobs), "µs/request")
			b.ReportMetric(float64(peak)/(1<<20), "peak-MiB")
		})
	}
}

// Capacity of a fleet of which each replica takes 8 sequences at a time: what the
// slots allow.
func TestCapacity(t *testing.T) {
	c := engine.Llama31H100()
	two := simulation.Config{
		Fleet:    simulation.Uniform(2, engine.Config{Calibration: c, MaxSeqs: 8}),
		Workload: simulation.ShareGPT{Input: simulation.Length{Kind: simulation.LengthFixed, Tokens: 100}, Output: simulation.Length{Kind: simulation.LengthFixed, Tokens: 100}},
		Duration: 90 * time.Second,
	}
	got, err := simulation.Capacity(ctx, two)
	require.NoError(t, err)
	step := c.Fixed + 8*c.PerSequence + math.Hypot(c.WeightFloor, 8*c.PerToken) + 8*150*c.PerContextToken
	want := 2 * 8 / (100 * step)
	if got < 0.85*want || got > 1.05*want {
		t.Errorf("Capacity = %v, want about %v", got, want)
	}
	for _, guess := range []float64{got / 1.7, got * 1.7} {
		near, err := simulation.CapacityNear(ctx, two, guess)
		require.NoError(t, err)
		require.InEpsilon(t, got, near, .03, "from %v", guess)
	}
	if _, err := simulation.Capacity(ctx, simulation.Config{Fleet: simulation.Uniform(1, engine.Config{}), Workload: script{}}); !errors.Is(err, simulation.ErrNoRate) {
		t.Errorf("Capacity of a workload without a rate: %v", err)
	}
}
