package datastore

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/internal/guardlog"
	"github.com/inferpick/inferpick/internal/slots"
	"github.com/inferpick/inferpick/types"
)

// Options configure a Store. The zero value suits a gateway whose model servers refuse models
// they do not know.
type Options struct {
	// Now is the clock. Default time.Now, which also takes its place where it panics.
	Now func() time.Time

	// Logger receives warnings about manifests that are not in force, and role labels that name no role, and
	// hears of functions of the user's that panic, such as watchers. Nil: no logging.
	Logger *slog.Logger

	// UnknownModels says what happens to requests for models that no manifest names. Default
	// PassThrough.
	UnknownModels UnknownModels

	// DefaultPool gets requests that name neither a pool nor a model in a manifest. Default:
	// the only pool, if there is exactly one.
	DefaultPool types.NamespacedName

	// StickySessions keeps weighted targets constant per session: all requests with the same
	// Query.SessionID get the same target, in every gateway, and a change of weights moves as
	// few sessions as possible. Default: each request is drawn independently.
	StickySessions bool

	// RoleLabel is the endpoint label that names the stages of a request an endpoint may serve, in the
	// words of types.ParseRoles. Default types.RoleLabel, that of llm-d.
	RoleLabel string

	// DeclaredPoolsOnly refuses endpoints for pools without a manifest. Default: a pool is
	// created with its first endpoints.
	DeclaredPoolsOnly bool

	// Coalesce is how long readings may wait to be published, per endpoint in the store. It
	// bounds the work to a few hundredths of a core. Default 1µs, that is 10 ms with 10,000
	// endpoints. Stores of up to 128 endpoints never wait. Negative: no store waits, as suits
	// a simulation.
	Coalesce time.Duration

	// MaxEndpoints bounds the endpoints of all pools together. Default 100,000. Negative: no
	// bound.
	MaxEndpoints int

	// MaxObjects bounds the number of manifests. Default 100,000. Negative: no bound.
	MaxObjects int
}

// UnknownModels says what happens to requests for models that no manifest names.
type UnknownModels uint8

const (
	// PassThrough forwards the request unchanged, with priority 0.
	PassThrough UnknownModels = iota
	// Refuse returns ErrUnknownModel.
	Refuse
)

// Errors to test for with errors.Is. Returned errors wrap one of them and add details.
var (
	// ErrUnknownModel: no manifest names the model, and such models are refused or it is not
	// clear which pool they belong to. HTTP 404.
	ErrUnknownModel = errors.New("unknown model")
	// ErrNoPool: the pool does not exist. HTTP 503.
	ErrNoPool = errors.New("no such pool")
	// ErrNoTarget: a manifest maps the model to no target. HTTP 400.
	ErrNoTarget = errors.New("no target model")
	// ErrLimit: a limit of Options, DNSOptions or FileOptions is exceeded.
	ErrLimit = errors.New("limit reached")
)

// withoutWait is the number of endpoints up to which readings are published at once: it
// takes a microsecond.
const withoutWait = 128

// Store holds pools, models and endpoints. It is safe for concurrent use. Create one with New.
type Store struct {
	opt    Options
	panics *guard.Teller
	start  time.Time // what since measures from

	snap  atomic.Pointer[Snapshot]
	cells sync.Map // *types.Load to *cell

	misread misread // role labels that were told of

	// For publishing readings.
	dirty  atomic.Bool  // a pool has unpublished readings
	window atomic.Int64 // minimum time between two publications, ns
	next   atomic.Int64 // no publication before this, ns after start

	readers atomic.Pointer[[]*readingWatcher] // never changed in place

	// mu serializes writers of everything but readings.
	mu       sync.Mutex
	objects  map[objectName]types.Object
	pools    map[types.NamespacedName]*poolState
	births   uint64 // pools created so far
	slots    slots.Set
	watchers watchers[Event]
	onPools  watchers[PoolEvent]
	// told of each change of manifests
	onManifests watchers[struct{}]
}

// objectName identifies a manifest.
type objectName struct {
	kind string
	name types.NamespacedName
}

func nameOf(o types.Object) objectName { return objectName{o.Kind(), o.Key()} }

// poolState is a pool as writers see it. Guarded by Store.mu, except dirty and renamed.
type poolState struct {
	name     types.NamespacedName
	manifest *types.InferencePool // nil: created with its endpoints
	born     uint64               // distinguishes it from earlier pools of the same name

	cells     []*cell // in the order of the specs
	byID      map[string]*cell
	changed   bool              // cells changed since published was made
	published []*types.Endpoint // as in the latest snapshot

	names *names // model names of published and of manifests

	dirty   atomic.Bool // a cell has a reading that is not in published
	renamed atomic.Bool // a cell has other models than in published
}

// New returns an empty store.
func New(o Options) *Store {
	o.Logger = guardlog.Logger(o.Logger)
	panics := guardlog.Teller(o.Logger, "datastore")
	if o.Now == nil {
		o.Now = time.Now
	} else {
		o.Now = panics.Clock("Options.Now", o.Now)
	}
	if o.Coalesce == 0 {
		o.Coalesce = time.Microsecond
	}
	o.DefaultPool = withNamespace(o.DefaultPool)
	s := &Store{
		opt:     o,
		panics:  panics,
		start:   o.Now(),
		objects: make(map[objectName]types.Object),
		pools:   make(map[types.NamespacedName]*poolState),
	}
	s.snap.Store(&Snapshot{config: &config{defaultPool: -1}})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.publishLocked()
	return s
}

// Change is a set of changes that is committed atomically.
type Change struct {
	// Objects are manifests to add, replacing those of the same kind and name.
	Objects []types.Object
	// OnlyObjects makes Objects the complete set: other manifests are deleted, and with a pool
	// its endpoints. Pools that never had a manifest stay.
	OnlyObjects bool
	// Endpoints maps pools to the complete lists of their endpoints.
	Endpoints map[types.NamespacedName][]EndpointSpec
}

// Commit makes a change, or nothing if it returns an error. The store keeps validated copies of
// the objects, with defaults filled in. An endpoint that has the same ID and Address as before
// keeps its ledger, slot and reading.
//
// Immutable fields of a replaced object must not change, unless OnlyObjects is set or the
// creation time differs, which means that the object was deleted and created anew.
func (s *Store) Commit(c Change) error {
	_, err := s.commit(c)
	return err
}

// given is the list of endpoints that a source set for a pool.
type given struct {
	specs []EndpointSpec // valid, and not to be modified
	born  uint64         // of the pool that got them
}

// commit is Commit, and returns what was set for the pools in c.Endpoints.
func (s *Store) commit(c Change) (map[types.NamespacedName]given, error) {
	objects, err := prepareObjects(c.Objects)
	if err != nil {
		return nil, err
	}
	endpoints := make(map[types.NamespacedName][]EndpointSpec, len(c.Endpoints))
	for pool, specs := range c.Endpoints {
		prepared, err := s.prepare(pool, specs)
		if err != nil {
			return nil, err
		}
		endpoints[withNamespace(pool)] = prepared
	}

	s.mu.Lock()
	defer s.deliver()
	defer s.mu.Unlock()
	kept := make(map[objectName]bool, len(objects))
	for _, o := range objects {
		kept[nameOf(o)] = true
	}
	if err := s.allowedLocked(objects, kept, c.OnlyObjects, endpoints); err != nil {
		return nil, err
	}

	// From here on nothing fails.
	if c.OnlyObjects {
		for name := range s.objects {
			if !kept[name] {
				s.deleteLocked(name)
			}
		}
	}
	for _, o := range objects {
		s.objects[nameOf(o)] = o
		if pool, ok := o.(*types.InferencePool); ok {
			s.declareLocked(pool)
		}
	}
	out := make(map[types.NamespacedName]given, len(endpoints))
	for pool, specs := range endpoints {
		p := s.poolLocked(pool)
		s.setLocked(p, specs)
		out[pool] = given{specs, p.born}
	}
	if len(objects) > 0 || c.OnlyObjects {
		s.publishManifestsLocked()
	} else {
		s.publishLocked()
	}
	return out, nil
}

// refill sets the endpoints of pools in had again that were deleted and created anew since. It
// updates had and returns the number of such pools. It does not create pools.
func (s *Store) refill(had map[types.NamespacedName]given) (int, error) {
	s.mu.Lock()
	defer s.deliver()
	defer s.mu.Unlock()
	lost := make(map[types.NamespacedName][]EndpointSpec)
	for name, g := range had {
		if p := s.pools[name]; p != nil && p.born != g.born {
			lost[name] = g.specs
		}
	}
	if len(lost) == 0 {
		return 0, nil
	}
	if err := s.allowedLocked(nil, nil, false, lost); err != nil {
		return 0, err
	}
	for name, specs := range lost {
		p := s.pools[name]
		s.setLocked(p, specs)
		had[name] = given{specs, p.born}
	}
	s.publishReadingsLocked()
	return len(lost), nil
}

// Apply adds manifests, replacing those of the same kind and name. If it returns an error,
// nothing has changed. See Commit.
func (s *Store) Apply(objs ...types.Object) error {
	return s.Commit(Change{Objects: objs})
}

// Replace makes objs the complete set of manifests. Pools that stay keep their endpoints. If it
// returns an error, nothing has changed. See Commit.
func (s *Store) Replace(objs []types.Object) error {
	return s.Commit(Change{Objects: objs, OnlyObjects: true})
}

// Delete removes a manifest, and with a pool its endpoints, and reports whether it existed.
// Pools without a manifest are deleted in the same way. A pool that is created again starts
// empty; its source must set the endpoints again, see WatchPools.
func (s *Store) Delete(kind string, name types.NamespacedName) bool {
	s.mu.Lock()
	defer s.deliver()
	defer s.mu.Unlock()
	if !s.deleteLocked(objectName{kind, withNamespace(name)}) {
		return false
	}
	s.publishManifestsLocked()
	return true
}

// Object returns a copy of a manifest in the store, or nil if it has none of that name.
func (s *Store) Object(kind string, name types.NamespacedName) types.Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[objectName{kind, withNamespace(name)}]
	if !ok {
		return nil
	}
	return clone(o)
}

// Snapshot returns the current content of the store. It never blocks.
func (s *Store) Snapshot() *Snapshot {
	if s.dirty.Load() {
		s.refresh()
	}
	return s.snap.Load()
}

// refresh publishes readings if it is time to. If a writer holds the lock, that one publishes
// them.
func (s *Store) refresh() {
	var now int64
	window := s.window.Load()
	if window > 0 {
		if now = s.since(); now < s.next.Load() {
			return
		}
	}
	if !s.mu.TryLock() {
		return
	}
	defer s.mu.Unlock()
	s.publishReadingsLocked()
	s.next.Store(now + window)
}

// since returns the time since the store was created. It is monotonic if the clock is, so that
// setting the wall clock back does not stop publication.
func (s *Store) since() int64 { return int64(s.opt.Now().Sub(s.start)) }

// allowedLocked checks a change against the content of the store and its limits. kept are the
// names of objects. Caller must hold s.mu.
func (s *Store) allowedLocked(objects []types.Object, kept map[objectName]bool, only bool, endpoints map[types.NamespacedName][]EndpointSpec) error {
	var errs []error
	for _, o := range objects {
		old, ok := s.objects[nameOf(o)]
		if ok && !only && old.Meta().CreationTimestamp.Equal(o.Meta().CreationTimestamp) {
			if err := o.ValidateUpdate(old); err != nil {
				errs = append(errs, fmt.Errorf("datastore: %w", err))
			}
		}
	}
	total := len(kept)
	if !only {
		for name := range s.objects {
			if !kept[name] {
				total++
			}
		}
	}
	if most := bound(s.opt.MaxObjects, 100_000); total > most {
		errs = append(errs, fmt.Errorf("datastore: %w: %d manifests, Options.MaxObjects is %d", ErrLimit, total, most))
	}

	count := 0
	for name, p := range s.pools {
		_, set := endpoints[name]
		deleted := only && p.manifest != nil && !kept[objectName{kindPool, name}]
		if !set && !deleted {
			count += len(p.cells)
		}
	}
	for name, specs := range endpoints {
		count += len(specs)
		_, exists := s.objects[objectName{kindPool, name}]
		if s.opt.DeclaredPoolsOnly && !kept[objectName{kindPool, name}] && (!exists || only) {
			errs = append(errs, fmt.Errorf("datastore: %w: endpoints for %s, which has no manifest (Options.DeclaredPoolsOnly)", ErrNoPool, name))
		}
	}
	if err := s.roomLocked(count); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (s *Store) roomLocked(endpoints int) error {
	if most := bound(s.opt.MaxEndpoints, 100_000); endpoints > most {
		return fmt.Errorf("datastore: %w: %d endpoints, Options.MaxEndpoints is %d", ErrLimit, endpoints, most)
	}
	return nil
}

// poolLocked returns the pool, which it creates if needed. Caller must hold s.mu.
func (s *Store) poolLocked(name types.NamespacedName) *poolState {
	p, ok := s.pools[name]
	if !ok {
		s.births++
		p = &poolState{name: name, born: s.births, byID: make(map[string]*cell)}
		s.pools[name] = p
		s.onPools.queueLocked(PoolEvent{Added, name})
	}
	return p
}

// declareLocked gives a pool its manifest. Caller must hold s.mu.
func (s *Store) declareLocked(manifest *types.InferencePool) {
	name := manifest.Key()
	_, there := s.pools[name]
	p := s.poolLocked(name)
	if there && !reflect.DeepEqual(p.manifest, manifest) {
		s.onPools.queueLocked(PoolEvent{Changed, name})
	}
	p.manifest = manifest
}

// deleteLocked removes a manifest, and with a pool its endpoints. Caller must hold s.mu.
func (s *Store) deleteLocked(name objectName) bool {
	_, found := s.objects[name]
	delete(s.objects, name)
	if p, ok := s.pools[name.name]; ok && name.kind == kindPool {
		found = true
		s.setLocked(p, nil)
		delete(s.pools, name.name)
		s.onPools.queueLocked(PoolEvent{Removed, name.name})
	}
	return found
}

// prepareObjects returns validated copies of objs with defaults filled in.
func prepareObjects(objs []types.Object) ([]types.Object, error) {
	out := make([]types.Object, len(objs))
	seen := make(map[objectName]bool, len(objs))
	var errs []error
	for i, o := range objs {
		if o == nil {
			return nil, fmt.Errorf("datastore: object %d is nil", i)
		}
		if out[i] = clone(o); out[i] == nil {
			return nil, fmt.Errorf("datastore: object %d is a %T, which is none that the store knows", i, o)
		}
		out[i].SetDefaults()
		if name := nameOf(out[i]); seen[name] {
			errs = append(errs, fmt.Errorf("datastore: %s %s is there twice in one change", name.kind, name.name))
		} else {
			seen[name] = true
		}
		if err := out[i].Validate(); err != nil {
			errs = append(errs, fmt.Errorf("datastore: %w", err))
		}
	}
	return out, errors.Join(errs...)
}

// clone returns a copy, nil of a kind that is not known.
func clone(o types.Object) types.Object {
	switch o := o.(type) {
	case *types.InferencePool:
		return o.Clone()
	case *types.InferenceModel:
		return o.Clone()
	case *types.InferenceObjective:
		return o.Clone()
	case *types.InferenceModelRewrite:
		return o.Clone()
	}
	return nil
}

const kindPool = "InferencePool"

// withNamespace fills in the default namespace.
func withNamespace(n types.NamespacedName) types.NamespacedName {
	if n.Name != "" && n.Namespace == "" {
		n.Namespace = types.DefaultNamespace
	}
	return n
}

// bound returns a limit of Options: 0 means def, negative none.
func bound(option, def int) int {
	switch {
	case option == 0:
		return def
	case option < 0:
		return math.MaxInt
	}
	return option
}
