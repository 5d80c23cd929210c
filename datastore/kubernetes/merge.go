package kubernetes

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/inferpick/inferpick/types"
)

// objectKey identifies a manifest in the store.
type objectKey struct {
	kind string
	name types.NamespacedName
}

func (m *manifest) key() objectKey { return objectKey{m.resource.kind, m.name} }

// compare orders manifests by kind, pools first, and name, and those of the same name by
// precedence.
func (m *manifest) compare(o *manifest) int {
	return cmp.Or(cmp.Compare(kindIndex(m.resource.kind), kindIndex(o.resource.kind)), m.name.Compare(o.name), compareResources(m.resource, o.resource))
}

// merge returns the manifests in force: of those of the same kind and name the first one, by
// precedence, that has a valid version. A pool that is deleted in one group and stays in another
// therefore stays, with what the other says.
func merge(all []*manifest, f filter) map[objectKey]*manifest {
	ordered := slices.SortedFunc(slices.Values(all), (*manifest).compare)
	out := make(map[objectKey]*manifest, len(ordered))
	for _, m := range ordered {
		if m.object != nil && out[m.key()] == nil {
			out[m.key()] = m
		}
	}
	for key, m := range out {
		if pool, ok := m.object.(*types.InferencePool); ok && !f.pool(pool) {
			delete(out, key)
		}
	}
	for key, m := range out {
		if key.kind != kindPool && !f.concerned(m.object, out) {
			delete(out, key)
		}
	}
	return out
}

// filter is which pools are read. The zero value: all.
type filter struct {
	names    []types.NamespacedName
	selector labels.Selector // nil: all
}

func (f filter) all() bool { return len(f.names) == 0 && f.selector == nil }

func (f filter) pool(p *types.InferencePool) bool {
	return (len(f.names) == 0 || slices.Contains(f.names, p.Key())) &&
		(f.selector == nil || f.selector.Matches(labels.Set(p.Labels)))
}

// concerned reports whether an object belongs to a pool that is read. Where pools are chosen by
// name it may not exist yet; where they are by labels only one that exists can be known.
func (f filter) concerned(o types.Object, in map[objectKey]*manifest) bool {
	if f.all() {
		return true
	}
	pools := poolsOf(o)
	if obj, ok := o.(*types.InferenceObjective); ok && obj.Spec.PoolSelector != nil {
		for key, m := range in {
			if p, ok := m.object.(*types.InferencePool); ok && obj.Selects(p) {
				pools = append(pools, key.name)
			}
		}
	}
	return slices.ContainsFunc(pools, func(name types.NamespacedName) bool {
		if in[objectKey{kindPool, name}] != nil {
			return true
		}
		return f.selector == nil && slices.Contains(f.names, name)
	})
}

// poolsOf returns the pools that an object names.
func poolsOf(o types.Object) []types.NamespacedName {
	switch o := o.(type) {
	case *types.InferenceModel:
		return []types.NamespacedName{o.Pool()}
	case *types.InferenceModelRewrite:
		return []types.NamespacedName{o.Pool()}
	case *types.InferenceObjective:
		return o.Pools()
	}
	return nil
}

// declared returns the manifest of a pool of Options.Declared. Its resource, of no group, comes
// after all others.
func declared(p *types.InferencePool) *manifest {
	return &manifest{resource: resource{kind: kindPool}, name: p.Key(), object: p}
}
