package suite

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/inferpick/inferpick/examples/simulator/bound"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/types"
)

// Options say how a suite is played. The zero value plays all of it.
type Options struct {
	// Quick plays what Suite.Quick says.
	Quick bool
	// Seeds replaces those of the suite. Optional.
	Seeds []uint64
	// Traces has the file of each trace, by name.
	Traces map[string]string
	// Capacity is the policy under which capacity is measured; the caller finds it
	// by the name in Suite.Capacity. Default: fewest requests in flight.
	Capacity simulation.Policy
	// OwnCapacity measures the capacity under each policy, too, in the first scenario of each
	// family: some six runs each.
	OwnCapacity bool
	// Workers is how many runs go on at a time. Default: one for each CPU. It
	// changes no figure.
	Workers int
	// Tuning plays what Suite.Tuning says.
	Tuning bool
	// Records gives runs that were played before, and takes those that are. Optional.
	Records *Records
	// Progress is called, by one goroutine at a time, with how much of the work is
	// done, 0 to 1, and what goes on. Optional.
	Progress func(done float64, what string)
}

// Result is what a suite came to.
type Result struct {
	Suite    *Suite
	Policies []string
	Seeds    []uint64
	// Cases are the scenarios at each of their loads, in the order of the suite.
	Cases []Case
	// Capacities are how much each policy keeps up with, if Options.OwnCapacity.
	Capacities []Capacity
	// Skipped says which scenarios were not played, and why.
	Skipped []string
}

// Case is a scenario at one load.
type Case struct {
	Scenario string
	Family   string
	Load     float64 // fraction of capacity; 0: the workload's own rate
	Rate     float64 // jobs, or sessions, per second; 0: the workload's own
	Capacity float64 // measured; 0 if it was not
	// Against is the scenario that this one is compared with, at the same load; empty: none.
	Against string
	// Traffic is what this case has in common with others of other fleets, of a Grid; empty: nothing.
	Traffic string
	Rows    []Row // one for each policy, in the order of Result.Policies

	// Bound is what no policy that serves all jobs can go below: the mean over the seeds.
	Bound bound.Bound
	// Unbounded says why there is no Bound.
	Unbounded error
}

// Row is how a policy did in a case: means over the seeds.
type Row struct {
	Policy string
	// P90 has the figures in the order of Figures, in seconds.
	P90 [figures]float64
	// TTFTP50, TTFTP99 and TPOTP99 are other percentiles, in seconds.
	TTFTP50, TTFTP99, TPOTP99 float64
	// TTFTMean is the mean time to first token, in seconds; 0 in records of before it was kept.
	TTFTMean float64
	// E2EMean is the mean end-to-end time, in seconds; 0 in records of before it was kept.
	E2EMean float64
	// Of fleets with roles also: Apart is the part of jobs that two replicas served, and Transfer the mean time, in
	// seconds, that it took to hand their prompts over.
	Apart, Transfer float64
	// More are the other percentiles, in seconds: 0 in records of before they were kept.
	More Percentiles
	// Whole is of jobs without first tokens, which count in none of the figures of TTFT and TPOT.
	Whole Whole
	// Goodput is the part of jobs that met Scenario.Goodput.
	Goodput float64
	// Ratio is P90 over the lowest of all policies. NaN if there is none.
	Ratio [figures]float64
	// Low and High are the least and the greatest of Ratio over the seeds, each
	// against the same policy with the same seed.
	Low, High [figures]float64
	// Hits is the part of prompt tokens found in prefix caches.
	Hits float64
	// Steady tells whether all runs kept up. If not, P90 grows with the length of
	// the run, and Ratio is a lower bound.
	Steady bool
	// Incomplete counts jobs that failed, were shed or did not end.
	Incomplete int
	// Runs are the seeds, in the order of Result.Seeds.
	Runs []Record
	// Err is why there are no figures.
	Err error
}

// Run plays a suite with some policies. It returns an error if ctx is done, or if
// a capacity cannot be measured; a run that fails is in the Result.
func Run(ctx context.Context, s *Suite, policies []simulation.Policy, o Options) (*Result, error) {
	p, err := newPlayer(ctx, s, policies, o)
	if err != nil {
		return nil, err
	}
	r := &Result{Suite: s, Seeds: p.seeds}
	for _, policy := range policies {
		r.Policies = append(r.Policies, policy.Name)
	}
	plans, skipped, err := p.plan()
	if err != nil {
		return nil, err
	}
	r.Skipped = skipped
	sites, err := p.measure(plans)
	if err != nil {
		return nil, err
	}
	if o.OwnCapacity {
		if r.Capacities, err = p.measureOwn(sites); err != nil {
			return nil, err
		}
	}
	if r.Cases, err = p.play(plans); err != nil {
		return nil, err
	}
	r.rank()
	return r, nil
}

// newPlayer returns a player with the seeds, and the part of each duration, that o asks for.
func newPlayer(ctx context.Context, s *Suite, policies []simulation.Policy, o Options) (*player, error) {
	if len(policies) == 0 {
		return nil, errors.New("suite: no policies to play")
	}
	p := &player{ctx: ctx, suite: s, policies: policies, o: o, seeds: s.Seeds, part: 1}
	if o.Quick {
		p.seeds = s.Seeds[:max(s.Quick.Seeds, 1)]
		p.part = s.Quick.Duration
		if p.part == 0 {
			p.part = 1. / 3
		}
	}
	if o.Tuning {
		if p.seeds = s.Tuning.Seeds; len(p.seeds) == 0 {
			return nil, errors.New("suite: there is nothing to tune on: tuning.seeds is empty")
		}
	}
	if len(o.Seeds) > 0 {
		p.seeds = o.Seeds
	}
	return p, nil
}

// player is one Run.
type player struct {
	ctx      context.Context
	suite    *Suite
	policies []simulation.Policy
	o        Options
	seeds    []uint64
	part     float64 // of each duration
}

// plan is a scenario that is played.
type plan struct {
	*Scenario
	spec     simulation.Spec
	config   simulation.Config // without Policy, Seed and rate
	capacity float64
}

func (p *player) plan() (plans []plan, skipped []string, err error) {
	s := p.suite
	for i := range p.suite.Scenarios {
		c := &p.suite.Scenarios[i]
		spec := c.spec
		if c.Trace != "" {
			file := p.o.Traces[c.Trace]
			if file == "" {
				skipped = append(skipped, fmt.Sprintf("%s: the file of the trace %q was not given", c.Name, c.Trace))
				continue
			}
			minutes := s.minutes(p.o.Tuning)
			if spec, err = c.withTrace(file, minutes); err != nil {
				return nil, nil, fmt.Errorf("suite: scenario %q: %w", c.Name, err)
			}
		}
		d := time.Duration(c.Duration)
		if d == 0 {
			d = time.Duration(p.suite.Duration)
		}
		d = time.Duration(float64(d) * p.part)
		plans = append(plans, plan{Scenario: c, spec: spec, config: simulation.Config{
			Fleet: c.Fleet.fleet(), Workload: spec, Gateways: c.Gateways, Sharing: c.Sharing.simulated(), Shares: c.Shares, Sticky: c.Sticky,
			Scrape:   simulation.Scrape{Period: time.Duration(c.Scrape)},
			Duration: d, Warmup: d / 4,
			Faults: c.faults(), Links: simulation.Links{BytesPerSecond: c.Fleet.Link / 8 * 1e9},
			World: simulation.World{
				Jitter: time.Duration(c.World.Jitter), Unstreamed: c.World.Unstreamed, TokenError: c.World.TokenError,
				Events: simulation.Events{
					Delay: time.Duration(c.World.Events.Delay), Lost: c.World.Events.Lost, Replay: time.Duration(c.World.Events.Replay),
				},
			},
			Goodput: types.SLO{TTFT: time.Duration(c.Goodput.TTFT), TPOT: time.Duration(c.Goodput.TPOT)},
			// An overloaded run has shown what it is by then.
			Drain: 3 * d,
		}})
	}
	return plans, skipped, nil
}

// How much of the work is done when capacity is measured, when those of the policies are, and
// when the runs have been made.
const (
	capacityPart = .2
	ownPart      = .3
	playPart     = .95
)

// play makes the runs of all cases.
func (p *player) play(plans []plan) ([]Case, error) {
	var cases []Case
	var configs []simulation.Config
	var keys []string
	for _, c := range plans {
		loads := c.Loads
		if len(loads) == 0 {
			loads = []float64{0}
		}
		for _, load := range loads {
			one := Case{Scenario: c.Name, Family: c.Family, Traffic: c.traffic, Against: c.Against, Load: load, Rate: load * c.capacity, Capacity: c.capacity}
			config := c.config
			if load > 0 {
				var err error
				if config.Workload, err = simulation.WithRate(c.spec, one.Rate); err != nil {
					return nil, fmt.Errorf("suite: scenario %q: %w", c.Name, err)
				}
			}
			cases = append(cases, one)
			configs = append(configs, config)
			keys = append(keys, c.key(p, c.Fleet, one.Rate))
		}
	}
	perCase := len(p.policies) * len(p.seeds)
	runs := make([]Record, len(cases)*perCase)
	failures := make([]error, len(runs))
	err := p.each(len(runs), ownPart, playPart, func(i int, part func(float64)) (string, error) {
		config := configs[i/perCase]
		config.Policy = p.policies[i%perCase/len(p.seeds)]
		config.Seed = p.seeds[i%len(p.seeds)]
		until := config.Duration
		config.Progress = func(now simulation.Progress) { part(min(1, float64(now.Now)/float64(until))) }
		what := fmt.Sprintf("%s, %s", cases[i/perCase].Title(), config.Policy.Name)
		rec := Record{Case: keys[i/perCase], Policy: config.Policy.Name, Seed: config.Seed}
		if known, ok := p.o.Records.find(rec); ok {
			runs[i] = known
			return what, nil
		}
		report, err := simulation.Run(p.ctx, config)
		if err := p.ctx.Err(); err != nil {
			return "", err
		}
		if failures[i] = err; err != nil {
			return what, nil
		}
		rec.fill(report)
		runs[i] = rec
		return what, p.o.Records.add(rec)
	})
	if err != nil {
		return nil, err
	}
	for i := range cases {
		for j, policy := range p.policies {
			from := i*perCase + j*len(p.seeds)
			cases[i].Rows = append(cases[i].Rows, summarize(policy.Name, runs[from:from+len(p.seeds)], failures[from:from+len(p.seeds)]))
		}
	}
	return cases, p.boundAll(cases, configs)
}

// summarize averages the runs of one policy in one case.
func summarize(policy string, runs []Record, failures []error) Row {
	row := Row{Policy: policy, Steady: true, Runs: runs}
	n := float64(len(runs))
	for i, r := range runs {
		if failures[i] != nil {
			return Row{Policy: policy, Err: failures[i]}
		}
		for f := range figures {
			row.P90[f] += r.P90[f] / n
		}
		row.TTFTP50 += r.TTFTP50 / n
		row.TTFTP99 += r.TTFTP99 / n
		row.TPOTP99 += r.TPOTP99 / n
		row.E2EMean += r.E2EMean / n
		row.TTFTMean += r.TTFTMean / n
		row.Goodput += r.Goodput / n
		row.Apart += r.Apart / n
		row.Transfer += r.Transfer / n
		row.More.add(r.Percentiles, 1/n)
		row.Whole.add(r.Whole, 1/n)
		row.Hits += r.Hits / n
		row.Steady = row.Steady && r.Steady
		row.Incomplete += r.Incomplete
	}
	return row
}

// each calls do for 0 to n-1 on the workers, until one returns an error or ctx is
// done, and tells the progress, of which this is what lies between from and to. do
// returns what it did.
func (p *player) each(n int, from, to float64, do func(i int, part func(float64)) (string, error)) error {
	workers := p.o.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	var (
		mu    sync.Mutex // guards what follows, and calls of Progress
		parts = make([]float64, n)
		done  float64 // sum of parts
	)
	tell := func(i int, part float64, what string) {
		mu.Lock()
		defer mu.Unlock()
		done += max(0, part-parts[i])
		parts[i] = max(parts[i], part)
		if p.o.Progress != nil {
			p.o.Progress(from+(to-from)*min(1, done/float64(n)), what)
		}
	}
	group, ctx := errgroup.WithContext(p.ctx)
	group.SetLimit(workers)
	for i := range n {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			what, err := do(i, func(part float64) { tell(i, .95*part, "") })
			if err == nil {
				tell(i, 1, what)
			}
			return err
		})
	}
	return group.Wait()
}

// rank fills the ratios in.
func (r *Result) rank() {
	for i := range r.Cases {
		rows := r.Cases[i].Rows
		for f := range figures {
			best := -1
			for j, row := range rows {
				// Where what is handed over waits for links, nothing disturbs what decodes: a policy of a Grid is
				// compared with those that keep up.
				if r.Cases[i].Traffic != "" && !row.Steady && !r.Cases[i].Overloaded() {
					continue
				}
				if row.Err == nil && row.P90[f] > 0 && (best < 0 || row.P90[f] < rows[best].P90[f]) {
					best = j
				}
			}
			for j := range rows {
				row := &rows[j]
				row.Ratio[f], row.Low[f], row.High[f] = math.NaN(), math.NaN(), math.NaN()
				if row.Err != nil || best < 0 || row.P90[f] == 0 { // of none that count any ended
					continue
				}
				row.Ratio[f] = row.P90[f] / rows[best].P90[f]
				if r.Cases[i].Traffic != "" && !row.Steady {
					row.Ratio[f] = max(row.Ratio[f], 1) // it is no better for having served less
				}
				row.Low[f], row.High[f] = math.Inf(1), 0
				for k, run := range row.Runs {
					q := run.P90[f] / rows[best].Runs[k].P90[f]
					row.Low[f], row.High[f] = min(row.Low[f], q), max(row.High[f], q)
				}
			}
		}
	}
}

// Overloaded reports whether no policy reached a steady state.
func (c *Case) Overloaded() bool {
	return !slices.ContainsFunc(c.Rows, func(row Row) bool { return row.Err == nil && row.Steady })
}

// Title is the case in words.
func (c *Case) Title() string {
	switch {
	case c.Load > 0:
		return fmt.Sprintf("%s at %.0f %% (%.4g/s)", c.Scenario, 100*c.Load, c.Rate)
	}
	return c.Scenario
}
