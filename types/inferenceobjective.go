package types

import (
	"fmt"
	"maps"
	"slices"
)

const kindObjective = "InferenceObjective"

// InferenceObjective is a named priority, which a request selects with the header
// x-gateway-inference-objective. It is the manifest of the groups
// inference.networking.x-k8s.io, v1alpha2, and llm-d.ai, v1alpha2 and v1.
type InferenceObjective struct {
	ObjectMeta
	Spec   InferenceObjectiveSpec
	Status ObjectStatus
}

// InferenceObjectiveSpec is the desired state of an InferenceObjective.
type InferenceObjectiveSpec struct {
	// Priority orders requests, higher first; those below 0 may be shed. Nil: 0.
	Priority *int `json:"priority,omitempty"`
	// PoolRef, PoolRefs and PoolSelector choose the pools that the objective is for, in its
	// namespace. At least one is required, and a pool that any of them chooses is included.
	PoolRef      PoolRef       `json:"poolRef,omitzero"`
	PoolRefs     []PoolRef     `json:"poolRefs,omitempty"` // at most 64
	PoolSelector *PoolSelector `json:"poolSelector,omitempty"`
}

// PoolSelector chooses the pools whose labels have all of MatchLabels and satisfy all of
// MatchExpressions. If both are empty it chooses every pool.
type PoolSelector struct {
	MatchLabels      map[string]string `json:"matchLabels,omitempty"`
	MatchExpressions []LabelExpression `json:"matchExpressions,omitempty"`
}

// LabelExpression is a condition on one label.
type LabelExpression struct {
	Key      string        `json:"key"`
	Operator LabelOperator `json:"operator"`
	// Values has at least one value for LabelIn and LabelNotIn, and none otherwise.
	Values []string `json:"values,omitempty"`
}

// LabelOperator is how a LabelExpression tests a label.
type LabelOperator string

// The operators of a LabelExpression. LabelNotIn also holds if there is no such label.
const (
	LabelIn           LabelOperator = "In"
	LabelNotIn        LabelOperator = "NotIn"
	LabelExists       LabelOperator = "Exists"
	LabelDoesNotExist LabelOperator = "DoesNotExist"
)

// Matches reports whether s chooses a pool with the given labels. A nil s chooses none.
func (s *PoolSelector) Matches(labels map[string]string) bool {
	if s == nil {
		return false
	}
	for key, want := range s.MatchLabels {
		if got, ok := labels[key]; !ok || got != want {
			return false
		}
	}
	for _, e := range s.MatchExpressions {
		if !e.matches(labels) {
			return false
		}
	}
	return true
}

func (e *LabelExpression) matches(labels map[string]string) bool {
	v, ok := labels[e.Key]
	switch e.Operator {
	case LabelIn:
		return ok && slices.Contains(e.Values, v)
	case LabelNotIn:
		return !ok || !slices.Contains(e.Values, v)
	case LabelExists:
		return ok
	case LabelDoesNotExist:
		return !ok
	}
	return false
}

// Kind returns "InferenceObjective".
func (*InferenceObjective) Kind() string { return kindObjective }

// Pools returns the pools that o names, which need not exist. Its PoolSelector may choose
// more.
func (o *InferenceObjective) Pools() []NamespacedName {
	var pools []NamespacedName
	for _, ref := range append([]PoolRef{o.Spec.PoolRef}, o.Spec.PoolRefs...) {
		if name := (NamespacedName{o.Namespace, ref.Name}); ref.Name != "" && !slices.Contains(pools, name) {
			pools = append(pools, name)
		}
	}
	return pools
}

// Selects reports whether o's PoolSelector chooses p.
func (o *InferenceObjective) Selects(p *InferencePool) bool {
	return p.Namespace == o.Namespace && o.Spec.PoolSelector.Matches(p.Labels)
}

// Priority returns the priority, 0 if none is set.
func (o *InferenceObjective) Priority() int {
	if o.Spec.Priority == nil {
		return 0
	}
	return *o.Spec.Priority
}

// SetDefaults fills in the namespace and the group and kind of references to pools.
func (o *InferenceObjective) SetDefaults() {
	o.setDefaults()
	if o.refersToOne() {
		o.Spec.PoolRef.setDefaults(GroupGA)
	}
	for i := range o.Spec.PoolRefs {
		o.Spec.PoolRefs[i].setDefaults(GroupGA)
	}
}

func (r *PoolRef) setDefaults(group string) {
	setDefault(&r.Group, group)
	setDefault(&r.Kind, kindPool)
}

// refersToOne reports whether PoolRef is set, or required because nothing else is.
func (o *InferenceObjective) refersToOne() bool {
	return o.Spec.PoolRef != PoolRef{} || len(o.Spec.PoolRefs) == 0 && o.Spec.PoolSelector == nil
}

// maxPoolRefs bounds the references of one objective.
const maxPoolRefs = 64

// Validate checks o against the rules of the API.
func (o *InferenceObjective) Validate() error {
	r := validation(kindObjective, &o.ObjectMeta)
	if o.refersToOne() {
		r.poolRef("spec.poolRef", o.Spec.PoolRef)
	}
	r.must(len(o.Spec.PoolRefs) <= maxPoolRefs, "spec.poolRefs", fmt.Sprintf("must have at most %d references", maxPoolRefs), len(o.Spec.PoolRefs))
	for i, ref := range o.Spec.PoolRefs {
		r.poolRef(index("spec.poolRefs", i), ref)
	}
	if s := o.Spec.PoolSelector; s != nil {
		r.poolSelector("spec.poolSelector", s)
	}
	return r.err()
}

func (r *validator) poolSelector(path string, s *PoolSelector) {
	if len(s.MatchLabels) > 0 {
		r.matchLabels(path+".matchLabels", s.MatchLabels)
	}
	for i, e := range s.MatchExpressions {
		at := index(path+".matchExpressions", i)
		r.must(isLabelKey(e.Key), at+".key", "must be [prefix/]name: letters, digits, '-', '_' and '.', at most 253", e.Key)
		r.oneOf(at+".operator", string(e.Operator), string(LabelIn), string(LabelNotIn), string(LabelExists), string(LabelDoesNotExist))
		if e.Operator == LabelIn || e.Operator == LabelNotIn {
			r.must(len(e.Values) > 0, at+".values", "must have at least one value", nil)
		} else {
			r.must(len(e.Values) == 0, at+".values", "must have none with this operator", e.Values)
		}
	}
}

// ValidateUpdate checks that old is an earlier version of o. Nothing in it is immutable.
func (o *InferenceObjective) ValidateUpdate(old Object) error { return sameObject(o, old).err() }

// Clone returns a deep copy of o.
func (o *InferenceObjective) Clone() *InferenceObjective {
	c := *o
	c.ObjectMeta = o.ObjectMeta.clone()
	c.Spec.Priority = clonePointer(o.Spec.Priority)
	c.Spec.PoolRefs = slices.Clone(o.Spec.PoolRefs)
	if s := o.Spec.PoolSelector; s != nil {
		expressions := slices.Clone(s.MatchExpressions)
		for i := range expressions {
			expressions[i].Values = slices.Clone(expressions[i].Values)
		}
		c.Spec.PoolSelector = &PoolSelector{maps.Clone(s.MatchLabels), expressions}
	}
	c.Status.Conditions = slices.Clone(o.Status.Conditions)
	return &c
}

// MarshalJSON encodes o as a manifest.
func (o InferenceObjective) MarshalJSON() ([]byte, error) {
	return marshal(apiVersionX, kindObjective, &o.ObjectMeta, o.Spec, o.Status)
}

// UnmarshalJSON decodes a manifest as DecodeManifest does.
func (o *InferenceObjective) UnmarshalJSON(data []byte) error { return unmarshalInto(o, data) }
