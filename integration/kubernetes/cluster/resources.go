package cluster

import (
	"fmt"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// resources finds the resource of an object by its kind.
type resources struct {
	dynamic   dynamic.Interface
	discovery *discovery.DiscoveryClient

	mu    sync.Mutex
	known map[schema.GroupVersionKind]metav1.APIResource
}

func newResources(config *rest.Config, d dynamic.Interface) (*resources, error) {
	dc, err := discovery.NewDiscoveryClientForConfig(config)
	return &resources{dynamic: d, discovery: dc, known: make(map[schema.GroupVersionKind]metav1.APIResource)}, err
}

// of returns the interface for objects like o. One with a namespace of its own keeps that.
func (r *resources) of(o *unstructured.Unstructured, namespace string) (dynamic.ResourceInterface, error) {
	resource, err := r.find(o.GroupVersionKind())
	if err != nil {
		return nil, err
	}
	all := r.dynamic.Resource(o.GroupVersionKind().GroupVersion().WithResource(resource.Name))
	if !resource.Namespaced {
		return all, nil
	}
	if o.GetNamespace() != "" {
		namespace = o.GetNamespace()
	}
	return all.Namespace(namespace), nil
}

// find asks the server for the resource of a kind, the first time.
func (r *resources) find(kind schema.GroupVersionKind) (metav1.APIResource, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if resource, ok := r.known[kind]; ok {
		return resource, nil
	}
	list, err := r.discovery.ServerResourcesForGroupVersion(kind.GroupVersion().String())
	if err != nil {
		return metav1.APIResource{}, fmt.Errorf("cluster: resources of %s: %w", kind.GroupVersion(), err)
	}
	for _, resource := range list.APIResources {
		if resource.Kind == kind.Kind && !strings.Contains(resource.Name, "/") {
			r.known[kind] = resource
			return resource, nil
		}
	}
	return metav1.APIResource{}, fmt.Errorf("cluster: %s has no kind %s", kind.GroupVersion(), kind.Kind)
}
