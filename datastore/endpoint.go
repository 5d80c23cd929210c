package datastore

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/types"
)

// EngineLabel is the label of an endpoint that names its engine.
const EngineLabel = "inference.networking.k8s.io/engine-type"

// EndpointSpec is what configuration or discovery says of an endpoint.
type EndpointSpec struct {
	// ID is unique in the pool, at most 512 bytes. Empty: Address.
	ID string
	// Address is host:port, IPv6 in brackets. Required.
	Address string

	Labels   map[string]string
	Capacity types.Capacity // zero fields: unknown
	// State is the state to start in. When the spec is set again, State counts
	// only if it is another than in the spec before: SetState is not undone.
	State types.State

	// Engine is the server's software: "vllm", "sglang" and so on, as the
	// scrape package names them. Empty: the label EngineLabel or
	// llm-d.ai/engine-type, or found out from the metrics themselves.
	Engine string

	// MetricsAddress is host:port of the metrics, or :port for another port of
	// the same host. Empty: Address.
	MetricsAddress string
	// MetricsPath begins with '/'. Empty: the engine's own, or those of all
	// engines in turn while the engine is not known.
	MetricsPath   string
	MetricsScheme string // http or https. Empty: http
	NoMetrics     bool   // the scrape package asks the endpoint for nothing

	// Attrs are values for plugins of one's own. They must not be changed after.
	Attrs types.Attrs
}

// cell is where the newest reading of one endpoint is. Its fields do not change
// but for newest, and those guarded by Store.mu.
type cell struct {
	load    *types.Load
	pool    *poolState
	newest  atomic.Pointer[types.Endpoint]
	id      string
	address string
	slot    uint32

	// Guarded by Store.mu: what an Endpoint does not say of its spec.
	removed   bool
	state     types.State // in the spec
	noMetrics bool
	metrics   *metricsSpec // nil: all empty, as most are
}

type metricsSpec struct{ engine, address, path, scheme string }

// SetEndpoints makes specs the whole list of a pool's endpoints, or changes
// nothing if it returns an error. An endpoint that has the same ID and Address
// as before keeps its ledger, slot and reading; any other is new. A pool
// without a manifest comes into being, see Options.DeclaredPoolsOnly; it stays,
// even empty, until Delete.
func (s *Store) SetEndpoints(pool types.NamespacedName, specs []EndpointSpec) error {
	return s.Commit(Change{Endpoints: map[types.NamespacedName][]EndpointSpec{pool: specs}})
}

// UpsertEndpoint adds one endpoint to a pool, or puts it in the place of the one
// with the same ID, as SetEndpoints does. For many, SetEndpoints is cheaper.
func (s *Store) UpsertEndpoint(pool types.NamespacedName, spec EndpointSpec) error {
	prepared, err := prepareSpecs(pool, []EndpointSpec{spec})
	if err != nil {
		return err
	}
	pool, spec = withNamespace(pool), prepared[0]

	s.mu.Lock()
	defer s.deliver()
	defer s.mu.Unlock()
	p, ok := s.pools[pool]
	if s.opt.DeclaredPoolsOnly && (!ok || p.manifest == nil) {
		return fmt.Errorf("datastore: %w: endpoint for %s, which has no manifest (Options.DeclaredPoolsOnly)", ErrNoPool, pool)
	}
	if !ok || p.byID[spec.ID] == nil {
		if err := s.roomLocked(s.countLocked() + 1); err != nil {
			return err
		}
	}
	if !ok {
		p = s.poolLocked(pool)
	}
	old := p.byID[spec.ID]
	switch {
	case old == nil:
		p.cells = append(p.cells, s.addLocked(p, spec))
	case old.address == spec.Address:
		s.reconfigureLocked(old, spec)
	default:
		s.dropLocked(old)
		p.cells[slices.Index(p.cells, old)] = s.addLocked(p, spec)
	}
	if !ok {
		s.publishLocked()
		return nil
	}
	s.publishReadingsLocked()
	return nil
}

// RemoveEndpoint removes one endpoint and reports whether it was there.
func (s *Store) RemoveEndpoint(pool types.NamespacedName, id string) bool {
	s.mu.Lock()
	defer s.deliver()
	defer s.mu.Unlock()
	p, ok := s.pools[withNamespace(pool)]
	if !ok || p.byID[id] == nil {
		return false
	}
	c := p.byID[id]
	s.dropLocked(c)
	i := slices.Index(p.cells, c)
	p.cells = slices.Delete(p.cells, i, i+1)
	s.publishReadingsLocked()
	return true
}

// UpdateMetrics stores a new reading of the endpoint that l is the ledger of,
// and reports whether the endpoint is still there. Readers see the reading
// within the time of Options.Coalesce. It is cheap, and made to be called by
// many goroutines at once.
//
// What becomes of the reading types.Endpoint.Next says. If the server was restarted,
// watchers are told.
func (s *Store) UpdateMetrics(l *types.Load, m types.Metrics) bool {
	v, ok := s.cells.Load(l)
	if !ok {
		return false
	}
	c := v.(*cell)
	var next *types.Endpoint
	restarted := false
	for {
		old := c.newest.Load()
		if next, restarted = old.Next(m, s.opt.Now()); next == nil {
			return true
		}
		if c.newest.CompareAndSwap(old, next) {
			break
		}
	}
	if restarted {
		c.pool.renamed.Store(true)
	}
	s.touch(c)
	s.tellReaders(c.pool.name, next)
	if restarted {
		s.tell(c, Restarted)
	}
	return true
}

// SetModels stores the names that the endpoint that l is the ledger of says it serves,
// its Endpoint.Models, and reports whether the endpoint is still there. Nil makes them
// unknown; an empty list that is not nil says that it serves none. The store keeps a
// sorted copy without what is there twice. Readers see it as they see a reading, and
// those who watch readings are told; a list that the store has already is no news.
//
// Names stay over readings and changes of the spec, until the server restarts.
func (s *Store) SetModels(l *types.Load, models []string) bool {
	v, ok := s.cells.Load(l)
	if !ok {
		return false
	}
	c := v.(*cell)
	if models != nil {
		models = append(make([]string, 0, len(models)), models...)
		slices.Sort(models)
		models = slices.Compact(models)
	}
	if had := c.newest.Load().Models; (had == nil) == (models == nil) && slices.Equal(had, models) {
		return true
	}
	next := c.modify(func(e *types.Endpoint) { e.Models = models })
	c.pool.renamed.Store(true) // before the mark that makes somebody look
	s.touch(c)
	s.tellReaders(c.pool.name, next)
	return true
}

// SetState sets whether the endpoint that l is the ledger of takes requests, and
// reports whether the endpoint is still there. Readers see it at once.
func (s *Store) SetState(l *types.Load, st types.State) bool {
	s.mu.Lock()
	defer s.deliver()
	defer s.mu.Unlock()
	v, ok := s.cells.Load(l)
	if !ok {
		return false
	}
	c := v.(*cell)
	if c.newest.Load().State == st {
		return true
	}
	c.modify(func(e *types.Endpoint) { e.State = st })
	c.pool.changed = true
	s.publishReadingsLocked()
	s.eventLocked(c, Changed)
	return true
}

// touch marks that c has a reading that is not published. The order matters: the
// publisher clears the marks from the outside in before it reads the cells, so
// one that is found set here will be seen to after this reading was stored.
func (s *Store) touch(c *cell) {
	if !c.pool.dirty.Load() {
		c.pool.dirty.Store(true)
	}
	if !s.dirty.Load() {
		s.dirty.Store(true)
	}
}

// modify publishes a changed copy of the newest reading into the cell, and returns it.
func (c *cell) modify(change func(*types.Endpoint)) *types.Endpoint {
	for {
		old := c.newest.Load()
		next := *old
		change(&next)
		if c.newest.CompareAndSwap(old, &next) {
			return &next
		}
	}
}

// specLocked returns the spec of c. Caller must hold Store.mu.
func (c *cell) specLocked() EndpointSpec {
	e := c.newest.Load()
	spec := EndpointSpec{
		ID: c.id, Address: c.address, Labels: e.Labels, Capacity: e.Capacity,
		State: c.state, NoMetrics: c.noMetrics, Attrs: e.Attrs,
	}
	if m := c.metrics; m != nil {
		spec.Engine, spec.MetricsAddress, spec.MetricsPath, spec.MetricsScheme = m.engine, m.address, m.path, m.scheme
	}
	return spec
}

// setLocked makes specs the endpoints of p. Caller must hold s.mu.
func (s *Store) setLocked(p *poolState, specs []EndpointSpec) {
	keep := make(map[string]string, len(specs)) // ID to address
	for i := range specs {
		keep[specs[i].ID] = specs[i].Address
	}
	// What goes frees its slot before what comes takes one.
	for _, c := range p.cells {
		if address, ok := keep[c.id]; !ok || address != c.address {
			s.dropLocked(c)
		}
	}
	cells := make([]*cell, len(specs))
	for i, spec := range specs {
		if c := p.byID[spec.ID]; c != nil {
			s.reconfigureLocked(c, spec)
			cells[i] = c
			continue
		}
		cells[i] = s.addLocked(p, spec)
	}
	if !slices.Equal(p.cells, cells) {
		p.cells, p.changed = cells, true
	}
}

// addLocked makes a cell and tells of it; the caller puts it into p.cells.
// Caller must hold s.mu.
func (s *Store) addLocked(p *poolState, spec EndpointSpec) *cell {
	c := &cell{
		load: types.NewLoad(), pool: p, slot: s.slots.Take(),
		id: spec.ID, address: spec.Address, state: spec.State,
	}
	c.setMetricsSpec(spec)
	c.newest.Store(&types.Endpoint{
		Load: c.load, Slot: c.slot, State: spec.State, Capacity: spec.Capacity,
		ID: spec.ID, Address: spec.Address, Labels: spec.Labels, Attrs: spec.Attrs,
	})
	p.byID[c.id] = c
	p.changed = true
	s.cells.Store(c.load, c)
	s.eventLocked(c, Added)
	return c
}

// dropLocked forgets a cell and tells of it; the caller takes it out of
// p.cells. Caller must hold s.mu.
func (s *Store) dropLocked(c *cell) {
	c.removed = true
	c.load.Retire()
	delete(c.pool.byID, c.id)
	c.pool.changed = true
	s.cells.Delete(c.load)
	s.slots.Give(c.slot)
	s.eventLocked(c, Removed)
}

// reconfigureLocked gives an endpoint that stays its new spec. Caller must hold s.mu.
func (s *Store) reconfigureLocked(c *cell, spec EndpointSpec) {
	old := c.specLocked()
	if sameSpec(&old, &spec) {
		return
	}
	moved := spec.State != c.state
	c.state = spec.State
	c.setMetricsSpec(spec)
	c.modify(func(e *types.Endpoint) {
		e.Labels, e.Capacity, e.Attrs = spec.Labels, spec.Capacity, spec.Attrs
		if moved {
			e.State = spec.State
		}
	})
	c.pool.changed = true
	s.eventLocked(c, Changed)
}

func (c *cell) setMetricsSpec(spec EndpointSpec) {
	c.noMetrics = spec.NoMetrics
	c.metrics = nil
	if m := (metricsSpec{spec.Engine, spec.MetricsAddress, spec.MetricsPath, spec.MetricsScheme}); m != (metricsSpec{}) {
		c.metrics = &m
	}
}

func (s *Store) countLocked() int {
	n := 0
	for _, p := range s.pools {
		n += len(p.cells)
	}
	return n
}

func sameSpec(a, b *EndpointSpec) bool {
	return a.ID == b.ID && a.Address == b.Address && a.Capacity == b.Capacity && a.State == b.State &&
		a.Engine == b.Engine && a.MetricsAddress == b.MetricsAddress && a.MetricsPath == b.MetricsPath &&
		a.MetricsScheme == b.MetricsScheme && a.NoMetrics == b.NoMetrics &&
		maps.Equal(a.Labels, b.Labels) && reflect.DeepEqual(a.Attrs, b.Attrs)
}

// prepareSpecs returns valid copies of specs.
func prepareSpecs(pool types.NamespacedName, specs []EndpointSpec) ([]EndpointSpec, error) {
	if pool.Name == "" {
		return nil, errors.New("datastore: the pool of the endpoints has no name")
	}
	out := make([]EndpointSpec, len(specs))
	first := make(map[string]int, len(specs))
	var errs []error
	for i, spec := range specs {
		if spec.ID == "" {
			spec.ID = spec.Address
		}
		for _, e := range check.From(spec.validate()) {
			errs = append(errs, fmt.Errorf("datastore: pool %s: endpoint %d, %s: %w", withNamespace(pool), i, shorten(spec.ID), e))
		}
		if j, dup := first[spec.ID]; dup {
			errs = append(errs, fmt.Errorf("datastore: pool %s: endpoint %d: id %s is that of endpoint %d too", withNamespace(pool), i, shorten(spec.ID), j))
		}
		first[spec.ID] = i
		spec.Labels = maps.Clone(spec.Labels)
		out[i] = spec
	}
	return out, errors.Join(errs...)
}

// validate returns all that is wrong with s, with the names that fields have in JSON.
func (s *EndpointSpec) validate() error {
	var c check.Checks
	if n := len(s.ID); n > 512 {
		c.Failf("id", "has %d bytes, want at most 512", n)
	}
	checkAddress(&c, "address", s.Address)
	switch m := s.MetricsAddress; {
	case m == "":
	case m[0] == ':': // another port of the same host
		checkAddress(&c, "metrics.address", "host"+m)
	default:
		checkAddress(&c, "metrics.address", m)
	}
	c.Want(s.MetricsPath == "" || s.MetricsPath[0] == '/' && isVisible(s.MetricsPath), "metrics.path", s.MetricsPath, "/ and then printable ASCII without blanks")
	if s.MetricsScheme != "" {
		c.OneOf("metrics.scheme", s.MetricsScheme, "http", "https")
	}
	c.Want(s.State <= types.Unhealthy, "state", uint8(s.State), "ready, draining or unhealthy")
	check.Range(&c, "capacity.speed", s.Capacity.Speed, 0, 0)
	check.Range(&c, "capacity.maxConcurrency", s.Capacity.MaxConcurrency, 0, 0)
	check.Range(&c, "capacity.kvTokens", s.Capacity.KVTokens, 0, 0)
	check.Range(&c, "capacity.costPerHour", s.Capacity.CostPerHour, 0, 0)
	return c.Err()
}

// checkAddress guards more than typing errors: the address goes into headers.
func checkAddress(c *check.Checks, field, address string) {
	host, port, err := net.SplitHostPort(address)
	good := err == nil && host != "" && len(address) <= 300 && isVisible(address) && !strings.ContainsAny(address, `,/"\@?#`)
	if c.Want(good, field, address, "host:port"); !good {
		return
	}
	n, err := strconv.ParseUint(port, 10, 16)
	c.Want(err == nil && n > 0, field, address, "a port from 1 to 65535")
}

func isVisible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// shorten quotes what came from outside, for an error.
func shorten(s string) string {
	if len(s) > 80 {
		return strconv.Quote(s[:80]) + "…"
	}
	return strconv.Quote(s)
}
