package admission

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/inferpick/inferpick/types"
)

// Defaults of Options.
const (
	DefaultMaxRequests   = 10_000
	DefaultMaxBytes      = 1 << 30
	DefaultMaxBands      = 32
	DefaultMaxFlows      = 10_000
	DefaultMaxPrograms   = 1000
	DefaultMaxLanes      = 64
	DefaultFlowIdle      = 5 * time.Minute
	DefaultInputWeight   = 1
	DefaultDenoiseWeight = 1
	DefaultOutputWeight  = 2
	DefaultCredit        = 8192
	DefaultQuantum       = 16_384
	DefaultOutputTokens  = 256
	DefaultMaxWait       = 30 * time.Second
	DefaultMaxRetry      = time.Minute
	DefaultTicketTTL     = 30 * time.Minute
	DefaultPeerDelay     = 150 * time.Millisecond
	DefaultMaxAccounts   = 50_000
)

// Band is a class of requests: those of at least its Priority that belong to no
// higher band. Each priority in it has a queue of its own, and higher ones go first.
type Band struct {
	// Name is for people. Not empty, and unique.
	Name string `json:"name"`
	// Priority is the lowest that belongs to the band; of the lowest band it does
	// not matter: all priorities below the others belong to it.
	Priority int `json:"priority"`
	// Ceiling is how full, by the Detector, an endpoint may be to still have room for
	// requests of the band. A lower band's is not above it: what is between them is
	// kept free for the higher one. Default 1.
	Ceiling float64 `json:"ceiling,omitempty"`
	// ModestCeiling is Ceiling for a tenant that was served less than those that wait, and
	// for the only tenant, unless the bands above have more than 0.4 of what is under way:
	// one that asks for less than its share finds room where others have to wait. Not below Ceiling, nor above that of the next higher band. Default:
	// Ceiling.
	ModestCeiling float64 `json:"modestCeiling,omitempty"`
	// MaxRequests and MaxBytes bound what waits of one priority. 0: the bounds of all
	// bands together. MaxRequests -1: nothing waits, requests are refused at once when
	// there is no room.
	MaxRequests int   `json:"maxRequests,omitempty"`
	MaxBytes    int64 `json:"maxBytes,omitempty"`
	// MaxWait is how long a request may wait. What the request says (Arrival.MaxWait
	// or its SLO) can only make it shorter. Default 30 s.
	MaxWait time.Duration `json:"maxWait,omitempty"`
	// Floor is the part of all tokens, 0 to 0.5, that the band gets while some of it
	// waits, whatever is above it. Default 0.
	Floor float64 `json:"floor,omitempty"`
	// Displace lets a request of the band take the place of one of a lower band where
	// the queue is full.
	Displace bool `json:"displace,omitempty"`
}

func (b *Band) waits() bool { return b.MaxRequests >= 0 }

// DefaultBands are those of the criticalities of an InferenceModel:
//
//   - critical, from priority 100: goes first, waits up to a minute if there is no
//     room anywhere, and takes the place of others in a full queue;
//   - standard, from 0: waits up to 30 s; gets 5 % of all tokens even if critical
//     requests alone fill the pool;
//   - sheddable, below 0: does not wait, has no floor.
//
// The ceilings leave a part of each endpoint to the higher bands.
func DefaultBands() []Band {
	return []Band{
		{Name: "critical", Priority: types.PriorityCritical, Ceiling: 1, MaxWait: time.Minute, Displace: true},
		{Name: "standard", Priority: types.PriorityStandard, Ceiling: 0.8, ModestCeiling: 0.87, MaxWait: DefaultMaxWait, Floor: 0.05},
		{Name: "sheddable", Priority: math.MinInt, Ceiling: 0.8, ModestCeiling: 0.87, MaxRequests: -1},
	}
}

// Tenant is what a tenant is entitled to.
type Tenant struct {
	// Weight is its share in relation to others. Default 1; 0.001 to 1000.
	Weight float64 `json:"weight,omitempty"`
}

// Fairness says how tenants of one priority share what there is.
type Fairness uint8

const (
	// VirtualTokens is the virtual token counter: whoever was served the fewest
	// weighted tokens is next. After Sheng et al., Fairness in Serving Large Language
	// Models, OSDI 2024.
	VirtualTokens Fairness = iota
	// PrefixLocality lets a tenant go on for Options.Quantum tokens, with requests
	// whose prompts begin alike, before it is the next one's turn: what the servers
	// have in their prefix caches is used while it is there. After DLPM, Cao et al.,
	// Locality-aware Fair Scheduling in LLM Serving, 2025. Tenants share no prefixes
	// here, so that locality is within tenants.
	PrefixLocality
	// FirstCome knows no tenants: who came first is next.
	FirstCome
)

var fairnessNames = []string{"virtual-tokens", "prefix-locality", "first-come"}

// String returns the name that a declaration has for it.
func (f Fairness) String() string { return nameOf(fairnessNames, f) }

// MarshalText implements encoding.TextMarshaler.
func (f Fairness) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *Fairness) UnmarshalText(name []byte) (err error) {
	*f, err = named[Fairness](fairnessNames, string(name))
	return err
}

// Order is that of the requests of one tenant at one priority.
type Order uint8

const (
	// FIFO: who came first. Where requests belong to programs (types.Request.ProgramID), these
	// share alike what their tenant gets, by tokens: the program that was served the fewest while
	// others waited is next, and one request in four is the one that has waited the longest.
	FIFO Order = iota
	// EarliestDeadline: who has the least time left, whatever its program.
	EarliestDeadline
	// LeastAttained is FIFO, but the program is next that was served the fewest tokens in all, in
	// steps that double from 4,096 on: short programs go before long ones, and end the earlier.
	// After Luo et al., Autellix, 2025.
	LeastAttained
)

var orderNames = []string{"fifo", "earliest-deadline", "least-attained"}

// String returns the name that a declaration has for it.
func (o Order) String() string { return nameOf(orderNames, o) }

// MarshalText implements encoding.TextMarshaler.
func (o Order) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (o *Order) UnmarshalText(name []byte) (err error) {
	*o, err = named[Order](orderNames, string(name))
	return err
}

func nameOf[T ~uint8](names []string, v T) string {
	if int(v) < len(names) {
		return names[v]
	}
	return "invalid"
}

// named returns the value of a name; of "" the zero value.
func named[T ~uint8](names []string, name string) (T, error) {
	i := slices.Index(names, name)
	if i < 0 && name != "" {
		return 0, fmt.Errorf("%q, want one of %s", name, strings.Join(names, ", "))
	}
	return T(max(i, 0)), nil
}
