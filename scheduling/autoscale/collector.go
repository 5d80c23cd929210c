package autoscale

import (
	"iter"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
)

// Speeds tells how fast an endpoint is, and whether that is known. plugins.Cost is one.
type Speeds interface {
	Speed(ep *types.Endpoint) (types.Speed, bool)
}

// CollectorOptions say where a Collector has its figures from. Pools is required.
type CollectorOptions struct {
	// Pools yields every pool with its endpoints as they are now, as telemetry.Options has it.
	Pools iter.Seq2[types.NamespacedName, []*types.Endpoint]
	// Admissions yields what the admission control of every pool that has one is like now. Optional.
	Admissions iter.Seq2[types.NamespacedName, admission.Stats]
	// Speeds tells how fast endpoints are: see SpeedsOf. Nil: learned from requests.
	Speeds Speeds
	// Starting tells how many replicas of a pool, or of one variant of it, are there that do not serve yet, and whether
	// that is known. Optional.
	Starting func(pool types.NamespacedName, variant string) (n int, ok bool)
	// VariantLabel is the label of endpoints whose values tell kinds of replicas apart. Empty: all are of one kind.
	VariantLabel string
	// Policy returns that of a pool; for the targets of requests that have none. Optional.
	Policy func(pool types.NamespacedName) Policy
	// Now is the clock: the one of the schedulers whose hooks these are. Default time.Now.
	Now func() time.Time
	// MetricsTTL is the age beyond which a reading of an endpoint is unknown. Default scheduling.DefaultMetricsTTL.
	MetricsTTL time.Duration
	// MaxModels bounds the models of a pool that are told apart; the first to come are. Default 100.
	MaxModels int
}

// Collector makes Signals from what hooks tell it and from what endpoints and admission controls are like. All methods
// may be called from any goroutine; it starts none.
type Collector struct{ o CollectorOptions }

// NewCollector returns a Collector that has seen nothing.
func NewCollector(o CollectorOptions) (*Collector, error) { return &Collector{o}, nil }

// SpeedsOf returns the first plugin of a profile that is a Speeds, nil if there is none.
func SpeedsOf(p scheduling.Profile) Speeds {
	for _, plugin := range p.Plugins() {
		if s, ok := plugin.(Speeds); ok {
			return s
		}
	}
	return nil
}

// Hooks returns hooks for the schedulers of a pool, which call those of next too, as telemetry.Metrics.Hooks does. With
// a zero pool they find the pool of each event by its endpoint.
func (c *Collector) Hooks(pool types.NamespacedName, next scheduling.Hooks) scheduling.Hooks {
	return next
}

// AdmissionHooks returns hooks for the admission control of a pool with the options o, which call those of o too.
func (c *Collector) AdmissionHooks(pool types.NamespacedName, o admission.Options) admission.Hooks {
	return o.Hooks
}

// Refused is told of a request that was answered with an error in place of a server: see director.Options.OnRefused.
// One that found no endpoint wakes its pool.
func (c *Collector) Refused(req *types.Request, pool types.NamespacedName, code string, status int) {}

// Signals returns what this gateway knows of a pool, or of one model of it. The error is ErrUnknownPool, wrapped.
func (c *Collector) Signals(pool types.NamespacedName, model string) (Signals, error) {
	return Signals{}, ErrUnknownPool
}

// All returns the signals of all pools, each followed by those of its models.
func (c *Collector) All() []Signals { return nil }
