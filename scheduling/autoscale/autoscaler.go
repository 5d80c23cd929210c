package autoscale

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/internal/guardlog"
	"github.com/inferpick/inferpick/types"
)

// Errors of an Autoscaler. They are wrapped with the pool in question.
var (
	// ErrUnknownPool: there is no pool of that name, or it is not scaled.
	ErrUnknownPool = errors.New("autoscale: unknown pool")
	// ErrPartial: not all gateways answered, so that a part would be taken for the whole.
	ErrPartial = errors.New("autoscale: not all gateways answered")
	// ErrTooManyModels: a model has no figures of its own, as others took all places: CollectorOptions.MaxModels.
	ErrTooManyModels = errors.New("autoscale: too many models to tell all apart")
)

// Options of an Autoscaler. Collector is required.
type Options struct {
	Collector *Collector
	// Policy returns that of a pool, and whether it is scaled at all. It must be valid (Policy.Validate): one that is not
	// makes every recommendation hold and say so; while it panics the recommendation of before stands. Nil: the zero
	// Policy for all pools.
	Policy func(pool types.NamespacedName) (Policy, bool)
	// Peers asks the other gateways in front of the same servers. Nil: there are none.
	Peers Peers
	// PeerTimeout is how long they may take to answer. Default DefaultPeerTimeout.
	PeerTimeout time.Duration
	// Every is how often a recommendation is made. Default DefaultEvery.
	Every time.Duration
	// Store keeps what is remembered of all pools over a restart, by StoreName (default "autoscale"): a sharing.File is
	// one, with a path that nothing else is kept at. Nil: nothing is kept, and a gateway that begins recommends no fewer
	// replicas than there are for a while.
	Store     Store
	StoreName string
	// Logger hears of what goes wrong with peers and the Store, and of functions of the user's that panic, at most
	// each minute. Nil: silence.
	Logger *slog.Logger
}

// Defaults of Options.
const (
	DefaultEvery       = time.Second
	DefaultPeerTimeout = 500 * time.Millisecond
)

// Store keeps bytes by name. Its methods are called by one goroutine at a time.
type Store interface {
	Save(ctx context.Context, name string, data []byte) error
	// Load returns what was saved last. If nothing was the error is an fs.ErrNotExist.
	Load(ctx context.Context, name string) ([]byte, error)
}

// Peers asks the other gateways in front of the same servers what they know. HTTPPeers and NotePeers are.
type Peers interface {
	// Ask returns what each of the others knows, as far as they answer before ctx is done, and how many did not. An
	// error says that it is not known who they are. It is called by one goroutine at a time.
	Ask(ctx context.Context) (answers []Own, missing int, err error)
}

// Own is what one gateway knows itself: the JSON of GET /autoscale/own.
type Own struct {
	Version int       `json:"version"` // of this form: 1
	Gateway string    `json:"gateway"` // a name that it has by itself, another after each start
	Signals []Signals `json:"signals"` // of each pool and of its models
}

// Autoscaler recommends numbers of replicas, for all that ask: people, metrics, an external scaler. Make it with New
// and Run it. All methods may be called from any goroutine. Each gateway recommends by the signals of all; what it
// remembers is its own.
type Autoscaler struct {
	o       Options
	panics  *guard.Teller
	gateway string // Own.Gateway
	kick    chan struct{}

	turn    chan struct{}           // held by who makes a picture, and whatever it needs
	picture atomic.Pointer[picture] // nil: none was made
	running atomic.Bool             // Run makes pictures

	// Held by who has the turn.
	histories map[types.NamespacedName]*History
	past      map[types.NamespacedName][]Recommendation // that differed from the one before, newest last
	saved     time.Time
	warned    time.Time
	loaded    bool

	mu       sync.Mutex
	watchers map[types.NamespacedName]map[*watcher]bool // guarded by mu
	woken    map[types.NamespacedName]uint64            // guarded by mu: those that no picture shows, and looks then
	looks    uint64                                     // guarded by mu: how many pictures were begun
}

// picture is what was known and recommended at one time. It does not change.
type picture struct {
	at    time.Time
	pools map[types.NamespacedName]*pooled
}

type pooled struct {
	signals Signals
	models  []Signals
	recommended
}

type recommended struct {
	Recommendation
	scaled bool
	past   []Recommendation
}

// New returns an Autoscaler. The error names the option that is wrong.
func New(o Options) (*Autoscaler, error) {
	wrong := check.Checks{Package: "autoscale"}
	if o.Collector == nil {
		wrong.Failf("Collector", "is required")
	}
	check.Default(&wrong, "PeerTimeout", &o.PeerTimeout, DefaultPeerTimeout, time.Millisecond, time.Minute)
	check.Default(&wrong, "Every", &o.Every, DefaultEvery, time.Millisecond, time.Hour)
	if err := wrong.Err(); err != nil {
		return nil, err
	}
	if o.Policy == nil {
		o.Policy = func(types.NamespacedName) (Policy, bool) { return Policy{}, true }
	}
	o.Logger = guardlog.Logger(o.Logger)
	if o.StoreName == "" {
		o.StoreName = "autoscale"
	}
	a := &Autoscaler{
		o: o, panics: guardlog.Teller(o.Logger, "autoscale"), gateway: newName(), kick: make(chan struct{}, 1), turn: make(chan struct{}, 1),
		histories: map[types.NamespacedName]*History{}, past: map[types.NamespacedName][]Recommendation{},
		watchers: map[types.NamespacedName]map[*watcher]bool{}, woken: map[types.NamespacedName]uint64{},
	}
	if p, ok := o.Peers.(binder); ok {
		p.bind(a)
	}
	o.Collector.onWake(a.wake)
	o.Collector.panics.Store(a.panics)
	return a, nil
}

// Run makes recommendations every Options.Every, and at once when a request comes for a pool without replicas, until
// ctx is done. It saves what is remembered each ten seconds, and at its end. The error is that another Run has not
// returned.
func (a *Autoscaler) Run(ctx context.Context) error {
	if !a.running.CompareAndSwap(false, true) {
		return errors.New("autoscale: Run is running already")
	}
	defer a.running.Store(false)
	a.panics.Loop(ctx, "Run", func() { a.run(ctx) })
	return nil
}

func (a *Autoscaler) run(ctx context.Context) {
	tick := time.NewTicker(a.o.Every)
	defer tick.Stop()
	for {
		a.Tick(ctx)
		select {
		case <-ctx.Done():
			a.saveLast(ctx)
			return
		case <-tick.C:
		case <-a.kick:
		}
	}
}

// Tick makes a recommendation for each pool now. It is what Run does, for who has a clock of their own.
func (a *Autoscaler) Tick(ctx context.Context) {
	if a.take(ctx) != nil {
		return
	}
	defer a.leave()
	_, _ = a.look(ctx) // it is told of
}

// take waits for the turn.
func (a *Autoscaler) take(ctx context.Context) error {
	select {
	case a.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *Autoscaler) leave() { <-a.turn }

// look makes a picture. If something of the user's panics that it cannot be made without, the one before stands. The
// caller has the turn.
func (a *Autoscaler) look(ctx context.Context) (p *picture, err error) {
	err = a.panics.Try("what a recommendation is made of", func() error {
		p = a.make(ctx)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("autoscale: %w", err)
	}
	a.show(p)
	a.save(ctx, p.at, false)
	return p, nil
}

func (a *Autoscaler) make(ctx context.Context) *picture {
	a.load(ctx)
	a.mu.Lock()
	a.looks++ // what comes from here on may not be in what is known
	a.mu.Unlock()
	own := a.o.Collector.All()
	answers, missing := a.ask(ctx)
	p := &picture{at: a.o.Collector.o.Now(), pools: map[types.NamespacedName]*pooled{}}
	for _, s := range ofAll(own, answers, missing) {
		if s.Model != "" {
			if of := p.pools[s.Pool]; of != nil {
				of.models = append(of.models, s)
			}
			continue
		}
		p.pools[s.Pool] = &pooled{signals: s, recommended: a.recommend(s)}
	}
	maps.DeleteFunc(a.histories, func(name types.NamespacedName, _ *History) bool { return p.pools[name] == nil })
	maps.DeleteFunc(a.past, func(name types.NamespacedName, _ []Recommendation) bool { return p.pools[name] == nil })
	return p
}

// show puts a picture in the place of the one before, in which those that had woken before it was made are awake: who
// asks sees the one or the other.
func (a *Autoscaler) show(p *picture) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.picture.Store(p)
	maps.DeleteFunc(a.woken, func(_ types.NamespacedName, look uint64) bool { return look < a.looks })
	a.tell(p)
}

// recommend makes a recommendation for a pool.
func (a *Autoscaler) recommend(s Signals) (r recommended) {
	policy, scaled, known := a.policy(s.Pool)
	if !known {
		if p := a.picture.Load(); p != nil && p.pools[s.Pool] != nil {
			r = p.pools[s.Pool].recommended
		}
		return r
	}
	if !scaled {
		delete(a.histories, s.Pool)
		return r
	}
	h := a.histories[s.Pool]
	if h == nil {
		h = new(History)
		a.histories[s.Pool] = h
	}
	r.scaled, r.Recommendation = true, Desired(s, policy, h)
	past := a.past[s.Pool]
	if n := len(past); n == 0 || past[n-1].Replicas != r.Replicas {
		past = append(slices.Clone(past[max(n-mostPast+1, 0):]), r.Recommendation)
		a.past[s.Pool] = past
	}
	r.past = past
	a.o.Collector.sleep(s.Pool, r.Replicas == 0)
	return r
}

// policy returns that of a pool, and whether it is scaled. known is false if the function panics.
func (a *Autoscaler) policy(pool types.NamespacedName) (policy Policy, scaled, known bool) {
	known = a.panics.Call("Options.Policy", func() { policy, scaled = a.o.Policy(pool) })
	return policy, scaled, known
}

// mostPast bounds the recommendations that are kept for people.
const mostPast = 20

// ask asks peers.
func (a *Autoscaler) ask(ctx context.Context) (answers []Own, missing int) {
	if a.o.Peers == nil {
		return nil, 0
	}
	ctx, stop := context.WithTimeout(ctx, a.o.PeerTimeout)
	defer stop()
	err := a.panics.Try("Options.Peers", func() (err error) {
		answers, missing, err = a.o.Peers.Ask(ctx)
		return err
	})
	if err != nil {
		a.warn("peers are not known", "error", err)
		missing = max(missing, 1)
	}
	// A name of a service may lead here, too.
	answers = slices.DeleteFunc(slices.Clone(answers), func(o Own) bool { return o.Gateway == a.gateway })
	return answers, missing
}

// warn tells the Logger, but not all the time.
func (a *Autoscaler) warn(message string, args ...any) {
	now := a.o.Collector.o.Now()
	if now.Sub(a.warned) < time.Minute && now.After(a.warned) {
		return
	}
	a.warned = now
	a.o.Logger.Warn("autoscale: "+message, args...)
}

// ofAll returns what all gateways know, of each pool and model that this one knows or, of models, any.
func ofAll(own []Signals, answers []Own, missing int) []Signals {
	type key struct {
		pool  types.NamespacedName
		model string
	}
	by, order := map[key][]Signals{}, []key{}
	add := func(s Signals, first bool) {
		k := key{s.Pool, s.Model}
		if by[k] == nil {
			if !first && by[key{pool: s.Pool}] == nil { // a pool that is not here
				return
			}
			order = append(order, k)
		}
		by[k] = append(by[k], s)
	}
	for _, s := range own {
		add(s, true)
	}
	for _, o := range answers {
		for _, s := range o.Signals {
			add(s, false)
		}
	}
	all := make([]Signals, 0, len(order))
	for _, k := range order {
		s := Merge(by[k], missing)
		s.Gateways = 1 + len(answers)
		all = append(all, s)
	}
	return all
}

// recent returns a picture that is no older than needed: than Every, and while Run makes them than a few of those.
func (a *Autoscaler) recent(ctx context.Context) (*picture, error) {
	if p := a.fresh(); p != nil {
		return p, nil
	}
	if err := a.take(ctx); err != nil {
		return nil, err
	}
	defer a.leave()
	if p := a.fresh(); p != nil { // somebody else has made one
		return p, nil
	}
	return a.look(ctx)
}

func (a *Autoscaler) fresh() *picture {
	p := a.picture.Load()
	if p == nil {
		return nil
	}
	most := a.o.Every
	if a.running.Load() {
		most = 3*a.o.Every + a.o.PeerTimeout
	}
	if age := a.o.Collector.o.Now().Sub(p.at); age < 0 || age > most {
		return nil
	}
	return p
}

// of returns what is known of a pool.
func (a *Autoscaler) of(ctx context.Context, pool types.NamespacedName) (*pooled, error) {
	if pool.Namespace == "" {
		pool.Namespace = types.DefaultNamespace
	}
	p, err := a.recent(ctx)
	if err != nil {
		return nil, err
	}
	one := p.pools[pool]
	if one == nil && !slices.Contains(a.known(), pool) {
		return nil, fmt.Errorf("%w %v", ErrUnknownPool, pool)
	}
	if one == nil { // it is new
		a.Tick(ctx)
		if p = a.picture.Load(); p != nil {
			one = p.pools[pool]
		}
		if one == nil {
			return nil, fmt.Errorf("%w %v", ErrUnknownPool, pool)
		}
	}
	return one, nil
}

// known are the pools that there are; those that there were last, if the function that yields them panics.
func (a *Autoscaler) known() (names []types.NamespacedName) {
	if a.panics.Call("CollectorOptions.Pools", func() {
		for name := range a.o.Collector.o.Pools {
			names = append(names, name)
		}
	}) {
		return names
	}
	if p := a.picture.Load(); p != nil {
		return slices.Collect(maps.Keys(p.pools))
	}
	return nil
}

// Pools returns the pools that are scaled, in order of their names.
func (a *Autoscaler) Pools() []types.NamespacedName {
	names := slices.DeleteFunc(a.known(), func(name types.NamespacedName) bool {
		_, scaled, known := a.policy(name)
		return known && !scaled
	})
	slices.SortFunc(names, types.NamespacedName.Compare)
	return names
}

// Signals returns what all gateways know of a pool, or of one model of it: of a model that nobody asked for lately,
// that nothing comes. An empty namespace is types.DefaultNamespace. Errors are ErrUnknownPool, ErrTooManyModels and
// ErrPartial, wrapped; with the latter the Signals are of those that answered. They are a little more than Every old at
// most.
func (a *Autoscaler) Signals(ctx context.Context, pool types.NamespacedName, model string) (Signals, error) {
	one, err := a.of(ctx, pool)
	if err != nil {
		return Signals{}, err
	}
	if model == "" {
		return one.signals, partial(&one.signals)
	}
	s, err := a.o.Collector.modelOf(&one.signals, one.models, model)
	if err != nil {
		return s, err
	}
	return s, partial(&s)
}

// partial returns ErrPartial if not all gateways answered.
func partial(s *Signals) error {
	if s.Missing == 0 {
		return nil
	}
	return fmt.Errorf("%w for pool %v: %d of %d", ErrPartial, s.Pool, s.Missing, s.Missing+s.Gateways)
}

// Desired returns the last recommendation for a pool. Errors are ErrUnknownPool, for one that is not scaled too, and
// ErrPartial, wrapped; with the latter the recommendation is one that holds: no less than the one before.
func (a *Autoscaler) Desired(ctx context.Context, pool types.NamespacedName) (Recommendation, error) {
	one, err := a.of(ctx, pool)
	if err != nil {
		return Recommendation{}, err
	}
	if !one.scaled {
		return Recommendation{}, fmt.Errorf("%w: %v is not scaled", ErrUnknownPool, pool)
	}
	return one.Recommendation, partial(&one.signals)
}

// Active reports whether a pool should have replicas: whether more than none is recommended. It is true as soon as a
// first request has come for a pool for which none was, before the next recommendation. Errors are those of Desired,
// but a pool may be active although not all gateways answered.
func (a *Autoscaler) Active(ctx context.Context, pool types.NamespacedName) (bool, error) {
	woken := a.isWoken(pool) // before it is in the recommendation instead
	r, err := a.Desired(ctx, pool)
	if err != nil && !errors.Is(err, ErrPartial) {
		return false, err
	}
	if r.Replicas > 0 || woken {
		return true, nil
	}
	return false, err
}

func (a *Autoscaler) isWoken(pool types.NamespacedName) bool {
	if pool.Namespace == "" {
		pool.Namespace = types.DefaultNamespace
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	_, woken := a.woken[pool]
	return woken
}

// Recommended yields the last recommendation for each pool that is scaled, with the signals that it was made of, and
// those of its models, in order of names. It makes none, and yields nothing before the first one: it is for metrics.
func (a *Autoscaler) Recommended(yield func(Recommendation, Signals, []Signals) bool) {
	p := a.picture.Load()
	if p == nil {
		return
	}
	for _, name := range slices.SortedFunc(maps.Keys(p.pools), types.NamespacedName.Compare) {
		if one := p.pools[name]; one.scaled && !yield(one.Recommendation, one.signals, one.models) {
			return
		}
	}
}
