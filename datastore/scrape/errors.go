package scrape

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// ErrNoMetrics is the error of a page that can be fetched but holds none of the
// figures that are looked for: JSON, HTML, nothing, or another server's metrics.
var ErrNoMetrics = errors.New("none of the engine's metrics")

// ErrTooLarge is the error of a page of more than Options.MaxBody bytes.
var ErrTooLarge = errors.New("page too large")

// PageError is the error of a page that has a figure which cannot be read. None
// of its figures are used: the page may be damaged or cut off.
type PageError struct{ Err error }

// Error returns the line of the page and what is wrong there.
func (e *PageError) Error() string { return "scrape: page cannot be read: " + e.Err.Error() }

// Unwrap returns what is wrong.
func (e *PageError) Unwrap() error { return e.Err }

// StatusError is the error of an answer with another status than 200.
type StatusError struct {
	Status   int
	Location string // where a redirect points to
}

// Error returns the status and what may help.
func (e *StatusError) Error() string {
	switch {
	case e.Location != "":
		return fmt.Sprintf("scrape: status %d, on to %q, which is not followed: set the endpoint's metrics address and path", e.Status, e.Location)
	case e.Status == 404:
		return "scrape: status 404: set the endpoint's metrics path, or start the engine with its metrics on"
	case e.Status == 401 || e.Status == 403:
		return fmt.Sprintf("scrape: status %d: give Options.Transport one that authenticates", e.Status)
	}
	return fmt.Sprintf("scrape: status %d", e.Status)
}

// noMetrics says what a page without figures looks like.
func noMetrics(page []byte, engines []Engine) error {
	start := bytes.TrimSpace(page)
	switch {
	case len(start) == 0:
		return fmt.Errorf("scrape: the page is empty, so it has %w", ErrNoMetrics)
	case start[0] == '{' || start[0] == '[':
		return fmt.Errorf("scrape: the page begins with %q and has %w: it is JSON, where Prometheus text is wanted (TensorRT-LLM: read /prometheus/metrics, and set return_perf_metrics)", start[0], ErrNoMetrics)
	case start[0] == '<':
		return fmt.Errorf("scrape: the page begins with %q and has %w: it is HTML, where Prometheus text is wanted", start[0], ErrNoMetrics)
	}
	names := make([]string, len(engines))
	for i := range engines {
		names[i] = engines[i].Name
	}
	return fmt.Errorf("scrape: the page has %w (looked for %s): start the engine with its metrics on (SGLang: --enable-metrics, llama.cpp: --metrics), or set the right engine", ErrNoMetrics, strings.Join(names, ", "))
}
