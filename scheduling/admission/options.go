package admission

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/inferpick/inferpick/types"
)

// Defaults of Options.
const (
	DefaultMaxRequests  = 10_000
	DefaultMaxBytes     = 1 << 30
	DefaultMaxBands     = 32
	DefaultMaxFlows     = 10_000
	DefaultMaxLanes     = 64
	DefaultFlowIdle     = 5 * time.Minute
	DefaultInputWeight  = 1
	DefaultOutputWeight = 2
	DefaultCredit       = 8192
	DefaultQuantum      = 16_384
	DefaultOutputTokens = 256
	DefaultMaxWait      = 30 * time.Second
	DefaultMaxRetry     = time.Minute
	DefaultTicketTTL    = 30 * time.Minute
)

// Options say when a pool is full and what becomes of requests then. The zero value
// is good: it has DefaultBands, Default() as Detector, and tenants that share alike.
type Options struct {
	// Detector says how full endpoints are. Default: Default().
	Detector Detector
	// Bands are the classes of requests, by priority. Default: DefaultBands().
	Bands []Band
	// MaxRequests and MaxBytes bound what waits in all bands together. Defaults
	// 10,000 requests and 1 GiB of bodies.
	MaxRequests int
	MaxBytes    int64
	// MaxBands bounds the priorities that have a queue at one time; requests of one
	// more wait with those of the next lower priority. Default 32.
	MaxBands int
	// MaxLanes bounds the sets of candidates that are told apart at one time, see
	// Candidates; requests of one more count as of the whole pool. Default 64.
	MaxLanes int

	// Fairness says how tenants of one priority share. Default VirtualTokens.
	Fairness Fairness
	// Order is that of the requests of one tenant. Default FIFO.
	Order Order
	// InputWeight and OutputWeight are what a token of the prompt and of the output
	// counts as. Defaults 1 and 2, as in VTC.
	InputWeight, OutputWeight float64
	// Credit is how many weighted tokens a tenant that sent nothing may be ahead of
	// those that did: enough to go before them with the next request, and no more.
	// Default 8,192; negative: none.
	Credit float64
	// Quantum is, with fairness PrefixLocality, how many weighted tokens a tenant is
	// served before it is the next one's turn. Default 16,384.
	Quantum float64
	// Tenants gives tenants weights. If it is not empty, ids that are not in it share
	// one flow with requests that have none; if it is, each id is a flow of its own,
	// which is right only if ids come from the gateway and not from clients.
	Tenants map[string]Tenant
	// MaxFlows bounds the tenants that are remembered for each priority. Those of
	// more share the flow of requests that have none. Default 10,000.
	MaxFlows int
	// FlowIdle is after how long a tenant with nothing under way is forgotten. Default
	// 5 minutes. A tenant to which nothing is held against is forgotten earlier.
	FlowIdle time.Duration
	// OutputTokens is the output of a request that is taken until some have ended.
	// Default 256.
	OutputTokens int

	// WaitForEndpoints is how long requests wait while the pool has no endpoint that
	// could serve them, for scaling from zero. Default 0: they are refused.
	WaitForEndpoints time.Duration
	// Revoke lets a request of a band that may Displace take the place of a running
	// one of negative priority, if that has said how it can be ended (OnRevoke).
	Revoke bool
	// Budgets bound what tenants and models may use. Optional.
	Budgets []Budget
	// MaxRetryAfter bounds what refused clients are told, but for those over a Budget, who
	// are told when that will be enough. Default 1 minute.
	MaxRetryAfter time.Duration

	// MetricsTTL is the oldest that a reading may be. Default 5 s.
	MetricsTTL time.Duration
	// TicketTTL is how long a request that was booked may give no sign of life (Booked,
	// FirstToken or Alive) before its owner is taken to have forgotten it: it is ended then,
	// at the next call, with ErrForgotten. One that gave another than Booked may take up to
	// twice as long.
	// Default 30 minutes.
	TicketTTL time.Duration
	// Hooks hear of what happens.
	Hooks Hooks
	// Clock tells the time. Nil: the real one.
	Clock Clock
}

// Band is a class of requests: those of at least its Priority that belong to no
// higher band. Each priority in it has a queue of its own, and higher ones go first.
type Band struct {
	// Name is for people. Not empty, and unique.
	Name string
	// Priority is the lowest that belongs to the band; of the lowest band it does
	// not matter: all priorities below the others belong to it.
	Priority int
	// Ceiling is how full, by the Detector, an endpoint may be to still have room for
	// requests of the band. A lower band's is not above it: what is between them is
	// kept free for the higher one. Default 1.
	Ceiling float64
	// ModestCeiling is Ceiling for a tenant that was served less than those that wait, and
	// for the only tenant, unless the bands above have more than 0.4 of what is under way:
	// one that asks for less than its share finds room where others have to wait. Not below Ceiling, nor above that of the next higher band. Default:
	// Ceiling.
	ModestCeiling float64
	// MaxRequests and MaxBytes bound what waits of one priority. 0: the bounds of all
	// bands together. MaxRequests -1: nothing waits, requests are refused at once when
	// there is no room.
	MaxRequests int
	MaxBytes    int64
	// MaxWait is how long a request may wait. What the request says (Arrival.MaxWait
	// or its SLO) can only make it shorter. Default 30 s.
	MaxWait time.Duration
	// Floor is the part of all tokens, 0 to 0.5, that the band gets while some of it
	// waits, whatever is above it. Default 0.
	Floor float64
	// Displace lets a request of the band take the place of one of a lower band where
	// the queue is full.
	Displace bool
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
	Weight float64
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
func (f Fairness) String() string { return nameIn(fairnessNames, int(f)) }

// Order is that of the requests of one tenant at one priority.
type Order uint8

const (
	// FIFO: who came first.
	FIFO Order = iota
	// EarliestDeadline: who has the least time left.
	EarliestDeadline
)

var orderNames = []string{"fifo", "earliest-deadline"}

// String returns the name that a declaration has for it.
func (o Order) String() string { return nameIn(orderNames, int(o)) }

func nameIn(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return "invalid"
}

// Clock is the time and what is to happen at one. The functions may be called from
// any goroutine, without a lock. Where the times carry a monotonic reading, as those of
// time.Now do, nothing goes by the wall clock, which may be set. If Now panics, the instant
// is that of the call before; if AfterFunc does, the real time's is used; f is called from one of its own, or, in a simulated world, from
// whoever makes time pass, but never from within AfterFunc.
type Clock interface {
	Now() time.Time
	AfterFunc(d time.Duration, f func()) (stop func())
}

type realClock struct{}

func (realClock) Now() time.Time { return time.Now() }

func (realClock) AfterFunc(d time.Duration, f func()) func() {
	t := time.AfterFunc(d, f)
	return func() { t.Stop() }
}

// Validate reports all that is wrong with o, each with the field it is in.
func (o Options) Validate() error {
	_, err := o.withDefaults()
	return err
}

// withDefaults returns a copy with the defaults filled in and the bands from the
// highest to the lowest, or what is wrong.
func (o Options) withDefaults() (Options, error) {
	var v validator
	if o.Detector == nil {
		o.Detector = Default()
	}
	if o.Clock == nil {
		o.Clock = realClock{}
	}
	v.count("MaxRequests", &o.MaxRequests, DefaultMaxRequests)
	if o.MaxBytes < 0 {
		v.failf("MaxBytes is %d, want at least 0", o.MaxBytes)
	}
	def(&o.MaxBytes, DefaultMaxBytes)
	v.count("MaxBands", &o.MaxBands, DefaultMaxBands)
	v.count("MaxLanes", &o.MaxLanes, DefaultMaxLanes)
	v.count("MaxFlows", &o.MaxFlows, DefaultMaxFlows)
	v.count("OutputTokens", &o.OutputTokens, DefaultOutputTokens)
	v.duration("FlowIdle", &o.FlowIdle, DefaultFlowIdle)
	v.duration("MaxRetryAfter", &o.MaxRetryAfter, DefaultMaxRetry)
	v.duration("MetricsTTL", &o.MetricsTTL, defaultMetricsTTL)
	v.duration("TicketTTL", &o.TicketTTL, DefaultTicketTTL)
	v.duration("WaitForEndpoints", &o.WaitForEndpoints, 0)
	v.weight("InputWeight", &o.InputWeight, DefaultInputWeight)
	v.weight("OutputWeight", &o.OutputWeight, DefaultOutputWeight)
	v.weight("Quantum", &o.Quantum, DefaultQuantum)
	if math.IsNaN(o.Credit) || math.IsInf(o.Credit, 0) {
		v.failf("Credit is %v, want a number", o.Credit)
	}
	def(&o.Credit, DefaultCredit)
	o.Credit = max(o.Credit, 0)
	if int(o.Fairness) >= len(fairnessNames) {
		v.failf("Fairness is %d, want one of %v", o.Fairness, fairnessNames)
	}
	if int(o.Order) >= len(orderNames) {
		v.failf("Order is %d, want one of %v", o.Order, orderNames)
	}
	o.Bands = v.bands(o.Bands)
	o.Tenants = v.tenants(o.Tenants)
	o.Budgets = v.budgets(o.Budgets)
	return o, errors.Join(v.errs...)
}

type validator struct{ errs []error }

func (v *validator) failf(format string, args ...any) {
	v.errs = append(v.errs, fmt.Errorf("admission: "+format, args...))
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (v *validator) count(name string, field *int, value int) {
	if *field < 0 {
		v.failf("%s is %d, want above 0, or 0 for the default of %d", name, *field, value)
	}
	def(field, value)
}

func (v *validator) duration(name string, field *time.Duration, value time.Duration) {
	if *field < 0 {
		v.failf("%s is %v, want at least 0", name, *field)
	}
	def(field, value)
}

func (v *validator) weight(name string, field *float64, value float64) {
	if !(*field >= 0 && *field <= 1e9) {
		v.failf("%s is %v, want above 0, or 0 for the default of %v", name, *field, value)
	}
	def(field, value)
}

func (v *validator) bands(bands []Band) []Band {
	if len(bands) == 0 {
		bands = DefaultBands()
	}
	bands = slices.Clone(bands)
	slices.SortStableFunc(bands, func(a, b Band) int {
		switch {
		case a.Priority > b.Priority:
			return -1
		case a.Priority < b.Priority:
			return 1
		}
		return 0
	})
	names := map[string]bool{}
	floors := 0.0
	for i := range bands {
		b := &bands[i]
		if b.Name == "" {
			v.failf("band of priority %d has no Name", b.Priority)
		} else if names[b.Name] {
			v.failf("band %q: another band has the same Name", b.Name)
		}
		names[b.Name] = true
		if i > 0 && b.Priority == bands[i-1].Priority {
			v.failf("band %q: Priority is %d, as that of band %q", b.Name, b.Priority, bands[i-1].Name)
		}
		def(&b.Ceiling, 1)
		if !(b.Ceiling > 0 && b.Ceiling <= 1000) {
			v.failf("band %q: Ceiling is %v, want above 0 and at most 1000", b.Name, b.Ceiling)
		} else if i > 0 && b.Ceiling > bands[i-1].Ceiling {
			v.failf("band %q: Ceiling is %v, above the %v of band %q, which goes first", b.Name, b.Ceiling, bands[i-1].Ceiling, bands[i-1].Name)
		}
		def(&b.ModestCeiling, b.Ceiling)
		if !(b.ModestCeiling >= b.Ceiling) {
			v.failf("band %q: ModestCeiling is %v, want at least its Ceiling of %v", b.Name, b.ModestCeiling, b.Ceiling)
		} else if i > 0 && b.ModestCeiling > bands[i-1].ModestCeiling {
			v.failf("band %q: ModestCeiling is %v, above the %v of band %q, which goes first", b.Name, b.ModestCeiling, bands[i-1].ModestCeiling, bands[i-1].Name)
		}
		if b.MaxRequests < -1 {
			v.failf("band %q: MaxRequests is %d, want at least 0, or -1 for no queue", b.Name, b.MaxRequests)
		}
		if b.MaxBytes < 0 {
			v.failf("band %q: MaxBytes is %d, want at least 0", b.Name, b.MaxBytes)
		}
		if b.MaxWait < 0 {
			v.failf("band %q: MaxWait is %v, want at least 0", b.Name, b.MaxWait)
		}
		def(&b.MaxWait, DefaultMaxWait)
		if !(b.Floor >= 0 && b.Floor <= 0.5) {
			v.failf("band %q: Floor is %v, want 0 to 0.5", b.Name, b.Floor)
		} else if b.Floor > 0 && !b.waits() {
			v.failf("band %q: Floor is %v, but nothing of the band waits (MaxRequests is -1)", b.Name, b.Floor)
		}
		floors += b.Floor
	}
	// All priorities below the others: of what shares a queue none is raised.
	bands[len(bands)-1].Priority = math.MinInt
	if floors > 0.9 {
		v.failf("the Floors of all bands add up to %v, want at most 0.9", floors)
	}
	return bands
}

func (v *validator) tenants(tenants map[string]Tenant) map[string]Tenant {
	tenants = maps.Clone(tenants)
	for _, name := range slices.Sorted(maps.Keys(tenants)) {
		t := tenants[name]
		def(&t.Weight, 1)
		if !(t.Weight >= 0.001 && t.Weight <= 1000) {
			v.failf("tenant %q: Weight is %v, want 0.001 to 1000", name, t.Weight)
		}
		tenants[name] = t
	}
	return tenants
}
