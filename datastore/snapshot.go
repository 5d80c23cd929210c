package datastore

import (
	"maps"
	"slices"

	"github.com/inferpick/inferpick/types"
)

// Snapshot is the content of a Store at one time. It is immutable. A request should use one
// Snapshot throughout, and not keep it afterwards.
type Snapshot struct {
	config *config // shared by all snapshots of the same manifests
	pools  []*Pool // by name; the same order as in config
}

// Pool is one pool at one time. It is immutable.
type Pool struct {
	name      types.NamespacedName
	manifest  *types.InferencePool
	routes    *routes
	endpoints []*types.Endpoint
	names     *names // shared by snapshots with the same names
}

// Pools returns all pools, sorted by namespace and name. The slice must not be modified.
func (sn *Snapshot) Pools() []*Pool { return sn.pools }

// Pool returns the pool of that name, or nil. An empty namespace is types.DefaultNamespace.
func (sn *Snapshot) Pool(name types.NamespacedName) *Pool {
	if i, ok := sn.config.poolIndex[withNamespace(name)]; ok {
		return sn.pools[i]
	}
	return nil
}

// Name returns the pool's name.
func (p *Pool) Name() types.NamespacedName { return p.name }

// Manifest returns the pool's manifest, or nil. It must not be modified.
func (p *Pool) Manifest() *types.InferencePool { return p.manifest }

// Endpoints returns the pool's endpoints in any state, in the order in which they were set. The
// slice is shared and must not be modified.
func (p *Pool) Endpoints() []*types.Endpoint { return p.endpoints }

// publishLocked publishes a new snapshot of everything. Caller must hold s.mu.
func (s *Store) publishLocked() {
	s.dirty.Store(false)
	pools := s.sortedLocked()
	cfg := s.configLocked(pools, s.snap.Load().config)
	sn := &Snapshot{config: cfg, pools: make([]*Pool, len(pools))}
	total := 0
	for i, p := range pools {
		p.collectLocked()
		p.names = new(names) // manifests may name others
		total += len(p.cells)
		sn.pools[i] = &Pool{name: p.name, manifest: p.manifest, routes: cfg.routes[i], endpoints: p.published, names: p.names}
	}
	s.setWindow(total)
	s.snap.Store(sn)
}

// publishReadingsLocked publishes a new snapshot with the same pools and manifests. Caller must
// hold s.mu.
func (s *Store) publishReadingsLocked() {
	s.dirty.Store(false)
	old := s.snap.Load()
	sn := &Snapshot{config: old.config, pools: slices.Clone(old.pools)}
	total := 0
	for i, was := range old.pools {
		p := s.pools[was.name]
		total += len(p.cells)
		if p.collectLocked() {
			now := *was
			now.endpoints, now.names = p.published, p.names
			sn.pools[i] = &now
		}
	}
	s.setWindow(total)
	s.snap.Store(sn)
}

// collectLocked updates p.published from the cells, and reports whether it had to. Caller must
// hold Store.mu.
func (p *poolState) collectLocked() bool {
	if !p.dirty.Swap(false) && !p.changed {
		return false
	}
	if p.renamed.Swap(false) || p.changed {
		p.names = new(names)
	}
	p.changed = false
	p.published = make([]*types.Endpoint, len(p.cells))
	for i, c := range p.cells {
		p.published[i] = c.newest.Load()
	}
	return true
}

func (s *Store) setWindow(endpoints int) {
	window := int64(0)
	if endpoints > withoutWait && s.opt.Coalesce > 0 {
		window = int64(s.opt.Coalesce) * int64(endpoints)
	}
	s.window.Store(window)
}

// sortedLocked returns the pools by name. Caller must hold s.mu.
func (s *Store) sortedLocked() []*poolState {
	return slices.SortedFunc(maps.Values(s.pools), func(a, b *poolState) int { return a.name.Compare(b.name) })
}
