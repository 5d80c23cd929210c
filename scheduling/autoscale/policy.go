package autoscale

import "time"

// Policy says how a pool is scaled. The zero value is good: from 1 to 100 replicas.
type Policy struct {
	// Min and Max bound the recommendation. Defaults 1 and 100. ToZero allows 0 too, whatever Min is, when nothing has
	// come, waited or run for IdleAfter (default 10 minutes).
	Min       int           `json:"min,omitempty"`
	Max       int           `json:"max,omitempty"`
	ToZero    bool          `json:"toZero,omitempty"`
	IdleAfter time.Duration `json:"idleAfter,omitempty"`

	// TTFT and TPOT are the targets for requests that have none. Defaults 2 s and 100 ms.
	TTFT time.Duration `json:"ttft,omitempty"`
	TPOT time.Duration `json:"tpot,omitempty"`

	// StartUp is how long a new replica takes until it serves. 0: it is learned; until then 2 minutes.
	StartUp time.Duration `json:"startUp,omitempty"`

	// Utilization is which part of what a replica can do is asked of it, above 0 and at most 1. Default
	// DefaultUtilization.
	Utilization float64 `json:"utilization,omitempty"`

	// StepUp bounds how many replicas are added at once: as a factor of those that there are, and at least 4. Default
	// DefaultStepUp.
	StepUp float64 `json:"stepUp,omitempty"`
	// Window is for how long a recommendation holds against smaller ones. 0: by StartUp.
	Window time.Duration `json:"window,omitempty"`

	Tuning
}

// Tuning is what few need to change. Zero fields have the defaults in defaults.go.
type Tuning struct {
	// filled in while the law is tuned
}

// Validate returns what is wrong with the policy, nil if nothing is.
func (p Policy) Validate() error { return nil }
