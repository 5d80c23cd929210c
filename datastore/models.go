package datastore

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/inferpick/inferpick/types"
)

// Model is a public model name, as for GET /v1/models.
type Model struct {
	Name    string
	Pool    types.NamespacedName // where its requests go
	Created time.Time            // of the manifest that names it; zero: unknown, or there is none
}

// Models returns the public model names available to requests that do not name a pool, sorted
// and without duplicates: those of InferenceModels and of rewrites for a single name, of all
// pools, and unless Options.UnknownModels is Refuse, those that ready endpoints of the default
// pool are known to serve (types.Endpoint.Models). The slice must not be modified.
//
// The list is computed on demand, once per change of names.
func (sn *Snapshot) Models() []Model {
	cfg := sn.config
	if cfg.refuse || cfg.defaultPool < 0 {
		return cfg.models
	}
	p := sn.pools[cfg.defaultPool]
	p.names.all.Do(func() { p.names.inAll = p.listAll(cfg) })
	return p.names.inAll
}

// ModelsOf returns the public model names available to requests for a pool, as Models does:
// those of the pool's manifests and those that its endpoints serve. For the zero pool it
// returns Models, for a pool that does not exist nil.
func (sn *Snapshot) ModelsOf(pool types.NamespacedName) []Model {
	if pool.IsZero() {
		return sn.Models()
	}
	p := sn.Pool(pool)
	if p == nil {
		return nil
	}
	p.names.own.Do(func() { p.names.inPool = p.list(sn.config.refuse) })
	return p.names.inPool
}

// Model returns the model of that name in ModelsOf(pool), and whether there is one.
func (sn *Snapshot) Model(pool types.NamespacedName, name string) (Model, bool) {
	all := sn.ModelsOf(pool)
	i, ok := slices.BinarySearchFunc(all, name, func(m Model, name string) int { return strings.Compare(m.Name, name) })
	if !ok {
		return Model{}, false
	}
	return all[i], true
}

// names are lists of models, computed on demand.
type names struct {
	own    sync.Once
	inPool []Model // for requests that name the pool

	all   sync.Once
	inAll []Model // for requests that name no pool, if it is the default pool
}

// list returns the models of p, for requests that name it.
func (p *Pool) list(refuse bool) []Model {
	found := make(map[string]time.Time)
	if !refuse {
		p.served(found)
	}
	for name, r := range p.routes.exact {
		found[name] = r.rewrite.CreationTimestamp
	}
	for name, r := range p.routes.models {
		found[name] = r.model.CreationTimestamp
	}
	return p.sorted(nil, found)
}

// listAll returns the models for requests that do not name a pool, if p is the default pool.
func (p *Pool) listAll(cfg *config) []Model {
	found := make(map[string]time.Time)
	p.served(found)
	for name := range cfg.byModel {
		delete(found, name)
	}
	return p.sorted(cfg.models, found)
}

// served adds the names that ready endpoints of p serve to found.
func (p *Pool) served(found map[string]time.Time) {
	for _, e := range p.endpoints {
		if e.State == types.Ready {
			for _, name := range e.Models {
				if name != "" { // the model of a request that names none
					found[name] = time.Time{}
				}
			}
		}
	}
}

// sorted returns models and those found, sorted by name.
func (p *Pool) sorted(models []Model, found map[string]time.Time) []Model {
	all := append(make([]Model, 0, len(models)+len(found)), models...)
	for name, created := range found {
		all = append(all, Model{Name: name, Pool: p.name, Created: created})
	}
	slices.SortFunc(all, func(a, b Model) int { return cmp.Compare(a.Name, b.Name) })
	return all
}
