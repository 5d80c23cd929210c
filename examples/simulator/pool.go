package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"golang.org/x/sync/errgroup"

	"github.com/inferpick/inferpick/scheduling/simulation"
)

// finished is what became of a planned run: a report, or an error.
type finished struct {
	planned
	report *simulation.Report
	err    error
}

// play makes all runs, as many at a time as there are cores, and returns what
// became of each in the order of the plan, whatever the order in which they ended.
// If ctx is done, those that have not ended have its error.
func play(ctx context.Context, c core, runs []planned, p *progress) []finished {
	results := make([]finished, len(runs))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range runs {
		group.Go(func() error {
			results[i] = playOne(ctx, c, runs[i], p.run(i))
			return nil // one that failed ends no other
		})
	}
	_ = group.Wait()
	return results
}

// playOne makes one run. A policy that panics ends its run and no other.
func playOne(ctx context.Context, c core, r planned, tell func(part float64)) (f finished) {
	f.planned = r
	defer func() {
		if v := recover(); v != nil {
			f.err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	if f.err = ctx.Err(); f.err != nil {
		return f
	}
	r.config.Progress = func(p simulation.Progress) {
		tell(min(p.Now.Seconds()/r.config.Duration.Seconds(), 1))
	}
	f.report, f.err = c.run(ctx, r.config)
	if f.err == nil {
		tell(1)
	}
	return f
}
