package types

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/inferpick/inferpick/internal/check"
)

const kindModel = "InferenceModel"

// MaxWeight is the largest weight of a target.
const MaxWeight = 1_000_000

// InferenceModel maps a public model name to what the servers of a pool call
// it, with weights, and says how critical it is: the manifest of the group
// inference.networking.x-k8s.io, v1alpha2.
type InferenceModel struct {
	ObjectMeta
	Spec   InferenceModelSpec
	Status ObjectStatus
}

// InferenceModelSpec is what is wanted of a model.
type InferenceModelSpec struct {
	// ModelName is the public name, 1 to 256 characters. It cannot be changed;
	// in one pool the oldest object with a name has it.
	ModelName string `json:"modelName"`
	// Criticality is optional; empty is taken as Standard.
	Criticality Criticality `json:"criticality,omitempty"`
	// TargetModels are at most 10; none: requests go to ModelName itself.
	// Either all have a weight or none has; then all are alike.
	TargetModels []TargetModel `json:"targetModels,omitempty"`
	// PoolRef names the pool, in the namespace of the model.
	PoolRef PoolRef `json:"poolRef"`
}

// TargetModel is a model or adapter as the servers know it.
type TargetModel struct {
	Name   string `json:"name"`             // 1 to 253 characters
	Weight *int32 `json:"weight,omitempty"` // 1 to MaxWeight
}

// PoolRef names an InferencePool of the same namespace.
type PoolRef struct {
	// Group is GroupX, GroupGA or GroupLLMD. Default: GroupX from an InferenceModel,
	// GroupGA from an InferenceObjective or InferenceModelRewrite. Which of them makes
	// no difference: it is the same pool.
	Group string `json:"group"`
	Kind  string `json:"kind"` // default and only value: InferencePool
	Name  string `json:"name"` // 1 to 253 characters
}

// Criticality says how much it matters that requests for a model are served.
type Criticality string

const (
	// Critical requests are not shed while anything can serve them.
	Critical Criticality = "Critical"
	// Standard requests go after the critical ones. It is not Sheddable: they
	// wait where a sheddable request is refused.
	Standard Criticality = "Standard"
	// Sheddable requests are refused when servers are saturated.
	Sheddable Criticality = "Sheddable"
)

// Priority returns what c means for a Request: PriorityCritical,
// PrioritySheddable, and PriorityStandard for everything else, unset included.
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

// Pool returns the name of the pool that m refers to.
func (m *InferenceModel) Pool() NamespacedName {
	return NamespacedName{m.Namespace, m.Spec.PoolRef.Name}
}

// SetDefaults sets the namespace and, in the reference to the pool, group and
// kind, where they are empty. Criticality has no default.
func (m *InferenceModel) SetDefaults() {
	m.setDefaults()
	setDefault(&m.Spec.PoolRef.Group, GroupX)
	setDefault(&m.Spec.PoolRef.Kind, kindPool)
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

// ValidateUpdate checks that old is an earlier version of m, with the same
// modelName.
func (m *InferenceModel) ValidateUpdate(old Object) error {
	r := &validator{object: describe(kindModel, &m.ObjectMeta)}
	if r.update(kindModel, &m.ObjectMeta, old) {
		before := old.(*InferenceModel).Spec.ModelName
		r.must(m.Spec.ModelName == before, "spec.modelName", "is immutable and must stay "+check.Show(before), m.Spec.ModelName)
	}
	return r.err()
}

// Clone returns a copy that shares nothing with m.
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

// MarshalJSON writes m as a manifest.
func (m InferenceModel) MarshalJSON() ([]byte, error) {
	return marshal(apiVersionX, kindModel, &m.ObjectMeta, m.Spec, m.Status)
}

// UnmarshalJSON reads a manifest as DecodeManifest does.
func (m *InferenceModel) UnmarshalJSON(data []byte) error { return unmarshalInto(m, data) }

var (
	_ Object         = (*InferenceModel)(nil)
	_ json.Marshaler = InferenceModel{}
)
