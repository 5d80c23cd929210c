package main

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/scheduling/simulation/modelserver"
	"github.com/inferpick/inferpick/types"
)

// This file moves the model chat from one LoRA adapter to the next, which is loaded onto the servers first and judged by
// how its requests end. Some of the next ones are bad.

// kindsOfAdapter are what the next adapter may be like.
var kindsOfAdapter = []string{"good", "errors", "slow", "empty"}

// loadTime is how long servers take to load an adapter.
const loadTime = 500 * time.Millisecond

// faultOf is what is wrong with an adapter of a kind, once it is loaded: a probe finds nothing.
func faultOf(kind string) modelserver.AdapterFault {
	f := modelserver.AdapterFault{LoadTime: loadTime}
	switch kind {
	case "errors":
		f.Errors = 0.5
	case "slow":
		f.Slowdown = 4
	case "empty":
		f.Empty = 0.7
	}
	return f
}

// chat is the manifest whose targets a rollout moves.
func chat() rollout.Object {
	return rollout.Object{Kind: "InferenceModel", Name: types.NamespacedName{Namespace: types.DefaultNamespace, Name: "chat"}}
}

// rolls is what a fleet knows of rollouts.
type rolls struct {
	mu sync.Mutex
	// guarded by mu
	plan rollout.Plan // the last one; zero: there was none
	kind string
	n    int // adapters so far
}

// planFor is a plan of steps that are over in seconds, with limits that a workload of some requests in a second can
// prove: a real one takes its time, as docs/rollouts.md says.
func planFor(stable, canary string, scale float64) rollout.Plan {
	brief := func(d time.Duration) time.Duration { return time.Duration(float64(d) / scale) }
	return rollout.Plan{
		Object: chat(), Stable: stable, Canary: canary, MinRequests: 10,
		Steps: []rollout.Step{{SetWeight: 40, Pause: brief(5 * time.Second)}, {SetWeight: 70, Pause: brief(5 * time.Second)}, {SetWeight: 100, Pause: brief(5 * time.Second)}},
		Metrics: []rollout.Metric{
			{Name: rollout.Errors, MaxRise: 25}, {Name: rollout.Empty, MaxRise: 25},
			{Name: rollout.TPOT, MaxRatio: 1.8}, {Name: rollout.TTFT, MaxRatio: 2, WarnOnly: true},
		},
		Load: rollout.LoadPlan{Source: "/adapters/" + canary, Timeout: 20 * time.Second, Unload: true, Grace: brief(2 * time.Second)},
	}
}

// beginRollout begins one to a new adapter of a kind.
func (f *fleet) beginRollout(kind string, scale float64) error {
	if !slices.Contains(kindsOfAdapter, kind) {
		return fmt.Errorf("%.40q is not one of %s", kind, strings.Join(kindsOfAdapter, ", "))
	}
	f.rolls.mu.Lock()
	defer f.rolls.mu.Unlock()
	first := f.gateways[0].now.Load()
	for _, s := range first.Rollouts.Status() {
		if s.Phase != rollout.Done && s.Phase != rollout.Failed {
			return errors.New("a rollout is under way: abort it first")
		}
	}
	weights, err := rollout.WeightsOf(first.Store.Object(chat().Kind, chat().Name), 0)
	if err != nil {
		return err
	}
	f.rolls.n++
	f.rolls.kind = kind
	canary := fmt.Sprintf("chat-v%d", f.rolls.n+1)
	for _, s := range f.servers {
		s.Fault(canary, modelserver.AdapterFault{LoadTime: loadTime})
	}
	f.rolls.plan = planFor(weights[0].Target, canary, scale)
	for _, g := range f.running() {
		if err := g.Rollouts.Start(f.rolls.plan); err != nil {
			return err
		}
	}
	return nil
}

// rolled hears of events of the gateway that leads.
func (f *fleet) rolled(e rollout.Event) {
	if e.Kind != rollout.Loaded {
		return
	}
	f.rolls.mu.Lock()
	defer f.rolls.mu.Unlock()
	for _, s := range f.servers {
		s.Fault(f.rolls.plan.Canary, faultOf(f.rolls.kind))
	}
}

// join has a gateway that begins take part in the rollout that there is.
func (r *rolls) join(g *running) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n == 0 {
		return nil
	}
	return g.Rollouts.Start(r.plan)
}

// commandRollout has the gateway that leads do something.
func (f *fleet) commandRollout(what string) (err error) {
	const why = "from the page"
	for _, g := range f.running() {
		switch c := g.Rollouts; what {
		case "pause":
			err = c.Pause(chat(), why)
		case "resume":
			err = c.Resume(chat(), why)
		case "promote":
			err = c.Promote(chat(), false, why)
		case "abort":
			err = c.Abort(chat(), why)
		case "retry":
			err = c.Retry(chat(), why)
		}
		if !errors.Is(err, rollout.ErrFollows) {
			return err
		}
	}
	return err
}

// rolloutView is a rollout in a view.
type rolloutView struct {
	rollout.Status
	Adapter string `json:"adapter"` // what kind it is
}

// shownEvents is how many events of a rollout a view has.
const shownEvents = 8

// rolloutView returns the rollout that there is, as the gateway that leads knows it; nil: there was none.
func (f *fleet) rolloutView() *rolloutView {
	f.rolls.mu.Lock()
	kind := f.rolls.kind
	f.rolls.mu.Unlock()
	var view *rolloutView
	for _, g := range f.running() {
		all := g.Rollouts.Status() // there is at most this one
		if len(all) == 0 || view != nil && !all[0].Leads {
			continue
		}
		s := all[0]
		s.Events = s.Events[max(0, len(s.Events)-shownEvents):]
		view = &rolloutView{s, kind}
	}
	return view
}

// serveRollout begins a rollout, or does something about the one that there is.
func serveRollout(w http.ResponseWriter, r *http.Request, f *fleet, scale float64) {
	var err error
	switch what := r.PathValue("what"); what {
	case "start":
		err = f.beginRollout(r.URL.Query().Get("adapter"), scale)
	case "pause", "resume", "promote", "abort", "retry":
		err = f.commandRollout(what)
	default:
		writeError(w, http.StatusNotFound, fmt.Sprintf("%.40q is not start, pause, resume, promote, abort or retry", what), "not_found")
		return
	}
	if err != nil {
		writeError(w, http.StatusConflict, err.Error(), "conflict")
		return
	}
	w.WriteHeader(http.StatusAccepted)
}
