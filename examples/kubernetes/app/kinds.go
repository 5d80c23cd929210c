package app

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/inferpick/inferpick/examples/kubernetes/routing"
	"github.com/inferpick/inferpick/examples/kubernetes/status"
	"github.com/inferpick/inferpick/examples/kubernetes/watch"
	"github.com/inferpick/inferpick/types"
)

// Resources that are only read. Grants are read as v1beta1, which older clusters have, too.
var (
	grants     = schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1beta1", Resource: "referencegrants"}
	services   = schema.GroupVersionResource{Version: "v1", Resource: "services"}
	slices     = schema.GroupVersionResource{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"}
	secrets    = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	namespaces = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
)

// kinds are those that a gateway goes by, apart from pods and what belongs to pools.
func kinds() []watch.Kind {
	return []watch.Kind{
		{GroupVersionResource: status.Classes, Name: "GatewayClass", Decode: watch.Typed[gatewayv1.GatewayClass], Raw: true},
		{GroupVersionResource: status.Gateways, Name: "Gateway", Decode: watch.Typed[gatewayv1.Gateway], Raw: true},
		{GroupVersionResource: status.Routes, Name: "HTTPRoute", Decode: watch.Typed[gatewayv1.HTTPRoute], Raw: true},
		{GroupVersionResource: status.Pools, Name: "InferencePool", Decode: pool, Raw: true},
		{GroupVersionResource: status.PoolsAlpha, Name: "InferencePool", Decode: pool, Raw: true},
		{GroupVersionResource: grants, Name: "ReferenceGrant", Decode: watch.Typed[gatewayv1.ReferenceGrant]},
		{GroupVersionResource: services, Name: "Service", Decode: watch.Typed[corev1.Service]},
		{GroupVersionResource: slices, Name: "EndpointSlice", Decode: watch.Typed[discoveryv1.EndpointSlice]},
		{GroupVersionResource: secrets, Name: "Secret", Decode: watch.Typed[corev1.Secret], Fields: "type=" + string(corev1.SecretTypeTLS)},
		{GroupVersionResource: namespaces, Name: "Namespace", Decode: watch.Typed[corev1.Namespace]},
	}
}

// pool decodes an InferencePool of either group.
func pool(o *unstructured.Unstructured) (any, error) {
	data, err := o.MarshalJSON()
	if err != nil {
		return nil, err
	}
	manifest, _, err := types.DecodeManifestLenient(data)
	if err != nil {
		return nil, err
	}
	p, ok := manifest.(*types.InferencePool)
	if !ok {
		return nil, fmt.Errorf("app: %s %s is no InferencePool", o.GetKind(), o.GetName())
	}
	return &routing.Pool{InferencePool: p, Group: o.GroupVersionKind().Group, Generation: o.GetGeneration()}, nil
}

// objects are those that are known now.
func objects(w *watch.Watcher) routing.Objects {
	return routing.Objects{
		Classes:    watch.Objects[*gatewayv1.GatewayClass](w, status.Classes),
		Gateways:   watch.Objects[*gatewayv1.Gateway](w, status.Gateways),
		Routes:     watch.Objects[*gatewayv1.HTTPRoute](w, status.Routes),
		Grants:     watch.Objects[*gatewayv1.ReferenceGrant](w, grants),
		Pools:      append(watch.Objects[*routing.Pool](w, status.Pools), watch.Objects[*routing.Pool](w, status.PoolsAlpha)...),
		Services:   watch.Objects[*corev1.Service](w, services),
		Slices:     watch.Objects[*discoveryv1.EndpointSlice](w, slices),
		Secrets:    watch.Objects[*corev1.Secret](w, secrets),
		Namespaces: watch.Objects[*corev1.Namespace](w, namespaces),
	}
}
