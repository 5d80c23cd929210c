package lease

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// api is a Lease at the API server.
type api struct {
	client dynamic.ResourceInterface
	name   string
	object *unstructured.Unstructured // as it was read or written last; nil: not yet, or there is none
}

var resource = schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}

func newAPI(config *rest.Config, o Options) (*api, error) {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &api{client: client.Resource(resource).Namespace(o.Namespace), name: o.Name}, nil
}

// read implements leases.
func (a *api) read(ctx context.Context) (record, error) {
	object, err := a.client.Get(ctx, a.name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		a.object = nil
		return record{}, nil
	case err != nil:
		return record{}, fmt.Errorf("lease: read: %w", err)
	}
	a.object = object
	return recordOf(object), nil
}

// write implements leases. What is in the object beside the record stays.
func (a *api) write(ctx context.Context, r record) (record, error) {
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": resource.GroupVersion().String(), "kind": "Lease", "metadata": map[string]any{"name": a.name},
	}}
	if a.object != nil {
		object = a.object.DeepCopy()
	}
	fill(object, r)
	var err error
	if r.version == "" {
		object, err = a.client.Create(ctx, object, metav1.CreateOptions{})
	} else {
		object, err = a.client.Update(ctx, object, metav1.UpdateOptions{})
	}
	switch {
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err) && r.version != "":
		return record{}, errConflict
	case err != nil:
		return record{}, fmt.Errorf("lease: write: %w", err)
	}
	a.object = object
	return recordOf(object), nil
}

// recordOf reads a Lease. What is not there, or of another type, is as if it were empty: whatever
// others have written, a Lease that nobody renews can be taken.
func recordOf(object *unstructured.Unstructured) record {
	spec, _, _ := unstructured.NestedMap(object.Object, "spec")
	r := record{version: object.GetResourceVersion(), acquired: timeOf(spec["acquireTime"]), renewed: timeOf(spec["renewTime"])}
	r.holder, _ = spec["holderIdentity"].(string)
	r.transitions, _ = spec["leaseTransitions"].(int64)
	if seconds, _ := spec["leaseDurationSeconds"].(int64); seconds > 0 {
		r.duration = time.Duration(min(seconds, 3600)) * time.Second
	}
	return r
}

func fill(object *unstructured.Unstructured, r record) {
	spec, _ := object.Object["spec"].(map[string]any)
	if spec == nil {
		spec = make(map[string]any)
		object.Object["spec"] = spec
	}
	spec["holderIdentity"], spec["leaseTransitions"] = r.holder, r.transitions
	spec["leaseDurationSeconds"] = int64(r.duration / time.Second)
	spec["acquireTime"], spec["renewTime"] = r.acquired.UTC().Format(metav1.RFC3339Micro), r.renewed.UTC().Format(metav1.RFC3339Micro)
}

func timeOf(v any) time.Time {
	s, _ := v.(string)
	t, _ := time.Parse(time.RFC3339Nano, s)
	return t
}
