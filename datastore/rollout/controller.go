package rollout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/internal/guardlog"
	"github.com/inferpick/inferpick/types"
)

// Defaults and bounds of Options.
const (
	DefaultInterval    = time.Second
	LeastInterval      = 10 * time.Millisecond
	MostInterval       = time.Minute
	DefaultMaxRollouts = 100
	LimitMaxRollouts   = 10_000
	DefaultMaxEvents   = 100
	LimitMaxEvents     = 10_000
)

// Options configure a Controller. Store is required.
type Options struct {
	// Store has the manifests and the servers.
	Store *datastore.Store
	// Loader gets canaries onto servers. Default: Served, which loads nothing.
	Loader Loader
	// Home is where weights and states are kept. Default: a StoreHome.
	Home Home
	// StateFile is the path of the file of that StoreHome, for who has no Store yet to make one of, such as with a
	// gateway: see StoreHomeOptions. Empty: it has none. It cannot be set beside Home.
	StateFile string
	// Leader reports whether this gateway is the one that judges, loads and writes. It is called often and
	// must be quick. Default: of the gateways that are heard (HearNote) the one of the least name, and with
	// none of them this one.
	Leader func() bool
	// Peers says that there may be other gateways, of which HearNote tells: this one then listens for 3 seconds
	// before it leads.
	Peers bool
	// Name is that of this gateway among its peers, at most 256 bytes. Two of one name are told apart by chance.
	Name string
	// Saturation returns that of a pool, 0 to 1 and more; 0 or NaN: not known. Optional.
	Saturation func(pool types.NamespacedName) float64
	// Now is the clock. Default time.Now, which also takes its place where it panics.
	Now func() time.Time
	// Logger is told of events, plans that are refused, and what fails. Nil: silence.
	Logger *slog.Logger
	// OnEvent, if not nil, is called for each Event of the gateway that judges, one at a time for each
	// rollout. It must be quick.
	OnEvent func(Event)
	// Interval is how often a rollout looks at the world. What is urgent does not wait for it. Default 1 s;
	// 10 ms to a minute.
	Interval time.Duration
	// MaxRollouts bounds the rollouts that there are, those that have ended included. Default 100; at most
	// 10,000.
	MaxRollouts int
	// MaxEvents bounds the events that are kept of a rollout, for Status. Default 100; at most 10,000.
	MaxEvents int
}

func (o Options) withDefaults() (Options, error) {
	if o.Store == nil {
		return o, errors.New("rollout: Options.Store is nil: a Controller needs a datastore.Store")
	}
	o.Interval = cmp.Or(o.Interval, DefaultInterval)
	o.MaxRollouts = cmp.Or(o.MaxRollouts, DefaultMaxRollouts)
	o.MaxEvents = cmp.Or(o.MaxEvents, DefaultMaxEvents)
	switch {
	case o.Interval < LeastInterval || o.Interval > MostInterval:
		return o, fmt.Errorf("rollout: Options.Interval is %v, want %v to %v, or 0 for the default of %v", o.Interval, LeastInterval, MostInterval, DefaultInterval)
	case o.MaxRollouts < 1 || o.MaxRollouts > LimitMaxRollouts:
		return o, fmt.Errorf("rollout: Options.MaxRollouts is %d, want 1 to %d, or 0 for the default of %d", o.MaxRollouts, LimitMaxRollouts, DefaultMaxRollouts)
	case o.MaxEvents < 1 || o.MaxEvents > LimitMaxEvents:
		return o, fmt.Errorf("rollout: Options.MaxEvents is %d, want 1 to %d, or 0 for the default of %d", o.MaxEvents, LimitMaxEvents, DefaultMaxEvents)
	case len(o.Name) > maxGateway:
		return o, fmt.Errorf("rollout: Options.Name has %d bytes, want at most %d", len(o.Name), maxGateway)
	case o.Home != nil && o.StateFile != "":
		return o, fmt.Errorf("rollout: Options.StateFile is %q, want none beside Options.Home", o.StateFile)
	}
	if o.Now == nil {
		o.Now = time.Now
	} else {
		o.Now = guard.Clock("Options.Now", o.Now, guardlog.Teller(o.Logger, "rollout").Tell)
	}
	o.Logger = guardlog.Logger(o.Logger)
	if o.Loader == nil {
		o.Loader = Served{}
	}
	if o.Home == nil {
		home, err := NewStoreHome(o.Store, StoreHomeOptions{Path: o.StateFile, Logger: o.Logger})
		if err != nil {
			return o, err
		}
		o.Home = home
	}
	return o, nil
}

// Errors to test for with errors.Is.
var (
	// ErrNotFound: there is no such rollout.
	ErrNotFound = errors.New("no such rollout")
	// ErrFollows: another gateway leads, and must be asked.
	ErrFollows = errors.New("another gateway leads")
	// ErrNotBegun: nothing is known of its home yet, or Run does not run.
	ErrNotBegun = errors.New("the rollout has not begun yet")
	// ErrInManifest: the plan is in an annotation, and is to be changed there.
	ErrInManifest = errors.New("the plan is in the manifest's annotation " + Annotation)
	// ErrTooMany: there are Options.MaxRollouts.
	ErrTooMany = errors.New("too many rollouts")
	// ErrRunning is the error of Run beside another Run.
	ErrRunning = errors.New("rollout: the Controller runs already")
)

// Controller runs rollouts: it tells Machines what the world is like, and does what they say. Plans come
// from the annotation Annotation of an InferenceModel or InferenceModelRewrite in the store, or from Start.
//
// An annotation that changes is another plan, which begins anew. One that is taken away ends the rollout
// where it is: the weights stay, and nobody judges any more. One that is wrong is refused, as Status says,
// and a rollout that runs goes on as it was planned.
//
// Create one with New, Run it, and have its Scheduled, Retried and Finished called from the hooks of a
// scheduler, of which Gate is a filter; package scheduling/gateway does. Methods may be called from any
// goroutine.
type Controller struct {
	o      Options
	panics *guard.Teller
	key    *types.Key[*inFlight] // where a request keeps that it was counted
	peers  *group
	local  bool // each gateway has a Home of its own
	note   lastNote

	traffic atomic.Pointer[traffic]
	running atomic.Bool
	wake    chan struct{} // there are other manifests, or rollouts

	mu sync.Mutex
	// guarded by mu
	rollouts map[Object]*rollout
	asked    map[Object]Plan    // by Start
	refused  map[Object]refusal // plans of annotations
	inFlight map[string]*inFlight
	ending   map[Object]<-chan struct{} // those that were taken away, until they have ended
	ctx      context.Context            // of Run; nil: it does not run

	closing sync.WaitGroup // of those that end
}

// refusal is a plan of a manifest that is not good.
type refusal struct {
	text string // the annotation
	why  string
}

// New returns a Controller that does nothing before Run. The error says which option is wrong.
func New(o Options) (*Controller, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Controller{
		o: o, panics: guardlog.Teller(o.Logger, "rollout"), key: types.NewKey[*inFlight]("rollout"), wake: make(chan struct{}, 1),
		rollouts: map[Object]*rollout{}, asked: map[Object]Plan{}, refused: map[Object]refusal{}, inFlight: map[string]*inFlight{},
		ending: map[Object]<-chan struct{}{},
	}
	if home, ok := o.Home.(interface{ Local() bool }); ok {
		c.panics.Call("Home.Local", func() { c.local = home.Local() })
	}
	c.peers = newGroup(o)
	if keeper, ok := o.Home.(planKeeper); ok {
		var plans []Plan
		c.panics.Call("Home.Plans", func() { plans = keeper.Plans() })
		for _, p := range plans {
			if p, err := p.WithDefaults(); err == nil {
				c.asked[p.Object] = p
			}
		}
	}
	return c, nil
}

// planKeeper is a Home that keeps plans which were given to Start over a restart.
type planKeeper interface {
	Plans() []Plan
	KeepPlan(Plan)
}

// forgetter is a Home that is told of rollouts which have been taken away.
type forgetter interface{ Forget(Object) }

// Run runs rollouts until ctx is done, and returns when all that it has started has ended, but for calls of a
// Loader or a Home which do not return although their time is over. It returns nil or ErrRunning. It may be
// called again.
func (c *Controller) Run(ctx context.Context) error {
	if !c.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer c.running.Store(false)
	defer c.o.Store.WatchManifests(c.look)()
	defer c.o.Store.Watch(c.event)()
	c.mu.Lock()
	c.ctx = ctx
	for _, r := range c.rollouts {
		r.start(ctx)
	}
	c.mu.Unlock()
	c.panics.Loop(ctx, "Run", func() { c.watch(ctx) })
	c.mu.Lock()
	c.ctx = nil
	all := make([]*rollout, 0, len(c.rollouts))
	for _, r := range c.rollouts {
		all = append(all, r)
	}
	c.mu.Unlock()
	for _, r := range all {
		r.stop()
	}
	c.closing.Wait()
	return nil
}

// watch looks at manifests until ctx is done.
func (c *Controller) watch(ctx context.Context) {
	for ctx.Err() == nil {
		c.scan()
		select {
		case <-c.wake:
		case <-ctx.Done():
		}
	}
}

// look has Run look at the manifests.
func (c *Controller) look() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// event hears of servers.
func (c *Controller) event(ev datastore.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.rollouts {
		if r.pool != ev.Pool {
			continue
		}
		if ev.Kind == datastore.Restarted {
			r.servers.restarted(ev.Endpoint.Load)
		}
		r.kick()
	}
}

// scan makes the rollouts those that manifests and Start say. What it takes away ends in the background.
func (c *Controller) scan() {
	before, now := c.scanned(c.o.Store.Snapshot().Manifests())
	for o, why := range now {
		if before[o] != why {
			c.o.Logger.Error("rollout: a plan is refused", "object", o.String(), "error", why.why)
		}
	}
}

// scanned is scan without telling of the plans that are refused: it returns those that were before, and that are.
func (c *Controller) scanned(manifests []types.Object) (before, now map[Object]refusal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before = c.refused
	c.refused = map[Object]refusal{}
	c.make(c.wanted(manifests))
	return before, c.refused
}

// want is a rollout that there is to be.
type want struct {
	plan   Plan
	of     types.Object // nil: it has gone
	source string
}

// Where plans come from.
const (
	fromManifest = "manifest"
	fromStart    = "api"
)

// wanted returns the rollouts that there are to be, and notes plans that are refused. Caller must hold c.mu.
func (c *Controller) wanted(manifests []types.Object) map[Object]want {
	wanted := map[Object]want{}
	for _, m := range manifests {
		text := m.Meta().Annotations[Annotation]
		if text == "" {
			continue
		}
		p, err := c.planOf(m, text)
		if err == nil && len(wanted) >= c.o.MaxRollouts {
			err = fmt.Errorf("rollout: %w: Options.MaxRollouts is %d", ErrTooMany, c.o.MaxRollouts)
		}
		if err == nil {
			wanted[p.Object] = want{p, m, fromManifest}
			continue
		}
		o := objectOf(m, 0)
		c.refused[o] = refusal{text, err.Error()}
		for had, r := range c.rollouts { // it goes on as it was planned
			if had.Kind == o.Kind && had.Name == o.Name && r.source == fromManifest {
				wanted[had] = want{r.plan, m, fromManifest}
			}
		}
	}
	for o, p := range c.asked {
		if _, ok := wanted[o]; ok {
			continue // the manifest rules
		}
		of := func(m types.Object) bool { return m.Kind() == o.Kind && m.Key() == o.Name }
		if i := slices.IndexFunc(manifests, of); i >= 0 {
			wanted[o] = want{p, manifests[i], fromStart}
		} else if c.rollouts[o] != nil {
			wanted[o] = want{p, nil, fromStart} // it holds: its home cannot be read
		}
	}
	return wanted
}

// make makes the rollouts those that are wanted. Caller must hold c.mu.
func (c *Controller) make(wanted map[Object]want) {
	for o, r := range c.rollouts {
		w, ok := wanted[o]
		if ok && r.is(w) {
			if w.of != r.of {
				r.of = w.of
				r.kick() // somebody may have changed the weights
			}
			continue
		}
		delete(c.rollouts, o)
		c.end(r, !ok)
	}
	for o, w := range wanted {
		if c.rollouts[o] != nil || w.of == nil {
			continue
		}
		r, err := c.newRollout(w)
		if err != nil {
			c.refused[o] = refusal{w.of.Meta().Annotations[Annotation], err.Error()}
			continue
		}
		c.rollouts[o] = r
		if c.ctx != nil {
			r.start(c.ctx)
		}
	}
	c.retargetLocked()
}

// end ends a rollout in the background, for it may wait for its loads. The next one of its object begins after that.
// forget says that there is to be none. Caller must hold c.mu.
func (c *Controller) end(r *rollout, forget bool) {
	done := make(chan struct{})
	before := c.ending[r.object]
	c.ending[r.object] = done
	c.closing.Go(func() {
		defer close(done)
		if before != nil {
			<-before
		}
		r.stop()
		if forget {
			c.panics.Call("the end of a rollout", r.forget)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.ending[r.object] == done {
			delete(c.ending, r.object)
		}
	})
}

// Start begins a rollout whose plan is in no manifest, or goes on with it if the same plan has begun already. Another
// plan for the same object begins anew. The error says what is wrong with the plan, or wraps ErrInManifest,
// ErrTooMany, or datastore.ErrNoObject if there is no such manifest.
func (c *Controller) Start(p Plan) error {
	p.Object.Name = withNamespace(p.Object.Name)
	p, err := p.WithDefaults()
	if err != nil {
		return err
	}
	o := p.Object
	m := c.o.Store.Object(o.Kind, o.Name)
	if m == nil {
		return fmt.Errorf("rollout: %w: %s", datastore.ErrNoObject, o)
	}
	if _, err := WeightsOf(m, o.Rule); err != nil {
		return err
	}
	if m.Meta().Annotations[Annotation] != "" {
		return fmt.Errorf("rollout: %s: %w", o, ErrInManifest)
	}
	c.mu.Lock()
	_, had := c.rollouts[o]
	if !had && len(c.rollouts) >= c.o.MaxRollouts {
		c.mu.Unlock()
		return fmt.Errorf("rollout: %w: there are %d, as many as Options.MaxRollouts", ErrTooMany, c.o.MaxRollouts)
	}
	c.asked[o] = p
	c.mu.Unlock()
	if keeper, ok := c.o.Home.(planKeeper); ok {
		c.panics.Call("Home.KeepPlan", func() { keeper.KeepPlan(p) })
	}
	c.scan()
	return nil
}

// Delete ends a rollout that Start has begun, where it is: weights stay, what is loaded stays, and all that was kept of
// it is forgotten. To give the stable target everything, Abort it before.
func (c *Controller) Delete(o Object) error {
	o.Name = withNamespace(o.Name)
	c.mu.Lock()
	_, asked := c.asked[o]
	r := c.rollouts[o]
	switch {
	case r != nil && r.source == fromManifest:
		c.mu.Unlock()
		return fmt.Errorf("rollout: %s: %w: take it away there", o, ErrInManifest)
	case !asked:
		c.mu.Unlock()
		return fmt.Errorf("rollout: %w: %s", ErrNotFound, o)
	}
	delete(c.asked, o)
	c.mu.Unlock()
	c.scan()
	return nil
}

// Pause stops a rollout where it is until Resume; only an abort goes on. why is for people. Errors of this and the
// following wrap ErrNotFound, ErrFollows or ErrNotBegun, or say why it cannot be done.
func (c *Controller) Pause(o Object, why string) error {
	return c.command(o, func(m *Machine, now time.Time) error { return m.Pause(now, why) })
}

// Resume goes on with a rollout that is paused.
func (c *Controller) Resume(o Object, why string) error {
	return c.command(o, func(m *Machine, now time.Time) error { return m.Resume(now, why) })
}

// Promote goes to the next step without waiting for a verdict, or, with full, to the last one.
func (c *Controller) Promote(o Object, full bool, why string) error {
	return c.command(o, func(m *Machine, now time.Time) error { return m.Promote(now, full, why) })
}

// Abort gives the stable target everything.
func (c *Controller) Abort(o Object, why string) error {
	return c.command(o, func(m *Machine, now time.Time) error { return m.Abort(now, why) })
}

// Retry begins a rollout that has failed anew.
func (c *Controller) Retry(o Object, why string) error {
	return c.command(o, func(m *Machine, now time.Time) error { return m.Retry(now, why) })
}

func (c *Controller) command(o Object, f func(*Machine, time.Time) error) error {
	o.Name = withNamespace(o.Name)
	c.mu.Lock()
	r := c.rollouts[o]
	c.mu.Unlock()
	if r == nil {
		return fmt.Errorf("rollout: %w: %s", ErrNotFound, o)
	}
	return r.command(f)
}

// planOf reads the plan of a manifest. Caller must hold c.mu.
func (c *Controller) planOf(m types.Object, text string) (Plan, error) {
	p, err := DecodePlan([]byte(text), objectOf(m, 0))
	if err != nil {
		return p, err
	}
	if w, ok := m.(*types.InferenceModelRewrite); ok {
		p.Object.Rule = c.ruleFor(w, &p)
	}
	_, err = WeightsOf(m, p.Object.Rule)
	return p, err
}

// ruleFor returns the rule of a rewrite that a plan in its annotation is for: the one it was for before, else the first
// one with both targets, else with the stable one, else with the canary, which has all when the rollout is done.
// Caller must hold c.mu.
func (c *Controller) ruleFor(w *types.InferenceModelRewrite, p *Plan) int {
	has := func(name string) func(types.RewriteRule) bool {
		return func(r types.RewriteRule) bool {
			return slices.ContainsFunc(r.Targets, func(t types.RewriteTarget) bool { return t.ModelRewrite == name })
		}
	}
	stable, canary := has(p.Stable), has(p.Canary)
	may := func(i int) bool {
		return i < len(w.Spec.Rules) && (stable(w.Spec.Rules[i]) || canary(w.Spec.Rules[i]))
	}
	for o, r := range c.rollouts {
		if o.Kind == w.Kind() && o.Name == w.Key() && r.source == fromManifest && may(o.Rule) {
			return o.Rule
		}
	}
	if home, ok := c.o.Home.(interface {
		Rules(string, types.NamespacedName) []int
	}); ok {
		var rules []int
		c.panics.Call("Home.Rules", func() { rules = home.Rules(w.Kind(), w.Key()) })
		if len(rules) > 0 && may(rules[0]) {
			return rules[0]
		}
	}
	both := func(r types.RewriteRule) bool { return stable(r) && canary(r) }
	for _, fits := range [...]func(types.RewriteRule) bool{both, stable, canary} {
		if i := slices.IndexFunc(w.Spec.Rules, fits); i >= 0 {
			return i
		}
	}
	return 0
}

func objectOf(m types.Object, rule int) Object {
	return Object{Kind: m.Kind(), Name: m.Key(), Rule: rule}
}

// withNamespace fills in the default namespace.
func withNamespace(n types.NamespacedName) types.NamespacedName {
	n.Namespace = cmp.Or(n.Namespace, types.DefaultNamespace)
	return n
}
