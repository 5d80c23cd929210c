package plugins

import (
	"time"

	"github.com/inferpick/inferpick/internal/check"
)

// Defaults and limits of Ejection.
const (
	DefaultEjectionFailures = 3
	LimitEjectionFailures   = 1000
	DefaultEjectionBase     = time.Second
	DefaultEjectionMax      = time.Minute
	LimitEjectionMax        = 24 * time.Hour
	DefaultEjectionSpare    = 500 * time.Millisecond
	DefaultEjectionMaxSpare = 30 * time.Second
)

// Bounds of Ejection.Patience.
const (
	MinPatience     = 100 * time.Millisecond // the minimum
	UnknownPatience = 10 * time.Second       // while the usual response time is unknown
)

// EjectionOptions configure Ejection. The zero value works.
type EjectionOptions struct {
	// Failures is the number of consecutive failures that eject an endpoint. Default
	// DefaultEjectionFailures, at most LimitEjectionFailures.
	Failures int `json:"failures,omitempty"`
	// Base is the duration of the first ejection. Each consecutive one lasts twice as long.
	// Default DefaultEjectionBase, or Max if that is shorter.
	Base time.Duration `json:"base,omitempty"`
	// Max bounds the duration of ejections. Default DefaultEjectionMax, or Base if that is
	// longer; at most LimitEjectionMax.
	Max time.Duration `json:"max,omitempty"`
	// Spare is how long an endpoint that is busy gets no requests if it does not say for how
	// long. Default DefaultEjectionSpare, or MaxSpare if that is shorter.
	Spare time.Duration `json:"spare,omitempty"`
	// MaxSpare bounds that time, whatever the endpoint says. Default DefaultEjectionMaxSpare, or
	// Spare if that is longer; at most LimitEjectionMax.
	MaxSpare time.Duration `json:"maxSpare,omitempty"`
	// FailClosed ends the call with a *scheduling.NoEndpointError if all candidates are ejected.
	// By default all are kept then: a request that may fail is better than one that must. Endpoints
	// of which only peers say that they fail are kept in any case.
	FailClosed bool `json:"failClosed,omitempty"`
}

// withDefaults returns o with defaults filled in, or an error that lists all invalid options.
func (o EjectionOptions) withDefaults() (EjectionOptions, error) {
	c := check.Checks{Package: "plugins: ejection"}
	check.Default(&c, "failures", &o.Failures, DefaultEjectionFailures, 1, LimitEjectionFailures)
	span(&c, "base", &o.Base, DefaultEjectionBase, "max", &o.Max, DefaultEjectionMax)
	span(&c, "spare", &o.Spare, DefaultEjectionSpare, "maxSpare", &o.MaxSpare, DefaultEjectionMaxSpare)
	return o, c.Err()
}

// span fills in the defaults of two durations and checks that they are in order.
func span(c *check.Checks, low string, from *time.Duration, defFrom time.Duration, high string, to *time.Duration, defTo time.Duration) {
	check.Default(c, high, to, max(defTo, *from), 1, LimitEjectionMax)
	check.Default(c, low, from, min(defFrom, *to), 1, LimitEjectionMax)
	c.Want(*to >= *from, high, *to, "at least %s, which is %v", low, *from)
}
