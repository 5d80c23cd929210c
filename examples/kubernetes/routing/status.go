package routing

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/inferpick/inferpick/types"
)

// Status is what is to be said in the status of objects. Times are not set: they are those of
// the change, which package status knows.
type Status struct {
	Controller string
	Classes    map[string][]metav1.Condition
	Gateways   map[types.NamespacedName]gatewayv1.GatewayStatus
	// Routes has what this gateway says of each route that there is, nothing of those that are
	// not for it.
	Routes map[types.NamespacedName][]gatewayv1.RouteParentStatus
	// Pools has the same of each pool.
	Pools map[PoolKey][]PoolParent
}

// PoolParent is what a Gateway says of a pool.
type PoolParent struct {
	Gateway    types.NamespacedName
	Conditions []metav1.Condition
}

func newStatus(controller string) *Status {
	return &Status{
		Controller: controller,
		Classes:    make(map[string][]metav1.Condition),
		Gateways:   make(map[types.NamespacedName]gatewayv1.GatewayStatus),
		Routes:     make(map[types.NamespacedName][]gatewayv1.RouteParentStatus),
		Pools:      make(map[PoolKey][]PoolParent),
	}
}

// conditions are those of one object, of the generation that they are about.
type conditions struct {
	generation int64
	list       []metav1.Condition
}

// add adds a condition.
func add[T, R ~string](c *conditions, kind T, ok bool, reason R, message string) {
	status := metav1.ConditionFalse
	if ok {
		status = metav1.ConditionTrue
	}
	c.list = append(c.list, metav1.Condition{
		Type: string(kind), Status: status, Reason: string(reason), Message: message, ObservedGeneration: c.generation,
	})
}

// judge adds a condition that is true for want of a problem.
func judge[T, R ~string](c *conditions, kind T, good R, bad *problem) {
	if bad == nil {
		add(c, kind, true, good, "")
		return
	}
	add(c, kind, false, bad.reason, bad.message)
}
