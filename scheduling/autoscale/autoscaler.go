package autoscale

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/inferpick/inferpick/types"
)

// Errors of an Autoscaler. They are wrapped with the pool in question.
var (
	// ErrUnknownPool: there is no pool of that name, or no policy for it.
	ErrUnknownPool = errors.New("autoscale: unknown pool")
	// ErrPartial: not all gateways answered, so that a part would be taken for the whole.
	ErrPartial = errors.New("autoscale: not all gateways answered")
)

// Options of an Autoscaler. Collector is required.
type Options struct {
	Collector *Collector
	// Policy returns that of a pool, and whether it is scaled at all. Nil: the zero Policy for all pools.
	Policy func(pool types.NamespacedName) (Policy, bool)
	// Peers asks the other gateways in front of the same servers. Nil: there are none.
	Peers Peers
	// Every is how often a recommendation is made. Default 1 s.
	Every time.Duration
	// Store keeps histories over a restart. Nil: nothing is kept.
	Store Store
	// Now is the clock. Default that of the Collector.
	Now func() time.Time
}

// Store keeps the histories of all pools as JSON. Its methods are called by one goroutine at a time.
type Store interface {
	Load(ctx context.Context) ([]byte, error) // nil: nothing was saved
	Save(ctx context.Context, histories []byte) error
}

// Peers asks the other gateways in front of the same servers what they know.
type Peers interface {
	// Ask returns what each of the others knows, as far as they answer before ctx is done, and how many did not. An
	// error says that it is not known who they are.
	Ask(ctx context.Context) (answers []Own, missing int, err error)
}

// Own is what one gateway knows itself: the JSON of GET /autoscale/own.
type Own struct {
	Gateway string    `json:"gateway"` // a name of its own, different at each start
	Signals []Signals `json:"signals"` // of each pool and of its models
}

// Autoscaler recommends numbers of replicas, for all that ask: people, metrics, an external scaler. Make it with New and
// Run it. All methods may be called from any goroutine.
type Autoscaler struct{ o Options }

// New returns an Autoscaler. The error names the option that is wrong.
func New(o Options) (*Autoscaler, error) { return &Autoscaler{o}, nil }

// Run makes a recommendation for each pool every Options.Every, until ctx is done. One Run at a time.
func (a *Autoscaler) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Tick makes a recommendation for each pool now. It is what Run does, for who has a clock of their own.
func (a *Autoscaler) Tick(ctx context.Context) {}

// Pools returns the pools that are scaled, in order of their names.
func (a *Autoscaler) Pools() []types.NamespacedName { return nil }

// Signals returns what all gateways know now of a pool, or of one model of it. An empty namespace is
// types.DefaultNamespace. Errors are ErrUnknownPool and ErrPartial, wrapped; with the latter the Signals are of those
// that answered. It answers from what was asked of peers last, if that is younger than Every.
func (a *Autoscaler) Signals(ctx context.Context, pool types.NamespacedName, model string) (Signals, error) {
	return Signals{}, ErrUnknownPool
}

// Desired returns the last recommendation for a pool; a first one if there is none. With ErrPartial it is one that
// holds: no less than there are replicas.
func (a *Autoscaler) Desired(ctx context.Context, pool types.NamespacedName) (Recommendation, error) {
	return Recommendation{}, ErrUnknownPool
}

// Active reports whether a pool should have replicas: whether more than none is recommended. Right after a first request
// for a pool without replicas it is true, before the next recommendation.
func (a *Autoscaler) Active(ctx context.Context, pool types.NamespacedName) (bool, error) {
	return false, ErrUnknownPool
}

// Watch returns a channel with what Active is: now, and each time that it changes, which is at once when a request comes
// for a pool without replicas. Of several changes that nobody received only the last is kept. Call stop when done; the
// channel is not closed. Changes other than waking need Run.
func (a *Autoscaler) Watch(pool types.NamespacedName) (active <-chan bool, stop func(), err error) {
	return nil, nil, ErrUnknownPool
}

// Handler serves GET /autoscale, JSON for people and programs: of each pool (or of ?pool=namespace/name) the signals, the
// recommendation with its terms, and the last recommendations; and GET /autoscale/own, an Own for peers. It is not for
// the public.
func (a *Autoscaler) Handler() http.Handler { return http.NotFoundHandler() }
