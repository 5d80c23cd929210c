package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/types"
)

// staticEndpoints is a document of kind StaticEndpoints.
type staticEndpoints struct {
	origin
	id        identity
	namespace string               // as written
	pool      types.NamespacedName // zero: by labels
	endpoints []staticEndpoint
}

type staticEndpoint struct {
	path string
	spec datastore.EndpointSpec
}

// static reads a document of kind StaticEndpoints.
func (b *builder) static(top fields) {
	r := top.reader
	name := metadata(top, true)
	o := b.under
	o.object = labelled(kindStatic, name)
	s := &staticEndpoints{origin: o, id: b.identity(kindStatic, name), namespace: name.Namespace}
	spec := top.object("spec")
	s.pool = poolRef(spec, name.Namespace)
	spec.each("endpoints", func(f fields) {
		if e, ok := b.endpoint(f); ok {
			s.endpoints = append(s.endpoints, e)
		}
	})
	spec.done()
	top.get("status")
	top.done()
	for _, text := range r.warnings {
		b.warn(o, text, text)
	}
	if r.Len() > 0 {
		b.reject(o, s.id, r.Err())
		return
	}
	b.accept(o, &object{id: s.id, static: s})
}

// endpoint reads one of a document, and reports whether it is good.
func (b *builder) endpoint(f fields) (e staticEndpoint, ok bool) {
	r := f.reader
	before := r.Len()
	checkLabels(f.object("labels"))
	f.endpointForm()
	if r.Len() > before {
		return e, false
	}
	data, err := json.Marshal(f.m)
	if err != nil {
		r.Add(f.path, err)
		return e, false
	}
	e.path = f.path
	if e.spec, err = datastore.DecodeEndpoint(data); err == nil && b.CheckEndpoint != nil {
		err = b.CheckEndpoint(e.spec)
	}
	if err != nil {
		r.Add(f.path, err)
		return e, false
	}
	if e.spec.ID == "" {
		e.spec.ID = e.spec.Address
	}
	return e, true
}

// endpointForm notes the fields that an endpoint has not, and takes them out.
func (f fields) endpointForm() {
	f.only("id", "address", "labels", "state", "engine", "capacity", "metrics")
	f.object("capacity").only("speed", "maxConcurrency", "kvTokens", "costPerHour")
	f.object("metrics").only("address", "path", "scheme", "disabled")
}

// only notes the fields that are none of the known ones, and takes them out.
func (f fields) only(known ...string) {
	slices.Sort(known)
	for _, name := range slices.Sorted(maps.Keys(f.m)) {
		if !slices.Contains(known, name) && f.unknown(f.at(name), name, known) {
			delete(f.m, name)
		}
	}
}

// checkLabels says of a label that is no string what to do about it.
func checkLabels(labels fields) {
	for _, key := range slices.Sorted(maps.Keys(labels.m)) {
		if v := labels.m[key]; !isString(v) {
			labels.Want(false, fmt.Sprintf("%s[%q]", labels.path, key), v, "%s", wantString(v))
		}
	}
}

func isString(v any) bool {
	_, ok := v.(string)
	return ok
}

// connectStatics gives the pools their endpoints. An endpoint that no pool can have is left
// out by itself.
func (b *builder) connectStatics() {
	type inPool struct {
		pool types.NamespacedName
		id   string
	}
	first := make(map[inPool]place)
	for _, s := range b.statics {
		if !s.pool.IsZero() && !b.config.pools[s.pool] {
			b.reject(s.origin, s.id, fmt.Errorf("spec.poolRef: there is no InferencePool %s", s.pool))
			continue
		}
		var errs []error
		for _, e := range s.endpoints {
			pools := b.poolsOf(s, e.spec.Labels)
			if len(pools) == 0 {
				errs = append(errs, fmt.Errorf("%s.labels: %w", e.path, errNoPool(s)))
			}
			for _, pool := range pools {
				key := inPool{pool, e.spec.ID}
				if at, dup := first[key]; dup {
					errs = append(errs, fmt.Errorf("%s.id: pool %s has an endpoint %s already, at %s", e.path, pool, check.Show(e.spec.ID), at))
					continue
				}
				first[key] = s.place
				b.config.Change.Endpoints[pool] = append(b.config.Change.Endpoints[pool], e.spec)
			}
		}
		if len(errs) > 0 {
			b.reject(s.origin, s.id, errors.Join(errs...))
		}
	}
}

// poolsOf returns the pools that an endpoint with such labels belongs to.
func (b *builder) poolsOf(s *staticEndpoints, labels map[string]string) []types.NamespacedName {
	if !s.pool.IsZero() {
		return []types.NamespacedName{s.pool}
	}
	var pools []types.NamespacedName
	for _, o := range b.config.Change.Objects {
		p, ok := o.(*types.InferencePool)
		if ok && (s.namespace == "" || s.namespace == p.Namespace) && p.Spec.Selector.Matches(labels) {
			pools = append(pools, p.Key())
		}
	}
	return pools
}

func errNoPool(s *staticEndpoints) error {
	if s.namespace != "" {
		return fmt.Errorf("no InferencePool of namespace %s selects them, and there is no spec.poolRef", s.namespace)
	}
	return errors.New("no InferencePool selects them, and there is no spec.poolRef")
}
