package rollout

import (
	"time"

	"github.com/inferpick/inferpick/types"
)

// Annotation is the one of an InferenceModel or InferenceModelRewrite that holds a Plan as JSON, and starts it.
const Annotation = "inferpick.dev/rollout"

// StateAnnotation is the one in which the state of a rollout is kept with its object.
const StateAnnotation = "inferpick.dev/rollout-state"

// Plan is how traffic moves from one target to another. Its JSON form has the words of Argo Rollouts where those fit.
type Plan struct {
	// Object is the manifest whose weights are written.
	Object Object `json:"-"`
	// Stable has the traffic, Canary is to get it. Both are names of target models, as servers know them.
	Stable string `json:"stable"`
	Canary string `json:"canary"`
	// Steps are the shares of the canary, rising. Default 1, 5, 25, 50 and 100 %, 5 minutes each.
	Steps []Step `json:"steps,omitempty"`
	// Metrics are what is judged. Default DefaultMetrics.
	Metrics []Metric `json:"metrics,omitempty"`
	// MinRequests is how many requests of the canary a verdict takes, but for a hard stop. Default 20.
	MinRequests int `json:"minRequests,omitempty"`
	// Deadline is how long a step may stay without a verdict. Default 1 hour. OnUnsure is what to do then.
	Deadline time.Duration `json:"deadline,omitempty"` // in JSON as "1h"
	OnUnsure OnUnsure      `json:"onUnsure,omitempty"`
	// Load says how the canary comes onto the servers.
	Load LoadPlan `json:"load,omitzero"`
}

// Object names a manifest, and the rule of an InferenceModelRewrite.
type Object struct {
	Kind string // InferenceModel or InferenceModelRewrite
	Name types.NamespacedName
	Rule int
}

// Step is a share of the traffic.
type Step struct {
	SetWeight float64       `json:"setWeight"`        // percent, above 0 to 100
	Pause     time.Duration `json:"pause,omitempty"`  // at least so long, as "5m"
	Manual    bool          `json:"manual,omitempty"` // goes on only when somebody promotes it
}

// Metric is something that the canary is judged by, against the stable target in the same time.
type Metric struct {
	Name         string  `json:"name"` // errors, empty, ttft, tpot, length, finish
	MaxRise      float64 `json:"maxRise,omitempty"`
	MaxRatio     float64 `json:"maxRatio,omitempty"`
	FailureLimit int     `json:"failureLimit,omitempty"`
	WarnOnly     bool    `json:"warnOnly,omitempty"` // it is told of, and stops nothing
}

// OnUnsure is what becomes of a step whose Deadline is over without a verdict.
type OnUnsure string

const (
	Hold  OnUnsure = "hold" // the default: it stays at its weight until somebody, or more traffic, decides
	Abort OnUnsure = "abort"
)

// LoadPlan is how the canary comes onto the servers.
type LoadPlan struct {
	Source   string        `json:"source,omitempty"`   // where servers find the adapter, a path or name they understand; empty: it is there already, or servers find it by its name
	Timeout  time.Duration `json:"timeout,omitempty"`  // of one call; default 2 minutes
	Tries    int           `json:"tries,omitempty"`    // on one server; default 3
	Parallel int           `json:"parallel,omitempty"` // servers at once; default 4
	Share    float64       `json:"share,omitempty"`    // of the servers that must have it before traffic moves; default 1
	Unload   bool          `json:"unload,omitempty"`   // what has lost is unloaded after its last request
	Grace    time.Duration `json:"grace,omitempty"`    // how long after its last request; default 30 seconds
}
