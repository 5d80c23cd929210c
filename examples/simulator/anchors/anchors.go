package anchors

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"

	"golang.org/x/sync/errgroup"

	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

// Options say how the anchors are played. The zero value plays all of them.
type Options struct {
	// Short plays a twentieth of the requests, once, to see that everything runs.
	// What it prints is not to be compared with anything.
	Short bool
	// Workers is how many runs go on at a time. Default: one for each CPU. It
	// changes no figure.
	Workers int
	// Progress is called, by one goroutine at a time, with how much of the work is
	// done, 0 to 1, and what has just ended. Optional.
	Progress func(done float64, what string)
}

// Run plays what was published, writes a table of the published figures beside
// ours to out, and returns how many are further off than their tolerance. It takes
// some minutes on two cores. If ctx is done before the end it returns ctx.Err()
// and writes nothing.
func Run(ctx context.Context, out io.Writer, o Options) (failed int, err error) {
	arms, err := findPolicies()
	if err != nil {
		return 0, err
	}
	tasks := slices.Concat(
		engineTasks(), chartTasks(o, arms), sampleTasks(o, arms), ladderTasks(o, arms), stickyTasks(o, arms), sweepTasks(o, arms))
	ours, err := perform(ctx, tasks, o)
	if err != nil {
		return 0, err
	}
	derive(ours)
	return write(out, ours, o.Short), nil
}

// figures are what a run measured, by key.
type figures map[string]float64

// task is one run, or a few that depend on each other.
type task struct {
	name   string
	weight float64 // how long it takes, relative to others
	run    func(ctx context.Context, part func(float64)) (figures, error)
}

// Costs of a request, relative to each other, for the estimate of what is left.
const (
	chartCost  = 1
	ladderCost = 30
)

// perform plays the tasks, the longest first, and returns the mean of each figure
// over the tasks that measured it.
func perform(ctx context.Context, tasks []task, o Options) (figures, error) {
	slices.SortStableFunc(tasks, func(a, b task) int { return cmp.Compare(b.weight, a.weight) })
	workers := o.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}

	var (
		mu      sync.Mutex // guards parts
		parts   = make([]float64, len(tasks))
		results = make([]figures, len(tasks))
	)
	total := 0.0
	for _, t := range tasks {
		total += t.weight
	}
	tell := func(i int, part float64, what string) {
		mu.Lock()
		defer mu.Unlock()
		parts[i] = max(parts[i], part)
		done := 0.0
		for j, t := range tasks {
			done += t.weight * parts[j]
		}
		if o.Progress != nil {
			o.Progress(done/total, what)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	for i, t := range tasks {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			f, err := t.run(ctx, func(part float64) { tell(i, min(part, .99), t.name) })
			if err != nil {
				return fmt.Errorf("anchors: %s: %w", t.name, err)
			}
			results[i] = f
			tell(i, 1, t.name)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return mean(results), nil
}

// mean averages each figure over those that have it.
func mean(results []figures) figures {
	sums, counts := figures{}, map[string]int{}
	for _, f := range results {
		for k, v := range f {
			sums[k] += v
			counts[k]++
		}
	}
	for k := range sums {
		sums[k] /= float64(counts[k])
	}
	return sums
}

// derive adds the figures that compare others.
func derive(f figures) {
	ratio := func(key, of, by string) {
		a, ok := f[of]
		b, ok2 := f[by]
		if ok && ok2 && b != 0 {
			f[key] = a / b
		}
	}
	ratio("ladder/ratio", "ladder/precise/tokens", "ladder/random/tokens")
	ratio("ladder/load", "ladder/load/tokens", "ladder/random/tokens")
	ratio("ladder/order", "ladder/precise/ttft", "ladder/random/ttft")
	ratio("37/ratio", "37/precise/tokens", "37/random/tokens")
	ratio("sticky/ratio", "sticky/sticky", "sticky/random")
}

// play runs a simulation and tells how far it is.
func play(ctx context.Context, c simulation.Config, part func(float64)) (*simulation.Report, error) {
	jobs := c.Jobs
	c.Progress = func(p simulation.Progress) {
		switch {
		case jobs > 0:
			part(float64(p.Jobs) / float64(jobs))
		case c.Duration > 0:
			part(float64(p.Now) / float64(c.Duration))
		}
	}
	r, err := simulation.Run(ctx, c)
	if err == nil && r.Failed+r.Shed+r.Cancelled+r.Unfinished > 0 {
		err = fmt.Errorf("%d requests failed, %d were shed, %d cancelled and %d did not end", r.Failed, r.Shed, r.Cancelled, r.Unfinished)
	}
	return r, err
}

// seeds is how many seeds to play where a full run plays n.
func (o *Options) seeds(n int) int {
	if o.Short {
		return 1
	}
	return n
}

// requests is how many requests to play where a full run plays n.
func (o *Options) requests(n int) int {
	if o.Short {
		return n / 20
	}
	return n
}

// quiet is an engine of the calibration that does not tell of every token.
func quiet(c engine.Calibration) engine.Config { return engine.Config{Calibration: c, Quiet: true} }

// write prints the table and returns how many anchors failed. In a short run those
// that were measured are not judged.
func write(out io.Writer, ours figures, short bool) (failed int) {
	count := map[judgement]int{}
	group := ""
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, a := range table() {
		if a.group != group {
			w.Flush()
			group = a.group
			fmt.Fprintf(out, "\n%s\n", group)
			fmt.Fprintln(w, "\tpublished\tsimulated\tdeviation\tallowed\t\t  figure")
		}
		v, ok := ours[a.key]
		j := a.judge(v, ok)
		if short && j != missing {
			j = report
		}
		count[j]++
		published := "-"
		if a.published != 0 {
			published = number(a.published)
		}
		simulated := "-"
		if ok {
			simulated = number(v)
		}
		fmt.Fprintf(w, "\t%s\t%s\t%s\t%s\t%s\t  %s\n", published, simulated, percent(a.deviation(v), ok), a.allowed(), j, strings.TrimSpace(a.what+" "+a.unitText()))
	}
	w.Flush()
	writeSweep(out, ours)
	fmt.Fprintf(out, "\n%d anchors passed, %d failed, %d are reported only", count[pass], count[fail], count[report])
	if count[missing] > 0 {
		fmt.Fprintf(out, ", %d were not measured", count[missing])
	}
	fmt.Fprintln(out, ". The README of this package says why those that fail do.")
	return count[fail] + count[missing]
}

func (a anchor) unitText() string {
	if a.unit == "" {
		return ""
	}
	return "[" + a.unit + "]"
}

// allowed is the tolerance in words.
func (a anchor) allowed() string {
	switch {
	case a.low != 0:
		return fmt.Sprintf("%g..%g", a.low, a.high)
	case a.high != 0:
		return fmt.Sprintf("<= %g", a.high)
	case a.tolerance == 0:
		return "-"
	}
	return fmt.Sprintf("±%.0f %%", 100*a.tolerance)
}

func percent(d float64, ok bool) string {
	if !ok || math.IsNaN(d) {
		return "-"
	}
	return fmt.Sprintf("%+.1f %%", 100*d)
}

// number prints three significant digits.
func number(v float64) string {
	switch {
	case math.Abs(v) >= 100:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 10:
		return fmt.Sprintf("%.1f", v)
	case math.Abs(v) >= 1:
		return fmt.Sprintf("%.2f", v)
	case math.Abs(v) >= .1:
		return fmt.Sprintf("%.3f", v)
	}
	return fmt.Sprintf("%.2g", v)
}
