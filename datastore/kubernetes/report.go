package kubernetes

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/inferpick/inferpick/types"
)

// KindStatus is the state of one watch: a kind in a namespace, for pods and EndpointSlices with
// a selector.
type KindStatus struct {
	schema.GroupVersionResource
	Kind      string // for example "InferencePool"
	Namespace string // empty: all
	Selector  string // of labels; empty: none

	// Up is set while what the source knows is complete and kept up to date. While it is not,
	// the source goes on with what it knows, and Err says why; about rights it names the rule
	// that is missing.
	Up  bool
	Err error

	Objects   int
	LastEvent time.Time // the last object, bookmark or list; zero: none yet

	// Lists, Watches and Relists count requests. Relists are those lists that were needed
	// because the server no longer knew where a watch had ended.
	Lists, Watches, Relists uint64
}

// ErrNotServed is the KindStatus.Err of a kind that the cluster does not have: its CRD is not
// installed. It is noticed when that comes later.
var ErrNotServed = errors.New("kubernetes: the cluster does not serve the kind: its CRD is not installed")

// ErrShadowed is wrapped by the Err of an Object that is not in force because another group or
// version has an object of the same kind and name.
var ErrShadowed = errors.New("another group or version has an object of this name")

// Object is a manifest in the cluster, in force or not.
type Object struct {
	Resource schema.GroupVersionResource
	Kind     string
	Name     types.NamespacedName

	UID             string
	Generation      int64
	ResourceVersion string

	// Conditions are those in its status, whoever wrote them. A pool has none: see its parents.
	Conditions []types.Condition

	// Err is why this version of the object is not in force: it breaks a rule, the store refused
	// it, or ErrShadowed. If an earlier version was valid, that one stays in force. Nil: it is
	// in force; whether it is accepted says datastore.Store.Status.
	Err error

	// Warnings say what may be otherwise than meant: fields of spec that are unknown and have no
	// effect, and pools that have the same pods, of whose load each knows its own part.
	Warnings []string
}

// Kinds returns the state of each watch; of each kind of manifest that the cluster does not
// have; and, with the Kind "discovery", whether it says which it has.
func (s *Source) Kinds() []KindStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &s.state
	out := append([]KindStatus{st.discovery}, st.manifests.report()...)
	if st.presence.known {
		for _, k := range kinds {
			if !slices.ContainsFunc(out, func(have KindStatus) bool { return have.Kind == k.kind }) {
				out = append(out, KindStatus{GroupVersionResource: k.assumed[0], Kind: k.kind, Err: ErrNotServed})
			}
		}
	}
	out = append(append(out, st.pods.report()...), st.slices.report()...)
	slices.SortFunc(out, func(a, b KindStatus) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Selector, b.Selector))
	})
	return out
}

// Objects returns the manifests that were read, in force or not, by kind, pools first, and name.
// Those that belong to pools that are not read are left out.
func (s *Source) Objects() []Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &s.state
	var all []*manifest
	for _, m := range st.manifests {
		all = slices.AppendSeq(all, maps.Values(m.objects))
	}
	slices.SortFunc(all, (*manifest).compare)
	out := make([]Object, 0, len(all))
	for _, m := range all {
		winner := st.inForce[m.key()]
		if winner == nil && m.object != nil && !st.dirty {
			continue
		}
		o := Object{
			Resource: m.resource.GroupVersionResource, Kind: m.resource.kind, Name: m.name,
			UID: m.uid, Generation: m.generation, ResourceVersion: m.version, Conditions: m.conditions,
			Err: m.err,
		}
		switch {
		case o.Err != nil:
		case winner != nil && winner.resource != m.resource:
			o.Err = fmt.Errorf("kubernetes: %s %s: %w: that of %s is in force", m.resource.kind, m.name, ErrShadowed, winner.resource.GroupVersion())
		default:
			o.Err = st.problems[m.key()]
		}
		if winner == m {
			o.Warnings = st.warnings(m)
		}
		out = append(out, o)
	}
	return out
}

func (st *state) warnings(m *manifest) (out []string) {
	for _, field := range m.ignored {
		out = append(out, field+" is unknown and has no effect")
	}
	if m.resource.kind == kindPool {
		for _, other := range st.overlaps[m.name] {
			out = append(out, "has pods in common with pool "+other.String())
		}
	}
	return out
}
