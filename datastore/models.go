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
	Pool    types.NamespacedName // where it goes
	Created time.Time            // of the manifest that names it; zero: none does, or not known
}

// Models returns the public names that requests which name no pool can ask for, each once
// and in order. They are those that manifests give, of all pools: of models, and of
// rewrites that match one name. Unless Options.UnknownModels refuses others, the names
// that the ready endpoints of the default pool serve are there too, as far as they are
// known (types.Endpoint.Models). The slice must not be modified.
//
// The list is made when somebody asks for it, once for each change of names.
func (sn *Snapshot) Models() []Model {
	cfg := sn.config
	if cfg.refuse || cfg.defaultPool < 0 {
		return cfg.models
	}
	p := sn.pools[cfg.defaultPool]
	p.names.all.Do(func() { p.names.inAll = p.listAll(cfg) })
	return p.names.inAll
}

// ModelsOf returns the public names that requests for a pool can ask for, as Models does:
// those that manifests give in this pool, and those that its endpoints serve. A zero pool
// stands for requests that name none. A pool that does not exist has no models.
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

// Model returns one model of those in ModelsOf(pool), and whether it is there.
func (sn *Snapshot) Model(pool types.NamespacedName, name string) (Model, bool) {
	all := sn.ModelsOf(pool)
	i, ok := slices.BinarySearchFunc(all, name, func(m Model, name string) int { return strings.Compare(m.Name, name) })
	if !ok {
		return Model{}, false
	}
	return all[i], true
}

// names are lists of models that whoever asks first makes.
type names struct {
	own    sync.Once
	inPool []Model // for requests that name the pool

	all   sync.Once
	inAll []Model // for those that name none, if it is the default pool
}

// list returns the names in p, for requests that name it.
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

// listAll returns the names for requests that name no pool, which go to p if no manifest
// knows better.
func (p *Pool) listAll(cfg *config) []Model {
	found := make(map[string]time.Time)
	p.served(found)
	for name := range cfg.byModel {
		delete(found, name)
	}
	return p.sorted(cfg.models, found)
}

// served adds the names that the ready endpoints of p serve to found.
func (p *Pool) served(found map[string]time.Time) {
	for _, e := range p.endpoints {
		if e.State == types.Ready {
			for _, name := range e.Models {
				if name != "" { // which is what a request has that names none
					found[name] = time.Time{}
				}
			}
		}
	}
}

// sorted returns what is there already and the names found, in order.
func (p *Pool) sorted(there []Model, found map[string]time.Time) []Model {
	all := append(make([]Model, 0, len(there)+len(found)), there...)
	for name, created := range found {
		all = append(all, Model{Name: name, Pool: p.name, Created: created})
	}
	slices.SortFunc(all, func(a, b Model) int { return cmp.Compare(a.Name, b.Name) })
	return all
}
