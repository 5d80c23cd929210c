package rollout

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"
)

// Status is where a rollout is, for people and for programs that show it.
type Status struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Rule      int    `json:"rule,omitempty"`
	// Pool is the one whose servers are to have the canary, and Models are the public names whose requests are
	// split; none: all.
	Pool   string   `json:"pool"`
	Models []string `json:"models,omitempty"`
	// Source is where the plan comes from: "manifest" or "api".
	Source string `json:"source"`
	Plan   Plan   `json:"plan"`
	// Refused says why the plan in the manifest is not in force. Empty: it is. If no other was in force before, all
	// else is empty.
	Refused string `json:"refused,omitempty"`

	Phase   Phase     `json:"phase,omitempty"` // empty: it has not begun
	Step    int       `json:"step"`            // from 0
	Since   time.Time `json:"since,omitzero"`
	Weight  float64   `json:"weight"` // of the canary, in percent
	Paused  string    `json:"paused,omitempty"`
	Holding string    `json:"holding,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	// Trouble is what is in the way of the work: a home that cannot be read, say.
	Trouble string `json:"trouble,omitempty"`

	// Leads says that this gateway judges; else Leader says who does. Peers are the gateways that it hears.
	Leads  bool     `json:"leads"`
	Leader string   `json:"leader,omitempty"`
	Peers  []string `json:"peers,omitempty"`

	Targets  []TargetStatus  `json:"targets,omitempty"`  // the stable one and the canary
	Verdicts []VerdictStatus `json:"verdicts,omitempty"` // of the gateway that judges
	// Servers are how many are "loaded", "loading", "failed", "missing" or "unknown".
	Servers map[string]int `json:"servers,omitempty"`
	// Each is what is known of each server; only of Controller.Get.
	Each []ServerStatus `json:"each,omitempty"`
	// Events are the last Options.MaxEvents, the newest last.
	Events []EventStatus `json:"events,omitempty"`
	// Looks are how often a metric was thought what of, since the rollout began here.
	Looks []LookStatus `json:"looks,omitempty"`
}

// Object returns what the rollout is of.
func (s *Status) Object() Object {
	o := Object{Kind: s.Kind, Rule: s.Rule}
	o.Name.Namespace, o.Name.Name = s.Namespace, s.Name
	return o
}

// TargetStatus is one of both targets.
type TargetStatus struct {
	Target   string  `json:"target"`
	Role     string  `json:"role"`   // stable or canary
	Weight   float64 `json:"weight"` // in percent
	InFlight int     `json:"inFlight"`
	// Requests and Errors are those of the step that this gateway has seen, and Refused those beside them that the
	// server answered with another 4xx than a 429, or a 404 because it has not got the model.
	Requests int `json:"requests"`
	Errors   int `json:"errors"`
	Refused  int `json:"refused,omitempty"`
	// Busy are those beside both that the server answered with 429 or 529, also if another one took them then.
	Busy int `json:"busy,omitempty"`
}

// VerdictStatus is a Verdict; figures that are not known are nil.
type VerdictStatus struct {
	Metric   string   `json:"metric"`
	Result   Result   `json:"result"`
	Reason   string   `json:"reason,omitempty"`
	WarnOnly bool     `json:"warnOnly,omitempty"`
	Looks    int      `json:"failedLooks,omitempty"` // how many in a row
	Canary   *float64 `json:"canary"`
	Stable   *float64 `json:"stable"`
}

// ServerStatus is what is known of a server.
type ServerStatus struct {
	ID     string `json:"id"`
	Ready  bool   `json:"ready"`
	Canary string `json:"canary"` // loaded, loading, failed, missing or unknown
	Stable string `json:"stable"`
	Open   bool   `json:"open"` // requests for the canary may go there
	Tries  int    `json:"tries,omitempty"`
	Error  string `json:"error,omitempty"`
}

// EventStatus is an Event.
type EventStatus struct {
	At   time.Time `json:"at"`
	Kind EventKind `json:"kind"`
	Text string    `json:"text"`
}

// LookStatus is how often a metric had a result.
type LookStatus struct {
	Metric string `json:"metric"`
	Result Result `json:"result"`
	Count  uint64 `json:"count"`
}

// Status returns where all rollouts are, in the order of their objects; of a nil Controller, none.
func (c *Controller) Status() []Status {
	if c == nil { // of a gateway without rollouts
		return nil
	}
	c.mu.Lock()
	rollouts, refused := slices.Collect(maps.Values(c.rollouts)), maps.Clone(c.refused)
	c.mu.Unlock()
	all := make([]Status, 0, len(rollouts)+len(refused))
	for _, r := range rollouts {
		all = append(all, r.status())
	}
	for o, why := range refused {
		i := slices.IndexFunc(all, func(s Status) bool { return s.Kind == o.Kind && s.Object().Name == o.Name })
		if i < 0 {
			i = len(all)
			all = append(all, Status{Kind: o.Kind, Namespace: o.Name.Namespace, Name: o.Name.Name, Source: fromManifest})
		}
		all[i].Refused = why.why
	}
	slices.SortFunc(all, func(a, b Status) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Rule, b.Rule))
	})
	return all
}

// Get returns where one rollout is, with what is known of each server, and whether there is such a rollout.
func (c *Controller) Get(o Object) (Status, bool) {
	o.Name = withNamespace(o.Name)
	for _, s := range c.Status() {
		if s.Object() != o {
			continue
		}
		c.mu.Lock()
		r := c.rollouts[o]
		c.mu.Unlock()
		if r != nil {
			s.Each = r.servers.list()
		}
		return s, true
	}
	return Status{}, false
}

func (r *rollout) status() Status {
	now := r.c.o.Now()
	s := Status{
		Kind: r.object.Kind, Namespace: r.object.Name.Namespace, Name: r.object.Name.Name, Rule: r.object.Rule,
		Pool: r.pool.String(), Models: r.names, Source: r.source, Plan: r.plan, Servers: r.servers.counts(),
	}
	if s.Leads, _ = r.c.leads(now); !s.Leads {
		s.Leader = r.c.leader(now)
	}
	s.Peers = r.c.peers.names()
	flights := r.inFlight()

	r.mu.Lock()
	defer r.mu.Unlock()
	s.Trouble = r.trouble()
	for _, e := range r.events {
		s.Events = append(s.Events, EventStatus{e.At, e.Kind, e.Text})
	}
	window := r.window
	if r.machine != nil {
		window = r.machine.Window()
	}
	stable := TargetStatus{Target: r.plan.Stable, Role: "stable", InFlight: flights[r.plan.Stable]}
	canary := TargetStatus{Target: r.plan.Canary, Role: "canary", InFlight: flights[r.plan.Canary]}
	if window != nil {
		stable.count(&window.Stable)
		canary.count(&window.Canary)
	}
	if r.known {
		s.Phase, s.Step, s.Since = r.state.Phase, r.state.Step, r.state.Since
		s.Paused, s.Holding, s.Reason = r.state.Paused, r.state.Holding, r.state.Reason
		s.Weight = percent(r.state, &r.plan)
		stable.Weight, canary.Weight = 100*float64(r.state.Weight(r.plan.Stable))/TotalWeight, s.Weight
	}
	s.Targets = []TargetStatus{stable, canary}
	for _, v := range r.verdicts {
		s.Verdicts = append(s.Verdicts, VerdictStatus{v.Metric, v.Result, v.Reason, v.WarnOnly, v.Looks, figure(v.Canary), figure(v.Stable)})
	}
	for k, n := range r.looks {
		s.Looks = append(s.Looks, LookStatus{k.metric, k.result, n})
	}
	slices.SortFunc(s.Looks, func(a, b LookStatus) int {
		return cmp.Or(cmp.Compare(a.Metric, b.Metric), cmp.Compare(a.Result, b.Result))
	})
	return s
}

// figure returns v, nil if it is none: JSON has no NaN.
func figure(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

func (t *TargetStatus) count(c *Counts) {
	t.Requests, t.Errors, t.Refused, t.Busy = c.Requests, c.Errors, c.Refused, c.Busy
}
