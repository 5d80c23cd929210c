package autoscale

import "time"

// Names of terms, and of what else may rule a Recommendation.
const (
	TermDemand      = "demand"      // what comes
	TermBacklog     = "backlog"     // what waits
	TermKV          = "kv"          // memory of the servers
	TermConcurrency = "concurrency" // requests that run
	TermSLO         = "slo"         // requests that are late

	RuleIdle    = "idle"    // nothing comes: the least, or zero
	RuleWake    = "wake"    // something came while there was none
	RuleMin     = "min"     // Policy.Min
	RuleMax     = "max"     // Policy.Max
	RuleStep    = "step"    // as many at once as allowed
	RuleWindow  = "window"  // a larger recommendation is not long ago
	RuleReserve = "reserve" // short surges came of late
	RuleHold    = "hold"    // too little is known
)

// Recommendation is how many replicas there should be, and why.
type Recommendation struct {
	At       time.Time `json:"at"`
	Replicas int       `json:"replicas"` // ready, starting and new ones together
	Term     string    `json:"term"`     // which ruled: a Term or Rule constant
	Reason   string    `json:"reason"`   // in words
	Terms    []Term    `json:"terms"`    // all that were asked, in the order of the constants
	// Variants is how many of which kind, if Signals has several. Their sum is Replicas.
	Variants []VariantReplicas `json:"variants,omitempty"`
	// StartUp is how long a new replica is taken to need until it serves.
	StartUp time.Duration `json:"startUp"` // nanoseconds
	// Partial says that not all gateways answered.
	Partial bool `json:"partial,omitempty"`
}

// Term is what one law asks for.
type Term struct {
	Name     string `json:"name"`
	Replicas Figure `json:"replicas"` // before rounding; unknown: it has no opinion
	Why      string `json:"why"`
}

// VariantReplicas is how many replicas of one kind there should be.
type VariantReplicas struct {
	Name     string `json:"name"`
	Replicas int    `json:"replicas"`
}
