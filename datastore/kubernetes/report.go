package kubernetes

import (
	"errors"
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
}
