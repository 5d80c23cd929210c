package types

import "slices"

const kindObjective = "InferenceObjective"

// InferenceObjective is a priority under a name, for requests that bear that
// name in the header x-gateway-inference-objective: the manifest of the group
// inference.networking.x-k8s.io, v1alpha2.
type InferenceObjective struct {
	ObjectMeta
	Spec   InferenceObjectiveSpec
	Status ObjectStatus
}

// InferenceObjectiveSpec is what requests with an objective get.
type InferenceObjectiveSpec struct {
	// Priority orders requests, higher first; below 0 may be shed. Nil: 0.
	Priority *int `json:"priority,omitempty"`
	// PoolRef names the pool, in the namespace of the objective.
	PoolRef PoolRef `json:"poolRef"`
}

// Kind returns "InferenceObjective".
func (*InferenceObjective) Kind() string { return kindObjective }

// Pool returns the name of the pool that o refers to.
func (o *InferenceObjective) Pool() NamespacedName {
	return NamespacedName{o.Namespace, o.Spec.PoolRef.Name}
}

// Priority returns the priority, 0 if none is set.
func (o *InferenceObjective) Priority() int {
	if o.Spec.Priority == nil {
		return 0
	}
	return *o.Spec.Priority
}

// SetDefaults sets the namespace and, in the reference to the pool, group and
// kind, where they are empty.
func (o *InferenceObjective) SetDefaults() {
	o.setDefaults()
	setDefault(&o.Spec.PoolRef.Group, GroupGA)
	setDefault(&o.Spec.PoolRef.Kind, kindPool)
}

// Validate checks o against the rules of the API.
func (o *InferenceObjective) Validate() error {
	r := check(kindObjective, &o.ObjectMeta)
	r.poolRef(o.Spec.PoolRef)
	return r.err()
}

// ValidateUpdate checks that old is an earlier version of o. Nothing in an
// objective is immutable.
func (o *InferenceObjective) ValidateUpdate(old Object) error {
	r := &reader{object: describe(kindObjective, &o.ObjectMeta)}
	r.update(kindObjective, &o.ObjectMeta, old)
	return r.err()
}

// Clone returns a copy that shares nothing with o.
func (o *InferenceObjective) Clone() *InferenceObjective {
	c := *o
	c.ObjectMeta = o.ObjectMeta.clone()
	c.Spec.Priority = clonePointer(o.Spec.Priority)
	c.Status.Conditions = slices.Clone(o.Status.Conditions)
	return &c
}

// MarshalJSON writes o as a manifest.
func (o InferenceObjective) MarshalJSON() ([]byte, error) {
	return marshalX(kindObjective, &o.ObjectMeta, o.Spec, o.Status)
}

// UnmarshalJSON reads a manifest as DecodeManifest does.
func (o *InferenceObjective) UnmarshalJSON(data []byte) error { return unmarshalInto(o, data) }

var _ Object = (*InferenceObjective)(nil)
