package types

import "slices"

const kindRewrite = "InferenceModelRewrite"

// InferenceModelRewrite maps public model names to those that the servers of a pool know. It
// is the manifest of the group inference.networking.x-k8s.io, v1alpha2.
type InferenceModelRewrite struct {
	ObjectMeta
	Spec   InferenceModelRewriteSpec
	Status ObjectStatus
}

// InferenceModelRewriteSpec is the desired state of an InferenceModelRewrite.
type InferenceModelRewriteSpec struct {
	// PoolRef names the pool, in the namespace of the rewrite.
	PoolRef PoolRef `json:"poolRef"`
	// Rules holds the rules. Among those that match equally well the first one applies.
	Rules []RewriteRule `json:"rules,omitempty"`
}

// RewriteRule rewrites some model names.
type RewriteRule struct {
	// Matches are alternatives: a request must fit one of them. Empty: the rule is for all.
	Matches []RewriteMatch `json:"matches,omitempty"`
	// Targets has at least one target. If none has a weight, all are equal; otherwise those
	// without one get no requests.
	Targets []RewriteTarget `json:"targets"`
}

// RewriteMatch is a condition on a request.
type RewriteMatch struct {
	Model ModelMatch `json:"model"`
}

// ModelMatch is a condition on the model that a request names.
type ModelMatch struct {
	Type  MatchType `json:"type"`  // default and only value: MatchExact
	Value string    `json:"value"` // required
}

// MatchType is how a ModelMatch compares names.
type MatchType string

// MatchExact matches an equal name.
const MatchExact MatchType = "Exact"

// RewriteTarget is a name to rewrite to.
type RewriteTarget struct {
	ModelRewrite string `json:"modelRewrite"`     // required
	Weight       *int32 `json:"weight,omitempty"` // 1 to MaxWeight
}

// Kind returns "InferenceModelRewrite".
func (*InferenceModelRewrite) Kind() string { return kindRewrite }

// Pool returns the name of w's pool.
func (w *InferenceModelRewrite) Pool() NamespacedName {
	return NamespacedName{w.Namespace, w.Spec.PoolRef.Name}
}

// SetDefaults fills in the namespace, the group and kind of PoolRef, and the type of each
// match.
func (w *InferenceModelRewrite) SetDefaults() {
	w.setDefaults()
	w.Spec.PoolRef.setDefaults(GroupGA)
	for _, rule := range w.Spec.Rules {
		for i := range rule.Matches {
			setDefault(&rule.Matches[i].Model.Type, MatchExact)
		}
	}
}

// Validate checks w against the rules of the API.
func (w *InferenceModelRewrite) Validate() error {
	r := validation(kindRewrite, &w.ObjectMeta)
	r.poolRef("spec.poolRef", w.Spec.PoolRef)
	for i, rule := range w.Spec.Rules {
		at := index("spec.rules", i)
		for j, match := range rule.Matches {
			model := index(at+".matches", j) + ".model"
			r.oneOf(model+".type", string(match.Model.Type), string(MatchExact))
			r.must(match.Model.Value != "", model+".value", "must not be empty", nil)
		}
		r.must(len(rule.Targets) > 0, at+".targets", "must have at least one target", nil)
		for j, target := range rule.Targets {
			r.must(target.ModelRewrite != "", index(at+".targets", j)+".modelRewrite", "must not be empty", nil)
			r.weight(index(at+".targets", j)+".weight", target.Weight)
		}
	}
	return r.err()
}

// ValidateUpdate checks that old is an earlier version of w. Nothing in it is immutable.
func (w *InferenceModelRewrite) ValidateUpdate(old Object) error { return sameObject(w, old).err() }

// Clone returns a deep copy of w.
func (w *InferenceModelRewrite) Clone() *InferenceModelRewrite {
	c := *w
	c.ObjectMeta = w.ObjectMeta.clone()
	c.Spec.Rules = slices.Clone(w.Spec.Rules)
	for i := range c.Spec.Rules {
		rule := &c.Spec.Rules[i]
		rule.Matches = slices.Clone(rule.Matches)
		rule.Targets = slices.Clone(rule.Targets)
		for j := range rule.Targets {
			rule.Targets[j].Weight = clonePointer(rule.Targets[j].Weight)
		}
	}
	c.Status.Conditions = slices.Clone(w.Status.Conditions)
	return &c
}

// MarshalJSON encodes w as a manifest.
func (w InferenceModelRewrite) MarshalJSON() ([]byte, error) {
	return marshal(apiVersionX, kindRewrite, &w.ObjectMeta, w.Spec, w.Status)
}

// UnmarshalJSON decodes a manifest as DecodeManifest does.
func (w *InferenceModelRewrite) UnmarshalJSON(data []byte) error { return unmarshalInto(w, data) }
