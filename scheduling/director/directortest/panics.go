package directortest

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// PanicPoints are the places at which a Panic can panic: the methods of plugins, and the hooks.
func PanicPoints() []string {
	return []string{
		"Filter", "Score", "Cost", "Pick", "Picked", "FirstToken", "Finished",
		"Hooks.Scheduled", "Hooks.Rejected", "Hooks.PluginFailed", "Hooks.FirstToken", "Hooks.Retried", "Hooks.Finished",
	}
}

// Panic is a plugin with a fault, for those who have plugins: put one into a profile with Install, send requests, and
// see that what the one request held that met it is given back, and that the others go on.
type Panic struct {
	// At is where it panics, one of PanicPoints.
	At string
	// Call is which call panics, from 1 on. 0: each.
	Call int

	calls, panicked atomic.Int64
}

// Panicked returns how often it has panicked.
func (p *Panic) Panicked() int { return int(p.panicked.Load()) }

// Install returns the profile with p in it: after its other plugins, around its picker, or before the hook that it has.
// It panics if p.At is none of PanicPoints.
func (p *Panic) Install(profile scheduling.Profile) scheduling.Profile {
	switch p.At {
	case "Filter":
		profile.Filters = append(slices.Clip(profile.Filters), scheduling.Named{Name: "panic", Filter: scheduling.FilterFunc(
			func(context.Context, *types.Request, []*types.Endpoint, []bool) error { p.called(); return nil })})
	case "Score":
		profile.Scorers = append(slices.Clip(profile.Scorers), scheduling.Weighted{Name: "panic", Scorer: scheduling.ScorerFunc(
			func(context.Context, *types.Request, []*types.Endpoint, []float64) error { p.called(); return nil })})
	case "Cost":
		profile.Costs = append(slices.Clip(profile.Costs), scheduling.Costed{Name: "panic", Coster: scheduling.CosterFunc(
			func(context.Context, *types.Request, []*types.Endpoint, []float64) error { p.called(); return nil })})
	case "Pick":
		picker := profile.Picker
		profile.Picker = scheduling.PickerFunc(func(ctx context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) (int, error) {
			p.called()
			return picker.Pick(ctx, req, eps, scores)
		})
		if t, ok := picker.(scheduling.Tracker); ok {
			profile.Trackers = append(slices.Clip(profile.Trackers), t) // or it would hear of nothing any more
		}
	case "Picked", "FirstToken", "Finished":
		profile.Trackers = append(slices.Clip(profile.Trackers), panicTracker{p})
	case "Hooks.Scheduled":
		profile.Hooks.Scheduled = p.before(profile.Hooks.Scheduled)
	case "Hooks.Rejected":
		next := profile.Hooks.Rejected
		profile.Hooks.Rejected = func(req *types.Request, err error) {
			p.called()
			if next != nil {
				next(req, err)
			}
		}
	case "Hooks.PluginFailed":
		next := profile.Hooks.PluginFailed
		profile.Hooks.PluginFailed = func(req *types.Request, err *scheduling.PluginError) {
			p.called()
			if next != nil {
				next(req, err)
			}
		}
	case "Hooks.FirstToken":
		profile.Hooks.FirstToken = p.before(profile.Hooks.FirstToken)
	case "Hooks.Retried":
		profile.Hooks.Retried = p.before(profile.Hooks.Retried)
	case "Hooks.Finished":
		profile.Hooks.Finished = p.before(profile.Hooks.Finished)
	default:
		panic(fmt.Sprintf("directortest: Panic.At is %q, want one of %q", p.At, PanicPoints()))
	}
	return profile
}

// before returns a hook that is called before next, which may be nil.
func (p *Panic) before(next func(scheduling.Event)) func(scheduling.Event) {
	return func(e scheduling.Event) {
		p.called()
		if next != nil {
			next(e)
		}
	}
}

// called counts a call, and panics if it is the one.
func (p *Panic) called() {
	if n := p.calls.Add(1); p.Call == 0 || n == int64(p.Call) {
		p.panicked.Add(1)
		panic("directortest: " + p.At + " panics as it was told")
	}
}

// panicTracker panics in one of a Tracker's methods.
type panicTracker struct{ p *Panic }

// Picked implements scheduling.Tracker.
func (t panicTracker) Picked(*types.Request, *types.Endpoint) { t.at("Picked") }

// FirstToken implements scheduling.Tracker.
func (t panicTracker) FirstToken(*types.Request, *types.Endpoint) { t.at("FirstToken") }

// Finished implements scheduling.Tracker.
func (t panicTracker) Finished(*types.Request, *types.Endpoint, types.Outcome) { t.at("Finished") }

func (t panicTracker) at(method string) {
	if t.p.At == method {
		t.p.called()
	}
}

var _ scheduling.Tracker = panicTracker{}
