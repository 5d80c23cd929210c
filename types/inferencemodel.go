package types

import (
	"fmt"
	"slices"

	"github.com/inferpick/inferpick/internal/check"
)

const kindModel = "InferenceModel"

// MaxWeight is the largest weight of a target.
const MaxWeight = 1_000_000

// InferenceModel maps a public model name to weighted names of models or adapters on the
// servers of a pool, and sets its criticality. It is the manifest of the group
// inference.networking.x-k8s.io, v1alpha2.
type InferenceModel struct {
	ObjectMeta
	Spec   InferenceModelSpec
	Status ObjectStatus
}

// InferenceModelSpec is the desired state of an InferenceModel.
type InferenceModelSpec struct {
	// ModelName is the public name, 1 to 256 characters. It is immutable. If several objects
	// of a pool have the same name, the oldest wins.
	ModelName string `json:"modelName"`
	// Criticality is optional. Empty is taken as Standard.
	Criticality Criticality `json:"criticality,omitempty"`
	// TargetModels lists at most 10 targets. Empty: requests go to ModelName itself. Either all
	// targets have a weight or none has, which makes them equal.
	TargetModels []TargetModel `json:"targetModels,omitempty"`
	// PoolRef names the pool, in the model's namespace.
	PoolRef PoolRef `json:"poolRef"`
}

// TargetModel names a model or adapter as the servers know it.
type TargetModel struct {
	Name   string `json:"name"`             // 1 to 253 characters
	Weight *int32 `json:"weight,omitempty"` // 1 to MaxWeight
}

// PoolRef names an InferencePool in the same namespace.
type PoolRef struct {
	// Group is GroupX, GroupGA or GroupLLMD, which all mean the same pool. Default: GroupX in
	// an InferenceModel, GroupGA in an InferenceObjective or InferenceModelRewrite.
	Group string `json:"group"`
	Kind  string `json:"kind"` // default and only value: InferencePool
	Name  string `json:"name"` // 1 to 253 characters
}

// Criticality says how important it is that requests for a model are served.
type Criticality string

const (
	// Critical requests are not shed while any server can take them.
	Critical Criticality = "Critical"
	// Standard requests come after critical ones. They wait where Sheddable ones are shed.
	Standard Criticality = "Standard"
	// Sheddable requests are shed when the servers are saturated.
	Sheddable Criticality = "Sheddable"
)

// Priority returns the corresponding Request.Priority: PriorityCritical, PrioritySheddable,
// or PriorityStandard for anything else, including the empty string.
func (c Criticality) Priority() int {
	switch c {
	case Critical:
		return PriorityCritical
	case Sheddable:
		return PrioritySheddable
	}
	return PriorityStandard
}

// Kind returns "InferenceModel".
func (*InferenceModel) Kind() string { return kindModel }

// Pool returns the name of m's pool.
func (m *InferenceModel) Pool() NamespacedName {
	return NamespacedName{m.Namespace, m.Spec.PoolRef.Name}
}

// SetDefaults fills in the namespace and the group and kind of PoolRef. Criticality has no
// default.
func (m *InferenceModel) SetDefaults() {
	m.setDefaults()
	m.Spec.PoolRef.setDefaults(GroupX)
}

// Validate checks m against the rules of the API.
func (m *InferenceModel) Validate() error {
	r := validation(kindModel, &m.ObjectMeta)
	r.length("spec.modelName", m.Spec.ModelName, 1, 256)
	if m.Spec.Criticality != "" {
		r.oneOf("spec.criticality", string(m.Spec.Criticality), string(Critical), string(Standard), string(Sheddable))
	}

	const targets = "spec.targetModels"
	r.must(len(m.Spec.TargetModels) <= 10, targets, "must have at most 10 targets", len(m.Spec.TargetModels))
	weights := 0
	for i, target := range m.Spec.TargetModels {
		r.length(index(targets, i)+".name", target.Name, 1, 253)
		r.weight(index(targets, i)+".weight", target.Weight)
		if target.Weight != nil {
			weights++
		}
	}
	r.must(weights == 0 || weights == len(m.Spec.TargetModels), targets, "must have a weight in all targets or in none",
		fmt.Sprintf("%d of %d with a weight", weights, len(m.Spec.TargetModels)))

	r.poolRef("spec.poolRef", m.Spec.PoolRef)
	return r.err()
}

// ValidateUpdate checks that old is an earlier version of m with the same modelName.
func (m *InferenceModel) ValidateUpdate(old Object) error {
	r := sameObject(m, old)
	if r.err() == nil {
		before := old.(*InferenceModel).Spec.ModelName
		r.must(m.Spec.ModelName == before, "spec.modelName", "is immutable and must stay "+check.Show(before), m.Spec.ModelName)
	}
	return r.err()
}

// Clone returns a deep copy of m.
func (m *InferenceModel) Clone() *InferenceModel {
	c := *m
	c.ObjectMeta = m.ObjectMeta.clone()
	c.Spec.TargetModels = slices.Clone(m.Spec.TargetModels)
	for i := range c.Spec.TargetModels {
		c.Spec.TargetModels[i].Weight = clonePointer(c.Spec.TargetModels[i].Weight)
	}
	c.Status.Conditions = slices.Clone(m.Status.Conditions)
	return &c
}

// MarshalJSON encodes m as a manifest.
func (m InferenceModel) MarshalJSON() ([]byte, error) {
	return marshal(apiVersionX, kindModel, &m.ObjectMeta, m.Spec, m.Status)
}

// UnmarshalJSON decodes a manifest as DecodeManifest does.
func (m *InferenceModel) UnmarshalJSON(data []byte) error { return unmarshalInto(m, data) }
