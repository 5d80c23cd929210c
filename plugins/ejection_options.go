package plugins

import (
	"fmt"
	"time"
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
	Failures int
	// Base is how long the first ejection lasts. Each one that follows in a row
	// lasts twice as long. Default DefaultEjectionBase, or Max if that is shorter.
	Base time.Duration
	// Max is what the doubling ends at. Default DefaultEjectionMax, or Base if that
	// is longer; at most LimitEjectionMax.
	Max time.Duration
	// Spare is for how long an endpoint is spared that is busy and does not say for how
	// long. Default DefaultEjectionSpare, or MaxSpare if that is shorter.
	Spare time.Duration
	// MaxSpare is the longest that one is spared after an answer, whatever it says. Default
	// DefaultEjectionMaxSpare, or Spare if that is longer; at most LimitEjectionMax.
	MaxSpare time.Duration
	// FailClosed strikes out also the last candidates, so that the call ends with a
	// *scheduling.NoEndpointError. By default all are kept if all would be struck
	// out: a request that may fail is better than one that must.
	FailClosed bool
}

// fill puts the defaults in, or says what is wrong with o.
func (o *EjectionOptions) fill() error {
	if o.Failures < 0 || o.Failures > LimitEjectionFailures {
		return fmt.Errorf("plugins: ejection Failures is %d, want 1 to %d, or 0 for the default %d", o.Failures, LimitEjectionFailures, DefaultEjectionFailures)
	}
	if o.Failures == 0 {
		o.Failures = DefaultEjectionFailures
	}
	for _, p := range []struct {
		name, maxName     string
		first, most       *time.Duration
		defFirst, defMost time.Duration
	}{
		{"Base", "Max", &o.Base, &o.Max, DefaultEjectionBase, DefaultEjectionMax},
		{"Spare", "MaxSpare", &o.Spare, &o.MaxSpare, DefaultEjectionSpare, DefaultEjectionMaxSpare},
	} {
		switch {
		case *p.first < 0 || *p.first > LimitEjectionMax:
			return fmt.Errorf("plugins: ejection %s is %v, want more than 0 and at most %v, or 0 for the default %v", p.name, *p.first, LimitEjectionMax, p.defFirst)
		case *p.most < 0 || *p.most > LimitEjectionMax:
			return fmt.Errorf("plugins: ejection %s is %v, want more than 0 and at most %v, or 0 for the default %v", p.maxName, *p.most, LimitEjectionMax, p.defMost)
		case *p.most > 0 && *p.most < *p.first:
			return fmt.Errorf("plugins: ejection %s is %v, want at least %s, which is %v", p.maxName, *p.most, p.name, *p.first)
		}
		if *p.most == 0 {
			*p.most = max(p.defMost, *p.first)
		}
		if *p.first == 0 {
			*p.first = min(p.defFirst, *p.most)
		}
	}
	return nil
}
