package scheduling

import (
	"errors"
	"fmt"
)

var (
	// ErrNoEndpoint is wrapped by all errors that mean that no endpoint can serve the request. A
	// gateway answers 503.
	ErrNoEndpoint = errors.New("scheduling: no endpoint can serve the request")

	// ErrSaturated is wrapped by errors of filters that shed the request because the pool is full. A
	// gateway answers 429 with Retry-After.
	ErrSaturated = errors.New("scheduling: the pool is saturated")

	// ErrExpired is the Outcome.Err of a booking that expired because Done was not called.
	ErrExpired = errors.New("scheduling: booking expired, its owner never called Done")
)

// NoEndpointError says which filter left no candidates. It wraps ErrNoEndpoint.
type NoEndpointError struct {
	Filter     string // that removed the last candidates, "role" if it was their roles; empty: there were none at the start
	Candidates int    // number of candidates at the start
}

// roleFilter is the name under which endpoints are left out because of their Roles.
const roleFilter = "role"

// Error names the filter and the number of candidates.
func (e *NoEndpointError) Error() string {
	if e.Filter == "" {
		return ErrNoEndpoint.Error() + ": there are no candidates"
	}
	if e.Filter == roleFilter {
		return fmt.Sprintf("%v: none of %d candidates may answer, by their roles", ErrNoEndpoint, e.Candidates)
	}
	return fmt.Sprintf("%v: filter %q left none of %d candidates", ErrNoEndpoint, e.Filter, e.Candidates)
}

// Unwrap returns ErrNoEndpoint.
func (e *NoEndpointError) Unwrap() error { return ErrNoEndpoint }

// PluginError is an error of a plugin, with the plugin's name in the profile.
type PluginError struct {
	// Stage is "filter", "scorer", "cost", "splitter" or "picker", for panics also "tracker", "hook",
	// "estimator", "patience", "forgetter", "rule", "clock", "ender" or "change".
	Stage  string
	Plugin string
	Err    error
}

// Error names the stage and the plugin.
func (e *PluginError) Error() string {
	return fmt.Sprintf("scheduling: %s %q: %v", e.Stage, e.Plugin, e.Err)
}

// Unwrap returns the plugin's own error.
func (e *PluginError) Unwrap() error { return e.Err }
