package kubernetes

// podTargets returns what to watch for the endpoints of the pools of a namespace.
func (st *state) podTargets(namespace string, pools []*poolPlan, running map[string]bool) []target {
	wanted := make([]string, len(pools))
	for i, p := range pools {
		wanted[i] = p.selector
	}
	var out []target
	for _, s := range podWatches(wanted, running, st.opt.MaxPodWatches) {
		out = append(out, st.podTarget(namespace, s))
	}
	return out
}

// podTarget is the target of pods, or of their slices.
func (st *state) podTarget(namespace, selector string) target {
	r := pods
	if st.opt.EndpointSlices {
		r = endpointSlices
	}
	return target{resource: r, namespace: namespace, labels: selector}
}

// running returns, for each namespace, the selectors that are watched and whether their lists
// were read.
func (st *state) running() map[string]map[string]bool {
	out := make(map[string]map[string]bool)
	note := func(t target, synced bool) {
		if out[t.namespace] == nil {
			out[t.namespace] = make(map[string]bool)
		}
		out[t.namespace][t.labels] = synced
	}
	for t, m := range st.pods {
		note(t, m.synced)
	}
	for t, m := range st.slices {
		note(t, m.synced)
	}
	return out
}

// newManifests, newPods and newSlices return mirrors that mark what their changes concern.
func (st *state) newManifests(t target) *mirror[*manifest] {
	return &mirror[*manifest]{
		decode: decodeManifest(t.resource),
		carry: func(old, m *manifest) (*manifest, bool) {
			m = m.carry(old)
			return m, old == nil || !old.same(m)
		},
		changed: func(_, _ *manifest) { st.dirty = true },
	}
}

func (st *state) newPods(t target) *mirror[*pod] {
	return &mirror[*pod]{
		decode: decodePod,
		carry:  func(old, p *pod) (*pod, bool) { return p, old == nil || !old.same(p) },
		changed: func(old, p *pod) {
			st.touch(t, func(pool *poolPlan) bool {
				return old != nil && pool.Spec.Selector.Matches(old.labels) || p != nil && pool.Spec.Selector.Matches(p.labels)
			})
		},
	}
}

func (st *state) newSlices(t target) *mirror[*endpointSlice] {
	return &mirror[*endpointSlice]{
		decode: decodeSlice,
		carry:  func(old, s *endpointSlice) (*endpointSlice, bool) { return s, old == nil || !old.same(s) },
		changed: func(old, s *endpointSlice) {
			st.touch(t, func(pool *poolPlan) bool {
				return old != nil && old.service == pool.service || s != nil && s.service == pool.service
			})
		},
	}
}

// touch marks the pools that a change in a target concerns.
func (st *state) touch(t target, concerns func(*poolPlan) bool) {
	for _, p := range st.pools[t.namespace] {
		if (t.labels == "" || t.labels == p.selector) && !st.dirtyPools[p.Key()] && concerns(p) {
			st.dirtyPools[p.Key()] = true
		}
	}
}
