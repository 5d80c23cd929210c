package scheduling

import (
	"errors"
	"fmt"
)

var (
	// ErrNoEndpoint is wrapped by every error that says that no endpoint can
	// serve the request. A gateway answers 503.
	ErrNoEndpoint = errors.New("scheduling: no endpoint can serve the request")

	// ErrSaturated is wrapped by the error of a filter that sheds the request
	// because the pool is full. A gateway answers 429 with Retry-After.
	ErrSaturated = errors.New("scheduling: the pool is saturated")

	// ErrExpired is the Outcome.Err of a booking whose owner never called Done.
	ErrExpired = errors.New("scheduling: booking expired, its owner never called Done")
)

// NoEndpointError says where the last candidate was lost. It wraps ErrNoEndpoint.
type NoEndpointError struct {
	Filter     string // the filter that struck out the last ones; empty: there were none to begin with
	Candidates int    // how many there were to begin with
}

// Error says what was lost where.
func (e *NoEndpointError) Error() string {
	if e.Filter == "" {
		return ErrNoEndpoint.Error() + ": there are no candidates"
	}
	return fmt.Sprintf("%v: filter %q left none of %d candidates", ErrNoEndpoint, e.Filter, e.Candidates)
}

// Unwrap returns ErrNoEndpoint.
func (e *NoEndpointError) Unwrap() error { return ErrNoEndpoint }

// PluginError is an error of a plugin, with the name the wiring gave it.
type PluginError struct {
	// Stage is "filter", "scorer", "cost" or "picker"; of a panic also "tracker", "hook",
	// "estimator", "patience", "forgetter" or "rule".
	Stage  string
	Plugin string
	Err    error
}

// Error names the plugin.
func (e *PluginError) Error() string {
	return fmt.Sprintf("scheduling: %s %q: %v", e.Stage, e.Plugin, e.Err)
}

// Unwrap returns the plugin's own error.
func (e *PluginError) Unwrap() error { return e.Err }
