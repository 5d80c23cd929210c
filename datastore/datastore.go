package datastore

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/internal/slots"
	"github.com/inferpick/inferpick/types"
)

// Options of a Store. The zero value is good for a gateway that trusts its
// model servers to refuse what they do not know.
type Options struct {
	// Now is the clock. Default: time.Now.
	Now func() time.Time

	// Logger hears of manifests that are not in force. Nil: silence.
	Logger *slog.Logger

	// UnknownModels says what happens to a model that no manifest names.
	// Default: PassThrough.
	UnknownModels UnknownModels

	// DefaultPool gets the requests that name neither a pool nor a model that a
	// manifest knows. Default: the only pool, if there is exactly one.
	DefaultPool types.NamespacedName

	// StickySessions makes weighted targets keep to sessions: all requests of
	// one Query.SessionID get the same target, in every gateway, and a change of
	// weights moves no more sessions than it must. Default: each request is
	// drawn for itself.
	StickySessions bool

	// DeclaredPoolsOnly refuses endpoints for a pool without a manifest. Default:
	// such a pool comes into being with its first endpoints.
	DeclaredPoolsOnly bool

	// Coalesce is how long readings may wait to be published, for each endpoint
	// in the store: it bounds the work at a few hundredths of a core. Default:
	// 1µs, that is 10 ms with 10,000 endpoints. Stores of up to 128 endpoints
	// never wait. Negative: no store waits, which a simulation wants.
	Coalesce time.Duration

	// MaxEndpoints bounds the endpoints of all pools. Default: 100,000.
	// Negative: no bound.
	MaxEndpoints int

	// MaxObjects bounds the manifests. Default: 100,000. Negative: no bound.
	MaxObjects int
}

// UnknownModels says what happens to a model that no manifest names.
type UnknownModels uint8

const (
	// PassThrough sends the request on as it is, with priority 0.
	PassThrough UnknownModels = iota
	// Refuse gives ErrUnknownModel.
	Refuse
)

// Errors that a caller may branch on. What is returned wraps one of them and
// says more.
var (
	// ErrUnknownModel: no manifest names the model, and such models are refused,
	// or it is not clear to which pool to send them. For HTTP: 404.
	ErrUnknownModel = errors.New("unknown model")
	// ErrNoPool: the pool does not exist. For HTTP: 503.
	ErrNoPool = errors.New("no such pool")
	// ErrNoTarget: a manifest maps the model to no name that the servers know. For
	// HTTP: 400.
	ErrNoTarget = errors.New("no target model")
	// ErrLimit: the store is as full as Options allow.
	ErrLimit = errors.New("limit reached")
)

// withoutWait is the number of endpoints up to which readings are published
// without a wait: it takes a microsecond.
const withoutWait = 128

// Store holds pools, models and endpoints. All methods may be called from any
// goroutine. Make one with New.
type Store struct {
	opt   Options
	start time.Time // what since measures from

	snap  atomic.Pointer[Snapshot]
	cells sync.Map // *types.Load to *cell

	// To publish readings.
	dirty  atomic.Bool  // a pool has readings that are not published
	window atomic.Int64 // time to let pass between two publications, ns
	next   atomic.Int64 // no publication before this, ns after start

	readers atomic.Pointer[[]*readingWatcher] // never changed in place

	// mu serialises the writers of everything but readings.
	mu       sync.Mutex
	objects  map[objectName]types.Object
	pools    map[types.NamespacedName]*poolState
	births   uint64 // pools that came into being so far
	slots    slots.Set
	watchers watchers[Event]
	onPools  watchers[PoolEvent]
}

// objectName is the identity of a manifest.
type objectName struct {
	kind string
	name types.NamespacedName
}

func nameOf(o types.Object) objectName { return objectName{o.Kind(), o.Key()} }

// poolState is a pool as writers see it, guarded by Store.mu but for dirty.
type poolState struct {
	name     types.NamespacedName
	manifest *types.InferencePool // nil: came into being with its endpoints
	born     uint64               // tells it from others that had its name

	cells     []*cell // in the order of the specs
	byID      map[string]*cell
	changed   bool              // cells changed since published was made
	published []*types.Endpoint // as in the newest snapshot

	names *names // of published, with what manifests say

	dirty   atomic.Bool // a cell has a reading that is not in published
	renamed atomic.Bool // a cell has other models than in published
}

// New returns an empty store.
func New(o Options) *Store {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Coalesce == 0 {
		o.Coalesce = time.Microsecond
	}
	o.DefaultPool = withNamespace(o.DefaultPool)
	s := &Store{
		opt:     o,
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

// Change is several changes that readers see as one.
type Change struct {
	// Objects are manifests to add, or to put in the place of those with the
	// same kind and name.
	Objects []types.Object
	// OnlyObjects makes Objects the whole set: other manifests go, and with
	// pools their endpoints. Pools that never had a manifest stay.
	OnlyObjects bool
	// Endpoints is, for each pool in it, the whole list of its endpoints.
	Endpoints map[types.NamespacedName][]EndpointSpec
}

// Commit makes a change, or none of it if it returns an error. The store keeps
// copies; defaults are filled in there and validated. An endpoint that has the
// same ID and Address as before keeps its ledger, slot and reading.
//
// Of an object that is replaced, what is immutable must not change. That does
// not bind a change with OnlyObjects, nor an object with another creation time:
// it was deleted and made anew in between.
func (s *Store) Commit(c Change) error {
	_, err := s.commit(c)
	return err
}

// given is what a pool was given as the whole list of its endpoints.
type given struct {
	specs []EndpointSpec // valid, and not to be modified
	born  uint64         // of the pool that got them
}

// commit is Commit, and returns what the pools in c.Endpoints were given.
func (s *Store) commit(c Change) (map[types.NamespacedName]given, error) {
	objects, err := prepareObjects(c.Objects)
	if err != nil {
		return nil, err
	}
	endpoints := make(map[types.NamespacedName][]EndpointSpec, len(c.Endpoints))
	for pool, specs := range c.Endpoints {
		prepared, err := prepareSpecs(pool, specs)
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
			s.poolLocked(pool.Key()).manifest = pool
		}
	}
	out := make(map[types.NamespacedName]given, len(endpoints))
	for pool, specs := range endpoints {
		p := s.poolLocked(pool)
		s.setLocked(p, specs)
		out[pool] = given{specs, p.born}
	}
	s.publishLocked()
	return out, nil
}

// refill gives pools their endpoints again that were deleted since they were given had
// and are back. It notes in had what it gave, and reports how many pools that were. Pools
// that are not there stay so.
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

// Apply adds manifests, or puts them in the place of those with the same kind
// and name: all of them, or none if it returns an error. See Commit.
func (s *Store) Apply(objs ...types.Object) error {
	return s.Commit(Change{Objects: objs})
}

// Replace makes objs the whole set of manifests, or changes nothing if it
// returns an error. Pools that stay keep their endpoints. See Commit.
func (s *Store) Replace(objs []types.Object) error {
	return s.Commit(Change{Objects: objs, OnlyObjects: true})
}

// Delete removes a manifest, and with a pool its endpoints, and reports whether
// there was one. A pool without a manifest is deleted in the same way. A pool that is
// made again begins empty: who gave it endpoints has to give them again, see WatchPools.
func (s *Store) Delete(kind string, name types.NamespacedName) bool {
	s.mu.Lock()
	defer s.deliver()
	defer s.mu.Unlock()
	if !s.deleteLocked(objectName{kind, withNamespace(name)}) {
		return false
	}
	s.publishLocked()
	return true
}

// Object returns a copy of a manifest as the store has it, nil if it has none.
func (s *Store) Object(kind string, name types.NamespacedName) types.Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[objectName{kind, withNamespace(name)}]
	if !ok {
		return nil
	}
	return clone(o)
}

// Snapshot returns what the store holds now. It never blocks.
func (s *Store) Snapshot() *Snapshot {
	if s.dirty.Load() {
		s.refresh()
	}
	return s.snap.Load()
}

// refresh publishes readings if it is time to, and if no writer is at work:
// that one publishes them itself.
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

// since returns the time since the store was made. It is monotonic where the
// clock is, so that setting the wall clock back stops no publication.
func (s *Store) since() int64 { return int64(s.opt.Now().Sub(s.start)) }

// allowedLocked checks what depends on what the store holds. kept are the names
// of objects. Caller must hold s.mu.
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
		goes := only && p.manifest != nil && !kept[objectName{kindPool, name}]
		if !set && !goes {
			count += len(p.cells)
		}
	}
	for name, specs := range endpoints {
		count += len(specs)
		_, there := s.objects[objectName{kindPool, name}]
		if s.opt.DeclaredPoolsOnly && !kept[objectName{kindPool, name}] && (!there || only) {
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

// poolLocked returns the pool, made if need be. Caller must hold s.mu.
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

// deleteLocked removes a manifest and what hangs on it. Caller must hold s.mu.
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

// prepareObjects returns valid copies of objs with their defaults.
func prepareObjects(objs []types.Object) ([]types.Object, error) {
	out := make([]types.Object, len(objs))
	seen := make(map[objectName]bool, len(objs))
	var errs []error
	for i, o := range objs {
		if o == nil {
			return nil, fmt.Errorf("datastore: object %d is nil", i)
		}
		out[i] = clone(o)
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
	panic(fmt.Sprintf("datastore: %T is a kind of object the store does not know", o))
}

// Kinds as in manifests.
const (
	kindPool      = "InferencePool"
	kindModel     = "InferenceModel"
	kindObjective = "InferenceObjective"
	kindRewrite   = "InferenceModelRewrite"
)

// withNamespace gives a name the namespace it has in a manifest without one.
func withNamespace(n types.NamespacedName) types.NamespacedName {
	if n.Name != "" && n.Namespace == "" {
		n.Namespace = types.DefaultNamespace
	}
	return n
}

// bound returns a limit from Options: 0 is the default, negative none.
func bound(option, def int) int {
	switch {
	case option == 0:
		return def
	case option < 0:
		return math.MaxInt
	}
	return option
}
