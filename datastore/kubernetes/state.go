package kubernetes

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/types"
)

// state is what a source knows of the cluster, and what of it is new. Guarded by Source.mu.
type state struct {
	opt    *Options
	filter filter

	presence  presence
	discovery KindStatus

	manifests fleet[*manifest]
	pods      fleet[*pod]           // one of these two
	slices    fleet[*endpointSlice] // is empty

	inForce map[objectKey]*manifest // never changed in place
	pools   map[string][]*poolPlan  // of inForce, by namespace
	byName  map[types.NamespacedName]*poolPlan

	dirty      bool // manifests have changed
	dirtyPools map[types.NamespacedName]bool
	audit      bool // compare the store with what was put there
	problems   map[objectKey]error
	overlaps   map[types.NamespacedName][]types.NamespacedName
	logged     map[string]string // objects and what is wrong with them
	synced     bool
}

// poolPlan is a pool in force, and where its pods are found.
type poolPlan struct {
	*types.InferencePool
	selector string // of its pods, or of its slices
	service  string // empty: pods
}

func (st *state) init(s *Source) {
	*st = state{
		opt: &s.opt, filter: s.filter, dirty: true,
		manifests: make(fleet[*manifest]), pods: make(fleet[*pod]), slices: make(fleet[*endpointSlice]),
		dirtyPools: make(map[types.NamespacedName]bool),
		discovery:  KindStatus{Kind: "discovery"},
	}
}

// discovered takes what the server says it has, or why it does not say. Served may be a guess
// then; nil: nothing is known.
func (st *state) discovered(served []resource, err error) {
	st.audit = true
	st.discovery.Lists++
	st.discovery.Up, st.discovery.Err = err == nil, nil
	if err != nil {
		st.discovery.Err = fmt.Errorf("kubernetes: which kinds there are is unknown: %w", err)
		if served == nil {
			return
		}
	}
	st.discovery.LastEvent = time.Now()
	st.presence.update(served)
	for _, m := range st.manifests {
		// What was missing is there again: no need to wait.
		if err == nil && m.failing && m.class == notServed && slices.Contains(served, m.resource) {
			signal(m.kick)
		}
	}
}

// missingKinds returns the kinds of which the server has no version, if it was asked.
func (st *state) missingKinds() (out []string) {
	for _, k := range kinds {
		if st.presence.known && !slices.ContainsFunc(st.presence.served, func(r resource) bool { return r.kind == k.kind }) {
			out = append(out, k.kind)
		}
	}
	return out
}

// hurry ends the waits for a server that was away.
func (st *state) hurry() {
	st.manifests.hurry()
	st.pods.hurry()
	st.slices.hurry()
}

// plan decides what is in force, and what to watch for that.
func (st *state) plan(r *runner) {
	if st.presence.known {
		if st.manifests.adjust(r, manifestTargets(st.presence.served, st.opt), st.newManifests) {
			st.dirty = true
		}
	}
	if st.dirty {
		st.dirty = false
		st.settle()
	}
	running := st.running()
	var pods, slices []target
	for namespace, pools := range st.pools {
		pods = append(pods, st.podTargets(namespace, pools, running[namespace])...)
	}
	if st.opt.EndpointSlices {
		pods, slices = nil, pods
	}
	st.pods.adjust(r, pods, st.newPods)
	st.slices.adjust(r, slices, st.newSlices)
}

// settle decides which manifests are in force.
func (st *state) settle() {
	var all []*manifest
	for _, m := range st.manifests {
		all = slices.AppendSeq(all, maps.Values(m.objects))
	}
	for _, pool := range st.opt.Declared {
		all = append(all, declared(pool))
	}
	st.inForce = merge(all, st.filter)
	was := st.byName
	st.pools = make(map[string][]*poolPlan)
	st.byName = make(map[types.NamespacedName]*poolPlan)
	for key, m := range st.inForce {
		pool, ok := m.object.(*types.InferencePool)
		if !ok {
			continue
		}
		p := st.planOf(pool)
		st.pools[pool.Namespace] = append(st.pools[pool.Namespace], p)
		st.byName[key.name] = p
		if old := was[key.name]; old == nil || old.InferencePool != pool {
			st.dirtyPools[key.name] = true
		}
	}
}

func (st *state) planOf(pool *types.InferencePool) *poolPlan {
	if !st.opt.EndpointSlices {
		return &poolPlan{InferencePool: pool, selector: selector(pool)}
	}
	service := pool.Annotations[ServiceAnnotation]
	if service == "" {
		service = pool.Name
	}
	return &poolPlan{InferencePool: pool, selector: serviceLabel + "=" + service, service: service}
}

// endpoints returns those of pools of which something has changed. Pools whose pods are not
// known yet are left as they are.
func (st *state) endpoints(s shape) map[types.NamespacedName][]datastore.EndpointSpec {
	out := make(map[types.NamespacedName][]datastore.EndpointSpec)
	for name := range st.dirtyPools {
		p := st.byName[name]
		if p == nil {
			delete(st.dirtyPools, name)
			continue
		}
		if found, ok := st.podsOf(p); ok {
			out[name] = s.endpoints(p.InferencePool, found)
			delete(st.dirtyPools, name)
		}
	}
	return out
}

// podsOf returns a pool's pods by name, or false if no list of them was read yet.
func (st *state) podsOf(p *poolPlan) (map[string]*pod, bool) {
	for _, selector := range []string{p.selector, ""} {
		t := st.podTarget(p.Namespace, selector)
		if m := st.pods[t]; m != nil && m.synced {
			out := make(map[string]*pod)
			for name, o := range m.objects {
				if p.Spec.Selector.Matches(o.labels) {
					out[name.Name] = o
				}
			}
			return out, true
		}
		if m := st.slices[t]; m != nil && m.synced {
			var own []*endpointSlice
			for _, o := range m.objects {
				if o.service == p.service {
					own = append(own, o)
				}
			}
			return podsOf(own), true
		}
	}
	return nil, false
}

// ready reports whether all was read that the store needs: in each namespace the pools of one
// version at least, and their pods. Optional kinds must have been tried.
func (st *state) ready() bool {
	if !st.presence.known || st.dirty {
		return false
	}
	if st.synced {
		return true
	}
	pools := make(map[string]bool) // namespaces: whether they were read
	for t, m := range st.manifests {
		if t.kind == kindPool {
			pools[t.namespace] = pools[t.namespace] || m.synced
		}
		if !m.synced && (!m.failing || t.kind == kindPool && m.class != forbidden && m.class != notServed) {
			return false
		}
	}
	for _, read := range pools {
		if !read {
			return false
		}
	}
	for name := range st.byName {
		if st.dirtyPools[name] {
			return false
		}
	}
	return true
}

// report takes what is wrong with objects in the store, and returns what is new of that and of
// broken rules: objects and reasons.
func (st *state) report(problems map[objectKey]error, overlaps map[types.NamespacedName][]types.NamespacedName) map[string]string {
	st.problems, st.overlaps = problems, overlaps
	found := make(map[string]string)
	for key, err := range problems {
		found[key.kind+" "+key.name.String()] = err.Error()
	}
	for _, mirror := range st.manifests {
		for _, m := range mirror.objects {
			if m.err != nil {
				found[m.resource.String()+" "+m.name.String()] = m.err.Error()
			}
		}
	}
	fresh := maps.Clone(found)
	maps.DeleteFunc(fresh, func(what, why string) bool { return st.logged[what] == why })
	st.logged = found
	return fresh
}

func (st *state) markSynced(c chan struct{}) {
	if !st.synced {
		st.synced = true
		close(c)
	}
}
