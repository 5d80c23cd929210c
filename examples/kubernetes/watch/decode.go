package watch

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// Typed decodes objects as a *T.
func Typed[T any](o *unstructured.Unstructured) (any, error) {
	v := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, v); err != nil {
		return nil, fmt.Errorf("watch: %s %s: %w", o.GetKind(), o.GetName(), err)
	}
	return v, nil
}
