package types

import (
	"maps"
	"slices"
)

const kindPool = "InferencePool"

// DefaultPickerPort is the port of the endpoint picker if a v1alpha2 pool does not name one.
const DefaultPickerPort = 9002

// InferencePool is a set of endpoints that serve the same base model. It is the manifest of
// the group inference.networking.k8s.io, v1; v1alpha2 is read too, and written as v1.
type InferencePool struct {
	ObjectMeta
	Spec   InferencePoolSpec
	Status InferencePoolStatus
}

// InferencePoolSpec says which pods are in a pool, and at which ports.
type InferencePoolSpec struct {
	// Selector chooses the pods. Required.
	Selector LabelSelector `json:"selector"`
	// TargetPorts lists 1 to 8 different ports. Each pod has one endpoint per port.
	TargetPorts []Port `json:"targetPorts"`
	// AppProtocol is "http", the default, or "kubernetes.io/h2c".
	AppProtocol string `json:"appProtocol,omitempty"`
	// EndpointPickerRef tells a gateway which picker to ask. Nil: the gateway picks itself.
	EndpointPickerRef *EndpointPickerRef `json:"endpointPickerRef,omitempty"`
}

// LabelSelector chooses objects by labels.
type LabelSelector struct {
	// MatchLabels has 1 to 64 labels, all of which an object must have.
	MatchLabels map[string]string `json:"matchLabels"`
}

// Matches reports whether labels contains all of MatchLabels. An empty selector, most likely
// an oversight, matches nothing.
func (s LabelSelector) Matches(labels map[string]string) bool {
	for key, want := range s.MatchLabels {
		if got, ok := labels[key]; !ok || got != want {
			return false
		}
	}
	return len(s.MatchLabels) > 0
}

// Port is a TCP port, 1 to 65535.
type Port struct {
	Number int32 `json:"number"`
}

// EndpointPickerRef names the service of an endpoint picker.
type EndpointPickerRef struct {
	Group string `json:"group,omitempty"`
	Kind  string `json:"kind"` // default: Service
	Name  string `json:"name"`
	// Port is required if Kind is Service. In a v1alpha2 manifest it defaults to
	// DefaultPickerPort.
	Port *Port `json:"port,omitempty"`
	// FailureMode is what a gateway does if the picker does not answer. Default FailClose.
	FailureMode FailureMode `json:"failureMode"`
}

// FailureMode is what a gateway does without its endpoint picker.
type FailureMode string

const (
	// FailOpen lets the gateway pick any endpoint.
	FailOpen FailureMode = "FailOpen"
	// FailClose makes the gateway refuse the request.
	FailClose FailureMode = "FailClose"
)

// InferencePoolStatus is what gateways reported about a pool.
type InferencePoolStatus struct {
	Parents []ParentStatus `json:"parents,omitempty"`
}

// ParentStatus is what one gateway reported about a pool.
type ParentStatus struct {
	Conditions     []Condition `json:"conditions,omitempty"`
	ParentRef      ParentRef   `json:"parentRef"`
	ControllerName string      `json:"controllerName,omitempty"` // none in a v1alpha2 manifest
}

// ParentRef names a gateway.
type ParentRef struct {
	Group     string `json:"group,omitempty"`
	Kind      string `json:"kind,omitempty"`
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
}

// Kind returns "InferencePool".
func (*InferencePool) Kind() string { return kindPool }

// SetDefaults fills in the namespace, AppProtocol, and the kind and failure mode of
// EndpointPickerRef.
func (p *InferencePool) SetDefaults() {
	p.setDefaults()
	setDefault(&p.Spec.AppProtocol, "http")
	if ref := p.Spec.EndpointPickerRef; ref != nil {
		setDefault(&ref.Kind, "Service")
		setDefault(&ref.FailureMode, FailClose)
	}
}

// Validate checks p against the rules of the API.
func (p *InferencePool) Validate() error {
	r := validation(kindPool, &p.ObjectMeta)
	r.matchLabels("spec.selector.matchLabels", p.Spec.Selector.MatchLabels)

	const ports = "spec.targetPorts"
	r.must(len(p.Spec.TargetPorts) >= 1 && len(p.Spec.TargetPorts) <= 8, ports, "must have 1 to 8 ports", len(p.Spec.TargetPorts))
	for i, port := range p.Spec.TargetPorts {
		at := index(ports, i) + ".number"
		r.portNumber(at, port.Number)
		r.must(!slices.Contains(p.Spec.TargetPorts[:i], port), at, "must be a port that is not there before", port.Number)
	}
	r.oneOf("spec.appProtocol", p.Spec.AppProtocol, "http", "kubernetes.io/h2c")

	if ref := p.Spec.EndpointPickerRef; ref != nil {
		const at = "spec.endpointPickerRef"
		r.must(ref.Group == "" || isSubdomain(ref.Group), at+".group", "must be a DNS name of at most 253 characters, or empty", ref.Group)
		r.must(isKind(ref.Kind), at+".kind", "must be 1 to 63 letters, digits and '-', a letter first", ref.Kind)
		r.length(at+".name", ref.Name, 1, 253)
		if ref.Port != nil {
			r.portNumber(at+".port.number", ref.Port.Number)
		} else if ref.Kind == "Service" {
			r.fail(at+".port", "is required when kind is Service", nil)
		}
		r.oneOf(at+".failureMode", string(ref.FailureMode), string(FailOpen), string(FailClose))
	}
	return r.err()
}

// ValidateUpdate checks that old is an earlier version of p. Nothing in it is immutable.
func (p *InferencePool) ValidateUpdate(old Object) error { return sameObject(p, old).err() }

// Clone returns a deep copy of p.
func (p *InferencePool) Clone() *InferencePool {
	c := *p
	c.ObjectMeta = p.ObjectMeta.clone()
	c.Spec.Selector.MatchLabels = maps.Clone(p.Spec.Selector.MatchLabels)
	c.Spec.TargetPorts = slices.Clone(p.Spec.TargetPorts)
	if p.Spec.EndpointPickerRef != nil {
		c.Spec.EndpointPickerRef = clonePointer(p.Spec.EndpointPickerRef)
		c.Spec.EndpointPickerRef.Port = clonePointer(p.Spec.EndpointPickerRef.Port)
	}
	c.Status.Parents = slices.Clone(p.Status.Parents)
	for i := range c.Status.Parents {
		c.Status.Parents[i].Conditions = slices.Clone(c.Status.Parents[i].Conditions)
	}
	return &c
}

// MarshalJSON encodes p as a v1 manifest.
func (p InferencePool) MarshalJSON() ([]byte, error) {
	return marshal(apiVersionGA, kindPool, &p.ObjectMeta, p.Spec, p.Status)
}

// UnmarshalJSON decodes a manifest as DecodeManifest does.
func (p *InferencePool) UnmarshalJSON(data []byte) error { return unmarshalInto(p, data) }
