package types

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"time"
)

// NamespacedName names an object: two objects of one kind may share a name if
// their namespaces differ.
type NamespacedName struct {
	Namespace, Name string
}

// String returns namespace/name, or the name alone if there is no namespace.
func (n NamespacedName) String() string {
	if n.Namespace == "" {
		return n.Name
	}
	return n.Namespace + "/" + n.Name
}

// IsZero reports whether n names nothing.
func (n NamespacedName) IsZero() bool { return n == NamespacedName{} }

// Compare orders names by namespace, then by name.
func (n NamespacedName) Compare(m NamespacedName) int {
	return cmp.Or(cmp.Compare(n.Namespace, m.Namespace), cmp.Compare(n.Name, m.Name))
}

// DefaultNamespace is the namespace of an object that names none.
const DefaultNamespace = "default"

// ObjectMeta is what inferpick keeps of an object's metadata. Everything else
// in it is read over.
type ObjectMeta struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"` // default: DefaultNamespace

	// CreationTimestamp decides which of two objects that claim the same thing
	// has it: the older. Zero: not known, as in a file that a person wrote.
	CreationTimestamp time.Time `json:"creationTimestamp,omitzero"`

	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Key returns the object's namespace and name.
func (m *ObjectMeta) Key() NamespacedName { return NamespacedName{m.Namespace, m.Name} }

// Meta returns m, so that whoever holds an Object reaches its metadata.
func (m *ObjectMeta) Meta() *ObjectMeta { return m }

// CompareAge orders objects by the claim they have: the older first, one whose
// age is not known after all others, and equal ages by namespace and name. It
// is 0 only for the same name.
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

// Object is one of *InferencePool, *InferenceModel, *InferenceObjective and
// *InferenceModelRewrite: a closed set, for a type switch.
type Object interface {
	// Kind returns the kind as in a manifest, for example "InferencePool".
	Kind() string
	// Key returns the object's namespace and name.
	Key() NamespacedName
	// Meta returns the object's metadata, not a copy.
	Meta() *ObjectMeta
	// SetDefaults fills in what the API defines a default for. DecodeManifest
	// has done so already.
	SetDefaults()
	// Validate checks the object against the rules of its API, all of them, and
	// returns a ValidationErrors, or nil. Defaults must have been set.
	Validate() error
	// ValidateUpdate checks that the object may take the place of old, an
	// earlier version of it: what is immutable must not have changed.
	ValidateUpdate(old Object) error

	object()
}

// ObjectStatus is what was reported of an object other than a pool.
type ObjectStatus struct {
	Conditions []Condition `json:"conditions,omitempty"`
}

// Condition is one statement about an object, in the form of Kubernetes.
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

// Types and reasons of conditions that the API defines for models, objectives
// and pools.
const (
	ConditionAccepted = "Accepted"

	ReasonAccepted       = "Accepted"       // True: in force
	ReasonModelNameInUse = "ModelNameInUse" // False: an older object of the pool has the name
	ReasonPending        = "Pending"        // Unknown: something it needs is not there
)

// typeMeta says what an object is.
type typeMeta struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
}

// manifest is an object as it is written, but for the v1alpha2 form of a pool.
type manifest[Spec, Status any] struct {
	typeMeta
	Meta   ObjectMeta `json:"metadata" strictjson:"open"`
	Spec   Spec       `json:"spec"`
	Status Status     `json:"status,omitzero" strictjson:"open"`
}

func marshal[Spec, Status any](apiVersion, kind string, m *ObjectMeta, spec Spec, status Status) ([]byte, error) {
	return json.Marshal(manifest[Spec, Status]{typeMeta{apiVersion, kind}, *m, spec, status})
}

// unmarshalInto makes the strict reader serve json.Unmarshal too.
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
