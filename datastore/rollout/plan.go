package rollout

import (
	"time"

	"github.com/inferpick/inferpick/types"
)

// Annotation is the one of an InferenceModel or InferenceModelRewrite that holds a Plan as JSON, and starts it.
const Annotation = "inferpick.dev/rollout"

// StateAnnotation is the one in which the state of a rollout is kept with its object.
const StateAnnotation = "inferpick.dev/rollout-state"

// Plan is how traffic moves from one target to another. Its JSON form (DecodePlan) has the words of Argo Rollouts
// where those fit. Stable and Canary must be set; of all else the zero value is the default.
type Plan struct {
	// Object is the manifest whose weights are written. It is not part of the JSON form: the plan is found with it.
	Object Object `json:"-"`
	// Stable has the traffic, Canary is to get it. Both are names of target models, as servers know them.
	Stable string `json:"stable"`
	Canary string `json:"canary"`
	// Steps are the shares of the canary, rising to 100 %. Default 1, 5, 25, 50 and 100 %, 5 minutes each. At most 50.
	Steps []Step `json:"steps,omitempty"`
	// Metrics are what is judged. Default DefaultMetrics.
	Metrics []Metric `json:"metrics,omitempty"`
	// MinRequests is how many requests of the canary a verdict takes, but for a hard stop. Default 20, at least 10: fewer
	// tell nothing.
	MinRequests int `json:"minRequests,omitempty"`
	// Deadline is how long a step may stay without a verdict, and the canary not loaded. Default 1 hour. OnUnsure is what
	// to do then.
	Deadline time.Duration `json:"deadline,omitempty"` // in JSON as "1h"
	OnUnsure OnUnsure      `json:"onUnsure,omitempty"`
	// Load says how the canary comes onto the servers.
	Load LoadPlan `json:"load,omitzero"`
}

// Object names a manifest, and the rule of an InferenceModelRewrite.
type Object struct {
	Kind string // InferenceModel or InferenceModelRewrite
	Name types.NamespacedName
	Rule int // index; of an InferenceModelRewrite
}

// Step is a share of the traffic.
type Step struct {
	SetWeight float64       `json:"setWeight"`        // percent, from 0.01 to 100, with at most 2 decimals
	Pause     time.Duration `json:"pause,omitempty"`  // at least so long, as "5m"; default: as long as a verdict takes
	Manual    bool          `json:"manual,omitempty"` // goes on only when somebody promotes it
}

// Metric is something that the canary is judged by, against the stable target in the same time.
type Metric struct {
	// Name is one of MetricNames.
	Name string `json:"name"`
	// MaxRise is how much more of the requests of the canary may be of the kind, in percent points. Only for errors,
	// empty (default 1) and finish (10).
	MaxRise float64 `json:"maxRise,omitempty"`
	// MaxRatio is how much longer the canary may take, or for length how much longer or shorter its answers may be:
	// above 1. Default 1.2, for ntpot and length 1.5.
	MaxRatio float64 `json:"maxRatio,omitempty"`
	// FailureLimit is how many failed looks in a row are borne. Default 0: the first one counts.
	FailureLimit int `json:"failureLimit,omitempty"`
	// From is the weight in percent from which it is judged. Default 0, for ttft and ntpot 5: a target with little traffic has
	// cold caches and its adapter is loaded into a slot again and again, which the first requests pay for.
	From float64 `json:"from,omitempty"`
	// WarnOnly says that it is told of, and stops nothing. Always so for length and finish.
	WarnOnly bool `json:"warnOnly,omitempty"`
}

// OnUnsure is what becomes of a step whose Deadline is over without a verdict.
type OnUnsure string

// What can become of it.
const (
	Hold  OnUnsure = "hold"  // the default: it stays at its weight until somebody, or more traffic, decides
	Abort OnUnsure = "abort" // the canary is aborted
)

// LoadPlan is how the canary comes onto the servers.
type LoadPlan struct {
	// Source is where servers find the adapter, a path or name that they understand. Empty: it is there already, or
	// servers find it by its name.
	Source   string        `json:"source,omitempty"`
	Timeout  time.Duration `json:"timeout,omitempty"`  // of one call; default 2 minutes
	Tries    int           `json:"tries,omitempty"`    // on one server; default 3, at most 100
	Parallel int           `json:"parallel,omitempty"` // servers at once; default 4, at most 1000
	Share    float64       `json:"share,omitempty"`    // of the ready servers, that must have it; 0.001 to 1, default 1
	Unload   bool          `json:"unload,omitempty"`   // what has lost is unloaded after its last request
	Grace    time.Duration `json:"grace,omitempty"`    // how long after its last request; default 30 seconds
}
