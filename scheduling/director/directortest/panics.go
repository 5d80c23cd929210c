package directortest

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// PanicPoints returns the valid values of Panic.At: methods of plugins, and hooks.
func PanicPoints() []string {
	return []string{
		"Filter", "Score", "Cost", "Pick", "Picked", "FirstToken", "Finished",
		"Hooks.Scheduled", "Hooks.Rejected", "Hooks.PluginFailed", "Hooks.FirstToken", "Hooks.Retried", "Hooks.Finished",
	}
}

// Panic is a plugin that panics. Add one to a profile with Install, send requests, and check that
// the resources of the affected request are released and other requests go on.
type Panic struct {
	// At is where it panics, one of PanicPoints.
	At string
	// Call is the number of the call that panics, from 1. 0: every call.
	Call int

	calls, panicked atomic.Int64
}

// Panicked returns how often it has panicked.
func (p *Panic) Panicked() int { return int(p.panicked.Load()) }

// Install returns profile with p added: after its other plugins, around its picker, or before its
// hook. It panics if p.At is not one of PanicPoints.
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
			profile.Trackers = append(slices.Clip(profile.Trackers), t) // else it would no longer be called
		}
	case "Picked", "FirstToken", "Finished":
		profile.Trackers = append(slices.Clip(profile.Trackers), panicTracker{p})
	case "Hooks.Scheduled":
		profile.Hooks.Scheduled = p.before(profile.Hooks.Scheduled)
	case "Hooks.Rejected":
		profile.Hooks.Rejected = beforeError(p, profile.Hooks.Rejected)
	case "Hooks.PluginFailed":
		profile.Hooks.PluginFailed = beforeError(p, profile.Hooks.PluginFailed)
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

// before returns a hook that panics or calls next, which may be nil.
func (p *Panic) before(next func(scheduling.Event)) func(scheduling.Event) {
	return func(e scheduling.Event) {
		p.called()
		if next != nil {
			next(e)
		}
	}
}

// beforeError is before for hooks that take an error.
func beforeError[E error](p *Panic, next func(*types.Request, E)) func(*types.Request, E) {
	return func(req *types.Request, err E) {
		p.called()
		if next != nil {
			next(req, err)
		}
	}
}

// called counts a call, and panics if it is the chosen one.
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
