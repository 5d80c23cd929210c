package rollouts

import (
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/inferpick/inferpick/types"
)

var (
	// ErrNotLeader is returned by Home.Write outside of Lead: another process writes, or none does yet.
	ErrNotLeader = errors.New("rollouts: this process does not lead")
	// ErrForbidden is wrapped by errors about a right that is missing. They name the verb and the resource.
	ErrForbidden = errors.New("a right is missing")
	// ErrGone is wrapped by errors about an object that is not there, or not any more.
	ErrGone = errors.New("there is no such object")
)

// explain says what an error of the API server means for a request.
func explain(err error, verb string, gvr schema.GroupVersionResource, name types.NamespacedName) error {
	if err == nil {
		return nil
	}
	resource := gvr.GroupResource().String()
	switch {
	case apierrors.IsForbidden(err):
		return fmt.Errorf("rollouts: %w: needs %s on %s in namespace %s (%w)", ErrForbidden, verb, resource, name.Namespace, err)
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("rollouts: the API server does not accept the credentials: %w", err)
	case isGone(err, name.Name):
		return fmt.Errorf("rollouts: %s %s: %w", resource, name, ErrGone)
	case apierrors.IsInvalid(err):
		return fmt.Errorf("rollouts: %s %s: the API refuses the weights: %w", resource, name, err)
	}
	return fmt.Errorf("rollouts: %s %s %s: %w", verb, resource, name, err)
}

// isGone reports whether the server says that it does not have the object: not that it does not serve the resource,
// as one may that is starting.
func isGone(err error, name string) bool {
	var status apierrors.APIStatus
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) {
		return false
	}
	details := status.Status().Details
	return details != nil && details.Name == name && !apierrors.IsUnexpectedServerError(err)
}
