package types

import (
	"math"
	"time"
)

// Endpoint is one reading of one model server address. It is immutable once
// published: who has a newer reading publishes another value with the same ID,
// Slot and Load. Copying an Endpoint is allowed; it is then another reading.
//
// Feed a Scheduler from a datastore.Store or a scheduling.EndpointList, or build endpoints
// with NewEndpoint.
type Endpoint struct {
	// What decisions look at in all endpoints comes first: it is in one line of the cache.

	// Load is the live ledger, shared by all readings of the endpoint, and its
	// identity. Required by Scheduler.Schedule.
	Load *Load

	// Models are the names that the server says it serves, base model and adapters. Nil:
	// not known, which is not the same as none.
	Models []string

	// Slot is a small number that no other endpoint of the same store has, so
	// that plugins can keep what they know of an endpoint in a slice. It is a
	// hint, to be checked against Load: numbers are used again after an endpoint
	// has gone, and endpoints made by hand may all have 0.
	Slot uint32

	// State says whether new requests may go there. Zero: Ready.
	State State

	// Metrics is what the server reported last.
	Metrics Metrics

	// Sent is what the ledger held when Metrics was read: what the server reported
	// beyond it came from others. WithMetrics and a datastore set it.
	Sent Booking

	// Capacity is what is known of the server from configuration. Optional.
	Capacity Capacity

	ID      string // unique within its pool, for example namespace/pod-rank-0
	Address string // host:port, IPv6 in brackets
	Labels  map[string]string

	// Attrs are values for the plugins of one's own. Set before publishing.
	Attrs Attrs
}

// NewEndpoint returns a ready endpoint with a ledger of its own and no reading.
//
// Call it once for each server and keep what it returns: the Load is what an endpoint is
// known by. Who calls it for every request, or whenever there is a new list of servers, has
// a pool of strangers: nothing is in flight anywhere, nothing is learned, nobody is ever
// ejected, and plugins remember each of the strangers until they are told to forget it. A
// scheduling.EndpointList keeps endpoints by their addresses. For a newer reading use
// WithMetrics, or copy the Endpoint and leave its Load.
func NewEndpoint(id, address string) *Endpoint {
	return &Endpoint{ID: id, Address: address, Load: NewLoad()}
}

// WithMetrics returns a copy of e with another reading. One without UpdatedAt is of now;
// figures that make no sense become unknown (Metrics.Sensible).
func (e *Endpoint) WithMetrics(m Metrics) *Endpoint {
	c := *e
	if m.UpdatedAt.IsZero() {
		m.UpdatedAt = time.Now()
	}
	c.Metrics = m.Sensible()
	if c.Load != nil {
		c.Sent = c.Load.Held()
	}
	return &c
}

// clockSkew is how far in the future a reading may be without being taken as of now.
const clockSkew = time.Second

// Next returns the endpoint with a newer reading, as those who keep lists of endpoints
// take it in at the instant now, and whether it tells of a restart. It returns nil if m is
// older than the reading that e has. e does not change.
//
// A reading without UpdatedAt is of now, and so is one from the future, which only another
// clock can give: more than a second after now. It is taken for newer than one that is from
// the future itself, as it may be after the clock was set back. Figures that make no sense
// become unknown (Metrics.Sensible). If StartedAt is unknown, the last known one stays; if
// it moves by more than a second, the server was restarted, and what models it serves is
// not known any more.
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
	}
	return next, restarted
}

// State says whether an endpoint takes new requests.
type State uint8

const (
	// Ready endpoints take requests. The zero value.
	Ready State = iota
	// Draining endpoints finish what they have and get nothing new.
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

// Metrics is what a model server reported of itself at one time. Every figure
// may be unknown; the zero value knows nothing.
type Metrics struct {
	// Awake is 0 while the engine sleeps: it is there and answers, but computes nothing
	// until somebody wakes it.
	Awake Gauge

	UpdatedAt time.Time // when the page was read; zero: never

	Waiting Gauge // requests queued in the engine
	Running Gauge // requests in the engine's batch
	KVUsage Gauge // fraction of the KV cache in use, 0..1

	// MaxAdapters is how many LoRA adapters fit at once. Unknown: the server did
	// not report adapters, and the two lists below say nothing.
	MaxAdapters     Gauge
	RunningAdapters []string // adapters with requests in the batch
	WaitingAdapters []string // adapters with requests in the queue

	BlockSize Gauge // tokens in a KV cache block
	NumBlocks Gauge // KV cache blocks

	// StartedAt is when the server process started, in Unix seconds. A change
	// means that its caches are empty.
	StartedAt Gauge
}

// mostCount is more than any count that a server can have to report.
const mostCount = 1e9

// Sensible returns m without the figures that cannot be true: counts that are negative or
// beyond a thousand million, a cache of no blocks or with nothing in a block, a KV usage
// outside of 0..1 (a little above 1 is 1), an engine neither awake nor asleep. They become
// unknown: a server that reports nonsense must not win by it.
func (m Metrics) Sensible() Metrics {
	for _, g := range [...]*Gauge{&m.Waiting, &m.Running, &m.MaxAdapters, &m.BlockSize, &m.NumBlocks} {
		if v := g.Or(0); !(v >= 0 && v <= mostCount) {
			*g = Gauge{}
		}
	}
	for _, g := range [...]*Gauge{&m.BlockSize, &m.NumBlocks} {
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

// Capacity is what configuration says of a server. Zero fields are unknown.
type Capacity struct {
	Speed          float64 `json:"speed,omitempty"`          // relative to the other servers of the pool; 0 is taken as 1
	MaxConcurrency int     `json:"maxConcurrency,omitempty"` // requests it can run at once
	KVTokens       int     `json:"kvTokens,omitempty"`       // tokens that fit into its KV cache
	CostPerHour    float64 `json:"costPerHour,omitempty"`    // in any currency, the same for the pool
}

// Fresh reports whether e has a reading that r may use: one that is not older
// than the metrics' time to live of the scheduler that decides.
func (e *Endpoint) Fresh(r *Request) bool {
	return !e.Metrics.UpdatedAt.Before(r.StaleBefore)
}

// Waiting returns the requests queued in the engine as r may see them: NaN if
// never reported or too old.
func (e *Endpoint) Waiting(r *Request) float64 { return e.fresh(r, e.Metrics.Waiting).OrNaN() }

// Running returns the requests in the engine's batch as r may see them: NaN if
// never reported or too old.
func (e *Endpoint) Running(r *Request) float64 { return e.fresh(r, e.Metrics.Running).OrNaN() }

// KVUsage returns the fraction of the KV cache in use as r may see it: NaN if
// never reported or too old.
func (e *Endpoint) KVUsage(r *Request) float64 { return e.fresh(r, e.Metrics.KVUsage).OrNaN() }

// MaxAdapters returns how many adapters fit as r may see it: NaN if the server
// did not report adapters or the reading is too old. The lists of adapters are
// valid only if this is not NaN.
func (e *Endpoint) MaxAdapters(r *Request) float64 { return e.fresh(r, e.Metrics.MaxAdapters).OrNaN() }

// Asleep reports whether the engine says that it sleeps, as r may see it.
func (e *Endpoint) Asleep(r *Request) bool {
	awake, ok := e.Metrics.Awake.Value()
	return ok && awake == 0 && !e.Metrics.UpdatedAt.Before(r.StaleBefore)
}

func (e *Endpoint) fresh(r *Request, g Gauge) Gauge {
	if e.Metrics.UpdatedAt.Before(r.StaleBefore) {
		return Gauge{}
	}
	return g
}
