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

// Bounds of what Ejection.Patience returns.
const (
	MinPatience     = 100 * time.Millisecond // at least
	UnknownPatience = 10 * time.Second       // while it is not known what is usual
)

// EjectionOptions configure Ejection. The zero value is good.
type EjectionOptions struct {
	// Failures is how many failures in a row eject an endpoint. Default
	// DefaultEjectionFailures; at most LimitEjectionFailures.
	Failures int `json:"failures,omitempty"`
	// Base is how long the first ejection lasts. Each one that follows in a row
	// lasts twice as long. Default DefaultEjectionBase, or Max if that is shorter.
	Base time.Duration `json:"base,omitempty"`
	// Max is what the doubling ends at. Default DefaultEjectionMax, or Base if that
	// is longer; at most LimitEjectionMax.
	Max time.Duration `json:"max,omitempty"`
	// Spare is for how long an endpoint is spared that is busy and does not say for how
	// long. Default DefaultEjectionSpare, or MaxSpare if that is shorter.
	Spare time.Duration `json:"spare,omitempty"`
	// MaxSpare is the longest that one is spared after an answer, whatever it says. Default
	// DefaultEjectionMaxSpare, or Spare if that is longer; at most LimitEjectionMax.
	MaxSpare time.Duration `json:"maxSpare,omitempty"`
	// FailClosed strikes out also the last candidates, so that the call ends with a
	// *scheduling.NoEndpointError. By default all are kept if all would be struck
	// out: a request that may fail is better than one that must.
	FailClosed bool `json:"failClosed,omitempty"`
}

// withDefaults returns o with its defaults, or what is wrong with it.
func (o EjectionOptions) withDefaults() (EjectionOptions, error) {
	c := check.Checks{Package: "plugins: ejection"}
	check.Default(&c, "failures", &o.Failures, DefaultEjectionFailures, 1, LimitEjectionFailures)
	span(&c, "base", &o.Base, DefaultEjectionBase, "max", &o.Max, DefaultEjectionMax)
	span(&c, "spare", &o.Spare, DefaultEjectionSpare, "maxSpare", &o.MaxSpare, DefaultEjectionMaxSpare)
	return o, c.Err()
}

// span checks two durations of which the second is not below the first, and fills in their
// defaults.
func span(c *check.Checks, low string, from *time.Duration, defFrom time.Duration, high string, to *time.Duration, defTo time.Duration) {
	check.Default(c, high, to, max(defTo, *from), 1, LimitEjectionMax)
	check.Default(c, low, from, min(defFrom, *to), 1, LimitEjectionMax)
	c.Want(*to >= *from, high, *to, "at least %s, which is %v", low, *from)
}
