package routing

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/inferpick/inferpick/types"
)

// Groups of the InferencePools.
const (
	PoolGroup      = "inference.networking.k8s.io"   // v1
	PoolGroupAlpha = "inference.networking.x-k8s.io" // v1alpha2
)

// Objects are those of the cluster that a gateway goes by. They are not changed.
type Objects struct {
	Classes    []*gatewayv1.GatewayClass
	Gateways   []*gatewayv1.Gateway
	Routes     []*gatewayv1.HTTPRoute
	Grants     []*gatewayv1.ReferenceGrant
	Pools      []*Pool
	Services   []*corev1.Service
	Slices     []*discoveryv1.EndpointSlice
	Secrets    []*corev1.Secret
	Namespaces []*corev1.Namespace
}

// Pool is an InferencePool and what its manifest does not keep.
type Pool struct {
	*types.InferencePool
	Group      string
	Generation int64
}

// PoolKey names a pool: one of each group may have the same name.
type PoolKey struct {
	Group string
	Name  types.NamespacedName
}

func (p *Pool) key() PoolKey { return PoolKey{p.Group, p.Key()} }

// nameOf returns the name of an object.
func nameOf(o metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}

// compareAge orders objects as the Gateway API settles conflicts: the oldest first, then by
// name.
func compareAge[T metav1.Object](a, b T) int {
	if x, y := a.GetCreationTimestamp(), b.GetCreationTimestamp(); !x.Equal(&y) {
		return x.Compare(y.Time)
	}
	return nameOf(a).Compare(nameOf(b))
}

// or returns *p, or otherwise if p is nil.
func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
