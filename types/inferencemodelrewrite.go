package types

import "slices"

const kindRewrite = "InferenceModelRewrite"

// InferenceModelRewrite turns the public names of models into those the servers
// of a pool know: the manifest of the group inference.networking.x-k8s.io,
// v1alpha2.
type InferenceModelRewrite struct {
	ObjectMeta
	Spec   InferenceModelRewriteSpec
	Status ObjectStatus
}

// InferenceModelRewriteSpec holds the rules.
type InferenceModelRewriteSpec struct {
	// PoolRef names the pool, in the namespace of the rewrite.
	PoolRef PoolRef `json:"poolRef"`
	// Rules are tried in this order among those that match equally well.
	Rules []RewriteRule `json:"rules,omitempty"`
}

// RewriteRule says what to turn which names into.
type RewriteRule struct {
	// Matches: the rule is for a request that one of them fits. None: for all.
	Matches []RewriteMatch `json:"matches,omitempty"`
	// Targets: at least one. If no target has a weight, all are alike; if one
	// has, those without get nothing.
	Targets []RewriteTarget `json:"targets"`
}

// RewriteMatch is what a request must have.
type RewriteMatch struct {
	Model ModelMatch `json:"model"`
}

// ModelMatch fits the model that a request names.
type ModelMatch struct {
	Type  MatchType `json:"type"`  // default and only value: MatchExact
	Value string    `json:"value"` // required
}

// MatchType is how a ModelMatch compares.
type MatchType string

// MatchExact fits the very same name.
const MatchExact MatchType = "Exact"

// RewriteTarget is a name to write.
type RewriteTarget struct {
	ModelRewrite string `json:"modelRewrite"`     // required
	Weight       *int32 `json:"weight,omitempty"` // 1 to MaxWeight
}

// Kind returns "InferenceModelRewrite".
func (*InferenceModelRewrite) Kind() string { return kindRewrite }

// Pool returns the name of the pool that w refers to.
func (w *InferenceModelRewrite) Pool() NamespacedName {
	return NamespacedName{w.Namespace, w.Spec.PoolRef.Name}
}

// SetDefaults sets the namespace, in the reference to the pool group and kind,
// and the type of each match, where they are empty.
func (w *InferenceModelRewrite) SetDefaults() {
	w.setDefaults()
	setDefault(&w.Spec.PoolRef.Group, GroupGA)
	setDefault(&w.Spec.PoolRef.Kind, kindPool)
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

// ValidateUpdate checks that old is an earlier version of w. Nothing in a
// rewrite is immutable.
func (w *InferenceModelRewrite) ValidateUpdate(old Object) error {
	r := &validator{object: describe(kindRewrite, &w.ObjectMeta)}
	r.update(kindRewrite, &w.ObjectMeta, old)
	return r.err()
}

// Clone returns a copy that shares nothing with w.
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

// MarshalJSON writes w as a manifest.
func (w InferenceModelRewrite) MarshalJSON() ([]byte, error) {
	return marshal(apiVersionX, kindRewrite, &w.ObjectMeta, w.Spec, w.Status)
}

// UnmarshalJSON reads a manifest as DecodeManifest does.
func (w *InferenceModelRewrite) UnmarshalJSON(data []byte) error { return unmarshalInto(w, data) }

var _ Object = (*InferenceModelRewrite)(nil)
