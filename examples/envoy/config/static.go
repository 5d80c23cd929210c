package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/types"
)

// staticEndpoints is a document of kind StaticEndpoints.
type staticEndpoints struct {
	origin
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
	s := &staticEndpoints{origin: b.origin(labelled(kindStatic, name)), namespace: name.Namespace}
	spec := top.object("spec")
	s.pool = poolRef(spec, name.Namespace)
	spec.each("endpoints", func(f fields) {
		before := len(r.errs)
		checkLabels(f.object("labels"))
		data, err := json.Marshal(f.m)
		if err != nil || len(r.errs) > before {
			return
		}
		e := staticEndpoint{path: f.path}
		if e.spec, err = datastore.DecodeEndpoint(data); err != nil {
			r.errorf("%s.%w", f.path, err)
			return
		}
		if e.spec.ID == "" {
			e.spec.ID = e.spec.Address
		}
		s.endpoints = append(s.endpoints, e)
	})
	spec.done()
	top.get("status")
	top.done()
	if len(r.errs) > 0 {
		for _, err := range r.errs {
			b.failAt(s.origin, err)
		}
		return
	}
	if b.unique(kindStatic, withNamespace(name)) {
		b.statics = append(b.statics, s)
	}
}

// checkLabels says of a label that is no string what to do about it.
func checkLabels(labels fields) {
	for _, key := range slices.Sorted(maps.Keys(labels.m)) {
		if v := labels.m[key]; !isString(v) {
			labels.errorf("%s[%q] %s, got %s%s", labels.path, key, mustBeString, show(v), quoteHint(v))
		}
	}
}

func isString(v any) bool {
	_, ok := v.(string)
	return ok
}

// connectStatics gives the pools their endpoints.
func (b *builder) connectStatics() {
	type inPool struct {
		pool types.NamespacedName
		id   string
	}
	first := make(map[inPool]origin)
	for _, s := range b.statics {
		if _, ok := b.config.pools[s.pool]; !ok && !s.pool.IsZero() {
			b.failAt(s.origin, fmt.Errorf("spec.poolRef: there is no InferencePool %s", s.pool))
			continue
		}
		for _, e := range s.endpoints {
			pools := b.poolsOf(s, e.spec.Labels)
			if len(pools) == 0 {
				b.failAt(s.origin, fmt.Errorf("%s.labels: %w", e.path, errNoPool(s)))
			}
			for _, pool := range pools {
				key := inPool{pool, e.spec.ID}
				if at, dup := first[key]; dup {
					b.failAt(s.origin, fmt.Errorf("%s.id: pool %s has an endpoint %s already, at %s", e.path, pool, show(e.spec.ID), at.place))
					continue
				}
				first[key] = s.origin
				b.config.Change.Endpoints[pool] = append(b.config.Change.Endpoints[pool], e.spec)
			}
		}
	}
}

// poolsOf returns the pools that an endpoint with such labels belongs to.
func (b *builder) poolsOf(s *staticEndpoints, labels map[string]string) []types.NamespacedName {
	if !s.pool.IsZero() {
		return []types.NamespacedName{s.pool}
	}
	var pools []types.NamespacedName
	for _, p := range b.pools {
		if (s.namespace == "" || s.namespace == p.Namespace) && p.Spec.Selector.Matches(labels) {
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
