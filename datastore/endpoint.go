package datastore

import (
	"cmp"
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

// EngineLabel is the endpoint label that names the engine.
const EngineLabel = "inference.networking.k8s.io/engine-type"

// EndpointSpec describes an endpoint, from configuration or discovery.
type EndpointSpec struct {
	// ID is unique within the pool, at most 512 bytes. Default Address, and for a rank what PerRank
	// makes of it.
	ID string
	// Address is host:port, IPv6 in brackets. Required.
	Address string
	// Rank says that the endpoint is one of the data-parallel ranks of the server at Address, which
	// requests choose by types.Endpoint.RankHeader: see PerRank. Default: it is all of the server. Of
	// the endpoints of a pool with one Address either all are different ranks of as many, or none is
	// a rank.
	Rank types.Rank

	Labels   map[string]string
	Capacity types.Capacity // zero fields: unknown
	// Roles are the stages of a request that the endpoint may serve. Default: those that the label
	// Options.RoleLabel names; a label that names something else is of no effect, and Options.Logger is told. Of an engine that is said
	// to be "sglang", decode is decode-only.
	Roles types.Roles
	// State is the initial state. When the spec is set again, State is applied only if it has
	// changed since the previous spec, so that it does not undo SetState.
	State types.State

	// Engine is the server's software, such as "vllm" or "sglang", as package scrape names it.
	// Default: the label EngineLabel or llm-d.ai/engine-type, or else detected from the metrics.
	Engine string

	// MetricsAddress is the host:port that serves metrics, or :port for another port of the same
	// host. Default Address.
	MetricsAddress string
	// MetricsPath begins with '/'. Default: the path of the engine, or while that is unknown
	// those of all engines in turn.
	MetricsPath   string
	MetricsScheme string // http or https. Default http
	NoMetrics     bool   // package scrape does not read this endpoint

	// Attrs holds values for custom plugins. They must not change afterwards.
	Attrs types.Attrs
}

// MetricsHost returns the host:port that serves metrics.
func (s *EndpointSpec) MetricsHost() string {
	switch m := s.MetricsAddress; {
	case m == "":
		return s.Address
	case m[0] == ':': // another port of the same host
		if host, _, err := net.SplitHostPort(s.Address); err == nil {
			return net.JoinHostPort(host, m[1:])
		}
	}
	return s.MetricsAddress
}

// ServerURL returns the base URL of the server itself, at Address, without a slash at the end: by MetricsScheme if its
// metrics are there too, else by http.
func (s *EndpointSpec) ServerURL() string {
	if s.MetricsHost() != s.Address {
		return "http://" + s.Address
	}
	return cmp.Or(s.MetricsScheme, "http") + "://" + s.Address
}

// cell holds the latest reading of one endpoint. Only newest and the fields guarded by
// Store.mu change.
type cell struct {
	load    *types.Load
	pool    *poolState
	newest  atomic.Pointer[types.Endpoint]
	id      string
	address string
	slot    uint32
	rank    types.Rank

	// Guarded by Store.mu: the parts of the spec that are not in an Endpoint.
	removed   bool
	state     types.State // in the spec
	roles     types.Roles // in the spec
	noMetrics bool
	metrics   *metricsSpec // nil: all empty, the usual case
}

type metricsSpec struct{ engine, address, path, scheme string }

// SetEndpoints makes specs the complete list of a pool's endpoints. If it returns an error,
// nothing has changed. An endpoint that has the same ID, Address and Rank as before keeps its ledger,
// slot and reading; any other is new. A pool that does not exist is created, unless
// Options.DeclaredPoolsOnly is set, and stays, even empty, until Delete.
func (s *Store) SetEndpoints(pool types.NamespacedName, specs []EndpointSpec) error {
	return s.Commit(Change{Endpoints: map[types.NamespacedName][]EndpointSpec{pool: specs}})
}

// UpsertEndpoint adds an endpoint to a pool or replaces the one with the same ID, as
// SetEndpoints does. For many endpoints SetEndpoints is cheaper.
func (s *Store) UpsertEndpoint(pool types.NamespacedName, spec EndpointSpec) error {
	prepared, err := s.prepare(pool, []EndpointSpec{spec})
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
	if err := p.rankLocked(&spec); err != nil {
		return err
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
	case old.is(&spec):
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

// RemoveEndpoint removes an endpoint and reports whether it existed.
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

// UpdateMetrics stores a new reading of the endpoint whose ledger is l, as
// types.Endpoint.Next does, and reports whether the endpoint still exists. The reading becomes
// visible within the time of Options.Coalesce. Watchers are told of restarts. UpdateMetrics is
// cheap and scales with concurrent callers.
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

// SetModels stores the model names that the endpoint whose ledger is l says it serves
// (types.Endpoint.Models), and reports whether the endpoint still exists. Nil means unknown; an
// empty non-nil list means none. The store keeps a sorted copy without duplicates. It becomes
// visible as a reading does and is told to WatchReadings, if it is another list than before.
//
// The names survive new readings and changes of the spec, until the server restarts.
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
	if old := c.newest.Load().Models; (old == nil) == (models == nil) && slices.Equal(old, models) {
		return true
	}
	next := c.modify(func(e *types.Endpoint) { e.Models = models })
	c.pool.renamed.Store(true) // before the mark that triggers publication
	s.touch(c)
	s.tellReaders(c.pool.name, next)
	return true
}

// SetState sets the state of the endpoint whose ledger is l, visible at once, and reports
// whether the endpoint still exists.
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

// touch marks c's reading as unpublished. The order matters: the publisher clears the marks of
// the store, then of the pool, before it reads the cells, so a mark that is already set here
// will be handled after this reading was stored.
func (s *Store) touch(c *cell) {
	if !c.pool.dirty.Load() {
		c.pool.dirty.Store(true)
	}
	if !s.dirty.Load() {
		s.dirty.Store(true)
	}
}

// modify stores a changed copy of the latest reading, and returns it.
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
		ID: c.id, Address: c.address, Rank: c.rank, Labels: e.Labels, Capacity: e.Capacity,
		State: c.state, Roles: c.roles, NoMetrics: c.noMetrics, Attrs: e.Attrs,
	}
	if m := c.metrics; m != nil {
		spec.Engine, spec.MetricsAddress, spec.MetricsPath, spec.MetricsScheme = m.engine, m.address, m.path, m.scheme
	}
	return spec
}

// setLocked makes specs the endpoints of p. Caller must hold s.mu.
func (s *Store) setLocked(p *poolState, specs []EndpointSpec) {
	keep := make(map[string]*EndpointSpec, len(specs)) // by ID
	for i := range specs {
		keep[specs[i].ID] = &specs[i]
	}
	// Removed endpoints free their slots before new ones take them.
	for _, c := range p.cells {
		if spec := keep[c.id]; spec == nil || !c.is(spec) {
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

// addLocked creates a cell and queues its event; the caller adds it to p.cells. Caller must
// hold s.mu.
func (s *Store) addLocked(p *poolState, spec EndpointSpec) *cell {
	c := &cell{
		load: types.NewLoad(), pool: p, slot: s.slots.Take(),
		id: spec.ID, address: spec.Address, rank: spec.Rank, state: spec.State, roles: spec.Roles,
	}
	c.setMetricsSpec(spec)
	c.newest.Store(&types.Endpoint{
		Load: c.load, Slot: c.slot, State: spec.State, Roles: s.rolesOf(&spec), Capacity: spec.Capacity,
		ID: spec.ID, Address: spec.Address, Rank: spec.Rank, Labels: spec.Labels, Attrs: spec.Attrs,
	})
	p.byID[c.id] = c
	p.changed = true
	s.cells.Store(c.load, c)
	s.eventLocked(c, Added)
	return c
}

// dropLocked removes a cell and queues its event; the caller removes it from p.cells. Caller
// must hold s.mu.
func (s *Store) dropLocked(c *cell) {
	c.removed = true
	c.load.Retire()
	delete(c.pool.byID, c.id)
	c.pool.changed = true
	s.cells.Delete(c.load)
	s.slots.Give(c.slot)
	s.eventLocked(c, Removed)
}

// reconfigureLocked applies a new spec to an existing endpoint. Caller must hold s.mu.
func (s *Store) reconfigureLocked(c *cell, spec EndpointSpec) {
	old := c.specLocked()
	if sameSpec(&old, &spec) {
		return
	}
	moved := spec.State != c.state
	c.state, c.roles = spec.State, spec.Roles
	c.setMetricsSpec(spec)
	c.modify(func(e *types.Endpoint) {
		e.Labels, e.Roles, e.Capacity, e.Attrs = spec.Labels, s.rolesOf(&spec), spec.Capacity, spec.Attrs
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
	return a.ID == b.ID && a.Address == b.Address && a.Rank == b.Rank && a.Capacity == b.Capacity && a.State == b.State && a.Roles == b.Roles &&
		a.Engine == b.Engine && a.MetricsAddress == b.MetricsAddress && a.MetricsPath == b.MetricsPath &&
		a.MetricsScheme == b.MetricsScheme && a.NoMetrics == b.NoMetrics &&
		maps.Equal(a.Labels, b.Labels) && reflect.DeepEqual(a.Attrs, b.Attrs)
}

// prepareSpecs returns validated copies of specs.
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
			if spec.Rank.IsSet() {
				spec.ID = rankID(spec.Address, spec.Rank.Index)
			}
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
	for _, clash := range clashes(out) {
		errs = append(errs, fmt.Errorf("datastore: pool %s: endpoint %d, %s: %w", withNamespace(pool), clash.at, shorten(out[clash.at].ID), clash.err))
	}
	return out, errors.Join(errs...)
}

// validate returns all errors in s, with the names that fields have in JSON.
func (s *EndpointSpec) validate() error {
	var c check.Checks
	if n := len(s.ID); n > 512 {
		c.Failf("id", "has %d bytes, want at most 512", n)
	}
	checkAddress(&c, "address", s.Address)
	if err := s.Rank.Validate(); err != nil {
		r := s.Rank
		c.Want(r.Of >= 1 && r.Of <= types.LimitRanks, "ranks", r.Of, "1 to %d", types.LimitRanks)
		c.Want(r.Of < 1 || r.Index >= 0 && r.Index < r.Of, "rank", r.Index, "from 0 to %d, one less than ranks", r.Of-1)
	}
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
	c.Want(s.Roles <= types.RoleEncode|types.RolePrefill|types.RoleDecode|types.RoleNotAlone, "roles", uint8(s.Roles), "encode, prefill, decode or several of them")
	c.Want(s.State <= types.Unhealthy, "state", uint8(s.State), "ready, draining or unhealthy")
	check.Range(&c, "capacity.speed", s.Capacity.Speed, 0, 0)
	check.Range(&c, "capacity.maxConcurrency", s.Capacity.MaxConcurrency, 0, 0)
	check.Range(&c, "capacity.kvTokens", s.Capacity.KVTokens, 0, 0)
	check.Range(&c, "capacity.costPerHour", s.Capacity.CostPerHour, 0, 0)
	return c.Err()
}

// checkAddress catches more than typing errors: the address goes into headers.
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

// shorten quotes external input for an error message.
func shorten(s string) string {
	if len(s) > 80 {
		return strconv.Quote(s[:80]) + "…"
	}
	return strconv.Quote(s)
}
