package types

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"time"
)

// NamespacedName identifies an object among those of its kind.
type NamespacedName struct {
	Namespace, Name string
}

// String returns namespace/name, or just the name if there is no namespace.
func (n NamespacedName) String() string {
	if n.Namespace == "" {
		return n.Name
	}
	return n.Namespace + "/" + n.Name
}

// IsZero reports whether n is the zero value.
func (n NamespacedName) IsZero() bool { return n == NamespacedName{} }

// Compare orders names by namespace, then by name.
func (n NamespacedName) Compare(m NamespacedName) int {
	return cmp.Or(cmp.Compare(n.Namespace, m.Namespace), cmp.Compare(n.Name, m.Name))
}

// DefaultNamespace is the namespace of objects that do not name one.
const DefaultNamespace = "default"

// ObjectMeta is the part of an object's metadata that inferpick keeps. Other fields are
// ignored.
type ObjectMeta struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"` // default: DefaultNamespace

	// CreationTimestamp settles conflicts between objects: the older one wins. Zero means
	// unknown, as in a file written by hand.
	CreationTimestamp time.Time `json:"creationTimestamp,omitzero"`

	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Key returns the object's namespace and name.
func (m *ObjectMeta) Key() NamespacedName { return NamespacedName{m.Namespace, m.Name} }

// Meta returns m. It implements Object.
func (m *ObjectMeta) Meta() *ObjectMeta { return m }

// CompareAge orders objects by precedence: older ones first, those of unknown age last, and
// those of equal age by namespace and name. It returns 0 only for equal names.
func (m *ObjectMeta) CompareAge(n *ObjectMeta) int {
	if a, b := m.CreationTimestamp.IsZero(), n.CreationTimestamp.IsZero(); a != b {
		if a {
			return 1
		}
		return -1
	}
	return cmp.Or(m.CreationTimestamp.Compare(n.CreationTimestamp), m.Key().Compare(n.Key()))
}

func (m *ObjectMeta) setDefaults() { setDefault(&m.Namespace, DefaultNamespace) }

func (m *ObjectMeta) clone() ObjectMeta {
	c := *m
	c.Labels, c.Annotations = maps.Clone(m.Labels), maps.Clone(m.Annotations)
	return c
}

func (*ObjectMeta) object() {}

// Object is an *InferencePool, *InferenceModel, *InferenceObjective or
// *InferenceModelRewrite. There are no others, so a type switch can be exhaustive.
type Object interface {
	// Kind returns the kind as in a manifest, for example "InferencePool".
	Kind() string
	// Key returns the object's namespace and name.
	Key() NamespacedName
	// Meta returns the object's metadata, not a copy.
	Meta() *ObjectMeta
	// SetDefaults fills in empty fields for which the API defines a default. DecodeManifest
	// does so too.
	SetDefaults()
	// Validate checks all rules of the object's API. It returns nil or a ValidationErrors.
	// Call SetDefaults before.
	Validate() error
	// ValidateUpdate checks that the object may replace old, an earlier version of it: that
	// no immutable field has changed.
	ValidateUpdate(old Object) error

	object()
}

// ObjectStatus is the status of objects other than pools.
type ObjectStatus struct {
	Conditions []Condition `json:"conditions,omitempty"`
}

// Condition is a Kubernetes status condition.
type Condition struct {
	Type               string          `json:"type"`
	Status             ConditionStatus `json:"status"`
	ObservedGeneration int64           `json:"observedGeneration,omitempty"`
	LastTransitionTime time.Time       `json:"lastTransitionTime,omitzero"`
	Reason             string          `json:"reason,omitempty"`
	Message            string          `json:"message,omitempty"`
}

// ConditionStatus says whether a condition holds.
type ConditionStatus string

// The three values of a ConditionStatus.
const (
	ConditionTrue    ConditionStatus = "True"
	ConditionFalse   ConditionStatus = "False"
	ConditionUnknown ConditionStatus = "Unknown"
)

// Condition types and reasons that the API defines for models, objectives and pools.
const (
	ConditionAccepted = "Accepted"

	ReasonAccepted       = "Accepted"       // True: in force
	ReasonModelNameInUse = "ModelNameInUse" // False: an older object of the pool has the name
	ReasonPending        = "Pending"        // Unknown: something it depends on is missing
)

type typeMeta struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
}

// manifest is the JSON form of all objects except v1alpha2 pools.
type manifest[Spec, Status any] struct {
	typeMeta
	Meta   ObjectMeta `json:"metadata" strictjson:"open"`
	Spec   Spec       `json:"spec"`
	Status Status     `json:"status,omitzero" strictjson:"open"`
}

func marshal[Spec, Status any](apiVersion, kind string, m *ObjectMeta, spec Spec, status Status) ([]byte, error) {
	return json.Marshal(manifest[Spec, Status]{typeMeta{apiVersion, kind}, *m, spec, status})
}

// unmarshalInto implements json.Unmarshaler by DecodeManifest.
func unmarshalInto[T any](to *T, data []byte) error {
	obj, err := DecodeManifest(data)
	if err != nil {
		return err
	}
	got, ok := obj.(any).(*T)
	if !ok {
		return fmt.Errorf("types: manifest is of kind %s, want %T", obj.Kind(), to)
	}
	*to = *got
	return nil
}

func setDefault[T ~string](s *T, to T) {
	if *s == "" {
		*s = to
	}
}

func clonePointer[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}
