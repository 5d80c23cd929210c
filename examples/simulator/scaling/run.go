package scaling

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/inferpick/inferpick/examples/simulator/scalers"
	"github.com/inferpick/inferpick/examples/simulator/suite"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/simulation"
)

// Options say what of a suite is played. The zero value plays all.
type Options struct {
	// Seeds replaces those of the suite. Optional.
	Seeds []uint64
	// Laws are played. Default: scalers.Laws.
	Laws []scalers.Law
	// Cases and StartUps are which are played. Default: all.
	Cases    []string
	StartUps []time.Duration
	// Quick plays what Suite.Quick says, and of each law three targets.
	Quick bool
	// Records gives runs that were played before, and takes those that are. Optional.
	Records *Records
	// Progress is called, by one goroutine at a time, with how much of the work is done, 0 to 1, and what goes on.
	// Optional.
	Progress func(done float64, what string)
}

// Result is what came out.
type Result struct {
	Suite *Suite
	Seeds []uint64
	Cases []CaseResult
}

// CaseResult is one case with one start-up time.
type CaseResult struct {
	Case    string
	What    string
	StartUp time.Duration
	// Need is the least number of replicas that serves 99 % in time, if it never changes; 0: Suite.Max does not.
	Need int
	Laws []LawResult
}

// LawResult is one law in a case.
type LawResult struct {
	Law    scalers.Law
	Points []Point
}

// Point is a law with one target: means over the seeds.
type Point struct {
	Target float64
	Tuned  bool // the behavior
	Figures
	// Timeline is that of the first seed, if it is the target that is shipped.
	Timeline []simulation.ScalingSample
}

// Figures are what a run came to.
type Figures struct {
	// Hours are replica-hours, and Attainment is the part of the jobs that met their SLO.
	Hours, Attainment float64
	// P90 and P99 are of the time to the first token, of those that were served, in seconds.
	P90, P99 float64
	// Reversals, ColdStarts and Peak are as in simulation.ScalingReport.
	Reversals, ColdStarts, Peak float64
	// Recovery is how long after the step nine in ten jobs met their SLO again, seconds; until the end, if they never did.
	Recovery float64
}

// setting is a law with a target.
type setting struct {
	law    scalers.Law
	target float64
	tuned  bool
}

// Run plays a suite. The error is that of a run, or ctx's.
func Run(ctx context.Context, s *Suite, o Options) (*Result, error) {
	if o.Quick {
		o.Cases = slices.Concat(o.Cases, s.Quick.Cases)
		for _, d := range s.Quick.StartUps {
			o.StartUps = append(o.StartUps, time.Duration(d))
		}
		if len(o.Seeds) == 0 && s.Quick.Seeds > 0 {
			o.Seeds = s.Seeds[:s.Quick.Seeds]
		}
	}
	if len(o.Seeds) == 0 {
		o.Seeds = s.Seeds
	}
	if o.Laws == nil {
		o.Laws = scalers.Laws()
	}
	r := &Result{Suite: s, Seeds: o.Seeds}
	p := &player{ctx: ctx, suite: s, o: o}
	for i := range s.Cases {
		c := &s.Cases[i]
		if len(o.Cases) > 0 && !slices.Contains(o.Cases, c.Name) {
			continue
		}
		for _, d := range s.StartUps {
			if len(o.StartUps) == 0 || slices.Contains(o.StartUps, time.Duration(d)) {
				r.Cases = append(r.Cases, p.plan(c, d))
			}
		}
	}
	for i := range r.Cases {
		p.planNeed(&r.Cases[i])
	}
	if err := p.play(); err != nil {
		return nil, err
	}
	return r, nil
}

// player plays what is planned on all cores.
type player struct {
	ctx   context.Context
	suite *Suite
	o     Options
	todo  []task

	mu sync.Mutex // held while results are added
}

type task struct {
	what string
	do   func(context.Context) error
}

// plan plans the runs of one case.
func (p *player) plan(c *Case, startUp suite.Duration) CaseResult {
	r := CaseResult{Case: c.Name, What: c.What, StartUp: time.Duration(startUp)}
	for _, law := range p.o.Laws {
		one := LawResult{Law: law}
		for _, s := range p.settings(law) {
			one.Points = append(one.Points, Point{Target: s.target, Tuned: s.tuned})
		}
		r.Laws = append(r.Laws, one)
	}
	for i := range r.Laws {
		for j := range r.Laws[i].Points {
			law, point := r.Laws[i].Law, &r.Laws[i].Points[j]
			for k, seed := range p.o.Seeds {
				p.todo = append(p.todo, task{fmt.Sprintf("%s, %v, %s %g", c.Name, r.StartUp, law.Name, point.Target), func(ctx context.Context) error {
					f, line, err := p.playOne(ctx, c, r.StartUp, setting{law, point.Target, point.Tuned}, seed)
					if err != nil {
						return err
					}
					p.mu.Lock()
					defer p.mu.Unlock()
					point.add(f, float64(len(p.o.Seeds)))
					if k == 0 && point.Target == law.Shipped {
						point.Timeline = line
					}
					return nil
				}})
			}
		}
	}
	return r
}

// planNeed plans to find out how many replicas would do in a case, by bisection. It does not depend on how long they take
// to start, and is asked with one seed.
func (p *player) planNeed(r *CaseResult) {
	if p.o.Quick {
		return
	}
	c := &p.suite.Cases[slices.IndexFunc(p.suite.Cases, func(c Case) bool { return c.Name == r.Case })]
	p.todo = append(p.todo, task{r.Case + ", how many would do", func(ctx context.Context) error {
		low, high := 0, p.suite.Max+1
		for high-low > 1 {
			n := (low + high) / 2
			f, _, err := p.playOne(ctx, c, time.Minute, setting{scalers.Fixed(), float64(n), false}, p.o.Seeds[0])
			if err != nil {
				return err
			}
			if f.Attainment >= 0.99 {
				high = n
			} else {
				low = n
			}
		}
		if high <= p.suite.Max {
			r.Need = high
		}
		return nil
	}})
}

// settings are what is played of a law.
func (p *player) settings(law scalers.Law) []setting {
	targets := law.Targets
	if p.o.Quick {
		targets = []float64{targets[0], targets[len(targets)/2], targets[len(targets)-1]}
	}
	if !slices.Contains(targets, law.Shipped) {
		targets = append(slices.Clone(targets), law.Shipped)
	}
	all := settingsOf(law, targets, false)
	if law.Tunes {
		all = append(all, settingsOf(law, targets, true)...)
	}
	return all
}

func settingsOf(law scalers.Law, targets []float64, tuned bool) []setting {
	var all []setting
	for _, t := range targets {
		all = append(all, setting{law, t, tuned})
	}
	return all
}

// play does what is planned, and returns the first error.
func (p *player) play() error {
	done := 0
	group, ctx := errgroup.WithContext(p.ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, t := range p.todo {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := t.do(ctx); err != nil {
				return fmt.Errorf("scaling: %s: %w", t.what, err)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			done++
			if p.o.Progress != nil {
				p.o.Progress(float64(done)/float64(len(p.todo)), t.what)
			}
			return nil
		})
	}
	return group.Wait()
}

// config is one run.
func (p *player) config(c *Case, startUp time.Duration, s setting, seed uint64) simulation.Config {
	e, _ := p.suite.Replica.config()
	tenth := startUp / 10
	w := scalers.World{
		Min: 1, Max: p.suite.Max, ToZero: c.ToZero, StartUp: startUp, SLO: p.suite.slo(),
		Slots: p.suite.Replica.MaxSeqs, PrefillRate: p.suite.Replica.prefillRate(),
	}
	least := 1
	if c.ToZero {
		least = 0
	}
	start := c.Start
	if s.law.Name == scalers.Fixed().Name {
		start = int(s.target)
	}
	return simulation.Config{
		Fleet: simulation.Uniform(start, e), Workload: c.spec, Policy: policy(), Admission: control(startUp),
		Scaling: &simulation.Scaling{
			Scaler: s.law.Scaler(s.target, s.tuned, w), Template: simulation.Replica{Engine: e},
			Startup: simulation.Span{From: startUp - tenth, To: startUp + tenth}, Min: least, Max: p.suite.Max,
		},
		Duration: time.Duration(p.suite.Duration), Warmup: time.Duration(p.suite.Warmup), Drain: 10 * time.Minute,
		Scrape: simulation.Scrape{Period: time.Second}, Goodput: p.suite.slo(), Seed: seed, SampleEvery: time.Minute,
	}
}

// policy is plugins.Default without its own shedding: requests wait at the gateway.
func policy() simulation.Policy {
	return simulation.Policy{Name: "default", Profile: func() scheduling.Profile {
		p := plugins.Default()
		p.Filters = p.Filters[:len(p.Filters)-1] // the last one sheds
		return p
	}}
}

// control is the default admission control, with which requests wait for the first replica for as long as one takes.
func control(startUp time.Duration) func() admission.Options {
	return func() admission.Options { return admission.Options{WaitForEndpoints: 2*startUp + time.Minute} }
}

// playOne plays one run, or finds it among the records.
func (p *player) playOne(ctx context.Context, c *Case, startUp time.Duration, s setting, seed uint64) (Figures, []simulation.ScalingSample, error) {
	key := p.suite.key(c, startUp, s, seed)
	if f, line, ok := p.o.Records.get(key); ok {
		return f, line, nil
	}
	cfg := p.config(c, startUp, s, seed)
	rep, err := simulation.Run(ctx, cfg)
	if err != nil {
		return Figures{}, nil, err
	}
	line := rep.Scaling.Timeline
	if s.target != s.law.Shipped {
		line = nil
	}
	f := Figures{
		Hours: rep.Scaling.Hours, Attainment: rep.Goodput, P90: rep.TTFT.P90, P99: rep.TTFT.P99,
		Reversals: float64(rep.Scaling.Reversals), ColdStarts: float64(rep.Scaling.ColdStarts), Peak: float64(rep.Scaling.Peak),
	}
	if c.StepAt > 0 {
		if f.Recovery = rep.Scaling.Recovery(time.Duration(c.StepAt), 0.9); f.Recovery < 0 {
			f.Recovery = (cfg.Duration - time.Duration(c.StepAt)).Seconds()
		}
	}
	return f, line, p.o.Records.put(key, f, line)
}

// add adds one seed's figures, of so many.
func (p *Point) add(f Figures, seeds float64) {
	for _, v := range []struct{ all, one *float64 }{
		{&p.Hours, &f.Hours}, {&p.Attainment, &f.Attainment}, {&p.P90, &f.P90}, {&p.P99, &f.P99}, {&p.Reversals, &f.Reversals},
		{&p.ColdStarts, &f.ColdStarts}, {&p.Peak, &f.Peak}, {&p.Recovery, &f.Recovery},
	} {
		*v.all += *v.one / seeds
	}
}
