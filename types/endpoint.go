package types

import (
	"math"
	"time"
)

// Endpoint is one reading of one model server address. It is immutable once published; to
// update it, publish a copy with the same ID, Slot and Load.
//
// Feed a Scheduler from a datastore.Store or a scheduling.EndpointList, or build endpoints
// with NewEndpoint.
type Endpoint struct {
	// Decisions scan the first fields of all endpoints: they share one cache line.

	// Load is the live ledger, shared by all readings of the endpoint, and the endpoint's
	// identity. Scheduler.Schedule requires it.
	Load *Load

	// Models are the names the server says it serves: base model and adapters. Nil means
	// unknown, not none.
	Models []string

	// Slot is a small number, unique within a store, that lets plugins keep per-endpoint data
	// in a slice. It is only a hint, to be checked against Load: slots of endpoints that are
	// gone are reused, and endpoints made by hand may all have 0.
	Slot uint32

	// State says whether the endpoint takes new requests. Default Ready.
	State State

	// Roles are the stages of a request that the endpoint may serve. Default: whole requests.
	// datastore.Store and scheduling.EndpointList read them from the label RoleLabel.
	Roles Roles

	// Metrics is what the server last reported.
	Metrics Metrics

	// Sent is what the ledger held when Metrics was read, with what peers had said (Load.Known): any
	// load reported beyond it came from other clients. WithMetrics and datastore.Store set it.
	Sent Booking

	// Told is the part of Sent that peers had said.
	Told Booking

	// Capacity describes the server, from configuration. Optional.
	Capacity Capacity

	ID      string // unique within its pool, for example namespace/pod-rank-0
	Address string // host:port, IPv6 in brackets
	Labels  map[string]string

	// Rank says that the endpoint is one of the data-parallel ranks at Address. Default: it is all
	// of the server.
	Rank Rank

	// Attrs holds values for custom plugins. Set them before publishing.
	Attrs Attrs
}

// NewEndpoint returns a ready endpoint with a new ledger and no reading.
//
// Call it once per server and keep the result: the Load identifies the endpoint. An endpoint
// created anew for every request, or for every list of servers, never has requests in flight,
// learns nothing and is never ejected, and plugins remember each one until told to forget it.
// A scheduling.EndpointList keeps endpoints by address. For a newer reading use WithMetrics,
// or copy the Endpoint with its Load.
func NewEndpoint(id, address string) *Endpoint {
	return &Endpoint{ID: id, Address: address, Load: NewLoad()}
}

// WithMetrics returns a copy of e with a new reading. A zero UpdatedAt is set to the current
// time, and implausible values become unknown (see Metrics.Sensible).
func (e *Endpoint) WithMetrics(m Metrics) *Endpoint {
	c := *e
	if m.UpdatedAt.IsZero() {
		m.UpdatedAt = time.Now()
	}
	c.Metrics = m.Sensible()
	if c.Load != nil {
		c.Told = c.Load.Peers()
		c.Sent = c.Load.Held().Plus(c.Told)
	}
	return &c
}

// clockSkew is how far in the future a reading's time may lie before it is replaced.
const clockSkew = time.Second

// Next returns a copy of e with the reading m, received at now, and whether m shows that the
// server restarted. It returns nil if m is older than the reading e has.
//
// UpdatedAt becomes now if it is zero or more than a second after now. A current reading that
// lies in the future, as after the clock was set back, counts as older. Implausible values
// become unknown (see Metrics.Sensible). An unknown StartedAt keeps its last value; if it
// changes by more than a second, the server restarted and Models is cleared.
func (e *Endpoint) Next(m Metrics, now time.Time) (next *Endpoint, restarted bool) {
	latest := now.Add(clockSkew)
	if m.UpdatedAt.IsZero() || m.UpdatedAt.After(latest) {
		m.UpdatedAt = now
	}
	if had := e.Metrics.UpdatedAt; m.UpdatedAt.Before(had) && !had.After(latest) {
		return nil, false
	}
	next = e.WithMetrics(m)
	before, known := e.Metrics.StartedAt.Value()
	after, ok := next.Metrics.StartedAt.Value()
	if !ok {
		next.Metrics.StartedAt = e.Metrics.StartedAt
	}
	if restarted = known && ok && math.Abs(after-before) > 1; restarted {
		next.Models = nil
	} else if !next.Metrics.PrefillRate.IsKnown() {
		next.Metrics.PrefillRate = e.Metrics.PrefillRate
	}
	return next, restarted
}

// State says whether an endpoint takes new requests.
type State uint8

const (
	// Ready endpoints take requests. The zero value.
	Ready State = iota
	// Draining endpoints finish their requests and get no new ones.
	Draining
	// Unhealthy endpoints are known to fail.
	Unhealthy
)

// String returns the name of the state in lower case.
func (s State) String() string {
	switch s {
	case Ready:
		return "ready"
	case Draining:
		return "draining"
	case Unhealthy:
		return "unhealthy"
	}
	return "invalid"
}

// Metrics is what a model server reported about itself at one time. Any Gauge may be
// unknown; in the zero value all are.
type Metrics struct {
	// Awake is 1, or 0 while the engine sleeps: the server answers, but computes nothing
	// until it is woken.
	Awake Gauge

	UpdatedAt time.Time // when the metrics were read; zero: never

	Waiting Gauge // requests queued in the engine
	Running Gauge // requests in the engine's batch
	KVUsage Gauge // fraction of the KV cache in use, 0..1

	// MaxAdapters is how many LoRA adapters can be loaded at once. If it is unknown, the
	// server does not report adapters and the two lists below are meaningless.
	MaxAdapters     Gauge
	RunningAdapters []string // adapters with requests in the batch
	WaitingAdapters []string // adapters with requests in the queue

	BlockSize Gauge // tokens in a KV cache block
	NumBlocks Gauge // KV cache blocks

	// PrefillRate is how many prompt tokens a second the engine computes while it computes prompts,
	// those in the cache not counted, if it measures that: SGLang does.
	PrefillRate Gauge

	// StartedAt is when the server process started, in Unix seconds. A change means that its
	// caches are empty.
	StartedAt Gauge
}

// maxCount is above any count a server could truthfully report.
const maxCount = 1e9

// Sensible returns m with implausible values made unknown, so that a server gains nothing by
// reporting them: counts below 0 or above 1e9, BlockSize, NumBlocks or PrefillRate below 1, a KVUsage
// outside 0..1 (up to 1.05 is taken as 1), an Awake other than 0 and 1, a StartedAt below 0
// or from 1e12.
func (m Metrics) Sensible() Metrics {
	for _, g := range [...]*Gauge{&m.Waiting, &m.Running, &m.MaxAdapters, &m.BlockSize, &m.NumBlocks, &m.PrefillRate} {
		if v := g.Or(0); !(v >= 0 && v <= maxCount) {
			*g = Gauge{}
		}
	}
	for _, g := range [...]*Gauge{&m.BlockSize, &m.NumBlocks, &m.PrefillRate} {
		if g.Or(1) < 1 {
			*g = Gauge{}
		}
	}
	if v := m.Awake.Or(0); v != 0 && v != 1 {
		m.Awake = Gauge{}
	}
	switch v := m.KVUsage.Or(0); {
	case v > 1 && v <= 1.05:
		m.KVUsage = Known(1)
	case !(v >= 0 && v <= 1):
		m.KVUsage = Gauge{}
	}
	if v := m.StartedAt.Or(0); !(v >= 0 && v < 1e12) {
		m.StartedAt = Gauge{}
	}
	return m
}

// Capacity describes a server, from configuration. Zero fields are unknown.
type Capacity struct {
	Speed          float64 `json:"speed,omitempty"`          // relative to the other servers of the pool; 0 is taken as 1
	MaxConcurrency int     `json:"maxConcurrency,omitempty"` // requests it can run at once
	KVTokens       int     `json:"kvTokens,omitempty"`       // tokens that fit in its KV cache
	CostPerHour    float64 `json:"costPerHour,omitempty"`    // in any currency, the same for the whole pool
}

// Fresh reports whether e's reading is recent enough for r, that is within the scheduler's
// Profile.MetricsTTL (see Request.StaleBefore).
func (e *Endpoint) Fresh(r *Request) bool {
	return !e.Metrics.UpdatedAt.Before(r.StaleBefore)
}

// Waiting returns the number of requests queued in the engine, or NaN if it is unknown or
// too old for r.
func (e *Endpoint) Waiting(r *Request) float64 { return e.fresh(r, e.Metrics.Waiting).OrNaN() }

// Running returns the number of requests in the engine's batch, or NaN if it is unknown or
// too old for r.
func (e *Endpoint) Running(r *Request) float64 { return e.fresh(r, e.Metrics.Running).OrNaN() }

// KVUsage returns the fraction of the KV cache in use, or NaN if it is unknown or too old
// for r.
func (e *Endpoint) KVUsage(r *Request) float64 { return e.fresh(r, e.Metrics.KVUsage).OrNaN() }

// MaxAdapters returns how many adapters can be loaded at once, or NaN if it is unknown or too
// old for r. The lists of adapters are valid only if it is not NaN.
func (e *Endpoint) MaxAdapters(r *Request) float64 { return e.fresh(r, e.Metrics.MaxAdapters).OrNaN() }

// Asleep reports whether the engine is known to sleep, by a reading recent enough for r.
func (e *Endpoint) Asleep(r *Request) bool { return e.fresh(r, e.Metrics.Awake).Or(1) == 0 }

func (e *Endpoint) fresh(r *Request, g Gauge) Gauge {
	if !e.Fresh(r) {
		return Gauge{}
	}
	return g
}
