package overload

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/simulation"
)

// Options say what is played. The zero value plays all.
type Options struct {
	// Seeds of the runs. Default 101 and 102: constants were chosen on others.
	Seeds []uint64
	// More are controls of one's own, by name, to be played beside the others.
	More map[string]func() admission.Options
	// VTC is the file of the requests of the VTC artifact, for the part on fairness; the
	// part with it is left out if it is empty.
	VTC string
	// Only names the scenarios that are played. Empty: all, and the part on fairness.
	Only []string
	// Quick plays a fifth of the time, one seed and two loads, at capacities that are about
	// right, to see that it runs.
	Quick bool
	// Progress is called, by one goroutine at a time, with how much of the work is done,
	// 0 to 1, and what goes on. Optional.
	Progress func(done float64, what string)
}

// Loads are the fractions of its capacity that a fleet is asked for. The first is what
// others are compared with.
func Loads() []float64 { return []float64{0.5, 0.8, 1.05, 1.5, 3} }

// Result is what came out.
type Result struct {
	Seeds     []uint64
	Scenarios []Scenario
	Fairness  []Fairness
}

// Scenario is one fleet.
type Scenario struct {
	Name, What string
	Capacity   float64 // jobs per second, without any control
	Rows       []Row
}

// Row is one control at one load: means over the seeds.
type Row struct {
	Control string
	Load    float64
	// Throughput is output tokens per second while jobs arrived, and Goodput jobs per
	// second that met their SLO, of those that arrived after the warm-up.
	Throughput, Goodput float64
	Classes             []Class // critical, standard, sheddable
}

// Class is the jobs of one criticality.
type Class struct {
	TTFT, Wait float64 // p90 of those that were served, seconds
	Served     float64 // part of those that arrived
	Met        float64 // part that met its SLO
}

// Run plays all of it. The error is that of a run, or ctx's.
func Run(ctx context.Context, o Options) (*Result, error) {
	if len(o.Seeds) == 0 {
		o.Seeds = []uint64{101, 102}
	}
	loads, part := Loads(), 1.0
	if o.Quick {
		o.Seeds, loads, part = o.Seeds[:1], []float64{0.5, 1.5}, 0.2
	}
	r := &Result{Seeds: o.Seeds}
	w := &work{ctx: ctx, progress: o.Progress}
	played := scenarios()
	if len(o.Only) > 0 {
		played = slices.DeleteFunc(played, func(s scenario) bool { return !slices.Contains(o.Only, s.name) })
	}
	for at, s := range played {
		r.Scenarios = append(r.Scenarios, Scenario{Name: s.name, What: s.what, Capacity: s.about})
		if o.Quick {
			continue
		}
		w.add("capacity of "+s.name, func(ctx context.Context) error {
			c := base(s, 1, part)
			c.Workload, c.Duration, c.Warmup, c.Drain = s.workload, 0, 0, 0
			var err error
			r.Scenarios[at].Capacity, err = simulation.Capacity(ctx, c)
			return err
		})
	}
	if err := w.run(); err != nil {
		return nil, err
	}
	for at, s := range played {
		for _, load := range loads {
			for _, c := range controls(o.More) {
				rows := &r.Scenarios[at].Rows
				*rows = append(*rows, Row{Control: c.name, Load: load, Classes: make([]Class, 3)})
				i := len(*rows) - 1
				for _, seed := range o.Seeds {
					w.add(fmt.Sprintf("%s at %g %%, %s", s.name, load*100, c.name), func(ctx context.Context) error {
						rep, err := playOne(ctx, s, c, load*r.Scenarios[at].Capacity, seed, part)
						if err != nil {
							return err
						}
						w.mu.Lock()
						defer w.mu.Unlock()
						(*rows)[i].add(rep, float64(len(o.Seeds)))
						return nil
					})
				}
			}
		}
	}
	if err := w.run(); err != nil {
		return nil, err
	}
	if len(o.Only) > 0 {
		return r, nil
	}
	var err error
	r.Fairness, err = playFairness(ctx, o, part)
	return r, err
}

func playOne(ctx context.Context, s scenario, c control, rate float64, seed uint64, part float64) (*simulation.Report, error) {
	cfg := base(s, seed, part)
	w, err := mixed(s.workload).AtRate(rate)
	if err != nil {
		return nil, err
	}
	cfg.Workload, cfg.Admission = w, c.options
	return simulation.Run(ctx, cfg)
}

// add adds one seed's report, of so many.
func (r *Row) add(rep *simulation.Report, seeds float64) {
	r.Throughput += rep.Throughput / seeds
	for i, c := range rep.Classes {
		if i >= len(r.Classes) || c.Arrived == 0 {
			continue
		}
		n := float64(c.Arrived)
		r.Classes[i].TTFT += c.TTFT.P90 / seeds
		r.Classes[i].Wait += c.Wait.P90 / seeds
		r.Classes[i].Served += float64(c.Completed) / n / seeds
		r.Classes[i].Met += float64(c.Met) / n / seeds
		r.Goodput += float64(c.Met) / n * rep.OfferedRate * n / float64(rep.Arrived) / seeds
	}
}

// work is things to be done on all cores.
type work struct {
	ctx      context.Context
	progress func(float64, string)
	todo     []task

	mu sync.Mutex // held while results, and progress, are told
}

type task struct {
	what string
	do   func(context.Context) error
}

func (w *work) add(what string, do func(context.Context) error) {
	w.todo = append(w.todo, task{what, do})
}

// run does what there is to do, and returns the first error.
func (w *work) run() error {
	todo, done := w.todo, 0
	w.todo = nil
	group, ctx := errgroup.WithContext(w.ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, t := range todo {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := t.do(ctx); err != nil {
				return fmt.Errorf("overload: %s: %w", t.what, err)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			done++
			if w.progress != nil {
				w.progress(float64(done)/float64(len(todo)), t.what)
			}
			return nil
		})
	}
	return group.Wait()
}
