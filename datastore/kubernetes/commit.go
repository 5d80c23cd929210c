package kubernetes

import (
	"cmp"
	"maps"
	"slices"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/types"
)

// committer puts what is wanted into the store, and takes out again what it has put there and
// nothing else. It is for one goroutine.
type committer struct {
	store   *datastore.Store
	cluster string

	objects   map[objectKey]*manifest // in the store
	endpoints map[types.NamespacedName][]datastore.EndpointSpec

	refused map[objectKey]refusal
	unset   map[types.NamespacedName]error // endpoints that the store refused

	// overlaps are pools with endpoints in common. moved: they are to be found anew. Few changes
	// in a large pool do not count before the next audit.
	overlaps map[types.NamespacedName][]types.NamespacedName
	moved    bool
}

// refusal is a manifest that the store did not take.
type refusal struct {
	manifest *manifest
	err      error
}

func newCommitter(store *datastore.Store, cluster string) *committer {
	return &committer{
		store: store, cluster: cluster,
		objects:   make(map[objectKey]*manifest),
		endpoints: make(map[types.NamespacedName][]datastore.EndpointSpec),
		refused:   make(map[objectKey]refusal),
		unset:     make(map[types.NamespacedName]error),
	}
}

// piece is a part of a change that the store takes or refuses: a manifest, or the endpoints of a
// pool.
type piece struct {
	manifest  *manifest
	pool      types.NamespacedName
	endpoints []datastore.EndpointSpec
}

// commit makes the manifests of the source in the store those that are wanted, and sets the
// endpoints of the given pools. All of it is one Commit, unless the store refuses a part: then
// the rest goes in nevertheless.
func (c *committer) commit(want map[objectKey]*manifest, endpoints map[types.NamespacedName][]datastore.EndpointSpec) {
	for key := range c.refused {
		if want[key] == nil {
			delete(c.refused, key)
		}
	}
	for key := range c.objects {
		if want[key] == nil {
			c.remove(key)
		}
	}
	var pieces []piece
	for key, m := range want {
		switch {
		case m.like(c.objects[key]):
			c.objects[key] = m // which makes the next comparison short
		case !m.like(c.refused[key].manifest):
			pieces = append(pieces, piece{manifest: m})
		}
	}
	slices.SortFunc(pieces, func(a, b piece) int { return a.manifest.compare(b.manifest) })
	for pool, specs := range endpoints {
		old, ok := c.endpoints[pool]
		key := objectKey{kindPool, pool}
		switch {
		case want[key] == nil || ok && slices.EqualFunc(old, specs, sameEndpoint):
		case c.objects[key] == nil && c.refused[key].err != nil:
			c.unset[pool] = c.refused[key].err
		default:
			pieces = append(pieces, piece{pool: pool, endpoints: specs})
		}
	}
	c.put(pieces)
	if c.moved {
		c.moved, c.overlaps = false, overlaps(c.endpoints)
	}
}

// put commits pieces, manifests first in them. If the store refuses some, the others go in; the
// endpoints of a pool whose manifest is refused do not, as they would make it exist.
func (c *committer) put(pieces []piece) {
	if c.together(pieces) == nil {
		return
	}
	endpoints := slices.IndexFunc(pieces, func(p piece) bool { return p.manifest == nil })
	if endpoints < 0 {
		endpoints = len(pieces)
	}
	c.byHalves(pieces[:endpoints])
	c.byHalves(slices.DeleteFunc(pieces[endpoints:], func(p piece) bool {
		key := objectKey{kindPool, p.pool}
		if c.objects[key] == nil {
			c.unset[p.pool] = c.refused[key].err
		}
		return c.objects[key] == nil
	}))
}

// byHalves commits pieces, those that the store refuses left out.
func (c *committer) byHalves(pieces []piece) {
	err := c.together(pieces)
	switch half := len(pieces) / 2; {
	case err == nil:
	case half > 0:
		c.byHalves(pieces[:half])
		c.byHalves(pieces[half:])
	case pieces[0].manifest != nil:
		c.refused[pieces[0].manifest.key()] = refusal{pieces[0].manifest, err}
	default:
		c.unset[pieces[0].pool] = err
	}
}

// together commits pieces in one change, or nothing.
func (c *committer) together(pieces []piece) error {
	change := datastore.Change{Endpoints: make(map[types.NamespacedName][]datastore.EndpointSpec)}
	var singly []piece
	for _, p := range pieces {
		switch {
		case p.manifest != nil:
			change.Objects = append(change.Objects, p.manifest.object)
		case c.cluster != "" || c.few(p):
			singly = append(singly, p)
		default:
			change.Endpoints[p.pool] = p.endpoints
		}
	}
	if len(change.Objects)+len(change.Endpoints) > 0 {
		if err := c.store.Commit(change); err != nil {
			return err
		}
	}
	for _, p := range pieces {
		if p.manifest != nil {
			delete(c.refused, p.manifest.key())
			c.objects[p.manifest.key()] = p.manifest
		}
	}
	c.moved = c.moved || len(change.Endpoints) > 0
	for pool, specs := range change.Endpoints {
		delete(c.unset, pool)
		c.endpoints[pool] = specs
	}
	for _, p := range singly {
		c.singly(p)
	}
	return nil
}

// few reports whether so little has changed in a large pool that setting all of its endpoints
// anew would cost much more: for 5,000 some ten milliseconds.
func (c *committer) few(p piece) bool {
	old := c.endpoints[p.pool]
	if len(old) < 100 {
		return false
	}
	set, gone := difference(old, p.endpoints)
	return len(set)+len(gone) <= 10
}

// singly sets endpoints of a pool one by one, and takes out those of this source that are gone.
// Other sources may have endpoints in the pool too.
func (c *committer) singly(p piece) {
	set, gone := difference(c.endpoints[p.pool], p.endpoints)
	for _, id := range gone {
		c.store.RemoveEndpoint(p.pool, id)
	}
	c.endpoints[p.pool] = p.endpoints
	delete(c.unset, p.pool)
	for _, e := range set {
		if err := c.store.UpsertEndpoint(p.pool, e); err != nil {
			c.unset[p.pool] = err
			c.endpoints[p.pool] = slices.DeleteFunc(slices.Clone(c.endpoints[p.pool]), func(o datastore.EndpointSpec) bool { return o.ID == e.ID })
		}
	}
}

// remove takes a manifest out of the store, and with a pool its endpoints. A pool that has
// endpoints of other clusters stays, for these: each source removes its own first and looks
// then, so that the last one finds none.
func (c *committer) remove(key objectKey) {
	delete(c.objects, key)
	if key.kind != kindPool {
		c.store.Delete(key.kind, key.name)
		return
	}
	if c.cluster != "" {
		c.singly(piece{pool: key.name})
	}
	delete(c.endpoints, key.name)
	delete(c.unset, key.name)
	c.moved = true
	if c.cluster == "" || !c.foreign(key.name) {
		c.store.Delete(key.kind, key.name)
	}
}

// foreign reports whether a pool has endpoints of other clusters.
func (c *committer) foreign(name types.NamespacedName) bool {
	pool := c.store.Snapshot().Pool(name)
	return pool != nil && slices.ContainsFunc(pool.Endpoints(), func(e *types.Endpoint) bool {
		return e.Labels[ClusterLabel] != c.cluster
	})
}

// restore puts pools back that others have taken out of the store.
func (c *committer) restore(lost []types.NamespacedName) {
	for _, name := range lost {
		m := c.objects[objectKey{kindPool, name}]
		if m == nil {
			continue
		}
		pieces := []piece{{manifest: m}, {pool: name, endpoints: c.endpoints[name]}}
		delete(c.endpoints, name) // all of them are to be set
		c.put(pieces)
	}
}

// audit puts back what others have taken out of the store, and forgets what was refused, so that
// the next commit tries it again: limits of the store may have room by now. It returns the pools
// whose endpoints were refused.
func (c *committer) audit() []types.NamespacedName {
	clear(c.refused)
	c.moved = true
	for key, m := range c.objects {
		if c.store.Object(key.kind, key.name) != nil {
			continue
		}
		if key.kind == kindPool {
			c.restore([]types.NamespacedName{key.name})
			continue
		}
		c.put([]piece{{manifest: m}})
	}
	return slices.SortedFunc(maps.Keys(c.unset), types.NamespacedName.Compare)
}

// problems returns why manifests are not in force as they should be.
func (c *committer) problems() map[objectKey]error {
	out := make(map[objectKey]error)
	for key, r := range c.refused {
		out[key] = r.err
	}
	for pool, err := range c.unset {
		key := objectKey{kindPool, pool}
		out[key] = cmp.Or(out[key], err)
	}
	return out
}
